"""The integer body and its NumPy reference: what ONNX Runtime must compute, bit for bit.

u8 activations, s8 weights, s32 accumulators and biases. An accumulator becomes the next layer's u8 by one factor a
channel, input scale * weight scale / output scale, in either of two ways:

- `requantize`: times the factor in float32, rounded half to even, saturated. This is what ONNX Runtime does on every
  CPU that multiplies u8 by s8 exactly, and the way of `--runtime numpy`.
- `requantize_fixed`: integers only, the factor as M0 * 2^-n with M0 in [2^30, 2^31) (Jacob et al. 2018, arXiv
  1712.05877, section 2.2), for hardware without floating point. The 64-bit product is rounded once: gemmlowp rounds it
  twice, after M0 and after the shift, which at our few bits of shift moves one output in thirty by a step. It differs
  from `requantize` only where the product lies within float32's rounding of a half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.compact.network import Network
from models.receptive_field import DILATIONS, KERNEL

Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
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
    bias: Int32
    input_scale: np.float32
    input_zero_point: np.uint8
    output_scale: np.float32

    @property
    def factor(self) -> Float32:
        """(C_out,) float32: units of the output's u8 in one unit of the accumulator."""
        return (self.input_scale * self.weight_scale) / self.output_scale


@dataclass(frozen=True)
class QuantizedNetwork:
    """Three integer convolutions and the float network whose head and skip go with them."""

    layers: tuple[QuantizedLayer, ...]
    network: Network


Requantize = Callable[[Int32, QuantizedLayer], Uint8]
Accumulate = Callable[[Uint8, QuantizedLayer, int], Int32]


def quantize_input(x: Float32, layer: QuantizedLayer) -> Uint8:
    """(..., Fb) scaled float32 -> u8, as QuantizeLinear does: round half to even, saturate."""
    return codes(x, layer.input_scale, layer.input_zero_point)


def codes(x: Float32, scale: np.float32, zero_point: np.uint8) -> Uint8:
    """Any shape, scaled float32 -> u8: round half to even, saturate."""
    steps = x / scale
    np.rint(steps, out=steps)
    steps += np.float32(zero_point)
    return np.clip(steps, 0, 255, out=steps).astype(np.uint8)


def requantize(total: Int32, layer: QuantizedLayer) -> Uint8:
    """(..., C_out) s32 -> u8 by the float32 factor."""
    return np.asarray(np.clip(np.rint(total.astype(np.float32) * layer.factor), 0, 255), dtype=np.uint8)


def requantize_fixed(total: Int32, layer: QuantizedLayer) -> Uint8:
    """(..., C_out) s32 -> u8 by the fixed-point factor M0 * 2^-n, integers only."""
    mantissa, shift = fixed_point(layer)
    half = np.int64(1) << (shift + 30)
    return np.asarray(np.clip((total * mantissa + half) >> (shift + 31), 0, 255), dtype=np.uint8)


def fixed_point(layer: QuantizedLayer) -> tuple[Int64, Int64]:
    """M0 in [2^30, 2^31) and n, (C_out,) int64 each: factor = M0 / 2^31 * 2^-n."""
    fraction, exponent = np.frexp(layer.factor.astype(np.float64))
    mantissa = np.rint(fraction * 2.0**31).astype(np.int64)
    full = mantissa == 2**31  # the fraction was rounded up to one
    return np.where(full, 2**30, mantissa), -(exponent.astype(np.int64) + full)


def body_panel(quantized: QuantizedNetwork, x: Float32) -> Uint8:
    """(N, T, F) scaled -> (N, T - 63, C) u8: the last hidden layer in integers."""
    chosen = quantize_input(x[..., quantized.network.body_features], quantized.layers[0])
    return hidden_panel(quantized.layers, chosen)[-1]


def accumulate(x: Uint8, layer: QuantizedLayer, dilation: int) -> Int32:
    """(N, T, C_in) u8 -> (N, T - 3 * dilation, C_out) s32, bias included; in s32 arithmetic alone."""
    length = x.shape[1] - (KERNEL - 1) * dilation
    centred = x.astype(np.int32) - np.int32(layer.input_zero_point)  # (N, T, C_in)
    weight = layer.weight.astype(np.int32)
    total = np.broadcast_to(layer.bias, (x.shape[0], length, len(layer.bias))).astype(np.int32)
    for tap in range(KERNEL):
        total = total + centred[:, tap * dilation : tap * dilation + length] @ weight[:, :, tap].T
    return total


def hidden_panel(
    layers: Sequence[QuantizedLayer], x: Uint8, into: Requantize = requantize, total: Accumulate = accumulate
) -> list[Uint8]:
    """(N, T, Fb) u8 -> the three layers' u8: (N, T - 3, C), (N, T - 15, C), (N, T - 63, C)."""
    found = []
    for layer, dilation in zip(layers, DILATIONS, strict=True):
        x = into(total(x, layer, dilation), layer)
        found.append(x)
    return found


def hidden_window(
    layers: Sequence[QuantizedLayer], x: Uint8, into: Requantize = requantize, total: Accumulate = accumulate
) -> list[Uint8]:
    """(B, 64, Fb) u8 -> the three layers' u8 at the sessions the forecast needs: (B, 16, C), (B, 4, C), (B, 1, C)."""
    found = []
    for layer in layers:
        blocks = x.reshape(-1, KERNEL, x.shape[-1])  # four sessions, which no other block reads
        x = into(total(blocks, layer, 1), layer).reshape(len(x), -1, len(layer.bias))
        found.append(x)
    return found
