"""Serve both flows on their schedules: `python -m flows.deployments --config FILE`.

One process polls the server and starts a process for each run that is due, never two runs at a time: every
table of the lake has one writer.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from flows.daily import daily
from flows.retrain import retrain
from flows.server import TOKEN
from flows.stages import read_config

NAME = "scheduled"


def deployments(config_path: str | None, overrides: Sequence[str]) -> list[RunnerDeployment]:
    """Both flows with the schedules of `[flows]`.

    Each carries as its version the token of the `tradewind up` that serves it, so that `up` can tell its own
    registration from one that an earlier server left in the database.
    """
    settings = read_config(config_path, overrides).flows
    schedules = ((daily, settings.daily_cron), (retrain, settings.retrain_cron))
    return [
        RunnerDeployment.from_flow(
            flow,
            NAME,
            schedule=Cron(cron, timezone=settings.timezone),
            parameters={"config_path": config_path, "overrides": list(overrides)},
            version=os.environ.get(TOKEN),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for flow, cron in schedules
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Register the deployments and serve them until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m flows.deployments", description="Serve the scheduled flows.")
    parser.add_argument("--config", type=Path, help="TOML file; default: tradewind.toml of this directory")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    given = parser.parse_args(arguments)
    config_path = None if given.config is None else str(given.config.resolve())
    serve(*deployments(config_path, given.overrides), limit=1, print_starting_message=False)


if __name__ == "__main__":
    main()
