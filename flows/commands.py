"""`tradewind up | down | status | run | demo`: the flow server and the flows, from the command line.

Prefect is imported only by `run` and `demo`, after the environment says which server to report to.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose
from pipeline.errors import TradewindError


class FlowName(StrEnum):
    """The flows there are."""

    daily = "daily"
    retrain = "retrain"


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(run)
    app.command()(demo)


def up(config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Start the Prefect server on this machine and serve both flows on their schedules.

    Example: tradewind up --set flows.port=4300
    """
    from flows.server import Home
    from pipeline.cli.options import configure_logging
    from pipeline.config import load

    configure_logging(verbose)
    settings = load(config, tuple(overrides or ()))
    home = Home(config)
    running = home.running()
    state = running or home.up(settings, overrides or [], _say)
    if as_json:
        print(json.dumps({"up": True, "already": running is not None, "url": state.url}))
    elif running is not None:
        print(f"already up at {state.url}; to start it with other settings, first: tradewind down")
    else:
        print(f"up at {state.url}, logs and database in {home.root}")
        print("next: tradewind status, tradewind run retrain, tradewind down")


def down(config: ConfigFile = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Stop the server and everything that was started with it.

    Example: tradewind down
    """
    from flows.server import Home
    from pipeline.cli.options import configure_logging

    configure_logging(verbose)
    stopped = Home(config).down()
    if as_json:
        print(json.dumps({"stopped": stopped}))
    else:
        print(f"stopped {stopped} processes" if stopped else "nothing was running")


def status(config: ConfigFile = None, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Show the server, the next scheduled runs and the last runs; exit code 1 if it is not up.

    Example: tradewind status --json
    """
    from dataclasses import asdict

    from flows import api
    from flows.server import Home
    from pipeline.cli.options import configure_logging

    configure_logging(verbose)
    state = Home(config).running()
    if state is None:
        print(json.dumps({"up": False}) if as_json else "not up; start it with: tradewind up")
        raise typer.Exit(1)
    found, runs = api.deployments(state.url), api.last_runs(state.url)
    if as_json:
        content = {
            "up": True, "url": state.url, "config": state.config_path, "overrides": state.overrides,
            "deployments": [asdict(one) for one in found], "runs": [asdict(one) for one in runs],
        }  # fmt: skip
        print(json.dumps(content))
        return
    print(f"up at {state.url}, configuration {state.config_path or '(defaults)'}\n")
    print(api.deployment_table(found) + "\n")
    print(api.run_table(runs) if runs else "no run yet")


def run(
    flow: Annotated[FlowName, typer.Argument(help="The flow to run now.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run a flow now, in this process, reporting to the server that is up; exit code 3 if part is left out.

    Example: tradewind run retrain
    """
    from flows.server import Home
    from pipeline.cli.options import configure_logging
    from pipeline.config import load
    from pipeline.errors import PartialError, ServerError

    configure_logging(verbose)
    load(config, tuple(overrides or ()))  # a wrong configuration is named before anything starts
    home = Home(config)
    state = home.running()
    if state is None:
        raise ServerError("the flow server is not up; start it with: tradewind up")
    os.environ.update(home.client_environment(state.url))
    flow_run_id, summaries = run_flow(flow, home.config_path, overrides or [])
    if as_json:
        print(json.dumps({"flow_run_id": flow_run_id, "stages": summaries}))
    else:
        for summary in summaries:
            print("\n".join(summary["lines"]))
    left_out = [f"{summary['stage']} left out: {reason}" for summary in summaries for reason in summary["left_out"]]
    if left_out:
        _say("\n".join(left_out))
        raise typer.Exit(PartialError.exit_code)


def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where the demo works.")] = Path("build/demo"),
    overrides: Overrides = None,
    verbose: Verbose = 0,
) -> None:
    """Run the whole line on the bundled sample through both flows, without a network, and show what came out.

    Example: tradewind demo --dir build/demo
    """
    from flows.demo import play
    from pipeline.cli.options import configure_logging

    configure_logging(verbose)
    play(directory, overrides or [], _say)


def run_flow(name: str, config_path: str | None, overrides: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """Run a flow in this process; the environment must already name the server.

    Returns:
        Its flow run id, and what each stage reports.

    Raises:
        TradewindError: what the failing stage raised.
    """
    from flows.daily import daily
    from flows.retrain import retrain

    for handler in logging.getLogger().handlers:
        handler.setFormatter(WithoutExpectedTracebacks(handler.formatter))
    state = {"daily": daily, "retrain": retrain}[name](config_path, overrides, return_state=True)
    summaries: list[dict[str, Any]] = state.result()
    return str(state.state_details.flow_run_id), summaries


class WithoutExpectedTracebacks(logging.Formatter):
    """Leaves out the traceback of an expected error; the command prints its message at the end."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self.inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """The line as the wrapped formatter has it."""
        if record.exc_info and isinstance(record.exc_info[1], TradewindError):
            record = copy.copy(record)
            record.exc_info = record.exc_text = None
        return self.inner.format(record)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
