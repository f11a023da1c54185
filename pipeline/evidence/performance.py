"""Figures of a wealth curve: return, risk, fall, and a Sharpe ratio with a block-bootstrap interval.

A curve is (..., T) wealth at the opens of T sessions, NaN outside its life. A year is 252 sessions; cash
earns nothing, so the Sharpe ratio is over zero.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from arch.bootstrap import StationaryBootstrap

from models.trading.sizing import SESSIONS_PER_YEAR

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Bounds of a figure, one a curve; NaN where no verdict can be given."""

    low: Floats
    high: Floats


def log_returns(wealth: Floats) -> Floats:
    """(..., T) log return since the session before, NaN on the first; ruin is a loss without bound, -inf."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(wealth)
        return np.diff(logs, axis=-1, prepend=np.nan)


def simple_returns(wealth: Floats) -> Floats:
    """(..., T) simple return since the session before, NaN on the first; -1 at ruin."""
    return np.asarray(np.expm1(log_returns(wealth)))


def annual_return(wealth: Floats) -> Floats:
    """(...) growth a year as a fraction: exp(252 x mean log return) - 1."""
    growth: Floats = np.expm1(SESSIONS_PER_YEAR * _mean(log_returns(wealth)))
    return growth


def annual_volatility(wealth: Floats) -> Floats:
    """(...) standard deviation of log returns times sqrt(252)."""
    r = log_returns(wealth)
    variance = _mean((r - _mean(r)[..., None]) ** 2)
    volatility: Floats = np.sqrt(SESSIONS_PER_YEAR * variance)
    return volatility


def sharpe(wealth: Floats) -> Floats:
    """(...) mean over standard deviation of simple returns, times sqrt(252); NaN where nothing moves."""
    r = simple_returns(wealth)
    mean = _mean(r)
    return _ratio(mean, _mean((r - mean[..., None]) ** 2))


def max_drawdown(wealth: Floats) -> Floats:
    """(...) largest fall below the highest wealth so far, a fraction <= 0."""
    fall: Floats = np.nanmin(wealth / np.fmax.accumulate(wealth, axis=-1) - 1, axis=-1)
    return fall


def rolling_volatility(wealth: Floats, sessions: int) -> Floats:
    """(..., T) annual volatility of the last `sessions` log returns; NaN until there are as many."""
    r = log_returns(wealth)
    out = np.full(wealth.shape, np.nan)
    if r.shape[-1] >= sessions:
        windows = np.lib.stride_tricks.sliding_window_view(r, sessions, axis=-1)
        out[..., sessions - 1 :] = windows.std(axis=-1) * np.sqrt(SESSIONS_PER_YEAR)
    return out


class SharpeDraws:
    """Sharpe ratios of many curves under the same resampled blocks of sessions.

    Stationary bootstrap (Politis and Romano 1994) through `arch`. Every curve sees the same sessions in the
    same resample, so differences between curves are paired.

    Args:
        wealth: (C, T), NaN outside a curve's life.
        block_sessions: mean length of a block.
        resamples: how many.
        min_blocks: a curve with fewer independent blocks gets NaN bounds.
        confidence: level of the intervals.
        seed: of the resampling.
    """

    def __init__(
        self,
        wealth: Floats,
        block_sessions: int,
        resamples: int,
        min_blocks: int,
        confidence: float,
        seed: int,
    ) -> None:
        r = simple_returns(wealth).T[1:]  # (T-1, C)
        lived = np.isfinite(r)
        r = np.where(lived, r, 0.0)
        T, C = r.shape
        bootstrap = StationaryBootstrap(block_sessions, np.arange(T), seed=seed)
        times = bootstrap.apply(lambda rows: np.bincount(rows, minlength=T), resamples)  # (R, T) how often
        totals = times @ np.hstack([r, r**2, lived])  # (R, 3C)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, square = totals[:, :C] / totals[:, 2 * C :], totals[:, C : 2 * C] / totals[:, 2 * C :]
        self._draws = _ratio(mean, square - mean**2)  # (R, C)
        self._draws[:, lived.sum(0) < min_blocks * block_sessions] = np.nan
        self._levels = (1 - confidence) / 2, (1 + confidence) / 2

    def interval(self) -> Interval:
        """(C,) bounds of each curve's Sharpe ratio."""
        return self._bounds(self._draws)

    def gain(self, against: npt.NDArray[np.int64]) -> Interval:
        """(C,) bounds of each curve's Sharpe ratio less that of curve `against[c]`."""
        return self._bounds(self._draws - self._draws[:, against])

    def _bounds(self, draws: Floats) -> Interval:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a curve without a verdict is all NaN
            low, high = np.nanquantile(draws, self._levels, axis=0)
        return Interval(low, high)


def _mean(values: Floats) -> Floats:
    """Mean over the last axis, leaving NaN aside; NaN where there is nothing."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = np.where(there, values, 0.0).sum(-1) / there.sum(-1)
    return mean


def _ratio(mean: Floats, variance: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = mean / np.sqrt(variance) * np.sqrt(SESSIONS_PER_YEAR)
    return np.where(variance > 1e-18, ratio, np.nan)
