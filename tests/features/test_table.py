"""Nothing known later may move an earlier feature: every column, compared byte by byte."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features import frames, table
from features.calendars import calendar_sessions
from features.panel import Panel, align, load, rows_of
from features.prices import Wide

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
    sessions, closes = calendar_sessions("XNYS", prices["session"].min(), prices["session"].max())
    return table.build(Wide.from_rows(prices, sessions), table.News(items, closes, lead, 0.1), FAMILIES)


def test_columns_are_in_the_listed_order(prices: pd.DataFrame) -> None:
    panel = build(prices, headlines(prices))
    assert panel.feature_names == table.names(FAMILIES)
    assert panel.feature_names[0] == "observed"
    assert np.nanmin(panel.x[..., 0]) == 1.0


@pytest.mark.parametrize("cut", [300, 555, 897])
def test_an_altered_future_changes_no_earlier_byte(prices: pd.DataFrame, cut: int) -> None:
    items = headlines(prices)
    before = build(prices, items)
    first_altered = pd.Timestamp(before.sessions[cut])
    later = prices["session"] >= first_altered
    generator = np.random.default_rng(cut)
    altered = prices.copy()
    factor = np.exp(generator.normal(0, 0.5, int(later.sum())))
    for name in ("open", "high", "low", "close", "adj_close", "volume"):
        altered.loc[later, name] *= factor
    altered_items = items.copy()
    late_news = items["known_at"] >= first_altered.tz_localize("UTC")
    altered_items.loc[late_news, "title"] = "a wonderful, excellent, superb rise"
    after = build(altered, altered_items)
    for i, name in enumerate(before.feature_names):
        early = before.x[:, :cut, i].tobytes(), after.x[:, :cut, i].tobytes()
        assert early[0] == early[1], f"{name} before session {cut} moved with the future"
    assert before.vol[:, :cut].tobytes() == after.vol[:, :cut].tobytes()
    # The alteration was real: later features did move.
    assert before.x[:, cut:].tobytes() != after.x[:, cut:].tobytes()


def test_a_planted_leak_is_caught_by_the_same_comparison(prices: pd.DataFrame) -> None:
    wide = Wide.from_rows(prices, pd.DatetimeIndex(np.unique(prices["session"].to_numpy())))
    centred = wide.close.rolling(5, center=True).mean()
    altered = wide.close.copy()
    altered.iloc[500:] *= 2
    moved = altered.rolling(5, center=True).mean()
    assert centred[:500].to_numpy().tobytes() != moved[:500].to_numpy().tobytes()


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
