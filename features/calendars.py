"""Exchange calendars: which dates are sessions, and the instant each one closes.

`none` is the calendar of series without an exchange: every date may be a session and closes when it ends, UTC; its
axis is the dates that the data themselves hold. `24/7` is exchange_calendars' own: every date is a session.
"""

from __future__ import annotations

import datetime as dt
import difflib
from functools import lru_cache

import exchange_calendars
import numpy as np
import pandas as pd

Date = str | dt.date | np.datetime64

NONE = "none"
DAY = pd.Timedelta(days=1)
EARLIEST, LATEST = pd.Timestamp("1900-01-01"), pd.Timestamp("2200-01-01")


class CalendarError(ValueError):
    """The calendar is unknown, or has no session in the range asked for."""


def calendar_sessions(name: str, first: Date, last: Date) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """The sessions of an exchange from `first` to `last`, both included, and the instant each one closes.

    Args:
        name: a name of exchange_calendars, like XNYS, XLON or 24/7; or `none`.
        first, last: dates, without time zone.

    Returns:
        (T,) sessions, datetime64[us] at midnight without zone; (T,) closes, datetime64[us, UTC].

    Raises:
        CalendarError: unknown name (the nearest ones are named), or no session in the range.
    """
    start, end = pd.Timestamp(first).normalize(), pd.Timestamp(last).normalize()
    if name == NONE:
        days = pd.date_range(start, end).as_unit("us")
        return days, (days + DAY).tz_localize("UTC")
    _check_name(name)
    # A margin on both sides: a calendar that starts on its only session has no neighbours to look at.
    margin = pd.Timedelta(days=14)
    asked = f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"
    try:
        calendar = _calendar(name, *_whole_decades(name, start - margin, end + margin))
    except ValueError as error:
        raise CalendarError(f"calendar {name} does not cover {asked}: {error}") from error
    closes = calendar.closes.loc[start:end]
    if closes.empty:
        raise CalendarError(f"calendar {name} has no session from {asked}")
    instants = pd.DatetimeIndex(closes).tz_convert("UTC")
    return pd.DatetimeIndex(closes.index).as_unit("us"), instants.as_unit("us")


def axis(name: str, dates: pd.Series) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """The sessions that series with bars on `dates` live on, and their closes: as `calendar_sessions` from the first
    to the last date; for `none` the dates themselves.

    Args:
        name: the calendar.
        dates: datetime64[us], any order, repeated or not.

    Raises:
        CalendarError: as in `calendar_sessions`.
    """
    if name == NONE:
        held = pd.DatetimeIndex(np.unique(dates.to_numpy())).as_unit("us")
        return held, (held + DAY).tz_localize("UTC")
    return calendar_sessions(name, dates.min(), dates.max())


def zone(name: str) -> dt.tzinfo:
    """The time zone of the exchange; UTC for `none`.

    Raises:
        CalendarError: unknown name.
    """
    if name == NONE:
        return dt.UTC
    _check_name(name)
    found: dt.tzinfo = exchange_calendars.get_calendar(name).tz
    return found


def bounds(name: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The first and the last date on which `calendar_sessions` can be asked; sessions outside cannot be told.

    Raises:
        CalendarError: unknown name.
    """
    if name == NONE:
        return EARLIEST, LATEST
    _check_name(name)
    first, last = _limits(name)
    margin = pd.Timedelta(days=21)  # more than `calendar_sessions` adds by itself
    return max(first + margin, EARLIEST), min(last - margin, LATEST)


@lru_cache(maxsize=32)
def _limits(name: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The first and the last date for which the library knows the exchange's holidays."""
    calendar = type(exchange_calendars.get_calendar(name))
    return calendar.bound_min() or pd.Timestamp("1800-01-01"), calendar.bound_max() or pd.Timestamp("2250-01-01")


def _whole_decades(name: str, start: pd.Timestamp, end: pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
    """A range widened to whole decades as far as the calendar reaches, so that most ranges share one calendar."""
    first, last = _limits(name)
    opening, closing = pd.Timestamp(start.year // 10 * 10, 1, 1), pd.Timestamp(end.year // 10 * 10 + 9, 12, 31)
    return min(start, max(opening, first)), max(end, min(closing, last))


@lru_cache(maxsize=32)
def _calendar(name: str, start: pd.Timestamp, end: pd.Timestamp) -> exchange_calendars.ExchangeCalendar:
    """Building one takes a tenth of a second, and an ingestion asks for the same one with every batch."""
    return exchange_calendars.get_calendar(name, start=start, end=end)


def _check_name(name: str) -> None:
    known = _names()
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.4) or ["XNYS", "XLON", "24/7"]
        raise CalendarError(f"unknown exchange calendar {name!r}; did you mean {', '.join(near)}?")


@lru_cache(maxsize=1)
def _names() -> tuple[str, ...]:
    return tuple(exchange_calendars.get_calendar_names(include_aliases=True))
