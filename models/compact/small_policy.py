"""The policy that ships, in float32 and in integers, and its NumPy reference. NumPy only.

An observation of `models.trading.env.Batch` for one asset becomes a target weight:

    x      = clip((observation - center) * rate, -5, 5)
    body   = relu(relu(x W0 + b0) W1 + b1)                D -> 32 -> 32
    weight = clip(body . head + x . skip + bias, least, most)

In the integer policy the two layers of the body are u8 activations, s8 weights with a scale a channel and s32 sums, as
in `models.compact.integer`; x, head, skip and the clipping stay float32. Eight bits of an input are too few for a
target within a hundredth of the limit, so that each goes in twice: rounded, and what rounding left, eight times as
large, whose weights are an eighth (`fine`). That is eleven bits, in the same matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compact import onnx_file
from models.compact.bundle import BundleError
from models.compact.integer import Int32, QuantizedLayer, Uint8, quantize_input, requantize
from models.scaling import WINSOR_LIMIT

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

HIDDEN = 32
BODY_LAYERS = 2
STEP = np.float32(2 * WINSOR_LIMIT / 254)
"""Of an input's u8 code, as in `models.compact.quantize.input_range`."""
REST = np.float32(8)
"""What rounding left of an input is shown this many times as large."""


@dataclass(frozen=True)
class Frame:
    """What stands round the body, float32 in both policies.

    Attributes:
        center, rate: (D,) of the inputs; `rate` is one over the scale, 0 for a column that never moves.
        head: (C,) of the last hidden layer. skip: (D,) of the inputs. bias: ().
        least, most: limits of the target weight.
    """

    center: Float32
    rate: Float32
    head: Float32
    skip: Float32
    bias: np.float32
    least: np.float32
    most: np.float32

    def inputs(self, observation: Float32) -> Float32:
        """(E, D) finite observations -> (E, D) in [-5, 5]."""
        x = (np.asarray(observation, dtype=np.float32) - self.center) * self.rate
        return np.asarray(np.clip(x, np.float32(-WINSOR_LIMIT), np.float32(WINSOR_LIMIT)))

    def weights(self, x: Float32, body: Float32) -> Floats:
        """(E, D) inputs and (E, C) hidden -> (E, 1) target weights."""
        return np.clip(self.total(x, body), self.least, self.most).astype(np.float64)[:, None]

    def total(self, x: Float32, body: Float32) -> Float32:
        """(E,) the same before it is clipped."""
        return np.asarray(body @ self.head + (x @ self.skip + self.bias))


@dataclass(frozen=True)
class FloatPolicy:
    """The float32 policy; a `models.trading.policy.Policy`.

    layers: matrix (C_out, C_in) and bias (C_out,) of the two hidden layers, both float32.
    """

    layers: tuple[tuple[Float32, Float32], ...]
    frame: Frame

    def target(self, observation: Float32) -> Floats:
        """(E, D) finite observations -> (E, 1) target weights within the limits."""
        x = self.frame.inputs(observation)
        return self.frame.weights(x, self.hidden(x)[-1])

    def unclipped(self, x: Float32) -> Float32:
        """(E, D) inputs -> (E,) targets before they are clipped."""
        return self.frame.total(x, self.hidden(x)[-1])

    def hidden(self, x: Float32) -> list[Float32]:
        """(E, D) inputs -> the two layers' outputs, (E, C) each."""
        found = []
        for matrix, bias in self.layers:
            x = np.maximum(x @ matrix.T + bias, 0)
            found.append(x)
        return found


@dataclass(frozen=True)
class IntegerPolicy:
    """The int8 policy by the NumPy reference; a `models.trading.policy.Policy`.

    layers: the two hidden layers, matrices as (C_out, C_in, 1); the first reads the 2 D columns of `fine`.
    """

    layers: tuple[QuantizedLayer, ...]
    frame: Frame

    def target(self, observation: Float32) -> Floats:
        """(E, D) finite observations -> (E, 1) target weights within the limits."""
        x = self.frame.inputs(observation)
        body = self.hidden(x)[-1].astype(np.float32) * self.layers[-1].output_scale
        return self.frame.weights(x, body)

    def hidden(self, x: Float32) -> list[Uint8]:
        """(E, D) inputs -> the two layers' u8, (E, C) each: what ONNX Runtime computes, bit for bit."""
        codes, found = quantize_input(fine(x), self.layers[0]), []
        for layer in self.layers:
            codes = requantize(accumulate(codes, layer), layer)
            found.append(codes)
        return found


def fine(x: Float32) -> Float32:
    """(E, D) inputs -> (E, 2 D): rounded to a step of u8 each, then what that left, `REST` times as large."""
    coarse = np.rint(x / STEP) * STEP
    return np.concatenate([coarse, (x - coarse) * REST], axis=-1)


def accumulate(x: Uint8, layer: QuantizedLayer) -> Int32:
    """(E, C_in) u8 -> (E, C_out) s32, bias included; in s32 arithmetic alone."""
    centred = x.astype(np.int32) - np.int32(layer.input_zero_point)
    return np.asarray(centred @ layer.weight[:, :, 0].T.astype(np.int32) + layer.bias, dtype=np.int32)


def read(path: Path) -> IntegerPolicy:
    """The integer policy out of the shipped file, so that both runtimes compute from the same bytes.

    Raises:
        BundleError: the file is no graph that `models.compact.policy_graph` writes.
    """
    constants = onnx_file.read(path).constants
    try:
        layers = tuple(
            QuantizedLayer(
                weight=np.ascontiguousarray(constants[f"w_{i}_q"].T)[:, :, None],  # (C_in, C_out) in the file
                weight_scale=constants[f"w_{i}_scale"],
                bias=constants[f"b_{i}_q"],
                input_scale=_scalar(constants[f"in_{i}_scale"]),
                input_zero_point=_scalar(constants[f"in_{i}_zero"]),
                output_scale=_scalar(constants[f"hidden_{i}_q_scale"]),
            )
            for i in range(BODY_LAYERS)
        )
        frame = Frame(
            constants["center"],
            constants["rate"],
            constants["head"].ravel(),
            constants["skip"].ravel(),
            *(_scalar(constants[name]) for name in ("bias", "weights_least", "weights_most")),
        )
    except KeyError as error:
        raise BundleError(f"{path} is no graph of a policy: it has no constant {error}") from None
    return IntegerPolicy(layers, frame)


def _scalar(constant: npt.NDArray[Any]) -> Any:
    return constant.reshape(())[()]
