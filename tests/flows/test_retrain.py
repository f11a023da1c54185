"""The retrain flow over the real stages, reporting to a real server."""

from __future__ import annotations

import time
from typing import Any

from flows import api
from flows.retrain import AGENTS, BUNDLE, JUDGED
from pipeline.config import load
from pipeline.registry import Registry

TASKS = [*BUNDLE, *AGENTS, *JUDGED]
REPORTED = [*BUNDLE, "agent train", "agent evaluate", "agent ship", *JUDGED]


def last_run(url: str, flow: str) -> api.Run:
    return next(run for run in api.last_runs(url, 50) if run.flow == flow)


def test_every_stage_reports(retrained: list[dict[str, Any]]) -> None:
    assert [summary["stage"] for summary in retrained] == REPORTED
    assert all(summary["lines"] for summary in retrained)


def test_a_bundle_is_champion(retrained: list[dict[str, Any]], project: Any) -> None:
    registry = Registry(load(project.root / "tradewind.toml").data.artifacts)
    assert (registry.champion() / "policy.onnx").is_file()
    assert registry.read_json(registry.latest_run(), "evidence.json")["baseline"] == "ewma"


def test_the_server_shows_the_run(retrained: list[dict[str, Any]], project: Any, server: str) -> None:
    run = last_run(server, "retrain")
    assert run.state == "Completed"
    assert run.seconds > 0
    content = project.json("status")
    assert "retrain" in [one["flow"] for one in content["runs"]]


def test_tasks_and_artifacts_of_the_run(retrained: list[dict[str, Any]], server: str) -> None:
    (row,) = (
        row
        for row in api._flow_runs(server, {"start_time": {"is_null_": False}}, "START_TIME_ASC", 50)
        if row["name"] == last_run(server, "retrain").name
    )
    deadline = time.monotonic() + 30
    while len(runs := api.flow_run(server, row["id"])) < 1 + len(TASKS) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [run.task for run in runs[1:]] == TASKS
    assert {run.state for run in runs} == {"Completed"}
    artifacts = api._request(f"{server}/api/artifacts/filter", {})
    keys = {artifact["key"] for artifact in artifacts if artifact["flow_run_id"] == row["id"]}
    assert keys == {f"summary-{stage}".replace(" ", "-") for stage in REPORTED}
