"""The foundation under every network: the scale skip, its penalty chosen on validation, and the residual shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES
from models.forecasters.conformal import residual_shape, sigma_factor
from models.forecasters.interface import Training
from models.forecasters.scale import ScaleSkip, fit_scale_skip

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

PRIMARY = tuple(QUANTILES.index(q) for q in (0.10, 0.50, 0.90))


@dataclass(frozen=True)
class Foundation:
    """A fitted skip with its calibration. shape: (H, 9), factor: (H,): see `models.decode.decode`."""

    skip: ScaleSkip
    shape: Float64
    factor: Float64
    alpha: float

    def outputs(self, x: Float32) -> Float32:
        """(N, T, F) -> (N, T, H, 4): location 0, log-scale twice, logit of p_up."""
        weight, bias = self.skip.outputs()
        return np.asarray((x @ weight + bias).reshape(*x.shape[:2], -1, 4), dtype=np.float32)

    def strongest(self, among: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
        """Of the features at these positions those with the largest weights summed over horizons, ascending; all of
        them where `most` is 0."""
        strength = np.abs(self.skip.weight).sum(1)[among]
        chosen = among[np.argsort(-strength, kind="stable")[: most or None]]
        return np.sort(chosen).astype(np.int64)


def fit_foundation(training: Training, end: int, alpha: float) -> Foundation:
    """The skip on sessions [0, end), rows weighted by recency."""
    x, z, variance = training.inputs.x[:, :end], training.z[:, :end], training.relative_variance[:, :end]
    tickers, _, horizons = z.shape
    age = np.tile(np.arange(end - 1, -1, -1, dtype=np.float64), tickers)
    known = np.isfinite(z).any(-1).ravel()
    rows, targets = x.reshape(-1, x.shape[2])[known], z.reshape(-1, horizons)[known]
    skip = fit_scale_skip(rows, targets, age[known], alpha, training.half_life)
    weight, log_scale = 0.5 ** (age[known] / training.half_life), skip.log_scale(rows)
    shape = residual_shape(targets, log_scale, weight)
    factor = sigma_factor(variance.reshape(-1, horizons)[known], log_scale, weight)
    return Foundation(skip, shape, factor, alpha)


def choose_foundation(training: Training, alphas: tuple[float, ...]) -> Foundation:
    """The skip on the fit slice whose penalty does best on validation, horizons counted alike."""
    held_out = slice(training.slices.validation_start, training.slices.train_end)
    tried = [fit_foundation(training, training.slices.fit_end, alpha) for alpha in alphas]
    x, z = training.inputs.x[:, held_out], training.z[:, held_out]
    losses = np.array([session_pinball(z, each.outputs(x), each.shape) for each in tried])  # (A, V, H)
    means = np.nanmean(losses, axis=1)
    return tried[int(np.argmin((means / means[0]).mean(1)))]


def session_pinball(z: Float64, y: npt.NDArray[np.floating], shape: Float64) -> Float64:
    """Mean pinball loss over q10, q50, q90 and tickers: (V, H), NaN in a session without a known target.

    Args:
        z: (N, V, H), NaN = not known. y: (N, V, H, 4). shape: (H, 9).
    """
    known, total = np.isfinite(z), np.zeros(z.shape[1:])
    for at in PRIMARY:
        scale = np.where(shape[:, at] < 0, np.exp(y[..., 1]), np.exp(y[..., 2]))
        error = np.where(known, z - (y[..., 0] + scale * shape[:, at]), 0.0)
        total += np.maximum(QUANTILES[at] * error, (QUANTILES[at] - 1) * error).sum(0)
    count = known.sum(0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1) / len(PRIMARY), np.nan))
