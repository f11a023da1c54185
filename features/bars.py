"""Bars: the prices of a universe as arrays, and the span of years that a year of features depends on.

A bar keeps one-session log total returns and, within the bar, log ratios to its own close, all rounded to multiples
of 2^-40: sums of such numbers are exact in any order and from any start. No price level enters a feature.

**The anchoring rule.** Calendar years come in pairs, an even one and the odd one after it. Every price feature of a
session is a function of the bars from January 1 of the year before its pair to that session, and of nothing else:
`Bars.span` cuts those bars out and forgets what came before, and the features of the pair are computed on the span
alone. So a run on the last three years gives the last one the same bits as a run on the whole history. The first bar
of a ticker in a span has no return, as if the ticker had been listed that day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import trailing
from features.actions import Adjusted, adjust
from features.trailing import Array, Bools, Sums

Scalar = TypeVar("Scalar", bound=np.generic)
Arguments = ParamSpec("Arguments")

GRID = 2.0**40
"""Logs are whole multiples of 1 / GRID."""
PAIR = 2
"""How many calendar years are computed together; the year before them is their history."""

NEAR = 20

VOL_DECAY = 0.94
VOL_CLIP = 0.5
VOL_FLOOR = 0.003
VOL_WARM_UP = 20
HALT_BARS = 20
"""So many bars of a ticker without any move, and its price is nobody's: a quote carried forward, or a halt."""


@dataclass(frozen=True)
class Bars:
    """The bars of N tickers on S sessions, (N, S) float64 each, NaN where a ticker did not trade.

    Attributes:
        tickers: (N,) str, sorted.
        sessions: (S,) datetime64[D], ascending.
        r: log total return since the ticker's previous bar, dividends and splits in (features/actions.py); NaN on its
            first one.
        up, down, day: ln(high / close), ln(low / close), ln(open / close).
        close: as reported.
        volume: as reported; zero is missing.
        members: (N, S), which tickers make up the market; None = all, always.
        keep: for how many sessions at the end features are wanted; the others are history. 0 = all.
    """

    tickers: npt.NDArray[np.str_]
    sessions: npt.NDArray[np.datetime64]
    r: Array
    up: Array
    down: Array
    day: Array
    close: Array
    volume: Array
    members: Bools | None = None
    keep: int = 0

    def __post_init__(self) -> None:
        if self.keep == 0:
            object.__setattr__(self, "keep", len(self.sessions))

    @classmethod
    def from_rows(
        cls,
        rows: pd.DataFrame,
        sessions: pd.DatetimeIndex,
        adjusted: Adjusted | None = None,
        members: Bools | None = None,
    ) -> Bars:
        """Bars of rows of the `prices` table.

        Args:
            rows: one a (ticker, session), any order; by ticker and session is fastest.
            sessions: S sessions of the exchange, ascending; rows on other dates are left aside, their returns are part
                of the next bar's.
            adjusted: `features.actions.adjust(rows)` where it is at hand, of these rows or of more.
            members: (N, S) by sorted ticker, which tickers make up the market; None = all, always.
        """
        adjusted = adjust(rows) if adjusted is None else adjusted
        gross = adjusted.gross if adjusted.gross.index is rows.index else adjusted.gross.loc[rows.index]
        codes, names = pd.factorize(rows["ticker"], sort=True)
        days = rows["session"].to_numpy().astype("datetime64[D]")
        axis = pd.DatetimeIndex(sessions).to_numpy().astype("datetime64[D]")
        at = np.searchsorted(axis, days)
        on_axis = axis[np.minimum(at, len(axis) - 1)] == days if len(axis) else np.zeros(len(days), dtype=bool)
        r = on_grid(trailing.ln(gross.to_numpy(dtype=np.float64)))
        if not on_axis.all():
            r = _bridged(r, codes, days, on_axis)
        shape = len(names), len(axis)
        cell = (codes * shape[1] + at)[on_axis]

        def wide(values: Array) -> Array:
            out = np.full(shape, np.nan)
            out.reshape(-1)[cell] = values[on_axis]
            return out

        price = {name: rows[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close", "volume")}
        up, down, day = (wide(on_grid(trailing.ln(price[name] / price["close"]))) for name in ("high", "low", "open"))
        volume = np.where(price["volume"] > 0, price["volume"], np.nan)
        tickers = np.asarray(names, dtype=str)
        return cls(tickers, axis, wide(r), up, down, day, wide(price["close"]), wide(volume), members)

    @cached_property
    def years(self) -> npt.NDArray[np.int64]:
        """(S,) the calendar year of each session."""
        return self.sessions.astype("datetime64[Y]").astype(np.int64) + 1970

    def span(self, year: int) -> Bars:
        """All that the features of a pair of years may depend on: the bars from January 1 of the year before to its
        end; features are wanted for the pair itself. The first bar of each ticker has no return.

        Args:
            year: either of the pair.
        """
        first_year = pair_of(year)
        start, first, end = np.searchsorted(self.years, (first_year - 1, first_year, first_year + PAIR))
        cut = slice(int(start), int(end))
        parts = {name: getattr(self, name)[:, cut] for name in ("r", "up", "down", "day", "close", "volume")}
        traded = np.isfinite(parts["close"])
        r = np.array(parts["r"])
        r[np.arange(len(r)), traded.argmax(axis=1)] = np.nan
        inside = None if self.members is None else self.members[:, cut]
        return replace(self, sessions=self.sessions[cut], **{**parts, "r": r}, members=inside, keep=int(end - first))

    def now(self, x: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """(N, keep) the sessions that features are wanted for."""
        return x[:, x.shape[1] - self.keep :]

    def near(self, x: Array) -> Array:
        """(N, at most keep + 20) what windows of up to 20 sessions read."""
        return x[:, -(self.keep + NEAR) :]

    def sums(self, x: Array, like: Sums | None = None) -> Sums:
        """Trailing sums of a series, for the sessions that features are wanted for."""
        return Sums(x, self.keep, like)

    @cached_property
    def traded(self) -> Bools:
        """(N, S) whether there is a bar."""
        return np.isfinite(self.close)

    @cached_property
    def path(self) -> Array:
        """(N, S) L: ln of the close with all dividends and splits in, less that of the first bar; NaN without a bar."""
        return np.where(self.traded, np.cumsum(np.where(np.isfinite(self.r), self.r, 0.0), axis=1), np.nan)

    @cached_property
    def gap(self) -> Array:
        """(N, S) ln(open / previous close), dividends and splits in."""
        return self.r + self.day

    @cached_property
    def vol(self) -> Array:
        """(N, S) v: see `volatility`; NaN where there is no return."""
        return self._vols[:-1]

    @cached_property
    def v(self) -> Array:
        """(N, keep) `vol` at the sessions that features are wanted for."""
        return self.now(self.vol)

    @cached_property
    def scale(self) -> Array:
        """(N, keep) `v`, what forecasts are in units of; NaN where the ticker is `halted`."""
        return np.where(self.now(halted(self.r)), np.nan, self.v)

    @cached_property
    def moves(self) -> Sums:
        """Sums of r."""
        return self.sums(self.r)

    @cached_property
    def squares(self) -> Sums:
        """Sums of r squared."""
        return self.sums(self.r**2, self.moves)

    @cached_property
    def spreads(self) -> Sums:
        """Sums of ln(high / low) squared, for `near` windows."""
        return self.sums((self.near(self.up) - self.near(self.down)) ** 2)

    @cached_property
    def log_volume(self) -> Array:
        """(N, S) ln of the volume less that of the ticker's first bar with one."""
        logs = trailing.ln(self.volume)
        first = np.isfinite(logs).argmax(axis=1)
        relative: Array = logs - logs[np.arange(len(logs)), first][:, None]
        return relative

    @cached_property
    def volume_moves(self) -> Sums:
        """Sums of `log_volume`."""
        return self.sums(self.log_volume)

    @cached_property
    def volume_squares(self) -> Sums:
        """Sums of `log_volume` squared."""
        return self.sums(self.log_volume**2, self.volume_moves)

    @cached_property
    def inside(self) -> Bools:
        """(N, S) which tickers make up the market and have a bar."""
        return self.traded if self.members is None else self.traded & self.members

    @cached_property
    def market(self) -> Array:
        """(1, S) m: equal-weighted mean of r over the members, on the grid; NaN where none has a return."""
        return on_grid(mean_across(np.where(self.inside, self.r, np.nan)))

    @cached_property
    def market_vol(self) -> Array:
        """(1, S) w: the `volatility` of m."""
        return self._vols[-1:]

    @cached_property
    def _vols(self) -> Array:
        """(N + 1, S) of the tickers and, last, of the market: one recursion for all."""
        return volatility(np.concatenate([self.r, self.market]))

    @cached_property
    def gap_squares(self) -> Sums:
        """Sums of `gap` squared, for `near` windows."""
        return self.sums(self.near(self.gap) ** 2)


def once(compute: Callable[Concatenate[Bars, Arguments], Array]) -> Callable[Concatenate[Bars, Arguments], Array]:
    """A function that is computed once for the same bars and arguments; what it returns is not to be written to."""

    @wraps(compute)
    def remembered(bars: Bars, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Array:
        memory: dict[Any, Array] = bars.__dict__.setdefault("_remembered", {})
        key = compute.__qualname__, args, tuple(kwargs.items())
        if key not in memory:
            memory[key] = compute(bars, *args, **kwargs)
        return memory[key]

    return remembered  # type: ignore[return-value]  # mypy wants to know the name of the first argument


def pair_of(year: int) -> int:
    """The first of the two years that a year is computed with."""
    return year - year % PAIR


def volatility(r: Array) -> Array:
    """(N, S) EWMA volatility of daily log returns (RiskMetrics 1996, lambda .94), known at the session's close.

    Returns are clipped at +-50 %, the result is floored at .003 a day. NaN before a ticker's 20th return, and on
    sessions without one.
    """
    squares: Array = np.clip(r, -VOL_CLIP, VOL_CLIP) ** 2
    variance = trailing.ewma(squares, VOL_DECAY, VOL_WARM_UP)
    return np.where(np.isfinite(r), np.maximum(np.sqrt(variance), VOL_FLOOR), np.nan)


def halted(r: Array | npt.NDArray[np.float32]) -> Bools:
    """(N, T) True on the bars before which, itself included, the ticker's last `HALT_BARS` returns were all zero.

    Known at each session; bars without a return are passed over.

    Args:
        r: (N, T) log total returns, NaN where there is none.
    """
    held = np.isfinite(r)
    count = held.cumsum(axis=1)
    moved = np.maximum.accumulate(np.where(held & (r != 0), count, 0), axis=1)
    return np.asarray(held & (count - moved >= HALT_BARS))


def mean_across(x: Array) -> Array:
    """(1, S) mean over the tickers that have a value; NaN where none has."""
    return trailing.quotient(trailing.across(x), trailing.across(np.where(np.isfinite(x), 1.0, np.nan)))


def on_grid(logs: Array) -> Array:
    """Rounded to multiples of 2^-40, so that sums are exact."""
    rounded: Array = np.round(logs * GRID) / GRID
    return rounded


def _bridged(r: Array, codes: npt.NDArray[np.int64], days: npt.NDArray[np.datetime64], kept: Bools) -> Array:
    """(n,) returns since the ticker's previous kept row, by row; those of the other rows are not meant to be read."""
    order = np.lexsort((days, codes))
    on = order[kept[order]]
    path = pd.Series(np.where(np.isfinite(r), r, 0.0)[order]).groupby(codes[order]).cumsum().to_numpy()
    at = path[kept[order]]
    out = np.full(len(r), np.nan)
    follows = codes[on][1:] == codes[on][:-1]
    out[on[1:][follows]] = np.diff(at)[follows]
    return out
