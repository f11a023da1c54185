"""The lake: Delta tables that know when each row was known and when we saw it.

Writing is atomic (a Delta commit), repeatable (the same rows again change nothing) and loses nothing: a price
that a vendor changed moves the old row to `price_revisions`, a row that cannot be used goes to `quarantine`.
Every stage meets every other one here and nowhere else. How commits keep writers apart: pipeline/delta.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from features import frames
from pipeline.config import Data
from pipeline.delta import Tables, quoted, to_arrow
from pipeline.errors import StoreError

SCHEMA_VERSION = 1
PARTITIONED = ("prices", "features", "targets")
FEW_TICKERS = 200
"""A batch of no more tickers than this reads only their bars to compare with."""
SOURCES = "features:sources"
"""Key of the state that holds, as JSON, the Delta versions that the features were computed from."""
SMALL_FILES = 48
"""More files than this beyond one a partition, and an ingestion ends with compacting the table."""

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
    """The Delta tables under one address.

    Args:
        root: a directory, made on the first write; or the address of an object store, like s3://bucket/lake.
        options: storage options of the object store.
        as_of: the instant that `prices` and `news` are read at unless they are told another; None for now.

    Raises:
        StoreError: the place was written by another schema version, or cannot be reached.
    """

    @classmethod
    def of(cls, data: Data) -> Lake:
        """The lake that the configuration names, at the instant it names."""
        return cls(data.lake, data.storage_options, None if data.as_of is None else pd.Timestamp(data.as_of))

    def __init__(
        self, root: str | Path, options: Mapping[str, str] | None = None, as_of: pd.Timestamp | None = None
    ) -> None:
        self.root = str(root)
        self.as_of = as_of
        self.tables = Tables(self.root, options or {})
        marker = self.tables.read_marker()
        self._is_marked = marker is not None
        if marker is not None and marker["schema_version"] != SCHEMA_VERSION:
            raise StoreError(
                f"{self.root} has lake schema {marker['schema_version']}, this program reads {SCHEMA_VERSION}; "
                "ingest into a new directory ([data] lake)"
            )

    # -- reading ------------------------------------------------------------------------------------------

    def exists(self, table: str) -> bool:
        """Whether `table` has been written."""
        return self.tables.exists(table)

    def version(self, table: str) -> int | None:
        """The Delta version of `table`; None if it has not been written."""
        return self.tables.open(table).version() if self.exists(table) else None

    def versions(self, tables: Sequence[str] = ("prices", "news", "features")) -> dict[str, int]:
        """The Delta version of each of `tables` that exists: what a model records of its training data."""
        found = {table: self.version(table) for table in tables}
        return {table: version for table, version in found.items() if version is not None}

    def read(self, table: str, where: str = "TRUE", order_by: str = "", version: int | None = None) -> pd.DataFrame:
        """The rows of `table` for which the SQL condition holds, as they are now or were at a Delta version.

        Sessions come as `datetime64[us]`, instants as `datetime64[us, UTC]`, the partition column is dropped.

        Raises:
            StoreError: the table has not been written, or cannot be read.
        """
        held = self.tables.open(table, version)
        return self.tables.query(
            f"SELECT * FROM t WHERE {where}" + (f" ORDER BY {order_by}" if order_by else ""), t=held
        )

    def prices(
        self, as_of: pd.Timestamp | None = None, where: str = "TRUE", wanted: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Price rows by (ticker, session); with `as_of`, those publicly known at that instant (UTC).

        A later vendor revision takes effect when we saw it: before that, the replaced row is returned.

        Args:
            as_of: another instant than the lake's own.
            where: an SQL condition on top.
            wanted: the columns; all if empty.
        """
        as_of, chosen = as_of or self.as_of, ", ".join(wanted) or "*"
        known = where if as_of is None else f"known_at <= {_sql(as_of)} AND ({where})"
        if as_of is None or not self.exists("price_revisions"):
            sql = f"SELECT {chosen} FROM t WHERE {known} ORDER BY ticker, session"
            return self.tables.query(sql, t=self.tables.open("prices"))
        # Of several rows replaced after `as_of`, the one replaced first was in force.
        columns = ", ".join(frames.COLUMNS["prices"])
        return self.tables.query(
            f"""
            WITH replaced AS (
                SELECT {columns}, row_number() OVER (PARTITION BY ticker, session ORDER BY replaced_at) AS n
                FROM r WHERE {known} AND replaced_at > {_sql(as_of)}
            ), in_force AS (SELECT {columns} FROM replaced WHERE n = 1)
            SELECT {chosen} FROM (
                SELECT {columns} FROM p WHERE {known} AND NOT EXISTS
                    (SELECT 1 FROM in_force f WHERE f.ticker = p.ticker AND f.session = p.session)
                UNION ALL SELECT {columns} FROM in_force
            ) ORDER BY ticker, session
            """,
            p=self.tables.open("prices"),
            r=self.tables.open("price_revisions"),
        )

    def news(self, as_of: pd.Timestamp | None = None, where: str = "TRUE") -> pd.DataFrame:
        """News rows by (known_at, news_id); with `as_of`, those publicly known at that instant (UTC).

        An empty frame of the right columns if no news was ever ingested.

        Args:
            as_of: another instant than the lake's own.
            where: an SQL condition on top.
        """
        as_of = as_of or self.as_of
        if not self.exists("news"):
            return empty("news")
        known = "TRUE" if as_of is None else f"known_at <= {_sql(as_of)}"
        return self.read("news", f"{known} AND ({where})", order_by="known_at, news_id")

    def headlines(self) -> tuple[int, int]:
        """How many headlines are publicly known at the lake's instant, and how many of them are simulated."""
        if not self.exists("news"):
            return 0, 0
        where = "TRUE" if self.as_of is None else f"known_at <= {_sql(self.as_of)}"
        sql = f"SELECT count(*) AS n, count(*) FILTER (WHERE source = 'simulated') AS simulated FROM t WHERE {where}"
        row = self.tables.query_arrow(sql, t=self.tables.open("news")).to_pylist()[0]
        return row["n"], row["simulated"]

    def span(self, table: str) -> tuple[int, pd.Timestamp, pd.Timestamp, list[str]]:
        """How many rows a table of (ticker, session) has, its first and last session, its tickers in order."""
        sql = "SELECT ticker, count(*) AS n, min(session) AS first, max(session) AS last FROM t GROUP BY ticker"
        rows = self.tables.query(f"{sql} ORDER BY ticker", t=self.tables.open(table))
        return int(rows["n"].sum()), rows["first"].min(), rows["last"].max(), [str(ticker) for ticker in rows["ticker"]]

    def columns(self, table: str) -> list[str]:
        """The columns of a table, without the one it is partitioned by."""
        return [str(field.name) for field in self.tables.open(table).schema().fields if field.name != "year"]

    def coverage(self) -> pd.DataFrame:
        """One row a ticker: ticker, sessions (how many), first, last, assumed.

        `assumed` counts the bars that were back-filled, seen more than a week after they were known: nobody can
        tell whether the vendor had changed them by then.
        """
        return self.tables.query(
            """
            SELECT ticker, count(*) AS sessions, min(session) AS first, max(session) AS last,
                sum(CASE WHEN ingested_at > known_at + INTERVAL '7 days' THEN 1 ELSE 0 END) AS assumed
            FROM p GROUP BY ticker ORDER BY ticker
            """,
            p=self.tables.open("prices"),
        )

    def recent_prices(self, sessions: int) -> pd.DataFrame:
        """The last bars of every ticker, at most `sessions` each, by ticker and session."""
        if not self.exists("prices"):
            return empty("prices")
        columns = ", ".join(frames.COLUMNS["prices"])
        return self.tables.query(
            f"""
            SELECT {columns} FROM (
                SELECT *, row_number() OVER (PARTITION BY ticker ORDER BY session DESC) AS n FROM p
            ) WHERE n <= {sessions} ORDER BY ticker, session
            """,
            p=self.tables.open("prices"),
        )

    def state(self) -> dict[str, str]:
        """What providers and stages left for their next run, by key."""
        if not self.exists("state"):
            return {}
        rows = self.read("state")
        return dict(zip(rows["key"], rows["value"], strict=True))

    # -- writing ------------------------------------------------------------------------------------------

    def upsert_prices(self, rows: pd.DataFrame) -> Upserted:
        """Insert new (ticker, session) rows, move revised ones to `price_revisions`, leave equal ones alone.

        Args:
            rows: the `prices` contract; two rows of one key must not be there.
        """
        rows = frames.check("prices", rows)
        return self._committed(lambda: self._upsert_prices(rows)) if len(rows) else Upserted(0, 0, 0)

    def add_news(self, rows: pd.DataFrame) -> Upserted:
        """Insert the news whose `news_id` is not there yet; known ones keep their first `known_at`."""
        return self.append_new("news", rows, "news_id")

    def append_new(self, table: str, rows: pd.DataFrame, key: str) -> Upserted:
        """Insert the rows of an append-only table whose `key` is not there yet; what is there is never changed."""
        rows = frames.check(table, rows)
        return self._committed(lambda: self._append_new(table, rows, key)) if len(rows) else Upserted(0, 0, 0)

    def quarantine(self, table: str, reasons: Sequence[str], rows: Sequence[str], sources: Sequence[str]) -> int:
        """Keep rejected rows as text, each with its reason and source; one quarantined before is not doubled.

        Returns:
            How many were not there before.
        """
        if not rows:
            return 0
        ids = [
            hashlib.sha256("\x1f".join((table, *parts)).encode("utf-8", "surrogatepass")).hexdigest()[:24]
            for parts in zip(sources, reasons, rows, strict=True)
        ]
        texts = [row.encode("utf-8", "backslashreplace").decode() for row in rows]
        frame = pd.DataFrame(
            {"row_id": ids, "table": table, "reason": list(reasons), "source": list(sources), "row": texts}, dtype="str"
        )
        frame["quarantined_at"] = pd.Series(pd.Timestamp.now("UTC"), index=frame.index).astype(frames.INSTANT)
        frame = frame.drop_duplicates("row_id").reset_index(drop=True)
        return self.append_new("quarantine", frame, "row_id").inserted

    def keep_state(self, state: Mapping[str, str]) -> None:
        """Keep a text by key, in place of what was there."""
        held = self.state()
        changed = {key: value for key, value in state.items() if held.get(key) != value}
        if not changed:
            return
        rows = pd.DataFrame({"key": list(changed), "value": list(changed.values())}, dtype="str")
        rows["updated_at"] = pd.Series(pd.Timestamp.now("UTC"), index=rows.index).astype(frames.INSTANT)
        rows = frames.check("state", rows)
        self._committed(lambda: self._put("state", rows, ("key",)))

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
        arrow = to_arrow(rows, table in PARTITIONED)
        partition = ["year"] if table in PARTITIONED else None
        self._committed(lambda: self.tables.overwrite(table, arrow, partition, where))
        return True

    def tidy(self) -> None:
        """Compact the tables that ingestion appends to, once they have gathered many small files."""
        for table in ("prices", "news", "quarantine", "price_revisions"):
            held = self._opened(table)
            if held is not None and len(held.file_uris()) > SMALL_FILES + len(held.partitions()):
                self.tables.compact(table)

    # -- inside -------------------------------------------------------------------------------------------

    def _committed(self, write: Callable[[], T]) -> T:
        def marked() -> T:
            if not self._is_marked:
                self.tables.write_marker({"schema_version": SCHEMA_VERSION})
                self._is_marked = True
            return write()

        return self.tables.committed(marked)

    def _opened(self, table: str) -> DeltaTable | None:
        return self.tables.open(table) if self.exists(table) else None

    def _upsert_prices(self, rows: pd.DataFrame) -> Upserted:
        held = self._opened("prices")
        new, changed = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        if held is not None:
            before = self.tables.query(f"SELECT * FROM t WHERE {_reach(rows)}", t=held)
            new, changed = _compared(before, rows)
            if changed.any():
                self._keep_replaced(before, rows[changed])
        touched = to_arrow(rows[new | changed].sort_values(["ticker", "session"]), with_year=True)
        if held is not None and changed.any():
            years = ", ".join(str(year) for year in pc.unique(touched.column("year")).to_pylist())
            keys = "t.year = s.year AND t.session = s.session AND t.ticker = s.ticker"
            self.tables.merge(held, touched, f"t.year IN ({years}) AND {keys}")
        elif new.any():
            self.tables.append("prices", held, touched, ["year"])
        return Upserted(int(new.sum()), int(changed.sum()), int((~new & ~changed).sum()))

    def _keep_replaced(self, held: pd.DataFrame, revised: pd.DataFrame) -> None:
        """Revisions are written before the merge and keyed by what they replace, so a crash in between neither loses
        nor doubles one; the attempt that succeeds sets the time."""
        keys = ["ticker", "session"]
        old = held.merge(revised[[*keys, "ingested_at"]].rename(columns={"ingested_at": "replaced_at"}), on=keys)
        self._put("price_revisions", frames.check("price_revisions", old), (*keys, "ingested_at"))

    def _put(self, table: str, rows: pd.DataFrame, keys: tuple[str, ...]) -> None:
        """Insert rows, or replace those of the same keys."""
        held = self._opened(table)
        if held is None:
            self.tables.append(table, None, to_arrow(rows), None)
        else:
            self.tables.merge(held, to_arrow(rows), " AND ".join(f"t.{key} = s.{key}" for key in keys))

    def _append_new(self, table: str, rows: pd.DataFrame, key: str) -> Upserted:
        held = self._opened(table)
        if held is not None:
            there = self.tables.query_arrow(f"SELECT {key} FROM t", t=held).column(key).cast(pa.string())
            ours = pa.array(rows[key].to_numpy(dtype=object), pa.string())
            rows_new = rows[~pc.is_in(ours, value_set=there).to_numpy(zero_copy_only=False)]
        else:
            rows_new = rows
        if len(rows_new):
            self.tables.append(table, held, to_arrow(rows_new), None)
        return Upserted(len(rows_new), 0, len(rows) - len(rows_new))


def empty(table: str) -> pd.DataFrame:
    """An empty frame with the columns and dtypes that the lake would return for `table`."""
    columns = frames.COLUMNS[table]
    return pd.DataFrame(columns=list(columns)).astype(columns)


def news_id(source: str, url: str, ticker: str, published_at: str, text: str) -> str:
    """The identity of a news item: its source and address, or, without one, its time and text."""
    parts = (source, ticker, url) if url else (source, ticker, published_at, text)
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _reach(rows: pd.DataFrame) -> str:
    """A condition that holds for every bar that `rows` could meet, and for few others."""
    first, last = rows["session"].min(), rows["session"].max()
    where = (
        f"year BETWEEN {first.year} AND {last.year} "
        f"AND session BETWEEN DATE '{first:%Y-%m-%d}' AND DATE '{last:%Y-%m-%d}'"
    )
    tickers = rows["ticker"].unique()
    return f"{where} AND ticker IN ({', '.join(map(quoted, tickers))})" if len(tickers) <= FEW_TICKERS else where


def _compared(held: pd.DataFrame, rows: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which of `rows` are new, and which differ in a figure from the held bar of their ticker and session."""
    if held.empty:
        return np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    keys = ["ticker", "session"]
    numbered = held[keys].assign(at=np.arange(len(held)))
    at = rows[keys].merge(numbered, on=keys, how="left")["at"].fillna(-1).to_numpy(dtype=np.int64)
    figures = list(frames.PRICE_FIGURES)
    differs = (held[figures].to_numpy()[at] != rows[figures].to_numpy()).any(axis=1)
    return at < 0, (at >= 0) & differs


def _sql(instant: pd.Timestamp) -> str:
    if instant.tzinfo is None:
        raise StoreError(f"as_of {instant} has no time zone; give it one, like 2013-03-01T16:00-05:00")
    return f"TIMESTAMP '{instant.tz_convert('UTC'):%Y-%m-%d %H:%M:%S.%f}Z'"


def _same(held: pd.DataFrame, rows: pd.DataFrame) -> bool:
    if list(held.columns) != list(rows.columns) or len(held) != len(rows):
        return False
    names = [name for name in rows.columns if name != "created_at"]
    keys = [name for name in names if not pd.api.types.is_float_dtype(rows[name])]
    ordered = [frame[names].sort_values(keys, ignore_index=True) for frame in (held, rows)]
    return ordered[0].equals(ordered[1])
