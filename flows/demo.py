"""The demo: both flows over the bundled sample, against a real server that is gone when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from flows import api
from flows.server import TOKEN, Home, State, free_port
from pipeline.config import DEFAULT_FILE, Config, load
from pipeline.config_text import starter
from pipeline.errors import PartialError, ServerError

FLOWS = ("retrain", "daily")


REFIT_EVERY = 5
"""Test years that a learner forecasts with one fit: a demo is waited for. The student is fitted anew at each."""


def play(directory: Path, overrides: Sequence[str], say: Callable[[str], None]) -> None:
    """Run retrain, then daily, and print their runs, where the report is, and what to hold.

    Args:
        directory: where the configuration, the lake, the artifacts and the server's files are kept; a second
            run uses them again.
        overrides: `section.key=value` strings on top of the directory's configuration.
        say: called with each line that is news on the way, not a result.

    Raises:
        TradewindError: a stage or the server failed; the server is stopped all the same.
    """
    began = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / DEFAULT_FILE
    if not file.is_file():
        file.write_text(starter(_quick(Config())))
    home = Home(file)
    home.down()  # what a killed demo may have left
    given = [*overrides, f"flows.port={free_port()}"]
    config = load(file, tuple(given))
    handlers = {number: signal.signal(number, _exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        state = home.up(config, given, say)
        flows = {name: _run(name, home, state, say) for name in FLOWS}
        runs = [run for name in FLOWS for run in _ended(state.url, flows[name]["flow_run_id"])]
    finally:
        home.down()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    print("\nThe runs\n\n" + api.run_table(runs))
    print("\nThe report\n\n" + "\n".join(flows["retrain"]["stages"][-1]["lines"]))
    print("\nToday\n\n" + "\n".join(flows["daily"]["stages"][-1]["lines"]))
    print(f"\ndone in {time.monotonic() - began:.0f} s; everything is in {directory}")


def _run(name: str, home: Home, state: State, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a flow in a process of its own: Prefect reports in the background until the process ends."""
    say(f"running {name} ...")
    options = ["--config", str(home.config_path), "--json"]
    options += [part for override in state.overrides for part in ("--set", override)]
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "run", name, *options],
        env=os.environ | {TOKEN: state.token},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode not in (0, PartialError.exit_code):
        raise ServerError(f"the {name} flow failed; its log is above")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def _quick(config: Config) -> Config:
    return config.model_copy(update={"models": config.models.model_copy(update={"refit_every": REFIT_EVERY})})


def _ended(url: str, flow_run_id: str, seconds: float = 30.0) -> list[api.Run]:
    """The runs of a flow that has ended; its task runs reach the server through a queue, a moment later."""
    deadline = time.monotonic() + seconds
    while True:
        runs = api.flow_run(url, flow_run_id)
        if len(runs) > 1 and all(run.state == "Completed" for run in runs):
            return runs
        if time.monotonic() > deadline:
            raise ServerError(f"the server does not show flow run {flow_run_id} as completed")
        time.sleep(0.25)


def _exit(number: int, frame: FrameType | None) -> None:
    """End by way of `finally`; a second signal must not interrupt that."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)
