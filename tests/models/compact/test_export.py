"""Window, panel, ONNX Runtime and the NumPy integer reference are one function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from models.compact import export, integer
from models.compact.network import Network
from models.compact.onnx_graph import options, saturates
from models.compact.quantize import quantize
from models.receptive_field import FIELD
from tests.models.compact.networks import random_network, scaled


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), options(False), providers=["CPUExecutionProvider"])


def run_panel(model: onnx.ModelProto, network: Network, x: np.ndarray) -> np.ndarray:
    body = np.ascontiguousarray(x[..., network.body_features])
    return session(model).run(None, {"x": body, "last": np.ascontiguousarray(x[:, FIELD - 1 :])})[0]


def run_windows(model: onnx.ModelProto, network: Network, x: np.ndarray) -> np.ndarray:
    flat = windows_of(x)
    inputs = {"x": np.ascontiguousarray(flat[..., network.body_features]), "last": np.ascontiguousarray(flat[:, -1])}
    return session(model).run(None, inputs)[0].reshape(x.shape[0], -1, *(network.skip_bias.size // 4, 4))


def test_float_graphs_equal_the_numpy_reference() -> None:
    network, x = random_network(), scaled(1, 3, 90)
    expected = network.forward_panel(x)
    np.testing.assert_allclose(run_panel(export.panel_graph(network), network, x), expected, atol=1e-5)
    np.testing.assert_allclose(run_windows(export.window_graph(network), network, x), expected, atol=1e-5)


def windows_of(x: np.ndarray) -> np.ndarray:
    """(N, T, K) -> (N * (T - 63), 64, K)."""
    return (
        np.lib.stride_tricks.sliding_window_view(x, FIELD, axis=1).transpose(0, 1, 3, 2).reshape(-1, FIELD, x.shape[2])
    )


def hidden_of(graph: onnx.ModelProto, x: np.ndarray, last: np.ndarray, exact: bool | None = False) -> list[np.ndarray]:
    """y and the three integer layers as ONNX Runtime computes them."""
    held = ort.InferenceSession(
        export.with_hidden(graph).SerializeToString(), options(exact), providers=["CPUExecutionProvider"]
    )
    inputs = {"x": np.ascontiguousarray(x), "last": np.ascontiguousarray(last)}
    return held.run(["y", "hidden_0_q", "hidden_1_q", "hidden_2_q"], inputs)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 8, 32]), st.integers(1, 9), st.integers(64, 100), st.booleans())
def test_every_integer_layer_is_the_reference_bit_for_bit(
    seed: int, width: int, body: int, length: int, exact_products: bool
) -> None:
    """Window and panel, float32 and uint8 input, weights of eight bits signed or (as without VNNI) unsigned."""
    network, x = random_network(seed, width, body), scaled(seed + 1, 2, length)
    quantized = quantize(network, scaled(seed + 2, 2, 200))
    chosen, last = x[..., network.body_features], x[:, FIELD - 1 :]
    codes = integer.quantize_input(chosen, quantized.layers[0])
    panel = integer.hidden_panel(quantized.layers, codes)
    window = integer.hidden_window(quantized.layers, windows_of(codes))
    outputs = []
    for coded, inputs in ((False, chosen), (True, codes)):
        y, *found = hidden_of(export.panel_graph(quantized, coded), inputs, last, exact_products)
        for layer, expected in zip(found, panel, strict=True):
            np.testing.assert_array_equal(layer.transpose(0, 2, 1), expected)
        outputs.append(y)
        rows = last.reshape(-1, x.shape[2])
        y, *found = hidden_of(export.window_graph(quantized, coded), windows_of(inputs), rows, exact_products)
        for layer, expected in zip(found, window, strict=True):
            np.testing.assert_array_equal(layer.reshape(expected.shape), expected)
        outputs.append(y.reshape(outputs[0].shape))
    np.testing.assert_array_equal(outputs[0], outputs[2])
    np.testing.assert_array_equal(outputs[1], outputs[3])
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5)


def test_weights_are_made_unsigned_where_signed_ones_would_saturate(tmp_path: Path) -> None:
    quantized = quantize(random_network(), scaled(5, 2, 200))
    for exact, kind in ((False, TensorProto.INT8), (True, TensorProto.UINT8)):
        for graph in (export.window_graph(quantized), export.panel_graph(quantized, coded=True)):
            held = options(exact)
            held.optimized_model_filepath = str(tmp_path / "optimized.onnx")
            held.log_severity_level = 3  # the file is for this machine alone, as it warns
            ort.InferenceSession(graph.SerializeToString(), held, providers=["CPUExecutionProvider"])
            constants = onnx.load(tmp_path / "optimized.onnx").graph.initializer
            kinds = {c.data_type for c in constants if c.name.startswith("w_") and len(c.dims) > 1}
            assert kinds == {kind}


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "flags\t\t: fpu avx2 avx512f avx512_vnni", False),
        ("AMD64", "processor: 0\nflags : avx2 avx_vnni\n", False),
        ("x86_64", "flags : fpu avx2 avx512f", True),
        ("x86_64", "no such line", True),
        ("x86_64", None, True),
        ("aarch64", None, False),
        ("arm64", "flags : avx2", False),
    ],
)
def test_which_cpus_saturate(tmp_path: Path, machine: str, flags: str | None, expected: bool) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(flags)
    assert saturates(machine, tmp_path / "cpuinfo") is expected


def test_a_float_network_has_no_graph_for_codes() -> None:
    for graph in (export.window_graph, export.panel_graph):
        with pytest.raises(ValueError, match="needs integer layers; quantize the network first"):
            graph(random_network(), coded=True)


def test_int8_is_close_to_float() -> None:
    network, x = random_network(3, width=32), scaled(4, 8, 200)
    quantized = quantize(network, scaled(5, 8, 400))
    exact = run_panel(export.panel_graph(network), network, x)
    found = run_panel(export.panel_graph(quantized), network, x)
    residual = ((found - exact) ** 2).mean((0, 1)) / exact.var((0, 1))
    assert (1 - residual).min() > 0.999


@pytest.mark.parametrize("coded", [False, True])
def test_onnx_runtime_fuses_the_body_and_transposes_nothing(tmp_path: Path, coded: bool) -> None:
    quantized = quantize(random_network(), scaled(5, 2, 200))
    graphs = ((export.window_graph, "QGemm"), (export.panel_graph, "QLinearConv"))
    for graph, fused in graphs:
        held = options(False)
        held.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        held.log_severity_level = 3
        ort.InferenceSession(graph(quantized, coded).SerializeToString(), held, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        assert kinds.count(fused) == 3, kinds
        assert kinds.count("QuantizeLinear") == (0 if coded else 1), kinds
        assert kinds.count("DequantizeLinear") == 1, kinds
        assert "Transpose" not in kinds, kinds


def test_zero_body_exports_too() -> None:
    network = random_network()
    silent = Network(
        conv_weight=tuple(np.zeros_like(w) for w in network.conv_weight),
        conv_bias=tuple(np.zeros_like(b) for b in network.conv_bias),
        head_weight=np.zeros_like(network.head_weight),
        head_bias=np.zeros_like(network.head_bias),
        skip_weight=network.skip_weight,
        skip_bias=network.skip_bias,
        body_features=network.body_features,
    )
    x = scaled(1, 2, 80)
    quantized = quantize(silent, scaled(2, 2, 100))
    expected = silent.forward_panel(x)
    np.testing.assert_allclose(run_panel(export.panel_graph(quantized), silent, x), expected, atol=1e-5)


def test_saved_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    quantized = quantize(random_network(), scaled(5, 2, 200))
    written = []
    for name in ("a.onnx", "b.onnx"):
        export.save(export.panel_graph(quantized), tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_too_few_calibration_sessions_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 64 calibration sessions, got 63"):
        quantize(random_network(), scaled(0, 2, 63))
