"""The baselines in every race: what a forecaster must beat before it may be believed.

`unconditional`: one distribution of raw returns for all tickers and sessions, from the training slice.
`ewma`: today's EWMA volatility times the pooled distribution of z over the last 750 known sessions (RiskMetrics
with filtered historical simulation, Hull and White 1998). Always-up and the naive direction are read off their
p_up, the share of rising targets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES

Float64 = npt.NDArray[np.float64]

TRAILING_SESSIONS = 750
REFRESH_SESSIONS = 5
"""The pooled distribution moves slowly: it is taken anew every fifth session and held in between."""


class Distribution(NamedTuple):
    """A forecast in z units by session: quantiles (T, H, 9), sigma (T, H), p_up (T, H); NaN = not enough known."""

    quantiles: Float64
    sigma: Float64
    p_up: Float64


def trailing(z: Float64, relative_variance: Float64, known_after: tuple[int, ...], start: int) -> Distribution:
    """The pooled distribution of z over the last 750 sessions whose targets are known at each session.

    Args:
        z: (N, T, H) targets, NaN = none. relative_variance: (N, T, H) realised variance over squared volatility.
        known_after: by horizon, how many sessions after a decision its target is known: h for close to close, h + 1
            for open to open. At the close of t, with the opens up to t seen, the newest one is that of t - h - 1.
        start: first session wanted; earlier ones stay NaN.
    """
    n_sessions = z.shape[1]
    quantiles = np.full((n_sessions, len(known_after), len(QUANTILES)), np.nan)
    sigma = np.full((n_sessions, len(known_after)), np.nan)
    p_up = np.full((n_sessions, len(known_after)), np.nan)
    for at, delay in enumerate(known_after):
        for t in range(start, n_sessions):
            if (t - start) % REFRESH_SESSIONS:
                quantiles[t, at], sigma[t, at], p_up[t, at] = quantiles[t - 1, at], sigma[t - 1, at], p_up[t - 1, at]
                continue
            end = t - delay + 1
            if end <= TRAILING_SESSIONS // 3:
                continue
            window = slice(max(0, end - TRAILING_SESSIONS), end)
            seen = z[:, window, at]
            seen = seen[np.isfinite(seen)]
            if not len(seen):
                continue
            quantiles[t, at] = np.quantile(seen, QUANTILES)
            sigma[t, at] = np.sqrt(np.nanmean(relative_variance[:, window, at]))
            p_up[t, at] = np.mean(seen > 0)
    return Distribution(quantiles, sigma, p_up)


def unconditional(log_return: Float64, rv: Float64, horizons: tuple[int, ...]) -> Distribution:
    """One distribution of raw log returns: quantiles (1, H, 9) and sigma (1, H) in log return, p_up (1, H).

    Args:
        log_return: (N, T, H) of the training slice, NaN = not known. rv: (N, T, H), variance per session.
    """
    flat = log_return.reshape(-1, len(horizons))
    quantiles = np.nanquantile(flat, QUANTILES, axis=0).T  # (H, 9)
    sigma = np.sqrt(np.nanmean(rv.reshape(-1, len(horizons)), axis=0) * np.asarray(horizons))
    known = np.isfinite(flat)
    p_up = (flat > 0).sum(0) / known.sum(0)
    return Distribution(quantiles[None], sigma[None], p_up[None])
