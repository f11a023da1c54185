"""Your own files: prices and headlines as CSV, JSON lines or Parquet, the first two also gzipped.

An entry of data.prices or data.news is a file, a folder or a glob. Prices need a date (`date` or `session`), open,
high, low and close. Optional: ticker (else the file's name is the ticker), adj_close (else close), volume,
dividend, split. Headlines need `published_at` (or `date`, `time`) and title; optional: ticker ('' = the market),
source, summary, url. `data.columns` says what other columns mean; see file_columns.

Files are read in chunks, and memory does not grow with them. A row that cannot be used is handed over with its
reason and its text; a file that cannot be read, or not to its end, is named with its reason; the rest is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.providers import Delivery, Held, Rejected, empty_news, empty_prices
from pipeline.providers.file_columns import NEWS, Columns, check_mapping
from pipeline.providers.file_paths import FileError, expanded, label, stem
from pipeline.providers.file_rows import Judge, NewsJudge, PriceJudge
from pipeline.providers.seen import Seen
from pipeline.providers.tabular import CHUNK_ROWS, HEAD, Chunk, open_table
from pipeline.summary import Progress

MOST_LOOKED_AT = 1_000_000
"""Rows of each file that `tickers` looks at."""


@dataclass
class _Outcome:
    """How one file went.

    rows: those received, broken ones included; used: those delivered; first: the first row that could not be used
    and its reason; error: why the file could not be read, or not to its end.
    """

    rows: int = 0
    used: int = 0
    first: str = ""
    error: str = ""

    def reason(self) -> str:
        """Why the file is a failure; '' if it is none."""
        first = f"; the first: {self.first}" if self.first else ""
        if self.error:
            return f"{self.error}; rows read before: {self.rows:,}, used: {self.used:,}" if self.rows else self.error
        return "" if self.used else f"none of its {self.rows:,} rows can be used{first}"


def deliver(config: Config, progress: Progress, held: Held, chunk_rows: int = CHUNK_ROWS) -> Iterator[Delivery]:
    """Read and judge every file of data.prices and data.news, chunk by chunk; small files share a batch.

    Raises:
        DataError: no price file is named; an entry matches nothing; data.columns names what is not there; a
            calendar is unknown; no row of any price file can be used.
    """
    if not config.data.prices:
        raise DataError("data.prices names no file; for example: --set 'data.prices=[\"prices.csv\"]'")
    prices, news = expanded(config.data.prices, "data.prices"), expanded(config.data.news, "data.news")
    check_mapping(config.data.columns, _all_columns([*prices, *news]) if config.data.columns else {})
    run = _Run(progress, chunk_rows, [*prices, *news])
    seen, now = Seen(), pd.Timestamp.now("UTC")
    priced = run.read("prices", prices, lambda path, found: PriceJudge(path, found, config, seen))
    yield from _gathered(priced, chunk_rows)
    outcomes = [run.outcomes[path] for path in prices]
    if not any(outcome.used for outcome in outcomes):
        several = f"none of {len(prices)} price files can be used; the first: " if len(prices) > 1 else ""
        raise DataError(f"{several}{prices[0]}: {outcomes[0].reason()}")
    told = run.read("news", news, lambda path, found: NewsJudge(path, found, config, now, chunk_rows))
    yield from _gathered(told, chunk_rows)


class _Run:
    """Reads files one after the other, and remembers how each one went."""

    def __init__(self, progress: Progress, chunk_rows: int, files: Sequence[Path]) -> None:
        self.outcomes: dict[Path, _Outcome] = {}
        self._progress, self._chunk_rows = progress, chunk_rows
        self._sizes = {path: _size(path) for path in files}
        self._names = Counter(map(label, files))
        self._done = 0

    def read(
        self, table: str, files: Sequence[Path], judge_of: Callable[[Path, list[str]], Judge]
    ) -> Iterator[Delivery]:
        """Every chunk as a delivery of its own; a file that failed, at its end, in another."""
        for path in files:
            outcome = self.outcomes[path] = _Outcome()
            self._show(0)
            try:
                opened = open_table(path, self._chunk_rows)
                judge = judge_of(path, opened.columns)
                for chunk in opened.chunks(judge.columns):
                    yield _judged(table, label(path), chunk, judge, outcome)
                    self._show(chunk.position)
            except FileError as error:
                outcome.error = str(error)
            self._done += self._sizes[path]
            if outcome.reason():
                name = label(path) if self._names[label(path)] == 1 else str(path)
                yield Delivery(failed={name: outcome.reason()})
        self._show(0)

    def _show(self, position: int) -> None:
        self._progress("reading files (kB)", (self._done + position) // 1000, sum(self._sizes.values()) // 1000)


def _judged(table: str, source: str, chunk: Chunk, judge: Judge, outcome: _Outcome) -> Delivery:
    good, why, notes = judge(chunk.rows)
    bad = why.to_numpy().nonzero()[0].tolist() if len(why) else []
    rejected = [Rejected(table, reason, source, text) for reason, text in chunk.broken]
    reasons = why.iloc[bad].tolist()
    rejected += [Rejected(table, *each) for each in zip(reasons, [source] * len(bad), chunk.text(bad), strict=True)]
    outcome.rows += len(chunk.rows) + len(chunk.broken)
    outcome.used += len(good)
    if rejected and not outcome.first:
        outcome.first = f"{rejected[0].reason}: {' '.join(rejected[0].row[:200].split())}"
    good = good.reset_index(drop=True)
    prices, news = (good, empty_news()) if table == "prices" else (empty_prices(), good)
    return Delivery(prices, news, tuple(rejected), notes=tuple(notes))


def _gathered(deliveries: Iterable[Delivery], most: int) -> Iterator[Delivery]:
    """The same in fewer batches of at most so many rows, for each one costs a commit."""
    waiting: list[Delivery] = []
    size = 0
    for delivery in deliveries:
        rows = len(delivery.prices) + len(delivery.news) + len(delivery.rejected)
        if waiting and size + rows > most:
            yield together(waiting)
            waiting, size = [], 0
        waiting.append(delivery)
        size += rows
    if waiting:
        yield together(waiting)


def together(parts: Sequence[Delivery]) -> Delivery:
    """Several batches as one."""
    if len(parts) == 1:
        return parts[0]
    prices = [part.prices for part in parts if len(part.prices)]
    news = [part.news for part in parts if len(part.news)]
    return Delivery(
        pd.concat(prices, ignore_index=True) if prices else empty_prices(),
        pd.concat(news, ignore_index=True) if news else empty_news(),
        tuple(row for part in parts for row in part.rejected),
        {name: reason for part in parts for name, reason in part.failed.items()},
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def tickers(config: Config, most: int) -> tuple[list[str], bool]:
    """The tickers that the price files name; the columns of all files are checked on the way.

    No more is read than it takes: the first lines where the file's name is the ticker, else until more than `most`
    tickers are found, and at most MOST_LOOKED_AT rows of each file.

    Returns:
        The tickers, sorted; and whether these are all.

    Raises:
        DataError: a file cannot be read or lacks a column; an entry matches nothing.
    """
    found: set[str] = set()
    is_all = True
    prices, news = expanded(config.data.prices, "data.prices"), expanded(config.data.news, "data.news")
    check_mapping(config.data.columns, _all_columns([*prices, *news]) if config.data.columns else {})
    for path in prices:
        with _named(path):
            columns = PriceJudge(path, open_table(path, HEAD).columns, config, Seen()).columns
            is_all &= _add_tickers(found, path, columns, most)
    for path in news:
        with _named(path):
            Columns(open_table(path, HEAD).columns, NEWS, config.data.columns).require(NEWS.needed)
    return sorted(found), is_all


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise DataError(f"{path}: {error}") from None


def _add_tickers(found: set[str], path: Path, columns: Columns, most: int) -> bool:
    if "ticker" not in columns.ours:
        found.add(stem(path))
        return True
    rows = 0
    for chunk in open_table(path).chunks(lambda name: "ticker" if columns(name) == "ticker" else None):
        if "ticker" in chunk.rows:
            found |= {str(name).strip() for name in chunk.rows["ticker"].dropna().unique()} - {""}
        rows += len(chunk.rows)
        if len(found) > most or rows >= MOST_LOOKED_AT:
            return False
    return True


def _all_columns(files: Sequence[Path]) -> dict[Path, list[str]]:
    """The columns of the files that can be read; what is wrong with another is told when its turn comes."""
    found = {}
    for path in files:
        try:
            found[path] = open_table(path, HEAD).columns
        except FileError:
            continue
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # told when it is read
        return 0
