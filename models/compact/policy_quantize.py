"""The policy's body in integers: channels brought into proportion, rounded, and the float head fitted anew.

The steps are those of the student (`models.compact.quantize`, `models.compact.qat.equalized`) for two dense layers.
Training with rounding in the loop was tried and gained nothing: what is left is the rounding of activations, which a
policy without steep weights keeps small (`models.compact.policy_distill.DistilConfig.decay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.compact.quantize import Ranges, input_range, output_scale, quantized_layer
from models.compact.small_policy import REST, FloatPolicy, IntegerPolicy

Float32 = npt.NDArray[np.float32]

_UNREAD, _TINY = 1e-6, np.float32(1e-12)
"""A channel whose readers are below this share of the largest counts as read with that much."""
_LEAST_SHARE = 1e-6
"""Directions of the hidden layer with less than this share of the largest singular value are not fitted."""


def quantize_policy(policy: FloatPolicy, observations: Float32, ranges: Ranges = "minmax") -> IntegerPolicy:
    """The integer policy that wants what the float one does.

    Args:
        policy: in float32. observations: (R, D) finite, of the training slice.
        ranges: where the range of each hidden layer ends.

    Raises:
        ValueError: no observation to set the ranges by.
    """
    if not len(observations):
        raise ValueError("int8 ranges need at least one observation of the training slice")
    x = policy.frame.inputs(observations)
    level = equalized(policy, x)
    return _assembled(level, [output_scale(values, ranges) for values in level.hidden(x)], x)


def equalized(policy: FloatPolicy, x: Float32) -> FloatPolicy:
    """The same function with hidden channels in proportion, so that none is left without resolution.

    A channel of the first layer is divided by what brings its largest activation and the largest weight that reads it
    to one height; one of the second by its largest activation, since the head that reads it is float.

    Args:
        policy: any. x: (R, D) inputs.
    """
    (first, first_bias), (second, second_bias) = policy.layers
    reader = np.abs(second).max(axis=0)  # (C,)
    largest = policy.hidden(x)[0].max(axis=0)
    factor = _factors(np.sqrt(largest / np.maximum(reader, np.float32(_UNREAD) * reader.max() + _TINY)), largest > 0)
    layers = ((first / factor[:, None], first_bias / factor), (second * factor, second_bias))
    largest = replace(policy, layers=layers).hidden(x)[1].max(axis=0)
    factor = _factors(largest, largest > 0)
    layers = (layers[0], (layers[1][0] / factor[:, None], second_bias / factor))
    return FloatPolicy(layers, replace(policy.frame, head=policy.frame.head * factor))


def _factors(factor: npt.NDArray[np.floating], moving: npt.NDArray[np.bool_]) -> Float32:
    """1 for channels that never move."""
    return np.where(moving, factor, 1).astype(np.float32)


def _assembled(policy: FloatPolicy, ends: Sequence[np.float32], x: Float32) -> IntegerPolicy:
    """Layers rounded, then head, skip and bias by least squares to what the float policy wants of (R, D) inputs."""
    scale, zero_point = input_range()
    matrices = [np.hstack([policy.layers[0][0], policy.layers[0][0] / REST]), policy.layers[1][0]]
    layers = []
    for matrix, (_, bias), end in zip(matrices, policy.layers, ends, strict=True):
        layers.append(quantized_layer(matrix[:, :, None], bias, scale, zero_point, end))
        scale, zero_point = end, np.uint8(0)
    rough = IntegerPolicy(tuple(layers), policy.frame)
    body = rough.hidden(x)[-1].astype(np.float32) * layers[-1].output_scale  # (R, C)
    frame = policy.frame
    left = policy.unclipped(x) - body @ frame.head - x @ frame.skip - frame.bias
    basis = np.hstack([body, x, np.ones((len(x), 1), np.float32)]).astype(np.float64)
    change = np.linalg.lstsq(basis, left.astype(np.float64), rcond=_LEAST_SHARE)[0].astype(np.float32)
    width = len(frame.head)
    fitted = replace(
        frame,
        head=frame.head + change[:width],
        skip=np.where(frame.rate == 0, frame.skip, frame.skip + change[width:-1]),
        bias=np.float32(frame.bias + change[-1]),
    )
    return IntegerPolicy(tuple(layers), fitted)
