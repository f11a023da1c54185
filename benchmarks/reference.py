"""Every price feature once more, as a good pandas user would write it: groupby("ticker").apply, rolling and ewm.

Written from the formulas alone, for two purposes: tests/features/test_reference.py holds the fast path to it, and
benchmarks/features.py measures the fast path against it. Nothing of the fast path is imported; only the total return
of a session (`features.actions`) is shared, which has tests of its own.

Within a ticker, series live on the exchange's sessions: NaN where it did not trade. A window of n sessions is defined
once 4/5 of them traded.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd

from features.actions import adjust

LN2 = math.log(2)


def price_features(rows: pd.DataFrame, sessions: pd.DatetimeIndex, members: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every price feature, float64, on the index (ticker, session) of the bars.

    Args:
        rows: the `prices` table, any order.
        sessions: (T,) the exchange's sessions.
        members: (T, N) bool, sessions x tickers; what the market and the ranks are made of. None = all.
    """
    bars = rows.assign(gross=adjust(rows).gross).sort_values(["ticker", "session"])
    own = bars.groupby("ticker").apply(lambda one: _own(_series(one, sessions))).rename_axis(["ticker", "session"])
    own["member"] = True if members is None else members.T.stack().reindex(own.index, fill_value=False)
    market = _market(own, sessions)
    beside = own.groupby("ticker", group_keys=False).apply(lambda one: _beside(one, market, sessions))
    table = own.join(beside).join(_ranks(own))
    return table[[name for name in table.columns if not name.startswith("_") and name != "member"]]


def _series(bars: pd.DataFrame, sessions: pd.DatetimeIndex) -> SimpleNamespace:
    """One ticker on the exchange's sessions: r, path, the bar's ratios to its close, v and the gap."""
    traded = bars.set_index("session")
    r = _grid(np.log(traded["gross"]))
    on = traded.reindex(sessions)
    s = SimpleNamespace(r=r.reindex(sessions), close=on["close"], volume=on["volume"].where(on["volume"] > 0))
    s.path = r.fillna(0).cumsum().reindex(sessions)
    s.up, s.down, s.day = (_grid(np.log(on[name] / on["close"])) for name in ("high", "low", "open"))
    s.gap = s.r + s.day
    s.v = _vol(s.r)
    s.session = traded.index.to_series().reindex(sessions)
    return s


def _own(s: SimpleNamespace) -> pd.DataFrame:
    """What a ticker's own bars tell; the columns that start with _ are for what needs the others too."""
    found = _returns(s) | _momentum(s) | _volatility(s) | _range(s) | _gap(s) | _volume(s) | _drawdown(s) | _calendar(s)
    found |= {"vol": s.v, "_r": s.r, "_var_60": _var(s.r, 60, ddof=0)}
    return pd.DataFrame(found)[s.close.notna()]


def _returns(s: SimpleNamespace) -> dict[str, pd.Series]:
    return {f"ret_{n}": _mean(s.r, n) * math.sqrt(n) / s.v for n in (1, 5, 20, 60, 120, 250)}


def _momentum(s: SimpleNamespace) -> dict[str, pd.Series]:
    gain, loss = (_wilder(moved) for moved in (s.r.clip(lower=0), -s.r.clip(upper=0)))
    path = s.path.dropna()
    number = pd.Series(np.arange(1, len(path) + 1), path.index)
    macd = path.ewm(span=12, adjust=False).mean() - path.ewm(span=26, adjust=False).mean()
    signal = macd.ewm(span=9, adjust=False).mean()
    high, low = _highest(s.path + s.up, 14), _lowest(s.path + s.down, 14)
    return {
        "mom_250_20": _mean(s.r.shift(20), 230) * math.sqrt(230) / s.v,
        "rsi_14": ((gain - loss) / (gain + loss)).mask(gain + loss == 0, 0.0),
        "macd": macd.where(number > 26) / s.v,
        "macd_hist": (macd - signal).where(number > 34) / s.v,
        "boll_20": (s.path - _mean(s.path, 20)) / (2 * _std(s.path, 20, ddof=0)),
        "stoch_14": 2 * (s.path - low) / (high - low) - 1,
    }


def _volatility(s: SimpleNamespace) -> dict[str, pd.Series]:
    found = {f"vol_{n}": _log_ratio(_rms(s.r, n), s.v) for n in (5, 20, 60, 250)}
    fall = s.r.clip(upper=0)
    return found | {
        "log_vol": np.log(s.v),
        "abs_1": s.r.abs() / s.v,
        "vol_change_20": np.log(s.v / s.v.ffill().shift(20)),
        "downside_60": _rms(fall, 60) / _rms(s.r, 60),
        "vol_ratio_5_60": _log_ratio(_rms(s.r, 5), _rms(s.r, 60)),
        "semi_20": _rms(fall, 20) / _rms(s.r, 20),
        "abs_5": _mean(s.r.abs(), 5) / s.v,
        "jump_20": _highest(s.r.abs(), 20) / s.v,
    }


def _range(s: SimpleNamespace) -> dict[str, pd.Series]:
    spread = s.up - s.down
    found = {f"park_{n}": _log_ratio(_rms(spread, n) / math.sqrt(4 * LN2), s.v) for n in (1, 5, 20)}
    garman_klass = spread**2 / 2 - (2 * LN2 - 1) * s.day**2
    found |= {f"gk_{n}": _log_ratio(_root(_mean(garman_klass, n)), s.v) for n in (5, 20)}
    # u, d, c of Rogers and Satchell count from the open: high - open = up - day, close - open = -day.
    rogers_satchell = (s.up - s.day) * s.up + (s.down - s.day) * s.down
    found["rs_20"] = _log_ratio(_root(_mean(rogers_satchell, 20)), s.v)
    k = 0.34 / (1.34 + 21 / 19)
    yang_zhang = _var(s.gap, 20) + k * _var(s.day, 20) + (1 - k) * _mean(rogers_satchell, 20)
    found["yz_20"] = _log_ratio(_root(yang_zhang), s.v)
    before = s.path.ffill().shift()
    true_range = np.maximum(s.path + s.up, before) - np.minimum(s.path + s.down, before)
    found["atr_14"] = _log_ratio(_wilder(true_range.where(s.r.notna())), s.v)
    return found


def _gap(s: SimpleNamespace) -> dict[str, pd.Series]:
    night, day = _mean(s.gap**2, 20), _mean((s.r - s.gap) ** 2, 20)
    return {
        "gap_1": s.gap / s.v,
        "gap_abs_1": s.gap.abs() / s.v,
        "gap_vol_20": _log_ratio(_rms(s.gap, 20), s.v),
        "gap_share_20": night / (night + day),
    }


def _volume(s: SimpleNamespace) -> dict[str, pd.Series]:
    logs = np.log(s.volume)
    found = {f"volume_z_{n}": (logs - _mean(logs, n)) / _std(logs, n) for n in (20, 60)}
    illiquidity = s.r.abs() / (s.close * s.volume)
    return found | {
        "volume_trend": (_mean(logs, 5) - _mean(logs, 60)).where(logs.notna()),
        "volume_vol_20": _std(logs, 20).where(logs.notna()),
        "amihud_20": _log_ratio(_mean(illiquidity, 20), _mean(illiquidity, 250)),
        "volume_ret_20": _correlation(s.r.abs(), logs, 20),
    }


def _drawdown(s: SimpleNamespace) -> dict[str, pd.Series]:
    found = {}
    for n in (20, 60, 250):
        found[f"drawdown_{n}"] = (s.path - _highest(s.path, n)).clip(lower=-5) / (s.v * math.sqrt(n))
        found[f"rise_{n}"] = (s.path - _lowest(s.path, n)).clip(upper=5) / (s.v * math.sqrt(n))
    since = s.path.rolling(250, min_periods=200).apply(lambda window: np.nanargmax(window[::-1]), raw=True)
    return found | {"since_high_250": since / 250}


def _calendar(s: SimpleNamespace) -> dict[str, pd.Series]:
    dates = s.close.index.to_series()
    found = {name: (dates.dt.day_of_week == day).astype(float) for day, name in enumerate(WEEKDAYS)}
    third_friday = dates.dt.to_period("M").dt.start_time
    third_friday += pd.to_timedelta((4 - third_friday.dt.day_of_week) % 7 + 14, unit="D")
    days = (s.session - s.session.ffill().shift()).dt.days
    return found | {
        "days_since": np.log(days.clip(upper=10)),
        "month_end": (dates.dt.days_in_month - dates.dt.day < 3).astype(float),
        "expiry_week": (dates.dt.to_period("W") == third_friday.dt.to_period("W")).astype(float),
    }


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday")


def _market(own: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """What the members of each session tell together, on the exchange's sessions."""
    inside = own[own["member"] & own["_r"].notna()].groupby("session")
    m = inside["_r"].mean().reindex(sessions)
    w = _vol(m)
    spread = inside["_r"].std(ddof=0).reindex(sessions)
    path = m.dropna().cumsum().reindex(sessions)
    variances = own["_var_60"].where(own["member"]).groupby("session")
    number = variances.count().where(lambda n: n > 1)
    found = {
        "_m": m,
        "mkt_log_vol": np.log(w),
        "mkt_abs_1": m.abs() / w,
        "mkt_park_5": own[own["member"]].groupby("session")["park_5"].mean().reindex(sessions),
        "dispersion_20": _log_ratio(_rms(spread, 20), w),
        "mkt_drawdown_250": (path - _highest(path, 250)).clip(lower=-5) / (w * math.sqrt(250)),
        "corr_avg_60": (_var(m, 60, ddof=0) / variances.mean() - 1 / number) / (1 - 1 / number),
        "mkt_up_share": inside["_r"].agg(lambda r: (r > 0).mean()).reindex(sessions) - 0.5,
    }
    found |= {f"mkt_ret_{n}": _mean(m, n) * math.sqrt(n) / w for n in (1, 20, 60)}
    found |= {f"mkt_vol_{n}": _log_ratio(_rms(m, n), w) for n in (5, 60, 250)}
    return pd.DataFrame(found)


def _beside(one: pd.DataFrame, market: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """One ticker beside the market: the market's own columns where the ticker has a return, beta and what it leaves."""
    r, v = (one[name].droplevel("ticker").reindex(sessions) for name in ("_r", "vol"))
    m = market["_m"].where(r.notna())
    beta = {n: r.rolling(n, min_periods=_least(n)).cov(m) / _var(m, n) for n in (60, 250)}
    found = {name: market[name].where(r.notna()) for name in market.columns if not name.startswith("_")}
    found |= {
        "rel_vol": np.log(v) - market["mkt_log_vol"],
        "beta_60": beta[60],
        "beta_250": beta[250],
        "corr_60": _correlation(r, m, 60),
        "resid_vol_60": _log_ratio(_root(_var(r, 60, ddof=0) - beta[60] ** 2 * _var(m, 60, ddof=0)), v),
        "resid_ret_20": (_mean(r, 20) - beta[60] * _mean(m, 20)) * math.sqrt(20) / v,
    }
    table = pd.DataFrame(found).loc[one.index.get_level_values("session")]
    return table.set_axis(one.index)


def _ranks(own: pd.DataFrame) -> pd.DataFrame:
    """Cross-sectional ranks among the members of a session, -.5 .. .5."""
    of = {"ret_1": "ret_1", "ret_20": "ret_20", "mom_250": "mom_250_20", "vol": "vol"}
    of |= {"volume_z_20": "volume_z_20", "drawdown_250": "drawdown_250"}
    inside = own[list(of.values())].where(own["member"]).groupby("session")
    ranks = inside.rank()
    scaled = (ranks - 1) / (inside.transform("count") - 1) - 0.5
    scaled = scaled.where(ranks.isna() | (inside.transform("count") > 1), 0.0)
    return scaled.set_axis([f"rank_{name}" for name in of], axis=1)


def _grid(logs: pd.Series) -> pd.Series:
    """Logs are multiples of 2^-40 by definition: equal prices then give equal sums, and ties are ties."""
    return (logs * 2**40).round() / 2**40


def _least(n: int) -> int:
    return -(-n * 4 // 5)


def _mean(series: pd.Series, n: int) -> pd.Series:
    return series if n == 1 else series.rolling(n, min_periods=_least(n)).mean()


def _std(series: pd.Series, n: int, ddof: int = 1) -> pd.Series:
    spread = series.rolling(n, min_periods=_least(n)).std(ddof=ddof)
    return spread.where(spread > 1e-5)


def _var(series: pd.Series, n: int, ddof: int = 1) -> pd.Series:
    return series.rolling(n, min_periods=_least(n)).var(ddof=ddof)


def _wilder(series: pd.Series) -> pd.Series:
    return series.ewm(alpha=1 / 14, ignore_na=True, min_periods=14).mean()


def _highest(series: pd.Series, n: int) -> pd.Series:
    return series.rolling(n, min_periods=_least(n)).max()


def _lowest(series: pd.Series, n: int) -> pd.Series:
    return series.rolling(n, min_periods=_least(n)).min()


def _rms(series: pd.Series, n: int) -> pd.Series:
    return _root(_mean(series**2, n))


def _root(series: pd.Series) -> pd.Series:
    return np.sqrt(series.clip(lower=0))


def _correlation(a: pd.Series, b: pd.Series, n: int) -> pd.Series:
    both = a.notna() & b.notna()
    return a.where(both).rolling(n, min_periods=_least(n)).corr(b.where(both))


def _vol(r: pd.Series) -> pd.Series:
    variance = (r.clip(-0.5, 0.5) ** 2).ewm(alpha=0.06, ignore_na=True, min_periods=20).mean()
    return np.sqrt(variance).clip(lower=0.003).where(r.notna())


def _log_ratio(top: pd.Series, bottom: pd.Series) -> pd.Series:
    return np.log((top / bottom).clip(lower=math.exp(-5)))
