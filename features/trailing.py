"""Trailing statistics of float64 arrays: rows are tickers, columns are sessions, NaN is missing.

Each reads the whole of the array it is given, and answers for its last `keep` sessions. Nothing at a session reads a
later one. A window of n sessions is defined once 4/5 of them have a value. The bits of an answer do not depend on how
many tickers there are, on what comes later, or on empty sessions in front: sums run along the sessions one by one.
"""

from __future__ import annotations

import math

import bottleneck
import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int32]

LOG_FLOOR = -5.0
"""Logs of ratios end here: a window in which hardly anything moved has a ratio of nearly zero."""
SPREAD_FLOOR = 1e-5
"""A standard deviation below it is rounding."""


def needed(n: int) -> int:
    """How many of a window's n sessions must have a value: 4/5, rounded up."""
    return -(-n * 4 // 5)


class Sums:
    """Running sums of one series, from which every window of it is a difference.

    Args:
        x: (N, S).
        keep: for how many sessions at the end answers are wanted, at most S.
        like: of a series that is missing where `x` is, to share its counts.
    """

    def __init__(self, x: Array, keep: int, like: Sums | None = None) -> None:
        self.keep = keep
        self._means: dict[tuple[int, int], Array] = {}
        there = np.isfinite(x)
        self._sums = np.zeros((x.shape[0], x.shape[1] + 1))
        np.cumsum(np.where(there, x, 0.0), axis=1, out=self._sums[:, 1:])
        if like is not None:
            self._counts: Counts = like._counts
            self._seen: dict[tuple[int, int], tuple[Bools | None, Counts]] = like._seen
            return
        self._counts = np.zeros(self._sums.shape, dtype=np.int32)
        np.cumsum(there, axis=1, dtype=np.int32, out=self._counts[:, 1:])
        self._seen = {}

    def mean(self, n: int, lag: int = 0) -> Array:
        """(N, keep) mean over n sessions, the last of them `lag` sessions ago; kept, and not to be written to."""
        if (n, lag) in self._means:
            return self._means[n, lag]
        total = _windows(self._sums, self.keep, n, lag)
        short, count = self._short(n, lag)
        total /= n if short is None else np.maximum(count, 1)
        if short is not None:
            total[short] = np.nan
        self._means[n, lag] = total
        return total

    def count(self, n: int, lag: int = 0) -> Counts:
        """(N, keep) how many of the n sessions have a value."""
        return self._short(n, lag)[1]

    def _short(self, n: int, lag: int) -> tuple[Bools | None, Counts]:
        """Which windows have too few values, None if every window has all; and how many they have."""
        if (n, lag) not in self._seen:
            count = _windows(self._counts, self.keep, n, lag)
            self._seen[n, lag] = (None if (count == n).all() else count < needed(n)), count
        return self._seen[n, lag]

    def rms(self, n: int) -> Array:
        """Root of `mean`, for sums of squares; a difference of sums can end a hair below zero."""
        return np.sqrt(np.maximum(self.mean(n), 0.0))


def variance(first: Sums, second: Sums, n: int, ddof: int = 0) -> Array:
    """(N, keep) variance over n sessions, from the sums of a series and of its squares."""
    found = np.maximum(second.mean(n) - first.mean(n) ** 2, 0.0)
    if ddof == 0:
        return found
    count = first.count(n)
    return found * (count / np.maximum(count - ddof, 1))


def deviation(first: Sums, second: Sums, n: int, ddof: int = 0) -> Array:
    """(N, keep) standard deviation over n sessions; NaN where it is no more than rounding."""
    found = np.sqrt(variance(first, second, n, ddof))
    return np.where(found > SPREAD_FLOOR, found, np.nan)


def highest(x: Array, n: int, keep: int) -> Array:
    """(N, keep) highest value of the last n sessions."""
    return np.asarray(bottleneck.move_max(_reach(x, n, keep), n, needed(n), axis=1)[:, -keep:])


def lowest(x: Array, n: int, keep: int) -> Array:
    """(N, keep) lowest value of the last n sessions."""
    return np.asarray(bottleneck.move_min(_reach(x, n, keep), n, needed(n), axis=1)[:, -keep:])


def since_highest(x: Array, n: int, keep: int) -> Array:
    """(N, keep) sessions since the highest value of the last n sessions, 0 = this one."""
    return np.asarray(bottleneck.move_argmax(_reach(x, n, keep), n, needed(n), axis=1)[:, -keep:])


def recursion(x: Array, decay: float, gain: float = 1.0) -> Array:
    """(N, S) s(t) = decay s(t-1) + gain x(t), from s = 0; a missing value leaves s as it was."""
    there = np.isfinite(x)
    entering = np.where(there, x * gain, 0.0)
    state: Array = lfilter([1.0], [1.0, -decay], entering, axis=1)
    # One filter for all, whatever holes a later session brings: of a row with holes it is shown what is there.
    with_holes = there.sum(axis=1) < there.shape[1] - there.argmax(axis=1)
    for n in np.flatnonzero(with_holes):
        own = lfilter([1.0], [1.0, -decay], entering[n, there[n]])
        state[n] = np.r_[0.0, own][np.cumsum(there[n])]
    return state


def ewma(x: Array, decay: float, warm_up: int = 1) -> Array:
    """(N, S) exponential average, its weights made to sum to one (pandas: adjust=True, ignore_na=True).

    NaN before the `warm_up`-th value; a missing value leaves it as it was.
    """
    count = observations(x)
    weight = np.cumsum(np.r_[0.0, 1.0, np.cumprod(np.full(x.shape[1], decay))])  # of as many values
    return np.where(count >= warm_up, recursion(x, decay) / np.maximum(weight[count], 1.0), np.nan)


def observations(x: Array) -> Counts:
    """(N, S) values up to each session."""
    return np.cumsum(np.isfinite(x), axis=1, dtype=np.int32)


def carried(x: Array) -> Array:
    """(N, S) the latest value known at each session."""
    at = np.maximum.accumulate(np.where(np.isfinite(x), np.arange(x.shape[1]), 0), axis=1)
    return np.take_along_axis(x, at, axis=1)


def lagged(x: Array, n: int, keep: int) -> Array:
    """(N, keep) the value n sessions before; NaN before the first."""
    out = np.full((x.shape[0], keep), np.nan)
    known = min(keep, max(x.shape[1] - n, 0))
    if known:
        out[:, keep - known :] = x[:, x.shape[1] - n - known : x.shape[1] - n]
    return out


def across(x: Array) -> Array:
    """(1, S) sum over tickers, one after the other, so that absent ones change no bit; missing counts as 0."""
    # A plain sum adds in pairs when there is one session, and so depends on how many there are.
    totals: Array = np.add.accumulate(np.where(np.isfinite(x), x, 0.0), axis=0)
    return totals[-1:] if len(x) else np.zeros((1, x.shape[1]))


def ln(x: Array) -> Array:
    """Natural logarithm; NaN for what is not above zero."""
    # NumPy has other bits for arrays that are not contiguous.
    positive = np.ascontiguousarray(np.where(x > 0, x, np.nan))
    logs: Array = np.log(positive)
    return logs


def log_ratio(top: Array, bottom: Array) -> Array:
    """ln(top / bottom), never below LOG_FLOOR; NaN where `bottom` is not above zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bottom > 0, top / bottom, np.nan)
    return ln(np.maximum(ratio, math.exp(LOG_FLOOR)))


def quotient(top: Array, bottom: Array, least: float = 0.0) -> Array:
    """top / bottom; NaN where the size of `bottom` is not above `least`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(bottom) > least, top / bottom, np.nan)


def _windows(sums: npt.NDArray, keep: int, n: int, lag: int) -> npt.NDArray:  # type: ignore[type-arg]
    """(N, keep) differences of running sums (N, S + 1) over the windows of n sessions that end `lag` sessions ago."""
    last = sums.shape[1] - lag
    first = last - keep
    if first - n >= 0:
        return np.asarray(sums[:, first:last] - sums[:, first - n : last - n])
    ends = np.arange(first, last)
    return np.asarray(sums[:, np.maximum(ends, 0)] - sums[:, np.maximum(ends - n, 0)])


def _reach(x: Array, n: int, keep: int) -> Array:
    """What the windows of the last `keep` sessions read, with missing sessions in front where there are too few."""
    read = x[:, -(keep + n - 1) :]
    short = n - read.shape[1]
    return np.ascontiguousarray(read if short <= 0 else np.pad(read, ((0, 0), (short, 0)), constant_values=np.nan))
