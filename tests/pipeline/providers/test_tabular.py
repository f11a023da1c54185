"""Whatever a cell holds and wherever a chunk ends: every row is used or rejected, and always the same ones."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.calendars import calendar_sessions
from pipeline.errors import DataError
from pipeline.providers import Delivery, file_lines
from pipeline.providers.file_lines import MOST_BYTES
from pipeline.providers.file_paths import FileError
from pipeline.providers.tabular import Chunk, open_table
from tests.pipeline.providers.own_files import GOOD, HEADER, delivered

SIZES = (250_000, 1, 2, 3)


def examples(most: int) -> settings:
    return settings(max_examples=most, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(file: Path, most: int) -> tuple[list[list[str]], list[str], list[tuple[str, str]]]:
    """The rows of a file, their text, and what is no row with its reason."""
    table = open_table(file, most)
    rows, texts, broken = [], [], []
    for chunk in table.chunks({name: f"c{at}" for at, name in enumerate(table.columns)}.get):
        rows += chunk.rows.to_numpy().tolist()
        texts += chunk.text(range(len(chunk.rows)))
        broken += chunk.broken
    return rows, texts, broken


def outcome(delivery: Delivery) -> tuple[Any, ...]:
    """What must not depend on the size of chunks."""
    return delivery.prices.to_dict("list"), sorted(delivery.rejected), set(delivery.notes), delivery.failed


CELL = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    st.sampled_from(
        ["10", "11", "9", "nan", "inf", "-1", "0", "1e400", '"', '""', ",", "\n", "\r", '"\n', "a\nb,", " "]
    ),
)
DAY = st.sampled_from(["2013-03-01", "2013-02-28", "2013-02-27", "2999-03-02"])
GOOD_CELLS = st.tuples(DAY, *map(st.just, GOOD.split(",")[1:]))
CELLS = st.one_of(
    GOOD_CELLS, st.tuples(DAY, CELL, CELL, CELL, CELL, CELL, CELL), st.lists(CELL, min_size=2, max_size=9)
)


@examples(25)
@given(rows=st.lists(CELLS, max_size=10))
def test_good_and_rejected_rows_are_the_rows_received(tmp_path: Path, rows: list[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([HEADER.split(","), GOOD.split(","), *rows])
    file = tmp_path / "X.csv"
    file.write_text(text.getvalue(), newline="")
    whole = delivered(file, calendar="none")
    assert len(whole.prices) + len(whole.rejected) == len(rows) + 1
    assert not whole.prices.duplicated(["ticker", "session"]).any()
    assert outcome(delivered(file, chunk_rows=3, calendar="none")) == outcome(whole)


@examples(100)
@given(rows=st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=10))
def test_cells_arrive_as_they_were_written(tmp_path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b", "c"), *rows])
    (tmp_path / "X.csv").write_text(text.getvalue(), newline="")
    expected = [[cell.replace("\r\n", "\n") for cell in row] for row in rows]
    for size in SIZES:
        got, texts, broken = read(tmp_path / "X.csv", size)
        assert (got, broken) == (expected, [])
        assert len(texts) == len(rows)


@examples(200)
@given(lines=st.lists(st.tuples(*[st.text(st.sampled_from('"",\n\r0 '), max_size=6)] * 2), max_size=8))
def test_quotes_and_ends_of_lines_anywhere(tmp_path: Path, lines: list[tuple[str, str]]) -> None:
    marked = [f"{before}k{at}k{after}" for at, (before, after) in enumerate(lines)]
    for name, opened in (("X.csv", Path.open), ("X.csv.gz", gzip.open)):
        with opened(tmp_path / name, "wb") as file:
            file.write("\n".join(["a,b,c", *marked, "last,,"]).encode())
    whole = read(tmp_path / "X.csv", 250_000)
    received = "\x1f".join([*whole[1], *(text for _, text in whole[2])])
    assert [received.count(f"k{at}k") for at in range(len(lines))] == [1] * len(lines), "each line is in one row"
    assert received.count("last,,") == 1
    for size in SIZES:
        rows, texts, broken = read(tmp_path / "X.csv.gz", size)
        assert (rows, texts, sorted(broken)) == (*whole[:2], sorted(whole[2]))


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("10") | st.just(10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = ("date", "open", "high", "low", "close", "adj_close", "volume", "ticker", "Symbol", "split", "note")
BAR = {"date": "2013-02-28", "open": 10, "high": 11, "low": 9, "close": 10.5, "adj_close": 5}


@examples(25)
@given(rows=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=11) | VALUE, max_size=8))
def test_json_values(tmp_path: Path, rows: list[Any]) -> None:
    file = tmp_path / "X.jsonl"
    file.write_text("\n".join(map(json.dumps, [BAR, *rows])))
    if {"ticker", "Symbol"} <= {key for row in rows if isinstance(row, dict) for key in row}:
        with pytest.raises(DataError, match="more than one column means ticker"):
            delivered(file, chunk_rows=2, calendar="none")
        return
    whole = delivered(file, calendar="none")
    assert len(whole.prices) + len(whole.rejected) == len(rows) + 1
    assert outcome(delivered(file, chunk_rows=2, calendar="none")) == outcome(whole)


def test_a_record_of_many_lines(tmp_path: Path) -> None:
    """A quoted field may hold lines; a quote without an end costs its own line only."""
    story = "\n".join(["a line"] * 100)
    (tmp_path / "n.csv").write_text(f'a,b\n1,"{story}"\n2,x\n3,"never\n4,x\n5,y\n')
    for size in SIZES:
        rows, _, broken = read(tmp_path / "n.csv", size)
        assert rows == [["1", story], ["2", "x"], ["4", "x"], ["5", "y"]]
        assert broken == [("a quote is opened in this line and never closed", '3,"never')]


@pytest.mark.parametrize("length", [MOST_BYTES, MOST_BYTES + 1])
@pytest.mark.parametrize("name", ["n.csv", "n.csv.gz"])
def test_the_longest_line(tmp_path: Path, name: str, length: int) -> None:
    with (gzip.open if name.endswith("gz") else Path.open)(tmp_path / name, "wb") as file:
        file.write(b"a,b\n" + b"x" * (length - 2) + b",1\ny,2\n")
    rows, _, broken = read(tmp_path / name, 10)
    assert [row[1] for row in rows] == (["1", "2"] if length == MOST_BYTES else ["2"])
    assert [(reason, len(text)) for reason, text in broken] == (
        [] if length == MOST_BYTES else [("the line is longer than 1,000,000 bytes", 1004)]
    )


def test_rows_before_the_damage(tmp_path: Path) -> None:
    lines = ["a,b", *(f"{number},{number * 7919 % 1000}" for number in range(50_000))]
    whole = gzip.compress("\n".join(lines).encode())
    (tmp_path / "x.csv.gz").write_bytes(whole[: len(whole) // 2])
    table = open_table(tmp_path / "x.csv.gz", 1000)
    chunks: list[Chunk] = []
    with pytest.raises(FileError, match=r"cannot be read: Compressed file ended before"):
        chunks.extend(table.chunks(lambda name: name))
    rows = [row for chunk in chunks for row in chunk.rows.to_numpy().tolist()]
    assert [",".join(row) for row in rows] == lines[1 : len(rows) + 1]
    assert len(rows) > 20_000
    ((reason, text),) = [each for chunk in chunks for each in chunk.broken]
    assert reason == "the file breaks off in this line"
    assert lines[len(rows) + 1].startswith(text)


@pytest.mark.parametrize("block", [3, 4, 7, 64])
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl"])
def test_where_a_block_of_bytes_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int) -> None:
    lines = ["a,b", "1,é", '2,"x', "", 'y"', "", "3,z\r", "4"] if "csv" in name else ['{"a": "é"}\r', "", '{"a": 1}']
    with (gzip.open if name.endswith("gz") else Path.open)(tmp_path / name, "wb") as file:
        file.write("\n".join(lines).encode("utf-8-sig"))
    whole = read(tmp_path / name, 100)
    assert len(whole[0]) == (4 if "csv" in name else 2)
    monkeypatch.setattr(file_lines, "BLOCK", block)
    monkeypatch.setattr(file_lines, "_PIECE", block)
    assert read(tmp_path / name, 2) == whole


PEAK = """
import resource, sys
from pipeline.config import Config, Data
from pipeline.providers import Held
from pipeline.providers.files import deliver
from pipeline.summary import silent
config = Config(data=Data(provider="files", prices=(sys.argv[1],)))
rows = sum(len(batch.prices) for batch in deliver(config, silent, Held(), 20_000))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    days = calendar_sessions("XNYS", "2005-01-03", "2012-12-10")[0][:2000].strftime("%Y-%m-%d")
    peaks = []
    for tickers in (200, 600):
        with (tmp_path / "x.csv").open("w") as file:
            file.write("ticker," + HEADER + "\n")
            for ticker in range(tickers):
                file.writelines(f"T{ticker:03d},{day},{GOOD.partition(',')[2]}\n" for day in days)
        command = [sys.executable, "-c", PEAK, str(tmp_path / "x.csv")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows, peak = map(int, done.stdout.split())
        assert rows == tickers * len(days)
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 25, f"{peaks} MB; the second file is 36 MB longer"
