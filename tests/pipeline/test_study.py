"""The study on disk: the same trials whether it was killed or not, one process at a time, pruned by the median."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from pipeline import study
from pipeline.errors import TradewindError
from pipeline.study import FEWEST_TO_PRUNE, LOSSES, MedianRule, Study, is_killed, opened

SPACE: dict[str, BaseDistribution] = {"a": FloatDistribution(0, 1), "b": FloatDistribution(1e-3, 1, log=True)}
FIRST = {"a": 0.5, "b": 0.1}
FOLDS = 3


def loss(trial: optuna.Trial, fold: int) -> float:
    """A bowl, a little different on every fold."""
    return (trial.params["a"] - 0.3 - 0.01 * fold) ** 2 + (np.log10(trial.params["b"]) + 2) ** 2 + fold


def one(held: Study) -> FrozenTrial:
    trial = held.ask(SPACE, FIRST)
    losses: list[list[float]] = []
    for fold in range(FOLDS):
        losses.append([loss(trial, fold)])
        trial.set_user_attr(LOSSES, losses)
        trial.report(float(np.mean(losses)), fold)
        if fold + 1 < FOLDS and trial.should_prune():
            return held.prune(trial)
    return held.finish(trial, float(np.mean(losses)))


def in_memory() -> Study:
    return Study(optuna.create_study(pruner=MedianRule()), seed=7)


def comparable(held: Study) -> list[tuple[Any, ...]]:
    own = [each for each in held.ended if not is_killed(each)]
    return [(t.params, t.state, t.value, t.intermediate_values, t.user_attrs) for t in own]


def test_trials_do_not_depend_on_when_the_process_died(tmp_path: Path) -> None:
    with opened(tmp_path, "whole", seed=7) as held:
        while held.position < 14:
            one(held)
        expected = comparable(held)
    assert {TrialState.COMPLETE, TrialState.PRUNED} == {state for _, state, *_ in expected}
    while True:
        with opened(tmp_path, "often", seed=7) as held:
            for _ in range(4):
                if held.position < 14:
                    one(held)
            if held.position == 14:
                break
            held.ask(SPACE, FIRST)  # the process dies while this one runs
    with opened(tmp_path, "often", seed=7) as held:
        assert comparable(held) == expected
        killed = [each for each in held.ended if is_killed(each)]
        assert len(killed) == 3
        assert held.position == 14
    assert expected[0][0] == FIRST


def test_another_seed_tries_something_else(tmp_path: Path) -> None:
    found = []
    for seed in (7, 8):
        with opened(tmp_path, f"seed-{seed}", seed) as held:
            found.append([one(held).params for _ in range(3)])
    assert found[0][0] == found[1][0] == FIRST
    assert found[0][1:] != found[1][1:]


def test_the_first_trial_survives_a_kill(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path, "first", 7) as held:
            assert held.ask(SPACE, FIRST).params == FIRST
    with opened(tmp_path, "first", 7) as held:
        assert one(held).params == FIRST
        assert [is_killed(each) for each in held.ended] == [True, True, False]


def test_pruned_are_those_above_the_median_of_all_that_got_as_far() -> None:
    held = in_memory()
    for _ in range(30):
        ended = one(held)
        before = held.ended[:-1]
        for step, value in ended.intermediate_values.items():
            if step + 1 == FOLDS:
                continue
            there = [t.intermediate_values[step] for t in before if step in t.intermediate_values]
            should = len(there) >= FEWEST_TO_PRUNE and value > np.median(there)
            assert should == (ended.state == TrialState.PRUNED and step == max(ended.intermediate_values))
    states = [each.state for each in held.ended]
    assert states.count(TrialState.PRUNED) > 5
    assert TrialState.PRUNED not in states[:FEWEST_TO_PRUNE]


def test_a_failure_says_why_and_counts() -> None:
    held = in_memory()
    failed = held.fail(held.ask(SPACE, FIRST), "inner 1: no")
    assert (failed.state, failed.user_attrs[study.REASON]) == (TrialState.FAIL, "inner 1: no")
    assert not is_killed(failed)
    assert held.position == 1
    assert held.best(5) == []
    assert one(held).params != FIRST


def test_the_best_are_of_different_settings() -> None:
    held = in_memory()
    for value in (3.0, 1.0, 2.0, 1.0):
        trial = held.ask(SPACE, FIRST)
        held.finish(trial, value)
    assert [(t.number, t.value) for t in held.best(3)] == [(1, 1.0), (3, 1.0), (2, 2.0)]
    assert len({str(t.params) for t in held.best(9)}) == 4


def test_losses_of_equal_settings_are_found_again() -> None:
    only = {"a": FloatDistribution(0.5, 0.5)}
    held = in_memory()
    first = held.ask(only, {"a": 0.5})
    assert held.alike(first) == []
    first.set_user_attr(LOSSES, [[1.0]])
    held.finish(first, 1.0)
    assert held.alike(held.ask(only, {"a": 0.5})) == [[1.0]]


def test_importance_finds_what_matters_and_asks_for_enough() -> None:
    held = in_memory()
    for _ in range(12):
        trial = held.ask(SPACE, FIRST)
        held.finish(trial, trial.params["a"] ** 2)
    found = held.importance(10)
    assert next(iter(found)) == "a"
    assert found["a"] > 0.8
    assert held.importance(10) == found
    assert held.importance(13) == {}


def test_two_processes_cannot_share_a_study(tmp_path: Path) -> None:
    with (
        opened(tmp_path, "shared", 7),
        pytest.raises(TradewindError, match="another process is at the study shared; wait"),
        opened(tmp_path, "shared", 7),
    ):
        pass
    with opened(tmp_path, "shared", 7) as held:
        assert held.name == "shared"
    with sqlite3.connect(tmp_path / "shared.db") as connection:
        assert connection.execute("SELECT study_name FROM studies").fetchall() == [("shared",)]


def test_the_digest_knows_every_part() -> None:
    one_of = study.digest({"data": "a", "space": {"x": "1 to 2"}})
    assert one_of == study.digest({"space": {"x": "1 to 2"}, "data": "a"})
    assert one_of != study.digest({"data": "b", "space": {"x": "1 to 2"}})
    assert one_of != study.digest({"data": "a", "space": {"x": "1 to 3"}})
