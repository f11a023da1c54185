"""Trailing-only price features, and the forecast target.

Everything works on wide frames: rows are sessions in order, columns are tickers, NaN where a ticker did not
trade. Nothing at session t reads a later row. Features are shift-invariant: prices enter as log ratios scaled
by the ticker's own volatility, so that no level, currency or later re-basing of adjusted prices is seen.

Notation in the formulas: r = log return of the adjusted close since the ticker's previous trading session,
v = `vol`, rms_n = root of the mean of squares over the last n sessions, ln = natural logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.actions import adjust

VOL_DECAY = 0.94
VOL_CLIP = 0.5
VOL_FLOOR = 0.003
VOL_WARM_UP = 20


@dataclass(frozen=True)
class Wide:
    """Prices of one universe, adjusted for splits and dividends (features/actions.py).

    Each frame is (n_sessions, n_tickers) float64, NaN where the ticker did not trade; a ticker's prices start at its
    first raw close and move on by its total returns. `volume` is as reported; zero volume is missing. `members` says
    at which sessions a ticker belongs to the universe, None = always: what the market is made of.
    """

    open: pd.DataFrame
    high: pd.DataFrame
    low: pd.DataFrame
    close: pd.DataFrame
    volume: pd.DataFrame
    members: pd.DataFrame | None = None

    @classmethod
    def from_rows(cls, rows: pd.DataFrame, sessions: pd.DatetimeIndex, close: pd.Series | None = None) -> Wide:
        """Pivot rows of the `prices` table.

        Args:
            rows: one a (ticker, session), any order.
            sessions: the exchange's calendar; the tickers are sorted.
            close: `features.actions.adjust(rows).close`, where it is at hand.
        """
        close = adjust(rows).close if close is None else close
        factor = close / rows["close"]
        adjusted = rows.assign(close=close, **{name: rows[name] * factor for name in ("open", "high", "low")})
        adjusted["volume"] = adjusted["volume"].where(adjusted["volume"] > 0)
        open_, high, low, close_, volume = (
            adjusted.pivot(index="session", columns="ticker", values=name).reindex(sessions).sort_index(axis=1)
            for name in ("open", "high", "low", "close", "volume")
        )
        return cls(open_, high, low, close_, volume)


def log_returns(close: pd.DataFrame) -> pd.DataFrame:
    """r: log return since the ticker's previous trading session; NaN on its first one and where it is absent."""
    logs = _ln(close)
    return logs - logs.ffill().shift(1)


def ewma_volatility(returns: pd.DataFrame) -> pd.DataFrame:
    """vol: EWMA of squared daily returns (RiskMetrics 1996, lambda .94), known at the session's close.

    Returns are clipped at +-50 %, the result is floored at .003 a day. NaN for the first 20 returns of a ticker
    and on sessions without a price.
    """
    squares = returns.clip(-VOL_CLIP, VOL_CLIP) ** 2
    variance = squares.ewm(alpha=1 - VOL_DECAY, ignore_na=True, min_periods=VOL_WARM_UP).mean()
    return _root(variance).clip(lower=VOL_FLOOR).where(returns.notna())


def returns_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """ret_n = sum of r over the last n sessions / (v sqrt n): past moves in units of volatility."""
    r = log_returns(prices.close)
    v = ewma_volatility(r)
    return {f"ret_{n}": _rolling(r, n, "mean") * math.sqrt(n) / v for n in (1, 5, 20, 60)}


def volatility_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """log_vol = ln v; vol_n = ln(rms_n(r) / v); abs_1 = |r| / v; downside_n = rms_n(min(r, 0)) / rms_n(r);
    vol_change_20 = ln(v / v 20 sessions before)."""
    r = log_returns(prices.close)
    v = ewma_volatility(r)
    found = {"log_vol": _ln(v), "abs_1": r.abs() / v, "vol_change_20": _ln(v / v.ffill().shift(20))}
    for n in (5, 20, 60, 250):
        found[f"vol_{n}"] = _log_ratio(_rms(r, n), v)
    found["downside_60"] = (_rms(r.clip(upper=0), 60) / _rms(r, 60)).where(r.notna())
    return found


def range_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """park_n = ln(rms_n(ln(high / low)) / sqrt(4 ln 2) / v): Parkinson's (1980) range volatility against v."""
    v = ewma_volatility(log_returns(prices.close))
    spread = _ln(prices.high / prices.low) / math.sqrt(4 * math.log(2))
    return {f"park_{n}": _log_ratio(_rms(spread, n), v) for n in (1, 5, 20)}


def gap_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """gap_1 = ln(open / previous close) / v; gap_abs_1 = |gap_1|; gap_vol_20 = ln(rms_20(gap) / v)."""
    v = ewma_volatility(log_returns(prices.close))
    gap = _ln(prices.open) - _ln(prices.close).ffill().shift(1)
    return {"gap_1": gap / v, "gap_abs_1": gap.abs() / v, "gap_vol_20": _log_ratio(_rms(gap, 20), v)}


def market_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """Of the equal-weighted members of the universe, m their return and w its EWMA volatility, the same for every
    ticker, member or not:

    mkt_log_vol = ln w; mkt_ret_n = sum_n(m) / (w sqrt n); mkt_abs_1 = |m| / w; mkt_vol_n = ln(rms_n(m) / w);
    mkt_park_5 = mean over tickers of park_5; dispersion_20 = ln(rms_20 of the cross-sectional deviation of r / w);
    rel_vol (the ticker's own) = ln v - ln w.
    """
    r = log_returns(prices.close)
    v = ewma_volatility(r)
    park_5 = range_family(prices)["park_5"]
    inside, inside_park = (f if prices.members is None else f.where(prices.members) for f in (r, park_5))
    market = inside.mean(axis=1).to_frame()
    w = ewma_volatility(market)
    of_market = {
        "mkt_log_vol": _ln(w),
        "mkt_ret_1": market / w,
        "mkt_ret_20": _rolling(market, 20, "mean") * math.sqrt(20) / w,
        "mkt_abs_1": market.abs() / w,
        "mkt_vol_5": _log_ratio(_rms(market, 5), w),
        "mkt_vol_60": _log_ratio(_rms(market, 60), w),
        "mkt_vol_250": _log_ratio(_rms(market, 250), w),
        "mkt_park_5": inside_park.mean(axis=1).to_frame(),
        "dispersion_20": _log_ratio(_rms(inside.std(axis=1, ddof=0).to_frame(), 20), w),
    }
    traded = r.notna()
    found = {
        name: pd.DataFrame(np.broadcast_to(f.to_numpy(), r.shape), r.index, r.columns).where(traded)
        for name, f in of_market.items()
    }
    found["rel_vol"] = _ln(v) - found["mkt_log_vol"]
    return found


def volume_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """volume_z_n = (ln volume - mean_n(ln volume)) / std_n(ln volume); volume_trend = mean_5 - mean_60 of it."""
    logs = _ln(prices.volume)
    found = {f"volume_z_{n}": (logs - _rolling(logs, n, "mean")) / _spread(logs, n) for n in (20, 60)}
    found["volume_trend"] = (_rolling(logs, 5, "mean") - _rolling(logs, 60, "mean")).where(logs.notna())
    return found


def drawdown_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """drawdown_n = ln(close / highest close of the last n sessions) / (v sqrt n)."""
    v = ewma_volatility(log_returns(prices.close))
    return {
        f"drawdown_{n}": _log_ratio(prices.close, _rolling(prices.close, n, "max")) / (v * math.sqrt(n))
        for n in (60, 250)
    }


def calendar_family(prices: Wide) -> dict[str, pd.DataFrame]:
    """1 on the named weekday of the session (Friday is the absence of the others), 0 otherwise."""
    close = prices.close
    weekday = pd.DatetimeIndex(close.index).day_of_week.to_numpy()
    return {
        name: pd.DataFrame(np.repeat((weekday == day)[:, None], close.shape[1], 1), close.index, close.columns)
        .astype("float64")
        .where(close.notna())
        for day, name in enumerate(("monday", "tuesday", "wednesday", "thursday"))
    }


FAMILIES: dict[str, Callable[[Wide], dict[str, pd.DataFrame]]] = {
    "returns": returns_family,
    "volatility": volatility_family,
    "range": range_family,
    "gap": gap_family,
    "market": market_family,
    "volume": volume_family,
    "drawdown": drawdown_family,
    "calendar": calendar_family,
}


def _rolling(frame: pd.DataFrame, sessions: int, statistic: str) -> pd.DataFrame:
    """A trailing statistic, defined once 4/5 of the window's sessions traded."""
    if sessions == 1:
        return frame
    windows = frame.rolling(sessions, min_periods=-(-sessions * 4 // 5))
    rolled: pd.DataFrame = getattr(windows, statistic)()
    return rolled


def _rms(frame: pd.DataFrame, sessions: int) -> pd.DataFrame:
    # A running sum of squares can end a hair below zero.
    return _root(_rolling(frame**2, sessions, "mean").clip(lower=0))


def _ln(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(np.log(frame))


def _root(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(np.sqrt(frame))


def _spread(frame: pd.DataFrame, sessions: int) -> pd.DataFrame:
    spread = _rolling(frame, sessions, "std")
    return spread.where(spread > 1e-8)


def _log_ratio(top: pd.DataFrame, bottom: pd.DataFrame) -> pd.DataFrame:
    """ln(top / bottom), floored at -5 where a quiet window has a ratio of nearly zero."""
    return _ln((top / bottom).clip(lower=math.exp(-5.0)))
