"""From network outputs to a distribution: the one decoding, shared by training, evidence and the scorer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

QUANTILES = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
"""Levels of the forecast quantiles, ascending."""

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class Forecast(NamedTuple):
    """Forecasts of the log return over the target interval.

    sigma: (..., H) float64. quantiles: (..., H, 9) float64, not decreasing. p_up: (..., H) float64 in (0, 1).
    """

    sigma: npt.NDArray[np.float64]
    quantiles: npt.NDArray[np.float64]
    p_up: npt.NDArray[np.float64]


def decode(
    y: Floats,
    vol: Floats,
    horizons: tuple[int, ...],
    residual_shape: Floats,
    sigma_factor: Floats,
    out: Forecast | None = None,
) -> Forecast:
    """Turn outputs in z units into sigma, quantiles and p_up.

    Args:
        y: (..., H, 4): location, log-scale down, log-scale up, logit of p_up.
        vol: (...) daily EWMA volatility; NaN makes every forecast of the cell NaN.
        horizons: H sessions ahead.
        residual_shape: (H, 9) ascending quantiles of the standardised residual.
        sigma_factor: (H,) standard deviation of the standardised residual.
        out: written and returned, where given.

    A quantile is location + exp(log-scale) * shape, with the scale of the side of the shape's sign, so that
    quantiles cannot cross.
    """
    shape = np.asarray(residual_shape, dtype=np.float64)  # (H, 9)
    h = len(shape)
    # Cells innermost, so that every step runs along memory; a few large steps also leave threads to each other.
    parts = np.asarray(y).reshape(-1, h, 4).transpose(2, 1, 0).astype(np.float64, order="C")
    location, down, up, logit = parts  # (H, cells) each
    np.exp(parts[1:3], out=parts[1:3])
    root = np.sqrt(np.asarray(horizons, dtype=np.float64))[:, None]  # (H, 1)
    unit = root * np.asarray(vol, dtype=np.float64).ravel()  # (H, cells)
    level = shape.T[:, :, None]  # (9, H, 1)
    quantiles = np.where(level < 0, down, up)  # (9, H, cells)
    quantiles *= level
    quantiles += location
    quantiles *= unit
    sigma = unit * np.sqrt((down**2 + up**2) / 2) * np.asarray(sigma_factor, dtype=np.float64)[:, None]
    p_up = np.where(np.isnan(unit), np.nan, (1 + np.tanh(logit / 2)) / 2)  # the logistic, without overflow
    found = empty(np.shape(vol), h) if out is None else out
    for whole, cells_last in zip(found, (sigma, quantiles, p_up), strict=True):
        whole[...] = cells_last.T.reshape(whole.shape)
    return found


def empty(cells: tuple[int, ...], horizons: int) -> Forecast:
    """Forecasts of so many cells, not yet written: whoever fills them is the first to touch their memory."""
    shape = (*cells, horizons)
    return Forecast(np.empty(shape), np.empty((*shape, len(QUANTILES))), np.empty(shape))
