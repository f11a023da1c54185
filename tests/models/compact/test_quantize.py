"""Ranges of the hidden layers by their own definitions; the head refitted; a channel of zeros."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.compact.integer import body_panel
from models.compact.network import hidden_layers
from models.compact.quantize import output_scale, quantize
from tests.models.compact.networks import random_network, scaled


def error_of(values: np.ndarray, scale: float) -> float:
    """Mean squared error of u8 at a scale, by brute force."""
    return float(((np.clip(np.rint(values / scale), 0, 255) * scale - values) ** 2).mean())


@pytest.fixture(scope="module")
def activations() -> np.ndarray:
    """Half zeros, the rest with a heavy tail."""
    return np.maximum(np.random.default_rng(0).standard_t(3, 200_000), 0).astype(np.float32)


def test_minmax_ends_at_the_largest(activations: np.ndarray) -> None:
    assert output_scale(activations, "minmax") == np.float32(activations.max() / 255)


def test_percentile_is_of_what_is_above_zero(activations: np.ndarray) -> None:
    above = activations[activations > 0]
    saturated = (above > 255 * float(output_scale(activations, "percentile"))).mean()
    assert saturated == pytest.approx(1e-4, abs=2e-5)


def test_mse_finds_nearly_the_least_error_there_is(activations: np.ndarray) -> None:
    found = float(output_scale(activations, "mse"))
    ends = np.linspace(0.02, 1, 300) * float(activations.max())
    assert error_of(activations, found) <= 1.02 * min(error_of(activations, end / 255) for end in ends)
    assert error_of(activations, found) < 0.9 * error_of(activations, float(output_scale(activations, "minmax")))


def test_mse_of_even_activations_ends_where_they_end() -> None:
    even = np.linspace(0, 3, 10_001, dtype=np.float32)
    assert output_scale(even, "mse") == pytest.approx(3 / 255, rel=0.02)


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
def test_a_layer_that_never_fires_has_a_scale(ranges: str) -> None:
    assert output_scale(np.zeros((2, 3), np.float32), ranges) == np.float32(1 / 255)  # type: ignore[arg-type]


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
def test_every_range_gives_the_float_networks_mean(ranges: str) -> None:
    """The refitted head: no output is off on average, and none by much."""
    network, x = random_network(3), scaled(4, 3, 300)
    quantized = quantize(network, x, ranges)  # type: ignore[arg-type]
    exact = hidden_layers(network, x)[-1] @ network.head_weight + network.head_bias
    last, held = quantized.layers[-1], quantized.network
    found = body_panel(quantized, x) * last.output_scale @ held.head_weight + held.head_bias
    np.testing.assert_allclose(found.mean((0, 1)), exact.mean((0, 1)), atol=1e-4)
    assert ((found - exact) ** 2).mean() < 0.01 * exact.var()


def test_layers_of_different_widths() -> None:
    network, x = random_network(5), scaled(6, 2, 200)
    kept = replace(
        network,
        conv_weight=(network.conv_weight[0][:4], network.conv_weight[1][:, :4], network.conv_weight[2][:6]),
        conv_bias=(network.conv_bias[0][:4], network.conv_bias[1], network.conv_bias[2][:6]),
        head_weight=network.head_weight[:6],
    )
    quantized = quantize(kept, x)
    assert [layer.weight.shape[:2] for layer in quantized.layers] == [(4, 6), (8, 4), (6, 8)]
    assert body_panel(quantized, x).shape == (2, 137, 6)


def test_too_short_a_calibration() -> None:
    with pytest.raises(ValueError, match="at least 64 calibration sessions, got 63"):
        quantize(random_network(), scaled(0, 1, 63))
