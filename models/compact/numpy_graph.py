"""The bundle's graphs in NumPy alone, for machines that ONNX Runtime has no wheel for.

Reads the weights out of the shipped ONNX file, so that both runtimes compute from the same bytes: the integer layers
are equal bit for bit (models/compact/integer.py), the float head to rounding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compact import onnx_file
from models.compact.bundle import BundleError
from models.compact.integer import QuantizedLayer, hidden_panel, hidden_window, quantize_input
from models.receptive_field import DILATIONS, KERNEL

Float32 = npt.NDArray[np.float32]
Constants = dict[str, npt.NDArray[Any]]

_EXACT_IN_FLOAT32 = 2**24
"""Integers below this, and their sums as long as these stay below, are exact in float32."""


class NumpyGraph:
    """One graph, window or panel.

    Attributes:
        constants: the file's, by name.
        layers: the three integer layers; () where the graph's body is float.

    Raises:
        BundleError: the file is no graph that `models.compact.export` writes.
    """

    def __init__(self, path: Path) -> None:
        constants, kinds = onnx_file.read(path)
        self.constants = constants
        self._is_panel = "Conv" in kinds
        try:
            self.layers = _integer_layers(constants) if "w_0_q" in constants else ()
            self._float = () if self.layers else tuple(_float_layer(constants, i) for i in range(len(DILATIONS)))
            self._head, self._bias = constants["head_weight"], constants["head_bias"]
            self._skip, self._shape = constants["skip_weight"], (len(constants["head_bias"]) // 4, 4)
        except KeyError as error:
            raise BundleError(f"{path} is no graph of a student: it has no constant {error}") from None

    def __call__(self, x: npt.NDArray[Any], last: Float32) -> Float32:
        """window: (B, 64, Fb) and (B, F) -> (B, H, 4); panel: (N, T, Fb) and (N, T - 63, F) -> (N, T - 63, H, 4).

        x is scaled float32, or uint8 codes.
        """
        hidden = self._hidden(x)
        body = hidden.reshape(*last.shape[:-1], -1) @ self._head
        return np.asarray((body + (last @ self._skip + self._bias)).reshape(*last.shape[:-1], *self._shape))

    def _hidden(self, x: npt.NDArray[Any]) -> Float32:
        if not self.layers:
            return self._float_hidden(x)
        codes = x if x.dtype == np.uint8 else quantize_input(x, self.layers[0])
        through = hidden_panel if self._is_panel else hidden_window
        last = through(self.layers, codes, total=accumulate)[-1]
        return last.astype(np.float32) * self.layers[-1].output_scale

    def _float_hidden(self, x: Float32) -> Float32:
        rows = len(x)
        for (weight, bias), dilation in zip(self._float, DILATIONS, strict=True):
            if self._is_panel:
                x = np.maximum(_convolve(x, weight, dilation) + bias, 0)
            else:
                blocks = x.reshape(-1, KERNEL, x.shape[-1])
                x = np.maximum(_convolve(blocks, weight, 1) + bias, 0).reshape(rows, -1, len(bias))
        return x


def accumulate(x: npt.NDArray[np.uint8], layer: QuantizedLayer, dilation: int) -> npt.NDArray[np.int32]:
    """`models.compact.integer.accumulate`, by floating-point matrix products that are exact.

    Every partial sum is an integer of at most 255 * sum|w|. Below 2^24 that is exact in float32 in any order of
    summation, and in float64 for any layer that fits into s32; NumPy has a fast product for these and none for s32.
    """
    largest = 255 * int(np.abs(layer.weight.astype(np.int64)).sum(axis=(1, 2)).max())
    kind = np.dtype(np.float32 if largest < _EXACT_IN_FLOAT32 else np.float64)
    centred = x.astype(kind)
    centred -= layer.input_zero_point
    return _convolve(centred, layer.weight.astype(kind), dilation).astype(np.int32) + layer.bias


def _convolve(x: npt.NDArray[Any], weight: npt.NDArray[Any], dilation: int) -> npt.NDArray[Any]:
    """(N, T, C_in), (C_out, C_in, 4) -> (N, T - 3 * dilation, C_out)."""
    length = x.shape[1] - (KERNEL - 1) * dilation
    total = None
    for tap in range(KERNEL):
        rows = x[:, tap * dilation : tap * dilation + length].reshape(-1, x.shape[2])
        part = rows @ weight[:, :, tap].T
        total = part if total is None else np.add(total, part, out=total)
    return np.asarray(total).reshape(len(x), length, len(weight))


def _integer_layers(constants: Constants) -> tuple[QuantizedLayer, ...]:
    return tuple(
        QuantizedLayer(
            weight=_taps_last(constants[f"w_{i}_q"]),
            weight_scale=constants[f"w_{i}_scale"],
            bias=constants[f"b_{i}_q"],
            input_scale=_scalar(constants[f"in_{i}_scale"]),
            input_zero_point=_scalar(constants[f"in_{i}_zero"]),
            output_scale=_scalar(constants[f"hidden_{i}_q_scale"]),
        )
        for i in range(len(DILATIONS))
    )


def _float_layer(constants: Constants, i: int) -> tuple[Float32, Float32]:
    return _taps_last(constants[f"w_{i}"]), constants[f"b_{i}"]


def _scalar(constant: npt.NDArray[Any]) -> Any:
    return constant.reshape(())[()]


def _taps_last(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(C_out, C_in, 4), from that or from a matrix product's (4 * C_in, C_out), oldest tap first."""
    if weight.ndim == 3:
        return weight
    return np.ascontiguousarray(weight.reshape(KERNEL, -1, weight.shape[1]).transpose(2, 1, 0))
