from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arch import arch_model

from models.forecasters.garch import GarchConfig, horizon_variance, long_run, next_variance
from models.forecasters.garch_fit import Parameters, fit_pooled, fit_ticker
from models.forecasters.interface import Fitted, Inputs
from tests.models.forecasters.panels import (
    assert_causal,
    assert_deterministic,
    assert_in_order,
    garch_returns,
    of_returns,
    without,
)

ALPHA, GAMMA, BETA = 0.04, 0.10, 0.88


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return garch_returns(6, 900, ALPHA, GAMMA, BETA)


def parameters(*values: float) -> Parameters:
    return Parameters(*(np.array([value]) for value in values))


def test_recursion_by_hand() -> None:
    of = parameters(0.1, 0.2, 0.1, 0.6)  # long run .1 / (1 - .85)
    after = next_variance(np.array([[1.0, -1.0, np.nan, 0.0]]), of)
    first = 0.1 + 0.2 + 0.6 * 0.1 / 0.15
    second = 0.1 + 0.3 + 0.6 * first
    np.testing.assert_allclose(after, [[first, second, second, 0.1 + 0.6 * second]])
    assert long_run(of)[0] == pytest.approx(2 / 3)
    one, two = first, 0.1 + 0.85 * first
    np.testing.assert_allclose(horizon_variance(after, of, (1, 2))[0, 0], [one, one + two])


@pytest.mark.parametrize("leverage", [False, True])
def test_variance_over_horizons_is_that_of_arch(returns: np.ndarray, leverage: bool) -> None:
    row = 100 * returns[0]
    model = arch_model(row, mean="Zero", vol="GARCH", p=1, o=int(leverage), q=1, rescale=False)
    values = [0.05, 0.06, *([0.08] if leverage else []), 0.88]
    gamma = 0.08 if leverage else 0.0
    of = parameters(0.05, 0.06, gamma, 0.88)
    # arch starts from its backcast, here from the long-run variance; after 500 sessions neither start is left.
    theirs = model.fix(values).forecast(horizon=20, start=500, align="origin", reindex=False).variance.to_numpy()
    ours = horizon_variance(next_variance(row[None], of), of, (1, 5, 20))[0, 500:]
    for at, h in enumerate((1, 5, 20)):
        np.testing.assert_allclose(ours[:, at], theirs[:, :h].sum(1), rtol=1e-9)


def test_pooled_fit_recovers_planted_parameters() -> None:
    returns = garch_returns(20, 2500, ALPHA, GAMMA, BETA, seed=4)
    returns *= np.linspace(0.5, 2, 20)[:, None]
    standardised = returns / np.sqrt((returns**2).mean(1, keepdims=True))
    for distribution in ("normal", "t"):
        found, converged = fit_pooled(standardised, distribution)
        assert converged
        np.testing.assert_allclose(found.alpha, ALPHA, atol=0.015)
        np.testing.assert_allclose(found.gamma, GAMMA, atol=0.02)
        np.testing.assert_allclose(found.beta, BETA, atol=0.02)


def test_pooled_fit_is_not_moved_by_missing_returns() -> None:
    full = garch_returns(3, 600, ALPHA, GAMMA, BETA, seed=4) / 0.02
    gaps = np.full((3, 900), np.nan)
    gaps[:, ::3], gaps[:, 1::3] = full[:, ::2], full[:, 1::2]  # the same returns, every third session closed
    for one, other in zip(fit_pooled(full, "t")[0], fit_pooled(gaps, "t")[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_ticker_fit_recovers_planted_parameters() -> None:
    returns = garch_returns(8, 4000, ALPHA, GAMMA, BETA, seed=5)
    found = [fit_ticker(row, True, "normal", 250) for row in returns]
    assert all(reason == "" for _, reason in found)
    omega, alpha, gamma, beta = np.median([values for values, _ in found if values], axis=0)
    assert alpha == pytest.approx(ALPHA, abs=0.015)
    assert gamma == pytest.approx(GAMMA, abs=0.025)
    assert beta == pytest.approx(BETA, abs=0.025)
    assert omega / (1 - alpha - gamma / 2 - beta) == pytest.approx(0.02**2, rel=0.35)


@pytest.mark.parametrize("form", ["garch", "gjr", "pooled"])
def test_reads_nothing_later(returns: np.ndarray, form: str) -> None:
    training = of_returns(returns)
    assert_causal(GarchConfig(forms=(form,)).fit(training), training.inputs, 500)  # type: ignore[arg-type]


def test_same_bytes_twice(returns: np.ndarray) -> None:
    assert_deterministic(GarchConfig(), of_returns(returns[:3, :500]))


def test_is_a_forecaster_whose_quantiles_are_in_order(returns: np.ndarray) -> None:
    gaps = returns.copy()
    gaps[1, 300:330] = np.nan
    training = of_returns(gaps)
    fitted = GarchConfig().fit(training)
    assert isinstance(fitted, Fitted)
    assert_in_order(fitted, training)


def test_scale_follows_the_planted_variance() -> None:
    returns = garch_returns(6, 1200, 0.20, 0.0, 0.60)  # shorter-lived than the EWMA volatility of .94
    training = of_returns(returns)
    true = parameters(0.02**2 * 0.2, 0.20, 0.0, 0.60)
    planted = np.sqrt(horizon_variance(next_variance(returns, true), true, (1, 5)))
    sigma = GarchConfig().fit(training).forecast(training.inputs).sigma
    ewma = training.inputs.vol[..., None] * np.sqrt([1, 5])
    held = np.isfinite(sigma)
    ours = np.abs(np.log(sigma / planted))[held].mean()
    assert ours < 0.5 * np.abs(np.log(ewma / planted))[held].mean()


def test_tickers_without_a_fit_take_the_pooled_parameters_and_are_counted(returns: np.ndarray) -> None:
    broken = returns.copy()
    broken[0] = 0.0  # constant prices
    broken[1, :-100] = np.nan  # too short
    training = of_returns(broken)
    fitted = GarchConfig(forms=("gjr",)).fit(training)
    reasons = fitted.choices["fallback_reasons"]
    assert reasons["constant prices"] == 1
    assert reasons["fewer than 250 returns"] == 1
    assert fitted.choices["fallback_tickers"] == sum(reasons.values())
    assert fitted.choices["tickers_at_typical_level"] == 2
    pooled = fitted.choices["pooled"]
    assert fitted.parameters.alpha[0] == fitted.parameters.alpha[1] == pooled["alpha"]
    assert_in_order(fitted, training)


def test_constant_prices_everywhere_are_refused(returns: np.ndarray) -> None:
    with pytest.raises(ValueError, match="every return in training is zero: prices are constant"):
        GarchConfig().fit(without(of_returns(returns), returns=np.zeros_like(returns)))


def test_too_short_histories_are_refused(returns: np.ndarray) -> None:
    short = np.full_like(returns, np.nan)
    short[:, -120:] = returns[:, -120:]
    with pytest.raises(ValueError, match=r"no ticker has 250 returns in the first 675 sessions, the most is 0"):
        GarchConfig().fit(without(of_returns(returns), returns=short))


def test_other_tickers_than_in_training_are_refused(returns: np.ndarray) -> None:
    training = of_returns(returns)
    fitted = GarchConfig(forms=("pooled",)).fit(training)
    fewer = Inputs(training.inputs.x[:2], training.inputs.vol[:2], training.inputs.returns[:2])
    with pytest.raises(ValueError, match="2 tickers to forecast and parameters of 6"):
        fitted.forecast(fewer)


def test_a_missing_feature_is_named(returns: np.ndarray) -> None:
    training = of_returns(returns)
    x = training.inputs.x.copy()
    x[..., 1] = np.nan
    with pytest.raises(ValueError, match='feature "b" is not finite in training'):
        GarchConfig().fit(without(training, x=x))


def test_a_horizon_without_targets_is_named(returns: np.ndarray) -> None:
    training = of_returns(returns)
    z = training.z.copy()
    z[:, :, 1] = np.nan
    with pytest.raises(ValueError, match="no known target of horizon 5 in the fit slice of 675 sessions"):
        GarchConfig().fit(replace(training, z=z))
