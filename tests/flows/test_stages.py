"""A task is one stage call plus a retry policy, against a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows import api
from flows.stages import as_markdown, run_stages
from pipeline.config import Config
from pipeline.errors import DataError, NetworkError, RateLimitError
from pipeline.summary import Summary

Stage = Callable[[str, list[Summary | Exception]], list[Config]]


@flow(name="under-test")
def under_test(stages: list[str], config_path: str | None, overrides: list[str]) -> list[dict[str, Any]]:
    return run_stages(stages, config_path, overrides)


@pytest.fixture
def config_path(tmp_path: Path) -> str:
    file = tmp_path / "tradewind.toml"
    file.write_text("[flows]\nretries = 2\nretry_delay_seconds = 0\n")
    return str(file)


def runs_of(url: str, flow_run_id: Any, tasks: int = 1) -> list[api.Run]:
    """Task runs reach the server's tables through a queue, a moment after they end."""
    deadline = time.monotonic() + 30
    while True:
        runs = api.flow_run(url, str(flow_run_id))
        if len(runs) == 1 + tasks and all(run.state in ("Completed", "Failed") for run in runs):
            return runs
        assert time.monotonic() < deadline, runs
        time.sleep(0.2)


@pytest.mark.parametrize("error", [NetworkError("no route"), RateLimitError("slow down")])
def test_a_failure_that_may_pass_is_tried_again(
    error: Exception, stage: Stage, reporting: str, config_path: str
) -> None:
    calls = stage("flaky", [error, error, Summary("flaky", ("fine at last",))])
    state = under_test(["flaky"], config_path, [], return_state=True)
    assert state.is_completed()
    assert len(calls) == 3
    assert runs_of(reporting, state.state_details.flow_run_id)[1].attempts == 3


def test_retries_end(stage: Stage, reporting: str, config_path: str) -> None:
    calls = stage("flaky", [NetworkError(f"no route {attempt}") for attempt in range(5)])
    with pytest.raises(NetworkError, match="no route 2"):
        under_test(["flaky"], config_path, [])
    assert len(calls) == 3


def test_wrong_data_is_not_tried_again_and_ends_the_flow(stage: Stage, reporting: str, config_path: str) -> None:
    calls = stage("wrong", [DataError("high below low"), Summary("wrong")])
    later = stage("later", [Summary("later")])
    state = under_test(["wrong", "later"], config_path, [], return_state=True)
    assert (len(calls), len(later)) == (1, 0)
    runs = runs_of(reporting, state.state_details.flow_run_id)
    assert [(run.task, run.state, run.attempts) for run in runs] == [
        (None, "Failed", 1),
        ("wrong", "Failed", 1),
    ]
    with pytest.raises(DataError, match="high below low"):
        state.result()


def test_overrides_reach_the_stage(stage: Stage, reporting: str, config_path: str) -> None:
    calls = stage("seeded", [Summary("seeded")])
    under_test(["seeded"], config_path, ["models.seed=42"])
    assert calls[0].models.seed == 42
    assert calls[0].data.lake == str(Path(config_path).parent / "lake")


def test_a_summary_is_published_and_what_is_left_out_is_seen(
    stage: Stage, reporting: str, config_path: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage("partial", [Summary("partial", ("2 of 3 tickers",), {"n": 2}, ("FB: 196 sessions",))])
    state = under_test(["partial"], config_path, [], return_state=True)
    assert state.is_completed()
    assert state.result() == [
        {
            "stage": "partial",
            "lines": ["2 of 3 tickers"],
            "figures": {"n": 2},
            "left_out": ["FB: 196 sessions"],
        }
    ]
    assert "left out: FB: 196 sessions" in caplog.text
    assert "counting: 1 of 2" in caplog.text
    with get_client(sync_client=True) as client:
        (artifact,) = [one for one in client.read_artifacts() if one.key == "summary-partial"]
    assert "2 of 3 tickers" in artifact.data
    assert "FB: 196 sessions" in artifact.data
    assert artifact.task_run_id is not None


def test_markdown_shows_foreign_text_as_it_is() -> None:
    text = as_markdown(Summary("today", ("<script>x</script>\n# not a heading",)))
    assert text.splitlines()[2:] == ["    <script>x</script>", "    # not a heading"]


def test_flows_cost_little(stage: Stage, reporting: str, config_path: str) -> None:
    """Six empty stages: what Prefect itself costs, printed with -s."""
    names = [f"empty{at}" for at in range(6)]
    for name in names:
        stage(name, [Summary(name), Summary(name)])
    under_test(names, config_path, [])
    began = time.perf_counter()
    under_test(names, config_path, [])
    seconds = time.perf_counter() - began
    print(f"six empty stages in a flow: {seconds:.2f} s")
    assert seconds < 20
