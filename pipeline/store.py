"""The lake: Delta tables that know when each row was known and when we saw it.

Writing is atomic (a Delta commit), repeatable (the same rows again change nothing) and loses nothing: a price
that a vendor changed moves the old row to `price_revisions`, a row that cannot be used goes to `quarantine`.
Every stage meets every other one here and nowhere else. Writers of one machine take turns by a file lock; against
others Delta's own conflict check holds, and the whole merge is tried again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from features import frames
from pipeline.config import Data
from pipeline.errors import StoreError

SCHEMA_VERSION = 1
COMMIT_ATTEMPTS = 8

T = TypeVar("T")


@dataclass(frozen=True)
class Upserted:
    """What an upsert did, in rows."""

    inserted: int
    revised: int
    unchanged: int

    def __add__(self, other: Upserted) -> Upserted:
        return Upserted(self.inserted + other.inserted, self.revised + other.revised, self.unchanged + other.unchanged)


class Lake:
    """The Delta tables under one directory.

    Args:
        root: the directory; it is made on the first write.

    Raises:
        StoreError: the directory was written by another schema version.
    """

    @classmethod
    def of(cls, data: Data) -> Lake:
        """The lake that the configuration names."""
        return cls(data.lake)

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._marker = self.root / "lake.json"
        if self._marker.is_file():
            version = json.loads(self._marker.read_text())["schema_version"]
            if version != SCHEMA_VERSION:
                raise StoreError(
                    f"{self.root} has lake schema {version}, this program reads {SCHEMA_VERSION}; "
                    "ingest into a new directory ([data] lake)"
                )

    # -- reading ------------------------------------------------------------------------------------------

    def exists(self, table: str) -> bool:
        """Whether `table` has been written."""
        return DeltaTable.is_deltatable(self._uri(table))

    def version(self, table: str) -> int | None:
        """The Delta version of `table`; None if it has not been written."""
        return DeltaTable(self._uri(table)).version() if self.exists(table) else None

    def versions(self, tables: Sequence[str] = ("prices", "news", "features")) -> dict[str, int]:
        """The Delta version of each of `tables` that exists: what a model records of its training data."""
        found = {table: self.version(table) for table in tables}
        return {table: version for table, version in found.items() if version is not None}

    def read(self, table: str, where: str = "TRUE", order_by: str = "") -> pd.DataFrame:
        """The rows of `table` for which the SQL condition holds.

        Sessions come as `datetime64[us]`, instants as `datetime64[us, UTC]`, the partition column is dropped.

        Raises:
            StoreError: the table has not been written, or cannot be read.
        """
        if not self.exists(table):
            raise StoreError(f"the lake at {self.root} has no table {table}; run the stage that writes it first")
        delta = DeltaTable(self._uri(table))
        query = f"SELECT * FROM t WHERE {where}" + (f" ORDER BY {order_by}" if order_by else "")
        try:
            arrow = pa.table(QueryBuilder().register("t", delta).execute(query).read_all())
        except DeltaError as error:
            raise StoreError(f"table {table} of {self.root} cannot be read: {error}") from error
        return _from_arrow(arrow)

    def prices(self, as_of: pd.Timestamp | None = None) -> pd.DataFrame:
        """Price rows by (ticker, session); with `as_of`, those publicly known at that instant (UTC).

        A later vendor revision takes effect when we saw it: before that, the replaced row is returned.
        """
        if as_of is None:
            return self.read("prices", order_by="ticker, session")
        at = f"known_at <= {_sql(as_of)}"
        rows = self.read("prices", at)
        if self.exists("price_revisions"):
            old = self.read("price_revisions", f"{at} AND replaced_at > {_sql(as_of)}")
            # Of several rows replaced later, the one replaced first was in force at `as_of`.
            old = old.sort_values("replaced_at").drop_duplicates(["ticker", "session"])
            rows = pd.concat([old.drop(columns="replaced_at"), rows]).drop_duplicates(["ticker", "session"])
        return rows.sort_values(["ticker", "session"]).reset_index(drop=True)

    def news(self, as_of: pd.Timestamp | None = None) -> pd.DataFrame:
        """News rows by (known_at, news_id); with `as_of`, those publicly known at that instant (UTC).

        An empty frame of the right columns if no news was ever ingested.
        """
        if not self.exists("news"):
            return empty("news")
        where = "TRUE" if as_of is None else f"known_at <= {_sql(as_of)}"
        return self.read("news", where, order_by="known_at, news_id")

    # -- writing ------------------------------------------------------------------------------------------

    def upsert_prices(self, rows: pd.DataFrame) -> Upserted:
        """Insert new (ticker, session) rows, move revised ones to `price_revisions`, leave equal ones alone.

        Args:
            rows: the `prices` contract; two rows of one key must not be there.
        """
        rows = frames.check("prices", rows)
        if rows.empty:
            return Upserted(0, 0, 0)
        return self._retried(lambda: self._merge_prices(rows))

    def add_news(self, rows: pd.DataFrame) -> Upserted:
        """Insert the news whose `news_id` is not there yet; known ones keep their first `known_at`."""
        rows = frames.check("news", rows)
        if rows.empty:
            return Upserted(0, 0, 0)
        return self._retried(lambda: self._insert_new("news", rows, "news_id"))

    def quarantine(self, table: str, reasons: Sequence[str], rows: Sequence[str], source: str) -> int:
        """Keep rejected rows as text, each with its reason; a row quarantined before is not doubled.

        Returns:
            How many were not there before.
        """
        if not rows:
            return 0
        ids = [
            hashlib.sha256("\x1f".join((table, source, reason, row)).encode()).hexdigest()[:24]
            for reason, row in zip(reasons, rows, strict=True)
        ]
        frame = pd.DataFrame(
            {"row_id": ids, "table": table, "reason": list(reasons), "source": source, "row": list(rows)}, dtype="str"
        )
        frame["quarantined_at"] = pd.Series(pd.Timestamp.now("UTC"), index=frame.index).astype(frames.INSTANT)
        frame = frames.check("quarantine", frame.drop_duplicates("row_id").reset_index(drop=True))
        return self._retried(lambda: self._insert_new("quarantine", frame, "row_id")).inserted

    def replace(self, table: str, rows: pd.DataFrame, where: str | None = None) -> bool:
        """Put `rows` in place of those for which `where` holds (all, if None), unless they are the same.

        Equality ignores `created_at`, so a repeated run leaves the table, and its version, as they are.

        Returns:
            Whether anything was written.
        """
        if table in frames.TABLES:
            rows = frames.check(table, rows)
        rows = rows.reset_index(drop=True)
        if self.exists(table):
            held = self.read(table, where or "TRUE")
            if _same(held, rows):
                return False
        self._retried(lambda: self._write(table, rows, mode="overwrite", predicate=where))
        return True

    # -- inside -------------------------------------------------------------------------------------------

    def _uri(self, table: str) -> str:
        return str(self.root / table)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread or process of this machine writes to the lake."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("w")
        except OSError as error:
            raise StoreError(f"the lake at {self.root} cannot be written: {error.strerror}") from None
        with lock as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes, also by a crash
            yield

    def _mark(self) -> None:
        if not self._marker.is_file():
            temporary = self._marker.with_suffix(".tmp")
            temporary.write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
            temporary.replace(self._marker)

    def _write(self, table: str, rows: pd.DataFrame, mode: str, predicate: str | None = None) -> None:
        self._mark()
        partition = ["year"] if table in ("prices", "features") else None
        exists = self.exists(table)
        arrow = _to_arrow(rows, partition is not None)
        if mode == "append":
            write_deltalake(self._uri(table), arrow, mode="append", partition_by=partition)
        elif predicate is not None and exists:
            write_deltalake(self._uri(table), arrow, mode="overwrite", partition_by=partition, predicate=predicate)
        else:
            write_deltalake(self._uri(table), arrow, mode="overwrite", partition_by=partition, schema_mode="overwrite")

    def _merge_prices(self, rows: pd.DataFrame) -> Upserted:
        if not self.exists("prices"):
            self._write("prices", rows.sort_values(["ticker", "session"]), mode="append")
            return Upserted(len(rows), 0, 0)
        first, last = rows["session"].min(), rows["session"].max()
        held = self.read("prices", f"session BETWEEN DATE '{first:%Y-%m-%d}' AND DATE '{last:%Y-%m-%d}'")
        both = rows.merge(held, on=["ticker", "session"], how="left", suffixes=("", "_held"), indicator=True)
        new = (both["_merge"] == "left_only").to_numpy()
        changed = np.zeros(len(rows), dtype=bool)
        for name in frames.PRICE_FIGURES:
            changed |= ~new & (both[name].to_numpy() != both[name + "_held"].to_numpy())
        if not (new | changed).any():
            return Upserted(0, 0, len(rows))
        if changed.any():
            self._keep_replaced(held, rows[changed])
        years = ", ".join(str(year) for year in sorted(rows.loc[new | changed, "session"].dt.year.unique()))
        (
            DeltaTable(self._uri("prices"))
            .merge(
                _to_arrow(rows[new | changed], with_year=True),
                predicate=f"t.year IN ({years}) AND t.year = s.year AND t.session = s.session AND t.ticker = s.ticker",
                source_alias="s",
                target_alias="t",
            )
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )
        return Upserted(int(new.sum()), int(changed.sum()), int((~new & ~changed).sum()))

    def _keep_replaced(self, held: pd.DataFrame, revised: pd.DataFrame) -> None:
        """Revisions are written before the merge and keyed by what they replace, so a crash in between neither
        loses nor doubles one."""
        keys = ["ticker", "session"]
        old = held.merge(revised[[*keys, "ingested_at"]].rename(columns={"ingested_at": "replaced_at"}), on=keys)
        self._insert_new("price_revisions", frames.check("price_revisions", old), "ticker, session, ingested_at")

    def _insert_new(self, table: str, rows: pd.DataFrame, key: str) -> Upserted:
        if rows.empty:
            return Upserted(0, 0, 0)
        if not self.exists(table):
            self._write(table, rows, mode="append")
            return Upserted(len(rows), 0, 0)
        match = " AND ".join(f"t.{name} = s.{name}" for name in key.split(", "))
        metrics = (
            DeltaTable(self._uri(table))
            .merge(_to_arrow(rows), predicate=match, source_alias="s", target_alias="t")
            .when_not_matched_insert_all()
            .execute()
        )
        inserted = int(metrics["num_target_rows_inserted"])
        return Upserted(inserted, 0, len(rows) - inserted)

    def _retried(self, write: Callable[[], T]) -> T:
        """Another writer may have committed first: the whole read-compare-merge is done again, after a wait."""
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                with self._turn():
                    return write()
            except CommitFailedError as error:
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise StoreError(f"{self.root}: another writer kept committing first: {error}") from error
                time.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable")


def empty(table: str) -> pd.DataFrame:
    """An empty frame with the columns and dtypes that the lake would return for `table`."""
    columns = frames.COLUMNS[table]
    return pd.DataFrame(columns=list(columns)).astype(columns)


def news_id(source: str, url: str, ticker: str, published_at: str, text: str) -> str:
    """The identity of a news item: its source and address, or, without one, its time and text."""
    parts = (source, ticker, url) if url else (source, ticker, published_at, text)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]


def _sql(instant: pd.Timestamp) -> str:
    if instant.tzinfo is None:
        raise StoreError(f"as_of {instant} has no time zone; give it one, like 2013-03-01T16:00-05:00")
    return f"TIMESTAMP '{instant.tz_convert('UTC'):%Y-%m-%d %H:%M:%S.%f}Z'"


def _to_arrow(rows: pd.DataFrame, with_year: bool = False) -> pa.Table:
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


def _from_arrow(table: pa.Table) -> pd.DataFrame:
    kept = table.drop_columns([name for name in ("year",) if name in table.column_names])
    frame: pd.DataFrame = kept.to_pandas()
    for name in frame.columns:
        if name == "session":
            frame[name] = pd.to_datetime(frame[name]).astype(frames.SESSION)
        elif isinstance(frame[name].dtype, pd.DatetimeTZDtype):
            frame[name] = frame[name].dt.tz_convert("UTC").astype(frames.INSTANT)
        elif frame[name].dtype == object:
            frame[name] = frame[name].astype("str")
    return frame


def _same(held: pd.DataFrame, rows: pd.DataFrame) -> bool:
    if list(held.columns) != list(rows.columns) or len(held) != len(rows):
        return False
    names = [name for name in rows.columns if name != "created_at"]
    keys = [name for name in names if not pd.api.types.is_float_dtype(rows[name])]
    ordered = [frame[names].sort_values(keys, ignore_index=True) for frame in (held, rows)]
    return ordered[0].equals(ordered[1])
