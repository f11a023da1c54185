"""One weight set, four ONNX graphs (IR 10, opset 21): window and panel, each from float32 and from uint8 features.

window: x (B, 64, Fb), last (B, F) float32 -> y (B, H, 4). The field of the three convolutions does not
overlap inside one window, so they are three reshapes and matrix products: 64 -> 16 -> 4 -> 1 positions.
panel: x (N, T, Fb), last (N, T - 63, F) float32 -> y (N, T - 63, H, 4): three dilated convolutions.

x is scaled float32, or in the `coded` twin the uint8 that the float graph's first node makes of it: same constants,
same integers. The body is written in QDQ form, which ONNX Runtime fuses to QGemm and QLinearConv; head, skip and add
are float. A convolution of ONNX has channels before time; ONNX Runtime's own layout is the other way round, so
that the two transposes around the panel's body cancel and none is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.compact.integer import QuantizedLayer, QuantizedNetwork
from models.compact.network import Network
from models.receptive_field import DILATIONS, FIELD, KERNEL

Dims = Mapping[str, tuple[int, list[Any]]]

IR_VERSION = 10
OPSET = 21


def window_graph(source: Network | QuantizedNetwork, coded: bool = False) -> onnx.ModelProto:
    """The graph of one window a row.

    Raises:
        ValueError: `coded` without integer layers.
    """
    network, layers = _parts(source, coded)
    graph = Graph()
    value, positions = _input(graph, layers, coded), FIELD
    for i, weight in enumerate(network.conv_weight):
        positions //= KERNEL
        value = graph.reshape(value, (-1, KERNEL * weight.shape[1]), f"block_{i}")  # (B * positions, 4 * C_in)
        if layers:
            value = graph.gemm_int8(value, layers[i], i)
        else:
            rows = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])  # (4 * C_in, C_out), oldest tap first
            operands = [value, graph.constant(f"w_{i}", rows), graph.constant(f"b_{i}", network.conv_bias[i])]
            value = graph.node("Relu", [graph.node("Gemm", operands)])
    if layers:
        value = graph.dequantize(value, layers[-1].output_scale, np.uint8(0), "body")
    total = _head(graph, network, value, "last")  # (B, H * 4)
    graph.reshape(total, (-1, len(network.skip_bias) // 4, 4), "y")
    dims = (["B", FIELD, len(network.body_features)], ["B", len(network.skip_weight)])
    return graph.model("window", _inputs(coded, *dims), _output(["B", len(network.skip_bias) // 4, 4]))


def panel_graph(source: Network | QuantizedNetwork, coded: bool = False) -> onnx.ModelProto:
    """The graph of whole histories, one forecast at every session from the 64th.

    Raises:
        ValueError: `coded` without integer layers.
    """
    network, layers = _parts(source, coded)
    graph = Graph()
    value = graph.node("Transpose", [_input(graph, layers, coded)], perm=[0, 2, 1])  # (N, Fb, T)
    for i, (weight, dilation) in enumerate(zip(network.conv_weight, DILATIONS, strict=True)):
        attributes: dict[str, Any] = {"dilations": [dilation], "kernel_shape": [KERNEL]}
        if layers:
            value = graph.conv_int8(value, layers[i], i, attributes)
        else:
            operands = [value, graph.constant(f"w_{i}", weight), graph.constant(f"b_{i}", network.conv_bias[i])]
            value = graph.node("Relu", [graph.node("Conv", operands, **attributes)])
    value = graph.node("Transpose", [value], perm=[0, 2, 1])  # (N, T - 63, C)
    if layers:
        value = graph.dequantize(value, layers[-1].output_scale, np.uint8(0), "body")
    value = graph.reshape(value, (-1, len(network.head_weight)), "body_rows")
    last = graph.reshape("last", (-1, len(network.skip_weight)), "last_rows")
    total = _head(graph, network, value, last)  # (N * (T - 63), H * 4)
    outputs = graph.constant("outputs", np.array([len(network.skip_bias) // 4, 4], np.int64))
    shape = graph.node("Concat", [graph.node("Shape", ["last"], end=2), outputs], axis=0)
    graph.node("Reshape", [total, shape], "y")
    dims = (["N", "T", len(network.body_features)], ["N", "S", len(network.skip_weight)])
    return graph.model("panel", _inputs(coded, *dims), _output(["N", "S", len(network.skip_bias) // 4, 4]))


def with_hidden(model: onnx.ModelProto, layers: int = len(DILATIONS)) -> onnx.ModelProto:
    """A copy that also puts out the integer layers, `hidden_0_q`, `hidden_1_q` and so on.

    u8, window: (B * 16, C), (B * 4, C), (B, C); panel: (N, C, T - 3), (N, C, T - 15), (N, C, T - 63).
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for i in range(layers):
        copy.graph.output.append(helper.make_tensor_value_info(f"hidden_{i}_q", TensorProto.UINT8, None))
    return copy


def save(model: onnx.ModelProto, path: Path) -> None:
    """Check and write one self-contained file."""
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _parts(source: Network | QuantizedNetwork, coded: bool) -> tuple[Network, tuple[QuantizedLayer, ...]]:
    if isinstance(source, QuantizedNetwork):
        return source.network, source.layers
    if coded:
        raise ValueError("a graph that reads uint8 features needs integer layers; quantize the network first")
    return source, ()


def _input(graph: Graph, layers: tuple[QuantizedLayer, ...], coded: bool) -> str:
    if not layers or coded:
        return "x"
    return graph.quantize("x", layers[0].input_scale, layers[0].input_zero_point, "x_q")


def _inputs(coded: bool, x: list[Any], last: list[Any]) -> Dims:
    return {"x": (TensorProto.UINT8 if coded else TensorProto.FLOAT, x), "last": (TensorProto.FLOAT, last)}


def _output(y: list[Any]) -> Dims:
    return {"y": (TensorProto.FLOAT, y)}


def _head(graph: Graph, network: Network, body: str, last: str) -> str:
    """Rows of the body and of the last sessions -> (rows, H * 4). Each product adds what comes before it."""
    bias = graph.constant("head_bias", network.head_bias + network.skip_bias)
    skip = graph.node("Gemm", [last, graph.constant("skip_weight", network.skip_weight), bias])
    return graph.node("Gemm", [body, graph.constant("head_weight", network.head_weight), skip])


@dataclass
class Graph:
    """Nodes and initializers in the order of writing; every name is given here."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: Any) -> str:
        """An initializer of this name; float64 becomes float32."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """A node with one output, named after its kind unless told otherwise."""
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{len(self.nodes)}_{kind}", **attributes))
        return output

    def reshape(self, value: str, shape: tuple[int, ...], output: str) -> str:
        """To a fixed shape, -1 where it follows."""
        return self.node("Reshape", [value, self.constant(f"{output}_shape", np.asarray(shape, np.int64))], output)

    def quantize(self, value: str, scale: np.float32, zero_point: np.uint8, output: str) -> str:
        """float32 -> u8 with one scale."""
        operands = [value, self.constant(f"{output}_scale", scale), self.constant(f"{output}_zero", zero_point)]
        return self.node("QuantizeLinear", operands, output)

    def dequantize(self, value: str, scale: Any, zero_point: Any, output: str, **attributes: Any) -> str:
        """Integers -> float32, with one scale or one a channel."""
        operands = [value, self.constant(f"{output}_scale", scale), self.constant(f"{output}_zero", zero_point)]
        return self.node("DequantizeLinear", operands, output, **attributes)

    def gemm_int8(self, value: str, layer: QuantizedLayer, i: int) -> str:
        """(rows, C_in) u8 dequantized -> (rows, C_out) u8, a QDQ pair round a matrix product."""
        rows = layer.weight.transpose(2, 1, 0).reshape(-1, layer.weight.shape[0])  # (4 * C_in, C_out)
        operands = self._dequantized(value, layer, i, rows, axis=1)
        return self.quantize(self.node("Gemm", operands), layer.output_scale, np.uint8(0), f"hidden_{i}_q")

    def conv_int8(self, value: str, layer: QuantizedLayer, i: int, attributes: dict[str, Any]) -> str:
        """The same round a convolution."""
        operands = self._dequantized(value, layer, i, layer.weight, axis=0)
        total = self.node("Conv", operands, **attributes)
        return self.quantize(total, layer.output_scale, np.uint8(0), f"hidden_{i}_q")

    def _dequantized(self, value: str, layer: QuantizedLayer, i: int, weight: np.ndarray, axis: int) -> list[str]:
        channels = len(layer.bias)
        x = self.dequantize(value, layer.input_scale, layer.input_zero_point, f"in_{i}")
        w = self.dequantize(
            self.constant(f"w_{i}_q", weight), layer.weight_scale, np.zeros(channels, np.int8), f"w_{i}", axis=axis
        )
        unit = (layer.input_scale * layer.weight_scale).astype(np.float32)
        b = self.dequantize(self.constant(f"b_{i}_q", layer.bias), unit, np.zeros(channels, np.int32), f"b_{i}", axis=0)
        return [x, w, b]

    def model(self, name: str, inputs: Dims, outputs: Dims) -> onnx.ModelProto:
        """The graph as a model, its inputs and outputs by name with type and dimensions, a letter where free."""
        held, made = (
            [helper.make_tensor_value_info(each, kind, dims) for each, (kind, dims) in some.items()]
            for some in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, name, held, made, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="tradewind")
