from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.forecasters.interface import Fitted
from models.forecasters.naive import AlwaysUpConfig, MarketMomentumConfig, direction
from tests.models.forecasters.panels import (
    assert_causal,
    assert_deterministic,
    assert_in_order,
    garch_returns,
    of_returns,
)

CONFIGS = [AlwaysUpConfig(), MarketMomentumConfig(5)]


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return garch_returns(4, 400, 0.1, 0.0, 0.8)


def test_direction_by_hand() -> None:
    returns = np.array([[0.01, np.nan, -0.03, 0.01, np.nan], [0.01, -0.01, -0.01, 0.03, np.nan]])
    # means .01, -.01, -.02, .02, none; sums of two before: none, .01, 0, -.03, 0
    assert direction(returns, 2).tolist() == [True, True, True, False, True]
    assert direction(returns, 1).tolist() == [True, True, False, False, True]
    assert direction(returns, 0).all()


def test_always_up_says_the_share_that_rose(returns: np.ndarray) -> None:
    training = of_returns(returns + 0.004)
    fitted = AlwaysUpConfig().fit(training)
    share = np.nanmean(training.z[..., 0][np.isfinite(training.z[..., 0])] > 0)
    p_up = fitted.forecast(training.inputs).p_up[..., 0]
    np.testing.assert_allclose(p_up[np.isfinite(p_up)], share)
    assert share > 0.52


def test_always_up_says_up_in_a_falling_market(returns: np.ndarray) -> None:
    training = of_returns(returns - 0.01)
    p_up = AlwaysUpConfig().fit(training).forecast(training.inputs).p_up
    np.testing.assert_allclose(p_up[np.isfinite(p_up)], 0.501)


def test_momentum_follows_the_market_and_knows_how_often_it_was_right() -> None:
    generator = np.random.default_rng(0)
    trend = np.repeat(generator.choice([-1.0, 1.0], 40), 20)  # twenty sessions up or down together
    training = of_returns(0.01 * trend + 0.01 * generator.normal(0, 1, (6, 800)))
    fitted = MarketMomentumConfig(5).fit(training)
    p_up = fitted.forecast(training.inputs).p_up[..., 0]
    held = np.isfinite(p_up) & np.isfinite(training.z[..., 0])
    right = (p_up > 0.5)[held] == (training.z[..., 0] > 0)[held]
    assert right.mean() == pytest.approx(fitted.choices["p"]["1"])
    assert right.mean() > 0.65
    assert set(np.unique(p_up[held]).round(12)) == {
        round(float(each), 12) for each in (fitted.hit[0], 1 - fitted.hit[0])
    }


@pytest.mark.parametrize("config", CONFIGS)
def test_is_a_causal_deterministic_forecaster(returns: np.ndarray, config: AlwaysUpConfig) -> None:
    gaps = returns.copy()
    gaps[0, :100] = np.nan
    training = of_returns(gaps)
    fitted = config.fit(training)
    assert isinstance(fitted, Fitted)
    assert_causal(fitted, training.inputs, 250)
    assert_in_order(fitted, training)
    assert_deterministic(config, training)


def test_errors_say_what_is_wrong(returns: np.ndarray) -> None:
    training = of_returns(returns)
    with pytest.raises(ValueError, match="sessions is 0; momentum needs"):
        MarketMomentumConfig(0).fit(training)
    with pytest.raises(ValueError, match="hand in the training slice alone"):
        AlwaysUpConfig().fit(replace(training, z=training.z[:, :-1]))
