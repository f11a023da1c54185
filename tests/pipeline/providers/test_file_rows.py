from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.providers import NEWS_COLUMNS
from pipeline.providers.seen import Seen
from pipeline.providers.tabular import CHUNK_ROWS
from tests.pipeline.providers.own_files import GOOD, HEADER, delivered, news_of, write

# -- headlines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "published", "known"),
    [
        ("2013-03-01T16:05:00-05:00", "2013-03-01T21:05Z", "2013-03-01T21:05Z"),
        ("2013-03-01 21:05Z", "2013-03-01T21:05Z", "2013-03-01T21:05Z"),
        ("2013-03-01 16:05:30", "2013-03-01T21:05:30Z", "2013-03-01T21:05:30Z"),
        ("2013-03-01", "2013-03-01T05:00Z", "2013-03-02T05:00:00.000001Z"),
        ("20130301", "2013-03-01T05:00Z", "2013-03-02T05:00:00.000001Z"),
        ("2013-03-01 00:00:00", "2013-03-01T05:00Z", "2013-03-02T05:00:00.000001Z"),
        ("2013-11-03 01:30", "2013-11-03T06:30Z", "2013-11-03T06:30Z"),
    ],
)
def test_when_a_headline_was_known(tmp_path: Path, stamp: str, published: str, known: str) -> None:
    file = write(tmp_path / "wire.jsonl", json.dumps({"published_at": stamp, "title": "a good day"}))
    (row,) = news_of(tmp_path, file).news.to_dict(orient="records")
    assert row["published_at"] == pd.Timestamp(published)
    assert row["known_at"] == pd.Timestamp(known)
    assert (row["ticker"], row["source"], row["summary"], row["url"]) == ("", "wire", "", "")


def test_one_time_of_day_makes_midnight_a_time(tmp_path: Path) -> None:
    file = write(tmp_path / "n.csv", "time,title", "2013-03-01 00:00:00,a", "2013-03-01 10:00:00,b")
    news = news_of(tmp_path, file).news
    assert (news["known_at"] == news["published_at"]).all()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_news_in_every_format(tmp_path: Path, suffix: str) -> None:
    rows = pd.DataFrame(
        {"Date": ["2013-03-01T10:00:00Z"] * 2, "Headline": ['a, "good" day', ""], "ticker": ["X", None], "link": "u"}
    )
    file = tmp_path / f"n.{suffix}"
    if suffix == "csv":
        rows.to_csv(file, index=False)
    elif suffix == "jsonl":
        rows.to_json(file, orient="records", lines=True)
    else:
        rows.to_parquet(file)
    delivery = news_of(tmp_path, file)
    assert delivery.news[["ticker", "title", "url"]].to_numpy().tolist() == [["X", 'a, "good" day', "u"]]
    assert {name: str(dtype) for name, dtype in delivery.news.dtypes.items()} == NEWS_COLUMNS
    assert [(row.table, row.reason) for row in delivery.rejected] == [("news", "no title")]


def test_bad_headlines(tmp_path: Path) -> None:
    lines = (
        '{"published_at": "2013-03-01T10:00Z", "title": "fine"}', "nonsense", "[1]",
        '{"published_at": null, "title": "when"}', '{"published_at": "2999-01-01T00:00Z", "title": "early"}',
    )  # fmt: skip
    delivery = news_of(tmp_path, write(tmp_path / "n.jsonl", *lines))
    assert delivery.news["title"].tolist() == ["fine"]
    assert [(row.reason.split(" ")[0], row.row) for row in delivery.rejected] == [
        ("the", "nonsense"), ("the", "[1]"), ("published_at", lines[3]), ("published", lines[4]),
    ]  # fmt: skip
    other = news_of(tmp_path, write(tmp_path / "m.csv", "date,text", "2013-03-01,x"))
    assert other.failed == {"m.csv": "no column title (or headline); found date, text"}
    assert len(other.prices) == 1


# -- the calendar `none` ----------------------------------------------------------------------------------------


def test_any_date_and_no_date(tmp_path: Path) -> None:
    sunday = "2013-03-03,10,11,9,10.5,5.25,1000"
    dated = write(tmp_path / "A.csv", HEADER, sunday)
    undated = write(tmp_path / "B.csv", HEADER.partition(",")[2], *[GOOD.partition(",")[2]] * 3, "x", "1")
    options: dict[str, Any] = {"calendar": "XNYS", "calendars": {"none": ("A", "B")}}
    for chunk_rows in (1, 2, CHUNK_ROWS):
        delivery = delivered(dated, undated, chunk_rows=chunk_rows, **options)
        assert delivery.prices["session"].dt.strftime("%F").tolist() == [
            "2013-03-03", "1970-01-01", "1970-01-02", "1970-01-03",
        ]  # fmt: skip
        note = "B.csv: no column of dates; the rows of each ticker are consecutive days from 1970-01-01"
        assert delivery.notes == (note,)
        assert len(delivery.rejected) == 2
    with pytest.raises(DataError, match=r"B\.csv: no column session \(or date, datetime\); found Open, High"):
        delivered(undated)


def test_no_date_for_some_tickers(tmp_path: Path) -> None:
    rows = [f"{ticker},10,11,9,10.5" for ticker in "ABACAB"]
    file = write(tmp_path / "p.csv", "ticker,open,high,low,close", *rows)
    delivery = delivered(file, chunk_rows=2, calendars={"none": ("A", "B")})
    assert [f"{row.ticker}{row.session.day}" for row in delivery.prices.itertuples()] == ["A1", "B1", "A2", "A3", "B2"]
    assert [(row.reason, row.row) for row in delivery.rejected] == [
        ("session is no date like 2013-03-01", "C,10,11,9,10.5")
    ]


def test_times_without_a_zone_are_the_exchanges(tmp_path: Path) -> None:
    rows = ["2013-03-01 10:00,AAPL,a", "2013-03-01 10:00,VOD.L,b", "2013-03-01 10:00,BTC-USD,c", "2013-03-01 10:00,,d"]
    file = write(tmp_path / "n.csv", "time,ticker,title", *rows)
    good = write(tmp_path / "P.csv", HEADER, GOOD)
    calendars = {"XLON": ("VOD.L",), "none": ("BTC-USD",)}
    assert delivered(good, news=(file,), calendars=calendars).news["published_at"].dt.hour.tolist() == [15, 10, 10, 15]
    with pytest.raises(DataError, match="unknown exchange calendar 'XLONG'"):
        delivered(good, news=(file,), calendars={"XLONG": ("VOD.L",)})


def test_dates_are_dates_in_every_chunk_and_beside_nonsense(tmp_path: Path) -> None:
    good = write(tmp_path / "P.csv", HEADER, GOOD)
    dates = write(tmp_path / "d.csv", "time,title", "2013-03-01 00:00,a", "nonsense,b", "2013-03-02,c", ",d")
    times = write(tmp_path / "t.csv", "time,title", "2013-03-01 00:00,a", "2013-03-02 00:00,b", "2013-03-02 09:00,c")
    for chunk_rows in (1, 2, CHUNK_ROWS):
        known = delivered(good, news=(dates, times), chunk_rows=chunk_rows).news["known_at"]
        assert known.dt.strftime("%d %H:%M").tolist() == ["02 05:00", "03 05:00", "01 05:00", "02 05:00", "02 14:00"]


# -- the first of two rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_rows", [1, 3, CHUNK_ROWS])
def test_the_first_row_wins_over_all_chunks_and_files(tmp_path: Path, chunk_rows: int) -> None:
    later = [f"2013-02-{day},20,21,19,20,20,1" for day in (28, 27, 26)]
    first = write(tmp_path / "a.csv", "ticker," + HEADER, "X," + GOOD, "X," + later[0], "X," + GOOD, "x," + GOOD)
    second = write(tmp_path / "b.csv", "ticker," + HEADER, "X," + GOOD, *["X," + line for line in later])
    delivery = delivered(first, second, chunk_rows=chunk_rows)
    assert delivery.prices[["ticker", "source"]].agg("".join, axis=1).tolist() == [
        "Xa.csv", "Xa.csv", "xa.csv", "Xb.csv", "Xb.csv",
    ]  # fmt: skip
    assert [(row.source, row.reason) for row in delivery.rejected] == [
        (source, "duplicate (ticker, session): the first is kept") for source in ("a.csv", "b.csv", "b.csv")
    ]


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100_000)), unique=True), max_size=6))
def test_seen_is_a_set(batches: list[list[tuple[int, int]]]) -> None:
    seen, held = Seen(), set()
    for batch in batches:
        days = pd.to_datetime(pd.Series([day for _, day in batch], dtype="int64"), unit="D", origin="1900-01-01")
        tickers = pd.Series([f"T{ticker}" for ticker, _ in batch], dtype="str")
        is_new = seen.first(tickers, days.astype("datetime64[us]"))
        assert is_new.tolist() == [each not in held for each in batch]
        held |= set(batch)
