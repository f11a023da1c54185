"""Families of price features: golden values by hand, invariances, what is missing; the frames for own features."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.bars import Bars
from features.catalogue import catalogue
from features.prices import FAMILIES, Wide
from features.table import FEATURES
from features.trailing import Array
from tests.features.ragged_fixture import PRICES, bars_of, members_of, price_panel, ragged

PER_TICKER = ("returns", "momentum", "volatility", "range", "gap", "volume", "drawdown", "calendar")
TOLERANCE = 1e-9


def every_feature(bars: Bars, families: tuple[str, ...] = tuple(FAMILIES)) -> dict[str, Array]:
    return {name: values for family in families for name, values in FAMILIES[family](bars).items()}


def of_logs(r: list[float], up: float = 0.01, down: float = -0.01, day: float = 0.0) -> Bars:
    """One ticker with these log returns from its second bar on; every bar with the same range."""
    size = len(r) + 1
    days = np.busday_offset("2020-01-06", np.arange(size))
    price = np.full((1, size), 100.0)
    parts = (np.full((1, size), value) for value in (up, down, day))
    return Bars(np.array(["A"]), days, np.array([[np.nan, *r]]), *parts, price, price)


def last(bars: Bars, family: str, name: str) -> float:
    return float(FAMILIES[family](bars)[name][0, -1])


def assert_alike(one: dict[str, Array], other: dict[str, Array]) -> None:
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


def test_families_hold_exactly_the_listed_features(prices: pd.DataFrame) -> None:
    bars = bars_of(prices)
    span = bars.span(2008)
    for family, compute in FAMILIES.items():
        for of, width in ((bars, 900), (span, span.keep)):
            found = compute(of)
            assert tuple(sorted(found)) == tuple(sorted(FEATURES[family])), family
            assert {(values.shape, values.dtype) for values in found.values()} == {((3, width), np.dtype("f8"))}


def test_warm_ups_are_those_of_the_catalogue(prices: pd.DataFrame) -> None:
    found = every_feature(bars_of(prices))
    first = {name: int(np.isfinite(values[0]).argmax()) + 1 for name, values in found.items()}
    assert first == {feature.name: feature.warm_up for feature in catalogue() if feature.name in found}


def test_momentum_by_hand() -> None:
    r = [0.02, -0.01] * 150
    bars = of_logs(r)
    v = float(bars.v[0, -1])
    assert last(bars, "momentum", "mom_250_20") == pytest.approx(230 / 2 * 0.01 / (v * math.sqrt(230)))
    gains, falls = ((sum(max(side * x, 0) * (13 / 14) ** k for k, x in enumerate(reversed(r)))) for side in (1, -1))
    assert last(bars, "momentum", "rsi_14") == pytest.approx(2 * gains / (gains + falls) - 1)
    path = np.concatenate([[0.0], np.cumsum(r)])
    macd = path * 0
    fast = slow = signal = 0.0
    for t, level in enumerate(path):
        fast, slow = fast + (level - fast) * 2 / 13, slow + (level - slow) * 2 / 27
        macd[t] = fast - slow
        signal += (macd[t] - signal) * 2 / 10
    assert last(bars, "momentum", "macd") == pytest.approx(macd[-1] / v, rel=1e-6)
    assert last(bars, "momentum", "macd_hist") == pytest.approx((macd[-1] - signal) / v, rel=1e-6)
    window = path[-20:]
    assert last(bars, "momentum", "boll_20") == pytest.approx((window[-1] - window.mean()) / (2 * window.std()))
    low, high = path[-14:].min() - 0.01, path[-14:].max() + 0.01
    assert last(bars, "momentum", "stoch_14") == pytest.approx(2 * (path[-1] - low) / (high - low) - 1)


def test_ranges_by_hand() -> None:
    """Constant bars: open half a percent above the close, high 1 % above, low 2 % below; closes move +-1 %."""
    bars = of_logs([0.01, -0.01] * 100, up=0.01, down=-0.02, day=0.005)
    v = 0.01
    assert last(bars, "range", "park_20") == pytest.approx(math.log(0.03 / math.sqrt(4 * math.log(2)) / v))
    garman = 0.03**2 / 2 - (2 * math.log(2) - 1) * 0.005**2
    assert last(bars, "range", "gk_5") == pytest.approx(math.log(math.sqrt(garman) / v))
    rogers = 0.01 * (0.01 - 0.005) + -0.02 * (-0.02 - 0.005)
    assert last(bars, "range", "rs_20") == pytest.approx(math.log(math.sqrt(rogers) / v))
    k = 0.34 / (1.34 + 21 / 19)
    zhang = 0.01**2 * 20 / 19 + (1 - k) * rogers  # gaps of 1.5 % and -.5 %, open to close always the same
    assert last(bars, "range", "yz_20") == pytest.approx(math.log(math.sqrt(zhang) / v))
    # True ranges: 3 %, as the close before lies within the bar; on a fall of 1 % it is the high itself.
    assert last(bars, "range", "atr_14") == pytest.approx(math.log(0.03 / v))


def test_gaps_drawdowns_and_extremes_by_hand() -> None:
    bars = of_logs([0.01, -0.01] * 140 + [-0.1], day=0.02)
    v = float(bars.v[0, -1])
    assert last(bars, "gap", "gap_1") == pytest.approx((-0.1 + 0.02) / v)
    gaps = np.array([0.01, 0.03] * 10)[:-1]
    squares = (gaps**2).sum() + 0.08**2
    assert last(bars, "gap", "gap_share_20") == pytest.approx(squares / (squares + 20 * 0.02**2))
    assert last(bars, "drawdown", "drawdown_250") == pytest.approx(-0.11 / (v * math.sqrt(250)))
    assert last(bars, "drawdown", "rise_20") == 0.0
    assert last(bars, "drawdown", "since_high_250") == 2 / 250
    assert last(bars, "volatility", "jump_20") == pytest.approx(0.1 / v)


def test_market_and_beta_by_hand() -> None:
    """B moves twice as A does, C against it; the market of A, B and C moves 2/3 of A."""
    a = np.random.default_rng(0).normal(0, 0.01, 300).round(6)
    one = of_logs(a.tolist())
    r = np.vstack([one.r, 2 * one.r, -one.r])
    wide = [np.repeat(part, 3, axis=0) for part in (one.up, one.down, one.day, one.close, one.volume)]
    bars = Bars(np.array(["A", "B", "C"]), one.sessions, r, *wide)
    found = every_feature(bars, ("market", "beta", "rank"))
    np.testing.assert_allclose(found["beta_60"][:, -1], [1.5, 3, -1.5], rtol=1e-6)
    np.testing.assert_allclose(found["corr_60"][:, -1], [1, 1, -1], rtol=1e-6)
    np.testing.assert_allclose(found["resid_ret_20"][:, -1], 0, atol=1e-6)
    np.testing.assert_allclose(found["resid_vol_60"][:, -1], -5)
    m = 2 / 3 * a
    apart = np.std([1, 2, -1]) * math.sqrt((a[-20:] ** 2).mean()) / math.sqrt((m[-5:] ** 2).mean())
    assert found["dispersion_20"][0, -1] - found["mkt_vol_5"][0, -1] == pytest.approx(math.log(apart))
    assert found["mkt_up_share"][0, -1] == pytest.approx((2 / 3 if a[-1] > 0 else 1 / 3) - 1 / 2)
    # Pairs correlate by 1, -1 and -1; weighted by their variances 1, 4, 1: (var(m) / 2 - 1/3) / (2/3).
    assert found["corr_avg_60"][0, -1] == pytest.approx(((4 / 9) / 2 - 1 / 3) / (2 / 3))
    # In units of their volatility A and B move alike, and share a rank.
    up = a[-20:].sum() > 0
    assert found["rank_ret_20"][:, -1].tolist() == ([0.25, 0.25, -0.5] if up else [-0.25, -0.25, 0.5])


def test_ranks_by_hand(prices: pd.DataFrame) -> None:
    bars = bars_of(prices)
    ranks = FAMILIES["rank"](bars)
    vol = bars.vol[:, -1]
    np.testing.assert_array_equal(ranks["rank_vol"][:, -1], vol.argsort().argsort() / 2 - 0.5)
    alone = FAMILIES["rank"](bars_of(prices[prices["ticker"] == "T01"]))
    assert alone["rank_vol"][0, -1] == 0.0


def test_ranks_are_of_members_only(prices: pd.DataFrame) -> None:
    members = members_of(prices, 0)
    members.loc[:, "T01"] = False
    members.loc[:, ["T00", "T02"]] = True
    ranks = FAMILIES["rank"](bars_of(prices, members))["rank_vol"]
    assert np.isnan(ranks[1]).all()
    assert set(ranks[0, 20:].tolist()) == {-0.5, 0.5}


def test_volume_by_hand(prices: pd.DataFrame) -> None:
    one = prices[prices["ticker"] == "T00"]
    found = {name: float(values[0, -1]) for name, values in FAMILIES["volume"](bars_of(one)).items()}
    logs = np.log(one["volume"].to_numpy())
    size = np.abs(np.diff(np.log(one["close"].to_numpy())))
    impact = size / (one["close"] * one["volume"]).to_numpy()[1:]
    assert found["volume_z_20"] == pytest.approx((logs[-1] - logs[-20:].mean()) / logs[-20:].std(ddof=1))
    assert found["volume_trend"] == pytest.approx(logs[-5:].mean() - logs[-60:].mean())
    assert found["volume_vol_20"] == pytest.approx(logs[-20:].std(ddof=1))
    assert found["amihud_20"] == pytest.approx(math.log(impact[-20:].mean() / impact[-250:].mean()))
    assert found["volume_ret_20"] == pytest.approx(np.corrcoef(size[-20:], logs[-20:])[0, 1])


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2005-01-31", {"monday": 1, "month_end": 1, "expiry_week": 0, "days_since": math.log(3)}),
        ("2005-02-18", {"monday": 0, "month_end": 0, "expiry_week": 1, "days_since": 0}),
        ("2005-02-22", {"monday": 0, "tuesday": 1, "month_end": 0, "expiry_week": 0, "days_since": math.log(4)}),
        ("2005-02-25", {"month_end": 0}),
        ("2005-02-28", {"month_end": 1}),
        ("2005-04-11", {"expiry_week": 1}),
    ],
)
def test_calendar_by_hand(prices: pd.DataFrame, day: str, expected: dict[str, float]) -> None:
    bars = bars_of(prices)
    found, at = FAMILIES["calendar"](bars), int(np.searchsorted(bars.sessions, np.datetime64(day)))
    assert {name: float(found[name][0, at]) for name in expected} == pytest.approx(expected)


def test_days_since_a_long_halt_are_ten(prices: pd.DataFrame) -> None:
    days = np.unique(prices["session"])
    halted = prices[~((prices["ticker"] == "T00") & prices["session"].isin(days[300:340]))]
    found = FAMILIES["calendar"](bars_of(halted))["days_since"][0]
    assert found[340] == math.log(10)
    assert np.isnan(found[339])


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 1000.0), st.floats(0.01, 1e6), st.integers(0, 50))
def test_features_ignore_the_units_of_prices_and_volume(factor: float, shares: float, seed: int) -> None:
    rows = ragged(seed, tickers=3, sessions=700).assign(dividend=0.0)  # a dividend is in units of the price
    moved = rows.assign(volume=rows["volume"] * shares, **{name: rows[name] * factor for name in PRICES})
    assert_alike(every_feature(bars_of(rows)), every_feature(bars_of(moved)))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 300), st.integers(0, 50))
def test_per_ticker_features_ignore_an_earlier_start_and_other_tickers(shift: int, seed: int) -> None:
    rows = ragged(seed, tickers=4)
    ticker = rows["ticker"].iloc[0]
    one = rows[rows["ticker"] == ticker]
    base, bars = every_feature(bars_of(rows).span(2008), PER_TICKER), bars_of(rows)
    alone = bars_of(one)
    if alone.sessions[-1] >= np.datetime64("2008-01-01") and alone.sessions[0] < np.datetime64("2006-01-01"):
        found = every_feature(alone.span(2008), PER_TICKER)
        width = alone.span(2008).keep
        for name, values in found.items():
            np.testing.assert_array_equal(values[0], base[name][0, :width], err_msg=name)
    late = every_feature(bars_of(one[shift:]), PER_TICKER) if len(one) > shift + 500 else {}
    whole = every_feature(alone, PER_TICKER)
    for name, values in late.items():
        # Three years are not over: an earlier start still shows, by the fading memory of the averages.
        np.testing.assert_allclose(values[0, -100:], whole[name][0, -100:], rtol=1e-3, atol=1e-6, err_msg=name)
    assert bars.tickers[0] == ticker


def test_ticker_order_does_not_matter() -> None:
    rows = ragged(1)
    names = dict(zip(sorted(rows["ticker"].unique()), ["T4", "T2", "T6", "T0", "T5", "T1", "T3"], strict=True))
    renamed = rows.assign(ticker=rows["ticker"].map(names).astype("str"))
    base, other = every_feature(bars_of(rows)), every_feature(bars_of(renamed))
    order = np.argsort(list(names.values())).argsort()
    assert_alike(base, {name: values[order] for name, values in other.items()})


def test_features_are_missing_where_the_ticker_did_not_trade(prices: pd.DataFrame) -> None:
    days = np.unique(prices["session"])
    panel = price_panel(prices[~((prices["ticker"] == "T00") & (prices["session"].isin(days[500:510])))])
    assert np.isnan(panel.x[0, 500:510]).all()
    assert np.isnan(panel.vol[0, 500:510]).all()
    assert np.isfinite(panel.x[1:, 500:510]).all()
    assert np.isfinite(panel.x[0, 540]).all()


def test_a_price_that_never_moves_has_no_infinite_feature() -> None:
    bars = of_logs([0.0] * 300, up=0.0, down=0.0)
    for name, values in every_feature(bars).items():
        assert not np.isinf(values).any(), name
    assert last(bars, "volatility", "log_vol") == math.log(0.003)
    assert last(bars, "momentum", "rsi_14") == 0.0
    assert math.isnan(last(bars, "momentum", "boll_20"))
    assert last(bars, "range", "park_20") == -5.0


def test_wide_frames_hold_adjusted_prices(prices: pd.DataFrame) -> None:
    rows = prices.assign(dividend=np.where(prices["session"] == prices["session"].iloc[600], 1.0, 0.0))
    wide, plain = (Wide.of(bars_of(some)) for some in (rows, prices))
    for name in ("open", "high", "low", "close"):
        raw = prices.pivot(index="session", columns="ticker", values=name)
        pd.testing.assert_frame_equal(
            getattr(plain, name), raw, rtol=1e-9, check_freq=False, check_names=False, check_column_type=False
        )
        factor = (getattr(wide, name) / getattr(plain, name)).to_numpy()
        np.testing.assert_allclose(factor[:200], 1, rtol=1e-9)
        np.testing.assert_allclose(factor[200:], np.tile(1 + 1 / plain.close.to_numpy()[200], (700, 1)), rtol=1e-9)
    np.testing.assert_allclose(wide.returns.to_numpy()[1:], np.diff(np.log(wide.close), axis=0), atol=1e-11)
    assert wide.members is None


def test_wide_from_rows_is_wide_of_bars() -> None:
    rows = ragged(2)
    bars = bars_of(rows)
    sessions = pd.DatetimeIndex(bars.sessions.astype("datetime64[us]"))
    pd.testing.assert_frame_equal(Wide.from_rows(rows, sessions).open, Wide.of(bars).open)
