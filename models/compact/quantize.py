"""Post-training quantization of the student's body: u8 activations, s8 per-channel weights, s32 biases.

real = scale * (q - zero_point) (Jacob et al. 2018, arXiv 1712.05877, section 2.1). The input range is fixed by
the winsor limit. The range of each hidden layer begins at zero with zero point 0, so that saturation does the work of
ReLU, and ends where training data say:

    minmax      at the largest activation
    percentile  at the 99.99th percentile of the activations above zero (Wu et al. 2020, arXiv 2004.09602, section 5)
    mse         where the mean squared error of quantizing is least (Sung, Shin, Hwang 2015, arXiv 1511.06488)

Head, skip and the last add stay float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.compact.integer import QuantizedLayer, QuantizedNetwork, body_panel
from models.compact.network import Network, hidden_layers
from models.receptive_field import FIELD
from models.scaling import WINSOR_LIMIT

Float32 = npt.NDArray[np.float32]
Ranges = Literal["minmax", "percentile", "mse"]

PERCENTILE = 99.99
TOP = 255
_BINS = 4096
_ENDS = np.linspace(0.05, 1.0, 96)
"""Ends of the range that `mse` tries, as shares of the largest activation."""


def quantize(network: Network, calibration: Float32, ranges: Ranges = "minmax") -> QuantizedNetwork:
    """Quantize the body once, for both graphs.

    Args:
        network: the float student.
        calibration: (N, T, F) scaled, finite training features, T at least 64.
        ranges: where the range of each hidden layer ends.

    Raises:
        ValueError: fewer than 64 calibration sessions.
    """
    if calibration.shape[1] < FIELD:
        raise ValueError(f"int8 ranges need at least {FIELD} calibration sessions, got {calibration.shape[1]}")
    hidden = hidden_layers(network, calibration)
    return assemble(network, [output_scale(each, ranges) for each in hidden], calibration, network)


def assemble(
    network: Network, scales: Sequence[np.float32], calibration: Float32, original: Network
) -> QuantizedNetwork:
    """The integer network of given output scales.

    What rounding changes on average is known from the calibration data: the float head is fitted anew, by least
    squares, to give the original's outputs from the integer layer.

    Args:
        network: its convolutions are quantized. scales: of the three layers' outputs.
        calibration: as in `quantize`. original: the float network to be equal to.
    """
    scale, zero_point = input_range()
    layers = []
    for weight, bias, end in zip(network.conv_weight, network.conv_bias, scales, strict=True):
        layers.append(quantized_layer(weight, bias, scale, zero_point, end))
        scale, zero_point = end, np.uint8(0)
    quantized = QuantizedNetwork(tuple(layers), network)
    found = body_panel(quantized, calibration).reshape(-1, len(layers[-1].bias)) * layers[-1].output_scale
    wanted = hidden_layers(original, calibration)[-1].reshape(len(found), -1) @ original.head_weight
    basis = np.hstack([found, np.ones((len(found), 1), np.float32)]).astype(np.float64)
    change = np.linalg.lstsq(basis, wanted - found @ network.head_weight, rcond=1e-6)[0]
    head = (network.head_weight + change[:-1]).astype(np.float32)
    head_bias = (original.head_bias + change[-1]).astype(np.float32)
    return replace(quantized, network=replace(network, head_weight=head, head_bias=head_bias))


def input_range(limit: float = WINSOR_LIMIT) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of u8 over [-limit, limit]: zero, which stands for a missing value, is exact."""
    return np.float32(2 * limit / 254), np.uint8(127)


def output_scale(activations: Float32, ranges: Ranges) -> np.float32:
    """The scale of one hidden layer.

    Args:
        activations: any shape, not negative. ranges: where the range ends.
    """
    above = activations[activations > 0]
    if not len(above):
        return np.float32(1 / TOP)
    highest = float(above.max())
    if ranges == "percentile":
        return np.float32(np.percentile(above, PERCENTILE) / TOP)
    return np.float32((_least_error(above, highest) if ranges == "mse" else highest) / TOP)


def _least_error(above: Float32, highest: float) -> float:
    """The end of the range with the least squared error, by a histogram."""
    counts, edges = np.histogram(above, bins=_BINS, range=(0, highest))
    values, ends = (edges[:-1] + edges[1:]) / 2, _ENDS[:, None] * highest
    # Rounding is uniform within a step, a twelfth of its square; saturation is what lies beyond the end.
    error = np.where(values < ends, (ends / TOP) ** 2 / 12, (values - ends) ** 2)  # (ends, bins)
    return float(ends[int(np.argmin(error @ counts)), 0])


def quantized_layer(
    weight: Float32, bias: Float32, input_scale: np.float32, zero_point: np.uint8, output_scale: np.float32
) -> QuantizedLayer:
    """(C_out, C_in, taps) and (C_out,) in integers, between the input's and the output's scale."""
    scales = weight_scales(weight)
    quantized = np.clip(np.rint(weight / scales[:, None, None]), -127, 127).astype(np.int8)
    unit = input_scale.astype(np.float64) * scales
    steps = np.clip(np.rint(bias / unit), np.iinfo(np.int32).min // 2, np.iinfo(np.int32).max // 2)
    return QuantizedLayer(quantized, scales, steps.astype(np.int32), input_scale, zero_point, output_scale)


def weight_scales(weight: Float32) -> Float32:
    """(C_out, C_in, 4) -> (C_out,): symmetric, to the largest weight of each channel."""
    largest = np.abs(weight).max(axis=(1, 2))
    # A channel of zeros keeps a scale that fits the others: any will do, but the bias must not overflow.
    fallback = largest.max() if largest.any() else np.float32(1)
    return np.asarray(np.where(largest > 0, largest, fallback) / 127, dtype=np.float32)
