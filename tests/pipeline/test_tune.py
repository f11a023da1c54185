"""The search as a stage: what it finds, what it read, what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.decode import QUANTILES
from pipeline import contenders, search_space, tune, walkforward
from pipeline.config import Config, Data, load
from pipeline.errors import DataError, StoreError, TooLittleHistoryError, UsageError
from pipeline.evidence import ledger
from pipeline.search_space import Range
from pipeline.store import Lake
from tests.conftest import simulate_prices
from tests.pipeline.tune_fixture import SESSIONS, comparable, filled, placed


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


# -- what a search finds ------------------------------------------------------------------------------------------


def test_a_search_ends_in_a_section_to_paste_and_every_trial_is_in_the_ledger(config: Config) -> None:
    summary = tune.run(config, "scale", 18)
    figures = summary.figures
    assert figures["trials"] == figures["finished"] + figures["pruned"] == 18
    assert figures["pruned"] > 0
    best = figures["best"]
    assert [each["loss"] for each in best] == sorted(each["loss"] for each in best)
    pasted = config.data.artifacts / "pasted.toml"
    pasted.write_text("\n".join(summary.lines[summary.lines.index("") :]))
    scale = load(pasted).models.scale
    assert scale.model_dump() == best[0]["settings"]
    lake = Lake.of(config.data)
    rows = ledger.read(lake)
    assert len(rows) == 18
    assert set(rows["kind"]) == {"tune"}
    assert set(rows["run_id"]) == {figures["study"]}
    assert rows["verdict"].str.contains("^(?:finished|pruned) after [123] of 3 inner folds").all()
    assert rows["verdict"].str.startswith("pruned").sum() == figures["pruned"]
    assert figures["importance"]
    assert figures["importance"].keys() == search_space.SPACES["scale"].keys()
    assert any("the best of many is partly luck" in line or "no trial does better" in line for line in summary.lines)


def test_the_first_trial_is_the_present_settings_and_its_loss_is_the_one_of_the_textbook(config: Config) -> None:
    figures = tune.run(config, "scale", 1).figures
    data = walkforward.read(Lake.of(config.data), config)
    end = walkforward.folds(data, config)[0].train_end
    known = tune.before(data, end)
    assert figures["best"][0]["settings"] == config.models.scale.model_dump()
    assert figures["last_session_read"] == str(data.panel.sessions[end - 1])
    folds = tune.Search.of(data, config, "scale").folds
    ewma, _ = walkforward.forecast_ewma(known, list(folds))
    fitted = walkforward.fit_folds(known, list(folds), walkforward.student_config(config))
    skip = walkforward.forecast_folds(known, fitted, lambda student: student.skip_network)
    ratios = np.zeros((3, 3))
    for at, fold in enumerate(folds):
        for h in range(3):
            sums = {"skip": 0.0, "ewma": 0.0}
            for n in range(2):
                for t in range(fold.test_start, fold.test_end):
                    y = known.z[n, t, h]
                    if np.isnan(y):
                        continue
                    unit = float(known.panel.vol[n, t]) * np.sqrt(known.horizons[h])
                    for name, forecast in (("skip", skip), ("ewma", ewma)):
                        for level in (0.1, 0.5, 0.9):
                            error = y - forecast.quantiles[n, t, h, QUANTILES.index(level)] / unit
                            sums[name] += level * error if error > 0 else (level - 1) * error
            ratios[at, h] = sums["skip"] / sums["ewma"]
    assert figures["best"][0]["loss"] == pytest.approx(ratios.mean(), rel=1e-9)
    assert figures["best"][0]["gains"] == pytest.approx(100 * (1 - ratios.mean(0)), rel=1e-6)


@pytest.mark.parametrize("model", ["student", "regression", "boosting", "convolution"])
def test_models_of_every_kind_can_be_searched(config: Config, model: str) -> None:
    summary = tune.run(config, model, 1)
    assert summary.figures["finished"] == 1
    assert 0.5 < summary.figures["best"][0]["loss"] < 2


def test_the_model_is_fitted_as_in_the_race(config: Config) -> None:
    figures = tune.run(config, "lstm", 1).figures
    data = walkforward.read(Lake.of(config.data), config)
    search = tune.Search.of(data, config, "lstm")
    forecasts, *_ = contenders.enter(search.data, search.folds, config, ["lstm"])
    found = []
    for fold in search.folds:
        own, reference = (tune._pinball(search.data, f, fold) for f in (forecasts["lstm"], search.ewma))
        found.append(np.nanmean(own, axis=(0, 1)) / np.nanmean(reference, axis=(0, 1)))
    assert figures["best"][0]["loss"] == pytest.approx(np.mean(found), rel=1e-12)


# -- nested -------------------------------------------------------------------------------------------------------


def altered_from(prices: pd.DataFrame, session: np.datetime64) -> pd.DataFrame:
    later = prices["session"] >= pd.Timestamp(session)
    factor = np.exp(np.random.default_rng(0).normal(0.5, 0.3, int(later.sum())))
    altered = prices.copy()
    for name in ("open", "high", "low", "close", "adj_close", "volume"):
        altered.loc[later, name] *= factor
    return altered


def test_nothing_after_the_first_training_slice_is_read(origin: Path, config: Config, tmp_path: Path) -> None:
    data = walkforward.read(Lake.of(config.data), config)
    end = walkforward.folds(data, config)[0].train_end
    summary = tune.run(config, "scale", 7)
    name = summary.figures["study"]
    other_future, other_past = tmp_path / "future", tmp_path / "past"
    for root, cut in ((other_future, end), (other_past, end - 1)):
        root.mkdir()
        other = filled(root, altered_from(simulate_prices(2, SESSIONS), data.panel.sessions[cut]))
        others = walkforward.read(Lake.of(other.data), other)
        assert others.fingerprint() != data.fingerprint()
        if root == other_past:
            assert tune.Search.of(others, other, "scale").name != name
            continue
        found = tune.run(other, "scale", 7)
        assert found.to_json() == summary.to_json()
        assert found.lines == summary.lines
        assert comparable(other, name) == comparable(config, name)


def test_labels_that_were_not_known_at_the_end_are_not_there(config: Config) -> None:
    data = walkforward.read(Lake.of(config.data), config)
    known = tune.before(data, 600)
    assert known.known_after == (2, 6, 21)  # open to open
    assert len(known.panel.sessions) == known.z.shape[1] == 600
    for h, last in enumerate((597, 593, 578)):
        for values in (known.z, known.log_return, known.rv, known.relative_variance):
            assert np.isfinite(values[:, last, h]).all()
            assert np.isnan(values[:, last + 1 :, h]).all()


def test_no_inner_label_reaches_the_next_slice(config: Config) -> None:
    data = walkforward.read(Lake.of(config.data), config)
    search = tune.Search.of(data, config, "scale")
    assert search.folds[-1].test_end == walkforward.folds(data, config)[0].train_end
    for fold in search.folds:
        assert fold.fit_end - 1 + data.purge < fold.validation_start
        assert fold.train_end - 1 + data.purge + config.splits.embargo < fold.test_start


# -- what can go wrong --------------------------------------------------------------------------------------------


def test_a_failed_trial_is_recorded_and_the_search_goes_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search_space.SPACES, "scale", {"half_life_sessions": Range(100, 2500)})  # 250 is the least
    summary = tune.run(config, "scale", 12)
    assert summary.figures["failed"] > 0
    assert summary.figures["failed"] + summary.figures["finished"] + summary.figures["pruned"] == 12
    verdicts = ledger.read(Lake.of(config.data))["verdict"]
    failed = verdicts[verdicts.str.startswith("failed: inner 1: models.scale does not take {'half_life_sessions': ")]
    assert len(failed) == summary.figures["failed"]


def test_a_search_of_failures_alone_is_an_error(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    body = config.models.lstm.model_copy(update={"warm_up": 499})  # longer than the first inner fit slice
    models = config.models.model_copy(update={"lstm": body})
    monkeypatch.setitem(search_space.SPACES, "lstm", {"dropout": Range(0.0, 0.5, log=False)})
    with pytest.raises(
        DataError, match=r"every trial of lstm-\w{8} failed; the last one in inner 1: lstm cannot be fi"
    ):
        tune.run(config.model_copy(update={"models": models}), "lstm", 2)
    rows = ledger.read(Lake.of(config.data))
    assert rows["verdict"].str.startswith("failed: inner 1: lstm cannot be fitted for inner 1").all()
    assert len(rows) == 2


def test_a_timeout_is_said(config: Config) -> None:
    summary = tune.run(config, "scale", 3, timeout=0)
    assert summary.figures["trials"] == 0
    assert "stopped before the last trial; the same command goes on from here" in summary.lines
    assert summary.figures["best"] == []
    assert tune.run(config, "scale", 2).figures["trials"] == 2


def test_what_cannot_be_searched_is_said_before_anything_is_read(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to tune for 'prophet'"):
        tune.run(config, "prophet", 3)
    with pytest.raises(StoreError, match="has no table features"):
        tune.run(Config(data=Data(lake=str(tmp_path / "empty"), artifacts=tmp_path)), "scale", 3)


@pytest.mark.parametrize(
    ("least", "message"),
    [
        (280, r"the 4\d\d sessions of training .* leave 1\d\d to fit on in the first of 3 inner .* needs 200; raise"),
        (900, "sessions leave no test year after 900 training sessions"),
    ],
)  # fmt: skip
def test_too_little_history_is_named(config: Config, least: int, message: str) -> None:
    splits = config.splits.model_copy(update={"min_train_sessions": least})
    with pytest.raises(TooLittleHistoryError, match=message):
        tune.run(config.model_copy(update={"splits": splits}), "scale", 3)


def test_text_that_has_to_earn_its_place_is_not_used(config: Config) -> None:
    data = walkforward.read(Lake.of(config.data), config)
    assert tune.Search.of(data, config, "scale").muted == ()
    sentiment = config.sentiment.model_copy(update={"require_lift": True})
    with_text = config.model_copy(update={"sentiment": sentiment})
    names = data.panel.feature_names
    as_text = replace(data, panel=replace(data.panel, feature_names=("news_count", *names[1:])))
    assert tune.Search.of(as_text, with_text, "scale").muted == (0,)
