"""The t test of dependent means against statsmodels, plain loops and simulated nulls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import binom, ttest_1samp

from pipeline.evidence import hac


def autoregressive(rho: float, size: tuple[int, ...], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (*size[:-1], size[-1] + 200))
    return lfilter([1.0], [1.0, -rho], noise, axis=-1)[..., 200:]


def test_standard_error_is_that_of_statsmodels() -> None:
    regression = pytest.importorskip("statsmodels.api")
    values = autoregressive(0.5, (400,), 0) + 0.1
    for lags in (0, 3, 25):
        fit = regression.OLS(values, np.ones(400)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
        b = (lags + 1) / 400
        expected = float(fit.bse[0]) / np.sqrt(1 - b + b**2 / 3)
        assert hac.clustered_mean(values, lags=lags).se == pytest.approx(expected, rel=1e-10)


def test_a_wide_bandwidth_is_made_up_for() -> None:
    # The mean of the estimate of independent draws, whose long-run variance is one.
    draws = np.random.default_rng(9).normal(0, 1, (4000, 60))
    found = np.mean([hac.long_run_variance(row, 19) for row in draws])
    assert found == pytest.approx(hac.known_share(60, 19), rel=0.02)


def test_long_run_covariance_by_plain_loops() -> None:
    values = np.random.default_rng(1).normal(0, 1, (60, 3)).cumsum(0)
    moves, n, lags = values - values.mean(0), 60, 7
    expected = np.zeros((3, 3))
    for s in range(n):
        for t in range(n):
            if abs(s - t) <= lags:
                expected += (1 - abs(s - t) / (lags + 1)) * np.outer(moves[s], moves[t]) / n
    np.testing.assert_allclose(hac.long_run_variance(values, lags), expected)
    assert hac.long_run_variance(values[:, 1], lags) == pytest.approx(expected[1, 1])


def test_independent_sessions_without_lags_are_students_test() -> None:
    values = np.random.default_rng(2).normal(0.2, 1, 50)
    found = hac.clustered_mean(values, lags=0)
    # The textbook's ddof of 1 is the share of 1 - 1 / n + ..; degrees of freedom are 75, not 49.
    assert found.mean / found.se == pytest.approx(ttest_1samp(values, 0).statistic, rel=1e-3)


def test_copies_of_a_ticker_change_nothing_and_missing_cells_are_left_out() -> None:
    one = autoregressive(0.3, (1, 300), 3)
    one[0, 20:30] = np.nan
    many = np.repeat(one, 9, axis=0)
    a, b = hac.clustered_mean(one), hac.clustered_mean(many)
    assert (a.mean, a.se, a.n_effective) == pytest.approx((b.mean, b.se, b.n_effective))
    assert (a.n_sessions, b.n_cells) == (290, 2610)
    ragged = np.random.default_rng(4).normal(0, 1, (5, 200))
    ragged[ragged > 1.2] = np.nan
    assert hac.clustered_mean(ragged).mean == pytest.approx(np.nanmean(ragged))


def test_effective_sessions_of_an_autoregression() -> None:
    # T (1 - rho) / (1 + rho), by its autocorrelations.
    for rho in (0.3, 0.7):
        found = np.mean([hac.effective_sessions(row) for row in autoregressive(rho, (20, 4000), 5)])
        assert found == pytest.approx(4000 * (1 - rho) / (1 + rho), rel=0.25)
    assert hac.effective_sessions(np.full(30, 2.5)) == 30
    overlapping = np.convolve(np.random.default_rng(6).normal(0, 1, 4019), np.ones(20), "valid")
    assert hac.effective_sessions(overlapping, 20) == pytest.approx(200, rel=0.4)


@pytest.mark.parametrize(("rho", "overlap"), [(0.0, 1), (0.5, 1), (0.0, 5), (0.0, 20)])
def test_the_null_is_rejected_at_its_level(rho: float, overlap: int) -> None:
    draws, sessions, level = 600, 1000, 0.05
    values = autoregressive(rho, (draws, sessions + overlap - 1), 7 + overlap)
    values = np.lib.stride_tricks.sliding_window_view(values, overlap, axis=1).sum(-1)
    rejected = sum(hac.clustered_mean(row, overlap).p_value() < level for row in values)
    low, high = binom.interval(0.999, draws, level)
    # Overlap of 20 leaves a little of its memory uncounted: 6.5 % is what the module states.
    high = binom.interval(0.999, draws, 0.065)[1] if overlap == 20 else high
    assert low <= rejected <= high


def test_interval_and_p_value_agree_and_nothing_is_no_test() -> None:
    found = hac.clustered_mean(np.random.default_rng(8).normal(1, 1, (3, 200)))
    assert found.p_value(found.low) == pytest.approx(0.05)
    assert found.p_value(found.mean) == 1
    steady = hac.clustered_mean(np.ones((2, 50)))
    assert (steady.p_value(1.0), steady.p_value(0.5)) == (1.0, 0.0)
    with pytest.raises(ValueError, match="no finite value in a panel of 2 x 50"):
        hac.clustered_mean(np.full((2, 50), np.nan))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=80), st.integers(0, 100), st.floats(0.1, 50))
def test_invariants(values: list[float], lags: int, scale: float) -> None:
    series = np.array(values)
    variance = float(hac.long_run_variance(series, lags))
    assert variance >= -1e-9 * (1 + series.var())
    assert float(hac.long_run_variance(scale * series + 7, lags)) == pytest.approx(scale**2 * variance, abs=1e-5)
    assert 0 < hac.effective_sessions(series) <= len(series)
