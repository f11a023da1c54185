"""Calibration: the shape of the standardised residuals turns a scale into quantiles and a sigma.

The residual e = z / s of the scale skip has few fitted parameters against thousands of sessions, so its
recency-weighted quantiles over the whole purged training slice are used: the tails need every crisis there is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES

Float64 = npt.NDArray[np.float64]


def residual_shape(z: Float64, log_scale: Float64, weight: Float64) -> Float64:
    """Weighted quantiles of z / exp(log_scale) by horizon.

    Args:
        z: (n, H), NaN = not known. log_scale: (n, H). weight: (n,) not negative.

    Returns:
        (H, 9) float64, ascending along the last axis: the shape at `models.decode.QUANTILES`.
    """
    shapes = []
    for h in range(z.shape[1]):
        known = np.isfinite(z[:, h])
        shapes.append(weighted_quantiles(z[known, h] / np.exp(log_scale[known, h]), weight[known]))
    return np.stack(shapes)


def sigma_factor(relative_variance: Float64, log_scale: Float64, weight: Float64) -> Float64:
    """What turns exp(log_scale) into a standard deviation: the root of the mean of v / s^2, by horizon.

    Args:
        relative_variance: (n, H), realised variance over squared volatility, NaN = not known.
        log_scale: (n, H). weight: (n,).

    Returns:
        (H,) float64.
    """
    known = np.isfinite(relative_variance)
    w = np.where(known, weight[:, None], 0.0)
    ratio = np.where(known, relative_variance, 0.0) / np.exp(2 * log_scale)
    return np.asarray(np.sqrt((w * ratio).sum(0) / w.sum(0)))


def weighted_quantiles(values: Float64, weight: Float64) -> Float64:
    """The quantiles at `QUANTILES` of weighted values, linear between the centres of the weights."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    at = np.asarray(QUANTILES) * cumulative[-1]
    return np.asarray(np.interp(at, cumulative - weight[order] / 2, values[order]), dtype=np.float64)
