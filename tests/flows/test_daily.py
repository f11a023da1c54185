"""The daily flow over the real stages, after a retrain."""

from __future__ import annotations

from typing import Any

from flows.daily import STAGES
from pipeline.config import load
from pipeline.store import Lake


def test_daily_says_what_to_hold_and_a_second_run_changes_nothing(
    retrained: list[dict[str, Any]], project: Any
) -> None:
    lake = Lake(load(project.root / "tradewind.toml").data.lake)
    first = project.json("run", "daily")["stages"]
    assert tuple(summary["stage"] for summary in first) == STAGES
    printed = "\n".join(first[-1]["lines"])
    assert "AAA" in printed
    assert "BBB" in printed
    assert "weights by the policy in the bundle: q_table, 2 seeds as one" in printed
    held = lake.versions()
    second = project.json("run", "daily")["stages"]
    assert lake.versions() == held
    assert second[-1]["lines"] == first[-1]["lines"]
    assert len(lake.read("prices")) == 2 * 1300


def test_people_read_lines(retrained: list[dict[str, Any]], project: Any) -> None:
    done = project.tradewind("run", "daily", "-v")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "AAA" in done.stdout
    assert "Finished in state Completed()" in done.stderr


def test_daily_without_a_bundle_says_what_to_do(project: Any, server: str) -> None:
    done = project.tradewind("run", "daily", "--set", "data.artifacts=elsewhere")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no bundle has been published yet")
