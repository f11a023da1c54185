"""The demo: both flows over the bundled sample, against a real server that is gone when it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from flows import api
from flows.commands import run_flow
from flows.server import Home, free_port
from pipeline.config import DEFAULT_FILE, Config, load, starter
from pipeline.errors import ServerError


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
        file.write_text(starter(Config()))
    home = Home(file)
    home.down()  # what a killed demo may have left
    given = [*overrides, f"flows.port={free_port()}"]
    config = load(file, tuple(given))
    handler = signal.signal(signal.SIGTERM, _exit)
    try:
        state = home.up(config, given, say)
        os.environ.update(home.client_environment(state.url))
        flow_runs = {name: run_flow(name, home.config_path, given) for name in ("retrain", "daily")}
        runs = [run for flow_run_id, _ in flow_runs.values() for run in _finished(state.url, flow_run_id)]
    finally:
        home.down()
        signal.signal(signal.SIGTERM, handler)
    for _, summaries in flow_runs.values():
        _print_left_out(summaries, say)
    print("\nThe runs\n\n" + api.run_table(runs))
    print("\nThe report\n\n" + "\n".join(flow_runs["retrain"][1][-1]["lines"]))
    print("\nToday\n\n" + "\n".join(flow_runs["daily"][1][-1]["lines"]))
    print(f"\ndone in {time.monotonic() - began:.0f} s; everything is in {directory}")


def _finished(url: str, flow_run_id: str, seconds: float = 30.0) -> list[api.Run]:
    """The runs of a flow that has ended; its task runs reach the server through a queue, a moment later."""
    deadline = time.monotonic() + seconds
    while True:
        runs = api.flow_run(url, flow_run_id)
        if all(run.state == "Completed" for run in runs) and len(runs) > 1:
            return runs
        if time.monotonic() > deadline:
            raise ServerError(f"the server does not show flow run {flow_run_id} as completed")
        time.sleep(0.25)


def _print_left_out(summaries: list[dict[str, Any]], say: Callable[[str], None]) -> None:
    for summary in summaries:
        for reason in summary["left_out"]:
            say(f"{summary['stage']} left out: {reason}")


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
