from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.providers import PRICE_COLUMNS, Held
from pipeline.providers.files import deliver
from pipeline.summary import silent
from tests.pipeline.providers.own_files import GOOD, HEADER, config_of, delivered, write


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
    with pytest.raises(DataError, match=r"latin\.csv: none of its 1 rows .*: the line is not UTF-8 text: \\xe9,1"):
        delivered(tmp_path / "latin.csv")
    with pytest.raises(DataError, match=r"unknown exchange calendar 'NYSEX'; did you mean"):
        delivered(write(tmp_path / "p.csv", HEADER, GOOD), calendar="NYSEX")


# -- files, folders, globs --------------------------------------------------------------------------------------


def test_folders_and_globs(tmp_path: Path) -> None:
    for name in ("B.csv", "A.csv", "sub/C.CSV", "sub/deep/D.jsonl", ".hidden.csv", ".git/E.csv", "notes.txt"):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("jsonl"):
            write(file, json.dumps(dict(zip(HEADER.split(","), GOOD.split(","), strict=True))))
        else:
            write(file, HEADER, GOOD)
    data = tmp_path / "data"
    for entries, tickers in [
        ((data,), ["A", "B", "C", "D"]),
        ((data / "*.csv",), ["A", "B"]),
        ((data / "*",), ["A", "B"]),
        ((data / "**",), ["A", "B", "C", "D"]),
        ((data / "**" / "*.jsonl",), ["D"]),
        ((data / "sub" / "[CD].*", data / "B.csv", data / "*.csv"), ["C", "B", "A"]),
    ]:
        delivery = delivered(*entries)
        assert delivery.prices["ticker"].tolist() == tickers, entries
        assert delivery.rejected == (), "a file that is named twice is read once"


def test_linked_folders(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "ring").symlink_to(tmp_path / "data")
    write(tmp_path / "other" / "A.csv", HEADER, GOOD)
    delivery = delivered(tmp_path / "data")
    assert (delivery.prices["ticker"].tolist(), delivery.rejected) == (["A"], ())


def test_a_name_that_looks_like_a_glob(tmp_path: Path) -> None:
    (tmp_path / "[x]").mkdir()
    write(tmp_path / "[x]" / "A[1].csv", HEADER, GOOD)
    assert delivered(tmp_path / "[x]" / "A[1].csv").prices["ticker"].tolist() == ["A[1]"]
    assert delivered(tmp_path / "[x]" / "*.csv").prices["ticker"].tolist() == ["A[1]"]


def test_entries_that_match_nothing(tmp_path: Path) -> None:
    good = write(tmp_path / "P.csv", HEADER, GOOD)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.txt", "text")
    for entry, message in [
        ("*.parquet", r"data\.prices: '.*/\*\.parquet' matches no file$"),
        ("gone/*.csv", r"data\.prices: '.*/gone/\*\.csv' matches no file$"),
        ("*.txt", r"data\.prices: '.*' matches only a\.txt and the like, of no known format \(\.csv, "),
        ("empty", r"empty: no file in this folder ends in \.csv, \.csv\.gz"),
        ("gone", r"gone: no such file$"),
        ("a**", r"data\.prices: '.*a\*\*' cannot be looked up: Invalid pattern"),
        ("x" * 300, r"cannot be looked up: .*File name too long"),
    ]:
        with pytest.raises(DataError, match=message):
            delivered(good, tmp_path / entry)
    with pytest.raises(DataError, match=r"data\.news: '.*n\*' matches no file$"):
        delivered(good, news=(tmp_path / "n*",))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "ndjson", "jsonl.gz", "parquet"])
def test_prices_in_every_format(tmp_path: Path, suffix: str) -> None:
    rows = pd.DataFrame([GOOD.split(","), ["2013-02-28", "ten", "11", "9", "10", "10", "1"]], columns=HEADER.split(","))
    file = tmp_path / f"SPY.{suffix}"
    if suffix.startswith("csv"):
        rows.to_csv(file, index=False)
    elif suffix == "parquet":
        rows.to_parquet(file)
    else:
        rows.to_json(file, orient="records", lines=True)
    delivery = delivered(file)
    assert delivery.prices.iloc[0].to_dict() == {
        "ticker": "SPY", "session": pd.Timestamp("2013-03-01"), "open": 10, "high": 11, "low": 9, "close": 10.5,
        "adj_close": 5.25, "volume": 1000, "dividend": 0, "split": 1, "source": file.name,
    }  # fmt: skip
    ((table, reason, source, text),) = delivery.rejected
    assert (table, reason, source) == ("prices", "open is not a number", file.name)
    line = "2013-02-28,ten,11,9,10,10,1"
    assert (list(json.loads(text).values()) if "json" in suffix else text.split(",")) == line.split(",")


# -- what a bad file does to the others -------------------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "A.csv", HEADER, GOOD), write(tmp_path / "B.csv", "Date,Open", "1,2"),
        write(tmp_path / "C.csv", HEADER, "x"), write(tmp_path / "D.csv", HEADER, GOOD),
    ]  # fmt: skip
    news = [write(tmp_path / "n.csv", "time,title", "2013-03-01,x"), write(tmp_path / "m.csv", "time,title", "2,x")]
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    delivery = delivered(*files, tmp_path / "broken.parquet", news=tuple(news))
    assert delivery.prices["ticker"].tolist() == ["A", "D"]
    assert delivery.news["title"].tolist() == ["x"]
    assert sorted(delivery.failed) == ["B.csv", "C.csv", "broken.parquet", "m.csv"]
    assert delivery.failed["B.csv"] == "no column high; found Date, Open"
    assert delivery.failed["C.csv"].startswith("none of its 1 rows can be used; the first: session is no date like")
    assert delivery.failed["broken.parquet"].startswith("cannot be read: Parquet file size is 7 bytes")
    assert delivery.failed["m.csv"].startswith("none of its 1 rows can be used; the first: published_at is no time")
    assert [row.source for row in delivery.rejected] == ["C.csv", "m.csv"]
    with pytest.raises(
        DataError, match=r"none of 2 price files can be used; the first: .*B\.csv: no column high; found"
    ):
        delivered(files[1], files[2])


def test_failures_of_files_of_one_name(tmp_path: Path) -> None:
    write(tmp_path / "P.csv", HEADER, GOOD)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "x.csv", HEADER)
    assert sorted(delivered(tmp_path).failed) == [str(tmp_path / "a" / "x.csv"), str(tmp_path / "b" / "x.csv")]


def test_small_files_share_a_batch(tmp_path: Path) -> None:
    for number in range(7):
        write(tmp_path / f"T{number}.csv", HEADER, GOOD, "2013-02-28,10,11,9,10.5,5.25,1000")
    batches = list(deliver(config_of(tmp_path), silent, Held(), chunk_rows=6))
    assert [len(batch.prices) for batch in batches] == [6, 6, 2]
    steps: list[tuple[str, int, int]] = []
    list(deliver(config_of(tmp_path), lambda *step: steps.append(step), Held()))
    assert steps[-1][1] == steps[-1][2]


# -- columns ----------------------------------------------------------------------------------------------------


def test_columns_by_their_own_names(tmp_path: Path) -> None:
    german = write(tmp_path / "a.csv", "Datum,Kürzel,Erster,Hoch,Tief,Schluss,Close", "2013-03-01,X,10,11,9,10.5,77")
    wire = write(tmp_path / "n.csv", "Datum,Schlagzeile", "2013-03-01 10:00,hello")
    columns = {
        "DATUM ": "session", "Kürzel": "ticker", "Erster": "open", "hoch": "high", "Tief": "low", "Schluss": "close",
        "schlagzeile": "title",
    }  # fmt: skip
    delivery = delivered(german, news=(wire,), columns=columns)
    assert delivery.prices[["ticker", "open", "close"]].to_numpy().tolist() == [["X", 10, 10.5]]
    assert delivery.news["title"].tolist() == ["hello"], "the session of prices is the published_at of news"
    assert "a.csv: its column Close is not used, since data.columns names another one as close" in delivery.notes


def test_the_very_name_goes_before_those_alike(tmp_path: Path) -> None:
    file = write(tmp_path / "X.csv", "date,open,high,low,Close,close", "2013-03-01,10,11,9,5.25,10.5")
    delivery = delivered(file, columns={"Close": "adj_close"})
    assert delivery.prices[["close", "adj_close"]].to_numpy().tolist() == [[10.5, 5.25]]


def test_mappings_that_cannot_be(tmp_path: Path) -> None:
    file = write(tmp_path / "X.csv", HEADER, GOOD)
    with pytest.raises(
        DataError, match=r"data\.columns: 'Date' = 'day': we have no such column; ours: ticker, session,"
    ):
        delivered(file, columns={"Date": "day"})
    with pytest.raises(
        DataError, match=r"data\.columns: no file has a column 'Datum'; found Date, Open, High, .*Volume$"
    ):
        delivered(file, columns={"Datum": "session"})
    with pytest.raises(DataError, match=r"X\.csv: more than one column means open; found Date, Open"):
        delivered(file, columns={"Open": "open", "High": "open"})
