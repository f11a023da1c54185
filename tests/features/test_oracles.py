"""Features against independent libraries, after warm-up, to 1e-6: TA-Lib (C) and arch; range estimators by plain loops.

Our definitions live in logs, so TA-Lib is fed log prices, log returns or the ratios of a bar in logs; what it gives is
divided by the volatility that arch gives. Nothing of ours is on the oracles' side of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import talib
from arch.univariate import EWMAVariance

from features.bars import Bars
from features.prices import FAMILIES
from tests.conftest import simulate_prices

Array = npt.NDArray[np.float64]

TICKERS, SESSIONS, COMPARED = 6, 1006, 250
"""The year 2007 of 2004-2007 is looked at: the recursions of TA-Lib and arch start differently, and forget it."""


class Stock:
    """One ticker's bars, and the equal-weighted market, as the oracles are fed with them."""

    def __init__(self, rows: pd.DataFrame, ticker: str) -> None:
        bars = rows[rows["ticker"] == ticker]
        self.open, self.high, self.low, self.close = (
            np.log(bars[name].to_numpy()) for name in ("open", "high", "low", "close")
        )
        self.dollars = bars["close"].to_numpy() * bars["volume"].to_numpy()
        self.volume = np.log(bars["volume"].to_numpy())
        self.r = np.diff(self.close, prepend=np.nan)
        closes = np.log(rows.pivot(index="session", columns="ticker", values="close").to_numpy())
        self.m = np.diff(closes, axis=0, prepend=np.nan).mean(axis=1)
        self.others = np.diff(closes, axis=0, prepend=np.nan)

    @cached_property
    def v(self) -> Array:
        return arch_volatility(self.r)

    @cached_property
    def w(self) -> Array:
        return arch_volatility(self.m)


def arch_volatility(r: Array) -> Array:
    """RiskMetrics by arch; its variance of a session is made of the sessions before, ours includes the session."""
    following = np.append(r[1:], 0.0)
    variance = EWMAVariance(0.94).compute_variance(
        np.array([]), following, np.zeros_like(following), float(np.nanvar(r)), np.full((len(r), 2), (0.0, 1.0))
    )
    return np.asarray(np.sqrt(variance))


def macd(s: Stock) -> tuple[Array, Array, Array]:
    line, signal, histogram = talib.MACD(s.close, 12, 26, 9)
    return line, signal, histogram


def bollinger(s: Stock) -> Array:
    upper, middle, _ = talib.BBANDS(s.close, 20, 2, 2)
    return (s.close - middle) / (upper - middle)


def rms(values: Array, n: int) -> Array:
    """By the variance and the mean of TA-Lib."""
    return np.sqrt(talib.VAR(values, n) + talib.SMA(values, n) ** 2)


def log_ratio(top: Array, bottom: Array) -> Array:
    return np.log(top / bottom)


def simple(r: Array) -> Array:
    """Prices whose simple returns are r: what TA-Lib's BETA takes."""
    return np.cumprod(1 + np.nan_to_num(r))


def beta(s: Stock, n: int) -> Array:
    return talib.BETA(simple(s.m), simple(s.r), n)


def spread_of(s: Stock, n: int) -> Array:
    """Sample standard deviation of ln volume."""
    return talib.STDDEV(s.volume, n) * math.sqrt(n / (n - 1))


def volume_z(s: Stock, n: int) -> Array:
    return (s.volume - talib.SMA(s.volume, n)) / spread_of(s, n)


def later(values: Array, n: int) -> Array:
    return np.concatenate([np.full(n, np.nan), values[:-n]])


def illiquidity(s: Stock) -> Array:
    return np.abs(s.r) / s.dollars


# feature -> what it is checked against, and how
ORACLES: dict[str, tuple[str, Callable[[Stock], Array]]] = {
    "log_vol": ("arch EWMAVariance", lambda s: np.log(s.v)),
    "mkt_log_vol": ("arch EWMAVariance", lambda s: np.log(s.w)),
    "ret_5": ("TA-Lib MOM", lambda s: talib.MOM(s.close, 5) / (s.v * math.sqrt(5))),
    "ret_60": ("TA-Lib MOM", lambda s: talib.MOM(s.close, 60) / (s.v * math.sqrt(60))),
    "ret_250": ("TA-Lib SUM", lambda s: talib.SUM(s.r, 250) / (s.v * math.sqrt(250))),
    "mkt_ret_20": ("TA-Lib SUM", lambda s: talib.SUM(s.m, 20) / (s.w * math.sqrt(20))),
    "mom_250_20": ("TA-Lib MOM", lambda s: later(talib.MOM(s.close, 230), 20) / (s.v * math.sqrt(230))),
    "rsi_14": ("TA-Lib RSI", lambda s: talib.RSI(s.close, 14) / 50 - 1),
    "macd": ("TA-Lib MACD", lambda s: macd(s)[0] / s.v),
    "macd_hist": ("TA-Lib MACD", lambda s: macd(s)[2] / s.v),
    "boll_20": ("TA-Lib BBANDS", bollinger),
    "stoch_14": ("TA-Lib STOCHF", lambda s: talib.STOCHF(s.high, s.low, s.close, 14, 1)[0] / 50 - 1),
    "atr_14": ("TA-Lib ATR", lambda s: log_ratio(talib.ATR(s.high, s.low, s.close, 14), s.v)),
    "vol_20": ("TA-Lib VAR, SMA", lambda s: log_ratio(rms(s.r, 20), s.v)),
    "vol_250": ("TA-Lib VAR, SMA", lambda s: log_ratio(rms(s.r, 250), s.v)),
    "mkt_vol_60": ("TA-Lib VAR, SMA", lambda s: log_ratio(rms(s.m, 60), s.w)),
    "vol_ratio_5_60": ("TA-Lib VAR, SMA", lambda s: log_ratio(rms(s.r, 5), rms(s.r, 60))),
    "downside_60": ("TA-Lib VAR, SMA", lambda s: rms(np.minimum(s.r, 0), 60) / rms(s.r, 60)),
    "abs_5": ("TA-Lib SMA", lambda s: talib.SMA(np.abs(s.r), 5) / s.v),
    "jump_20": ("TA-Lib MAX", lambda s: talib.MAX(np.abs(s.r), 20) / s.v),
    "park_20": (
        "TA-Lib VAR, SMA",
        lambda s: log_ratio(rms(s.high - s.low, 20) / math.sqrt(4 * math.log(2)), s.v),
    ),
    "gap_vol_20": ("TA-Lib VAR, SMA", lambda s: log_ratio(rms(s.open - later(s.close, 1), 20), s.v)),
    "beta_60": ("TA-Lib BETA", lambda s: beta(s, 60)),
    "beta_250": ("TA-Lib BETA", lambda s: beta(s, 250)),
    "corr_60": ("TA-Lib CORREL", lambda s: talib.CORREL(s.r, s.m, 60)),
    "volume_z_20": ("TA-Lib STDDEV, SMA", lambda s: volume_z(s, 20)),
    "volume_z_60": ("TA-Lib STDDEV, SMA", lambda s: volume_z(s, 60)),
    "volume_trend": ("TA-Lib SMA", lambda s: talib.SMA(s.volume, 5) - talib.SMA(s.volume, 60)),
    "volume_vol_20": ("TA-Lib STDDEV", lambda s: spread_of(s, 20)),
    "volume_ret_20": ("TA-Lib CORREL", lambda s: talib.CORREL(np.abs(s.r), s.volume, 20)),
    "amihud_20": ("TA-Lib SMA", lambda s: log_ratio(talib.SMA(illiquidity(s), 20), talib.SMA(illiquidity(s), 250))),
    "drawdown_60": ("TA-Lib MAX", lambda s: (s.close - talib.MAX(s.close, 60)) / (s.v * math.sqrt(60))),
    "drawdown_250": ("TA-Lib MAX", lambda s: (s.close - talib.MAX(s.close, 250)) / (s.v * math.sqrt(250))),
    "rise_60": ("TA-Lib MIN", lambda s: (s.close - talib.MIN(s.close, 60)) / (s.v * math.sqrt(60))),
    "since_high_250": ("TA-Lib AROON", lambda s: 249 / 250 * (1 - talib.AROON(s.close, s.close, 249)[1] / 100)),
}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return simulate_prices(TICKERS, SESSIONS, 3, "2004-01-02")


@pytest.fixture(scope="module")
def found(rows: pd.DataFrame) -> dict[str, Array]:
    bars = Bars.from_rows(rows, pd.DatetimeIndex(np.unique(rows["session"].to_numpy())))
    last = bars.span(int(bars.years[-1]))
    return {name: values for family in FAMILIES.values() for name, values in family(last).items()}


@pytest.fixture(scope="module")
def stocks(rows: pd.DataFrame) -> list[Stock]:
    return [Stock(rows, ticker) for ticker in sorted(rows["ticker"].unique())]


@pytest.mark.parametrize("name", ORACLES, ids=[f"{name} by {by}" for name, (by, _) in ORACLES.items()])
def test_it_agrees_with_the_library(name: str, found: dict[str, Array], stocks: list[Stock]) -> None:
    _, oracle = ORACLES[name]
    for ours, stock in zip(found[name], stocks, strict=True):
        same(ours, oracle(stock))


def same(ours: Array, theirs: Array) -> None:
    assert np.isfinite(ours[-COMPARED:]).all()
    np.testing.assert_allclose(ours[-COMPARED:], theirs[-COMPARED:], rtol=1e-6, atol=1e-9)


def estimated(s: Stock, n: int, of_window: Callable[[list[Bar]], float]) -> Array:
    """ln(estimate / v) of the last COMPARED sessions, window by window; the sessions before are NaN."""
    out = np.full(len(s.r), np.nan)
    bars = [Bar(s, t) for t in range(len(s.r))]
    for t in range(len(out) - COMPARED, len(out)):
        out[t] = math.log(math.sqrt(of_window(bars[t - n + 1 : t + 1])) / s.v[t])
    return out


class Bar:
    """The log prices of a session, counted from its open as the papers do; night = open over the close before."""

    def __init__(self, s: Stock, t: int) -> None:
        self.u, self.d, self.c = s.high[t] - s.open[t], s.low[t] - s.open[t], s.close[t] - s.open[t]
        self.night = s.open[t] - s.close[t - 1]


def parkinson(window: list[Bar]) -> float:
    """Parkinson 1980."""
    return sum((bar.u - bar.d) ** 2 for bar in window) / (4 * math.log(2) * len(window))


def garman_klass(window: list[Bar]) -> float:
    """Garman, Klass 1980, their practical estimator."""
    terms = (0.5 * (bar.u - bar.d) ** 2 - (2 * math.log(2) - 1) * bar.c**2 for bar in window)
    return sum(terms) / len(window)


def rogers_satchell(window: list[Bar]) -> float:
    """Rogers, Satchell 1991."""
    return sum(bar.u * (bar.u - bar.c) + bar.d * (bar.d - bar.c) for bar in window) / len(window)


def yang_zhang(window: list[Bar]) -> float:
    """Yang, Zhang 2000."""
    n = len(window)
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    return sample_variance([bar.night for bar in window]) + (
        k * sample_variance([bar.c for bar in window]) + (1 - k) * rogers_satchell(window)
    )


def sample_variance(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


LOOPS: dict[str, tuple[int, Callable[[list[Bar]], float]]] = {
    "park_5": (5, parkinson),
    "park_20": (20, parkinson),
    "gk_5": (5, garman_klass),
    "gk_20": (20, garman_klass),
    "rs_20": (20, rogers_satchell),
    "yz_20": (20, yang_zhang),
}


@pytest.mark.parametrize("name", LOOPS)
def test_range_estimators_agree_with_the_papers_formulas(
    name: str, found: dict[str, Array], stocks: list[Stock]
) -> None:
    n, of_window = LOOPS[name]
    same(found[name][0], estimated(stocks[0], n, of_window))


def test_average_correlation_agrees_with_the_pairs_counted_one_by_one(
    found: dict[str, Array], stocks: list[Stock]
) -> None:
    """That of the pairs' covariances over their variances: sum of cov over sum of sd * sd is not asked for."""
    returns = stocks[0].others
    out = np.full(SESSIONS, np.nan)
    for t in range(SESSIONS - COMPARED, SESSIONS):
        cov = np.cov(returns[t - 59 : t + 1].T)
        pairs = cov[~np.eye(TICKERS, dtype=bool)]
        out[t] = pairs.mean() / np.diag(cov).mean()
    same(found["corr_avg_60"][0], out)
