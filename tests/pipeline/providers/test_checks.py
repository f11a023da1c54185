"""When a headline of a file counts as known, on several exchanges' clocks."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from features.calendars import calendar_sessions
from features.news import assign_sessions
from pipeline.providers.checks import parse_published


@pytest.mark.parametrize(
    ("text", "calendar", "zone", "session"),
    [
        # A date alone is known when the day has ended: never for its own session.
        ("2013-03-05", "XNYS", "America/New_York", "2013-03-06"),
        ("2013-03-01", "XNYS", "America/New_York", "2013-03-04"),
        ("2013-03-02", "XNYS", "America/New_York", "2013-03-04"),
        ("2013-03-05", "XTKS", "Asia/Tokyo", "2013-03-06"),
        ("2013-03-05", "24/7", "UTC", "2013-03-06"),
        # A time without a zone is the exchange's; with one it is that instant.
        ("2013-03-05T16:00:00", "XNYS", "America/New_York", "2013-03-05"),
        ("2013-03-05T16:00:01", "XNYS", "America/New_York", "2013-03-06"),
        ("2013-03-05T21:00:00Z", "XNYS", "America/New_York", "2013-03-05"),
        ("2013-03-05T22:00:01+01:00", "XNYS", "America/New_York", "2013-03-06"),
    ],
)
def test_which_session_a_headline_belongs_to(text: str, calendar: str, zone: str, session: str) -> None:
    _, known = parse_published(pd.Series([text]), ZoneInfo(zone))
    sessions, closes = calendar_sessions(calendar, "2013-02-25", "2013-03-15")
    at = assign_sessions(pd.DatetimeIndex(known), closes, 0)[0]
    assert f"{sessions[at]:%Y-%m-%d}" == session


def test_a_clock_that_shows_a_time_twice_means_the_later_one() -> None:
    # 2013-11-03 01:30 came twice in New York: 05:30 and 06:30 UTC.
    published, _ = parse_published(pd.Series(["2013-11-03T01:30:00"]), ZoneInfo("America/New_York"))
    assert published[0] == pd.Timestamp("2013-11-03T06:30Z")
