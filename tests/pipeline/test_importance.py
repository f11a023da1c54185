"""Permutation importance: planted families show, muted ones do not, and what is moved is moved as it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.table import FEATURES, OBSERVED
from models.decode import QUANTILES, Forecast
from models.forecasters.interface import Inputs
from models.scaling import Scaler
from pipeline import importance as measure
from pipeline import walkforward
from pipeline.importance import Over, families, importance, of_model, of_student, shuffle
from pipeline.walkforward import Dataset, FittedFold
from tests.pipeline.text_fixture import RESAMPLING, SETTINGS, folds, universe

NORMAL = np.array([-2.326, -1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])
HISTORY = 63


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """log_vol and tone_mean move the scale alike, ret_1 and news_count nothing."""
    return universe(scale=0.3, tickers=6)


@pytest.fixture(scope="module")
def fitted(data: Dataset) -> list[FittedFold]:
    return walkforward.fit_folds(data, folds(data), SETTINGS)


@pytest.fixture(scope="module")
def ewma(data: Dataset) -> Forecast:
    return walkforward.forecast_ewma(data, folds(data))[0]


def by_family(record: dict[str, Any], horizon: int | None = None) -> dict[str, dict[str, Any]]:
    return {row["family"]: row for row in record["rows"] if row["horizon"] == horizon}


class Planted:
    """The scale that the universe has: it reads one session and nothing is estimated."""

    choices: ClassVar[dict[str, Any]] = {}

    def forecast(self, inputs: Inputs) -> Forecast:
        unit = inputs.vol[..., None] * np.sqrt((1, 5))
        sigma = unit * np.exp(0.3 * inputs.x[..., 1, None] + 0.3 * inputs.x[..., 4, None])
        return Forecast(sigma, sigma[..., None] * NORMAL, np.full(sigma.shape, 0.5))


def unscaled(features: int) -> Scaler:
    return Scaler(np.zeros(features, np.float32), np.ones(features, np.float32), 100.0)


def test_planted_families_show_and_noise_does_not(data: Dataset, fitted: list[FittedFold], ewma: Forecast) -> None:
    record = importance(data, [of_student(data, each) for each in fitted], ewma, RESAMPLING)
    found = by_family(record)
    assert list(found) == ["returns", "volatility", "sentiment"]
    for planted in ("volatility", "sentiment"):
        assert found[planted]["low"] > 1
        assert found[planted]["spread"] < 0.2 * found[planted]["lost"]
    assert found["volatility"]["lost"] == pytest.approx(found["sentiment"]["lost"], rel=0.25)
    assert abs(found["returns"]["lost"]) < 0.1
    assert all(each["low"] > 2 for each in record["gains"])
    assert record["families"]["sentiment"] == ["news_count", "tone_mean"]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_wrong_half_of_the_scale_costs_what_theory_says(data: Dataset, ewma: Forecast) -> None:
    """With the planted scale, a shuffled family is off by exp(.3 (x' - x)): expected pinball by simulation."""
    tested = [of_model(data, fold, unscaled(5), Planted()) for fold in folds(data)]
    record = importance(data, tested, ewma, RESAMPLING, permutations=5)
    generator = np.random.default_rng(0)
    own, others, e = generator.normal(0, 1, (3, 300_000))
    rest = np.exp(0.3 * generator.normal(0, 1, len(e)))

    def pinball(scale: np.ndarray) -> float:
        error = (rest * np.exp(0.3 * own) * e)[:, None] - (rest * scale)[:, None] * NORMAL[[2, 4, 6]]
        level = np.array([0.1, 0.5, 0.9])
        return float(np.maximum(level * error, (level - 1) * error).mean())

    expected = 100 * (pinball(np.exp(0.3 * others)) / pinball(np.exp(0.3 * own)) - 1)
    row, gain = by_family(record, 1)["volatility"], record["gains"][0]["gain_percent"]
    assert row["lost"] / (1 - gain / 100) == pytest.approx(expected, rel=0.15)


def test_one_permutation_by_hand(data: Dataset, ewma: Forecast) -> None:
    """Shuffled, forecast and scored again with plain NumPy."""
    fold = folds(data)[1]
    record = importance(data, [of_model(data, fold, unscaled(5), Planted())], ewma, RESAMPLING, permutations=1)
    test = slice(fold.test_start, fold.test_end)
    x = data.panel.x[:, fold.test_start - HISTORY : fold.test_end]
    moved = shuffle(x, (1,), "both", np.random.default_rng([RESAMPLING.seed, 0, 0]))[:, HISTORY:]

    def pinball(features: np.ndarray) -> float:
        scale = np.exp(0.3 * features[..., 1] + 0.3 * features[..., 4])
        error = data.z[:, test, 0, None] - scale[..., None] * NORMAL[[2, 4, 6]]
        level = np.array([0.1, 0.5, 0.9])
        return float(np.nanmean(np.maximum(level * error, (level - 1) * error)))

    actual, quantiles = data.log_return[:, test, 0, None], ewma.quantiles[:, test, 0][..., [2, 4, 6]]
    level = np.array([QUANTILES[i] for i in (2, 4, 6)])
    base = np.nanmean(np.maximum(level * (actual - quantiles), (level - 1) * (actual - quantiles))) / 0.01
    expected = 100 * (pinball(moved) - pinball(x[:, HISTORY:])) / base
    row = by_family(record, 1)["volatility"]
    assert row["lost"] == pytest.approx(expected, rel=1e-5)
    assert row["spread"] is None


def test_a_muted_family_is_worth_exactly_nothing(data: Dataset, ewma: Forecast) -> None:
    silent = walkforward.fit_folds(data, folds(data)[:2], SETTINGS, muted={f.name: (3, 4) for f in folds(data)})
    record = importance(data, [of_student(data, each) for each in silent], ewma, RESAMPLING, permutations=1)
    row = by_family(record)["sentiment"]
    assert (row["lost"], row["low"], row["high"]) == (0, 0, 0)


def test_when_and_which_are_told_apart(data: Dataset, ewma: Forecast) -> None:
    """A feature that all tickers share says when; one that never moves says which."""
    x = data.panel.x.copy()
    x[..., 1] = x[:1, :, 1]
    x[..., 4] = np.linspace(-1.5, 1.5, len(x))[:, None]
    z = np.exp(0.3 * x[..., 1, None] + 0.3 * x[..., 4, None]) * np.random.default_rng(5).normal(0, 1, data.z.shape)
    log_return = z * 0.01 * np.sqrt((1, 5))
    shared = replace(data, panel=replace(data.panel, x=x), z=z, log_return=log_return, rv=1e-4 * z**2)
    tested = [of_model(shared, fold, unscaled(5), Planted()) for fold in folds(shared)]

    def lost(over: Over) -> dict[str, dict[str, Any]]:
        return by_family(importance(shared, tested, ewma, RESAMPLING, permutations=1, over=over))

    assert lost("tickers")["volatility"]["lost"] == 0
    assert lost("sessions")["sentiment"]["lost"] == 0
    assert lost("sessions")["volatility"]["low"] > 1
    assert lost("tickers")["sentiment"]["low"] > 1
    assert min(lost("both")[family]["low"] for family in ("volatility", "sentiment")) > 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 150), st.sampled_from(["both", "sessions", "tickers"]), st.integers(0, 2**31))
def test_what_is_moved_is_moved_together(tickers: int, sessions: int, over: Over, seed: int) -> None:
    cells = np.arange(tickers * sessions, dtype=np.float32).reshape(tickers, sessions)
    x = np.stack([cells, -cells, cells], axis=-1)
    out = shuffle(x, (0, 1), over, np.random.default_rng(seed))
    assert out[..., 2].tobytes() == x[..., 2].tobytes()
    np.testing.assert_array_equal(out[..., 1], -out[..., 0])
    np.testing.assert_array_equal(np.sort(out[..., 0].ravel()), cells.ravel())
    ticker, session = np.divmod(out[..., 0].astype(int), sessions)
    assert (session == session[:1]).all()  # the same session for all tickers
    if over == "tickers":
        assert (session == np.arange(sessions)).all()
    elif sessions > 1:
        assert (session[0] != np.arange(sessions)).any()
    if over == "sessions":
        assert (ticker == np.arange(tickers)[:, None]).all()
    elif tickers > 1:
        assert (ticker != np.arange(tickers)[:, None]).all()
    together = (np.diff(session[0]) == 1).mean() if sessions > 100 else 1.0
    assert together > 0.85  # blocks keep their order


def test_families_of_the_table_and_the_users_own() -> None:
    names = (OBSERVED, "ret_5", "log_vol", "mine_a", "ret_1", "mine_b")
    assert families(names) == {"returns": (4, 1), "volatility": (2,), "own": (3, 5)}
    everything = (OBSERVED, *(name for family in FEATURES.values() for name in family))
    positions = sorted(at for part in families(everything).values() for at in part)
    assert positions == list(range(1, len(everything)))


def test_the_same_seed_gives_the_same_rows(data: Dataset, ewma: Forecast) -> None:
    tested = [of_model(data, fold, unscaled(5), Planted()) for fold in folds(data)[:2]]
    first, again = (importance(data, tested, ewma, RESAMPLING, permutations=2) for _ in range(2))
    assert first == again
    other = importance(data, tested, ewma, replace(RESAMPLING, seed=8), permutations=2)
    assert other["rows"] != first["rows"]


def test_progress_counts_families(data: Dataset, ewma: Forecast) -> None:
    seen: list[int] = []
    tested = [of_model(data, folds(data)[0], unscaled(5), Planted())]
    importance(data, tested, ewma, RESAMPLING, permutations=1, progress=seen.append)
    assert seen == [0, 1, 2, 3]


def test_nothing_to_test_is_said(data: Dataset, ewma: Forecast) -> None:
    with pytest.raises(ValueError, match="0 folds and 3 permutations: importance needs at least one of each"):
        importance(data, [], ewma, RESAMPLING)


def test_a_short_slice_still_has_blocks_to_move() -> None:
    assert len(measure._blocks(12, np.random.default_rng(0))) >= 4
