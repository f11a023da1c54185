"""Forecasts written a few rows at a time, whole or not at all: CSV, NPZ; Parquet and Arrow with the `arrow` extra."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy.typing as npt

from pipeline import npz
from pipeline.feature_rows import arrow

Columns = dict[str, npt.NDArray[Any]]
CSV_ROWS = 4096
"""Rows turned into text at a time: Python's numbers take four times the room of NumPy's."""


class ForecastFile:
    """A file that takes its name when the block ends well, and leaves nothing behind when it does not.

    Args:
        path: .csv, .npz, .parquet or .arrow; its directory is made.

    Raises:
        OSError: it cannot be written. DataError: pyarrow is needed and not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: _Writer | None = None
        self.rows = 0

    def append(self, columns: Columns) -> None:
        """Write rows; every call brings the same columns with the same dtypes."""
        if self._writer is None:
            self._writer = _WRITERS[self._path.suffix](self._partial, columns)
        self._writer.append(columns)
        self.rows += len(next(iter(columns.values())))

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None and self._writer is not None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)


class _Writer(Protocol):
    def __init__(self, path: Path, columns: Columns) -> None: ...

    def append(self, columns: Columns) -> None: ...

    def close(self) -> None: ...


class _Csv:
    def __init__(self, path: Path, columns: Columns) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(columns)

    def append(self, columns: Columns) -> None:
        values = list(columns.values())
        for at in range(0, len(values[0]), CSV_ROWS):
            some = (column[at : at + CSV_ROWS].tolist() for column in values)
            self._writer.writerows(zip(*some, strict=True))

    def close(self) -> None:
        self._file.close()


class _Npz:
    def __init__(self, path: Path, columns: Columns) -> None:
        self._writer = npz.Writer(path)

    def append(self, columns: Columns) -> None:
        self._writer.append(columns)

    def close(self) -> None:
        self._writer.close()


class _Arrow:
    def __init__(self, path: Path, columns: Columns) -> None:
        schema = arrow().table(columns).schema
        self._writer = arrow("ipc").new_file(str(path), schema)

    def append(self, columns: Columns) -> None:
        self._writer.write_table(arrow().table(columns))

    def close(self) -> None:
        self._writer.close()


class _Parquet(_Arrow):
    def __init__(self, path: Path, columns: Columns) -> None:
        self._writer = arrow("parquet").ParquetWriter(str(path), arrow().table(columns).schema)


_WRITERS: dict[str, type[_Writer]] = {".csv": _Csv, ".npz": _Npz, ".arrow": _Arrow, ".parquet": _Parquet}
