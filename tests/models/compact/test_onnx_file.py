"""The reader of ONNX files against the `onnx` package, and on files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.compact import export, onnx_file
from models.compact.bundle import BundleError
from models.compact.quantize import quantize
from tests.models.compact.networks import random_network, scaled


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    node = helper.make_node("Identity", ["x"], ["y"], name="first")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", "y")]
    path.write_bytes(
        helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], constants)).SerializeToString()
    )
    return path


@pytest.mark.parametrize("graph", [export.window_graph, export.panel_graph])
@pytest.mark.parametrize("integers", [True, False])
def test_a_shipped_graph_is_read_as_onnx_reads_it(graph: object, integers: bool, tmp_path: Path) -> None:
    network = random_network()
    model = graph(quantize(network, scaled(1, 2, 100)) if integers else network)  # type: ignore[operator]
    export.save(model, tmp_path / "g.onnx")
    found = onnx_file.read(tmp_path / "g.onnx")
    assert found.kinds == tuple(node.op_type for node in model.graph.node)
    assert set(found.constants) == {constant.name for constant in model.graph.initializer}
    for constant in model.graph.initializer:
        expected = numpy_helper.to_array(constant)
        assert found.constants[constant.name].dtype == expected.dtype
        np.testing.assert_array_equal(found.constants[constant.name], expected)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text("abcé_", min_size=1, max_size=5), st.sampled_from(list("fBbil")), max_size=4),
    st.lists(st.integers(0, 200), max_size=3), st.integers(0, 1000),
)  # fmt: skip
def test_any_constants_come_back(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, str], shape: list[int], seed: int
) -> None:
    shape = [n % 5 if i else n for i, n in enumerate(shape)]
    values = np.random.default_rng(seed).integers(-128, 127, shape)
    arrays = {name: np.asarray(values).astype(kind) for name, kind in kinds.items()}
    found = onnx_file.read(write(tmp_path_factory.mktemp("g") / "g.onnx", arrays)).constants
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60))
def test_a_file_that_is_no_model_is_refused_and_never_worse(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("g") / "g.onnx"
    path.write_bytes(b"\x08\x0a" + content)  # ir_version: 10, and then anything
    with pytest.raises(BundleError, match=r"g\.onnx is not an ONNX graph of constants that this program reads"):
        onnx_file.read(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "g.onnx", {"w": np.arange(100, dtype=np.float32)})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BundleError, match=r"g\.onnx is not an ONNX graph of constants that this program reads"):
        onnx_file.read(path)


def test_a_type_that_no_student_has_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "g.onnx", {"w": np.arange(3, dtype=np.float64)})
    with pytest.raises(BundleError, match=r"not an ONNX graph of constants .*KeyError\(11\)"):
        onnx_file.read(path)
