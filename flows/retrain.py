"""The retrain flow: from fresh data to a new bundle, its backtest and its report.

Where `agent.use` lets a policy decide, agents are trained, judged and shipped before the backtest: a bundle without one
would leave the daily flow without weights.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.stages import read_config, run_stages

BUNDLE = ("ingest", "featurize", "train", "compress")
AGENTS = ("agent.train", "agent.evaluate", "agent_bundle.ship")
JUDGED = ("backtest", "report")


@flow(name="retrain", description="ingest -> featurize -> train -> compress (-> agents) -> backtest -> report")
def retrain(config_path: str | None = None, overrides: list[str] | None = None) -> list[dict[str, Any]]:
    """Train again, compress, with `agent.use` train and ship agents, and judge the result out of sample.

    Args:
        config_path: the TOML file; None for `tradewind.toml` of the working directory.
        overrides: `section.key=value` strings on top of it.

    Returns:
        What each stage reports, as JSON objects.
    """
    agents = AGENTS if read_config(config_path, overrides or ()).agent.use else ()
    return run_stages((*BUNDLE, *agents, *JUDGED), config_path, overrides or ())
