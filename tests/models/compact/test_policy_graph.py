"""The int8 policy: ONNX Runtime, the NumPy reference and the float policy agree, each as closely as it must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.compact import small_policy
from models.compact.bundle import BundleError
from models.compact.export import save, with_hidden
from models.compact.onnx_graph import OnnxGraph, options
from models.compact.policy_graph import policy_graph
from models.compact.policy_quantize import equalized, quantize_policy
from models.compact.quantize import Ranges, input_range
from models.compact.small_policy import BODY_LAYERS, HIDDEN, STEP, FloatPolicy, IntegerPolicy, fine, read
from tests.models.compact import policy_fixture as made

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def shipped() -> dict[int, IntegerPolicy]:
    return {seed: made.integers(seed) for seed in SEEDS}


@pytest.fixture(scope="module")
def sessions(shipped: dict[int, IntegerPolicy]) -> dict[int, Any]:
    found = {}
    for seed, policy in shipped.items():
        content = with_hidden(policy_graph(policy), BODY_LAYERS).SerializeToString()
        found[seed] = onnxruntime.InferenceSession(content, options(), providers=["CPUExecutionProvider"])
    return found


@given(st.integers(0, 10**6), st.integers(1, 20), st.sampled_from([1.0, 3.0, 1e30]), st.sampled_from(SEEDS))
@settings(deadline=None, max_examples=60)
def test_the_integer_body_of_onnx_runtime_is_the_references_to_the_bit(
    shipped: dict[int, IntegerPolicy], sessions: dict[int, Any], draw: int, rows: int, reach: float, seed: int
) -> None:
    seen = (np.random.default_rng(draw).normal(size=(rows, made.K + 2)) * reach).astype(np.float32)
    weights, *hidden = sessions[seed].run(["weights", "hidden_0_q", "hidden_1_q"], {"observation": seen})
    policy = shipped[seed]
    for found, expected in zip(hidden, policy.hidden(policy.frame.inputs(seen)), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(weights, policy.target(seen), atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
def test_int8_wants_what_float_wants_within_a_hundredth_of_the_limit(seed: int, ranges: Ranges) -> None:
    exact = made.policy(seed)
    seen = made.seen(seed + 200, 20_000)
    wanted, found = exact.target(seen), quantize_policy(exact, made.seen(seed + 100, 4000), ranges).target(seen)
    assert np.quantile(np.abs(found - wanted), 0.99) <= 0.01 * (made.MOST - made.LEAST)
    assert wanted.std() > 0.1  # it moves


def test_inputs_of_eleven_bits_matter() -> None:
    """With one code an input, the same policy is further from float than it may be."""
    exact, seen = made.policy(0), made.seen(200, 20_000)
    x = exact.frame.inputs(seen)
    coarse = fine(x)[:, : made.K + 2]
    off = np.abs(exact.frame.weights(x, exact.hidden(coarse)[-1]) - exact.target(seen))
    shown = fine(x)
    both = coarse + np.rint(shown[:, made.K + 2 :] / STEP) * STEP / small_policy.REST
    less = np.abs(exact.frame.weights(x, exact.hidden(both.astype(np.float32))[-1]) - exact.target(seen))
    assert less.mean() < off.mean() / 6


@given(arrays.arrays(np.float32, (7, 3), elements=st.floats(-5, 5, width=32)))
@settings(deadline=None, max_examples=60)
def test_the_two_codes_of_an_input_give_it_back(x: np.ndarray) -> None:
    scale, _ = input_range()
    assert scale == STEP
    coarse, rest = np.split(fine(x), 2, axis=1)
    np.testing.assert_allclose(coarse + rest / small_policy.REST, x, atol=1e-6)
    assert np.abs(rest).max() <= small_policy.REST * STEP / 2 * 1.001  # far from saturation


@given(st.integers(0, 20))
@settings(deadline=None, max_examples=20)
def test_channels_in_proportion_are_the_same_function(seed: int) -> None:
    exact = made.policy(seed)
    x = exact.frame.inputs(made.seen(seed, 300))
    level = equalized(exact, x)
    np.testing.assert_allclose(level.unclipped(x), exact.unclipped(x), atol=1e-4)
    highest = level.hidden(x)[1].max(axis=0)
    np.testing.assert_allclose(highest[highest > 0], 1, rtol=1e-4)


def test_a_channel_that_never_moves_stays_and_divides_by_nothing() -> None:
    exact = made.policy(3)
    (first, bias), second = exact.layers
    dead = replace(exact, layers=((first, np.where(np.arange(HIDDEN) < 4, -1e3, bias).astype(np.float32)), second))
    found = quantize_policy(dead, made.seen(1, 2000))
    assert np.isfinite(found.target(made.seen(2, 500))).all()
    assert (found.hidden(dead.frame.inputs(made.seen(2, 500)))[0][:, :4] == 0).all()


def test_targets_are_within_the_limits_whatever_is_seen(shipped: dict[int, IntegerPolicy], tmp_path: Path) -> None:
    save(policy_graph(shipped[0]), tmp_path / "policy.onnx")
    graph = OnnxGraph(tmp_path / "policy.onnx")
    wild = (made.seen(9, 500) * 1e6).astype(np.float32)
    for found in (graph.run(observation=wild), shipped[0].target(wild), made.policy(0).target(wild)):
        assert found.shape == (500, 1)
        assert made.LEAST <= found.min() < found.max() <= made.MOST


def test_a_column_that_never_moved_in_training_moves_nothing(shipped: dict[int, IntegerPolicy]) -> None:
    seen = made.seen(4, 50)
    other = seen.copy()
    other[:, -1] = 30  # 300 bps
    np.testing.assert_array_equal(shipped[0].target(other), shipped[0].target(seen))


def test_the_file_reads_back_as_the_policy_that_was_written(shipped: dict[int, IntegerPolicy], tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    save(policy_graph(shipped[1]), path)
    seen = made.seen(5, 300)
    again = read(path)
    np.testing.assert_array_equal(again.target(seen), shipped[1].target(seen))
    save(policy_graph(again), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_the_graph_is_of_the_version_of_the_others(shipped: dict[int, IntegerPolicy]) -> None:
    model = policy_graph(shipped[0])
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    kinds = {constant.name: constant.data_type for constant in model.graph.initializer}
    assert (kinds["w_0_q"], kinds["b_0_q"], kinds["x_q_zero"]) == (3, 6, 2)  # s8, s32, u8


def test_onnx_runtime_multiplies_both_layers_in_integers(shipped: dict[int, IntegerPolicy], tmp_path: Path) -> None:
    held = options()
    held.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(policy_graph(shipped[0]).SerializeToString(), held)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QGemm") == BODY_LAYERS


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    from models.compact.export import window_graph
    from tests.models.compact.bundle_fixture import network

    save(window_graph(network()), tmp_path / "policy.onnx")
    with pytest.raises(BundleError, match="no graph of a policy"):
        read(tmp_path / "policy.onnx")


def test_ranges_need_an_observation() -> None:
    with pytest.raises(ValueError, match="at least one observation"):
        quantize_policy(made.policy(), made.seen(0, 0))


def test_the_float_policy_by_hand() -> None:
    frame = small_policy.Frame(
        np.array([1, 0], np.float32), np.array([0.5, 1], np.float32), np.array([2], np.float32),
        np.array([0, 0.25], np.float32), np.float32(0.1), np.float32(0), np.float32(1),
    )  # fmt: skip
    layers = (
        (np.array([[1, 0]], np.float32), np.array([0.2], np.float32)),
        (np.array([[0.5]], np.float32), np.array([0], np.float32)),
    )
    found = FloatPolicy(layers, frame).target(np.array([[1.4, 0.4], [-9, 0.4], [9, 0]], np.float32))
    # x = (.2, .4): hidden .4, .2; .4 + .1 + .1. The second has no hidden; the third is clipped.
    np.testing.assert_allclose(found, [[0.6], [0.2], [1.0]], atol=1e-6)
