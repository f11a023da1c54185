"""The universe as a market, each ticker against it, and its rank among the others.

The market is the members of the universe (`Bars.members`) with a bar that session, equally weighted: m = mean of their
r, w = its EWMA volatility as v is a ticker's. Market features are the same for every ticker, member or not.
"""

from __future__ import annotations

import math

import bottleneck
import numpy as np

from features import trailing
from features.bars import Bars, mean_across
from features.families.moves import drawdown, scaled_move
from features.families.scale import parkinson
from features.families.volume import volume_z
from features.trailing import Array, log_ratio, quotient


def market_family(bars: Bars) -> dict[str, Array]:
    """mkt_log_vol = ln w; mkt_ret_n = sum_n(m) / (w sqrt n), n = 1, 20, 60; mkt_abs_1 = |m| / w; mkt_vol_n =
    ln(rms_n(m) / w), n = 5, 60, 250; mkt_park_5 = mean of the members' park_5; dispersion_20 = ln(rms_20 of the
    cross-sectional standard deviation of r (ddof 0) / w); rel_vol (the ticker's own) = ln v - ln w; mkt_drawdown_250 =
    max(M - highest M of 250 sessions, -5) / (w sqrt 250), M the running sum of m; mkt_up_share = share of members
    with r > 0, less 1/2, of those with a return; corr_avg_60 = (var_60(m) / V - 1/n) / (1 - 1/n), V the mean of the
    members' var_60(r) and n their number: the average correlation of two of them; missing for a single one.
    """
    m, w = bars.market, bars.now(bars.market_vol)
    moves, squares = bars.sums(m), bars.sums(m**2)
    path = np.where(np.isfinite(m), np.cumsum(np.where(np.isfinite(m), m, 0.0), axis=1), np.nan)
    inside = np.where(bars.inside, bars.r, np.nan)
    apart = np.sqrt(mean_across((inside - m) ** 2))
    up = np.where(np.isfinite(inside), (inside > 0).astype(np.float64), np.nan)
    below = bars.now(path) - trailing.highest(path, 250, bars.keep)
    of_market = {
        "mkt_log_vol": trailing.ln(w),
        "mkt_ret_1": bars.now(m) / w,
        "mkt_ret_20": moves.mean(20) * math.sqrt(20) / w,
        "mkt_ret_60": moves.mean(60) * math.sqrt(60) / w,
        "mkt_abs_1": np.abs(bars.now(m)) / w,
        "mkt_vol_5": log_ratio(squares.rms(5), w),
        "mkt_vol_60": log_ratio(squares.rms(60), w),
        "mkt_vol_250": log_ratio(squares.rms(250), w),
        "mkt_park_5": mean_across(np.where(bars.now(bars.inside), parkinson(bars, 5), np.nan)),
        "mkt_drawdown_250": np.maximum(below, trailing.LOG_FLOOR) / (w * math.sqrt(250)),
        "mkt_up_share": bars.now(mean_across(up)) - 0.5,
        "dispersion_20": log_ratio(bars.sums(apart**2).rms(20), w),
        "corr_avg_60": _average_correlation(bars, trailing.variance(moves, squares, 60)),
    }
    has_return = np.isfinite(bars.now(bars.r))
    found = {name: np.where(has_return, values, np.nan) for name, values in of_market.items()}
    found["rel_vol"] = trailing.ln(bars.v) - found["mkt_log_vol"]
    return found


def _average_correlation(bars: Bars, of_market: Array) -> Array:
    own = np.where(bars.now(bars.inside), trailing.variance(bars.moves, bars.squares, 60), np.nan)
    share = quotient(np.ones_like(of_market), trailing.across(np.where(np.isfinite(own), 1.0, np.nan)))
    return quotient(quotient(of_market, mean_across(own), trailing.SPREAD_FLOOR**2) - share, 1 - share)


def beta_family(bars: Bars) -> dict[str, Array]:
    """Against m on the sessions on which the ticker has a return: beta_n = cov_n(r, m) / var_n(m), n = 60, 250;
    corr_60 = their correlation; resid_vol_60 = ln(std_60(r - beta_60 m) / v); resid_ret_20 = sum_20(r - beta_60 m) /
    (v sqrt 20), with the beta_60 of the session."""
    m = np.where(np.isfinite(bars.r), bars.market, np.nan)
    r = np.where(np.isfinite(m), bars.r, np.nan)
    moves = bars.sums(m)
    own, squares = bars.sums(r, moves), bars.sums(m**2, moves)
    products = bars.sums(r * m, moves)

    def joint(n: int) -> tuple[Array, Array]:
        return products.mean(n) - own.mean(n) * moves.mean(n), trailing.variance(moves, squares, n)

    least = trailing.SPREAD_FLOOR**2
    (near, near_m), (far, far_m) = joint(60), joint(250)
    variance = trailing.variance(own, bars.sums(r**2, moves), 60)
    beta = quotient(near, near_m, least)
    rest = np.sqrt(np.maximum(variance - beta * near, 0.0))
    return {
        "beta_60": beta,
        "beta_250": quotient(far, far_m, least),
        "corr_60": np.clip(quotient(near, np.sqrt(near_m * variance), least), -1.0, 1.0),
        "resid_vol_60": log_ratio(rest, bars.v),
        "resid_ret_20": (own.mean(20) - beta * moves.mean(20)) * math.sqrt(20) / bars.v,
    }


def rank_family(bars: Bars) -> dict[str, Array]:
    """rank_X = (rank of X among the members with a value that session - 1) / (their number - 1) - 1/2, ties sharing
    their mean rank: -1/2 the lowest, 1/2 the highest, 0 for a single ticker; missing for who is no member. X: ret_1,
    ret_20, mom_250 (of mom_250_20), vol (of log_vol), volume_z_20, drawdown_250."""
    return {
        "rank_ret_1": _ranks(bars, bars.now(bars.r) / bars.v),
        "rank_ret_20": _ranks(bars, scaled_move(bars, 20)),
        "rank_mom_250": _ranks(bars, scaled_move(bars, 230, 20)),
        "rank_vol": _ranks(bars, bars.v),
        "rank_volume_z_20": _ranks(bars, volume_z(bars, 20)),
        "rank_drawdown_250": _ranks(bars, drawdown(bars, 250)),
    }


def _ranks(bars: Bars, x: Array) -> Array:
    """(N, keep) ranks over tickers, from -1/2 to 1/2."""
    by_session = np.ascontiguousarray(np.where(bars.now(bars.inside), x, np.nan).T)
    rank = bottleneck.nanrankdata(by_session, axis=1)
    number = np.isfinite(by_session).sum(axis=1, keepdims=True)
    scaled = np.where(number > 1, (rank - 1) / np.maximum(number - 1, 1) - 0.5, rank - 1)
    return np.ascontiguousarray(scaled.T)
