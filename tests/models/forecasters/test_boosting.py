from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from models.forecasters.boosting import BoostingConfig, _Fit
from models.forecasters.foundation import fit_foundation
from models.forecasters.interface import Fitted
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

SMALL = BoostingConfig(alphas=(300.0,), iterations=20, step=10, leaf_rows=50, learning_rate=0.1)


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    with threadpool_limits(1):
        yield


def features(tickers: int, sessions: int, count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (tickers, sessions, count)).astype(np.float32)


def interaction(x: np.ndarray, strength: float = 0.25) -> np.ndarray:
    """The sign of one feature decides that of another: no line sees anything of it."""
    return strength * np.sign(x[..., 0]) * x[..., 1]


@pytest.mark.slow
def test_finds_an_interaction_that_the_skip_cannot() -> None:
    x, unseen = features(50, 2500, seed=2), features(50, 2500, seed=3)
    fitted = BoostingConfig().fit(of_signal(interaction(x), x))
    planted = interaction(unseen)
    test = of_signal(planted, unseen, seed=1)
    target = np.log(np.maximum(np.abs(test.z[..., 0]), Z_FLOOR))
    attainable = r2(target, planted)
    assert attainable > 0.05
    assert r2(target, fitted.outputs(test.inputs)[..., 0, 1]) > 0.8 * attainable
    assert r2(target, fitted.foundation.outputs(unseen)[..., 0, 1]) < 0.01


@pytest.mark.slow
def test_finds_an_interaction_in_the_location() -> None:
    x, unseen = features(50, 1200, seed=2), features(50, 1200, seed=3)
    fitted = BoostingConfig().fit(of_signal(0 * x[..., 0], x, location=interaction(x)))
    planted = interaction(unseen)
    test = of_signal(0 * planted, unseen, seed=1, location=planted)
    attainable = r2(test.z[..., 0], planted)
    assert attainable > 0.05
    assert r2(test.z[..., 0], fitted.outputs(test.inputs)[..., 0, 0]) > 0.8 * attainable
    p_up = fitted.forecast(test.inputs).p_up[..., 0]
    rising = test.z[..., 0] > 0
    for low, high in ((0.3, 0.45), (0.45, 0.55), (0.55, 0.7)):
        within = (p_up > low) & (p_up < high)
        assert within.sum() > 2000
        assert rising[within].mean() == pytest.approx(p_up[within].mean(), abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_noise_frees_no_location(seed: int) -> None:
    x = features(10, 600, seed=seed)
    fitted = SMALL.fit(of_signal(0.2 * x[..., 0], x, seed=seed))
    assert fitted.choices["location_weight"] == 0
    assert not fitted.outputs(of_signal(x[..., 0], x).inputs)[..., 0].any()


def test_location_of_none_is_never_tried() -> None:
    x = features(10, 600)
    training = of_signal(0 * x[..., 0], x, location=interaction(x, 0.8))
    assert SMALL.fit(training).choices["location_weight"] > 0
    assert replace(SMALL, location_weights=()).fit(training).location.models == ()


def test_noise_leaves_the_skip_nearly_as_it_was() -> None:
    x = features(10, 600)
    training = of_signal(0.2 * x[..., 0], x)
    fitted = SMALL.fit(training)
    y, skip = fitted.outputs(training.inputs), fitted.foundation.outputs(x)
    assert np.abs(y[..., 1] - skip[..., 1]).mean() < 0.03


def test_skip_alone_where_validation_says_so() -> None:
    x = features(4, 300)
    training = of_signal(0.2 * x[..., 0], x)
    fitted = BoostingConfig(alphas=(300.0,), weights=(0.0,), iterations=10).fit(training)
    assert fitted.choices["weight"] == 0
    assert fitted.choices["iterations"] == 0
    assert fitted.scale.models == ()
    np.testing.assert_array_equal(fitted.outputs(training.inputs), fitted.foundation.outputs(x).astype(np.float64))


def test_addition_has_no_level_of_its_own() -> None:
    x = features(10, 600)
    training = of_signal(interaction(x, 0.5), x)
    fitted = SMALL.fit(training)
    assert fitted.choices["weight"] > 0
    known = np.isfinite(training.z).any(-1)
    added = fitted.outputs(training.inputs) - fitted.foundation.outputs(x)
    assert abs(added[known][..., 1].mean()) < 1e-6
    np.testing.assert_array_equal(added[..., 1], added[..., 2])
    assert not added[..., 0].any()
    assert not added[..., 3].any()


def test_of_many_rows_evenly_spaced_sessions_are_kept() -> None:
    x = features(10, 600)
    training = of_signal(interaction(x, 0.5), x)
    config = BoostingConfig(alphas=(300.0,), leaf_rows=30, learning_rate=0.1, rows=1500)
    foundation = fit_foundation(training, 600, 300.0)
    z = training.z.copy()
    z[:, np.arange(600) % 4 != 3] *= 100  # 5,990 rows are four times too many: every fourth session stays, the last one
    trees, same = (
        _Fit(config, each)._scale_trees(foundation, 600, 10)[0] for each in (training, replace(training, z=z))
    )
    assert trees.predict(x.reshape(-1, 4)).tobytes() == same.predict(x.reshape(-1, 4)).tobytes()


def test_reads_nothing_later() -> None:
    x = features(4, 400)
    training = of_signal(interaction(x, 0.6), x)
    fitted = SMALL.fit(training)
    assert fitted.scale.models
    assert_causal(fitted, training.inputs, 250)


def test_same_bytes_twice() -> None:
    x = features(4, 300)
    assert_deterministic(SMALL, of_signal(interaction(x, 0.6), x))


def test_is_a_forecaster_whose_quantiles_are_in_order() -> None:
    training = of_returns(np.random.default_rng(0).normal(0, 0.02, (4, 400)))
    fitted = BoostingConfig(alphas=(300.0,), weights=(0.5,), iterations=10).fit(training)
    assert isinstance(fitted, Fitted)
    assert fitted.choices["weight"] == 0.5
    assert_in_order(fitted, training)


def test_features_that_never_move_are_recorded_or_refused() -> None:
    x = features(3, 300)
    x[..., 1] = 0.0
    training = of_signal(0.1 * x[..., 0], x)
    assert SMALL.fit(training).choices["constant_features"] == ["b"]
    with pytest.raises(ValueError, match="all 4 features are constant in training"):
        SMALL.fit(without(training, x=np.zeros_like(x)))
    x[0, 0, 2] = np.nan
    with pytest.raises(ValueError, match='feature "c" is not finite'):
        SMALL.fit(without(training, x=x))
