from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features import frames
from features.calendars import calendar_sessions
from features.sentiment import score
from pipeline.providers import NEWS_COLUMNS, PRICE_COLUMNS
from pipeline.providers.simulated import HEAVY, PHRASES, headlines


@pytest.fixture(scope="module")
def rows(prices: pd.DataFrame) -> pd.DataFrame:
    """Three tickers of 900 sessions, one of them the market."""
    renamed = prices.assign(ticker=prices["ticker"].replace("T00", "SPX"))
    return renamed[list(PRICE_COLUMNS)]


@pytest.fixture(scope="module")
def news(rows: pd.DataFrame) -> pd.DataFrame:
    return headlines(rows, "XNYS", seed=7)


def sessions_of(news: pd.DataFrame) -> pd.Series:
    return news["published_at"].dt.tz_convert("America/New_York").dt.tz_localize(None).dt.normalize()


def test_every_headline_says_that_it_is_simulated(news: pd.DataFrame) -> None:
    assert news["title"].str.startswith("[simulated] ").all()
    assert (news["source"] == "simulated").all()
    assert {name: str(dtype) for name, dtype in news.dtypes.items()} == NEWS_COLUMNS


def test_one_session_in_three_has_one_also_for_the_market(news: pd.DataFrame) -> None:
    counts = news["ticker"].value_counts()
    assert sorted(counts.index) == ["", "SPX", "T01", "T02"]
    assert ((counts > 240) & (counts < 360)).all()


def test_stamped_after_the_close_and_known_when_published(news: pd.DataFrame) -> None:
    sessions, closes = calendar_sessions("XNYS", "2005-01-01", "2009-12-31")
    close = closes[sessions.get_indexer(pd.Index(sessions_of(news)))]
    minutes = (pd.DatetimeIndex(news["published_at"]) - close) / pd.Timedelta(minutes=1)
    assert minutes.min() == 5
    assert minutes.max() == 90
    assert (news["known_at"] == news["published_at"]).all()


def test_the_figure_is_the_move_of_the_session(rows: pd.DataFrame, news: pd.DataFrame) -> None:
    adjusted = rows.pivot(index="session", columns="ticker", values="adj_close")
    moves = (100 * adjusted.pct_change()).stack().rename("move")
    keyed = news.assign(session=sessions_of(news), ticker=news["ticker"].replace("", "SPX"))
    told = keyed.join(moves, on=["session", "ticker"])
    assert (told["title"].str.extract(r"(\d+\.\d)%")[0] == told["move"].abs().map("{:.1f}".format)).all()
    falls = told["title"].str.contains("|".join(verb for verb, _ in PHRASES[0] + PHRASES[1]))
    assert (falls == (told["move"] <= -1)).all()


@pytest.mark.parametrize("until", ["2005-02-15", "2006-06-30", "2008-01-02"])
def test_the_future_changes_no_earlier_headline(rows: pd.DataFrame, news: pd.DataFrame, until: str) -> None:
    last = pd.Timestamp(until)
    short = headlines(rows[rows["session"] <= last], "XNYS", seed=7)
    pd.testing.assert_frame_equal(short, news[sessions_of(news) <= last].reset_index(drop=True))
    future = rows["session"] > last
    changed = rows.assign(adj_close=rows["adj_close"].where(~future, 1.0), volume=rows["volume"].where(~future, 9e12))
    again = headlines(changed, "XNYS", seed=7)
    pd.testing.assert_frame_equal(again[sessions_of(again) <= last].reset_index(drop=True), short)


def test_other_tickers_and_the_order_of_rows_change_nothing(rows: pd.DataFrame, news: pd.DataFrame) -> None:
    alone = headlines(rows[rows["ticker"] == "T01"].sample(frac=1, random_state=0), "XNYS", seed=7)
    pd.testing.assert_frame_equal(alone, news[news["ticker"] == "T01"].reset_index(drop=True))


def test_another_seed_chooses_other_sessions(rows: pd.DataFrame, news: pd.DataFrame) -> None:
    assert set(headlines(rows, "XNYS", seed=8)["published_at"]) != set(news["published_at"])


def test_textblob_reads_falls_as_negative_and_rises_as_positive() -> None:
    for row, sign in zip(PHRASES, (-1, -1, -1, 0, 1, 1, 1), strict=True):
        for busy in ("", " as volume swells"):
            texts = [f"[simulated] AAPL {verb} 1.0%{busy}, {verdict}" for verb, verdict in row]
            assert score(texts, 0.1).label.tolist() == [sign] * len(row), texts


def test_volume_swells_only_against_the_sessions_before(rows: pd.DataFrame) -> None:
    one = rows[rows["ticker"] == "T01"].copy()
    one["volume"] = 100.0
    assert not headlines(one, "XNYS")["title"].str.contains("volume").any()
    one.iloc[-1, one.columns.get_loc("volume")] = 100 * HEAVY * 1.01
    titles = [headlines(one, "XNYS", seed)["title"] for seed in range(20)]
    assert {int(t.str.contains("volume swells").sum()) for t in titles} == {0, 1}


def test_no_prices_no_headlines() -> None:
    none = pd.DataFrame(columns=list(PRICE_COLUMNS)).astype(PRICE_COLUMNS)
    assert headlines(none, "XNYS").empty
    first = none.copy()
    first.loc[0] = ["X", pd.Timestamp("2013-03-01"), *np.ones(len(frames.PRICE_FIGURES)), "test"]
    found = headlines(first.astype(PRICE_COLUMNS), "XNYS")
    assert list(found.columns) == list(NEWS_COLUMNS)
    assert found.empty, "the first session has no move yet"
