"""Your own files: prices as CSV or Parquet, headlines as CSV, JSON lines or Parquet.

Prices need a date (`date` or `session`), open, high, low and close. Optional: ticker (else the file's name is the
ticker), adj_close (else close), volume, dividend, split. Headlines need `published_at` (or `date`, `time`) and
title; optional: ticker ('' = the market), source, summary, url. Names of columns are matched without regard to
case, spaces and hyphens. A row that cannot be used is handed over with its reason and its text; the rest is used.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import exchange_calendars
import pandas as pd

from features import frames
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.providers import NEWS_COLUMNS, Delivery, Rejected, empty_news
from pipeline.providers.checks import WHEN_EMPTY, check_news, check_prices, parse_published
from pipeline.summary import Progress

PRICE_NAMES = {
    **dict.fromkeys(("date", "datetime"), "session"), "symbol": "ticker",
    **dict.fromkeys(("adjclose", "adjusted_close"), "adj_close"),
    "dividends": "dividend", **dict.fromkeys(("splits", "stock_splits"), "split"),
}  # fmt: skip
NEWS_NAMES = {
    **dict.fromkeys(("date", "time", "datetime", "published"), "published_at"), "symbol": "ticker",
    **dict.fromkeys(("headline",), "title"), "link": "url",
}  # fmt: skip
PRICES_NEEDED = ("session", "open", "high", "low", "close")
NEWS_NEEDED = ("published_at", "title")


class Received(NamedTuple):
    """One file as read: its rows under our names, as text or in the file's own types; its text, row by row."""

    path: Path
    rows: pd.DataFrame
    text: Callable[[Sequence[int]], list[str]]
    broken: tuple[str, ...]


def deliver(config: Config, progress: Progress) -> Delivery:
    """Read and judge every file of data.prices and data.news.

    Raises:
        DataError: no price file is named; a file is missing, cannot be read, lacks a column or has no usable row.
    """
    if not config.data.prices:
        raise DataError("data.prices names no file; for example: --set 'data.prices=[\"prices.csv\"]'")
    total = len(config.data.prices) + len(config.data.news)
    prices, notes = [], []
    for at, name in enumerate(config.data.prices):
        progress("reading files", at, total)
        received, said = _price_file(Path(name))
        prices.append(received)
        notes += said
    rows, rejected = _judged_prices(prices, config.universe.calendar)
    news = []
    for at, name in enumerate(config.data.news):
        progress("reading files", len(prices) + at, total)
        headlines, bad = _news_file(Path(name), config.universe.calendar)
        news.append(headlines)
        rejected += bad
    progress("reading files", total, total)
    together = pd.concat(news, ignore_index=True) if news else empty_news()
    return Delivery(rows, together, tuple(rejected), notes=tuple(notes))


def _price_file(path: Path) -> tuple[Received, list[str]]:
    received = read(path, PRICE_NAMES, PRICES_NEEDED)
    rows, notes = received.rows, []
    if "ticker" not in rows:
        rows = rows.assign(ticker=path.stem)
    if "adj_close" not in rows:
        rows = rows.assign(adj_close=rows["close"])
        notes.append(f"{path.name}: no column adj_close; close is taken as adjusted for splits and dividends")
    if "volume" not in rows:
        notes.append(f"{path.name}: no column volume; the features of volume stay unknown")
    rows = rows.assign(**{name: value for name, value in WHEN_EMPTY.items() if name not in rows}, source=path.name)
    return received._replace(rows=rows), notes


def _judged_prices(files: list[Received], calendar: str) -> tuple[pd.DataFrame, list[Rejected]]:
    """All files together: a duplicate may lie in another file."""
    columns = ["ticker", "session", *frames.PRICE_FIGURES, "source"]
    raw = pd.concat([file.rows[columns].astype(object) for file in files], ignore_index=True)
    good, why = check_prices(raw, calendar)
    rejected: list[Rejected] = []
    start = 0
    for file in files:
        reasons = why.iloc[start : start + len(file.rows)].reset_index(drop=True)
        start += len(file.rows)
        rejected += _rejected("prices", file, reasons)
    return good.reset_index(drop=True), rejected


def _news_file(path: Path, calendar: str) -> tuple[pd.DataFrame, list[Rejected]]:
    received = read(path, NEWS_NAMES, NEWS_NEEDED)
    given = received.rows
    rows = pd.DataFrame({name: _text(given[name]) for name in NEWS_COLUMNS if name in given and name != "known_at"})
    zone: dt.tzinfo = exchange_calendars.get_calendar(calendar).tz
    rows["published_at"], rows["known_at"] = parse_published(given["published_at"], zone)
    for name, otherwise in (("ticker", ""), ("source", path.stem), ("summary", ""), ("url", "")):
        rows[name] = rows[name].mask(rows[name] == "", otherwise) if name in rows else otherwise
    why = check_news(rows, pd.Timestamp.now("UTC"))
    rejected = _rejected("news", received, why)
    return rows.loc[why == "", list(NEWS_COLUMNS)].astype(NEWS_COLUMNS), rejected


def _rejected(table: str, file: Received, reasons: pd.Series) -> list[Rejected]:
    """The rejected rows of one file; a file without any usable row is an error."""
    bad = [position for position, reason in enumerate(reasons) if reason]
    lines = file.text(bad)
    rejected = [Rejected(table, "the line cannot be read", file.path.name, line) for line in file.broken]
    rejected += [Rejected(table, reasons.iloc[at], file.path.name, line) for at, line in zip(bad, lines, strict=True)]
    if len(bad) == len(file.rows):
        first = f"; the first: {rejected[0].reason}: {rejected[0].row[:200]}" if rejected else ""
        raise DataError(f"{file.path}: none of its {len(rejected)} rows can be used{first}")
    return rejected


def read(path: Path, names: dict[str, str], needed: Sequence[str]) -> Received:
    """Read one file by its suffix, its columns renamed to ours.

    Raises:
        DataError: missing, unreadable, of another format, or without a needed column.
    """
    readers = {".csv": _csv, ".parquet": _parquet, **dict.fromkeys((".jsonl", ".ndjson"), _jsonl)}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: unknown format {path.suffix!r}; use {', '.join(sorted(readers))}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        received = readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    found = [str(name) for name in received.rows.columns]
    ours = [_our_name(name, names) for name in found]
    for name in needed:
        if name not in ours:
            also = [alias for alias, target in names.items() if target == name]
            meant = f" (or {', '.join(also)})" if also else ""
            raise DataError(f"{path}: no column {name}{meant}; found {', '.join(found) or 'none'}")
    twice = sorted({name for name in ours if ours.count(name) > 1})
    if twice:
        raise DataError(f"{path}: more than one column means {twice[0]}; found {', '.join(found)}")
    return received._replace(rows=received.rows.set_axis(ours, axis=1))


def _our_name(name: str, names: dict[str, str]) -> str:
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return names.get(plain, plain)


def _csv(path: Path) -> Received:
    # The header is read as a row, so that it sets the number of fields: a longer line is then an error for pandas,
    # and never taken for an index.
    options: Any = {"dtype": "str", "keep_default_na": False, "encoding": "utf-8-sig", "header": None}
    broken: list[str] = []
    try:
        rows = pd.read_csv(path, **options)
    except pd.errors.EmptyDataError:
        return Received(path, pd.DataFrame(), lambda positions: [], ())
    except pd.errors.ParserError:  # the slower parser hands such lines over
        keep = partial(_keep, broken)
        rows = pd.read_csv(path, **options, engine="python", on_bad_lines=keep)
    names = rows.iloc[0].fillna("")
    rows = rows.iloc[1:].fillna("").reset_index(drop=True).set_axis(names.to_list(), axis=1)
    return Received(path, rows, lambda positions: _lines(rows, positions), tuple(broken))


def _keep(broken: list[str], fields: list[str]) -> None:
    broken.append(_line(fields))


def _parquet(path: Path) -> Received:
    rows = pd.read_parquet(path)
    if not isinstance(rows.index, pd.RangeIndex):
        rows = rows.reset_index()
    return Received(path, rows, lambda positions: _lines(rows, positions), ())


def _jsonl(path: Path) -> Received:
    objects, texts, broken = [], [], []
    for line in filter(str.strip, path.read_text(encoding="utf-8-sig").splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            objects.append(value)
            texts.append(line)
        else:
            broken.append(line)
    return Received(path, pd.DataFrame(objects), lambda positions: [texts[at] for at in positions], tuple(broken))


def _lines(rows: pd.DataFrame, positions: Sequence[int]) -> list[str]:
    return [_line(fields) for fields in rows.iloc[list(positions)].itertuples(index=False, name=None)]


def _line(fields: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(fields)
    return buffer.getvalue()


def _text(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "").astype("str").str.strip()
