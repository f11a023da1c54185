"""The portfolio's forecast variance: against independent implementations, from the past alone, right where planted."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import ledoit_wolf

from models.forecasters.correlation import CorrelationConfig
from pipeline.evidence.portfolio_risk import EWMA_COVARIANCE, UNCORRELATED, forecast, judge, realised_variance
from pipeline.evidence.significance import Resampling

RESAMPLING = Resampling(0.95, 0.01, 300, 20, 10, 7)
HORIZONS = (1, 5)
START = 300


def planted(tickers: int = 8, sessions: int = 900, rho: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns with one common part and a volatility of 1 or 2 % that is known beforehand."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 1, (1, sessions))
    shocks = np.sqrt(rho) * common + np.sqrt(1 - rho) * generator.normal(0, 1, (tickers, sessions))
    scale = np.where(np.arange(sessions) // 30 % 2, 0.02, 0.01) * np.ones((tickers, 1))
    vol = np.roll(scale, -1, axis=1)  # of the next session
    return scale * shocks, vol


def sigma_of(vol: np.ndarray) -> np.ndarray:
    sigma = vol[..., None] * np.sqrt(HORIZONS)
    sigma[:, :START] = np.nan
    return sigma


def ahead(returns: np.ndarray) -> np.ndarray:
    steps = np.full(returns.shape, np.nan)
    steps[:, :-1] = returns[:, 1:]
    return steps


def test_a_right_model_is_right_and_better_than_the_others() -> None:
    returns, vol = planted(sessions=2000)
    sigma = sigma_of(vol)
    record = judge(
        {"model": sigma, "flat": np.full_like(sigma, 0.015) * np.sqrt(HORIZONS) + 0 * sigma},
        ahead(returns),
        returns,
        vol,
        HORIZONS,
        RESAMPLING,
    )
    rows = {(row["forecast"], row["horizon"]): row for row in record["rows"]}
    assert rows["model", 1]["realised_low"] < 1 < rows["model", 1]["realised_high"]
    assert rows["model", 1]["realised"] == pytest.approx(1, abs=0.06)
    # Variance of the mean of n returns: rho + (1 - rho) / n of one's; as if uncorrelated, 1 / n.
    assert rows[UNCORRELATED, 1]["realised"] == pytest.approx(np.sqrt(8 * (0.5 + 0.5 / 8)), abs=0.15)
    gains = {(gain["against"], gain["horizon"]): gain for gain in record["gains"]}
    assert set(gains) == {(name, h) for name in ("flat", UNCORRELATED, EWMA_COVARIANCE) for h in HORIZONS}
    assert all(gains[name, 1]["verdict"] == "better" for name in ("flat", UNCORRELATED, EWMA_COVARIANCE))
    assert record["tickers"] == 8
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert f"moved {rows['model', 1]['realised']:.2f} / {rows['model', 5]['realised']:.2f} times" in record["sentence"]


def test_variance_is_that_of_scikit_learn_s_shrinkage() -> None:
    returns, vol = planted(sessions=400)
    config = CorrelationConfig(half_life=1e12, window=START)
    found = forecast({"model": sigma_of(vol)}, returns, vol, HORIZONS, config)
    unit = (returns[:, 1 : START + 1] / vol[:, :START]).T  # of the first session of the test slice
    shrunk, _ = ledoit_wolf(unit, assume_centered=True)
    root = np.sqrt(np.diag(shrunk))
    scaled = shrunk / np.outer(root, root) * vol[0, START] ** 2
    np.testing.assert_allclose(found.variance["model"][START], scaled.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.variance[UNCORRELATED][START], vol[0, START] ** 2 / 8, rtol=1e-12)


def test_ewma_covariance_is_pandas() -> None:
    """Of a portfolio that never changes it is the EWMA of its own squares."""
    returns, vol = planted(sessions=400)
    found = forecast({"model": sigma_of(vol)}, returns, vol, HORIZONS)
    expected = pd.Series(returns.mean(0) ** 2).ewm(alpha=0.06).mean().to_numpy()
    for at in range(len(HORIZONS)):
        np.testing.assert_allclose(found.variance[EWMA_COVARIANCE][START:, at], expected[START:], rtol=1e-10)


def test_ewma_covariance_of_pairs_that_miss_sessions_is_pandas() -> None:
    returns, vol = planted(tickers=2, sessions=400)
    returns[1, 310:330] = np.nan
    found = forecast({"model": sigma_of(vol)}, returns, vol, HORIZONS)
    a, b = pd.Series(returns[0]), pd.Series(returns[1])
    parts = [(x * y).ewm(alpha=0.06, ignore_na=True).mean().iloc[399] for x, y in ((a, a), (b, b), (a, b), (a, b))]
    assert found.variance[EWMA_COVARIANCE][399, 0] == pytest.approx(sum(parts) / 4, rel=1e-10)
    assert found.held[1, [309, 310, 329, 330]].tolist() == [True, False, False, True]


def test_nothing_later_is_read() -> None:
    returns, vol = planted(sessions=400)
    other, changed = returns.copy(), vol.copy()
    other[:, 351:], changed[:, 351:] = 0.3, 0.5
    before, after = (forecast({"model": sigma_of(vol)}, r, v, HORIZONS) for r, v in ((returns, vol), (other, changed)))
    for name, variance in before.variance.items():
        assert np.isfinite(variance[START:]).all()
        assert variance[:351].tobytes() == after.variance[name][:351].tobytes()


def test_realised_by_hand() -> None:
    steps = np.array([[0.01, 0.03, np.nan, 0.02], [0.03, -0.01, 0.02, np.nan], [9.0, 9.0, 9.0, 9.0]])
    held = np.zeros((3, 4), bool)
    held[:2, :3] = True
    found = realised_variance(steps, held, (1, 2))
    one = np.array([0.02, 0.01, 0.02, 0.02]) ** 2
    np.testing.assert_allclose(found[:3, 0], one[:3])
    np.testing.assert_allclose(found[:3, 1], (one[:3] + one[1:]) / 2)
    assert np.isnan(found[3]).all()
    held[:2, 3] = True
    assert np.isnan(realised_variance(steps, held, (1, 2))[3, 1])


def test_who_has_no_sigma_or_too_few_returns_is_not_held() -> None:
    returns, vol = planted(sessions=400)
    sigma = sigma_of(vol)
    sigma[0] = np.nan
    returns[1, :350] = np.nan
    found = forecast({"model": sigma}, returns, vol, HORIZONS)
    assert found.held[:, 398].tolist() == [False, False, *[True] * 6]
    assert found.variance[UNCORRELATED][398, 0] == pytest.approx(vol[2, 398] ** 2 / 6)


def test_without_a_known_outcome_nothing_is_claimed() -> None:
    returns, vol = planted(sessions=400)
    record = judge({"model": sigma_of(vol)}, np.full_like(returns, np.nan), returns, vol, HORIZONS, RESAMPLING)
    assert (record["rows"], record["gains"]) == ([], [])
    assert record["sentence"] == "No portfolio's outcome is known."
    with pytest.raises(ValueError, match="no model's sigmas to judge"):
        judge({}, returns, returns, vol, HORIZONS, RESAMPLING)
