"""Rows of a Parquet file in chunks: figures as float64, dates and times as datetimes, everything else as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import frames
from pipeline.providers.file_paths import FileError
from pipeline.providers.tabular import Chunk, Ours, Table

MOST_CELLS = 4_000_000
"""A file of very many columns is read in smaller chunks."""
TIMES = ("session", "published_at")
_ERRORS = (
    pa.ArrowException, OSError, ValueError, TypeError, KeyError, ArithmeticError, NotImplementedError, MemoryError,
)  # fmt: skip
"""What pyarrow raises on a damaged file."""


def open_parquet(path: Path, most: int) -> Table:
    """Open a Parquet file; see `tabular.open_table`."""
    if not path.is_file():
        raise FileError("is not a file")
    try:
        # Column by column through a small buffer: the memory of a chunk, not of a row group.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
        columns = [str(name) for name in file.schema_arrow.names]
        total, size = file.metadata.num_rows, path.stat().st_size
    except _ERRORS as error:
        raise FileError(f"cannot be read: {_line(error)}") from None
    rows = max(1, min(most, MOST_CELLS // max(1, len(columns))))

    def chunks(ours: Ours) -> Iterator[Chunk]:
        done = 0
        batches = file.iter_batches(batch_size=rows)
        while True:
            try:
                batch = next(batches, None)
                chunk = None if batch is None else _chunk(batch, ours)
            except _ERRORS as error:
                raise FileError(f"cannot be read: {_line(error)}; it says that it has {total:,} rows") from None
            if chunk is None and done != total:
                raise FileError(f"cannot be read: it says that it has {total:,} rows")
            if chunk is None:
                return
            done += len(chunk.rows)
            yield chunk._replace(position=size * done // max(1, total))

    return Table(columns, chunks)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _chunk(batch: Any, ours: Ours) -> Chunk:
    columns = {}
    for at, column in enumerate(batch.schema.names):
        if name := ours(column):
            columns[name] = _column(batch.column(at), name)
    rows = pd.DataFrame(columns, index=pd.RangeIndex(batch.num_rows))
    return Chunk(rows, lambda positions: _lines(batch, positions), [], 0)


def _column(values: Any, name: str) -> pd.Series:
    """One column: figures as float64 (NaN where null), dates and times as datetimes, all else as text.

    A truth value or a time is no figure, and a number no time: such are text, and judged as that.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if name in frames.PRICE_FIGURES and (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    ):
        return pd.Series(pc.cast(values, pa.float64(), safe=False).to_pandas())
    if name in TIMES and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return _times(values)
    return _text(values)


def _times(values: Any) -> pd.Series:
    kind = values.type
    is_stamp = pa.types.is_timestamp(kind)
    try:
        # From nanoseconds nothing can overflow, but digits may be lost.
        exact = not (is_stamp and kind.unit == "ns")
        return pd.Series(values.cast(pa.timestamp("us", kind.tz if is_stamp else None), safe=exact).to_pandas())
    except (pa.ArrowException, ValueError, KeyError):  # a year beyond 290,000, or a zone that nobody knows
        return _text(values)


def _text(values: Any) -> pd.Series:
    """Text, '' where null; nested values and what is not UTF-8 spelt out."""
    kind = values.type
    try:
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            values = values.cast(pa.large_binary())
        elif pa.types.is_string(kind):
            values = values.cast(pa.binary())
        if _is_binary(values.type) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            # Parquet's text is not always UTF-8: only the cast from bytes looks.
            return pd.Series(values.cast(pa.large_string()).fill_null("").to_pandas()).astype("str")
    except (pa.ArrowException, ValueError, KeyError):
        pass
    return pd.Series([_shown(value) for value in values], dtype="str")


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _shown(value: Any) -> str:
    try:
        given = value.as_py()
    except _ERRORS:
        given = value.as_buffer().to_pybytes() if hasattr(value, "as_buffer") else f"(a {value.type} out of range)"
    if isinstance(given, bytes):
        return given.decode("utf-8", "backslashreplace")
    return "" if given is None else str(given).encode("utf-8", "backslashreplace").decode()


def _lines(batch: Any, positions: Sequence[int]) -> list[str]:
    """Rows as lines of CSV, all columns of the file."""
    return [_csv_line([_shown(column[at]) for column in batch.columns]) for at in positions]


def _csv_line(fields: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(fields)
    return buffer.getvalue()
