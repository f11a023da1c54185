"""Prices through the real yfinance client: what a bar looks like, what is asked for, split and dividend in between."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.calendars import calendar_sessions
from pipeline.providers import Held
from tests.pipeline.providers.yahoo_replay import (
    BUSY,
    DAYS,
    NEW_YORK,
    NO_DATA,
    Answer,
    Replay,
    bars,
    chart,
    held,
    only,
    replay_bars,
    replaying,
    yahoo,
)

SESSIONS = calendar_sessions("XNYS", "2012-11-01", "2013-03-28")[0]
OPENS = SESSIONS.tz_localize(NEW_YORK) + pd.Timedelta("9h30min")
TODAY = f"{pd.Timestamp.now(NEW_YORK):%Y-%m-%d}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replay]:
    with replaying(tmp_path / "cache") as replay:
        yield replay


# What a bar looks like.


def test_bars_as_the_lake_wants_them(server: Replay) -> None:
    delivery = only(yahoo(server, "AAA"))
    rows = delivery.prices
    assert rows["session"].dt.strftime("%Y-%m-%d").tolist() == [
        "2013-02-25", "2013-02-26", "2013-02-27", "2013-02-28", "2013-03-01",
    ]  # fmt: skip
    assert rows["close"].tolist() == [100, 101, 102, 103, 104]
    assert rows["adj_close"].tolist() == [50, 50.5, 51, 51.5, 52]
    assert rows["dividend"].tolist() == [0, 0.5, 0, 0, 0]
    assert rows["split"].tolist() == [1, 1, 2, 1, 1]
    assert set(rows["source"]) == {"yahoo"}
    assert delivery.rejected == ()
    assert "revises the whole history" in delivery.notes[0]


def test_rows_that_cannot_be_used_are_kept_aside(server: Replay) -> None:
    days = pd.DatetimeIndex([*DAYS[:2], pd.Timestamp("2013-03-02 09:30", tz=NEW_YORK)])
    server.chart = lambda ticker, query: (200, chart(ticker, [100.0, -5.0, 100.0], days))
    delivery = only(yahoo(server, "AAA"))
    assert len(delivery.prices) == 1
    assert [row.reason for row in delivery.rejected] == ["open is not above zero", "session is none of calendar XNYS"]
    assert json.loads(delivery.rejected[0].row)["close"] == -5.0
    assert {(row.table, row.source) for row in delivery.rejected} == {("prices", "yahoo")}


def test_a_ticker_on_another_calendar_keeps_its_weekends(server: Replay) -> None:
    days = pd.date_range("2013-03-01", "2013-03-04", tz="UTC").tz_convert(NEW_YORK) + pd.Timedelta("12h")
    server.chart = lambda ticker, query: (200, chart(ticker, [100.0] * 4, days))
    delivery = only(yahoo(server, "BTC-USD", calendars={"24/7": ("BTC-USD",)}))
    assert len(delivery.prices) == 4
    assert delivery.rejected == ()


def test_a_bar_in_the_making_waits_for_its_close(server: Replay) -> None:
    # Tomorrow is never over; a weekday of next week is certainly a session in the making.
    ahead = pd.Timestamp.now(NEW_YORK).normalize() + pd.Timedelta(days=7, hours=9.5)
    server.chart = lambda ticker, query: (
        200,
        chart(ticker, [100.0, 101.0, 102.0], DAYS[:2].append(pd.DatetimeIndex([ahead]))),
    )
    delivery = only(yahoo(server, "AAA"))
    assert len(delivery.prices) == 2
    assert delivery.rejected == ()


# What is asked for.


def test_a_first_load_asks_for_all_there_is(server: Replay) -> None:
    delivery = only(yahoo(server, "AAA"))
    (asked,) = server.charts()
    assert asked.path == "/v8/finance/chart/AAA"
    assert asked.first < "1930"
    assert asked.end >= TODAY
    assert server.asked("AAA") == 2, "the time zone of the exchange, and the prices"
    assert delivery.state == {"yahoo:AAA": '{"since": null}'}


def test_the_range_is_asked_for_with_its_last_day(server: Replay) -> None:
    since, until = dt.date(2013, 2, 25), dt.date(2013, 2, 27)
    delivery = only(yahoo(server, "AAA", since=since, until=until))
    assert [(asked.first, asked.end) for asked in server.charts()] == [("2013-02-25", "2013-02-28")]
    assert delivery.prices["session"].min() == pd.Timestamp("2013-02-25")
    assert delivery.state == {"yahoo:AAA": '{"since": "2013-02-25"}'}


def test_an_end_without_a_beginning(server: Replay) -> None:
    only(yahoo(server, "AAA", until=dt.date(2013, 2, 27)))
    assert [(asked.first < "1930", asked.end) for asked in server.charts()] == [(True, "2013-02-28")]


def test_the_same_day_again_asks_for_the_window_only(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA"))
    assert len(first.prices) == len(OPENS)
    server.requests.clear()
    again = only(yahoo(server, "AAA"), held(first))
    (asked,) = server.charts()
    assert asked.path == "/v8/finance/chart/AAA"
    assert asked.first == f"{SESSIONS[-10]:%Y-%m-%d}"
    assert asked.end >= TODAY
    assert server.asked("AAA") == 1, "the time zone is known"
    pd.testing.assert_frame_equal(again.prices, first.prices.tail(10).reset_index(drop=True))
    assert again.state == first.state


def test_the_next_day_asks_for_the_window_and_what_is_new(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS[:-3]))
    first = only(yahoo(server, "AAA"))
    server.chart = replay_bars(bars(OPENS))
    server.requests.clear()
    again = only(yahoo(server, "AAA", data={"recheck_sessions": 5}), held(first, recheck=5))
    assert [asked.first for asked in server.charts()] == [f"{SESSIONS[-8]:%Y-%m-%d}"]
    assert again.prices["session"].tolist() == SESSIONS[-8:].tolist()


def test_a_correction_of_one_bar_is_delivered_as_it_is(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA"))
    corrected = bars(OPENS).assign(volume=1000.0)
    corrected.iloc[-3, corrected.columns.get_loc("close")] += 0.25
    corrected.iloc[-10, corrected.columns.get_loc("volume")] = 5000.0
    server.chart = replay_bars(corrected)
    server.requests.clear()
    again = only(yahoo(server, "AAA"), held(first))
    assert len(server.charts()) == 1
    assert again.prices["close"].iloc[-3] == first.prices["close"].iloc[-3] + 0.25
    assert again.prices["volume"].iloc[0] == 5000.0


def test_the_noise_of_float32_is_no_change_of_basis(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA"))
    server.chart = replay_bars(bars(OPENS).assign(adj_close=lambda f: f["adj_close"] * (1 + 1e-6)))
    server.requests.clear()
    only(yahoo(server, "AAA"), held(first))
    assert len(server.charts()) == 1


def after_split(ratio: float = 2.0) -> pd.DataFrame:
    """As `bars`, split on the last session: everything before it is divided."""
    frame = bars(OPENS)
    frame.iloc[:-1, :2] /= ratio
    frame.iloc[-1, :2] = 50.0 + frame["close"].iloc[-2]
    frame.iloc[-1, frame.columns.get_loc("split")] = ratio
    return frame


def test_a_split_between_two_downloads(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS[:-1]))
    first = only(yahoo(server, "AAA"))
    server.chart = replay_bars(after_split())
    server.requests.clear()
    again = only(yahoo(server, "AAA"), held(first))
    window, whole = server.charts()
    assert window.first == f"{SESSIONS[-11]:%Y-%m-%d}"
    assert whole.first < "1930"
    assert len(again.prices) == len(OPENS)
    assert again.prices["close"].iloc[0] == 50.0
    assert again.prices["split"].iloc[-1] == 2.0
    assert "AAA: history rebased (close x 0.5, adj_close x 0.5), asked for again in full" in again.notes


def test_a_dividend_between_two_downloads(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS[:-1]))
    first = only(yahoo(server, "AAA", since=SESSIONS[0].date()))
    paid = bars(OPENS)
    paid.iloc[:-1, paid.columns.get_loc("adj_close")] *= 0.99
    paid.iloc[-1, paid.columns.get_loc("dividend")] = 1.0
    server.chart = replay_bars(paid)
    server.requests.clear()
    again = only(yahoo(server, "AAA", since=SESSIONS[0].date()), held(first))
    assert [asked.first for asked in server.charts()] == [f"{SESSIONS[-11]:%Y-%m-%d}", f"{SESSIONS[0]:%Y-%m-%d}"]
    np.testing.assert_allclose(again.prices["adj_close"].iloc[0], 99.0)
    assert again.prices["close"].iloc[0] == 100.0
    assert "AAA: history rebased (adj_close x 0.99), asked for again in full" in again.notes


def test_a_rebased_history_is_asked_for_from_the_earliest_start(server: Replay) -> None:
    """Bars from before universe.since may be held; whether they are replaced too is not the provider's to know."""
    server.chart = replay_bars(bars(OPENS[:-1]))
    first = only(yahoo(server, "AAA", since=SESSIONS[0].date()))
    server.chart = replay_bars(after_split())
    server.requests.clear()
    again = only(yahoo(server, "AAA", since=SESSIONS[20].date()), held(first))
    assert server.charts()[-1].first == f"{SESSIONS[0]:%Y-%m-%d}"
    assert len(again.prices) == len(SESSIONS)
    assert again.state == {"yahoo:AAA": json.dumps({"since": f"{SESSIONS[20]:%Y-%m-%d}"})}


def test_a_rebased_history_that_cannot_be_had_is_a_failure(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS[:-1]))
    first = only(yahoo(server, "AAA", "BBB"))
    split, plain = replay_bars(after_split()), replay_bars(bars(OPENS))

    def respond(ticker: str, query: dict[str, str]) -> Answer:
        if ticker == "BBB":
            return plain(ticker, query)
        return (500, BUSY) if int(query["period1"]) < 0 else split(ticker, query)

    server.chart = respond
    again = only(yahoo(server, "AAA", "BBB"), held(first))
    assert again.prices["ticker"].unique().tolist() == ["BBB"], "half a new basis would be a jump in the lake"
    assert list(again.state) == ["yahoo:BBB"]
    assert again.failed["AAA"].startswith("Yahoo answers with status 500")


def test_an_earlier_start_asks_for_all_of_it(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA", since=SESSIONS[20].date()))
    server.requests.clear()
    again = only(yahoo(server, "AAA", since=SESSIONS[5].date()), held(first))
    assert [asked.first for asked in server.charts()] == [f"{SESSIONS[5]:%Y-%m-%d}"]
    assert len(again.prices) == len(SESSIONS) - 5
    assert again.state == {"yahoo:AAA": json.dumps({"since": f"{SESSIONS[5]:%Y-%m-%d}"})}


def test_a_later_start_is_held_already(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA", since=SESSIONS[5].date()))
    server.requests.clear()
    again = only(yahoo(server, "AAA", since=SESSIONS[20].date()), held(first))
    assert [asked.first for asked in server.charts()] == [f"{SESSIONS[-10]:%Y-%m-%d}"]
    assert again.state == first.state


def test_an_earlier_range_that_does_not_join_leaves_no_hole_unseen(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA", since=SESSIONS[50].date()))
    apart = only(yahoo(server, "AAA", since=SESSIONS[0].date(), until=SESSIONS[9].date()), held(first))
    assert len(apart.prices) == 10
    assert apart.state == first.state, "the sessions between are not held"
    server.requests.clear()
    only(yahoo(server, "AAA", since=SESSIONS[0].date()), held(first, apart))
    assert [asked.first for asked in server.charts()] == [f"{SESSIONS[0]:%Y-%m-%d}"]


def test_a_start_after_all_that_is_held_leaves_no_hole_unseen(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA", since=SESSIONS[0].date(), until=SESSIONS[20].date()))
    apart = only(yahoo(server, "AAA", since=SESSIONS[50].date()), held(first))
    assert apart.state == {"yahoo:AAA": json.dumps({"since": f"{SESSIONS[50]:%Y-%m-%d}"})}


def test_an_end_before_the_window_asks_for_the_range(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA", since=SESSIONS[0].date()))
    server.requests.clear()
    again = only(yahoo(server, "AAA", since=SESSIONS[5].date(), until=SESSIONS[9].date()), held(first))
    assert [(a.first, a.end) for a in server.charts()] == [
        (f"{SESSIONS[5]:%Y-%m-%d}", f"{SESSIONS[9] + pd.Timedelta(days=1):%Y-%m-%d}")
    ]
    assert len(again.prices) == 5
    assert again.state == first.state


@pytest.mark.parametrize("state", [None, "", "{}", "[]", '{"since": 5}', '{"since": "never"}', "null"])
def test_without_knowing_what_was_asked_for_all_of_it_is(server: Replay, state: str | None) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA"))
    server.requests.clear()
    known = {} if state is None else {"yahoo:AAA": state}
    again = only(yahoo(server, "AAA"), Held(held(first).recent, known))
    assert [asked.first < "1930" for asked in server.charts()] == [True]
    assert len(again.prices) == len(OPENS)


def test_bars_of_another_source_are_not_yahoos(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA"))
    before = held(first)
    server.requests.clear()
    only(yahoo(server, "AAA"), Held(before.recent.assign(source="mine.csv"), before.state))
    assert [asked.first < "1930" for asked in server.charts()] == [True]


@pytest.mark.parametrize("answer", [(400, NO_DATA), (200, chart("AAA", [], DAYS[:0]))])
def test_no_held_session_in_the_answer(server: Replay, answer: Answer) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA"))
    whole = replay_bars(bars(OPENS[:30]))
    server.chart = lambda ticker, query: answer if int(query["period1"]) > 0 else whole(ticker, query)
    server.requests.clear()
    again = only(yahoo(server, "AAA"), held(first))
    starts = list(dict.fromkeys(asked.first for asked in server.charts()))
    assert starts[0] == f"{SESSIONS[-10]:%Y-%m-%d}"
    assert len(starts) == 2
    assert starts[1] < "1930"
    assert len(again.prices) == 30
    assert "AAA: none of the held sessions came again, asked for again in full" in again.notes


def test_a_session_that_yahoo_dropped_is_named(server: Replay) -> None:
    server.chart = replay_bars(bars(OPENS))
    first = only(yahoo(server, "AAA"))
    server.chart = replay_bars(bars(OPENS).drop(OPENS[-4]))
    again = only(yahoo(server, "AAA"), held(first))
    assert f"AAA: Yahoo no longer has {SESSIONS[-4]:%Y-%m-%d}; what is held stays" in again.notes
