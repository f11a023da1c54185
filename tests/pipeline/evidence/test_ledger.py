"""The ledger counts what was tried once, keeps every look, and survives two writers."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features import frames
from pipeline.evidence import ledger
from pipeline.evidence.ledger import Trial
from pipeline.store import Lake

NOON = pd.Timestamp("2026-01-05T12:00Z")


def trial(**changed: object) -> Trial:
    first = Trial(
        run_id="2025-12-31-ab12cd34",
        kind="flow",
        settings={"models": {"learning_rate": 3e-4}, "target": {"horizons": [1, 5]}},
        data="feed",
        data_versions={"prices": 3, "features": 7},
        seed=1,
        measure="pinball_gain_percent",
        by_horizon={1: 0.9, 5: 1.1},
        verdict="promoted",
        started_at=NOON,
        figures={"sharpe": 0.05},
        code="c0de",
    )
    return replace(first, **changed)


def test_an_entry_is_kept_as_it_was(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert ledger.count(lake) == (0, 0)
    assert ledger.append(lake, [trial()]) == 1
    row = frames.check("trials", ledger.read(lake)).iloc[0]
    assert (row["run_id"], row["kind"], row["seed"], row["verdict"]) == ("2025-12-31-ab12cd34", "flow", 1, "promoted")
    assert json.loads(row["settings"]) == {"models": {"learning_rate": 3e-4}, "target": {"horizons": [1, 5]}}
    assert json.loads(row["by_horizon"]) == {"1": 0.9, "5": 1.1}
    assert json.loads(row["data_versions"]) == {"prices": 3, "features": 7}
    assert row["started_at"] == NOON


def test_a_retried_append_adds_nothing_and_a_repeat_adds_no_trial(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ledger.append(lake, [trial(), trial()])
    version = lake.version("trials")
    assert ledger.append(lake, [trial()]) == 0
    assert lake.version("trials") == version
    assert ledger.append(lake, [trial(started_at=NOON + pd.Timedelta(hours=1), kind="cli")]) == 1
    assert ledger.count(lake) == (1, 1)


@pytest.mark.parametrize(
    "changed", [{"settings": {"models": {}}}, {"seed": 2}, {"data": "f00d"}, {"code": "d1ff"}, {"measure": "qlike"}]
)
def test_another_configuration_data_code_or_measure_is_another_trial(changed: dict[str, object]) -> None:
    assert trial(**changed).trial_id != trial().trial_id


@pytest.mark.parametrize(
    "changed", [{"kind": "cli"}, {"run_id": "other"}, {"verdict": "kept"}, {"by_horizon": {1: 0.5}}]
)
def test_who_ran_it_and_what_came_out_is_not_its_identity(changed: dict[str, object]) -> None:
    assert trial(**changed).trial_id == trial().trial_id


def test_counts_by_measure_and_sharpe_ratios_as_found_last(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    later = NOON + pd.Timedelta(days=1)
    ledger.append(lake, [trial(), trial(seed=2, figures={}), trial(seed=3, measure="sharpe", figures={"sharpe": 0.02})])
    ledger.append(lake, [trial(started_at=later, figures={"sharpe": 0.07})])
    assert ledger.count(lake) == (3, 1)
    assert ledger.count(lake, "sharpe") == (1, 0)
    np.testing.assert_allclose(np.sort(ledger.sharpes(lake)), [0.02, 0.07])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "notebook"}, "trial kind 'notebook' is not one of flow, tune, cli"),
        ({"started_at": pd.Timestamp("2026-01-05")}, "has no time zone"),
        ({"by_horizon": {1: float("nan")}}, "has a figure that is not finite"),
    ],
)
def test_a_bad_entry_is_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    lake = Lake(tmp_path / "lake")
    with pytest.raises(ValueError, match=message):
        ledger.append(lake, [trial(), trial(**changed)])
    assert not lake.exists("trials")


def write(root: str, writer: int) -> None:
    for seed in range(4):
        ledger.append(Lake(root), [trial(seed=seed, run_id=f"writer-{writer}")])


@pytest.mark.slow
def test_two_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    root = str(tmp_path / "lake")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(root, n)) for n in range(2)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(120)
    assert [each.exitcode for each in writers] == [0, 0]
    rows = ledger.read(Lake(root))
    assert len(rows) == 8
    assert ledger.count(Lake(root)) == (4, 4)


def test_code_digest_is_of_the_source() -> None:
    assert len(ledger.code_digest()) == 24
    assert ledger.code_digest() == ledger.code_digest()
