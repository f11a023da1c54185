from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from features.calendars import NONE, CalendarError, axis, bounds, calendar_sessions, zone


def test_the_calendar_knows_holidays_and_half_days():
    sessions, closes = calendar_sessions("XNYS", "2012-11-21", "2012-11-26")
    assert [f"{s:%m-%d}" for s in sessions] == ["11-21", "11-23", "11-26"]
    assert [f"{c:%H:%M}" for c in closes] == ["21:00", "18:00", "21:00"]
    assert (str(sessions.dtype), str(closes.dtype)) == ("datetime64[us]", "datetime64[us, UTC]")


def test_the_calendar_reaches_back_further_than_its_default():
    sessions, _ = calendar_sessions("XNYS", "1999-01-04", "1999-01-05")
    assert len(sessions) == 2


def test_a_calendar_of_one_session():
    sessions, _ = calendar_sessions("XNYS", "2013-03-04", "2013-03-04")
    assert len(sessions) == 1


def test_an_unknown_calendar_names_the_nearest():
    with pytest.raises(CalendarError, match=r"unknown exchange calendar 'XNYZ'.*XNYS"):
        calendar_sessions("XNYZ", "2013-03-04", "2013-03-05")


@pytest.mark.parametrize(("first", "last"), [("2013-03-02", "2013-03-03"), ("2013-03-05", "2013-01-02")])
def test_a_range_without_a_session_is_an_error(first: str, last: str):
    with pytest.raises(CalendarError, match="XNYS"):
        calendar_sessions("XNYS", first, last)


def test_every_day_is_a_session_round_the_clock():
    sessions, closes = calendar_sessions("24/7", "2013-03-01", "2013-03-04")
    assert [f"{s:%m-%d}" for s in sessions] == ["03-01", "03-02", "03-03", "03-04"]
    assert [f"{c:%m-%dT%H:%M}" for c in closes] == ["03-02T00:00", "03-03T00:00", "03-04T00:00", "03-05T00:00"]


def test_without_a_calendar_a_date_closes_when_it_ends():
    sessions, closes = calendar_sessions(NONE, "2013-03-01", "2013-03-03")
    assert [f"{s:%m-%d}" for s in sessions] == ["03-01", "03-02", "03-03"]
    assert [f"{c:%m-%dT%H:%M}" for c in closes] == ["03-02T00:00", "03-03T00:00", "03-04T00:00"]
    assert (str(sessions.dtype), str(closes.dtype)) == ("datetime64[us]", "datetime64[us, UTC]")


def test_the_axis_of_undated_series_is_their_dates():
    dates = pd.Series(pd.to_datetime(["2013-03-08", "2013-03-01", "2013-03-15", "2013-03-01"]))
    sessions, closes = axis(NONE, dates)
    assert [f"{s:%m-%d}" for s in sessions] == ["03-01", "03-08", "03-15"]
    assert [f"{c:%m-%dT%H:%M}" for c in closes] == ["03-02T00:00", "03-09T00:00", "03-16T00:00"]
    whole, _ = axis("XNYS", dates)
    assert len(whole) == 11


def test_the_zone_and_the_reach_of_a_calendar():
    assert str(zone("XNYS")) == "America/New_York"
    assert zone(NONE) is dt.UTC
    first, last = bounds("XNYS")
    assert first <= pd.Timestamp("1990-01-01") < pd.Timestamp("2026-01-01") < last
    with pytest.raises(CalendarError, match="unknown exchange calendar 'NYSX'"):
        zone("NYSX")
