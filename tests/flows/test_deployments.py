"""The schedules: what is deployed, and that a one-minute cron really fires."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.types.entrypoint import EntrypointType

from flows import api
from flows.deployments import deployments
from flows.server import Home, free_port, processes


def test_what_is_deployed(project: Any) -> None:
    path = str(project.root / "tradewind.toml")
    daily, retrain = deployments(path, ["flows.daily_cron=0 3 * * *", "flows.timezone=Europe/Berlin"])
    assert (daily.flow_name, retrain.flow_name) == ("daily", "retrain")
    assert (daily.entrypoint, retrain.entrypoint) == ("flows.daily.daily", "flows.retrain.retrain")
    assert daily.entrypoint_type is EntrypointType.MODULE_PATH
    assert daily.schedules is not None
    assert (daily.schedules[0].schedule.cron, daily.schedules[0].schedule.timezone) == (
        "0 3 * * *",
        "Europe/Berlin",
    )
    assert daily.parameters == {
        "config_path": path,
        "overrides": ["flows.daily_cron=0 3 * * *", "flows.timezone=Europe/Berlin"],
    }


@pytest.mark.slow
def test_a_one_minute_cron_fires_and_down_ends_it(
    retrained: list[dict[str, Any]], project: Any, tmp_path: Path
) -> None:
    """The scheduler of a server with the wrong libraries looks healthy and never creates a run."""
    root = tmp_path / "cron"
    shutil.copytree(project.root, root, ignore=shutil.ignore_patterns(".tradewind"))
    cron = type(project)(root)
    options = ["--set", f"flows.port={free_port()}", "--set", "flows.daily_cron=* * * * *"]
    assert cron.tradewind("up", *options).returncode == 0
    state = Home(root / "tradewind.toml").state()
    assert state is not None
    try:
        deadline = time.monotonic() + 150
        ended: list[api.Run] = []
        while not ended and time.monotonic() < deadline:
            time.sleep(1)
            ended = [run for run in api.last_runs(state.url) if run.state in ("Completed", "Failed", "Crashed")]
        log = (root / ".tradewind" / "runner.log").read_text()[-3000:]
        assert [(run.flow, run.state) for run in ended] == [("daily", "Completed")], log
        deployed = {one["flow"]: one for one in cron.json("status")["deployments"]}
        assert deployed["daily"]["next_run"] is not None
    finally:
        assert cron.tradewind("down").returncode == 0
    assert processes(state.token) == []
