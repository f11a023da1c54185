"""Quantization-aware training: its forward pass is the integer network's; it passes where quantizing alone fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.compact.integer import QuantizedNetwork, body_panel
from models.compact.network import Network, hidden_layers
from models.compact.qat import FakeQuantBody, QATConfig, equalized, fake_quantized, train_quantized
from models.compact.quantize import quantize
from tests.models.compact.networks import random_network, scaled

GATE = 0.999


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outputs(quantized: QuantizedNetwork, x: np.ndarray) -> np.ndarray:
    held = quantized.network
    body = body_panel(quantized, x) * quantized.layers[-1].output_scale @ held.head_weight + held.head_bias
    return body + x[:, 63:] @ held.skip_weight + held.skip_bias


def errors(network: Network, quantized: QuantizedNetwork, x: np.ndarray) -> np.ndarray:
    """(12,) one less the centred R2 of each output."""
    exact = network.forward_panel(x).astype(np.float64)
    exact = exact.reshape(*exact.shape[:2], -1)
    return np.asarray(((outputs(quantized, x) - exact) ** 2).mean((0, 1)) / exact.var((0, 1)))


def least_r2(network: Network, quantized: QuantizedNetwork, x: np.ndarray) -> float:
    return float(1 - errors(network, quantized, x).max())


def with_outlier(width: int = 16, gain: float = 200.0) -> Network:
    """One channel of the second layer is `gain` times too large, and read with weights as much too small."""
    network = random_network(0, width)
    weight, bias = [w.copy() for w in network.conv_weight], [b.copy() for b in network.conv_bias]
    weight[1][3] *= gain
    bias[1][3] *= gain
    weight[2][:, 3] /= gain
    return replace(network, conv_weight=tuple(weight), conv_bias=tuple(bias))


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
def test_quantizing_alone_fails_on_an_outlier_channel_and_training_passes(ranges: str) -> None:
    network, x, later = with_outlier(), scaled(1, 4, 500), scaled(2, 3, 300)
    assert least_r2(network, quantize(network, x, ranges), later) < 0.95  # type: ignore[arg-type]
    trained = train_quantized(network, x, config=QATConfig(steps=60))
    assert least_r2(network, trained, later) > GATE


def test_training_brings_the_integer_network_nearer_than_proportion_alone() -> None:
    network, x = with_outlier(), scaled(1, 4, 300)
    started, trained = (train_quantized(network, x, config=QATConfig(steps=n)) for n in (0, 150))
    assert errors(network, trained, x).mean() < 0.85 * errors(network, started, x).mean()


def test_the_same_twice_is_the_same_network() -> None:
    network, x = random_network(1), scaled(2, 2, 150)
    first, second = (train_quantized(network, x, config=QATConfig(steps=5)) for _ in range(2))
    for a, b in zip(first.layers, second.layers, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)
    np.testing.assert_array_equal(first.network.head_weight, second.network.head_weight)


def test_what_is_not_the_body_is_left_alone() -> None:
    network, x = random_network(1), scaled(2, 2, 150)
    found = train_quantized(network, x, config=QATConfig(steps=5)).network
    for name in ("skip_weight", "skip_bias", "body_features"):
        np.testing.assert_array_equal(getattr(found, name), getattr(network, name))


def test_the_forward_pass_is_that_of_the_integers() -> None:
    network, x = random_network(3, 8), scaled(4, 2, 150)
    quantized = quantize(network, x)
    body = FakeQuantBody(network, [layer.output_scale for layer in quantized.layers])
    with torch.no_grad():
        found = body(torch.tensor(x[..., network.body_features])).numpy()
    integers = body_panel(quantized, x) * quantized.layers[-1].output_scale @ network.head_weight
    step = float(quantized.layers[-1].output_scale) * np.abs(network.head_weight).sum(0).max()
    assert (np.abs(found - integers) <= 1e-4).mean() > 0.98  # the rest: a rounding of a half decided otherwise
    assert np.abs(found - integers).max() < 2 * step


def test_equalized_is_the_same_function_with_channels_in_proportion() -> None:
    network, x = with_outlier(), scaled(1, 2, 200)
    found = equalized(network, x)
    np.testing.assert_allclose(found.forward_panel(x), network.forward_panel(x), rtol=1e-3, atol=1e-4)
    largest, before = (hidden_layers(each, x)[1].max((0, 1)) for each in (found, network))
    assert before.max() > 100 * np.median(before)
    assert largest.max() < 10 * np.median(largest)


def test_a_channel_that_nothing_reads_does_not_set_the_range() -> None:
    network, x = with_outlier(gain=1000.0), scaled(1, 4, 400)
    deaf = network.conv_weight[2].copy()
    deaf[:, 3] = 0
    network = replace(network, conv_weight=(*network.conv_weight[:2], deaf))
    assert least_r2(network, quantize(network, x), x) < 0.9
    assert least_r2(network, train_quantized(network, x, config=QATConfig(steps=0)), x) > GATE


def test_a_network_without_a_body_stays_without() -> None:
    network, x = random_network(2), scaled(3, 1, 100)
    silent = replace(
        network,
        conv_weight=tuple(np.zeros_like(w) for w in network.conv_weight),
        conv_bias=tuple(np.zeros_like(b) for b in network.conv_bias),
        head_weight=np.zeros_like(network.head_weight),
    )
    found = outputs(train_quantized(silent, x, config=QATConfig(steps=3)), x)
    np.testing.assert_allclose(found, silent.forward_panel(x).reshape(found.shape), atol=1e-6)


def test_rounding_is_invisible_to_the_gradient_and_saturation_is_not() -> None:
    value = torch.tensor([-1.0, 0.26, 0.74, 60.0], requires_grad=True)
    found = fake_quantized(value, torch.tensor(0.5), 0, 100)
    assert found.tolist() == [0.0, 0.5, 0.5, 50.0]
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None
    assert value.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_too_short_a_calibration() -> None:
    with pytest.raises(ValueError, match="at least 64 calibration sessions, got 63"):
        train_quantized(random_network(), scaled(0, 1, 63))
