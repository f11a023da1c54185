"""What an algorithm achieves over its seeds: interquartile mean, and an interval by a stratified bootstrap.

One seed is one draw of an algorithm whose seeds differ a lot; a mean is moved by one lucky seed, a median wastes half
of them. Agarwal et al. 2021 (section 4.3) take the mean of the middle half, and resample runs with replacement in each
task on its own. Here a task is a block of the walk-forward: its agents are independent fits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Interquartile(NamedTuple):
    """The interquartile mean of an algorithm and the bounds of its interval."""

    value: float
    low: float
    high: float


def middle(scores: Floats) -> Ints:
    """Positions of the seeds that an interquartile mean is the mean of: (R,) scores without the lowest and the highest
    R // 4; ties by position."""
    cut = len(scores) // 4
    return np.sort(np.argsort(scores, kind="stable")[cut : len(scores) - cut])


def iqm(scores: Floats) -> Floats:
    """(...) mean of the middle half of (..., R) scores: without the lowest and the highest R // 4."""
    cut = scores.shape[-1] // 4
    held = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return np.asarray(held.mean(axis=-1))


def interquartile(scores: Floats, weights: Floats, resamples: int, confidence: float, seed: int) -> Interquartile:
    """The interquartile mean over seeds of what they score over all blocks.

    Args:
        scores: (M, R) of R seeds in M blocks; finite.
        weights: (M,) of the blocks, like their numbers of sessions; a seed's score is the weighted mean over blocks.
        resamples: draws of R seeds with replacement in every block. confidence: of the interval. seed: of the draws.

    Raises:
        ValueError: a score is not finite, or there are no seeds.
    """
    M, R = scores.shape
    if not R or not np.isfinite(scores).all():
        raise ValueError(f"{M} blocks x {R} seeds need a finite score each")
    share = weights / weights.sum()
    drawn = np.random.default_rng(seed).integers(R, size=(resamples, M, R))
    resampled = np.take_along_axis(scores[None], drawn, axis=2)  # (resamples, M, R)
    found = iqm(np.einsum("m,bmr->br", share, resampled))
    low, high = np.quantile(found, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interquartile(float(iqm(share @ scores)), float(low), float(high))
