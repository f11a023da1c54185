"""Returns across corporate actions, by hand, against a plain loop, and blind to what happens later."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import table
from features.actions import Adjusted, Bars, adjust, gross_returns
from features.bars import Bars as FeatureBars
from features.calendars import calendar_sessions
from tests.conftest import MakePrices

CASES = {
    # name: close before, close, adj before, adj, dividend, split -> return, mismatch
    "nothing happened": (50.0, 51.0, 25.0, 25.5, 0.0, 1.0, 0.02, False),
    "adj_close rounded to cents": (117.31, 119.02, 1.17, 1.19, 0.0, 1.0, 119.02 / 117.31 - 1, False),
    "split of 2, raw close": (100.0, 51.0, 50.0, 51.0, 0.0, 2.0, 0.02, False),
    "split of 2, split-adjusted close": (50.0, 51.0, 50.0, 51.0, 0.0, 2.0, 0.02, False),
    "reverse split 1:10, raw close": (2.0, 19.0, 20.0, 19.0, 0.0, 0.1, -0.05, False),
    "reverse split 1:10, split-adjusted close": (20.0, 19.0, 20.0, 19.0, 0.0, 0.1, -0.05, False),
    "split of 2, raw close, no adj_close": (100.0, 51.0, 100.0, 51.0, 0.0, 2.0, 0.02, True),
    "crash of 30 % on a split-adjusted split": (50.0, 35.0, 50.0, 35.0, 0.0, 2.0, -0.30, False),
    "stock dividend of 5 %, split-adjusted": (50.0, 49.0, 50.0, 49.0, 0.0, 1.05, -0.02, False),
    "dividend added to the close": (100.0, 99.0, 50.0, 50.5, 2.0, 1.0, 0.01, False),
    "dividend taken off the close before": (100.0, 99.0, 98.0, 99.0, 2.0, 1.0, 0.01, False),
    "dividend of half the price, taken off": (100.0, 60.0, 50.0, 60.0, 50.0, 1.0, 0.10, False),
    "dividend, no adj_close": (100.0, 99.0, 100.0, 99.0, 2.0, 1.0, 0.01, True),
    "dividend and split, raw close": (100.0, 50.0, 49.5, 50.0, 1.0, 2.0, 0.01, False),
    "dividend and split, split-adjusted close": (50.0, 49.0, 49.0, 49.0, 1.0, 2.0, 0.0, False),
    "listed dividend, another one in adj_close": (100.0, 99.0, 50.0, 60.0, 2.0, 1.0, 0.01, True),
    "dividend above the price before": (1.0, 0.9, 1.0, 1.9, 1.0, 1.0, 0.90, False),
    "unlisted, of .3 %, never rounded": (0.0712345, 0.0712345, 0.0311111, 0.0312044333, 0.0, 1.0, 0.003, False),
    "unlisted dividend": (100.0, 99.0, 50.0, 50.5, 0.0, 1.0, 0.01, False),
    "unlisted split": (100.0, 51.0, 50.0, 51.0, 0.0, 1.0, 0.02, False),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(case: str) -> None:
    *figures, expected, mismatch = CASES[case]
    before, now, adj_before, adj, dividend, split = (np.array([value]) for value in figures)
    found = gross_returns(Bars(now, adj), Bars(before, adj_before), dividend, split)
    assert found.ratio[0] - 1 == pytest.approx(expected, abs=2e-9)
    assert found.mismatch[0] == mismatch
    assert found.unlisted[0] == case.startswith("unlisted")


def rows_of(*bars: tuple[str, str, float, float, float, float]) -> pd.DataFrame:
    rows = pd.DataFrame(bars, columns=["ticker", "session", "close", "adj_close", "dividend", "split"])
    return rows.assign(session=pd.to_datetime(rows["session"]))


def test_closes_move_on_from_the_first_one_and_contradictions_are_listed() -> None:
    found = adjust(
        rows_of(
            ("B", "2013-03-01", 10.0, 10.0, 0.5, 2.0),  # the first bar: nothing to compare it with
            ("A", "2013-03-04", 51.0, 25.5, 0.0, 2.0),
            ("A", "2013-03-01", 100.0, 25.0, 0.0, 1.0),
            ("B", "2013-03-08", 11.0, 11.0, 1.0, 1.0),  # bars apart by a week: still the one before
            ("A", "2013-03-05", 50.49, 25.245, 0.0, 1.0),
        )
    )
    np.testing.assert_allclose(found.gross, [np.nan, 1.02, np.nan, 1.2, 0.99])
    assert found.mismatches.to_dict("records") == [
        {
            "ticker": "B",
            "session": pd.Timestamp("2013-03-08"),
            "expected_return": pytest.approx(0.2),
            "adj_return": pytest.approx(0.1),
            "dividend": 1.0,
            "split": 1.0,
        }
    ]
    assert len(found.unlisted) == 0


def test_nothing_gives_nothing() -> None:
    found = adjust(rows_of().astype({"close": "float64"}))
    assert found.gross.empty
    assert found.mismatches.empty


def with_actions(prices: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Dividends, splits and unlisted actions, booked in a consistent adj_close; closes raw."""
    generator = np.random.default_rng(seed)
    parts = []
    for _, own in prices.groupby("ticker"):
        own = own.sort_values("session").reset_index(drop=True)
        n = len(own)
        kind = generator.choice(4, n, p=[0.97, 0.015, 0.005, 0.01])
        split = np.where(kind == 2, generator.choice([0.5, 2.0, 3.0], n), 1.0)
        share = np.where((kind == 1) | (kind == 3), generator.uniform(0.002, 0.05, n), 0.0)
        total = own["close"].to_numpy()
        raw = total / np.cumprod(split) * np.cumprod(1 - share)
        before = np.r_[raw[0], raw[:-1]]
        factor = np.cumprod(split / (1 - share))
        adjusted = raw * factor / factor[-1]
        paid = np.where(kind == 1, share * before / split, 0.0)
        own = own.assign(dividend=paid, split=split)
        for name in ("open", "high", "low"):
            own[name] = own[name] * raw / total
        own["close"] = raw
        parts.append(own.assign(adj_close=adjusted))
    return pd.concat(parts, ignore_index=True)


def test_the_total_return_is_recovered(prices: pd.DataFrame) -> None:
    rows = with_actions(prices)
    found = adjust(rows)
    assert found.mismatches.empty
    assert len(found.unlisted) > 5
    for _, own in rows.groupby("ticker"):
        there = np.log(found.gross[own.index]).dropna()
        vendor = np.log(own["adj_close"]).diff().dropna()
        # The two conventions of booking a dividend differ by dividend times return.
        np.testing.assert_allclose(there, vendor, atol=0.05 * 0.1)
        assert there.sum() == pytest.approx(vendor.sum(), abs=0.01)


@pytest.mark.parametrize("factor", [0.5, 0.37, 3.0, 1e-3])
def test_a_rebased_adj_close_moves_no_byte_of_any_feature(prices: pd.DataFrame, factor: float) -> None:
    rows = with_actions(prices)
    assert features_of(rows) == features_of(rows.assign(adj_close=rows["adj_close"] * factor))
    assert features_of(rows) != features_of(rows.assign(adj_close=rows["close"]))


@pytest.mark.parametrize("factor", [0.98, 0.9, 0.5])
@pytest.mark.parametrize("rounded", [False, True])
def test_an_adj_close_in_cents_may_be_rebased_too(prices: pd.DataFrame, factor: float, rounded: bool) -> None:
    cents = prices["close"].round(2)
    rebased = cents * factor
    rows = [prices.assign(close=cents, adj_close=adj) for adj in (cents, rebased.round(2) if rounded else rebased)]
    assert features_of(rows[0]) == features_of(rows[1])


def features_of(rows: pd.DataFrame) -> tuple[bytes, bytes]:
    sessions, closes = calendar_sessions("XNYS", rows["session"].min(), rows["session"].max())
    families = tuple(name for name in table.FEATURES if name != "sentiment")
    news = table.News(pd.DataFrame(), closes, 0, 0.1)
    panel = table.build(FeatureBars.from_rows(rows, sessions), news, families)
    return panel.x.tobytes(), panel.vol.tobytes()


@pytest.mark.parametrize("cut", [100, 450, 898])
def test_later_rows_move_no_earlier_byte(prices: pd.DataFrame, cut: int) -> None:
    rows = with_actions(prices)
    later = rows["session"] >= np.unique(rows["session"])[cut]
    altered = rows.copy()
    altered.loc[later, ["close", "adj_close"]] *= np.random.default_rng(1).uniform(0.3, 3, (int(later.sum()), 2))
    altered.loc[later, "split"], altered.loc[later, "dividend"] = 7.0, 1.0
    whole, moved, cut_off = adjust(rows), adjust(altered), adjust(rows[~later])
    for found in (moved, cut_off):
        assert found.gross[~later].to_numpy().tobytes() == whole.gross[~later].to_numpy().tobytes()
    assert len(moved.mismatches) > len(whole.mismatches)


PRICE = st.floats(0.5, 500).map(lambda value: round(value, 2))
BAR = st.tuples(
    st.sampled_from("AB"),
    PRICE,
    PRICE | PRICE.map(lambda value: value / 3) | st.none(),
    st.sampled_from([0.0, 0.0, 0.0, 0.25, 3.0]),
    st.sampled_from([1.0, 1.0, 1.0, 2.0, 0.5, 1.05]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(BAR, max_size=40), st.randoms(use_true_random=False))
def test_as_a_loop_over_bars_would(bars: list[tuple], random) -> None:
    days = pd.date_range("2013-01-01", periods=len(bars)).strftime("%Y-%m-%d")
    rows = [(t, day, close, adj or close, d, s) for day, (t, close, adj, d, s) in zip(days, bars, strict=True)]
    expected, mismatched = plain(rows)
    random.shuffle(rows)
    frame = rows_of(*rows).astype(dict.fromkeys(("close", "adj_close", "dividend", "split"), "float64"))
    found = adjust(frame)
    keys = list(zip(frame["ticker"], frame["session"].dt.strftime("%Y-%m-%d"), strict=True))
    np.testing.assert_allclose(found.gross, [expected[key] for key in keys], rtol=1e-7)
    assert listed(found) == mismatched


def listed(found: Adjusted) -> list[tuple[str, str]]:
    return list(zip(found.mismatches["ticker"], found.mismatches["session"].dt.strftime("%Y-%m-%d"), strict=True))


def plain(rows: list[tuple]) -> tuple[dict, list]:
    """The rule bar by bar, in scalars."""
    last: dict[str, tuple[float, float]] = {}
    index, mismatched = {}, []
    for ticker, day, close, adj, dividend, split in rows:
        if ticker not in last:
            total = math.nan
        else:
            before, adj_before = last[ticker]
            move = math.log(adj / adj_before)
            slack = 1e-6
            for price in (close, before, adj, adj_before):
                in_cents = abs(price * 1e4 - round(price * 1e4)) < 1e-5
                slack -= math.log(1 - min((0.005 if in_cents else 0.5e-6) / price, 0.9))
            silent = abs(move - math.log(close / before)) <= slack
            if dividend == 0 and split == 1:
                total = close / before if silent else adj / adj_before
            else:
                tried = []
                for worth in (close * split, close):
                    ends = [math.log((worth + dividend) / before)]
                    if before > dividend:
                        ends.append(math.log(worth / (before - dividend)))
                    tried.append((max(min(ends) - move, move - max(ends), 0.0), (worth + dividend) / before))
                (raw_gap, raw), (own_gap, own) = tried
                takes_raw = abs(math.log(raw)) < abs(math.log(own)) / 2 if silent else raw_gap < own_gap
                gap, ratio = tried[0] if takes_raw else tried[1]
                total = ratio
                if gap > slack:
                    mismatched.append((ticker, day))
        last[ticker] = close, adj
        index[ticker, day] = total
    return index, sorted(mismatched)


def test_a_history_of_five_hundred_tickers_takes_a_moment(make_prices: MakePrices) -> None:
    rows = with_actions(make_prices(tickers=2, sessions=600))
    many = pd.concat([rows.assign(ticker=rows["ticker"] + str(i)) for i in range(20)], ignore_index=True)
    one, all_of_them = adjust(rows), adjust(many)
    for i in range(20):
        part = all_of_them.gross[i * len(rows) : (i + 1) * len(rows)]
        assert part.to_numpy().tobytes() == one.gross.to_numpy().tobytes()
