"""The rows of one file of prices, or of headlines, made complete and judged chunk by chunk.

The outcome does not depend on where one chunk ends and the next begins.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple, Protocol

import pandas as pd

from features import frames
from features.calendars import NONE, CalendarError, zone
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.providers import NEWS_COLUMNS
from pipeline.providers.checks import WHEN_EMPTY, check_news, check_prices, parse_published
from pipeline.providers.file_columns import NEWS, PRICES, Columns
from pipeline.providers.file_paths import FileError, label, stem
from pipeline.providers.seen import Seen
from pipeline.providers.tabular import open_table

DUPLICATE = "duplicate (ticker, session): the first is kept"
FIRST_DATE = pd.Timestamp("1970-01-01")
_MOST_DAYS = 10_000_000
_MIDNIGHT = r"[T ]00:00(?::00(?:\.0+)?)?$"
_NO_ZONE = r"0001|9999"
"""Years at the ends of Python's calendar, where a time cannot be put in a zone."""
_DATE_ONLY = r"^\d{4}-?\d{2}-?\d{2}$"


class Judged(NamedTuple):
    """The usable rows, for every row its reason ('' if usable), and what a person should know."""

    good: pd.DataFrame
    why: pd.Series
    notes: list[str]


class Judge(Protocol):
    """Judges the chunks of one file in their order."""

    columns: Columns

    def __call__(self, rows: pd.DataFrame) -> Judged:
        """Judge the next rows, index 0, 1, ..."""
        ...


class PriceJudge:
    """Judges a file of prices.

    Args:
        path: the file.
        found: its columns.
        config: data.columns and the universe.
        seen: the (ticker, session) of this file and those before it.

    Raises:
        FileError: it lacks a column.
    """

    def __init__(self, path: Path, found: list[str], config: Config, seen: Seen) -> None:
        self.columns = Columns(found, PRICES, config.data.columns)
        self._name, self._stem, self._universe, self._seen = label(path), stem(path), config.universe, seen
        self._is_undated = "session" not in self.columns.ours and self._may_be_undated()
        self.columns.require([name for name in PRICES.needed if name != "session" or not self._is_undated])
        self._days: Counter[str] = Counter()

    def _may_be_undated(self) -> bool:
        if "ticker" in self.columns.ours:
            return NONE in (self._universe.calendar, *self._universe.calendars)
        return self._universe.calendar_of(self._stem) == NONE

    def __call__(self, rows: pd.DataFrame) -> Judged:
        """Judge the next rows, index 0, 1, ...

        Raises:
            DataError: a calendar is unknown.
        """
        notes = _passed_over(self._name, self.columns)
        tickers = rows["ticker"].fillna(self._stem) if "ticker" in rows else self._stem
        rows = rows.assign(ticker=tickers, source=self._name)
        rows["ticker"] = _text(rows["ticker"])
        if self._is_undated:
            rows["session"] = self._dated(rows)
            notes.append(
                f"{self._name}: no column of dates; the rows of each ticker are consecutive days from {FIRST_DATE:%F}"
            )
        # A JSON object may lack what others have.
        rows = rows.assign(**{name: "" for name in PRICES.needed if name not in rows})
        if "adj_close" not in rows or rows["adj_close"].isna().any():
            notes.append(f"{self._name}: no column adj_close; close is taken as adjusted for splits and dividends")
            rows["adj_close"] = rows["adj_close"].fillna(rows["close"]) if "adj_close" in rows else rows["close"]
        if "volume" not in self.columns.ours:
            notes.append(f"{self._name}: no column volume; the features of volume stay unknown")
        rows = rows.assign(**{name: value for name, value in WHEN_EMPTY.items() if name not in rows})
        good, why = check_prices(rows, self._universe)
        is_new = self._seen.first(good["ticker"], good["session"])
        why[good.index[~is_new]] = DUPLICATE
        return Judged(good[is_new], why, notes)

    def _dated(self, rows: pd.DataFrame) -> pd.Series:
        """Consecutive days for each ticker whose calendar is `none`, as text; a date that is given stays."""
        tickers = rows["ticker"]
        before = tickers.map(self._days).astype("int64")
        days = (tickers.groupby(tickers).cumcount() + before).clip(upper=_MOST_DAYS)
        self._days.update(Counter(tickers.to_list()))
        dates = (FIRST_DATE + pd.to_timedelta(days, unit="D").astype("timedelta64[s]")).dt.strftime("%Y-%m-%d")
        is_free = tickers.map({ticker: self._universe.calendar_of(ticker) == NONE for ticker in tickers.unique()})
        dates = dates.where(is_free.astype("bool"), "")
        return rows["session"].fillna(dates) if "session" in rows else dates


class NewsJudge:
    """Judges a file of headlines.

    Args:
        path: the file.
        found: its columns.
        config: data.columns and the universe, whose calendars say what times without a zone mean.
        now: what is published later lies in the future.
        most: rows of a chunk.

    Raises:
        FileError: it lacks a column.
        DataError: a calendar is unknown.
    """

    def __init__(self, path: Path, found: list[str], config: Config, now: pd.Timestamp, most: int) -> None:
        self.columns = Columns(found, NEWS, config.data.columns)
        self.columns.require(NEWS.needed)
        self._name, self._stem, self._universe, self._now = label(path), stem(path), config.universe, now
        self._has_times = _has_times(path, self.columns, most)

    def __call__(self, rows: pd.DataFrame) -> Judged:
        """Judge the next rows, index 0, 1, ..."""
        given = rows.assign(**{name: "" for name in NEWS.needed if name not in rows})
        rows = pd.DataFrame({name: _text(given[name]) for name in given if name != "published_at"})
        for name, otherwise in (("ticker", ""), ("source", self._stem), ("summary", ""), ("url", "")):
            rows[name] = rows[name].mask(rows[name] == "", otherwise) if name in rows else otherwise
        rows["published_at"] = rows["known_at"] = pd.Series(pd.NaT, index=rows.index, dtype=frames.INSTANT)
        calendars = rows["ticker"].map({each: self._universe.calendar_of(each) for each in rows["ticker"].unique()})
        for calendar in calendars.unique():
            at = rows.index[calendars == calendar]
            rows.loc[at, "published_at"], rows.loc[at, "known_at"] = self._instants(
                given.loc[at, "published_at"], calendar
            )
        why = check_news(rows, self._now)
        good = rows.loc[why == "", list(NEWS_COLUMNS)].astype(NEWS_COLUMNS)
        return Judged(good, why, _passed_over(self._name, self.columns))

    def _instants(self, published: pd.Series, calendar: str) -> tuple[pd.Series, pd.Series]:
        """See parse_published, which takes midnights as dates if it is given nothing else: that is for the whole
        file to say, not for a chunk."""
        try:
            exchange = zone(calendar)
        except CalendarError as error:
            raise DataError(str(error)) from None
        if isinstance(published.dtype, pd.DatetimeTZDtype):
            return parse_published(published, exchange)
        text = _spelt(published)
        text = text.mask(text.str.match(_NO_ZONE), "")
        if not self._has_times:
            return parse_published(text.str.replace(_MIDNIGHT, "", regex=True), exchange)
        with_time = pd.concat([text, pd.Series(["2000-01-03T12:00"], dtype="str")], ignore_index=True)
        at, known = parse_published(with_time, exchange)
        return at.iloc[:-1].set_axis(text.index), known.iloc[:-1].set_axis(text.index)


def _has_times(path: Path, columns: Columns, most: int) -> bool:
    """Whether any headline of the file has a time of day other than midnight; what cannot be read has none."""
    try:
        for chunk in open_table(path, most).chunks(
            lambda name: "published_at" if columns(name) == "published_at" else None
        ):
            if "published_at" in chunk.rows and _is_timed(chunk.rows["published_at"]):
                return True
    except FileError:  # it is met again, and told, when the rows are read
        pass
    return False


def _is_timed(published: pd.Series) -> bool:
    if isinstance(published.dtype, pd.DatetimeTZDtype):
        return True
    text = _spelt(published)
    text = text[~text.str.contains(_MIDNIGHT) & ~text.str.match(_DATE_ONLY)]
    return bool(pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True).notna().any())


def _spelt(published: pd.Series) -> pd.Series:
    """Times without a zone as ISO text."""
    if pd.api.types.is_datetime64_any_dtype(published):
        published = published.dt.strftime("%Y-%m-%dT%H:%M:%S.%f")
    return _text(published)


def _passed_over(name: str, columns: Columns) -> list[str]:
    return [
        f"{name}: its column {theirs} is not used, since data.columns names another one as {ours}"
        for theirs, ours in columns.passed_over.items()
    ]


def _text(values: pd.Series) -> pd.Series:
    return values.fillna("").astype("str").str.strip()
