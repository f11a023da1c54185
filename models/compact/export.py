"""One weight set, two ONNX graphs (IR 10, opset 21): a window for the latest session, a panel for history.

window: x (B, 64, Fb) float32, last (B, F) float32 -> y (B, H, 4). The field of the three convolutions does not
overlap inside one window, so they are three reshapes and matrix products: 64 -> 16 -> 4 -> 1 positions.
panel: x (N, Fb, T) float32, last (N, T - 63, F) float32 -> y (N, T - 63, H, 4): three dilated convolutions.

The body is written in QDQ form, which ONNX Runtime fuses to QGemm and QLinearConv; head, skip and add are float.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.compact.integer import QuantizedLayer, QuantizedNetwork
from models.compact.network import DILATIONS, FIELD, KERNEL, Network

IR_VERSION = 10
OPSET = 21


def window_graph(source: Network | QuantizedNetwork) -> onnx.ModelProto:
    """The graph of one window a row."""
    network, layers = _parts(source)
    graph = _Graph()
    value, positions = "x", FIELD
    if layers:
        value = graph.quantize(value, layers[0].input_scale, layers[0].input_zero_point, "x_q")
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
    body = graph.node("Gemm", [value, *_head(graph, network)])  # (B, H * 4)
    skip = graph.node("MatMul", ["last", graph.constant("skip_weight", network.skip_weight)])
    _outputs(graph, body, skip, (-1, len(network.skip_bias) // 4, 4))
    dims = (["B", FIELD, len(network.body_features)], ["B", len(network.skip_weight)])
    return graph.model("window", dims, ["B", len(network.skip_bias) // 4, 4])


def panel_graph(source: Network | QuantizedNetwork) -> onnx.ModelProto:
    """The graph of whole histories, one forecast at every session from the 64th."""
    network, layers = _parts(source)
    graph = _Graph()
    value = "x"
    if layers:
        value = graph.quantize(value, layers[0].input_scale, layers[0].input_zero_point, "x_q")
    for i, (weight, dilation) in enumerate(zip(network.conv_weight, DILATIONS, strict=True)):
        attributes: dict[str, Any] = {"dilations": [dilation], "kernel_shape": [KERNEL]}
        if layers:
            value = graph.conv_int8(value, layers[i], i, attributes)
        else:
            operands = [value, graph.constant(f"w_{i}", weight), graph.constant(f"b_{i}", network.conv_bias[i])]
            value = graph.node("Relu", [graph.node("Conv", operands, **attributes)])
    if layers:
        value = graph.dequantize(value, layers[-1].output_scale, np.uint8(0), "body")
    value = graph.node("Transpose", [value], perm=[0, 2, 1])  # (N, T - 63, C)
    weight_name, bias_name = _head(graph, network)
    body = graph.node("Add", [graph.node("MatMul", [value, weight_name]), bias_name])
    skip = graph.node("MatMul", ["last", graph.constant("skip_weight", network.skip_weight)])
    _outputs(graph, body, skip, (0, 0, len(network.skip_bias) // 4, 4))
    dims = (["N", len(network.body_features), "T"], ["N", "S", len(network.skip_weight)])
    return graph.model("panel", dims, ["N", "S", len(network.skip_bias) // 4, 4])


def with_body(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that also puts out the last integer layer, `hidden_2_q`: (B, C) or (N, C, T - 63) u8."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info("hidden_2_q", TensorProto.UINT8, None))
    return copy


def save(model: onnx.ModelProto, path: Path) -> None:
    """Check and write one self-contained file."""
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _parts(source: Network | QuantizedNetwork) -> tuple[Network, tuple[QuantizedLayer, ...]]:
    return (source.network, source.layers) if isinstance(source, QuantizedNetwork) else (source, ())


def _head(graph: _Graph, network: Network) -> tuple[str, str]:
    bias = network.head_bias + network.skip_bias
    return graph.constant("head_weight", network.head_weight), graph.constant("head_bias", bias)


def _outputs(graph: _Graph, body: str, skip: str, shape: tuple[int, ...]) -> None:
    graph.reshape(graph.node("Add", [body, skip]), shape, "y")


@dataclass
class _Graph:
    """Nodes and initializers in the order of writing; every name is given here."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: Any) -> str:
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{len(self.nodes)}_{kind}", **attributes))
        return output

    def reshape(self, value: str, shape: tuple[int, ...], output: str) -> str:
        return self.node("Reshape", [value, self.constant(f"{output}_shape", np.asarray(shape, np.int64))], output)

    def quantize(self, value: str, scale: np.float32, zero_point: np.uint8, output: str) -> str:
        operands = [value, self.constant(f"{output}_scale", scale), self.constant(f"{output}_zero", zero_point)]
        return self.node("QuantizeLinear", operands, output)

    def dequantize(self, value: str, scale: Any, zero_point: Any, output: str, **attributes: Any) -> str:
        operands = [value, self.constant(f"{output}_scale", scale), self.constant(f"{output}_zero", zero_point)]
        return self.node("DequantizeLinear", operands, output, **attributes)

    def gemm_int8(self, value: str, layer: QuantizedLayer, i: int) -> str:
        rows = layer.weight.transpose(2, 1, 0).reshape(-1, layer.weight.shape[0])  # (4 * C_in, C_out)
        operands = self._dequantized(value, layer, i, rows, axis=1)
        return self.quantize(self.node("Gemm", operands), layer.output_scale, np.uint8(0), f"hidden_{i}_q")

    def conv_int8(self, value: str, layer: QuantizedLayer, i: int, attributes: dict[str, Any]) -> str:
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

    def model(self, name: str, inputs: tuple[list[Any], list[Any]], output: list[Any]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            name,
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs[0]),
                helper.make_tensor_value_info("last", TensorProto.FLOAT, inputs[1]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, producer_name="tradewind")
