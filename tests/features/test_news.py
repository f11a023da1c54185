import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.calendars import calendar_sessions
from features.news import (
    NAMES,
    assign_sessions,
    decayed,
    sentiment_features,
)

GOOD, BAD, PLAIN = "Excellent results", "Terrible losses", "The meeting is on Tuesday"


def news(*rows: tuple[str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["ticker", "known_at", "title"], dtype="str")
    frame["known_at"] = pd.to_datetime(frame["known_at"], utc=True).astype("datetime64[us, UTC]")
    return frame.assign(summary="")


def session_of(known_at: str, lead: int = 0, calendar: str = "XNYS") -> str:
    day = pd.Timestamp(known_at).tz_localize(None).normalize()
    sessions, closes = calendar_sessions(calendar, day - pd.Timedelta(days=10), day + pd.Timedelta(days=10))
    at = assign_sessions(pd.DatetimeIndex([pd.Timestamp(known_at).tz_convert("UTC")]), closes, lead)
    return f"{sessions[at[0]]:%Y-%m-%d}"


# New York moved its clocks on Sunday 2013-03-10: the close goes from 21:00 to 20:00 UTC.
# 2012-11-22 is Thanksgiving, the 23rd closes at 13:00. 2012-10-29 and 30: closed for a hurricane.
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
        ("half-day, before its close", "2012-11-23T12:59:59-05:00", 0, "2012-11-23"),
        ("half-day, after its close", "2012-11-23T13:00:01-05:00", 0, "2012-11-26"),
        ("half-day, at the usual close", "2012-11-23T16:00:00-05:00", 0, "2012-11-26"),
        ("holiday", "2012-11-22T10:00-05:00", 0, "2012-11-23"),
        ("unscheduled closure", "2012-10-29T10:00-04:00", 0, "2012-10-31"),
        ("Friday after the close", "2013-03-01T17:00-05:00", 0, "2013-03-04"),
        ("Saturday", "2013-03-02T12:00-05:00", 0, "2013-03-04"),
        ("Sunday", "2013-03-03T12:00-05:00", 0, "2013-03-04"),
        ("winter, 20:30 UTC is in the session", "2013-03-08T20:30Z", 0, "2013-03-08"),
        ("summer, 20:30 UTC is after it", "2013-03-11T20:30Z", 0, "2013-03-12"),
        ("in the weekend of the switch", "2013-03-10T07:00Z", 0, "2013-03-11"),
        ("back to winter, 20:30 UTC is in it", "2013-11-04T20:30Z", 0, "2013-11-04"),
    ],
)
def test_timing(case: str, known_at: str, lead: int, session: str):
    assert session_of(known_at, lead) == session, case


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


def test_features_of_a_small_week():
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-07")
    rows = news(
        ("AAPL", "2013-03-04T15:00Z", GOOD),
        ("AAPL", "2013-03-04T16:00Z", PLAIN),
        ("AAPL", "2013-03-04T22:00Z", BAD),
        ("*", "2013-03-06T15:00Z", GOOD),
        ("", "2013-03-06T15:00Z", PLAIN),
        ("XYZ", "2013-03-05T15:00Z", BAD),
        ("AAPL", "2013-03-07T22:00Z", BAD),
    )
    found = sentiment_features(rows, ["AAPL", "IBM"], sessions, closes, 0, 0.1)
    assert tuple(found) == NAMES
    assert {(a.shape, a.dtype) for a in found.values()} == {((2, 4), np.dtype("float32"))}
    np.testing.assert_allclose(found["news_count"][0], np.log1p([2, 1, 0, 0]), rtol=1e-6)
    np.testing.assert_array_equal(found["positive_share"][0], [0.5, 0, 0, 0])
    np.testing.assert_array_equal(found["negative_share"][0], [0, 1, 0, 0])
    np.testing.assert_array_equal(found["polarity_mean"][0], [0.5, -1, 0, 0])  # Excellent 1, Terrible -1
    np.testing.assert_array_equal(found["no_news"], [[0, 0, 1, 1], [1, 1, 1, 1]])
    keep = np.exp(-0.2)
    second = -1 + 0.5 * keep
    expected = [0.5, second, second * keep, second * keep**2]
    np.testing.assert_allclose(found["polarity_decay_5"][0], expected, rtol=1e-6)
    np.testing.assert_array_equal(found["market_polarity"], [[0, 0, 0.5, 0], [0, 0, 0.5, 0]])
    assert all(not found[name][1].any() for name in NAMES if name not in ("no_news", "market_polarity"))


def test_a_summary_counts_with_its_title():
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-05")
    rows = news(("AAPL", "2013-03-04T15:00Z", PLAIN)).assign(summary=GOOD)
    assert sentiment_features(rows, ["AAPL"], sessions, closes, 0, 0.1)["positive_share"][0, 0] == 1


def test_without_news_everything_is_zero_but_no_news():
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-07")
    found = sentiment_features(news(), ["AAPL", "IBM"], sessions, closes, 0, 0.1)
    assert found.pop("no_news").all()
    assert not any(array.any() for array in found.values())


@pytest.mark.parametrize("cut", range(1, 9))
def test_later_headlines_change_nothing_before(cut: int):
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-15")
    times = pd.date_range("2013-03-04T01:30Z", "2013-03-15T20:00Z", freq="7h")
    tickers = ["AAPL", "IBM", "*"]
    rows = news(*[(tickers[i % 3], str(at), (GOOD, BAD, PLAIN)[i % 3]) for i, at in enumerate(times)])
    later = rows["known_at"] > closes[cut - 1]
    altered = rows.assign(title=rows["title"].where(~later, "Horrible, awful, the worst"))
    extra = rows[later].assign(ticker="AAPL", title=GOOD)
    before = sentiment_features(rows, ["AAPL", "IBM"], sessions, closes, 0, 0.1)
    after = sentiment_features(pd.concat([altered, extra]), ["AAPL", "IBM"], sessions, closes, 0, 0.1)
    for name in NAMES:
        assert before[name][:, :cut].tobytes() == after[name][:, :cut].tobytes(), name
    assert before["polarity_mean"].tobytes() != after["polarity_mean"].tobytes()


def test_the_order_of_the_rows_is_of_no_matter():
    sessions, closes = calendar_sessions("XNYS", "2013-03-04", "2013-03-07")
    first, second = ("A", "2013-03-04T15:00Z", GOOD), ("B", "2013-03-05T16:00Z", BAD)
    rows = news(first, second, ("A", "2013-03-04T16:00Z", PLAIN))
    one = sentiment_features(rows, ["A", "B"], sessions, closes, 0, 0.1)
    two = sentiment_features(rows.iloc[::-1], ["A", "B"], sessions, closes, 0, 0.1)
    for name in NAMES:
        np.testing.assert_array_equal(one[name], two[name])


def test_decay_is_a_causal_recursion():
    values = np.array([[1.0, 0.0, 0.0, 2.0]])
    keep = np.exp(-1 / 3)
    np.testing.assert_allclose(decayed(values, 3), [[1, keep, keep**2, 2 + keep**3]])
    np.testing.assert_array_equal(values, [[1.0, 0.0, 0.0, 2.0]])
