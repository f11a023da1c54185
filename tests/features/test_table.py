"""The order of the columns, the anchoring rule, and that nothing later moves anything earlier, bit for bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import frames, table
from features.calendars import calendar_sessions
from features.panel import Panel, align, load, rows_of
from features.prices import Wide
from features.table import FeatureError
from tests.features.ragged_fixture import PRICES, assert_same_bytes, bars_of, members_of, price_panel, ragged

FAMILIES = tuple(table.FEATURES)


def headlines(prices: pd.DataFrame) -> pd.DataFrame:
    moves = prices[::7].reset_index(drop=True)
    words = np.array(["great gain", "terrible loss", "steady day"])[np.arange(len(moves)) % 3]
    at = (moves["session"] + pd.Timedelta(hours=15)).dt.tz_localize("UTC").astype(frames.INSTANT)
    rows = pd.DataFrame(
        {
            "news_id": [f"id{i}" for i in range(len(moves))],
            "ticker": moves["ticker"],
            "published_at": at,
            "known_at": at,
            "ingested_at": at,
            "source": "test",
            "title": moves["ticker"] + " " + words,
            "summary": "",
            "url": "",
        }
    )
    text = ("news_id", "ticker", "source", "title", "summary", "url")
    return frames.check("news", rows.astype(dict.fromkeys(text, "str")))


def build(prices: pd.DataFrame, items: pd.DataFrame, lead: int = 0) -> Panel:
    _, closes = calendar_sessions("XNYS", prices["session"].min(), prices["session"].max())
    return table.build(bars_of(prices), table.News(items, closes, lead, 0.1), FAMILIES)


def test_columns_are_in_the_listed_order(prices: pd.DataFrame) -> None:
    panel = build(prices, headlines(prices))
    assert panel.feature_names == table.names(FAMILIES)
    assert panel.feature_names[0] == "observed"
    assert np.nanmin(panel.x[..., 0]) == 1.0
    assert len(panel.feature_names) > 90
    assert np.isfinite(panel.x[:, 400:]).all()


@pytest.mark.parametrize("seed", range(6))
def test_a_year_of_features_depends_on_three_years_of_bars(seed: int) -> None:
    rows = ragged(seed)
    members = members_of(rows, seed) if seed % 2 else None
    whole = price_panel(rows, members)
    for year in (2006, 2007, 2008):
        tail = rows[rows["session"] >= f"{year - 2}-01-01"]
        found = price_panel(tail, members)
        of_year = whole.sessions[whole.sessions.astype("datetime64[Y]") == np.datetime64(str(year))]
        assert_same_bytes(whole, found, of_year)
    assert np.isfinite(whole.x[:, -200:]).any(axis=(0, 1)).all()


@pytest.mark.parametrize(("seed", "year"), [(1, 2007), (2, 2008), (3, 2008)])
def test_one_more_session_from_the_tail_equals_full_recomputation(seed: int, year: int) -> None:
    """The first sessions of a year, and one in its middle: the day that was the last one keeps its bytes too."""
    rows = ragged(seed)
    days = np.unique(rows["session"].to_numpy())
    first = int(np.searchsorted(days, np.datetime64(f"{year}-01-01")))
    for last in (first, first + 1, first + 70):
        until = rows[rows["session"] <= days[last]]
        after = price_panel(rows[rows["session"] <= days[last + 1]])
        assert_same_bytes(price_panel(until), after, days[: last + 1].astype("datetime64[D]"))
        tail = until[until["session"] >= f"{year - 2}-01-01"]
        assert_same_bytes(price_panel(tail), after, days[first : last + 1].astype("datetime64[D]"))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(100, 1050))
def test_other_futures_change_no_earlier_byte(seed: int, cut: int) -> None:
    rows = ragged(seed, tickers=4)
    days = np.unique(rows["session"].to_numpy())
    cut = min(cut, len(days) - 1)
    later = rows["session"] >= days[cut]
    generator = np.random.default_rng(seed)
    altered = rows.copy()
    factor = np.exp(generator.normal(0, 0.5, int(later.sum())))
    for name in (*PRICES, "volume"):
        altered.loc[later, name] *= factor
    newcomer = altered[later & (altered["ticker"] == altered["ticker"].iloc[-1])].assign(ticker="A00")
    altered = pd.concat([altered[~later | (generator.random(len(rows)) < 0.9)], newcomer], ignore_index=True)
    early = days[:cut].astype("datetime64[D]")
    before = price_panel(rows)
    assert_same_bytes(before, price_panel(altered), early)
    assert_same_bytes(before, price_panel(rows[~later]), early)


@pytest.mark.parametrize("cut", [300, 897])
def test_an_altered_future_of_prices_and_news_changes_no_earlier_byte(prices: pd.DataFrame, cut: int) -> None:
    items = headlines(prices)
    before = build(prices, items)
    first_altered = pd.Timestamp(before.sessions[cut])
    later = prices["session"] >= first_altered
    altered = prices.copy()
    factor = np.exp(np.random.default_rng(cut).normal(0, 0.5, int(later.sum())))
    for name in (*PRICES, "volume"):
        altered.loc[later, name] *= factor
    altered_items = items.copy()
    late_news = items["known_at"] >= first_altered.tz_localize("UTC")
    altered_items.loc[late_news, "title"] = "a wonderful, excellent, superb rise"
    after = build(altered, altered_items)
    assert_same_bytes(before, after, before.sessions[:cut])
    # The alteration was real: later features did move.
    assert before.x[:, cut:].tobytes() != after.x[:, cut:].tobytes()


def test_a_planted_leak_is_caught_by_the_same_comparison() -> None:
    def leak(wide: Wide) -> dict[str, pd.DataFrame]:
        return {"centred": wide.returns.rolling(5, center=True).mean()}

    rows = ragged(4)
    days = np.unique(rows["session"].to_numpy())
    early = rows[rows["session"] < days[500]]
    before, after = (price_panel(some, own=[("leak", leak)], families=()) for some in (rows, early))
    with pytest.raises(AssertionError, match="centred: "):
        assert_same_bytes(before, after, days[:500].astype("datetime64[D]"))


def test_rows_in_any_order_give_the_same_bytes() -> None:
    rows = ragged(5)
    shuffled = rows.sample(frac=1, random_state=1)
    assert_same_bytes(price_panel(rows), price_panel(shuffled), np.unique(rows["session"]).astype("datetime64[D]"))


def test_chosen_features_come_in_the_order_given() -> None:
    rows = ragged(6)
    whole = price_panel(rows)
    chosen = ("yz_20", "monday", "rank_vol", "ret_5")
    panel = price_panel(rows, chosen=chosen)
    assert panel.feature_names == ("observed", *chosen)
    for i, name in enumerate(panel.feature_names):
        np.testing.assert_array_equal(panel.x[..., i], whole.x[..., whole.feature_names.index(name)])
    assert price_panel(rows, chosen=("ret_5", "observed")).feature_names == ("observed", "ret_5")


def test_a_chosen_name_that_is_unknown_or_twice_is_named() -> None:
    with pytest.raises(FeatureError, match="unknown feature 'ret_200'; did you mean ret_20"):
        table.names(FAMILIES, ("ret_1", "ret_200"))
    with pytest.raises(FeatureError, match="feature 'ret_1' is chosen twice"):
        table.names(FAMILIES, ("ret_1", "ret_5", "ret_1"))
    with pytest.raises(FeatureError, match="unknown feature 'my_croos'; did you mean my_cross"):
        table.names(FAMILIES, ("my_croos",), ("my_cross",))


def test_rows_and_panel_round_trip(prices: pd.DataFrame) -> None:
    panel = build(prices, headlines(prices))
    known = np.isfinite(panel.x[..., 0])
    again = load(rows_of(panel, known))
    np.testing.assert_array_equal(again.x, panel.x)
    np.testing.assert_array_equal(again.vol, panel.vol)
    assert again.feature_names == panel.feature_names
    with pytest.raises(KeyError, match="no column nosuch"):
        load(rows_of(panel, known), ("nosuch",))


def test_align_drops_what_the_panel_lacks(prices: pd.DataFrame) -> None:
    panel = build(prices, headlines(prices))
    rows = pd.DataFrame(
        {
            "ticker": ["T00", "ZZZ", "T02"],
            "session": pd.to_datetime([panel.sessions[5]] * 3),
            "horizon": [1, 1, 9],
            "z": [1.5, 2.0, 3.0],
        }
    )
    out = align(panel, rows, "z", (1, 5))
    assert out[0, 5, 0] == 1.5
    assert np.isfinite(out).sum() == 1
