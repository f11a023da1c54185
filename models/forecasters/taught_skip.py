"""The skip's own lesson: what of a teacher is linear in the features of the session, and how much of it to take.

A skip fitted to labels and its teacher are two estimates of the same scale. Where validation is clear it decides. Where
it is so long that it would have shown a difference worth having, and shows none, the skip stays as it is. Where it is
too short to tell, the skip lies half-way: pinball loss is convex in the quantiles, and nearly so in small steps of
log-scale, so whichever of the two turns out worse, half-way loses about half of their difference to the other, or less.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.compact.distill import levelled, teacher_outputs
from models.decode import Forecast
from models.forecasters.calibration import gain
from models.forecasters.foundation import Foundation, session_pinball
from models.forecasters.interface import Training

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

NONE, HALF, WHOLE = 0.0, 0.5, 1.0
CLEAR = 2.0
"""Standard errors by which a share must beat none of the lesson on validation."""
WORTH = 1e-3
"""Of the pinball loss: a difference worth having. Validation that tells as much, at `CLEAR`, is long enough."""
LEAST = 1e-5
"""Of the pinball loss: less than that is rounding."""
PENALTY = 1000.0
"""Of the ridge on the teacher's outputs, in rows of weight one: they carry no noise of a single outcome."""


class Lesson(NamedTuple):
    """What is added to a skip: weight (F, H*4) and bias (H*4,) float32, in the order of `ScaleSkip.outputs`."""

    weight: Float32
    bias: Float32

    def scaled(self, share: float) -> Lesson:
        """So much of it."""
        return Lesson(np.float32(share) * self.weight, np.float32(share) * self.bias)

    def outputs(self, x: Float32) -> Float32:
        """(N, T, F) -> (N, T, H, 4)."""
        return np.asarray((x @ self.weight + self.bias).reshape(*x.shape[:2], -1, 4), dtype=np.float32)


def no_lesson(features: int, horizons: int) -> Lesson:
    """Nothing is added."""
    return Lesson(np.zeros((features, 4 * horizons), np.float32), np.zeros(4 * horizons, np.float32))


def lesson(training: Training, foundation: Foundation, taught: Forecast) -> Lesson:
    """Ridge of the teacher's outputs less the skip's on the features of the session, rows weighted by recency.

    The level stays the skip's, whose shape is calibrated.

    Args:
        training: its features. foundation: the skip. taught: (N, S, H) of the first S sessions of training.
    """
    end = taught.sigma.shape[1]
    x = training.inputs.x[:, :end]
    skip = foundation.outputs(x)
    y = teacher_outputs(taught, training.inputs.vol[:, :end], training.horizons, foundation.shape)
    more = (levelled(y, skip) - skip).reshape(-1, 4 * len(training.horizons))  # (N * S, H * 4)
    held = np.isfinite(more).all(1)
    if not held.any():
        return no_lesson(x.shape[2], len(training.horizons))
    age = np.tile(np.arange(end - 1, -1, -1, dtype=np.float64), len(x))[held]
    weight = 0.5 ** (age / training.half_life)
    rows, targets = x.reshape(-1, x.shape[2])[held].astype(np.float64), more[held]
    middle, level = (np.average(each, axis=0, weights=weight) for each in (rows, targets))
    rows -= middle
    weighted = (rows * weight[:, None]).T
    slope = np.linalg.solve(weighted @ rows + PENALTY * np.eye(rows.shape[1]), weighted @ (targets - level))
    return Lesson(slope.astype(np.float32), (level - middle @ slope).astype(np.float32))


def choose_share(training: Training, foundation: Foundation, found: Lesson, blind: bool = False) -> float:
    """How much of a lesson to take: none, half or all of it.

    Args:
        training: its validation slice. foundation, found: fitted before it.
        blind: whether the teacher has seen the outcomes of validation: then only the noise of the comparison is read,
            not who wins.
    """
    held_out = slice(training.slices.validation_start, training.slices.train_end)
    x, z = training.inputs.x[:, held_out], training.z[:, held_out]
    skip, added = foundation.outputs(x), found.outputs(x)
    losses = {share: session_pinball(z, skip + share * added, foundation.shape) for share in (NONE, HALF, WHOLE)}
    value, error = gain(losses[NONE], losses[WHOLE], max(training.horizons))
    if not blind:
        if value > max(CLEAR * error, LEAST):
            return WHOLE
        half, half_error = gain(losses[NONE], losses[HALF], max(training.horizons))
        if half > max(CLEAR * half_error, LEAST):
            return HALF
        if value < -CLEAR * error:
            return NONE
    return HALF if CLEAR * error > WORTH else NONE
