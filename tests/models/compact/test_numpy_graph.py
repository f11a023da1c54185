"""The graphs in NumPy are the graphs in ONNX Runtime, from the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compact import export, integer
from models.compact.bundle import BundleError
from models.compact.numpy_graph import NumpyGraph
from models.compact.onnx_graph import OnnxGraph
from models.compact.quantize import quantize
from models.receptive_field import FIELD
from tests.models.compact.networks import random_network, scaled


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 8, 32]), st.integers(1, 9), st.integers(64, 90), st.booleans())
def test_both_runtimes_agree(
    tmp_path_factory: pytest.TempPathFactory, seed: int, width: int, body: int, length: int, integers: bool
) -> None:
    directory = tmp_path_factory.mktemp("graphs")
    network, x = random_network(seed, width, body), scaled(seed + 1, 2, length)
    source = quantize(network, scaled(seed + 2, 2, 100)) if integers else network
    chosen = x[..., network.body_features]
    expected = network.forward_panel(x)
    for coded in (False, True) if integers else (False,):
        inputs = integer.quantize_input(chosen, source.layers[0]) if coded else chosen
        for name, graph, of, last in (
            ("panel", export.panel_graph, inputs, x[:, FIELD - 1 :]),
            ("window", export.window_graph, inputs[:, :FIELD], x[:, FIELD - 1]),
        ):
            path = directory / f"{name}_{coded}.onnx"
            export.save(graph(source, coded), path)
            found = NumpyGraph(path)(of, last)
            np.testing.assert_allclose(found, OnnxGraph(path)(of, last), atol=1e-5)
            if not integers:
                np.testing.assert_allclose(found, expected if name == "panel" else expected[:, 0], atol=1e-5)


def test_the_integers_read_back_are_those_written(tmp_path: Path) -> None:
    quantized = quantize(random_network(), scaled(1, 2, 100))
    for name, graph in (("panel", export.panel_graph), ("window", export.window_graph)):
        for coded in (False, True):
            export.save(graph(quantized, coded), tmp_path / f"{name}.onnx")
            for found, written in zip(NumpyGraph(tmp_path / f"{name}.onnx").layers, quantized.layers, strict=True):
                for field in ("weight", "weight_scale", "bias", "input_scale", "input_zero_point", "output_scale"):
                    np.testing.assert_array_equal(getattr(found, field), getattr(written, field), strict=True)


def test_a_graph_of_something_else_is_named(tmp_path: Path) -> None:
    model = export.window_graph(random_network())
    kept = [constant for constant in model.graph.initializer if constant.name != "skip_weight"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"g\.onnx is no graph of a student: it has no constant 'skip_weight'"):
        NumpyGraph(tmp_path / "g.onnx")
