"""Pruning: silent channels cost nothing, counts by hand, the curve and the choice, and the way back to a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compact import prune
from models.compact.network import Network
from models.compact.prune import Point, PruneConfig
from models.compact.quantize import quantize
from models.forecasters.fit import FitConfig, Supervision, body_outputs, fit
from models.forecasters.tcn import TCN, TCNConfig
from tests.models.compact.networks import random_network, scaled

TRAINING = FitConfig(epochs=2, patience=2, learning_rate=1e-3, weight_decay=0.0, seed=1, chunk=128, device="cpu")
CONFIG = PruneConfig((0.5, 0.25), 0, 0.05, 1, TRAINING)
HORIZONS = 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def supervision(tickers: int = 3, sessions: int = 400, features: int = 5, seed: int = 0) -> Supervision:
    """z's scale follows a mean of the last sessions of the first feature: something for a body to find."""
    generator = np.random.default_rng(seed)
    x = scaled(seed, tickers, sessions, features)
    smooth = np.cumsum(x[..., 0], axis=1)
    signal = np.zeros((tickers, sessions))
    signal[:, 8:] = 0.3 * (smooth[:, 8:] - smooth[:, :-8]) / np.sqrt(8)
    z = np.exp(signal)[..., None] * generator.normal(0, 1, (tickers, sessions, HORIZONS))
    z[:, -5:] = np.nan
    shape = np.tile([-2.3, -1.6, -1.3, -0.7, 0.0, 0.7, 1.3, 1.6, 2.3], (HORIZONS, 1))
    return Supervision(
        torch.tensor(x),
        torch.zeros(tickers, sessions, HORIZONS, 4),
        torch.tensor(z, dtype=torch.float32),
        torch.tensor(shape, dtype=torch.float32),
    )


def random_body(widths: tuple[int, int, int] = (12, 8, 16), features: int = 5, seed: int = 0) -> TCN:
    torch.manual_seed(seed)
    body = TCN(TCNConfig(features, widths, HORIZONS))
    torch.nn.init.normal_(body.head.weight, std=0.1)
    return body


@pytest.fixture(scope="module")
def trained() -> tuple[TCN, Supervision]:
    torch.set_num_threads(1)
    data = supervision()
    torch.manual_seed(0)
    body = TCN(TCNConfig(5, 16, HORIZONS))
    fit(body, data, slice(0, 300), None, replace(TRAINING, epochs=6))
    return body, data


# -- counts ---------------------------------------------------------------------------------------------------


def test_counts_of_the_shipped_shape() -> None:
    assert prune.window_macs(32, (32, 32, 32)) == 64 * 32 * 32 + 16 * 32 * 32 + 4 * 32 * 32 == 86_016
    assert prune.panel_macs(32, (32, 32, 32)) == 3 * 4 * 32 * 32
    assert prune.weight_bytes(32, (32, 32, 32), 3) == 12_288 + 8 * 96 + 4 * 33 * 12


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 32), st.tuples(*[st.integers(1, 40)] * 3))
def test_counts_are_those_of_the_convolutions(inputs: int, widths: tuple[int, int, int]) -> None:
    body = TCN(TCNConfig(inputs, widths, 1))
    kernels = [value for name, value in body.named_parameters() if name.endswith("weight") and "head" not in name]
    assert prune.panel_macs(inputs, widths) == sum(kernel.numel() for kernel in kernels)
    positions = (16, 4, 1)
    expected = sum(kernel.numel() * p for kernel, p in zip(kernels, positions, strict=True))
    assert prune.window_macs(inputs, widths) == expected


# -- cutting --------------------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(4, 4, 4), (8, 4, 12), (12, 8, 4)]))
def test_channels_that_are_silent_leave_without_a_trace(seed: int, widths: tuple[int, int, int]) -> None:
    body, data = random_body(seed=seed), supervision(2, 200)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for convolution, kept in zip(body.convolutions, widths, strict=True):
            silent = generator.permutation(len(convolution.bias))[kept:]  # type: ignore[arg-type]
            convolution.weight[silent] = 0  # type: ignore[operator]
            convolution.bias[silent] = -1  # type: ignore[operator]
    small = prune.prune(body, data, widths, replace(CONFIG, epochs=0))
    assert small.config.width == widths
    x = data.x.numpy()
    np.testing.assert_allclose(body_outputs(small, x), body_outputs(body, x), rtol=1e-5, atol=1e-6)


def test_a_channel_that_never_moves_is_moved_into_the_biases() -> None:
    """It gives the same in every session, and is worth more than nothing: only its mean can keep the outputs."""
    body, data = random_body((8, 8, 8)), supervision(2, 200)
    with torch.no_grad():
        for convolution in body.convolutions:
            convolution.weight[:4] = 0  # type: ignore[operator]
            convolution.bias[:4] = 1e-4  # type: ignore[operator]
            convolution.bias[4:] = 1  # type: ignore[operator]
    small = prune.prune(body, data, (4, 4, 4), replace(CONFIG, epochs=0))
    x = data.x.numpy()
    np.testing.assert_allclose(body_outputs(small, x), body_outputs(body, x), rtol=1e-4, atol=1e-5)


def test_channels_that_nothing_reads_go_first() -> None:
    """However lively they are."""
    body, data = random_body((8, 8, 8)), supervision(2, 200)
    with torch.no_grad():
        body.head.weight[:, ::2] = 0
        body.convolutions[2].weight[::2] *= 10  # type: ignore[index, operator]
    small = prune.prune(body, data, (8, 8, 4), replace(CONFIG, epochs=0))
    x = data.x.numpy()
    np.testing.assert_allclose(body_outputs(small, x), body_outputs(body, x), rtol=1e-5, atol=1e-6)


# -- the curve and the choice ---------------------------------------------------------------------------------


def test_the_curve_falls_in_size_and_begins_with_the_whole(trained: tuple[TCN, Supervision]) -> None:
    body, data = trained
    before = {name: value.clone() for name, value in body.state_dict().items()}
    points = prune.size_curve(body, data, 300, slice(310, 400), 1.0, CONFIG)
    assert points[0].widths == (16, 16, 16)
    assert points[0].loss_percent == 0.0
    macs = [point.window_macs for point in points]
    assert macs == sorted(macs, reverse=True)
    whole = macs[0]
    assert whole / 4 < macs[1] <= whole / 2
    assert macs[2] <= whole / 4
    assert all(width % prune.LANE == 0 for point in points for width in point.widths)
    for point in points:
        assert point.window_macs == prune.window_macs(5, point.widths)
        expected = 100 * (point.pinball / points[0].pinball - 1).mean()
        assert point.loss_percent == pytest.approx(expected)
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())


def test_nothing_outside_the_fit_slice_and_validation_is_read(trained: tuple[TCN, Supervision]) -> None:
    body, data = trained
    altered = replace(data, z=data.z.clone())
    altered.z[:, 300:310] *= 3
    altered.z[:, 360:] *= 3
    one, other = (prune.size_curve(body, each, 300, slice(310, 360), 1.0, CONFIG) for each in (data, altered))
    for a, b in zip(one, other, strict=True):
        assert a.widths == b.widths
        np.testing.assert_array_equal(a.pinball, b.pinball)


def test_a_budget_that_binds_is_a_point_of_its_own(trained: tuple[TCN, Supervision]) -> None:
    body, data = trained
    points = prune.size_curve(body, data, 300, slice(310, 400), 1.0, replace(CONFIG, shares=(), max_macs=9_000))
    assert len(points) == 2
    assert 4_500 < points[1].window_macs <= 9_000


def point(macs: int, loss: float) -> Point:
    return Point((4, 4, 4), macs, macs, macs, np.ones(2), loss)


CURVE = [point(100, 0.0), point(50, -0.02), point(25, 0.02), point(12, 0.2)]


@pytest.mark.parametrize(
    ("budget", "tolerance", "expected"),
    [(0, 0.05, 25), (0, 0.0, 50), (0, 0.03, 50), (0, 1.0, 12), (20, 0.0, 12), (30, 0.1, 25), (100, 0.05, 25)],
)
def test_the_smallest_that_is_good_enough(budget: int, tolerance: float, expected: int) -> None:
    chosen = prune.choose(CURVE, replace(CONFIG, max_macs=budget, tolerance=tolerance))
    assert chosen.window_macs == expected


def test_a_budget_below_every_size() -> None:
    with pytest.raises(ValueError, match=r"smallest body has 12 multiply-adds a window, more than 5; raise max_macs"):
        prune.choose(CURVE, replace(CONFIG, max_macs=5))


def test_training_again_helps(trained: tuple[TCN, Supervision]) -> None:
    body, data = trained
    share = replace(CONFIG, shares=(0.1,))
    _, cut = prune.size_curve(body, data, 300, slice(310, 400), 1.0, replace(share, epochs=0))
    _, again = prune.size_curve(body, data, 300, slice(310, 400), 1.0, replace(share, epochs=4))
    assert cut.widths == again.widths
    assert again.loss_percent < cut.loss_percent


def test_the_same_twice(trained: tuple[TCN, Supervision]) -> None:
    body, data = trained
    first, second = (prune.prune(body, data, (8, 4, 8), CONFIG).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


# -- to a network and back ------------------------------------------------------------------------------------


def network_with(weight: float) -> tuple[Network, Supervision]:
    """A network whose body's mean addition is out, as a student's is, and its own features as supervision."""
    data = supervision(2, 200, features=6)
    network = random_network(2, 8, horizons=HORIZONS)
    return prune.with_body(network, random_body((8, 8, 8), 6), data, weight), data


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_a_network_is_its_body_and_its_weight(weight: float) -> None:
    network, data = network_with(weight)
    again = prune.with_body(network, prune.body_of(network, weight), data, weight)
    for name in ("head_weight", "head_bias"):
        np.testing.assert_allclose(getattr(again, name), getattr(network, name), rtol=1e-5, atol=1e-6)
    for a, b in zip(again.conv_weight, network.conv_weight, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_mean_of_what_is_added_is_out_but_for_the_logit() -> None:
    network, data = network_with(0.5)
    added = 0.5 * body_outputs(prune.body_of(network, 0.5), data.x.numpy())[:, 63:]
    mean = added[:, : 200 - 63 - 5].mean((0, 1))  # where targets are known
    np.testing.assert_allclose(mean[:, :3], 0, atol=1e-6)
    assert (np.abs(mean[:, 3]) > 1e-4).any()


def test_a_pruned_network_is_quantized_like_any_other() -> None:
    network, data = network_with(1.0)
    small = prune.with_body(network, prune.prune(prune.body_of(network, 1.0), data, (8, 4, 4), CONFIG), data, 1.0)
    quantized = quantize(small, scaled(3, 2, 150))
    assert [layer.weight.shape[0] for layer in quantized.layers] == [8, 4, 4]
    assert small.forward_panel(scaled(3, 2, 100)).shape == (2, 37, HORIZONS, 4)
