from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet

from models.decode import QUANTILES
from models.forecasters.calibration import logit_above_zero
from models.forecasters.interface import Fitted, Training
from models.forecasters.regression import RegressionConfig, _elastic_nets
from models.forecasters.scale import Z_FLOOR
from tests.models.forecasters.panels import (
    assert_causal,
    assert_deterministic,
    assert_in_order,
    of_returns,
    of_signal,
    r2,
    without,
)


def features(tickers: int, sessions: int, count: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (tickers, sessions, count)).astype(np.float32)


def test_weights_are_those_of_a_weighted_elastic_net() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(0, 1, (400, 5)).astype(np.float32)
    y = x @ [0.5, -0.3, 0, 0, 0.1] + generator.normal(0, 1, 400)
    weight = generator.uniform(0.2, 1, 400)
    penalties = (0.01, 0.3)  # not in descending order
    weights, constants = _elastic_nets(x, y, weight, 0.5, penalties)
    share = weight / weight.sum()
    largest = np.abs((share[:, None] * (x - share @ x)).T @ (y - share @ y)).max() / 0.5
    for at, penalty in enumerate(penalties):
        other = ElasticNet(alpha=largest * penalty, l1_ratio=0.5, tol=1e-10, max_iter=10_000)
        other.fit(x.astype(np.float64), y, sample_weight=weight)
        np.testing.assert_allclose(weights[at], other.coef_, atol=1e-4)
        np.testing.assert_allclose(constants[at], other.intercept_, atol=1e-4)


def test_leaves_out_what_says_nothing() -> None:
    x = features(20, 1000)
    fitted = RegressionConfig(l1_shares=(0.9,), penalties=(0.3, 0.1), location_penalties=()).fit(
        of_signal(0.3 * x[..., 0], x)
    )
    weight = fitted.skip.weight[:, 0]
    assert weight[0] > 0.15
    assert not weight[1:].any()
    assert fitted.choices["features_used"] == [1]


def test_no_location_is_freed_under_noise() -> None:
    for seed in range(4):
        x = features(10, 600, seed=seed)
        fitted = RegressionConfig().fit(of_signal(0.1 * x[..., 0], x, seed))
        assert fitted.choices["location_penalty"] is None
        assert not fitted.location.any()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["scale", "location"])
def test_recovers_a_planted_line(where: str) -> None:
    def panel(seed: int) -> tuple[Training, np.ndarray]:
        x = features(50, 2500, seed=seed)
        line = 0.25 * (x[..., 0] - 0.7 * x[..., 3]) / np.sqrt(1.49)  # about 6 % of the variance of z, or of log|z|
        if where == "scale":
            return of_signal(line, x, seed), line
        return of_signal(np.zeros_like(line), x, seed, location=line), line

    fitted = RegressionConfig().fit(panel(7)[0])
    test, planted = panel(8)
    z = test.z[..., 0]
    target = np.log(np.maximum(np.abs(z), Z_FLOOR)) if where == "scale" else z
    found = fitted.outputs(test.inputs)[..., 0, 1 if where == "scale" else 0]
    attainable = r2(target, planted)
    assert attainable > 0.05
    assert r2(target, found) > 0.8 * attainable


def test_p_up_follows_the_location_where_one_is_freed() -> None:
    x = features(20, 1000)
    training = of_signal(np.zeros(x.shape[:2]), x, location=0.4 * x[..., 0])
    fitted = RegressionConfig().fit(training)
    assert fitted.directed
    p_up = fitted.forecast(training.inputs).p_up[..., 0]
    rising, falling = x[..., 0] > 1, x[..., 0] < -1
    z = training.z[..., 0]
    assert p_up[rising].mean() == pytest.approx(np.nanmean(z[rising] > 0), abs=0.05)
    assert p_up[falling].mean() == pytest.approx(np.nanmean(z[falling] > 0), abs=0.05)


def test_chance_above_zero_by_hand() -> None:
    shape = np.array([[-3.0, -2, -1, -0.5, 0, 0.5, 1, 2, 3]])
    logit = logit_above_zero(np.array([[[0.0], [1.0], [9.0]]]), shape)
    below = np.array([0.5, 0.10, QUANTILES[0]])
    np.testing.assert_allclose(logit[0, :, 0], np.log((1 - below) / below))


def small() -> RegressionConfig:
    return RegressionConfig(l1_shares=(0.5,), penalties=(0.1, 0.01), location_penalties=(1.0,))


def test_reads_nothing_later() -> None:
    x = features(4, 400, 3)
    training = of_signal(0.3 * x[..., 0], x)
    assert_causal(small().fit(training), training.inputs, 250)


def test_same_bytes_twice_and_quantiles_in_order() -> None:
    training = of_returns(np.random.default_rng(0).normal(0, 0.02, (4, 400)))
    assert_deterministic(small(), training)
    fitted = small().fit(training)
    assert isinstance(fitted, Fitted)
    assert_in_order(fitted, training)


def test_features_that_never_move_are_recorded_or_refused() -> None:
    x = features(3, 300, 3)
    x[..., 1] = 0.0
    training = of_signal(0.1 * x[..., 0], x)
    fitted = small().fit(training)
    assert fitted.choices["constant_features"] == ["b"]
    assert fitted.skip.weight[1, 0] == 0
    with pytest.raises(ValueError, match="all 3 features are constant in training"):
        small().fit(without(training, x=np.zeros_like(x)))
    x[0, 0, 2] = np.nan
    with pytest.raises(ValueError, match='feature "c" is not finite'):
        small().fit(without(training, x=x))
