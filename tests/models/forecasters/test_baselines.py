from __future__ import annotations

import numpy as np
import pytest

from models.decode import QUANTILES
from models.forecasters.baselines import REFRESH_SESSIONS, trailing, unconditional
from models.forecasters.conformal import residual_shape, sigma_factor, weighted_quantiles

KNOWN_AFTER = (2, 6)  # horizons 1 and 5, open to open


def noise(seed: int = 0, sessions: int = 900) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (2, sessions, 2))


def test_trailing_uses_the_last_750_known_targets() -> None:
    z = noise()
    found = trailing(z, z**2, KNOWN_AFTER, start=850)
    # At the close of session 850 the newest known target of horizon 5 was decided at 850 - 6 = 844.
    window = z[:, 845 - 750 : 845, 1]
    np.testing.assert_allclose(found.quantiles[850, 1, 4], np.median(window))
    assert found.sigma[850, 1] == pytest.approx(np.sqrt((window**2).mean()))
    assert found.p_up[850, 1] == pytest.approx((window > 0).mean())
    assert np.isnan(found.sigma[849]).all()


@pytest.mark.parametrize("delay", [0, 1])
def test_trailing_never_reads_an_unknown_target(delay: int) -> None:
    z = noise()
    known_after = (1 + delay, 5 + delay)
    base = trailing(z, z**2, known_after, start=600)
    altered = z.copy()
    altered[:, 700 - delay :, 0] = 99.0  # horizon 1: z[t] is known at the close of t + 1 + delay
    altered[:, 696 - delay :, 1] = 99.0
    after = trailing(altered, altered**2, known_after, start=600)
    for name in ("quantiles", "sigma", "p_up"):
        assert getattr(base, name)[:701].tobytes() == getattr(after, name)[:701].tobytes(), name
    last = 701 + REFRESH_SESSIONS
    assert base.quantiles[:last].tobytes() != after.quantiles[:last].tobytes()


def test_unconditional_by_hand() -> None:
    returns = np.array([-0.02, -0.01, 0.0, 0.01, 0.03]).reshape(1, 5, 1)
    found = unconditional(returns, np.full((1, 5, 1), 0.0001), (4,))
    assert found.quantiles[0, 0, 4] == 0.0
    assert found.sigma[0, 0] == pytest.approx(0.02)
    assert found.p_up[0, 0] == pytest.approx(0.4)


def test_weighted_quantiles_with_equal_weights_are_the_plain_ones() -> None:
    values = np.random.default_rng(1).normal(0, 1, 5000)
    found = weighted_quantiles(values, np.ones(5000))
    np.testing.assert_allclose(found, np.quantile(values, QUANTILES), atol=0.02)
    assert (np.diff(found) > 0).all()


def test_weights_count_as_repetitions() -> None:
    values = np.arange(100.0)
    weight = np.ones(100)
    weight[-1] = 300.0
    assert weighted_quantiles(values, weight)[5] == pytest.approx(99.0, abs=0.5)


def test_calibration_undoes_the_scale() -> None:
    generator = np.random.default_rng(2)
    log_scale = generator.normal(0, 0.3, (40_000, 1))
    z = np.exp(log_scale) * generator.normal(0, 1, (40_000, 1))
    shape = residual_shape(z, log_scale - 0.7, np.ones(40_000))
    np.testing.assert_allclose(shape[0, [2, 6]] / np.exp(0.7), [-1.2816, 1.2816], atol=0.03)
    factor = sigma_factor(np.exp(2 * log_scale), log_scale - 0.7, np.ones(40_000))
    np.testing.assert_allclose(factor, np.exp(0.7))


def test_unknown_targets_do_not_enter_the_calibration() -> None:
    z = np.array([[1.0], [np.nan], [3.0]])
    shape = residual_shape(z, np.zeros((3, 1)), np.ones(3))
    assert shape[0, 4] == pytest.approx(2.0)
    assert sigma_factor(z**2, np.zeros((3, 1)), np.ones(3))[0] == pytest.approx(np.sqrt(5.0))
