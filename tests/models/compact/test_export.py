"""Window, panel, ONNX Runtime and the NumPy integer reference are one function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compact import export, integer
from models.compact.network import FIELD, Network
from models.compact.quantize import quantize


def random_network(seed: int = 0, width: int = 8, body: int = 6, features: int = 9, horizons: int = 3) -> Network:
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    return Network(
        conv_weight=(normal(width, body, 4), normal(width, width, 4), normal(width, width, 4)),
        conv_bias=tuple(generator.normal(0, 0.1, width).astype(np.float32) for _ in range(3)),
        head_weight=normal(width, horizons * 4),
        head_bias=normal(horizons * 4).ravel(),
        skip_weight=normal(features, horizons * 4),
        skip_bias=normal(horizons * 4).ravel(),
        body_features=np.sort(generator.choice(features, body, replace=False)),
    )


def scaled(seed: int, n: int, t: int, features: int = 9) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).standard_t(4, (n, t, features)), -5, 5).astype(np.float32)


def session(model: onnx.ModelProto, dump: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if dump is not None:
        options.optimized_model_filepath = str(dump)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_panel(model: onnx.ModelProto, network: Network, x: np.ndarray) -> np.ndarray:
    body = np.ascontiguousarray(x[..., network.body_features].transpose(0, 2, 1))
    return session(model).run(None, {"x": body, "last": np.ascontiguousarray(x[:, FIELD - 1 :])})[0]


def run_windows(model: onnx.ModelProto, network: Network, x: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, FIELD, axis=1).transpose(0, 1, 3, 2)  # (N, S, 64, F)
    flat = windows.reshape(-1, FIELD, x.shape[2])
    inputs = {"x": np.ascontiguousarray(flat[..., network.body_features]), "last": np.ascontiguousarray(flat[:, -1])}
    return session(model).run(None, inputs)[0].reshape(x.shape[0], -1, *(network.skip_bias.size // 4, 4))


def test_float_graphs_equal_the_numpy_reference() -> None:
    network, x = random_network(), scaled(1, 3, 90)
    expected = network.forward_panel(x)
    np.testing.assert_allclose(run_panel(export.panel_graph(network), network, x), expected, atol=1e-5)
    np.testing.assert_allclose(run_windows(export.window_graph(network), network, x), expected, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 8, 32]), st.integers(1, 9), st.integers(64, 100))
def test_integer_body_is_the_same_bit_for_bit(seed: int, width: int, body: int, length: int) -> None:
    network, x = random_network(seed, width, body), scaled(seed + 1, 2, length)
    quantized = quantize(network, scaled(seed + 2, 2, 200))
    expected = integer.body_panel(quantized, x)  # (N, S, C)
    chosen = x[..., network.body_features]
    panel = session(export.with_body(export.panel_graph(quantized)))
    inputs = {"x": np.ascontiguousarray(chosen.transpose(0, 2, 1)), "last": np.ascontiguousarray(x[:, FIELD - 1 :])}
    y_panel, hidden = panel.run(["y", "hidden_2_q"], inputs)
    np.testing.assert_array_equal(hidden.transpose(0, 2, 1), expected)
    y_window = run_windows(export.window_graph(quantized), network, x)
    np.testing.assert_allclose(y_window, y_panel, atol=1e-5)
    windows = np.lib.stride_tricks.sliding_window_view(x, FIELD, axis=1).transpose(0, 1, 3, 2)
    flat = np.ascontiguousarray(windows.reshape(-1, FIELD, x.shape[2])[..., network.body_features])
    body_run = session(export.with_body(export.window_graph(quantized)))
    last = np.ascontiguousarray(x[:, FIELD - 1 :].reshape(-1, x.shape[2]))
    hidden_window = body_run.run(["hidden_2_q"], {"x": flat, "last": last})[0]
    np.testing.assert_array_equal(hidden_window, expected.reshape(-1, width))


def test_int8_is_close_to_float() -> None:
    network, x = random_network(3, width=32), scaled(4, 8, 200)
    quantized = quantize(network, scaled(5, 8, 400))
    exact = run_panel(export.panel_graph(network), network, x)
    found = run_panel(export.panel_graph(quantized), network, x)
    residual = ((found - exact) ** 2).mean((0, 1)) / exact.var((0, 1))
    assert (1 - residual).min() > 0.999


def test_onnx_runtime_fuses_the_body(tmp_path: Path) -> None:
    quantized = quantize(random_network(), scaled(5, 2, 200))
    for graph, fused in ((export.window_graph(quantized), "QGemm"), (export.panel_graph(quantized), "QLinearConv")):
        session(graph, tmp_path / "optimized.onnx")
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        assert kinds.count(fused) == 3, kinds
        assert kinds.count("QuantizeLinear") == 1, kinds
        assert kinds.count("DequantizeLinear") == 1, kinds


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
