"""The daily flow: take in what is new, compute features, say what to hold."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.stages import run_stages

STAGES = ("ingest", "featurize", "today")


@flow(name="daily", description="ingest -> featurize -> today, with the bundle that is champion")
def daily(config_path: str | None = None, overrides: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the stages of every trading day.

    Args:
        config_path: the TOML file; None for `tradewind.toml` of the working directory.
        overrides: `section.key=value` strings on top of it.

    Returns:
        What each stage reports, as JSON objects.
    """
    return run_stages(STAGES, config_path, overrides or ())
