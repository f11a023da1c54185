"""How much the price moves: realised volatility, and volatility from the range of the bar.

r = log total return, v = `vol`, rms_n = root of the mean of squares over the last n sessions; a bar's up = ln(high /
close), down = ln(low / close), day = ln(open / close), gap = ln(open / previous close). Every ratio inside ln is
floored at e^-5.
"""

from __future__ import annotations

import math

import numpy as np

from features import trailing
from features.bars import Bars, once
from features.trailing import Array, log_ratio, quotient

ATR_SESSIONS = 14


def volatility_family(bars: Bars) -> dict[str, Array]:
    """log_vol = ln v; abs_1 = |r| / v; abs_5 = mean_5 |r| / v; jump_20 = highest |r| of 20 sessions / v;
    vol_change_20 = ln(v / v 20 sessions before, or the latest then known); vol_n = ln(rms_n(r) / v), n = 5, 20, 60,
    250; vol_ratio_5_60 = ln(rms_5(r) / rms_60(r)); downside_60 = rms_60(min(r, 0)) / rms_60(r); semi_20 the same over
    20 sessions."""
    size = np.abs(bars.r)
    falls = bars.sums(np.minimum(bars.r, 0.0) ** 2, bars.moves)
    before = trailing.lagged(trailing.carried(bars.vol), 20, bars.keep)
    found = {
        "log_vol": trailing.ln(bars.v),
        "abs_1": bars.now(size) / bars.v,
        "abs_5": bars.sums(size, bars.moves).mean(5) / bars.v,
        "jump_20": trailing.highest(size, 20, bars.keep) / bars.v,
        "vol_change_20": trailing.ln(bars.v / before),
        "vol_ratio_5_60": log_ratio(bars.squares.rms(5), bars.squares.rms(60)),
        "downside_60": quotient(falls.rms(60), bars.squares.rms(60)),
        "semi_20": quotient(falls.rms(20), bars.squares.rms(20)),
    }
    return found | {f"vol_{n}": log_ratio(bars.squares.rms(n), bars.v) for n in (5, 20, 60, 250)}


def range_family(bars: Bars) -> dict[str, Array]:
    """Each is ln(estimate of volatility / v):

    park_n: Parkinson, root of mean_n(ln(high / low)^2) / (4 ln 2). gk_n: Garman and Klass, root of
    mean_n((up - down)^2 / 2 - (2 ln 2 - 1) day^2). rs_20: Rogers and Satchell, root of mean_20(up (up - day) + down
    (down - day)). yz_20: Yang and Zhang, root of var_20(gap) + k var_20(day) + (1 - k) rs_20^2 with
    k = .34 / (1.34 + 21 / 19), variances with ddof 1, all on sessions with a return. atr_14: average true range,
    Wilder's average (decay 13/14, weights made to sum to one) of max(up, -r) - min(down, -r): in logs, the previous
    close being -r from this one.
    """
    up, down, day = (bars.near(part) for part in (bars.up, bars.down, bars.day))
    rogers = bars.sums(up * (up - day) + down * (down - day), bars.spreads)
    garman = bars.sums((up - down) ** 2 / 2 - (2 * math.log(2) - 1) * day**2, bars.spreads)
    found = {f"park_{n}": parkinson(bars, n) for n in (1, 5, 20)}
    found |= {f"gk_{n}": log_ratio(garman.rms(n), bars.v) for n in (5, 20)}
    found["rs_20"] = log_ratio(rogers.rms(20), bars.v)
    found["yz_20"] = log_ratio(_yang_zhang(bars, 20), bars.v)
    true_range = np.maximum(bars.up, -bars.r) - np.minimum(bars.down, -bars.r)
    average = trailing.ewma(true_range, 1 - 1 / ATR_SESSIONS, ATR_SESSIONS)
    found["atr_14"] = log_ratio(bars.now(average), bars.v)
    return found


@once
def parkinson(bars: Bars, n: int) -> Array:
    """(N, keep) ln of Parkinson's volatility over v."""
    spread = bars.now(bars.up - bars.down) if n == 1 else bars.spreads.rms(n)
    return log_ratio(spread / math.sqrt(4 * math.log(2)), bars.v)


def _yang_zhang(bars: Bars, n: int) -> Array:
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    up, down, gap = (bars.near(part) for part in (bars.up, bars.down, bars.gap))
    day = np.where(np.isfinite(gap), bars.near(bars.day), np.nan)
    gaps, days = bars.sums(gap, bars.gap_squares), bars.sums(day, bars.gap_squares)
    overnight = trailing.variance(gaps, bars.gap_squares, n, ddof=1)
    intraday = trailing.variance(days, bars.sums(day**2, days), n, ddof=1)
    rogers = bars.sums(up * (up - day) + down * (down - day), days)
    return np.sqrt(overnight + k * intraday + (1 - k) * np.maximum(rogers.mean(n), 0.0))
