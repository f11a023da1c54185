"""The integer reference: fixed point by hand and by exact rational arithmetic, window equals panel."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compact import integer, numpy_graph
from models.compact.integer import QuantizedLayer
from models.compact.quantize import quantize
from models.receptive_field import DILATIONS
from tests.models.compact.networks import random_network, scaled


def layer_of(factor: float, channels: int = 1) -> QuantizedLayer:
    """One layer whose factor is `factor`; its weights do not matter."""
    return QuantizedLayer(
        np.zeros((channels, 1, 4), np.int8), np.full(channels, factor, np.float32), np.zeros(channels, np.int32),
        np.float32(1), np.uint8(0), np.float32(1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "mantissa", "shift"), [(0.5, 2**30, 0), (0.75, 3 * 2**29, 0), (1.0, 2**30, -1), (2.0**-9, 2**30, 8)]
)
def test_fixed_point_by_hand(factor: float, mantissa: int, shift: int) -> None:
    assert [int(part[0]) for part in integer.fixed_point(layer_of(factor))] == [mantissa, shift]


@given(st.floats(2.0**-20, 8, width=32))
def test_fixed_point_is_the_factor(factor: float) -> None:
    mantissa, shift = integer.fixed_point(layer_of(factor))
    assert 2**30 <= mantissa[0] < 2**31
    assert float(mantissa[0]) / 2.0**31 * 2.0 ** -float(shift[0]) == np.float32(factor)


@given(st.integers(-(2**31), 2**31 - 1), st.floats(2.0**-20, 4, width=32))
def test_fixed_point_rounds_the_exact_product_once(total: int, factor: float) -> None:
    """Rational arithmetic as the oracle; a half goes up."""
    expected = min(max(floor(total * Fraction(float(np.float32(factor))) + Fraction(1, 2)), 0), 255)
    assert int(integer.requantize_fixed(np.array([total], np.int32), layer_of(factor))[0]) == expected


@pytest.mark.parametrize(
    ("total", "expected"), [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (7, 4), (-1, 0), (-9, 0), (509, 254), (511, 255)]
)
def test_float_requantization_rounds_half_to_even_and_saturates(total: int, expected: int) -> None:
    assert int(integer.requantize(np.array([total], np.int32), layer_of(0.5))[0]) == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 8, 32]), st.integers(1, 9), st.floats(0.5, 4))
def test_fixed_point_is_within_two_steps_at_every_layer(seed: int, width: int, body: int, spread: float) -> None:
    network = random_network(seed, width, body)
    quantized = quantize(network, scaled(seed + 1, 2, 150))
    x = np.clip(scaled(seed + 2, 2, 90) * spread, -5, 5).astype(np.float32)[..., network.body_features]
    codes = integer.quantize_input(x, quantized.layers[0])
    exact = integer.hidden_panel(quantized.layers, codes)
    fixed = integer.hidden_panel(quantized.layers, codes, integer.requantize_fixed)
    inputs = [codes, *exact[:-1]]
    for i, (layer, dilation) in enumerate(zip(quantized.layers, DILATIONS, strict=True)):
        assert np.abs(exact[i].astype(int) - fixed[i]).max() <= 2, i
        alone = integer.requantize_fixed(integer.accumulate(inputs[i], layer, dilation), layer)
        assert np.abs(exact[i].astype(int) - alone).max() <= 1, i


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 32]), st.integers(1, 9), st.integers(64, 90))
def test_a_window_is_its_cell_of_the_panel_at_every_layer(seed: int, width: int, body: int, length: int) -> None:
    network = random_network(seed, width, body)
    quantized = quantize(network, scaled(seed + 1, 1, 100))
    codes = np.random.default_rng(seed).integers(0, 256, (2, length, body), dtype=np.uint8)
    panel = integer.hidden_panel(quantized.layers, codes)
    windows = np.lib.stride_tricks.sliding_window_view(codes, 64, axis=1).transpose(0, 1, 3, 2)  # (N, S, 64, Fb)
    found = integer.hidden_window(quantized.layers, windows.reshape(-1, 64, body))
    assert [part.shape[1:] for part in found] == [(16, width), (4, width), (1, width)]
    starts = np.arange(length - 63)  # a window's first session
    for layer, positions, span in ((0, 16, 4), (1, 4, 16), (2, 1, 64)):
        at = starts[:, None] + span * np.arange(positions)  # (S, P) in the layer's own time
        expected = panel[layer][:, at].reshape(-1, positions, width)
        np.testing.assert_array_equal(found[layer], expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1, 8, 64, 140]), st.sampled_from([1, 4, 16]),
    st.sampled_from([0, 127, 255]), st.booleans(),
)  # fmt: skip
def test_floating_point_products_are_the_integers(
    seed: int, channels: int, inputs: int, dilation: int, zero: int, extreme: bool
) -> None:
    """Extreme weights and inputs reach the largest sums there are: beyond 2^24, where float32 would not do."""
    generator = np.random.default_rng(seed)
    shape = (channels, inputs, 4)
    weight = generator.choice([-127, 127], shape) if extreme else generator.integers(-127, 128, shape)
    x = generator.choice([0, 255], (2, 52, inputs)) if extreme else generator.integers(0, 256, (2, 52, inputs))
    layer = QuantizedLayer(
        weight.astype(np.int8), np.ones(channels, np.float32),
        generator.integers(-(2**30), 2**30, channels, dtype=np.int32), np.float32(1), np.uint8(zero), np.float32(1),
    )  # fmt: skip
    found = numpy_graph.accumulate(x.astype(np.uint8), layer, dilation)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, integer.accumulate(x.astype(np.uint8), layer, dilation))


def test_sums_that_float32_cannot_hold_are_exact() -> None:
    layer = QuantizedLayer(
        np.full((1, 140, 4), 127, np.int8), np.ones(1, np.float32), np.zeros(1, np.int32), np.float32(1), np.uint8(0),
        np.float32(1),
    )  # fmt: skip
    x = np.full((1, 4, 140), 255, np.uint8)
    x[0, 0, 0] = 254
    assert int(numpy_graph.accumulate(x, layer, 1)[0, 0, 0]) == 560 * 255 * 127 - 127 > 2**24
