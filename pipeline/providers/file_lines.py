"""The lines of a text file, gzipped or not, block by block: memory does not grow with the file or with a line."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.providers.file_paths import FileError

BLOCK = 1 << 24
MOST_BYTES = 1_000_000
"""A longer line, or a longer record in quotes, is not read."""
SHOWN = 1000
TOO_LONG = f"the line is longer than {MOST_BYTES:,} bytes"
NOT_CLOSED = "a quote is opened in this line and never closed"
_PIECE = 1 << 16
_BOM = b"\xef\xbb\xbf"

# How pandas and Python's csv module read quotes: they count at the start of a field only, and "" is one of them.
_QUOTED = rb'(?:[^"]++|"")*+'
_OPENS = re.compile(rb'(?:(?:"' + _QUOTED + rb'"[^,]*+|[^",][^,]*+)?+,)*+"' + _QUOTED)
_CLOSES = re.compile(_QUOTED + rb'"')


class Lines(NamedTuple):
    """Some lines in a row.

    Attributes:
        lines: without their ends; one longer than MOST_BYTES is not whole.
        position: how many bytes of the file have been read so far.
        cut: the last line, if the file breaks off within it.
    """

    lines: list[bytes]
    position: int
    cut: bytes | None = None


def read_lines(path: Path, most: int) -> Iterator[Lines]:
    """All lines of a file, at most so many at a time.

    Raises:
        FileError: the file cannot be opened; or, after the lines before the damage, it cannot be read on.
    """
    with _opened(path) as raw:
        stream = gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
        rest, is_first = b"", True
        while True:
            data, damage = _block(stream)
            text = rest + (data.removeprefix(_BOM) if is_first else data)
            is_first = False
            if not data and not damage:
                if text:
                    yield from _in_parts(text, most, raw.tell())
                return
            whole, newline, rest = text.rpartition(b"\n")
            if newline:
                yield from _in_parts(whole, most, raw.tell())
            if damage:
                if rest:
                    yield Lines([], raw.tell(), rest)
                raise FileError(damage)
            rest = rest[: MOST_BYTES + 1]


def _opened(path: Path) -> io.BufferedReader:
    if not path.is_file():
        raise FileError("is not a file")
    try:
        return path.open("rb")
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}") from None


def _block(stream: io.BufferedReader | gzip.GzipFile) -> tuple[bytes, str]:
    """About BLOCK bytes; b'' at the end. And what keeps us from reading on, if something does."""
    pieces, size = [], 0
    try:
        # Small reads: gzip hands over what lies before the damage.
        while size < BLOCK and (piece := stream.read1(_PIECE)):
            pieces.append(piece)
            size += len(piece)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return b"".join(pieces), f"cannot be read: {reason}"
    return b"".join(pieces), ""


def _in_parts(text: bytes, most: int, position: int) -> Iterator[Lines]:
    lines = text.replace(b"\r\n", b"\n").removesuffix(b"\r").split(b"\n")
    for start in range(0, len(lines), most):
        yield Lines(lines[start : start + most], position)


def shown(line: bytes) -> str:
    """The line as text, what is not UTF-8 escaped; only the beginning of one too long."""
    kept = line if len(line) <= MOST_BYTES else line[:SHOWN] + b" ..."
    return kept.decode("utf-8", "backslashreplace")


def is_open(record: bytes) -> bool:
    """Whether a record of a CSV file ends within a quoted field."""
    return _OPENS.fullmatch(record) is not None


class Joiner:
    """Joins the lines of a CSV file that are one record, because a quoted field holds the ends of lines.

    A quote that is not closed within MOST_BYTES, or at all, costs its own line only: that line and those that were
    searched for its end are records by themselves, so that no file makes the search long.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def join(self, lines: list[bytes], is_end: bool = False) -> list[bytes]:
        """The records that the next lines complete."""
        lines, self._waiting = [*self._waiting, *lines], []
        odd = np.fromiter(map(bytes.count, lines, repeat(b'"')), dtype="int64", count=len(lines)) % 2 == 1
        records: list[bytes] = []
        at = alone = 0
        for start in np.flatnonzero(odd).tolist():
            if start < max(at, alone) or not is_open(lines[start]):
                continue
            end, is_closed = _end(lines, start)
            if is_closed:
                records += [*lines[at:start], b"\n".join(lines[start:end])]
                at = end
            elif end < len(lines) or is_end:
                alone = end
            else:
                self._waiting = lines[start:]
                return records + lines[at:start]
        return records + lines[at:]


def _end(lines: list[bytes], start: int) -> tuple[int, bool]:
    """Where the record that begins in an open line ends (after its last line), or the search for it; found or not."""
    size = len(lines[start])
    for at in range(start + 1, len(lines)):
        size += len(lines[at]) + 1
        if size > MOST_BYTES:
            return at, False
        closed = _CLOSES.match(lines[at])
        # What follows the closing quote belongs to the field, up to the next comma.
        if closed and not is_open(lines[at][closed.end() :].partition(b",")[2]):
            return at + 1, True
    return len(lines), False
