"""Post-training quantization of the student's body: u8 activations, s8 per-channel weights, s32 biases.

real = scale * (q - zero_point) (Jacob et al. 2018, arXiv 1712.05877, section 2.1). The input range is fixed by
the winsor limit; the range of each hidden layer is its largest activation on training data, from
zero with zero point 0, so that saturation does the work of ReLU. Head, skip and the last add stay float.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.compact.integer import QuantizedLayer, QuantizedNetwork, body_panel
from models.compact.network import Network, hidden_layers
from models.scaling import WINSOR_LIMIT

Float32 = npt.NDArray[np.float32]


def quantize(network: Network, calibration: Float32) -> QuantizedNetwork:
    """Quantize the body once, for both graphs.

    Args:
        network: the float student.
        calibration: (N, T, F) scaled, finite training features, T at least 64.

    Raises:
        ValueError: fewer than 64 calibration sessions.
    """
    if calibration.shape[1] < 64:
        raise ValueError(f"int8 ranges need at least 64 calibration sessions, got {calibration.shape[1]}")
    hidden = hidden_layers(network, calibration)
    scale, zero_point = _input_range(WINSOR_LIMIT)
    layers = []
    for weight, bias, activations in zip(network.conv_weight, network.conv_bias, hidden, strict=True):
        output_scale = _hidden_scale(activations)
        layers.append(_layer(weight, bias, scale, zero_point, output_scale))
        scale, zero_point = output_scale, np.uint8(0)
    quantized = QuantizedNetwork(tuple(layers), network)
    # What rounding changes on average is known from the same calibration data: the float head is fitted anew, by
    # least squares, to give the float network's outputs from the integer layer.
    found = body_panel(quantized, calibration).reshape(-1, len(layers[-1].bias)) * layers[-1].output_scale
    error = (hidden[-1].reshape(found.shape) - found) @ network.head_weight
    basis = np.hstack([found, np.ones((len(found), 1), np.float32)]).astype(np.float64)
    change = np.linalg.lstsq(basis, error, rcond=1e-6)[0]
    head = (network.head_weight + change[:-1]).astype(np.float32)
    return replace(
        quantized,
        network=replace(network, head_weight=head, head_bias=(network.head_bias + change[-1]).astype(np.float32)),
    )


def _input_range(limit: float) -> tuple[np.float32, np.uint8]:
    """u8 over [-limit, limit]: zero, which stands for a missing value, is exact."""
    return np.float32(2 * limit / 254), np.uint8(127)


def _hidden_scale(activations: Float32) -> np.float32:
    highest = float(activations.max())
    return np.float32(highest / 255) if highest > 0 else np.float32(1 / 255)


def _layer(
    weight: Float32, bias: Float32, input_scale: np.float32, zero_point: np.uint8, output_scale: np.float32
) -> QuantizedLayer:
    largest = np.abs(weight).max(axis=(1, 2))  # (C_out,)
    # A channel of zeros keeps a scale that fits the others: any will do, but the bias must not overflow.
    fallback = largest.max() if largest.any() else np.float32(1)
    weight_scale = (np.where(largest > 0, largest, fallback) / 127).astype(np.float32)
    quantized = np.clip(np.rint(weight / weight_scale[:, None, None]), -127, 127).astype(np.int8)
    unit = input_scale.astype(np.float64) * weight_scale
    steps = np.clip(np.rint(bias / unit), np.iinfo(np.int32).min // 2, np.iinfo(np.int32).max // 2)
    return QuantizedLayer(quantized, weight_scale, steps.astype(np.int32), input_scale, zero_point, output_scale)
