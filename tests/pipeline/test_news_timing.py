"""From a file of headlines to the session whose features they enter: one table of stamps, calendars and leads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from features.calendars import calendar_sessions
from features.news import NAMES, News, sentiment_features
from pipeline import ingest
from pipeline.config import Config, Data, Universe
from pipeline.store import Lake

HEADER = "ticker,date,open,high,low,close,adj_close,volume\n"


class Case(NamedTuple):
    """A headline as a file stamps it, and the session that decides with it."""

    what: str
    published_at: str
    session: str
    calendar: str = "XNYS"
    lead: int = 0


# The close of XNYS is 16:00 in New York: 21:00 UTC in winter, 20:00 in summer (2013-03-10 to 2013-11-03).
CASES = (
    Case("before the open", "2013-03-05T07:00:00-05:00", "2013-03-05"),
    Case("in the session", "2013-03-05T12:00:00-05:00", "2013-03-05"),
    Case("one second before the close", "2013-03-05T15:59:59-05:00", "2013-03-05"),
    Case("at the close", "2013-03-05T16:00:00-05:00", "2013-03-05"),
    Case("one second after the close", "2013-03-05T16:00:01-05:00", "2013-03-06"),
    Case("at the decision, a lead of 30 minutes", "2013-03-05T15:30:00-05:00", "2013-03-05", lead=30),
    Case("one second after that decision", "2013-03-05T15:30:01-05:00", "2013-03-06", lead=30),
    Case("half-day, one second before its close", "2013-11-29T12:59:59-05:00", "2013-11-29"),
    Case("half-day, one second after its close", "2013-11-29T13:00:01-05:00", "2013-12-02"),
    Case("half-day with a lead", "2013-11-29T12:30:01-05:00", "2013-12-02", lead=30),
    Case("holiday", "2013-11-28T10:00:00-05:00", "2013-11-29"),
    Case("Saturday", "2013-03-02T12:00:00-05:00", "2013-03-04"),
    Case("Sunday night, clocks moved", "2013-03-10T23:00:00-04:00", "2013-03-11"),
    Case("20:30 UTC, Friday in winter", "2013-03-08T20:30:00Z", "2013-03-08"),
    Case("20:30 UTC, Monday in summer", "2013-03-11T20:30:00Z", "2013-03-12"),
    Case("20:30 UTC, Friday in summer", "2013-11-01T20:30:00Z", "2013-11-04"),
    Case("20:30 UTC, Monday in winter again", "2013-11-04T20:30:00Z", "2013-11-04"),
    Case("a date only", "2013-03-05", "2013-03-06"),
    Case("a date only, a Friday", "2013-03-01", "2013-03-04"),
    Case("a date only, a Saturday", "2013-03-02", "2013-03-04"),
    Case("a date only, the day before a holiday", "2013-11-27", "2013-11-29"),
    Case("a date only, in Tokyo", "2013-03-05", "2013-03-06", "XTKS"),
    Case("a date only, in London", "2013-03-05", "2013-03-06", "XLON"),
    Case("a date only, around the clock", "2013-03-05", "2013-03-06", "24/7"),
    Case("no zone: exchange time, at the close", "2013-03-05T16:00:00", "2013-03-05"),
    Case("no zone, one second later", "2013-03-05T16:00:01", "2013-03-06"),
    Case("no zone, at London's close", "2013-03-05T16:30:00", "2013-03-05", "XLON"),
    Case("no zone, the hour that comes twice", "2013-11-03T01:30:00", "2013-11-04"),
    Case("stamped in Tokyo, at New York's close", "2013-03-06T06:00:00+09:00", "2013-03-05"),
    Case("stamped in Tokyo, one second later", "2013-03-06T06:00:01+09:00", "2013-03-06"),
    Case("stamped in New York, at Tokyo's close", "2013-03-05T01:00:00-05:00", "2013-03-05", "XTKS"),
    Case("London at its close, stamped in New York", "2013-03-28T12:30:00-04:00", "2013-03-28", "XLON"),
    Case("London, one second later, before Easter", "2013-03-28T12:30:01-04:00", "2013-04-02", "XLON"),
    Case("London's half-day", "2013-12-24T12:30:01Z", "2013-12-27", "XLON"),
)


@pytest.fixture(scope="module")
def headlines(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The cases as the lake holds them after ingesting one CSV; each is the only headline of its ticker."""
    root = tmp_path_factory.mktemp("timing")
    (root / "prices.csv").write_text(HEADER + "OTHER,2013-03-01,1,1,1,1,1,1\n")
    rows = [f"T{n},{case.published_at},Excellent results of T{n}" for n, case in enumerate(CASES)]
    (root / "wire.csv").write_text("\n".join(["ticker,published_at,title", *rows]) + "\n")
    data = Data(
        provider="files", prices=(str(root / "prices.csv"),), news=(str(root / "wire.csv"),), lake=str(root / "lake")
    )
    calendars: dict[str, tuple[str, ...]] = {
        calendar: tuple(f"T{n}" for n, case in enumerate(CASES) if case.calendar == calendar)
        for calendar in {case.calendar for case in CASES} - {"XNYS"}
    }
    ingest.run(Config(data=data, universe=Universe(calendars=calendars)))
    return Lake(str(root / "lake")).news()


def session_with_news(rows: pd.DataFrame, ticker: str, calendar: str, lead: int) -> list[str]:
    sessions, closes = calendar_sessions(calendar, "2013-02-25", "2013-12-31")
    found = sentiment_features(News(rows, closes, lead, 0.1), [ticker], sessions)
    return [f"{session:%Y-%m-%d}" for session in sessions[found["no_news"][0] == 0]]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.what for case in CASES])
def test_golden_table(headlines: pd.DataFrame, number: int) -> None:
    case = CASES[number]
    assert session_with_news(headlines, f"T{number}", case.calendar, case.lead) == [case.session]


def test_a_file_whose_every_time_is_midnight_holds_dates(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(HEADER + "A,2013-03-01,1,1,1,1,1,1\n")
    (tmp_path / "wire.csv").write_text("ticker,published_at,title\nA,2013-03-05 00:00:00,Excellent results\n")
    files = {name: (str(tmp_path / f"{file}.csv"),) for name, file in (("prices", "prices"), ("news", "wire"))}
    ingest.run(Config(data=Data(provider="files", lake=str(tmp_path / "lake"), **files)))
    rows = Lake(str(tmp_path / "lake")).news()
    assert session_with_news(rows, "A", "XNYS", 0) == ["2013-03-06"]


def test_a_headline_moves_no_feature_of_an_earlier_session(headlines: pd.DataFrame) -> None:
    sessions, closes = calendar_sessions("XNYS", "2013-02-25", "2013-12-31")
    for number, case in enumerate(CASES):
        if case.calendar == "XNYS":
            one = headlines[headlines["ticker"] == f"T{number}"]
            some = sentiment_features(News(one, closes, case.lead, 0.1), [f"T{number}"], sessions)
            none = sentiment_features(News(one[:0], closes, case.lead, 0.1), [f"T{number}"], sessions)
            before = sessions < pd.Timestamp(case.session)
            assert all(some[name][:, before].tobytes() == none[name][:, before].tobytes() for name in NAMES), case.what
