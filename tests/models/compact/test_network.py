"""The float student in NumPy: kept to the bit by save and load, deaf to the future, one function in two forms."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compact.network import Network, hidden_layers
from models.receptive_field import DILATIONS, FIELD, KERNEL

WIDTH, BODY, FEATURES, HORIZONS = 4, 3, 5, 2


def network(seed: int = 0) -> Network:
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.5, shape).astype(np.float32)

    return Network(
        conv_weight=(normal(WIDTH, BODY, KERNEL), normal(WIDTH, WIDTH, KERNEL), normal(WIDTH, WIDTH, KERNEL)),
        conv_bias=(normal(WIDTH), normal(WIDTH), normal(WIDTH)),
        head_weight=normal(WIDTH, HORIZONS * 4),
        head_bias=normal(HORIZONS * 4),
        skip_weight=normal(FEATURES, HORIZONS * 4),
        skip_bias=normal(HORIZONS * 4),
        body_features=np.array([4, 0, 2], dtype=np.int64),
    )


def scaled(seed: int, n: int, t: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, t, FEATURES)).astype(np.float32)


def by_definition(held: Network, x: np.ndarray, n: int, t: int) -> np.ndarray:
    """One cell straight from the definition, in float64, with a recursion instead of arrays."""

    def hidden(layer: int, at: int) -> np.ndarray:
        if layer < 0:
            return x[n, at, held.body_features].astype(np.float64)
        total = held.conv_bias[layer].astype(np.float64)
        for tap in range(KERNEL):
            past = at - (KERNEL - 1 - tap) * DILATIONS[layer]
            total = total + held.conv_weight[layer][:, :, tap] @ hidden(layer - 1, past)
        return np.maximum(total, 0)

    y = hidden(2, t) @ held.head_weight + held.head_bias + x[n, t] @ held.skip_weight + held.skip_bias
    return y.reshape(HORIZONS, 4)


def test_the_receptive_field_is_what_the_dilations_make_it() -> None:
    assert 1 + (KERNEL - 1) * sum(DILATIONS) == FIELD


def test_the_panel_is_the_definition() -> None:
    held, x = network(), scaled(1, 2, 70)
    y = held.forward_panel(x)
    assert (y.shape, y.dtype) == ((2, 70 - FIELD + 1, HORIZONS, 4), np.float32)
    for n, t in ((0, 63), (1, 66), (1, 69)):
        np.testing.assert_allclose(y[n, t - FIELD + 1], by_definition(held, x, n, t), atol=1e-5)


def test_a_window_is_its_cell_of_the_panel() -> None:
    held, x = network(), scaled(1, 2, 80)
    panel = held.forward_panel(x)
    windows = np.stack([x[n, t - FIELD + 1 : t + 1] for n in range(2) for t in range(FIELD - 1, 80)])
    np.testing.assert_allclose(held.forward_window(windows).reshape(panel.shape), panel, atol=1e-6)


def test_layers_before_the_head() -> None:
    layers = hidden_layers(network(), scaled(0, 2, 70))
    assert [layer.shape for layer in layers] == [(2, 67, WIDTH), (2, 55, WIDTH), (2, 7, WIDTH)]
    assert all((layer >= 0).all() for layer in layers)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(64, 90), st.data())
def test_a_change_reaches_only_its_own_ticker_and_the_next_63_sessions(seed: int, t: int, data: st.DataObject) -> None:
    held, x = network(seed), scaled(seed + 1, 3, t)
    changed = data.draw(st.integers(0, t - 1))
    altered = x.copy()
    altered[1, changed] += 3
    before, after = held.forward_panel(x), held.forward_panel(altered)
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    session = np.arange(FIELD - 1, t)
    reached = (session >= changed) & (session < changed + FIELD)
    np.testing.assert_array_equal(after[1, ~reached], before[1, ~reached])
    if changed >= FIELD - 1:
        assert (after[1, changed - FIELD + 1] != before[1, changed - FIELD + 1]).any()


def test_later_sessions_do_not_change_earlier_bytes() -> None:
    held, x = network(), scaled(2, 2, 90)
    assert held.forward_panel(x[:, :75]).tobytes() == held.forward_panel(x)[:, : 75 - FIELD + 1].tobytes()


def test_only_the_body_features_reach_the_convolution() -> None:
    held = replace(network(), skip_weight=np.zeros((FEATURES, HORIZONS * 4), np.float32))
    x = scaled(0, 1, 70)
    altered = x.copy()
    altered[..., [1, 3]] += 5
    np.testing.assert_array_equal(held.forward_panel(altered), held.forward_panel(x))


def test_save_and_load_keep_every_bit(tmp_path: Path) -> None:
    held = network()
    held.save(tmp_path / "a.npz")
    held.save(tmp_path / "b.npz")
    back = Network.load(tmp_path / "a.npz")
    for field in fields(Network):
        one, other = getattr(held, field.name), getattr(back, field.name)
        for a, b in zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]:
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    network().save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as held:
        arrays = dict(held)
    np.savez(tmp_path / "b.npz", **(arrays | {"head_bias": np.array([print], dtype=object)}))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Network.load(tmp_path / "b.npz")
