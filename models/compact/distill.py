"""Distilling (Hinton, Vinyals and Dean 2015): what a teacher forecasts, in the form in which the student learns it.

A teacher is any forecaster, or a weighted average of many: all that is read of it is its forecast. Its location, its
log-scales and its p_up say at every session what a label says once, with noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.decode import QUANTILES, Forecast

Float64 = npt.NDArray[np.float64]

LOW, MEDIAN, HIGH = (QUANTILES.index(q) for q in (0.10, 0.50, 0.90))

CURVATURE = 0.09
"""What a squared difference of location, or of log-scale, costs in the mean pinball loss of nine quantiles where the
residual is standard normal and the difference small: half the mean of the density at those quantiles is 0.091, half
the mean of the density times the squared quantile 0.095."""


class Teacher(NamedTuple):
    """What a student is taught on a training slice.

    Attributes:
        final: (N, train_end, H), made by models that were fitted on the training slice or earlier.
        early: (N, fit_end, H), made by models whose training had ended with the fit slice, so that they have seen
            no outcome of validation; None where there were none yet.
    """

    final: Forecast
    early: Forecast | None


def teacher_outputs(forecast: Forecast, vol: Float64, horizons: tuple[int, ...], shape: Float64) -> Float64:
    """A forecast as outputs in z units round a residual shape: `models.decode.decode` backwards.

    Location and log-scales are those of which q10, q50 and q90 are the teacher's. A forecast decoded from outputs with
    the same shape gives those outputs back.

    Args:
        forecast: (N, T, H), quantiles and p_up are read; NaN = none. vol: (N, T), the unit of z.
        horizons: H sessions ahead. shape: (H, 9) residual shape, q10 below zero and q90 above.

    Returns:
        (N, T, H, 4): location, log-scale down, log-scale up, logit of p_up. NaN, all four, where the teacher has no
        forecast, or one that no scale of the shape can stand for.

    Raises:
        ValueError: the shape is not of both signs.
    """
    low, middle, high = (shape[:, at] for at in (LOW, MEDIAN, HIGH))
    if not ((low < 0) & (high > 0) & (low < middle) & (middle < high)).all():
        raise ValueError(
            f"the residual shape has q10 {low.tolist()}, q50 {middle.tolist()} and q90 {high.tolist()}; they must"
            " ascend through zero"
        )
    unit = np.asarray(vol, np.float64)[..., None] * np.sqrt(np.asarray(horizons, np.float64))  # (N, T, H)
    q10, q50, q90 = (forecast.quantiles[..., at] / unit for at in (LOW, MEDIAN, HIGH))
    # The median has the scale of its shape's side, which the nearer of q10 and q90 gives beside it.
    scale = np.where(middle < 0, (q50 - q10) / (middle - low), (q90 - q50) / (high - middle))
    location = q50 - scale * middle
    scales = (q10 - location) / low, (q90 - location) / high
    p_up = np.clip(forecast.p_up, 1e-6, 1 - 1e-6)
    logs = [np.log(np.where(each > 0, each, np.nan)) for each in scales]
    outputs = np.stack([location, *logs, np.log(p_up) - np.log1p(-p_up)], axis=-1)
    outputs[~np.isfinite(outputs).all(-1)] = np.nan
    return outputs


def levelled(outputs: Float64, skip: npt.NDArray[np.float32]) -> Float64:
    """A teacher's outputs at the level of the skip: their mean difference in location and log-scale is taken out.

    What a session's scale is beside another's is taught; the level belongs to the skip, whose shape is calibrated.

    Args:
        outputs: (N, T, H, 4), NaN = none. skip: (N, T, H, 4).
    """
    held = np.isfinite(outputs)
    difference = np.where(held, outputs - skip, 0.0).sum((0, 1)) / np.maximum(held.sum((0, 1)), 1)  # (H, 4)
    difference[:, 3] = 0.0
    return np.asarray(outputs - difference)


def match_terms(y: Tensor, teacher: Tensor, location_penalty: float, up_weight: float) -> tuple[Tensor, Tensor]:
    """How far outputs are from the teacher's, summed over the cells that have one, and the number of those cells.

    In the units of the label's loss: squared differences of log-scale and location cost what they cost in pinball, and
    that of location as much again as the penalty that holds it at zero, so that penalty and teacher pull alike; p_up
    costs the Kullback-Leibler divergence, as cross-entropy does. A teacher matched exactly costs nothing.

    Args:
        y: (..., 4) outputs. teacher: (..., 4), NaN = none. location_penalty, up_weight: of the label's loss.
    """
    held = torch.isfinite(teacher).all(-1)
    target = torch.where(held[..., None], teacher, y.detach())
    location, down, up = ((y - target)[..., :3] ** 2).unbind(-1)
    cross = nn.functional.binary_cross_entropy_with_logits
    chance = torch.sigmoid(target[..., 3])
    surprise = cross(y[..., 3], chance, reduction="none") - cross(target[..., 3], chance, reduction="none")
    each = (location_penalty + CURVATURE) * location + CURVATURE * (down + up) / 2 + up_weight * surprise
    return (each * held).sum(), held.sum()
