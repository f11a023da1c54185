"""Coverage, PIT, Brier and ranks: against SciPy and scikit-learn, by hand, and at their level under the null."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare, norm, spearmanr

from models.decode import QUANTILES
from pipeline.evidence import calibration, metrics

NORMAL = norm.ppf(QUANTILES)
NAN = np.nan


def market(tickers: int, sessions: int, seed: int) -> np.ndarray:
    """Standard normal returns that correlate .64 across tickers."""
    generator = np.random.default_rng(seed)
    return 0.8 * generator.normal(0, 1, (1, sessions)) + 0.6 * generator.normal(0, 1, (tickers, sessions))


def test_coverage_is_a_share_with_an_interval() -> None:
    z = market(8, 500, 0)
    z[2, :50] = NAN
    found = calibration.coverage(metrics.inside(z, np.full(z.shape, NORMAL[2]), np.full(z.shape, NORMAL[6])))
    assert found.mean == pytest.approx(np.mean(np.abs(z[np.isfinite(z)]) <= NORMAL[6]))
    assert found.low < 0.8 < found.high
    assert found.p_value(0.8) > 0.05 > found.p_value(0.9)


def test_pearson_part_is_that_of_scipy() -> None:
    z = market(3, 400, 1)
    z[0, 7] = NAN
    found = calibration.uniformity(z, np.broadcast_to(NORMAL, (*z.shape, 9)), QUANTILES)
    known = z[np.isfinite(z)]
    observed = np.histogram(known, [-np.inf, *NORMAL, np.inf])[0]
    np.testing.assert_allclose(found.shares, observed / len(known))
    np.testing.assert_allclose(found.expected, [0.01, 0.04, 0.05, 0.15, 0.25, 0.25, 0.15, 0.05, 0.04, 0.01])
    assert found.independent_p == pytest.approx(chisquare(observed, found.expected * len(known)).pvalue)
    assert (found.n_cells, found.n_sessions) == (1199, 400)


def test_pit_of_right_forecasts_is_rejected_at_its_level_and_of_wrong_ones_always() -> None:
    draws, quantiles = 300, np.broadcast_to(NORMAL, (5, 750, 9))
    found = [calibration.uniformity(market(5, 750, seed), quantiles, QUANTILES) for seed in range(draws)]
    low, high = binom.interval(0.999, draws, 0.05)
    assert low <= sum((each.p_value or 0) < 0.05 for each in found) <= high
    assert sum(each.independent_p < 0.05 for each in found) > 3 * high  # as if cells were independent
    wide = calibration.uniformity(market(5, 750, 0), 1.3 * quantiles, QUANTILES).p_value
    assert wide is not None
    assert wide < 1e-3


def test_too_few_sessions_for_nine_quantiles_is_no_test() -> None:
    z = market(5, 80, 2)
    assert calibration.uniformity(z[:, :40], np.broadcast_to(NORMAL, (5, 40, 9)), QUANTILES).p_value is None
    with pytest.raises(ValueError, match="has both an outcome and quantiles"):
        calibration.uniformity(np.full((5, 80), NAN), np.broadcast_to(NORMAL, (5, 80, 9)), QUANTILES)


def test_brier_parts_by_hand() -> None:
    # Said .2: 1 of 4 came. Said .6: 3 of 4 came. Share .5.
    p_up = np.array([0.2] * 4 + [0.6] * 4)
    actual = np.array([1.0, -1, -1, -1, 1, 1, 1, -1])
    found = calibration.brier_parts(actual, p_up)
    assert found.reliability == pytest.approx((0.05**2 + 0.15**2) / 2)
    assert found.resolution == pytest.approx(0.25**2)
    assert found.uncertainty == 0.25
    assert found.within == pytest.approx(0, abs=1e-15)
    assert found.score == pytest.approx((0.64 + 3 * 0.04 + 3 * 0.16 + 0.36) / 8)
    assert found.score == pytest.approx(found.reliability - found.resolution + found.uncertainty)


def test_reliability_curve_is_that_of_scikit_learn() -> None:
    learn = pytest.importorskip("sklearn.calibration")
    generator = np.random.default_rng(3)
    p_up = generator.uniform(0.2, 0.8, (6, 500))
    actual = np.where(generator.random(p_up.shape) < p_up, 0.01, -0.01)
    actual[0, :9] = NAN
    curve = calibration.reliability_curve(actual, p_up, bins=8)
    known = np.isfinite(actual)
    came, said = learn.calibration_curve(actual[known] > 0, p_up[known], n_bins=8, strategy="quantile")
    np.testing.assert_allclose([each.said for each in curve], said, rtol=1e-3)
    np.testing.assert_allclose([each.came for each in curve], came, rtol=2e-2)
    assert sum(each.n for each in curve) == known.sum()
    assert sum(each.low <= each.said <= each.high for each in curve) >= 6  # 8 intervals at 95 %
    wrong = calibration.reliability_curve(actual, 1 - p_up, bins=8)
    assert not wrong[0].low <= wrong[0].said <= wrong[0].high


def test_rank_correlation_is_that_of_scipy() -> None:
    generator = np.random.default_rng(4)
    outcome = generator.normal(0, 1, (12, 40))
    forecast = np.round(outcome + generator.normal(0, 2, outcome.shape))  # ties
    forecast[generator.random(outcome.shape) < 0.2] = NAN
    found = calibration.rank_correlation(forecast, outcome)
    for t in range(40):
        there = np.isfinite(forecast[:, t])
        assert found[t] == pytest.approx(spearmanr(forecast[there, t], outcome[there, t]).statistic)


def test_rank_correlation_of_too_few_or_equal_is_unknown() -> None:
    outcome = np.random.default_rng(5).normal(0, 1, (6, 3))
    forecast = outcome.copy()
    forecast[:, 1] = 2.0
    forecast[:2, 2] = NAN
    np.testing.assert_allclose(calibration.rank_correlation(forecast, outcome), [1, NAN, NAN])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 12))
def test_parts_add_up_to_the_score(cells: list[tuple[float, bool]], bins: int) -> None:
    p_up = np.array([p for p, _ in cells])
    actual = np.array([1.0 if up else -1.0 for _, up in cells])
    found = calibration.brier_parts(actual, p_up, bins)
    whole = found.reliability - found.resolution + found.uncertainty + found.within
    assert found.score == pytest.approx(float(metrics.brier(actual, p_up).mean()))
    assert whole == pytest.approx(found.score, abs=1e-12)
    assert min(found.reliability, found.resolution, found.uncertainty) >= 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10).map(lambda v: round(v, 3)), min_size=5, max_size=20), st.randoms())
def test_ranks_do_not_feel_a_rising_transform(values: list[float], random: object) -> None:
    outcome = np.array(values)[:, None]
    forecast = np.random.default_rng(len(values)).permutation(outcome)
    found = calibration.rank_correlation(forecast, outcome)
    np.testing.assert_allclose(calibration.rank_correlation(np.arctan(forecast), outcome), found)
    np.testing.assert_allclose(calibration.rank_correlation(-forecast, outcome), -found, atol=1e-12)
    assert np.isnan(found).all() or np.abs(found).max() <= 1 + 1e-12
