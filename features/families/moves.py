"""Where the price went: returns, momentum, gaps, distance from extremes.

r = log total return of the session, L = its running sum (the log of the adjusted close), v = `vol`, mean_n and sum_n
over the last n sessions (sum_n = n mean_n where a few are missing), ln = natural logarithm. How each is defined stands
in features/catalogue.py too.
"""

from __future__ import annotations

import math

import numpy as np

from features import trailing
from features.bars import Bars, once
from features.trailing import Array, quotient

RSI_SESSIONS, STOCHASTIC_SESSIONS = 14, 14
FAST, SLOW, SIGNAL = 12, 26, 9
"""Spans of MACD's averages (Appel): an average of span s forgets by (s - 1) / (s + 1) a session."""


def returns_family(bars: Bars) -> dict[str, Array]:
    """ret_n = sum_n(r) / (v sqrt n): past moves in units of volatility, n = 1, 5, 20, 60, 120, 250."""
    found = {"ret_1": bars.now(bars.r) / bars.v}
    return found | {f"ret_{n}": scaled_move(bars, n) for n in (5, 20, 60, 120, 250)}


@once
def scaled_move(bars: Bars, n: int, lag: int = 0) -> Array:
    """sum_n(r) / (v sqrt n), the window ending `lag` sessions ago."""
    return bars.moves.mean(n, lag) * math.sqrt(n) / bars.v


def momentum_family(bars: Bars) -> dict[str, Array]:
    """mom_250_20 = sum of r over the sessions t-249 to t-20, / (v sqrt 230): a year without its last month.

    rsi_14 = (G - F) / (G + F), G and F Wilder's averages (decay 13/14) of max(r, 0) and of max(-r, 0): RSI / 50 - 1,
    on log prices; 0 where nothing moved. macd = (A12 - A26) / v, A_s the exponential average of L with decay
    (s - 1) / (s + 1), from the first L; macd_hist = (M - A9 of M) / v with M = A12 - A26. boll_20 = (L - mean_20 L) /
    (2 std_20 L), ddof 0. stoch_14 = 2 (L - lowest) / (highest - lowest) - 1 over the lows and highs of 14 sessions.
    """
    fast, slow = (_behind(bars.r, span) for span in (FAST, SLOW))
    macd, signal = _macd_lines(bars, fast - slow)
    path = bars.near(bars.path)
    levels = bars.sums(path, bars.spreads)
    spread = trailing.deviation(levels, bars.sums(path**2, levels), 20)
    now = bars.now(bars.path)
    return {
        "mom_250_20": scaled_move(bars, 230, 20),
        "rsi_14": _relative_strength(bars),
        "macd": bars.now(macd) / bars.v,
        "macd_hist": bars.now(macd - signal) / bars.v,
        "boll_20": (now - levels.mean(20)) / (2 * spread),
        "stoch_14": _stochastic(bars),
    }


def _macd_lines(bars: Bars, apart: Array) -> tuple[Array, Array]:
    """(N, S) M = A12 - A26 and its signal line A9 of M; NaN before 26 and 34 returns of the ticker."""
    macd = np.where(np.isfinite(bars.r), apart, np.nan)
    decay = (SIGNAL - 1) / (SIGNAL + 1)
    signal = trailing.recursion(macd, decay, 1 - decay)
    count = trailing.observations(bars.r)
    return np.where(count >= SLOW, macd, np.nan), np.where(count >= SLOW + SIGNAL - 1, signal, np.nan)


def _behind(r: Array, span: int) -> Array:
    """(N, S) the exponential average of L less L: A(t) - L(t) = decay (A(t-1) - L(t-1) - r(t)).

    Averages of levels as filters of returns, so no level enters.
    """
    decay = (span - 1) / (span + 1)
    return trailing.recursion(r, decay, -decay)


def _relative_strength(bars: Bars) -> Array:
    decay = 1 - 1 / RSI_SESSIONS
    gains, falls = (bars.now(trailing.recursion(np.maximum(side * bars.r, 0.0), decay)) for side in (1, -1))
    moved = gains + falls
    found = np.where(moved > 0, quotient(gains - falls, moved), 0.0)
    return np.where(bars.now(trailing.observations(bars.r)) >= RSI_SESSIONS, found, np.nan)


def _stochastic(bars: Bars) -> Array:
    top = trailing.highest(bars.path + bars.up, STOCHASTIC_SESSIONS, bars.keep)
    bottom = trailing.lowest(bars.path + bars.down, STOCHASTIC_SESSIONS, bars.keep)
    return 2 * quotient(bars.now(bars.path) - bottom, top - bottom) - 1


def gap_family(bars: Bars) -> dict[str, Array]:
    """gap = ln(open / previous close), dividends and splits in; day = ln(open / close), so that gap = r + day.

    gap_1 = gap / v; gap_abs_1 = |gap_1|; gap_vol_20 = ln(rms_20(gap) / v); gap_share_20 = mean_20(gap^2) /
    (mean_20(gap^2) + mean_20(day^2)): how much of the movement comes overnight.
    """
    squares = bars.gap_squares
    overnight = squares.mean(20)
    day = np.where(np.isfinite(bars.near(bars.gap)), bars.near(bars.day), np.nan)
    intraday = bars.sums(day**2, squares).mean(20)
    gap = bars.now(bars.gap) / bars.v
    return {
        "gap_1": gap,
        "gap_abs_1": np.abs(gap),
        "gap_vol_20": trailing.log_ratio(squares.rms(20), bars.v),
        "gap_share_20": quotient(overnight, overnight + intraday),
    }


def drawdown_family(bars: Bars) -> dict[str, Array]:
    """drawdown_n = max(L - highest L of the last n sessions, -5) / (v sqrt n); rise_n = min(L - lowest L, 5) /
    (v sqrt n), n = 20, 60, 250; since_high_250 = sessions since the highest L of the last 250, / 250."""
    now, found = bars.now(bars.path), {}
    for n in (20, 60, 250):
        found[f"drawdown_{n}"] = drawdown(bars, n)
        rise = now - trailing.lowest(bars.path, n, bars.keep)
        found[f"rise_{n}"] = np.minimum(rise, -trailing.LOG_FLOOR) / (bars.v * math.sqrt(n))
    found["since_high_250"] = trailing.since_highest(bars.path, 250, bars.keep) / 250
    return found


@once
def drawdown(bars: Bars, n: int) -> Array:
    """(N, keep) how far the close lies below its highest of n sessions."""
    below = bars.now(bars.path) - trailing.highest(bars.path, n, bars.keep)
    return np.maximum(below, trailing.LOG_FLOOR) / (bars.v * math.sqrt(n))
