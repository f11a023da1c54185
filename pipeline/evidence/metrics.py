"""Measures of a forecast, element by element: pure functions of arrays, NaN where an input is NaN."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import chi2

Array = npt.NDArray[np.float64]

RV_FLOOR = 1e-8
"""Realised variance per session below it (a move under a basis point) counts as this much: QLIKE takes its log."""


def pinball(actual: Array, quantiles: Array, levels: tuple[float, ...]) -> Array:
    """Quantile (pinball) loss averaged over the levels (Koenker and Bassett 1978).

    Args:
        actual: (...). quantiles: (..., Q). levels: Q levels in (0, 1).
    """
    error = actual[..., None] - quantiles
    tau = np.asarray(levels)
    return np.asarray(np.maximum(tau * error, (tau - 1) * error).mean(-1))


def qlike(realised_variance: Array, forecast_variance: Array) -> Array:
    """v / f - ln(v / f) - 1 (Patton 2011, equation 24): zero at f = v, robust to noise in v."""
    ratio = np.maximum(realised_variance, RV_FLOOR) / forecast_variance
    return np.asarray(ratio - np.log(ratio) - 1)


def brier(actual: Array, p_up: Array) -> Array:
    """Squared difference of p_up and whether the return was above zero."""
    return np.where(np.isnan(actual), np.nan, (p_up - (actual > 0)) ** 2)


def log_loss(actual: Array, p_up: Array) -> Array:
    """-ln of the chance that was given to what happened; p_up is kept 1e-6 from 0 and 1."""
    chance = np.clip(np.where(actual > 0, p_up, 1 - p_up), 1e-6, 1.0)
    return np.where(np.isnan(actual), np.nan, -np.log(chance))


def hit(actual: Array, p_up: Array) -> Array:
    """1 where the side of p_up (above .5 is up) is the side of the return, else 0."""
    return np.where(np.isnan(actual) | np.isnan(p_up), np.nan, ((p_up > 0.5) == (actual > 0)).astype(np.float64))


def inside(actual: Array, low: Array, high: Array) -> Array:
    """1 where the value lies within the interval, else 0."""
    unknown = np.isnan(actual) | np.isnan(low)
    return np.where(unknown, np.nan, ((actual >= low) & (actual <= high)).astype(np.float64))


class Exceedances(NamedTuple):
    """How often a return fell below its value at risk, and whether that is as promised.

    kupiec_p: unconditional coverage (Kupiec 1995). christoffersen_p: independence from one session to the next
    (Christoffersen 1998). None where no exceedance can be tested.
    """

    exceedances: int
    expected: float
    n: int
    kupiec_p: float | None
    christoffersen_p: float | None


def exceedances(breached: list[npt.NDArray[np.bool_]], level: float) -> Exceedances:
    """Both tests over one or several series of consecutive sessions.

    Args:
        breached: one bool array a ticker, in session order.
        level: promised share of exceedances, like .05.

    Pooled series count transitions within each ticker only. Tickers move together, so that pooled p-values
    are too small; the per-ticker ones are exact asymptotically.
    """
    n = sum(len(series) for series in breached)
    hits = int(sum(series.sum() for series in breached))
    if n == 0:
        return Exceedances(0, 0.0, 0, None, None)
    rate = hits / n
    ratio = 2 * (_log_likelihood(hits, n - hits, rate) - _log_likelihood(hits, n - hits, level))
    kupiec = float(chi2.sf(max(ratio, 0.0), 1))
    counts = np.zeros((2, 2))
    for series in breached:
        np.add.at(counts, (series[:-1].astype(int), series[1:].astype(int)), 1)
    if hits == 0:
        return Exceedances(hits, level * n, n, kupiec, None)
    (n00, n01), (n10, n11) = counts
    pooled = (n01 + n11) / counts.sum()
    after_none = n01 / max(n00 + n01, 1)
    after_hit = n11 / max(n10 + n11, 1)
    dependent = _log_likelihood(n01, n00, after_none) + _log_likelihood(n11, n10, after_hit)
    ratio = 2 * (dependent - _log_likelihood(n01 + n11, n00 + n10, pooled))
    return Exceedances(hits, level * n, n, kupiec, float(chi2.sf(max(ratio, 0.0), 1)))


def _log_likelihood(hits: float, misses: float, rate: float) -> float:
    return float(xlogy(hits, rate) + xlogy(misses, 1 - rate))
