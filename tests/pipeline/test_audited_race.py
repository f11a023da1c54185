"""The labels, the scaler and the forecasters under audit: mistakes made on purpose in the race are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.alterations import EVERYTHING, World
from features.audit import LEAK, audit
from features.splits import Fold
from models.scaling import Scaler
from pipeline import audit as stage
from pipeline import audited_race, walkforward
from pipeline.config import Config
from pipeline.feature_years import Makers
from tests.pipeline.audit_fixture import audited_config, world_of

PLAIN = Makers((), "textblob")


@pytest.fixture(scope="module")
def world() -> World:
    return world_of()


@pytest.fixture
def config(small_config: Config, tmp_path: Path) -> Config:
    return audited_config(small_config, tmp_path)


def test_labels_that_reach_into_the_next_slice_are_a_leak(config: Config, world: World) -> None:
    data = audited_race.dataset(config, None, world, PLAIN)
    (_, before_test) = audited_race.slices(config, data)
    start = walkforward.folds(data, config)[0].test_start
    unpurged = before_test._replace(end=data.panel.sessions[start])
    cut = pd.Timestamp(before_test.used_at, tz="UTC")
    found = audit(audited_race.labels(config, None, [unpurged]), world, [cut], stage.OF_LABELS)
    first = {name: verdict.first for name, verdict in found.items()}
    # Open to open, the label of h sessions is known h + 1 sessions later: that of start - h is the first unknown one.
    for h in (1, 5, 20):
        moved = first[f"labels before test 2007, h={h}"]
        assert moved is not None
        assert moved.session == data.panel.sessions[start - h]


def unpurged(data: walkforward.Dataset, config: Config) -> list[Fold]:
    return [replace(fold, train_end=fold.test_start) for fold in FOLDS(data, config)]


def of_everything(data: walkforward.Dataset, config: Config) -> list[Fold]:
    return [replace(fold, train_end=fold.test_end) for fold in FOLDS(data, config)]


FOLDS = walkforward.folds


@pytest.mark.parametrize("wrong", [unpurged, of_everything])
def test_a_race_that_trains_on_its_test_is_caught(
    config: Config, world: World, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = audited_race.dataset(config, None, world, PLAIN)
    used_at = audited_race.used_at_of(config, data)
    at = stage._race_cuts(walkforward.folds(data, config), used_at, 0)
    first_test = data.panel.sessions[walkforward.folds(data, config)[0].test_start]
    monkeypatch.setattr(walkforward, "folds", wrong)
    found = audit(audited_race.race(config, None, PLAIN, ["2007"]), world, at, (EVERYTHING,))
    leaks = {name for name, verdict in found.items() if verdict.status == LEAK}
    assert {f"forecaster {model}: sigma" for model in ("unconditional", "scale_skip", "student")} <= leaks
    assert "forecaster ewma: sigma" not in leaks  # it is not fitted, only trailing
    assert ("scaler: log_vol" in leaks) == (wrong is of_everything)
    for name in leaks:
        moved = found[name].first
        assert moved is not None
        assert moved.session >= first_test


def test_a_race_in_which_text_has_to_earn_its_place_passes(config: Config, world: World) -> None:
    sentiment = config.sentiment.model_copy(update={"require_lift": True})
    strict = config.model_copy(update={"sentiment": sentiment})
    data = audited_race.dataset(strict, None, world, PLAIN)
    folds = walkforward.folds(data, strict)
    assert audited_race._muted(strict, data, folds)["2007"]  # there is no earlier year to have earned it in
    at = stage._race_cuts(folds, audited_race.used_at_of(strict, data), 0)
    found = audit(audited_race.race(strict, None, PLAIN, ["2007"]), world, at[:1], (EVERYTHING,))
    assert {verdict.status for verdict in found.values()} == {"passed"}


def test_a_scaler_fitted_on_everything_is_caught(config: Config, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    data = audited_race.dataset(config, None, world, PLAIN)
    fold = walkforward.folds(data, config)[0]
    right = walkforward.fit_folds

    def wrong(data: walkforward.Dataset, *arguments: object, **named: object) -> list[walkforward.FittedFold]:
        everything = Scaler.fit(data.panel.x[np.isfinite(data.panel.vol)])
        return [replace(each, scaler=everything) for each in right(data, *arguments, **named)]  # type: ignore[arg-type]

    monkeypatch.setattr(walkforward, "fit_folds", wrong)
    at = stage._race_cuts([fold], audited_race.used_at_of(config, data), 0)
    found = audit(audited_race.race(config, None, PLAIN, ["2007"]), world, at, (EVERYTHING,))
    moved = found["scaler: log_vol"].first
    assert moved is not None
    assert moved.session == data.panel.sessions[fold.test_start]
    assert found["forecaster student: sigma"].status == LEAK
