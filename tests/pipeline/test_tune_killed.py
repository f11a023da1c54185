"""A search that is killed, repeated, prolonged: it goes on where it was, and the ledger knows every trial once."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import search_space, tune, walkforward
from pipeline.config import Config, load
from pipeline.evidence import ledger
from pipeline.search_space import Range
from pipeline.store import Lake
from tests.conftest import simulate_prices
from tests.pipeline.tune_fixture import SESSIONS, comparable, filled, placed, trials_of


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tickers with features, never tuned."""
    root = tmp_path_factory.mktemp("origin")
    filled(root, simulate_prices(2, SESSIONS))
    return root


@pytest.fixture
def config(origin: Path, tmp_path: Path) -> Config:
    shutil.copytree(origin, tmp_path / "copy")
    return placed(tmp_path / "copy")


def kill_midway(root: Path, trials: int, after: int) -> None:
    """Start a search in a process of its own and kill it while a trial runs, `after` others being over."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "tune", "scale", "--trials", str(trials)]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)  # so that what is seen is still so when it dies
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        over, running = trials_so_far(root / "artifacts" / "tune")
        if running and over >= after:
            process.kill()
        process.send_signal(signal.SIGCONT)
        time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"


def trials_so_far(directory: Path) -> tuple[int, int]:
    """How many are over and how many run."""
    query = "SELECT SUM(state IN ('COMPLETE', 'PRUNED')), SUM(state = 'RUNNING') FROM trials"
    for file in directory.glob("*.db"):
        try:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=0) as connection:
                over, running = connection.execute(query).fetchone()
                return over or 0, running or 0
        except sqlite3.OperationalError:  # stopped amid a commit, or there are no tables yet
            continue
    return 0, 0


def test_a_killed_search_goes_on_and_ends_as_an_undisturbed_one(config: Config, origin: Path, tmp_path: Path) -> None:
    shutil.copytree(origin, tmp_path / "killed")
    kill_midway(tmp_path / "killed", 9, after=2)
    killed = load(tmp_path / "killed" / "tradewind.toml")
    resumed, whole = tune.run(killed, "scale", 9), tune.run(config, "scale", 9)
    name = whole.figures["study"]
    assert resumed.figures["study"] == name
    assert comparable(killed, name) == comparable(config, name)
    died = resumed.figures["killed"]
    assert died == 1
    assert len(trials_of(killed, name)) == 9 + died
    rows = ledger.read(Lake.of(killed.data))
    assert len(rows) == 9 + died
    assert rows["verdict"].str.startswith("its process died after").sum() == died
    assert [each["settings"] for each in resumed.figures["best"]] == [
        each["settings"] for each in whole.figures["best"]
    ]


def test_the_same_command_again_does_nothing_and_more_trials_go_on(config: Config) -> None:
    first = tune.run(config, "scale", 3)
    before = ledger.read(Lake.of(config.data))
    assert tune.run(config, "scale", 3).lines == first.lines
    pd.testing.assert_frame_equal(ledger.read(Lake.of(config.data)), before)
    more = tune.run(config, "scale", 5)
    assert (more.figures["study"], more.figures["trials"]) == (first.figures["study"], 5)
    assert ledger.count(Lake.of(config.data)).trials == 5


def test_a_trial_that_never_reached_the_ledger_is_brought_in(config: Config) -> None:
    tune.run(config, "scale", 3)
    shutil.rmtree(Path(config.data.lake) / "trials")
    tune.run(config, "scale", 3)
    assert ledger.count(Lake.of(config.data)).trials == 3


def test_pasting_the_choice_keeps_the_study_and_other_settings_begin_another(config: Config) -> None:
    first = tune.run(config, "scale", 2).figures
    pasted = search_space.applied(config, "scale", first["best"][-1]["settings"])
    assert tune.run(pasted, "scale", 2).figures["study"] == first["study"]
    others = [
        config.model_copy(update={"models": config.models.model_copy(update={"seed": 8})}),
        config.model_copy(update={"splits": config.splits.model_copy(update={"embargo": 6})}),
        search_space.applied(config, "scale", {"half_life_sessions": 20_000}),  # a wider space
    ]
    found = {tune.run(other, "scale", 1).figures["study"] for other in others}
    assert len(found | {first["study"]}) == 4


def test_equal_settings_are_not_fitted_twice(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    only = {"half_life_sessions": Range(2500, 2500)}
    monkeypatch.setitem(search_space.SPACES, "scale", only)
    fits: list[str] = []
    fit = walkforward.fit_folds

    def counted(*arguments: Any, **named: Any) -> Any:
        fits.append(arguments[1][0].name)
        return fit(*arguments, **named)

    monkeypatch.setattr(walkforward, "fit_folds", counted)
    assert tune.run(config, "scale", 4).figures["finished"] == 4
    assert fits == ["inner 1", "inner 2", "inner 3"]
    assert ledger.count(Lake.of(config.data)) == (1, 3)  # one configuration, looked at four times
