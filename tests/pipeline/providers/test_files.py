from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import Config, Data, Universe
from pipeline.errors import DataError
from pipeline.providers import NEWS_COLUMNS, PRICE_COLUMNS, Delivery, Held
from pipeline.providers.files import _together as together
from pipeline.providers.files import deliver
from pipeline.providers.tabular import CHUNK_ROWS
from pipeline.summary import silent

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume"
GOOD = "2013-03-01,10,11,9,10.5,5.25,1000"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config_of(
    *prices: Path, news: tuple[Path, ...] = (), columns: dict[str, str] | None = None, **universe: Any
) -> Config:
    data = Data(provider="files", prices=tuple(map(str, prices)), news=tuple(map(str, news)), columns=columns or {})
    return Config(data=data, universe=Universe(**universe))


def delivered(*prices: Path, chunk_rows: int = CHUNK_ROWS, **options: Any) -> Delivery:
    """Everything that is delivered, as one batch."""
    return together(list(deliver(config_of(*prices, **options), silent, Held(), chunk_rows)))


def news_of(tmp_path: Path, path: Path, calendar: str = "XNYS") -> Delivery:
    return delivered(write(tmp_path / "P.csv", HEADER, GOOD), news=(path,), calendar=calendar)


def test_a_single_ticker_is_named_by_its_file(tmp_path: Path) -> None:
    delivery = delivered(write(tmp_path / "SPY.csv", HEADER, GOOD, "2013-02-28,10,11,9,10,5,"))
    assert delivery.prices["ticker"].tolist() == ["SPY", "SPY"]
    assert delivery.prices["adj_close"].tolist() == [5.25, 5.0]
    assert delivery.prices["volume"].tolist() == [1000, 0]
    assert set(delivery.prices["source"]) == {"SPY.csv"}
    assert {name: str(dtype) for name, dtype in delivery.prices.dtypes.items()} == PRICE_COLUMNS
    assert (delivery.rejected, delivery.notes, len(delivery.news)) == ((), (), 0)


def test_names_of_columns_in_any_case_and_parquet(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"SESSION": pd.to_datetime(["2013-03-01"]), "Symbol": ["A"], "OPEN": [10], "high": [11.0], "Low": [9.0],
         "close": [10.0], "Stock Splits": [0.0], "Dividends": [None]}
    )  # fmt: skip
    rows.to_parquet(tmp_path / "p.parquet")
    delivery = delivered(tmp_path / "p.parquet")
    row = delivery.prices.iloc[0]
    assert (row["ticker"], row["split"], row["dividend"], row["adj_close"]) == ("A", 1.0, 0.0, 10.0)
    assert "no column adj_close" in delivery.notes[0]
    assert "no column volume" in delivery.notes[1]


def test_the_date_of_a_zoned_bar_is_the_exchanges(tmp_path: Path) -> None:
    index = pd.DatetimeIndex(["2013-03-01"], tz="America/New_York", name="Date")
    pd.DataFrame({"Open": [1.0], "High": [1.0], "Low": [1.0], "Close": [1.0]}, index=index).to_parquet(
        tmp_path / "X.parquet"
    )
    csv = write(tmp_path / "Y.csv", HEADER, "2013-03-01 00:00:00-05:00,1,1,1,1,1,1", "20130228,1,1,1,1,1,1")
    assert delivered(tmp_path / "X.parquet", csv).prices["session"].dt.day.tolist() == [1, 1, 28]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2013-02-28,ten,11,9,10,10,1", "open is not a number"),
        ("2013-02-28,10,11,9,,10,1", "close is not a number"),
        ("2013-02-28,10,11,9,nan,10,1", "close is not a number"),
        ("2013-02-28,10,inf,9,10,10,1", "high is infinite"),
        ("2013-02-28,10,11,-9,10,10,1", "low is not above zero"),
        ("2013-02-28,10,11,9,10,0,1", "adj_close is not above zero"),
        ("2013-02-28,10,11,9,10,10,-1", "volume is below zero"),
        ("2013-02-28,10,11,9,10,10,many", "volume is not a number"),
        ("2013-02-28,10,9,11,10,10,1", "high is below low"),
        ("2013-02-28,10,10.5,9,10.6,10,1", "high is not the highest price"),
        ("2013-02-28,10,11,9.9,9.8,10,1", "low is not the lowest price"),
        (GOOD, "duplicate (ticker, session): the first is kept"),
        ("2013-03-02,10,11,9,10,10,1", "session is none of calendar XNYS"),
        ("2999-01-02,10,11,9,10,10,1", "session is not over yet"),
        ("2/28/2013,10,11,9,10,10,1", "session is no date like 2013-03-01"),
        ("2013-02-30,10,11,9,10,10,1", "session is no date like 2013-03-01"),
        ("2013-02-28,10,11", "low is not a number"),
        ("2013-02-28,10,11,9,10,10,1,7", "the line cannot be read"),
    ],
)
def test_a_bad_row_is_kept_aside_with_its_reason_and_text(tmp_path: Path, line: str, reason: str) -> None:
    delivery = delivered(write(tmp_path / "SPY.csv", HEADER, GOOD, line))
    assert len(delivery.prices) == 1
    (rejected,) = delivery.rejected
    assert (rejected.table, rejected.reason, rejected.source) == ("prices", reason, "SPY.csv")
    assert rejected.row.rstrip(",") == line


def test_a_first_line_that_is_too_long_is_no_index(tmp_path: Path) -> None:
    delivery = delivered(write(tmp_path / "SPY.csv", HEADER, "2013-02-28,10,11,9,10,10,1,7", GOOD))
    assert delivery.prices["close"].tolist() == [10.5]
    assert [row.reason for row in delivery.rejected] == ["the line cannot be read"]


def test_a_duplicate_in_another_file(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", "ticker," + HEADER, "X," + GOOD)
    second = write(tmp_path / "b.csv", "ticker," + HEADER, "X,2013-03-01,20,21,19,20,20,1", "Y," + GOOD)
    delivery = delivered(first, second)
    assert delivery.prices["ticker"].tolist() == ["X", "Y"]
    assert [(row.source, row.row[:12]) for row in delivery.rejected] == [("b.csv", "X,2013-03-01")]


def test_a_calendar_that_never_closes(tmp_path: Path) -> None:
    file = write(tmp_path / "BTC.csv", HEADER, "2013-03-02,10,11,9,10,10,1", "2013-03-03,10,11,9,10,10,1")
    assert len(delivered(file, calendar="24/7").prices) == 2


def test_errors_name_the_file_and_what_is_wrong(tmp_path: Path) -> None:
    cases = [
        (("Date,Open,High,Low", "2013-03-01,1,1,1"), r"p\.csv: no column close; found Date, Open, High, Low$"),
        (("Day,Open,High,Low,Close", "2013-03-01,1,1,1,1"), r"no column session \(or date, datetime\); found Day, "),
        (("Date,session,Open,High,Low,Close", "1,1,1,1,1,1"), r"more than one column means session"),
        ((HEADER, "2013-03-02,1,1,1,1,1,1"), r"none of its 1 rows can be used; the first: session is none of .*2013"),
        ((HEADER,), r"p\.csv: none of its 0 rows can be used$"),
        (("",), r"no column session .*found none$"),
    ]
    for lines, message in cases:
        with pytest.raises(DataError, match=message) as caught:
            delivered(write(tmp_path / "p.csv", *lines))
        assert "\n" not in str(caught.value)


def test_errors_of_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: no such file$"):
        delivered(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"unknown format '\.xls'; use \.csv, \.csv\.gz, \.jsonl, .*\.parquet$"):
        delivered(tmp_path / "p.xls")
    with pytest.raises(DataError, match=r"data\.prices names no file"):
        delivered()
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.parquet: cannot be read: "):
        delivered(tmp_path / "broken.parquet")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"\n\xe9,1,1,1,1,1,1\n")
    with pytest.raises(DataError, match=r"latin\.csv: none of its 1 rows can be used; the first: the line is not UTF-8 text: \\xe9,1"):
        delivered(tmp_path / "latin.csv")
    with pytest.raises(DataError, match=r"unknown exchange calendar 'NYSEX'; did you mean"):
        delivered(write(tmp_path / "p.csv", HEADER, GOOD), calendar="NYSEX")


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


FIGURE = st.sampled_from(["10", "9", "11", "0", "-1", "nan", "inf", "", "ten", "1e400", " 10 ", "10.5"])
DATE = st.sampled_from(["2013-03-01", "2013-02-28", "2013-03-02", "1.3.2013", "", "2013-02-27T00:00:00", "9999-12-31"])
ROW = st.tuples(DATE, FIGURE, FIGURE, FIGURE, FIGURE, FIGURE, FIGURE, st.lists(FIGURE, max_size=1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=12))
def test_nothing_is_lost(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    lines = [",".join([*row[:-1], *row[-1]]) for row in rows]
    delivery = delivered(write(tmp_path / "X.csv", HEADER, "2013-02-26,10,11,9,10.5,5.25,1000", *lines))
    assert len(delivery.prices) + len(delivery.rejected) == len(rows) + 1
    assert not delivery.prices.duplicated(["ticker", "session"]).any()
    kept = delivery.prices
    assert (kept["low"] > 0).all()
    assert (kept["high"] >= kept[["open", "close", "low"]].max(axis=1)).all()
