"""Features that come as rows: CSV, Parquet, Arrow, or the lake's table.

Rows are read once, a batch at a time, in any order. Their features go to an unnamed file on the way, keys and
volatilities stay in memory, some 25 bytes a row; then any ticker's sessions can be read, whatever the order was. What a
file itself holds in one piece, a page of Parquet or a compressed batch of Arrow, is read in one piece.
"""

from __future__ import annotations

import csv
import importlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.errors import DataError
from pipeline.feature_files import Cells, Float32, Ints, positions

if TYPE_CHECKING:
    from pipeline.config import Config

BATCH_ROWS = 1024
"""Rows read at a time; as text, a hundred columns of them take ten megabytes."""
BUFFER_BYTES = 1 << 16
KEYS = ("ticker", "session", "vol")
_NONE = np.zeros(0, np.int32)


class Rows(NamedTuple):
    """Some rows: ticker (R,) str, session (R,) datetime64[D], vol (R,) float32, x (R, F) float32; NaN = missing."""

    ticker: npt.NDArray[np.str_]
    session: npt.NDArray[np.datetime64]
    vol: Float32
    x: Float32


class RowFeatures:
    """Rows gathered into `pipeline.feature_files.Features`: tickers and sessions ascending.

    Args:
        source: what messages call it.
        batches: the rows; their features in the bundle's order.
        scratch: a directory for the unnamed file, as large as the features in float32.

    Raises:
        DataError: a (ticker, session) is there twice; and what `batches` raises.
    """

    is_coded = False

    def __init__(self, source: str, batches: Iterable[Rows], scratch: Path) -> None:
        self.source = source
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - it is read from until `close`
        tickers: list[npt.NDArray[np.int32]] = []
        days: list[npt.NDArray[np.int32]] = []
        vol: list[Float32] = []
        self._width = 0
        codes: dict[str, int] = {}
        for batch in batches:
            names, inverse = np.unique(batch.ticker, return_inverse=True)
            tickers.append(np.array([codes.setdefault(str(name), len(codes)) for name in names], np.int32)[inverse])
            days.append(batch.session.astype(np.int64).astype(np.int32))
            vol.append(batch.vol.copy())  # which may be a view of everything that was read with it
            self._file.write(np.ascontiguousarray(batch.x).data)
            self._width = batch.x.shape[1]
        self._file.flush()
        self.cell_bytes = 4 * self._width
        self._index(codes, np.concatenate(tickers or [_NONE]), np.concatenate(days or [_NONE]))
        self.vol = np.full((len(self.tickers), len(self.sessions)), np.nan, np.float32)
        if vol:
            self.vol.ravel()[self._cells] = np.concatenate(vol)[self._order]

    def _index(self, codes: dict[str, int], tickers: npt.NDArray[np.int32], days: npt.NDArray[np.int32]) -> None:
        self.tickers = np.array(sorted(codes), dtype=str)
        rank = np.empty(len(codes), np.int64)
        rank[[codes[str(name)] for name in self.tickers]] = np.arange(len(codes))
        known = np.unique(days)
        self.sessions = known.astype("datetime64[D]")
        cells = rank[tickers] * len(known) + np.searchsorted(known, days)
        self._order = np.argsort(cells, kind="stable")  # rows by ticker and session
        self._cells = cells[self._order]
        twice = np.flatnonzero(np.diff(self._cells) == 0)
        if len(twice):
            n, t = divmod(int(self._cells[twice[0]]), len(known))
            raise DataError(
                f"{self.source} holds a (ticker, session) twice, like {self.tickers[n]} on {self.sessions[t]}"
            )

    def windows(self, n: Ints, t: Ints, length: int) -> Cells:
        """See `Features`."""
        first = n * len(self.sessions) + t - length + 1
        return Cells(np.stack([self._dense(int(cell), length) for cell in first]), None)

    def panel(self, rows: slice, field: int) -> Cells:
        """See `Features`."""
        first, stop, _ = rows.indices(len(self.tickers))
        whole = len(self.sessions)
        return Cells(self._dense(first * whole, (stop - first) * whole).reshape(stop - first, whole, -1), None)

    def close(self) -> None:
        """See `Features`."""
        self._file.close()

    def _dense(self, first: int, count: int) -> Float32:
        """(count, F) cells from `first` on, ticker after ticker; NaN where there is no row."""
        low, high = np.searchsorted(self._cells, [first, first + count])
        x = np.full((count, self._width), np.nan, np.float32)
        at, rows = self._cells[low:high] - first, self._order[low:high]
        ends = np.flatnonzero(np.diff(rows, append=-1) != 1) + 1  # runs that lie together in the file
        begin = 0
        for end in ends.tolist():
            x[at[begin:end]] = self._read(int(rows[begin]), end - begin)
            begin = end
        return x

    def _read(self, first: int, count: int) -> Float32:
        size = 4 * self._width
        content = os.pread(self._file.fileno(), count * size, first * size)
        return np.frombuffer(content, np.float32).reshape(count, self._width)


def from_file(path: Path, names: tuple[str, ...]) -> Iterator[Rows]:
    """The rows of a CSV, Parquet or Arrow (IPC) file; columns are matched by name, whatever their order.

    Raises:
        DataError: a damaged file, a missing column (named), a value that is no number or no date.
    """
    read = {".csv": _csv_columns, ".parquet": _parquet_columns, ".arrow": _arrow_columns}[path.suffix]
    try:
        for columns in read(path, names):
            yield _rows(str(path), columns, names)
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def from_lake(config: Config, names: tuple[str, ...]) -> Iterator[Rows]:
    """The rows of the lake's `features` table, a year at a time; needs the `pipeline` extra.

    Raises:
        StoreError: there is no such table. DataError: a feature is missing.
    """
    from pipeline.store import Lake

    lake = Lake.of(config.data)
    held = lake.tables.open("features")
    wanted = (*KEYS, *names)
    positions(f"the lake {lake.root}", lake.columns("features"), wanted)
    chosen = ", ".join(f'"{name}"' for name in wanted)
    years = lake.tables.query_arrow("SELECT DISTINCT year FROM t ORDER BY year", t=held)
    for year in years.column("year").to_pylist():
        table = lake.tables.query_arrow(f"SELECT {chosen} FROM t WHERE year = {year}", t=held)
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            yield _rows(f"the lake {lake.root}", _arrow_arrays(batch, wanted), names)


def _csv_columns(path: Path, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        wanted = (*KEYS, *names)
        at = positions(str(path), header, wanted)
        rows: list[list[str]] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(f"{path} line {reader.line_num} has {len(row)} values, the header has {len(header)}")
            rows.append(row)
            if len(rows) == BATCH_ROWS:
                yield _csv_batch(rows, wanted, at)
                rows = []
        if rows:
            yield _csv_batch(rows, wanted, at)


def _csv_batch(rows: list[list[str]], wanted: tuple[str, ...], at: list[int]) -> dict[str, Any]:
    texts = {name: [row[i] for row in rows] for name, i in zip(wanted, at, strict=True)}
    figures = {name: [value or "nan" for value in texts[name]] for name in wanted[2:]}
    return {name: np.array(texts[name]) for name in wanted[:2]} | figures


def _parquet_columns(path: Path, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    wanted = (*KEYS, *names)
    # Without these two a whole row group, and files often have one, would be read ahead.
    with arrow("parquet").ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
        positions(str(path), file.schema_arrow.names, wanted)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted), use_threads=False):
            yield _arrow_arrays(batch, wanted)


def _arrow_columns(path: Path, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    wanted = (*KEYS, *names)
    ipc = arrow("ipc")
    with arrow().memory_map(str(path)) as source:
        with ipc.open_file(source) as file:
            chosen = positions(str(path), file.schema.names, wanted)
        # A compressed batch is unpacked whole, and files often have one: only the columns that are needed.
        with ipc.open_file(source, options=ipc.IpcReadOptions(included_fields=chosen)) as file:
            for i in range(file.num_record_batches):
                batch = file.get_batch(i)
                for first in range(0, batch.num_rows, BATCH_ROWS):
                    yield _arrow_arrays(batch.slice(first, BATCH_ROWS), wanted)


def _arrow_arrays(batch: Any, wanted: tuple[str, ...]) -> dict[str, Any]:
    return {name: batch.column(name).to_numpy(zero_copy_only=False) for name in wanted}


def arrow(module: str = "") -> Any:
    """pyarrow, or a module of it.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError:
        raise DataError("Parquet and Arrow need pyarrow: pip install 'tradewind[arrow]'") from None


def _rows(source: str, columns: dict[str, Any], names: tuple[str, ...]) -> Rows:
    vol, *features = (_figures(source, name, columns[name]) for name in ("vol", *names))
    days = _dates(source, np.asarray(columns["session"]))
    return Rows(np.asarray(columns["ticker"]).astype(str), days, vol, np.stack(features, axis=-1))


def _figures(source: str, name: str, values: Any) -> Float32:
    try:
        return np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}, column {name}: {error}") from None


def _dates(source: str, values: npt.NDArray[Any]) -> npt.NDArray[np.datetime64]:
    try:
        dates = np.asarray(values.astype("datetime64[D]"))
    except ValueError as error:
        raise DataError(f"{source}, column session: {error}") from None
    if np.isnat(dates).any():
        raise DataError(f"{source}, column session: a row has no date")
    return dates
