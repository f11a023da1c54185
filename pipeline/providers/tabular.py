"""Rows of CSV, JSONL and Parquet files in chunks, whatever they hold: text, or the types of the file.

No reader repairs anything, and none loses a row: what cannot be read as a row at all is handed over as text with the
reason, and a damaged file gives the rows before the damage.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.providers.file_lines import MOST_BYTES, NOT_CLOSED, TOO_LONG, Joiner, Lines, is_open, read_lines, shown
from pipeline.providers.file_paths import FileError, suffix

CHUNK_ROWS = 250_000
HEAD = 1000
"""The columns of a JSONL file are those of its first lines; the number does not depend on the size of chunks."""
NOT_READ = "the line cannot be read"
NOT_UTF8 = "the line is not UTF-8 text"
NUL = "the line holds NUL bytes"
CUT = "the file breaks off in this line"

Ours = Callable[[str], str | None]
Broken = list[tuple[str, str]]


class Chunk(NamedTuple):
    """Some rows of a file.

    Attributes:
        rows: the columns asked for under our names, index 0, 1, ...; text where the file has no types; in a JSONL
            file NaN is a key that the object lacks, '' is null.
        text: the rows at these positions as they were received.
        broken: reason and text of what is no row.
        position: how many bytes of the file have been read so far.
    """

    rows: pd.DataFrame
    text: Callable[[Sequence[int]], list[str]]
    broken: Broken
    position: int


class Table(NamedTuple):
    """A file that has been opened.

    Attributes:
        columns: as the file calls them.
        chunks: the rows, of the columns that a function gives a name of ours; FileError, after the rows before
            it, where the file is damaged.
    """

    columns: list[str]
    chunks: Callable[[Ours], Iterator[Chunk]]


def open_table(path: Path, most: int = CHUNK_ROWS) -> Table:
    """Open a file by its suffix; a chunk has at most so many rows (and those of one MOST_BYTES that were held back).

    Raises:
        FileError: it cannot be read.
    """
    kind = suffix(path)
    if kind == ".parquet":
        from pipeline.providers.parquet_table import open_parquet

        return open_parquet(path, most)
    return _open_csv(path, most) if kind.startswith(".csv") else _open_jsonl(path, most)


# -- CSV ------------------------------------------------------------------------------------------------------


class _Records(NamedTuple):
    """Records of a CSV file; `cut` is the last line of a file that breaks off within it."""

    records: list[bytes]
    position: int
    cut: bytes | None = None


def _open_csv(path: Path, most: int) -> Table:
    parts = _csv_records(path, most)
    first = next((part for part in parts if part.records), None)
    if first is None:
        return Table([], lambda ours: iter(()))
    columns = _header(first.records[0])
    rest = chain([first._replace(records=first.records[1:])], parts)
    return Table(columns, lambda ours: (_csv_chunk(columns, ours, part) for part in rest))


def _header(record: bytes) -> list[str]:
    if record.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in record:
        raise FileError("is not UTF-8 text: it looks like UTF-16; save it as UTF-8")
    fault, fields = _fault(record), None
    if not fault:
        fault, fields = _fields(record)
    if fields is None:
        what = "is not UTF-8 text" if fault == NOT_UTF8 else f"cannot be read: {fault}"
        raise FileError(f"{what}: its first line is {shown(record)[:200]!r}")
    return fields


def _csv_records(path: Path, most: int) -> Iterator[_Records]:
    """All records, empty lines left out."""
    joiner, part = Joiner(), Lines([], 0)
    damage: FileError | None = None
    try:
        for part in read_lines(path, most):
            yield _Records(list(filter(bytes.strip, joiner.join(part.lines))), part.position)
    except FileError as error:
        damage = error
    yield _Records(list(filter(bytes.strip, joiner.join([], is_end=True))), part.position, part.cut)
    if damage:
        raise damage


def _csv_chunk(columns: Sequence[str], ours: Ours, part: _Records) -> Chunk:
    sound, broken = _sound(part.records)
    sound, long = _too_many_fields(sound, len(columns))
    rows = _parsed(sound, len(columns))
    if rows is None:
        rows, sound, unread = _parsed_one_by_one(sound, len(columns))
        broken += unread
    names = {at: name for at, column in enumerate(columns) if (name := ours(column))}
    rows = rows[list(names)].set_axis(list(names.values()), axis=1)
    broken += long if part.cut is None else [*long, (CUT, shown(part.cut))]
    return Chunk(rows, lambda positions: [shown(sound[at]) for at in positions], broken, part.position)


def _fault(record: bytes) -> str:
    if len(record) > MOST_BYTES:
        return TOO_LONG
    if b"\0" in record:
        return NUL
    return "" if _is_utf8(record) else NOT_UTF8


def _is_utf8(text: bytes) -> bool:
    try:
        return text.isascii() or bool(text.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _sound(records: list[bytes]) -> tuple[list[bytes], Broken]:
    """The records that are text, and the others."""
    text = b"\n".join(records)
    if max(map(len, records), default=0) <= MOST_BYTES and b"\0" not in text and _is_utf8(text):
        return records, []
    faults = [_fault(record) for record in records]
    sound = [record for record, fault in zip(records, faults, strict=True) if not fault]
    return sound, [(fault, shown(record)) for record, fault in zip(records, faults, strict=True) if fault]


def _too_many_fields(records: list[bytes], fields: int) -> tuple[list[bytes], Broken]:
    """Put aside the records without quotes that have more fields than the header; pandas would give up at them."""
    commas = np.fromiter(map(bytes.count, records, repeat(b",")), dtype="int64", count=len(records))
    at = {at for at in np.flatnonzero(commas >= fields).tolist() if b'"' not in records[at]}
    if not at:
        return records, []
    return [record for number, record in enumerate(records) if number not in at], [
        (NOT_READ, shown(records[number])) for number in sorted(at)
    ]


def _parsed(records: list[bytes], fields: int) -> pd.DataFrame | None:
    """All records at once; None if pandas sees other records than we do."""
    text = b"\n".join(records)
    if b"\r" in text:
        return None
    # A made-up first row sets the number of fields: a longer row is then an error, and never taken for an index.
    first = b",".join([b"x"] * fields) + b"\n"
    options: Any = {"dtype": "str", "keep_default_na": False, "na_filter": False, "skip_blank_lines": False}
    try:
        rows = pd.read_csv(io.BytesIO(first + text), header=None, encoding="utf-8", low_memory=False, **options)
    except ValueError:
        return None
    return rows.iloc[1:].reset_index(drop=True) if len(rows) == len(records) + 1 else None


def _parsed_one_by_one(records: list[bytes], fields: int) -> tuple[pd.DataFrame, list[bytes], Broken]:
    """The slow way, each record by itself; only for chunks that hold a broken one."""
    rows, sound, broken = [], [], []
    for record in records:
        fault, found = _fields(record)
        if found is None or len(found) > fields:
            broken.append((fault or NOT_READ, shown(record)))
        else:
            rows.append([*found, *[""] * (fields - len(found))])
            sound.append(record)
    return pd.DataFrame(rows, columns=range(fields), dtype="str"), sound, broken


def _fields(record: bytes) -> tuple[str, list[str] | None]:
    """The fields of a record; or what is wrong with it, and None."""
    if is_open(record):
        return NOT_CLOSED, None
    csv.field_size_limit(max(csv.field_size_limit(), MOST_BYTES))
    try:
        return "", next(csv.reader([record.decode("utf-8")]), [])
    except csv.Error:
        return NOT_READ, None


# -- JSONL ----------------------------------------------------------------------------------------------------

# Numbers stay the text that they are: nothing overflows, and every format is judged alike.
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def _open_jsonl(path: Path, most: int) -> Table:
    parts = read_lines(path, most)
    head: list[Lines] = []
    damage: list[FileError] = []
    try:
        while sum(len(part.lines) for part in head) < HEAD and (part := next(parts, None)):
            head.append(part)
    except FileError as error:
        damage.append(error)
    first = list(chain.from_iterable(part.lines for part in head))[:HEAD]
    objects = [value for _, value in map(_object, first) if value is not None]
    if not objects and damage:
        raise damage[0]

    def chunks(ours: Ours) -> Iterator[Chunk]:
        keys: dict[str, str] = {}
        for part in chain(head, parts):
            yield _jsonl_chunk(part, ours, keys)
        if damage:
            raise damage[0]

    return Table(list(dict.fromkeys(chain.from_iterable(objects))), chunks)


def _jsonl_chunk(part: Lines, ours: Ours, keys: dict[str, str]) -> Chunk:
    """One object a line; `keys` are those used so far, key -> our name, in the order of the file."""
    lines = list(filter(bytes.strip, part.lines))
    read = [_object(line) for line in lines]
    sound = [line for line, (_, value) in zip(lines, read, strict=True) if value is not None]
    objects = [value for _, value in read if value is not None]
    broken = [(fault, shown(line)) for line, (fault, value) in zip(lines, read, strict=True) if value is None]
    for key in dict.fromkeys(chain.from_iterable(objects)):
        if key not in keys and (name := ours(key)):
            keys[key] = name
    columns: dict[str, pd.Series] = {}
    for key, name in keys.items():
        given = pd.Series([_value(each[key]) if key in each else None for each in objects], dtype="str")
        columns[name] = columns[name].fillna(given) if name in columns else given
    rows = pd.DataFrame(columns, index=pd.RangeIndex(len(objects)))
    broken += [] if part.cut is None else [(CUT, shown(part.cut))]
    return Chunk(rows, lambda positions: [shown(sound[at]) for at in positions], broken, part.position)


def _object(line: bytes) -> tuple[str, dict[str, object] | None]:
    """The object of a line; or what is wrong with it, and None."""
    fault = _fault(line)
    if fault:
        return fault, None
    try:
        value = _DECODER.decode(line.decode("utf-8").strip())
    except (ValueError, RecursionError):
        return NOT_READ, None
    return ("", value) if isinstance(value, dict) else (NOT_READ, None)


def _value(value: object) -> str:
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which UTF-8 cannot hold.
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if value is None:
        return ""
    try:
        return json.dumps(value)
    except RecursionError:
        return "(nested too deeply)"
