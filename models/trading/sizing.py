"""The sizing rule: how much to hold so that a position moves as much as it should."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SESSIONS_PER_YEAR = 252


def target_weight(
    sigma: Floats,
    horizon: int,
    target_volatility: float,
    max_weight: float,
    sessions_per_year: float | Floats = SESSIONS_PER_YEAR,
) -> Floats:
    """clip(target_volatility / annual volatility forecast, 0, max_weight), of any shape; NaN stays NaN.

    Args:
        sigma: standard deviation of the log return over `horizon` sessions; zero gives `max_weight`.
        horizon: sessions.
        target_volatility: annual, as a fraction.
        max_weight: largest weight.
        sessions_per_year: broadcast to `sigma`.
    """
    annual = np.asarray(sigma, dtype=np.float64) * np.sqrt(sessions_per_year / horizon)
    with np.errstate(divide="ignore"):
        weight: Floats = np.clip(target_volatility / annual, 0.0, max_weight)
    return weight


def sizing_horizon(horizons: tuple[int, ...], wanted: int) -> int:
    """The nearest horizon at or below the wanted one; the shortest where there is none."""
    return max((h for h in horizons if h <= wanted), default=min(horizons))
