"""The retrain flow: from fresh data to a new bundle, its backtest and its report."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.stages import run_stages

STAGES = ("ingest", "featurize", "train", "compress", "backtest", "report")


@flow(name="retrain", description="ingest -> featurize -> train -> compress -> backtest -> report")
def retrain(config_path: str | None = None, overrides: list[str] | None = None) -> list[dict[str, Any]]:
    """Train again, compress, and judge the result out of sample.

    Args:
        config_path: the TOML file; None for `tradewind.toml` of the working directory.
        overrides: `section.key=value` strings on top of it.

    Returns:
        What each stage reports, as JSON objects.
    """
    return run_stages(STAGES, config_path, overrides or ())
