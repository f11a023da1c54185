"""The integer body and its NumPy reference: what ONNX Runtime must compute, bit for bit.

s32 accumulators, float32 requantization, round half to even, saturation to u8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.compact.network import DILATIONS, KERNEL, Network

Uint8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class QuantizedLayer:
    """One convolution in integers.

    Attributes:
        weight: (C_out, C_in, 4) int8, symmetric; tap 0 is the oldest session.
        weight_scale: (C_out,) float32, one a channel.
        bias: (C_out,) int32, in units of input_scale * weight_scale.
        input_scale, input_zero_point: of the u8 input; output_scale: of the u8 output, whose zero point is 0.
    """

    weight: npt.NDArray[np.int8]
    weight_scale: Float32
    bias: npt.NDArray[np.int32]
    input_scale: np.float32
    input_zero_point: np.uint8
    output_scale: np.float32


@dataclass(frozen=True)
class QuantizedNetwork:
    """Three integer convolutions and the float network whose head and skip go with them."""

    layers: tuple[QuantizedLayer, ...]
    network: Network


def quantize_input(x: npt.NDArray[np.float32], layer: QuantizedLayer) -> Uint8:
    """(..., Fb) scaled float32 -> u8, as QuantizeLinear does: round half to even, saturate."""
    steps = np.rint(x / layer.input_scale) + np.float32(layer.input_zero_point)
    return np.asarray(np.clip(steps, 0, 255), dtype=np.uint8)


def body_panel(quantized: QuantizedNetwork, x: npt.NDArray[np.float32]) -> Uint8:
    """(N, T, F) scaled -> (N, T - 63, C) u8: the last hidden layer in integers."""
    hidden = quantize_input(x[..., quantized.network.body_features], quantized.layers[0])
    for layer, dilation in zip(quantized.layers, DILATIONS, strict=True):
        hidden = _convolve(hidden, layer, dilation)
    return hidden


def _convolve(hidden: Uint8, layer: QuantizedLayer, dilation: int) -> Uint8:
    length = hidden.shape[1] - (KERNEL - 1) * dilation
    centred = hidden.astype(np.int32) - np.int32(layer.input_zero_point)  # (N, T, C_in)
    weight = layer.weight.astype(np.int32)
    total = np.broadcast_to(layer.bias, (hidden.shape[0], length, len(layer.bias))).astype(np.int32)
    for tap in range(KERNEL):
        total = total + centred[:, tap * dilation : tap * dilation + length] @ weight[:, :, tap].T
    multiplier = (layer.input_scale * layer.weight_scale) / layer.output_scale  # float32, one a channel
    return np.asarray(np.clip(np.rint(total.astype(np.float32) * multiplier), 0, 255), dtype=np.uint8)
