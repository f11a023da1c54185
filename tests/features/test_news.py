"""Which session a headline belongs to."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.calendars import calendar_sessions
from features.news import assign_sessions


def session_of(known_at: str, lead: int = 0, calendar: str = "XNYS") -> str:
    day = pd.Timestamp(known_at).tz_localize(None).normalize()
    sessions, closes = calendar_sessions(calendar, day - pd.Timedelta(days=10), day + pd.Timedelta(days=10))
    at = assign_sessions(pd.DatetimeIndex([pd.Timestamp(known_at).tz_convert("UTC")]), closes, lead)
    return f"{sessions[at[0]]:%Y-%m-%d}"


# New York moved its clocks on Sundays 2013-03-10 and 2013-11-03: the close goes from 21:00 to 20:00 UTC and back.
# 2013-11-28 is Thanksgiving, the 29th closes at 13:00. 2012-10-29 and 30: closed for a hurricane.
@pytest.mark.parametrize(
    ("case", "known_at", "lead", "session"),
    [
        ("before the open", "2013-03-05T07:00-05:00", 0, "2013-03-05"),
        ("in the session", "2013-03-05T12:00-05:00", 0, "2013-03-05"),
        ("one second before the close", "2013-03-05T15:59:59-05:00", 0, "2013-03-05"),
        ("at the close", "2013-03-05T16:00:00-05:00", 0, "2013-03-05"),
        ("one second after the close", "2013-03-05T16:00:01-05:00", 0, "2013-03-06"),
        ("in the evening", "2013-03-05T23:30-05:00", 0, "2013-03-06"),
        ("one second before the lead", "2013-03-05T15:44:59-05:00", 15, "2013-03-05"),
        ("at the lead", "2013-03-05T15:45:00-05:00", 15, "2013-03-05"),
        ("one second after the lead", "2013-03-05T15:45:01-05:00", 15, "2013-03-06"),
        ("half-day, one second before its close", "2013-11-29T12:59:59-05:00", 0, "2013-11-29"),
        ("half-day, at its close", "2013-11-29T13:00:00-05:00", 0, "2013-11-29"),
        ("half-day, one second after its close", "2013-11-29T13:00:01-05:00", 0, "2013-12-02"),
        ("half-day, at the usual close", "2013-11-29T16:00:00-05:00", 0, "2013-12-02"),
        ("half-day, at the lead before its close", "2013-11-29T12:45:00-05:00", 15, "2013-11-29"),
        ("half-day, just after that lead", "2013-11-29T12:45:01-05:00", 15, "2013-12-02"),
        ("holiday", "2013-11-28T10:00-05:00", 0, "2013-11-29"),
        ("the evening before a holiday", "2013-11-27T16:00:01-05:00", 0, "2013-11-29"),
        ("unscheduled closure", "2012-10-29T10:00-04:00", 0, "2012-10-31"),
        ("Friday after the close", "2013-03-01T17:00-05:00", 0, "2013-03-04"),
        ("Saturday", "2013-03-02T12:00-05:00", 0, "2013-03-04"),
        ("Sunday", "2013-03-03T12:00-05:00", 0, "2013-03-04"),
        ("winter, 20:30 UTC is in the session", "2013-03-08T20:30Z", 0, "2013-03-08"),
        ("summer, 20:30 UTC is after it", "2013-03-11T20:30Z", 0, "2013-03-12"),
        ("in the weekend of the switch", "2013-03-10T07:00Z", 0, "2013-03-11"),
        ("summer, the close", "2013-11-01T20:00:00Z", 0, "2013-11-01"),
        ("summer, one second after it", "2013-11-01T20:00:01Z", 0, "2013-11-04"),
        ("in the hour that comes twice", "2013-11-03T06:30Z", 0, "2013-11-04"),
        ("back to winter, 20:30 UTC is in it", "2013-11-04T20:30Z", 0, "2013-11-04"),
        ("back to winter, one second after 21:00 UTC", "2013-11-04T21:00:01Z", 0, "2013-11-05"),
        ("stamped in Tokyo, before the close", "2013-03-06T05:59:59+09:00", 0, "2013-03-05"),
        ("stamped in Tokyo, after the close", "2013-03-06T06:00:01+09:00", 0, "2013-03-06"),
        ("stamped in India, at the close", "2013-03-06T02:30:00+05:30", 0, "2013-03-05"),
    ],
)
def test_timing_in_new_york(case: str, known_at: str, lead: int, session: str):
    assert session_of(known_at, lead) == session, case


# London changes its clocks on 2013-03-31, three weeks after New York. 2013-12-24 closes at 12:30.
@pytest.mark.parametrize(
    ("case", "known_at", "calendar", "session"),
    [
        ("London, at the close", "2013-03-28T16:30:00Z", "XLON", "2013-03-28"),
        ("London, one second after it, before Easter", "2013-03-28T16:30:01Z", "XLON", "2013-04-02"),
        ("London in summer, the close is an hour earlier", "2013-04-02T15:30:01Z", "XLON", "2013-04-03"),
        ("London's half-day", "2013-12-24T12:30:01Z", "XLON", "2013-12-27"),
        ("London's close, stamped in New York", "2013-03-28T12:30:00-04:00", "XLON", "2013-03-28"),
        ("Tokyo's close is New York's night", "2013-03-05T01:00:01-05:00", "XTKS", "2013-03-06"),
        ("Tokyo, at the close", "2013-03-05T15:00:00+09:00", "XTKS", "2013-03-05"),
        ("a day of coins ends at midnight UTC", "2013-03-02T23:59:59Z", "24/7", "2013-03-02"),
        ("and the next begins", "2013-03-03T00:00:01Z", "24/7", "2013-03-03"),
        ("no exchange", "2013-03-02T12:00Z", "none", "2013-03-02"),
    ],
)
def test_timing_elsewhere(case: str, known_at: str, calendar: str, session: str):
    assert session_of(known_at, 0, calendar) == session, case


def test_news_after_the_last_decision_belongs_to_no_session():
    _, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-05")
    late = pd.DatetimeIndex(["2013-03-05T21:00:01Z"])
    assert assign_sessions(late, closes, 0).tolist() == [2]


@given(
    hours=st.lists(st.integers(min_value=0, max_value=24 * 27), min_size=1, max_size=30),
    lead=st.integers(min_value=0, max_value=300),
)
def test_a_session_is_the_first_that_decides_late_enough(hours: list[int], lead: int):
    _, closes = calendar_sessions("XNYS", "2013-03-01", "2013-03-29")
    decisions = closes - pd.Timedelta(minutes=lead)
    known = pd.DatetimeIndex([pd.Timestamp("2013-03-01T12:00Z") + pd.Timedelta(hours=h) for h in hours])
    for instant, at in zip(known, assign_sessions(known, closes, lead), strict=True):
        assert at == len(decisions) or decisions[at] >= instant
        assert at == 0 or decisions[at - 1] < instant


def test_instants_without_a_zone_are_refused():
    _, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-05")
    with pytest.raises(ValueError, match="time zone"):
        assign_sessions(pd.DatetimeIndex(["2013-03-05T21:00"]), closes, 0)
