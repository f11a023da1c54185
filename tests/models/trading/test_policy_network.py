from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.trading.env import Batch, Markets, Rules
from models.trading.market import Costs, Limits
from models.trading.policy_network import PolicyNetwork, forward, fresh, moments, unflatten

RULES = Rules(Costs(4.0, 1.0), Limits(-0.5, 1.5), length=5)


def market(N: int = 2, K: int = 3) -> Markets:
    generator = np.random.default_rng(4)
    observed = generator.normal(3.0, 2.0, (3, 40, N, K)).astype(np.float32)
    observed[..., -1] = 0.1  # never moves
    observed[:, 38:] = np.nan
    playable = np.repeat(np.arange(40)[None] < 38, 3, axis=0)
    return Markets(np.full((3, 40, N), 10.0), observed, playable)


def test_a_network_by_hand() -> None:
    layers = tuple(
        np.array(layer, dtype=np.float32)
        for layer in ([[1, -1], [2, 0]], [0, 0.5], [[1, 0], [0, 2]], [-1, 0], [[0.5], [0.25]], [0.1])
    )
    network = PolicyNetwork(layers, np.array([1, 0], np.float32), np.array([2, 1], np.float32), 0.0, 2.0)
    # (3, .5) is read as (1, .5); then relu(2, -.5) = (2, 0); relu(1, 0) = (1, 0); tanh(.6) on [0, 2].
    np.testing.assert_allclose(network.target(np.array([[3, 0.5]], np.float32)), [[1 + np.tanh(0.6)]], rtol=1e-6)


def test_a_fresh_network_has_the_shape_and_limits_of_its_task() -> None:
    network = fresh(market(), RULES, seed=1)
    assert [layer.shape for layer in network.layers] == [(9, 32), (32,), (32, 32), (32,), (32, 2), (2,)]
    assert {layer.dtype for layer in network.layers} == {np.dtype(np.float32)}
    seen = Batch(market(), RULES, 50, 0).reset()
    target = network.target(seen)
    assert (target.shape, target.dtype) == ((50, 2), np.dtype(np.float64))
    # A head a tenth as large leaves the first weights round the middle.
    assert np.abs(target - 0.5).max() < 0.5
    assert np.unique(target).size == target.size


def test_weights_stay_within_the_limits_whatever_is_seen() -> None:
    wild = np.random.default_rng(0).normal(0, 1e6, (100, 9)).astype(np.float32)
    target = fresh(market(), RULES, seed=1).target(wild)
    assert target.min() >= -0.5
    assert target.max() <= 1.5


def test_an_observation_is_read_in_units_of_what_training_saw() -> None:
    center, scale = moments(market(), RULES)
    seen = market().observed[:, :38].reshape(-1, 6).astype(np.float64)
    read = (seen - center[:6]) / scale[:6]
    moving = [0, 1, 3, 4]
    np.testing.assert_allclose(read[:, moving].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(read[:, moving].std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(read[:, [2, 5]], 0, atol=1e-6)
    assert scale[[2, 5]].tolist() == [1, 1]
    assert (center[6:].tolist(), scale[6:].tolist()) == ([0.5, 0.5, 0], [1, 1, 1])


@given(st.integers(0, 100))
def test_flat_and_back_is_the_same_network(seed: int) -> None:
    network = fresh(market(), RULES, seed)
    back = network.from_flat(network.flat())
    assert [layer.tobytes() for layer in back.layers] == [layer.tobytes() for layer in network.layers]
    assert network.flat().shape == (9 * 32 + 32 + 32 * 32 + 32 + 32 * 2 + 2,)


def test_too_many_weights_are_an_error() -> None:
    network = fresh(market(), RULES, 0)
    with pytest.raises(ValueError, match="hold 1442 weights, got 1443"):
        network.from_flat(np.zeros(1443, np.float32))


def test_stacked_networks_answer_as_each_alone() -> None:
    networks = [fresh(market(), RULES, seed) for seed in range(3)]
    x = np.random.default_rng(5).standard_normal((3, 7, 9)).astype(np.float32)
    shapes = [layer.shape for layer in networks[0].layers]
    stacked = unflatten(np.stack([network.flat() for network in networks]), shapes)
    together = forward(tuple(layer if layer.ndim == 3 else layer[:, None] for layer in stacked), x)
    alone = np.stack([forward(network.layers, part) for network, part in zip(networks, x, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_network() -> None:
    one, two, other = (fresh(market(), RULES, seed).flat().tobytes() for seed in (3, 3, 4))
    assert one == two != other
