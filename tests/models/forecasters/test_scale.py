from __future__ import annotations

import numpy as np
import pytest

from models.forecasters.scale import fit_scale_skip


def planted(n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (n, 3)).astype(np.float32)
    scale = np.exp(0.3 * x[:, 0] - 0.2 * x[:, 1])
    z = (scale * generator.normal(0, 1, n))[:, None]
    return x, z, np.arange(n, 0, -1, dtype=np.float64)


def test_recovers_a_planted_scale() -> None:
    x, z, age = planted()
    skip = fit_scale_skip(x, z, age, alpha=1.0, half_life=1e9)
    # |z| is floored at .15, which bends the log of small moves: slopes shrink by an
    # eighth, the price of less noise.
    np.testing.assert_allclose(skip.weight[:, 0], [0.3, -0.2, 0.0], atol=0.045)
    correlation = np.corrcoef(skip.log_scale(x)[:, 0], 0.3 * x[:, 0] - 0.2 * x[:, 1])[0, 1]
    assert correlation > 0.995


def test_penalty_shrinks_to_a_constant() -> None:
    x, z, age = planted()
    skip = fit_scale_skip(x, z, age, alpha=1e12, half_life=1e9)
    assert np.abs(skip.weight).max() < 1e-6


def test_rows_without_target_are_left_out() -> None:
    x, z, age = planted(2000)
    gap = z.copy()
    gap[::2] = np.nan
    same = fit_scale_skip(x[1::2], z[1::2], age[1::2], 10.0, 500.0)
    assert fit_scale_skip(x, gap, age, 10.0, 500.0).weight.tobytes() == same.weight.tobytes()


def test_recent_rows_weigh_more() -> None:
    x, z, age = planted()
    z[: len(z) // 2] = z[: len(z) // 2] / np.exp(0.3 * x[: len(z) // 2, :1])  # feature 0 said nothing long ago
    short, long = (fit_scale_skip(x, z, age, 1.0, half_life).weight[0, 0] for half_life in (1000.0, 1e9))
    assert short > 0.22 > 0.18 > long


def test_outputs_are_laid_out_as_the_network_expects() -> None:
    x, z, age = planted(3000)
    skip = fit_scale_skip(x, np.hstack([z, 2 * z]), age, 10.0, 1e9)
    weight, bias = skip.outputs()
    y = (x @ weight + bias).reshape(len(x), 2, 4)
    assert not y[..., 0].any()
    np.testing.assert_allclose(y[..., 1], skip.log_scale(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(y[..., 1], y[..., 2])
    np.testing.assert_allclose(y[..., 3], x @ skip.up_weight + skip.up_bias, atol=1e-5)


def test_a_horizon_without_targets_is_named() -> None:
    x, z, age = planted(100)
    with pytest.raises(ValueError, match="no known target for horizon number 1"):
        fit_scale_skip(x, np.hstack([z, np.full_like(z, np.nan)]), age, 1.0, 100.0)


def test_one_sided_targets_give_a_constant_p_up() -> None:
    x, z, age = planted(500)
    skip = fit_scale_skip(x, np.abs(z), age, 1.0, 100.0)
    assert 1 / (1 + np.exp(-skip.up_bias[0])) == pytest.approx(0.99)
    assert not skip.up_weight.any()
