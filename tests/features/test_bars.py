"""Bars from rows: where each row goes, which returns it has, what a span forgets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.actions import adjust
from features.bars import GRID, HALT_BARS, Bars, halted, volatility
from features.calendars import calendar_sessions
from tests.features.ragged_fixture import bars_of, ragged

PARTS = ("r", "up", "down", "day", "close", "volume")


def axis_of(rows: pd.DataFrame) -> pd.DatetimeIndex:
    return calendar_sessions("XNYS", rows["session"].min(), rows["session"].max())[0]


def assert_equal(one: Bars, other: Bars) -> None:
    assert one.tickers.tolist() == other.tickers.tolist()
    np.testing.assert_array_equal(one.sessions, other.sessions)
    for name in PARTS:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def test_every_row_finds_its_cell() -> None:
    rows = ragged(0)
    bars = bars_of(rows)
    n = np.searchsorted(bars.tickers, rows["ticker"].to_numpy(dtype=str))
    t = np.searchsorted(bars.sessions, rows["session"].to_numpy().astype("datetime64[D]"))
    assert bars.tickers.tolist() == sorted(rows["ticker"].unique())
    assert bars.traded.sum() == len(rows)
    np.testing.assert_array_equal(bars.close[n, t], rows["close"])
    np.testing.assert_array_equal(bars.volume[n, t], rows["volume"].where(rows["volume"] > 0))
    for name, column in (("up", "high"), ("down", "low"), ("day", "open")):
        expected = np.log(rows[column] / rows["close"])
        np.testing.assert_allclose(getattr(bars, name)[n, t], expected, atol=1e-12)
    np.testing.assert_allclose(bars.r[n, t], np.log(adjust(rows).gross), atol=1e-12)


def test_logs_lie_on_the_grid_so_that_their_sums_are_exact() -> None:
    bars = bars_of(ragged(1))
    for name in ("r", "up", "down", "day", "market"):
        logs = getattr(bars, name) * GRID
        np.testing.assert_array_equal(logs, np.round(logs))
    backwards = np.where(np.isfinite(bars.r), bars.r, 0.0)[:, ::-1].sum(axis=1)
    last = np.array([path[np.isfinite(path)][-1] for path in bars.path])
    np.testing.assert_array_equal(last, backwards)


def test_rows_in_any_order_and_adjusted_beforehand_are_the_same() -> None:
    rows = ragged(2)
    sessions = axis_of(rows)
    base = Bars.from_rows(rows, sessions)
    shuffled = rows.sample(frac=1, random_state=0)
    assert_equal(Bars.from_rows(shuffled, sessions), base)
    assert_equal(Bars.from_rows(rows, sessions, adjust(shuffled)), base)
    some = rows[rows["ticker"] == base.tickers[1]]
    only = Bars.from_rows(some, sessions, adjust(rows))
    assert only.r.tobytes() == base.r[[1]].tobytes()


def test_a_return_spans_the_dates_that_are_no_session() -> None:
    rows = ragged(3)
    sessions = axis_of(rows)
    base = Bars.from_rows(rows, sessions)
    some = Bars.from_rows(rows, sessions.delete(np.arange(100, 130)))
    kept = np.delete(np.arange(len(sessions)), np.arange(100, 130))
    np.testing.assert_array_equal(some.close, base.close[:, kept])
    first = np.isfinite(some.close).argmax(axis=1)
    for n, own in enumerate(first):
        whole, held = base.path[n, kept], some.path[n]
        np.testing.assert_array_equal(held, whole - whole[own])


@pytest.mark.parametrize("year", [2006, 2007])
def test_a_span_holds_a_pair_of_years_and_the_one_before_and_forgets_the_rest(year: int) -> None:
    bars = bars_of(ragged(4))
    span = bars.span(year)
    assert span.sessions[0] == np.datetime64("2005-01-03")
    assert span.sessions[-1] == np.datetime64("2007-12-31")
    assert span.keep == np.isin(bars.years, [2006, 2007]).sum()
    at = int(np.searchsorted(bars.sessions, span.sessions[0]))
    for n, traded in enumerate(span.traded):
        if traded.any():
            first = traded.argmax()
            assert np.isnan(span.r[n, : first + 1]).all()
            np.testing.assert_array_equal(span.r[n, first + 1 :], bars.r[n, at + first + 1 : at + len(span.sessions)])
    assert np.isfinite(bars.r[:, at]).any()  # the history itself is as it was


def test_volatility_by_hand() -> None:
    # 20 returns of 2 % and one of 4 %: weights .06 * .94^k, normalised by 1 - .94^21.
    r = np.array([[0.02] * 20 + [0.04]])
    weight = 0.06 * 0.94 ** np.arange(21)
    expected = np.sqrt((weight * np.array([0.04**2] + [0.02**2] * 20)).sum() / weight.sum())
    vol = volatility(r)[0]
    assert vol[20] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(vol[:19]).all()
    assert vol[19] == pytest.approx(0.02)


def test_volatility_is_floored_and_clipped() -> None:
    vol = volatility(np.array([[0.0] * 30, [3.0] * 30]))
    assert vol[0, -1] == 0.003
    assert vol[1, -1] == pytest.approx(0.5)


def test_return_after_a_missing_session_spans_it(prices: pd.DataFrame) -> None:
    days = np.unique(prices["session"])
    gone = prices[~((prices["ticker"] == "T01") & (prices["session"] == days[50]))]
    whole, holed = bars_of(prices), bars_of(gone)
    assert np.isnan(holed.r[1, 50])
    assert holed.r[1, 51] == pytest.approx(whole.r[1, 50:52].sum(), abs=1e-11)


def test_the_market_is_its_members(prices: pd.DataFrame) -> None:
    inside = pd.DataFrame({"T00": True, "T01": False, "T02": True}, pd.DatetimeIndex(np.unique(prices["session"])))
    bars = bars_of(prices, inside)
    np.testing.assert_allclose(bars.market[0, 1:], bars.r[[0, 2], 1:].mean(axis=0), atol=1e-12)
    assert bars_of(prices).market.shape == (1, 900)


def test_no_rows_make_no_bars(prices: pd.DataFrame) -> None:
    bars = Bars.from_rows(prices.iloc[:0], pd.DatetimeIndex([]))
    assert bars.close.shape == (0, 0)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, (2, 70), elements=st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, np.nan])))
def test_halts_by_plain_loops(r: np.ndarray) -> None:
    r[0, 20:60] = np.where(np.isnan(r[0, 20:60]), np.nan, 0)
    expected = np.zeros(r.shape, dtype=bool)
    for n, row in enumerate(r):
        still_for = 0
        for t, value in enumerate(row):
            if np.isfinite(value):
                still_for = still_for + 1 if value == 0 else 0
                expected[n, t] = still_for >= HALT_BARS
    np.testing.assert_array_equal(halted(r), expected)
    np.testing.assert_array_equal(halted(r[:, :40]), expected[:, :40])  # known at the session


def test_a_price_that_stands_still_has_no_scale_from_its_20th_bar_on() -> None:
    rows = ragged(2)
    ticker = rows["ticker"].value_counts().index[0]
    at = np.flatnonzero(rows["ticker"] == ticker)
    frozen = at[400:460]
    before = bars_of(rows)
    rows.loc[frozen, ["open", "high", "low", "close", "adj_close"]] = rows.loc[at[399], "close"]
    after = bars_of(rows)
    n = int(np.searchsorted(after.tickers, ticker))
    lost = np.isfinite(after.v[n]) & np.isnan(after.scale[n])
    days = rows.loc[frozen[20:], "session"].to_numpy().astype("datetime64[D]")  # the first moved to that price
    np.testing.assert_array_equal(after.sessions[lost], days)
    others = np.arange(len(after.tickers)) != n
    np.testing.assert_array_equal(after.scale[others], before.v[others])
