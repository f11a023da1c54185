"""The correlation forecast for portfolios: EWMA of standardised returns with Ledoit-Wolf shrinkage, times the scales.

Returns over the volatility known the session before are comparable over time; their weighted covariance is shrunk
towards a multiple of the identity by the intensity of Ledoit and Wolf (2004), the sum over sessions in it weighted
likewise, and brought to a diagonal of one. A covariance is that matrix between the forecast sigmas of a horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

CLIP = 6.0
"""A standardised return beyond it counts as much: one merger day is no correlation."""


@dataclass(frozen=True)
class CorrelationConfig:
    """Attributes:
    half_life: sessions. window: most sessions that are read. least: returns a ticker needs inside the window.
    """

    half_life: float = 120.0
    window: int = 750
    least: int = 60


class Shrunk(NamedTuple):
    """covariance: (N, N) after shrinkage. intensity: 0 = the sample's, 1 = the identity's."""

    covariance: Float64
    intensity: float


def standardised(returns: Float64, vol: Float64) -> Float64:
    """(N, T) returns over their ticker's last volatility known before the session, clipped; NaN where there is none.

    Args:
        returns: (N, T) session log returns. vol: (N, T) volatility known at the close of each session.
    """
    at = np.where(np.isfinite(vol), np.arange(vol.shape[1]), -1)
    last = np.maximum.accumulate(at, axis=1)
    before = np.concatenate([np.full((len(vol), 1), -1), last[:, :-1]], axis=1)
    known = np.where(before >= 0, np.take_along_axis(vol, np.maximum(before, 0), axis=1), np.nan)
    return np.asarray(np.clip(returns / known, -CLIP, CLIP))


def correlations(
    returns: Float64, vol: Float64, sessions: Sequence[int], config: CorrelationConfig | None = None
) -> Float64:
    """The correlation forecast at the close of each session, from returns up to it.

    Args:
        returns: (N, T), NaN = none. vol: (N, T). sessions: S positions on the axis of sessions.

    Returns:
        (S, N, N) positive semi-definite, diagonal one; rows and columns of a ticker with fewer than `least` returns in
        the window are NaN. Pairs that seldom trade on the same sessions are drawn towards zero.

    Raises:
        IndexError: a session lies outside the history.
    """
    config = config or CorrelationConfig()
    unit = standardised(returns, vol)
    found = np.full((len(sessions), len(returns), len(returns)), np.nan)
    for number, session in enumerate(sessions):
        if not 0 <= session < returns.shape[1]:
            raise IndexError(f"session {session} lies outside the history of {returns.shape[1]} sessions")
        part = unit[:, max(0, session + 1 - config.window) : session + 1].T
        held = np.isfinite(part).sum(0) >= config.least
        if held.any():
            weight = 0.5 ** (np.arange(len(part) - 1, -1, -1) / config.half_life)
            covariance = ledoit_wolf(part[:, held], weight).covariance
            root = np.sqrt(np.diag(covariance))
            matrix = covariance / np.outer(root, root)
            np.fill_diagonal(matrix, 1.0)
            found[number][np.ix_(held, held)] = matrix
    return found


def ledoit_wolf(x: Float64, weight: Float64) -> Shrunk:
    """Weighted covariance around zero, shrunk towards its mean variance times the identity.

    With equal weights and nothing missing it is `sklearn.covariance.ledoit_wolf(x, assume_centered=True)`. A missing
    value counts as zero and every ticker is scaled up by the weight that it has, which keeps the matrix positive
    semi-definite.

    Args:
        x: (T, N), NaN = missing. weight: (T,), not negative.

    Raises:
        ValueError: a column has no value of positive weight, or every value is zero.
    """
    share = weight / weight.sum()
    held = np.isfinite(x)
    coverage = share @ held
    if not (coverage > 0).all():
        raise ValueError(f"column {int(np.argmin(coverage))} has no value of positive weight; leave it out")
    filled = np.where(held, x, 0.0) / np.sqrt(coverage)
    sample = filled.T @ (filled * share[:, None])
    sample = (sample + sample.T) / 2  # to the last bit
    mean = float(np.trace(sample)) / len(sample)
    if mean == 0:
        raise ValueError("every return is zero: prices are constant; check the prices")
    target = mean * np.eye(len(sample))
    distance = float(((sample - target) ** 2).sum())
    # Of each session, |x x' - S|^2 = |x|^4 - 2 x' S x + |S|^2; the weights count squared, as in the variance of a mean.
    fourth = (filled**2).sum(1) ** 2 - 2 * np.einsum("tn,nm,tm->t", filled, sample, filled, optimize=True)
    error = float(share**2 @ (fourth + (sample**2).sum()))
    intensity = 0.0 if distance == 0 else float(np.clip(error / distance, 0.0, 1.0))
    return Shrunk((1 - intensity) * sample + intensity * target, intensity)


def covariance(correlation: Float64, sigma: Float64) -> Float64:
    """(..., N, N) covariance of log returns over a horizon, from (..., N, N) correlations and (..., N) sigmas."""
    return np.asarray(correlation * sigma[..., :, None] * sigma[..., None, :])


def portfolio_sigma(weights: Float64, matrix: Float64) -> Float64:
    """(...,) standard deviation of the return of (..., N) portfolio weights; a ticker of weight zero may be NaN."""
    inside = weights != 0
    pairs = inside[..., :, None] & inside[..., None, :]
    variance = np.einsum("...n,...nm,...m->...", weights, np.where(pairs, matrix, 0.0), weights)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))
