"""Files as they should not be: whatever they hold, no error but DataError, in bounded time, and nothing is lost."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError
from tests.pipeline.providers.own_files import GOOD, HEADER, delivered, write

NEXT = "2013-02-28,10,11,9,10.5,5.25,1000"
MOST_SECONDS = 20.0
SIZES = (250_000, 1, 3)


def good_file(folder: Path) -> Path:
    return write(folder / "GOOD.csv", HEADER, GOOD)


def csv_of(*lines: bytes | str) -> bytes:
    return b"\n".join(line.encode() if isinstance(line, str) else line for line in (HEADER, *lines)) + b"\n"


def jsonl_of(*rows: Any) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


def bar(**changed: Any) -> dict[str, Any]:
    return {"date": "2013-02-28", "open": 10, "high": 11, "low": 9, "close": 10.5, "adj_close": 5, **changed}


# -- text: name of the file, its bytes, rows used, reasons of the rejected, part of the reason of failure ----------

LONG = "x" * 10_000_000
MANY = "\n".join(["2013-02-27,10,11,9,10.5,5.25,1"] * 5000)
DUPLICATE = "duplicate (ticker, session): the first is kept"
NUMBER = "open is not a number"
TEXTS: list[tuple[str, bytes, int, list[str], str]] = [
    ("bom.csv", b"\xef\xbb\xbf" + csv_of(NEXT), 1, [], ""),
    ("crlf.csv", csv_of(NEXT).replace(b"\n", b"\r\n"), 1, [], ""),
    ("no_end.csv", csv_of(NEXT).strip(), 1, [], ""),
    ("blank.csv", csv_of("", NEXT, "  ", "\t"), 1, [], ""),
    ("latin.csv", csv_of(NEXT, b"caf\xe9,1,1,1,1,1,1"), 1, ["the line is not UTF-8 text"], ""),
    ("latin_header.csv", b"Dat\xe9,Open\n1,2\n", 0, [], "is not UTF-8 text: its first line is"),
    ("utf16.csv", csv_of(NEXT).decode().encode("utf-16"), 0, [], "looks like UTF-16; save it as UTF-8"),
    ("utf16_no_bom.csv", csv_of(NEXT).decode().encode("utf-16-le"), 0, [], "looks like UTF-16"),
    ("nul.csv", csv_of(NEXT, b"2013-02-27,1\x000,11,9,10,10,1"), 1, ["the line holds NUL bytes"], ""),
    ("nul_only.csv", b"\0" * 1000, 0, [], "is not UTF-8 text"),
    ("random.csv", np.random.default_rng(0).bytes(100_000), 0, [], "t"),
    ("old_mac.csv", csv_of(NEXT).replace(b"\n", b"\r"), 0, [], "cannot be read"),
    ("lone_cr.csv", csv_of(NEXT, "2013-02-27,10\r,11,9,10,10,1"), 1, ["the line cannot be read"], ""),
    ("empty.csv", b"", 0, [], "no column session (or date, datetime); found none"),
    ("header.csv", csv_of(), 0, [], "none of its 0 rows can be used"),
    ("twice.csv", b"Date,Date,Open\n1,2,3\n", 0, [], "more than one column means session; found Date, Date, Open"),
    ("same.csv", (HEADER + ",Note,Note\n" + NEXT).encode(), 0, [], "more than one column means note"),
    ("ragged.csv", csv_of(NEXT, "2013-02-27,10", NEXT + ",,,", ",,,,,,,,,,"), 1,
     ["high is not a number", "the line cannot be read", "the line cannot be read"], ""),
    ("quoted_ragged.csv", csv_of(NEXT, '"2013-02-27","1,0",11,9,10,10,1', '"2013-02-27",1,2,3,4,5,6,7'), 1,
     [NUMBER, "the line cannot be read"], ""),
    ("long_line.csv", csv_of(LONG, NEXT, LONG), 1, ["the line is longer than 1,000,000 bytes"] * 2, ""),
    ("long_first_line.csv", LONG.encode(), 0, [], "longer than 1,000,000 bytes"),
    ("long_quoted.csv", csv_of(NEXT, f'"{LONG},1,1,1,1,1,1'), 1, ["the line is longer than 1,000,000 bytes"], ""),
    ("never_closed.csv", csv_of('"2013-02-27,1,1,1,1,1,1', NEXT), 1,
     ["a quote is opened in this line and never closed"], ""),
    ("never_closed_long.csv", csv_of('"2013-02-27,1,1,1,1,1,1', *[NEXT] * 100_000), 1,
     ["a quote is opened in this line and never closed", *[DUPLICATE] * 99_999], ""),
    ("quotes_that_open.csv", csv_of(NEXT, *['a"b"c,"d'] * 50_000), 1,
     ["a quote is opened in this line and never closed"] * 50_000, ""),
    ("quoted_header.csv", ('"Date","Open\nthat day",Open,High,Low,Close,AdjClose,Volume\n' + '2013-02-28,"\n",'
     + "10,11,9,10,5,1").encode(), 1, [], ""),
    ("figures.csv", csv_of(
        "2013-02-25,1e400,11,9,10,10,1", '2013-02-25,"1,234.5",11,9,10,10,1', "2013-02-25,nan,11,9,10,10,1",
        "2013-02-25,10,inf,9,10,10,1", "2013-02-25,10,11,-inf,10,10,1", "2013-02-25,10,11,-9,10,10,1",
        "2013-02-25,0,11,9,10,10,1", "2013-02-25,0x1F,11,9,10,10,1", "2013-02-25,10,11,9,10,10,-1",
        f"2013-02-25,{'1' * 400},11,9,10,10,1", f"2013-02-25,{'1' * 5000},11,9,10,10,1", NEXT,
    ), 1, ["open is infinite", NUMBER, NUMBER, "high is infinite", "low is infinite", "low is not above zero",
           "open is not above zero", NUMBER, "volume is below zero", "open is infinite", NUMBER], ""),
    ("dates.csv", csv_of(
        *[date + NEXT[10:] for date in (
            "9999-12-31", "0001-01-03", "1899-12-29", "2999-01-02", "99999-01-01", "2013-02-30", "2013-13-01", "today",
            "1362096000", "2013-02-27T00:00:00+14:00", "2013-02-26 23:59:59-11:00", "-2013-02-25",
        )]), 2, ["session is not over yet", "calendar XNYS does not reach this session",
                 "calendar XNYS does not reach this session", "session is not over yet"]
     + ["session is no date like 2013-03-01"] * 6, ""),
    ("truncated.csv.gz", gzip.compress(csv_of(NEXT, MANY))[:-200], 2, [], "cannot be read: Compressed file ended"),
    ("no_gzip.csv.gz", csv_of(NEXT), 0, [], "cannot be read: Not a gzipped file"),
    ("empty.csv.gz", b"", 0, [], "found none"),
    ("damaged.csv.gz", gzip.compress(csv_of(NEXT, MANY))[:-8] + b"12345678", 2, [], "cannot be read: CRC check failed"),
    ("garbage_after.csv.gz", gzip.compress(csv_of(NEXT)) + b"garbage", 1, [], "cannot be read: Not a gzipped file"),
    ("bomb.csv.gz", gzip.compress(csv_of(NEXT) + b"0" * 50_000_000), 1, ["the line is longer than 1,000,000 bytes"],
     ""),
    ("two_members.csv.gz", gzip.compress(csv_of()) + gzip.compress(NEXT.encode()), 1, [], ""),
    ("lines.jsonl", jsonl_of(bar(), "{", "[1]", "1", "null", '"text"', '{"date": NaN', "{'date': 1}"), 1,
     ["the line cannot be read"] * 7, ""),
    ("nested.jsonl", jsonl_of(bar(), bar(open={"a": [1]}), bar(open=[10]), bar(open=True), bar(date={"y": 2013}),
     "[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000), 1,
     [NUMBER, NUMBER, NUMBER, "session is no date like 2013-03-01"] + ["the line cannot be read"] * 2, ""),
    ("deep_value.jsonl", jsonl_of(bar(), json.dumps(bar()).replace("10,", "[" * 900 + "]" * 900 + ",", 1)), 1,
     [NUMBER], ""),
    ("numbers.jsonl", jsonl_of(bar(), *[json.dumps(bar()).replace("10,", f"{text},", 1) for text in (
        "NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "null", "9" * 10_000, '""', '"1,5"', '"\\ud800"',
    )]), 1, [NUMBER, *["open is infinite"] * 4,
             NUMBER, NUMBER, NUMBER, NUMBER, NUMBER], ""),
    ("other_keys.jsonl", jsonl_of(bar(), *[{f"key{n}": n} for n in range(3000)], {}), 1,
     ["session is no date like 2013-03-01"] * 3001, ""),
    ("utf16.jsonl", jsonl_of(bar()).decode().encode("utf-16"), 0, [], "found none"),
    ("latin.jsonl", jsonl_of(bar()) + b'\n{"date": "\xe9"}', 1, ["the line is not UTF-8 text"], ""),
    ("bom.jsonl", b"\xef\xbb\xbf" + jsonl_of(bar()), 1, [], ""),
    ("long.jsonl", jsonl_of(bar(note=LONG), bar()), 1, ["the line is longer than 1,000,000 bytes"], ""),
    ("array.jsonl", json.dumps([bar()]).encode(), 0, [], "no column session"),
    ("empty.jsonl", b"", 0, [], "no column session"),
    ("truncated.jsonl.gz", gzip.compress(jsonl_of(bar(), *[bar(note=n) for n in range(5000)]))[:-100], 1, [],
     "cannot be read: Compressed file ended"),
    ("text.parquet", csv_of(NEXT), 0, [], "cannot be read: Parquet magic bytes not found"),
    ("empty.parquet", b"", 0, [], "cannot be read: Parquet file size is 0 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "used", "reasons", "failed"), TEXTS, ids=[case[0] for case in TEXTS])
def test_a_bad_text_file(tmp_path: Path, name: str, content: bytes, used: int, reasons: list[str], failed: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    start = time.monotonic()
    delivery = delivered(good_file(tmp_path), file)
    assert time.monotonic() - start < MOST_SECONDS
    assert len(delivery.prices) == 1 + used
    assert failed in delivery.failed.get(name, "")
    if not failed:
        assert delivery.failed == {}
        assert sorted(row.reason for row in delivery.rejected) == sorted(reasons)
    elif used:
        rows = len(delivery.rejected) + used
        assert delivery.failed[name].endswith(f"; rows read before: {rows:,}, used: {used}")
    if used == 0:
        with pytest.raises(DataError, match=r"of its|cannot be|column|UTF-8"):
            delivered(file)


# -- Parquet --------------------------------------------------------------------------------------------------

DAYS = [dt.date(2013, 2, 27), dt.date(2013, 2, 28)]


def table(**columns: Any) -> pa.Table:
    """Two good bars, some of their columns replaced."""
    figures = {"open": [10.0, 10.0], "high": [11.0, 11.0], "low": [9.0, 9.0], "close": [10.5, 10.5]}
    return pa.table({"date": pa.array(DAYS), **figures, **columns})


def decimals(*values: str | None) -> pa.Array:
    return pa.array([None if value is None else decimal.Decimal(value) for value in values], pa.decimal128(12, 4))


def stamps(unit: str, zone: str | None, hour: int = 0) -> pa.Array:
    naive = pa.array([dt.datetime(day.year, day.month, day.day, hour) for day in DAYS], pa.timestamp(unit))
    return naive if zone is None else pa.compute.assume_timezone(naive, zone)


STRUCT = pa.array([{"a": 1}, None])
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(np.array([0, 2, 4], dtype="int32").tobytes()), pa.py_buffer(b"AB\xff\xfe")]
)
DATE = "session is no date like 2013-03-01"
TABLES: list[tuple[str, pa.Table, int, list[str]]] = [
    ("plain", table(), 2, []),
    ("categories", table(ticker=pa.array(["A", "B"]).dictionary_encode()), 2, []),
    ("categories of figures", table(open=pa.array([10.0, None]).dictionary_encode()), 1, [NUMBER]),
    ("categories of dates", table(date=pa.array(DAYS).dictionary_encode()), 2, []),
    ("decimals", table(open=decimals("10.25", None)), 1, [NUMBER]),
    ("large decimals", table(volume=pa.array([10**30, 1], pa.decimal256(60, 2))), 2, []),
    ("whole numbers", table(open=pa.array([10, None], pa.int64())), 1, [NUMBER]),
    ("large numbers", table(volume=pa.array([2**64 - 1, None], pa.uint64())), 2, []),
    ("half floats", table(open=np.array([10, np.nan], "float16")), 1, [NUMBER]),
    ("text", table(open=["10", "1,234.5"]), 1, [NUMBER]),
    ("large text", table(open=pa.array(["10", None], pa.large_string())), 1, [NUMBER]),
    ("text views", table(open=pa.array(["10", None], pa.string_view())), 1, [NUMBER]),
    ("bytes", table(ticker=pa.array([b"A", b"\xff"]), open=pa.array([b"10", b"\xff"])), 1, [NUMBER]),
    ("no UTF-8", table(ticker=NOT_UTF8, open=NOT_UTF8), 0, [NUMBER] * 2),
    ("truth values", table(open=[True, False]), 0, [NUMBER] * 2),
    ("nothing", table(open=pa.nulls(2), volume=pa.nulls(2)), 0, [NUMBER] * 2),
    ("nested", table(open=STRUCT), 0, [NUMBER] * 2),
    ("lists", table(open=pa.array([[10.0], [[]][0]])), 0, [NUMBER] * 2),
    ("nested dates", table(date=STRUCT), 0, [DATE] * 2),
    ("maps aside", table(more=pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())), open=[10.0, -1]), 1,
     ["open is not above zero"]),
    ("times as figures", table(open=stamps("us", None)), 0, [NUMBER] * 2),
    ("spans as figures", table(open=pa.array([1, 2], pa.duration("s"))), 0, [NUMBER] * 2),
    ("figures as dates", table(date=pa.array([20130227, 15763])), 1, [DATE]),
    ("zoned", table(date=stamps("ns", "America/New_York")), 2, []),
    ("zoned late", table(date=stamps("ms", "+05:30", 23)), 2, []),
    ("an unknown zone", table(date=stamps("us", "UTC").cast(pa.timestamp("us", "Mars/Olympus"))), 0, [DATE] * 2),
    ("no date", table(date=pa.array([None, DAYS[1]])), 1, [DATE]),
    ("a far date", table(date=pa.array([2**31 - 1, 15764], pa.int32()).cast(pa.date32())), 1, [DATE]),
    ("a far time", table(date=pa.array([2**50, 2**50]).cast(pa.timestamp("s"))), 0, [DATE] * 2),
    ("year 9999 and 1", table(date=pa.array([dt.date(9999, 12, 31), dt.date(1, 1, 1)])), 0,
     ["session is not over yet", "calendar XNYS does not reach this session"]),
    ("no tickers", table(ticker=pa.array([None, "A"])), 1, ["no ticker"]),
    ("infinite", table(open=[np.inf, np.nan]), 0, ["open is infinite", NUMBER]),
    ("no row", table().slice(0, 0), 0, []),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "used", "reasons"), [case[1:] for case in TABLES], ids=[case[0] for case in TABLES])
def test_other_types_in_parquet(tmp_path: Path, rows: pa.Table, used: int, reasons: list[str]) -> None:
    pq.write_table(rows, tmp_path / "x.parquet")
    for chunk_rows in SIZES:
        delivery = delivered(good_file(tmp_path), tmp_path / "x.parquet", chunk_rows=chunk_rows)
        assert len(delivery.prices) == 1 + used
        assert sorted(row.reason for row in delivery.rejected) == sorted(reasons)
        assert ("x.parquet" in delivery.failed) == (used == 0)


def many_bars(path: Path) -> pd.DataFrame:
    days = pd.bdate_range("2001-01-02", "2012-12-28")
    rows = pd.DataFrame({"date": days, "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "adj_close": 5.0})
    rows["note"] = [f"{number:08d}" for number in range(len(rows))]
    if path.suffix == ".parquet":
        rows.to_parquet(path, row_group_size=500)
    else:
        rows.to_csv(path, index=False)
    return rows


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    many_bars(tmp_path / "x.parquet")
    whole = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(whole[: len(whole) // 2])
    delivery = delivered(good_file(tmp_path), tmp_path / "x.parquet")
    assert delivery.failed["x.parquet"].startswith("cannot be read: Parquet magic bytes not found")


@pytest.mark.parametrize("seed", range(12))
def test_bytes_that_flipped(tmp_path: Path, seed: int) -> None:
    """What is delivered is accounted for; nothing crashes and nothing hangs."""
    generator = np.random.default_rng(seed)
    for suffix in ("parquet", "csv", "csv.gz"):
        file = tmp_path / f"x.{suffix}"
        rows = many_bars(file)
        content = bytearray(file.read_bytes())
        for at in generator.integers(0, len(content), 3):
            content[at] ^= int(generator.integers(1, 256))
        file.write_bytes(content)
        delivery = delivered(good_file(tmp_path), file, chunk_rows=1000)
        received = len(delivery.prices) - 1 + len(delivery.rejected)
        assert abs(received - len(rows)) <= 6 or file.name in delivery.failed


# -- things that are no files, or cannot be read ----------------------------------------------------------------


def test_what_is_no_file(tmp_path: Path) -> None:
    good = good_file(tmp_path)
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(DataError, match=r"x\.csv: no file in this folder ends in \.csv, "):
        delivered(good, tmp_path / "x.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    (tmp_path / "round.csv").symlink_to(tmp_path / "round.csv")
    (tmp_path / "memory.csv").symlink_to("/proc/self/mem")
    (tmp_path / "ring").symlink_to(tmp_path)
    delivery = delivered(tmp_path)
    assert len(delivery.prices) == 1
    assert dict(sorted(delivery.failed.items())) == {
        "gone.csv": "is not a file", "memory.csv": "cannot be read: Input/output error", "pipe.csv": "is not a file",
        "round.csv": "is not a file",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"gone\.csv: no such file$"):
        delivered(tmp_path / "gone.csv")


def test_an_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(csv_of(NEXT))
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("root reads everything")
    assert delivered(good_file(tmp_path), file).failed == {"x.csv": "cannot be read: Permission denied"}


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    file.write_bytes(csv_of(NEXT, "nonsense"))
    delivery = delivered(good_file(tmp_path), file)
    assert delivery.prices["ticker"].tolist() == ["GOOD", "caf\\xe9"]
    assert delivery.rejected[0].source == "caf\\xe9.csv"


# -- headlines --------------------------------------------------------------------------------------------------

STAMPS = (
    "2013-03-01T10:00:00+14:00", "2013-03-01 10:00:00-05:00", "2013-03-01T10:00Z", "2013-03-01T10:00", "2013-03-01",
    "9999-12-31", "9999-12-31T23:59:59-12:00", "0001-01-01", "0001-01-01T00:00:00+14:00", "2013-02-30", "nan", "NaT",
    "1e400", "now", "2999-01-01T00:00Z", "", "99999-01-01", "2013-03-10 02:30", "2013-11-03 01:30", "-2013-01-01",
    "2013-03-01T25:00", "2013-03-01T10:00:00.123456789123Z", "20130301T100000Z", "Fri, 01 Mar 2013 10:00:00 GMT",
)  # fmt: skip


@pytest.mark.parametrize("chunk_rows", SIZES)
def test_times_of_headlines(tmp_path: Path, chunk_rows: int) -> None:
    file = tmp_path / "n.csv"
    file.write_text("time,title\n" + "".join(f'"{stamp}",{at}\n' for at, stamp in enumerate(STAMPS)))
    delivery = delivered(good_file(tmp_path), news=(file,), chunk_rows=chunk_rows)
    assert len(delivery.news) + len(delivery.rejected) == len(STAMPS)
    assert delivery.failed == {}
    times = dict(zip(delivery.news["title"], delivery.news["published_at"], strict=True))
    assert times["0"] == pd.Timestamp("2013-02-28T20:00Z")
    assert times["1"] == times["3"] == pd.Timestamp("2013-03-01T15:00Z")
    assert (delivery.news["known_at"] >= delivery.news["published_at"]).all()
