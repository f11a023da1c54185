"""Delta tables in one place, a local directory or an object store: reading, and commits that never overwrite.

Every commit is a compare-and-swap: it must be the very next version after the one that was read, else it fails and
the whole read-compare-write is done again. So two writers, of one machine or of several, never lose or double a row.
Writers of one machine also take turns by a file lock, which saves them the retries.
"""

from __future__ import annotations

import fcntl
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    QueryBuilder,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from features import frames
from pipeline.errors import StoreError

COMMIT_ATTEMPTS = 12
FIRST_WAIT = 0.05
"""Seconds before a commit is tried again; doubled each time up to LONGEST_WAIT, plus up to as much at random."""
LONGEST_WAIT = 2.0
MARKER = "lake"
STORES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
PATIENCE = {"max_retries": "4", "retry_timeout": "30s", "connect_timeout": "10s", "timeout": "60s"}
"""How long the client of an object store tries, unless the options say otherwise; its own default is minutes."""
NEXT_VERSION_ONLY = CommitProperties(max_commit_retries=0)

T = TypeVar("T")


class Size(NamedTuple):
    """One table: its Delta version, its rows, its files and their bytes."""

    version: int
    rows: int
    files: int
    bytes: int


class Tables:
    """The Delta tables under one address.

    Args:
        root: a directory, or the address of an object store like s3://bucket/lake.
        options: storage options of the object store, on top of its environment variables.

    Raises:
        StoreError: an address of an unknown kind.
    """

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        self.root = root
        scheme, separator, _ = root.partition("://")
        if separator and scheme not in STORES:
            raise StoreError(f"{root}: unknown kind of object store {scheme}://; use {', '.join(STORES)}")
        self.is_remote = bool(separator)
        # A store without conditional writes cannot tell two writers apart: S3 is asked for them by etag.
        remote = {**PATIENCE, "aws_conditional_put": "etag"} if self.is_remote else {}
        self.options = {**remote, **options}

    # -- reading ------------------------------------------------------------------------------------------

    def exists(self, table: str) -> bool:
        """Whether `table` has been written."""
        with self._reading(table):
            return DeltaTable.is_deltatable(self._uri(table), storage_options=self.options)

    def open(self, table: str, version: int | None = None) -> DeltaTable:
        """One version of a table, the newest by default: everything read through it is of that moment.

        Raises:
            StoreError: there is no such table or version.
        """
        if not self.exists(table):
            raise StoreError(f"the lake at {self.root} has no table {table}; run the stage that writes it first")
        with self._reading(table):
            return DeltaTable(self._uri(table), version=version, storage_options=self.options)

    def query(self, sql: str, **tables: DeltaTable) -> pd.DataFrame:
        """The result of a SELECT over opened tables, each under the name it is passed by.

        Sessions come as `datetime64[us]`, instants as `datetime64[us, UTC]`, the partition column is dropped.
        """
        return from_arrow(self.query_arrow(sql, **tables))

    def query_arrow(self, sql: str, **tables: DeltaTable) -> pa.Table:
        """`query` as an Arrow table."""
        builder = QueryBuilder()
        for name, table in tables.items():
            builder = builder.register(name, table)
        with self._reading(", ".join(tables)):
            return pa.table(builder.execute(sql).read_all())

    # -- writing ------------------------------------------------------------------------------------------

    def append(self, table: str, held: DeltaTable | None, rows: pa.Table, partition: list[str] | None) -> None:
        """Add rows to the version that was read; None makes the table.

        Raises:
            CommitFailedError: it is not the newest version any more, or the table exists by now.
        """
        if held is None:
            try:
                write_deltalake(
                    self._uri(table),
                    rows,
                    mode="error",
                    partition_by=partition,
                    storage_options=self.options,
                    commit_properties=NEXT_VERSION_ONLY,
                    writer_properties=_encoding(rows.schema),
                )
            except DeltaError as error:
                if "already exists" in str(error):
                    raise CommitFailedError(str(error)) from None
                raise
        else:
            write_deltalake(
                held, rows, mode="append", commit_properties=NEXT_VERSION_ONLY, writer_properties=_encoding(rows.schema)
            )

    def merge(self, held: DeltaTable, rows: pa.Table, predicate: str) -> None:
        """Update the rows of the version that was read (`t`) which match a source row (`s`), insert the others.

        Raises:
            CommitFailedError: it is not the newest version any more.
        """
        (
            held.merge(
                rows,
                predicate=predicate,
                source_alias="s",
                target_alias="t",
                commit_properties=NEXT_VERSION_ONLY,
                writer_properties=_encoding(rows.schema),
            )
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )

    def overwrite(self, table: str, rows: pa.Table, partition: list[str] | None, predicate: str | None) -> None:
        """Put rows in place of those that match the predicate; None replaces the whole table and its columns."""
        if predicate is not None and self.exists(table):
            write_deltalake(
                self._uri(table),
                rows,
                mode="overwrite",
                partition_by=partition,
                predicate=predicate,
                storage_options=self.options,
                writer_properties=_encoding(rows.schema),
            )
        else:
            write_deltalake(
                self._uri(table),
                rows,
                mode="overwrite",
                partition_by=partition,
                schema_mode="overwrite",
                storage_options=self.options,
                writer_properties=_encoding(rows.schema),
            )

    def committed(self, write: Callable[[], T]) -> T:
        """Do a whole read-compare-write; again after a wait while another writer commits first.

        Raises:
            StoreError: that kept happening, or the place cannot be written.
        """
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                with self._turn():
                    return write()
            except CommitFailedError as error:
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise StoreError(f"{self.root}: another writer kept committing first: {error}") from error
                time.sleep(min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * (1 + random.random()))
            except (DeltaError, OSError) as error:
                raise StoreError(f"the lake at {self.root} cannot be written: {_line(error)}") from error
        raise AssertionError("unreachable")

    def read_marker(self) -> dict[str, int] | None:
        """The lake's own notes; None where nothing was written yet."""
        if self.is_remote:
            if not self.exists(MARKER):
                return None
            notes = self.query_arrow("SELECT * FROM t", t=self.open(MARKER)).to_pylist()
            return {row["key"]: row["value"] for row in notes}
        file = Path(self.root) / f"{MARKER}.json"
        return json.loads(file.read_text()) if file.is_file() else None

    def write_marker(self, content: dict[str, int]) -> None:
        """Write the lake's own notes, whole or not at all: a small file, or a table where only tables can be."""
        if self.is_remote:
            rows = pa.table({"key": list(content), "value": pa.array(content.values(), pa.int64())})
            self.overwrite(MARKER, rows, None, None)
            return
        file = Path(self.root) / f"{MARKER}.json"
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content))
        temporary.replace(file)

    # -- upkeep -------------------------------------------------------------------------------------------

    def size(self, table: str) -> Size:
        """How much a table holds, now."""
        held = self.open(table)
        actions = pa.table(held.get_add_actions(flatten=True))
        rows, stored = (pc.sum(actions.column(name)).as_py() or 0 for name in ("num_records", "size_bytes"))
        return Size(held.version(), rows, actions.num_rows, stored)

    def compact(self, table: str) -> tuple[int, int]:
        """Merge the small files that many writes leave; every version stays readable.

        Returns:
            The number of files before and after.
        """
        before = len(self.open(table).file_uris())
        self.committed(
            lambda: (held := self.open(table)).optimize.compact(
                commit_properties=NEXT_VERSION_ONLY, writer_properties=_encoding(pa.schema(held.schema().to_arrow()))
            )
        )
        return before, len(self.open(table).file_uris())

    def vacuum(self, table: str, days: int) -> int:
        """Delete the files that no version of the last `days` days needs; older versions cannot be read any more.

        Returns:
            How many were deleted.
        """
        return len(self.open(table).vacuum(days * 24, dry_run=False, enforce_retention_duration=False))

    # -- inside -------------------------------------------------------------------------------------------

    def _uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    @contextmanager
    def _reading(self, table: str) -> Iterator[None]:
        try:
            yield
        except (DeltaError, OSError) as error:
            what = f"the lake at {self.root}" if table == MARKER else f"table {table} of {self.root}"
            raise StoreError(f"{what} cannot be read: {_line(error)}") from error

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread or process of this machine writes to the lake."""
        if self.is_remote:
            yield
            return
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            lock = (Path(self.root) / ".lock").open("w")
        except OSError as error:
            raise StoreError(f"the lake at {self.root} cannot be written: {error.strerror}") from None
        with lock as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes, also by a crash
            yield


def _encoding(schema: pa.Schema) -> WriterProperties:
    """How columns are stored: a dictionary for text alone.

    Figures hardly repeat, and looking each one up takes ten times as long as writing it.
    """
    text = [field.name for field in schema if not pa.types.is_floating(field.type)]
    return WriterProperties(
        compression="SNAPPY",
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={name: ColumnProperties(dictionary_enabled=True) for name in text},
    )


def quoted(text: str) -> str:
    """Text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def to_arrow(rows: pd.DataFrame, with_year: bool = False) -> pa.Table:
    """A frame in the types of the lake: dates, instants in UTC, plain strings; `with_year` adds the partition."""
    if with_year:
        rows = rows.assign(year=rows["session"].dt.year.astype("int32"))
    table = pa.Table.from_pandas(rows.reset_index(drop=True), preserve_index=False)
    if "session" in table.column_names:
        at = table.column_names.index("session")
        table = table.set_column(at, "session", table.column("session").cast(pa.date32()))
    for at, field in enumerate(table.schema):
        if pa.types.is_large_string(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(pa.string()))
    return table.replace_schema_metadata(None)


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """The inverse of `to_arrow`."""
    kept = table.drop_columns([name for name in ("year",) if name in table.column_names])
    frame: pd.DataFrame = kept.to_pandas()
    dates = {field.name for field in kept.schema if pa.types.is_date(field.type)}
    for name in frame.columns:
        if name in dates:
            frame[name] = pd.to_datetime(frame[name]).astype(frames.SESSION)
        elif isinstance(frame[name].dtype, pd.DatetimeTZDtype):
            frame[name] = frame[name].dt.tz_convert("UTC").astype(frames.INSTANT)
        elif frame[name].dtype == object:
            frame[name] = frame[name].astype("str")
    return frame


def _line(error: BaseException) -> str:
    """The first lines of a message of the store's client, without its arrows and colours, in one."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).replace("\x1b[31m↳\x1b[0m", "").split())[:400]
