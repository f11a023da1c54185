"""The policy as an ONNX graph (IR 10, opset 21), its body quantized as the student's is.

observation (E, D) float32, finite -> weights (E, 1) float32, within the limits. The body is in QDQ form; the scaling
of the inputs, head, skip and clipping are float.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from models.compact.export import Graph
from models.compact.small_policy import REST, STEP, IntegerPolicy
from models.scaling import WINSOR_LIMIT


def policy_graph(policy: IntegerPolicy) -> onnx.ModelProto:
    """The graph, whose constants `models.compact.small_policy.read` reads back."""
    graph, frame = Graph(), policy.frame
    x = graph.node("Sub", ["observation", graph.constant("center", frame.center)])
    x = graph.node("Mul", [x, graph.constant("rate", frame.rate)])
    x = _clipped(graph, x, "x", np.float32(-WINSOR_LIMIT), np.float32(WINSOR_LIMIT))
    first = policy.layers[0]
    value = graph.quantize(_fine(graph, x), first.input_scale, first.input_zero_point, "x_q")
    for i, layer in enumerate(policy.layers):
        value = graph.gemm_int8(value, layer, i)
    body = graph.dequantize(value, policy.layers[-1].output_scale, np.uint8(0), "body")
    bias = graph.constant("bias", np.array([frame.bias], np.float32))
    skip = graph.node("Gemm", [x, graph.constant("skip", frame.skip[:, None]), bias])
    total = graph.node("Gemm", [body, graph.constant("head", frame.head[:, None]), skip])
    _clipped(graph, total, "weights", frame.least, frame.most)
    return graph.model(
        "policy",
        {"observation": (TensorProto.FLOAT, ["E", len(frame.center)])},
        {"weights": (TensorProto.FLOAT, ["E", 1])},
    )


def _fine(graph: Graph, x: str) -> str:
    """`models.compact.small_policy.fine`."""
    step = graph.constant("step", STEP)
    coarse = graph.node("Mul", [graph.node("Round", [graph.node("Div", [x, step])]), step])
    rest = graph.node("Mul", [graph.node("Sub", [x, coarse]), graph.constant("rest", REST)])
    return graph.node("Concat", [coarse, rest], axis=1)


def _clipped(graph: Graph, value: str, name: str, least: np.float32, most: np.float32) -> str:
    above = graph.node("Max", [value, graph.constant(f"{name}_least", least)])
    return graph.node("Min", [above, graph.constant(f"{name}_most", most)], name)
