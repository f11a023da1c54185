from __future__ import annotations

import numpy as np
import pytest

from models.forecasters.har import HarConfig, averages
from models.forecasters.interface import Fitted
from tests.models.forecasters.panels import (
    assert_causal,
    assert_deterministic,
    assert_in_order,
    garch_returns,
    of_returns,
    without,
)

PLANTED = {"constant": 0.1, "mean_1": 0.15, "mean_5": 0.35, "mean_22": 0.35}


def har_returns(tickers: int, sessions: int, seed: int = 0) -> np.ndarray:
    """Returns whose variance is the planted combination of averages of their squares, mean variance 2 % squared."""
    generator = np.random.default_rng(seed)
    r = 0.02 * generator.normal(0, 1, (tickers, sessions + 222))
    a, b, c, d = PLANTED.values()
    for t in range(22, r.shape[1]):
        square = r[:, t - 22 : t] ** 2
        variance = a * 0.02**2 * 0.5 + b * square[:, -1] + c * square[:, -5:].mean(1) + d * square.mean(1)
        r[:, t] *= np.sqrt(variance + 0.05 * 0.02**2) / 0.02
    return r[:, 222:]


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return garch_returns(5, 500, 0.08, 0.0, 0.85)


def test_averages_by_hand() -> None:
    squares = np.array([[1.0, 3.0, np.nan, 5.0, 0.0]])
    found = averages(squares, (1, 3))[0]
    np.testing.assert_array_equal(found[:, 0], [1, 3, np.nan, 5, 0])
    np.testing.assert_array_equal(found[:, 1], [1, 2, 2, 4, 2.5])


def test_averages_of_a_history_shorter_than_the_window() -> None:
    np.testing.assert_array_equal(averages(np.array([[2.0, 4.0]]), (1, 5, 22))[0, :, 2], [2, 3])


def test_recovers_planted_coefficients() -> None:
    training = of_returns(har_returns(20, 2500))
    fitted = HarConfig(forms=("variance",)).fit(training)
    found = fitted.choices["coefficients"]["1"]
    for name in ("mean_1", "mean_5", "mean_22"):
        assert found[name] == pytest.approx(PLANTED[name], abs=0.06)


def test_validation_finds_the_form_of_the_planted_variance() -> None:
    assert HarConfig().fit(of_returns(har_returns(20, 2000, seed=2))).choices["form"] == "variance"


@pytest.mark.parametrize("form", ["log", "variance"])
def test_scale_is_nearer_to_the_truth_than_ewma(form: str) -> None:
    returns = garch_returns(10, 1500, 0.15, 0.0, 0.70, seed=3)
    training = of_returns(returns)
    sigma = HarConfig(forms=(form,)).fit(training).forecast(training.inputs).sigma[..., 0]  # type: ignore[arg-type]
    realised = np.log(np.maximum(np.abs(returns[:, 1:]), 1e-3))
    both = np.isfinite(sigma[:, :-1])
    ours, ewma = (
        np.corrcoef(np.log(each[:, :-1][both]), realised[both])[0, 1] for each in (sigma, training.inputs.vol)
    )
    assert ours > ewma + 0.01


@pytest.mark.parametrize("form", ["log", "variance"])
def test_reads_nothing_later(returns: np.ndarray, form: str) -> None:
    training = of_returns(returns)
    assert_causal(HarConfig(forms=(form,)).fit(training), training.inputs, 300)  # type: ignore[arg-type]


def test_same_bytes_twice(returns: np.ndarray) -> None:
    assert_deterministic(HarConfig(), of_returns(returns))


def test_is_a_forecaster_whose_quantiles_are_in_order(returns: np.ndarray) -> None:
    gaps = returns.copy()
    gaps[0, :150] = np.nan
    gaps[1, 200:240] = np.nan  # the first sessions after the halt have one return in their windows
    training = of_returns(gaps)
    fitted = HarConfig().fit(training)
    assert isinstance(fitted, Fitted)
    assert_in_order(fitted, training)


def test_a_constant_ticker_takes_the_typical_level_and_is_counted(returns: np.ndarray) -> None:
    still = returns.copy()
    still[2] = 0.0
    training = of_returns(still)
    fitted = HarConfig().fit(training)
    assert fitted.choices["tickers_at_typical_level"] == 1
    assert_in_order(fitted, training)


def test_constant_prices_everywhere_are_refused(returns: np.ndarray) -> None:
    with pytest.raises(ValueError, match="prices are constant; check the prices"):
        HarConfig().fit(without(of_returns(returns), returns=np.zeros_like(returns)))


def test_too_short_histories_are_refused(returns: np.ndarray) -> None:
    short = np.full_like(returns, np.nan)
    short[:, :30] = returns[:, :30]
    with pytest.raises(ValueError, match="no ticker has 60 returns in the first 375 sessions, the most is 30"):
        HarConfig().fit(without(of_returns(returns), returns=short))
