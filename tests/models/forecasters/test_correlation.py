from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf as reference

from models.forecasters.correlation import (
    CorrelationConfig,
    correlations,
    covariance,
    ledoit_wolf,
    portfolio_sigma,
    standardised,
)


def correlated(tickers: int, sessions: int, rho: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 1, (1, sessions))
    return 0.01 * (np.sqrt(rho) * common + np.sqrt(1 - rho) * generator.normal(0, 1, (tickers, sessions)))


@pytest.mark.parametrize(("tickers", "sessions"), [(3, 200), (10, 60), (40, 30)])
def test_equal_weights_are_scikit_learn(tickers: int, sessions: int) -> None:
    x = correlated(tickers, sessions, 0.4).T * np.linspace(50, 150, tickers)
    found = ledoit_wolf(x, np.full(sessions, 3.0))
    theirs, intensity = reference(x, assume_centered=True)
    np.testing.assert_allclose(found.covariance, theirs, rtol=1e-10)
    assert found.intensity == pytest.approx(intensity, rel=1e-10)


def test_a_weight_of_two_is_less_than_two_sessions() -> None:
    """The sample is that of a doubled row, but its sampling error is larger: shrinkage sees fewer sessions."""
    x = correlated(5, 60, 0.3).T
    doubled = ledoit_wolf(np.concatenate([x, x[30:]]), np.ones(90))
    weighted = ledoit_wolf(x, np.r_[np.ones(30), np.full(30, 2.0)])
    assert weighted.intensity > doubled.intensity

    def sample(found: np.ndarray, intensity: float) -> np.ndarray:
        return (found - intensity * np.trace(found) / 5 * np.eye(5)) / (1 - intensity)

    np.testing.assert_allclose(sample(*weighted), sample(*doubled), rtol=1e-10)


def test_recovers_a_planted_correlation() -> None:
    returns = correlated(20, 1500, 0.4)
    config = CorrelationConfig(half_life=500, window=1500)
    found = correlations(returns, np.full(returns.shape, 0.01), [1499], config)[0]
    off = found[~np.eye(20, dtype=bool)]
    assert off.mean() == pytest.approx(0.4, abs=0.05)


def test_recent_sessions_weigh_more() -> None:
    returns = np.concatenate([correlated(10, 500, 0.0), correlated(10, 120, 0.7, 1)], axis=1)
    vol = np.full(returns.shape, 0.01)
    before, after = correlations(returns, vol, [499, 619])
    off = ~np.eye(10, dtype=bool)
    assert abs(before[off].mean()) < 0.05
    slow = correlations(returns, vol, [619], CorrelationConfig(half_life=1e6))[0]
    assert after[off].mean() > 0.2 > 0.15 > slow[off].mean()  # half of the weight, and a fifth of the sessions


def test_returns_are_over_the_volatility_of_the_session_before() -> None:
    returns = np.array([[np.nan, 0.02, 0.03, np.nan, 0.9]])
    vol = np.array([[0.01, 0.03, 0.02, np.nan, 0.5]])
    np.testing.assert_allclose(standardised(returns, vol), [[np.nan, 2.0, 1.0, np.nan, 6.0]])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.floats(0.0, 0.6), st.integers(0, 2**31))
def test_is_a_correlation_whatever_is_missing(tickers: int, share: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    returns = correlated(tickers, 150, 0.5, seed)
    vol = np.full(returns.shape, 0.01)
    gone = generator.uniform(0, 1, returns.shape) < share
    returns[gone], vol[gone] = np.nan, np.nan
    found = correlations(returns, vol, [149], CorrelationConfig(least=40))[0]
    held = np.isfinite(np.diag(found))
    matrix = found[np.ix_(held, held)]
    assert np.isnan(found[~held]).all()
    assert np.isnan(found[:, ~held]).all()
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    np.testing.assert_array_equal(matrix, matrix.T)
    if held.any():
        assert np.linalg.eigvalsh(matrix).min() > -1e-10
        assert np.abs(matrix).max() <= 1 + 1e-12


def test_a_ticker_with_too_few_returns_has_none() -> None:
    returns = correlated(4, 200, 0.4)
    returns[2, :150] = np.nan
    vol = np.where(np.isfinite(returns), 0.01, np.nan)
    found = correlations(returns, vol, [199])[0]
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()


def test_reads_nothing_later() -> None:
    returns = correlated(6, 300, 0.4)
    vol = np.full(returns.shape, 0.01)
    other, changed = returns.copy(), vol.copy()
    other[:, 201:], changed[:, 201:] = 1.0, 5.0
    changed[:, 200] = 5.0  # known at that close, but no return of it is scaled by it yet
    assert correlations(returns, vol, [200]).tobytes() == correlations(other, changed, [200]).tobytes()


def test_portfolio_by_hand() -> None:
    matrix = covariance(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([0.1, 0.2]))
    np.testing.assert_allclose(matrix, [[0.01, 0.01], [0.01, 0.04]])
    assert portfolio_sigma(np.array([0.5, 0.5]), matrix) == pytest.approx(np.sqrt(0.0175))
    matrix[1] = matrix[:, 1] = np.nan
    assert portfolio_sigma(np.array([1.0, 0.0]), matrix) == pytest.approx(0.1)


def test_portfolio_that_holds_an_unknown_ticker_is_unknown() -> None:
    matrix = covariance(np.array([[1.0, np.nan], [np.nan, np.nan]]), np.array([0.1, np.nan]))
    assert np.isnan(portfolio_sigma(np.array([0.5, 0.5]), matrix))


def test_errors_say_what_is_wrong() -> None:
    returns = correlated(2, 100, 0.4)
    with pytest.raises(IndexError, match="session 100 lies outside the history of 100 sessions"):
        correlations(returns, np.full(returns.shape, 0.01), [100])
    with pytest.raises(ValueError, match="column 1 has no value of positive weight"):
        ledoit_wolf(np.array([[1.0, np.nan], [2.0, np.nan]]), np.ones(2))
    with pytest.raises(ValueError, match="every return is zero: prices are constant"):
        ledoit_wolf(np.zeros((5, 2)), np.ones(5))
