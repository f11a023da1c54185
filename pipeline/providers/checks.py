"""What makes a row usable: every price row and every headline is judged here, whole columns at a time.

A row gets the first reason that applies, or '' if it can be used. Nothing is repaired: an empty volume, dividend
or split means "unknown" or "none", anything else that is no number is a reason.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from features import frames
from features.calendars import CalendarError, bounds, calendar_sessions
from pipeline.config import Universe
from pipeline.errors import DataError
from pipeline.providers import PRICE_COLUMNS

PRICES = ("open", "high", "low", "close", "adj_close")
WHEN_EMPTY = {"volume": 0.0, "dividend": 0.0, "split": 1.0}
TOLERANCE = 1e-9
NEAR = pd.Timedelta(days=7)
"""More than any exchange stays closed: a file may hold one holiday only."""
NOT_OVER = "session is not over yet"
_DATE = r"^(\d{4}-?\d{2}-?\d{2})(?:[T ].*)?$"
_DATE_ONLY = r"^\d{4}-?\d{2}-?\d{2}$"
_ZONE = r"\d(?:Z|[+-]\d{2}:?\d{2})$"
_MIDNIGHT = r"[T ]00:00(?::00(?:\.0+)?)?$"


def check_prices(raw: pd.DataFrame, universe: Universe) -> tuple[pd.DataFrame, pd.Series]:
    """Judge daily price rows.

    Args:
        raw: ticker, session, the figures of frames.PRICE_FIGURES and source, of any dtype; one row is one bar.
        universe: says on which calendar each ticker trades.

    Returns:
        The usable rows as PRICE_COLUMNS, their index that of `raw`; and for every row of `raw` its reason, '' if
        usable. Of two rows with one (ticker, session) the first is used.

    Raises:
        DataError: a calendar is unknown.
    """
    rows = pd.DataFrame({"ticker": as_text(raw["ticker"]).str.strip(), "session": parse_dates(raw["session"])})
    why = pd.Series("", index=raw.index, dtype="str")
    _reject(why, rows["ticker"] == "", "no ticker")
    _reject(why, rows["session"].isna(), "session is no date like 2013-03-01")
    for name in frames.PRICE_FIGURES:
        rows[name] = _figures(raw[name], name)
        _reject(why, rows[name].isna(), f"{name} is not a number")
        _reject(why, ~np.isfinite(rows[name]), f"{name} is infinite")
        if name in (*PRICES, "split"):
            _reject(why, rows[name] <= 0, f"{name} is not above zero")
        else:
            _reject(why, rows[name] < 0, f"{name} is below zero")
    ends = rows[["open", "close"]]
    _reject(why, rows["high"] < rows["low"], "high is below low")
    _reject(why, rows["high"] < ends.max(axis=1) * (1 - TOLERANCE), "high is not the highest price")
    _reject(why, rows["low"] > ends.min(axis=1) * (1 + TOLERANCE), "low is not the lowest price")
    calendars = rows["ticker"].map({ticker: universe.calendar_of(ticker) for ticker in rows["ticker"].unique()})
    for calendar in calendars.unique():
        _reject_sessions(why, rows.loc[calendars == calendar, "session"], calendar)
    good = rows[why == ""]
    _reject(
        why,
        good.duplicated(["ticker", "session"]).reindex(raw.index, fill_value=False),
        "duplicate (ticker, session): the first is kept",
    )
    rows["source"] = raw["source"]
    return rows.loc[why == "", list(PRICE_COLUMNS)].astype(PRICE_COLUMNS), why


def as_text(values: pd.Series) -> pd.Series:
    """Any values as text; what UTF-8 cannot hold (half a surrogate pair, as JSON may spell) as its escape."""
    try:
        return values.astype("str")
    except UnicodeEncodeError:
        return values.map(lambda value: str(value).encode("utf-8", "backslashreplace").decode()).astype("str")


def parse_dates(values: pd.Series) -> pd.Series:
    """The dates of ISO text (2013-03-01, 20130301, a time after it is dropped) or of datetimes; NaT where none.

    A zone is dropped with the time: a bar stamped midnight in New York belongs to that date.
    """
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_localize(None)
    elif not pd.api.types.is_datetime64_any_dtype(values):
        text = as_text(values).str.strip().str.extract(_DATE, expand=False).str.replace("-", "")
        values = pd.to_datetime(text, format="%Y%m%d", errors="coerce")
    dates: pd.Series = values.astype(frames.SESSION).dt.normalize()
    return dates


def parse_published(values: pd.Series, zone: dt.tzinfo) -> tuple[pd.Series, pd.Series]:
    """When headlines were published, and when they were known.

    Text with a UTC offset is that instant; without one it is exchange time. A date without a time (or a file whose
    every time is midnight) is published at the start of that day and known when it has ended, exchange time: so
    it belongs to the next session.

    Args:
        values: ISO text or datetimes.
        zone: the exchange's.

    Returns:
        published_at and known_at, datetime64[us, UTC]; NaT where there is no date.
    """
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        at = values.dt.tz_convert("UTC").astype(frames.INSTANT)
        return at, at
    if pd.api.types.is_datetime64_any_dtype(values):
        values = values.dt.strftime("%Y-%m-%dT%H:%M:%S.%f")
    text = as_text(values).str.strip()
    zoned = text.str.contains(_ZONE)
    dated = text.str.match(_DATE_ONLY)
    midnight = ~zoned & text.str.contains(_MIDNIGHT)
    if (midnight | dated).all():
        dated = dated | midnight
    at = pd.to_datetime(text.where(zoned), format="ISO8601", errors="coerce", utc=True).astype(frames.INSTANT)
    local = pd.to_datetime(text.where(~zoned & ~dated), format="ISO8601", errors="coerce").astype(frames.SESSION)
    day = parse_dates(text.where(dated, ""))
    published = at.fillna(_utc(local, zone)).fillna(_utc(day, zone))
    ended = _utc(day + pd.Timedelta(days=1), zone) + pd.Timedelta(microseconds=1)
    return published, published.where(~dated, ended)


def check_news(rows: pd.DataFrame, now: pd.Timestamp) -> pd.Series:
    """For each headline (published_at, title) why it cannot be used; '' if it can."""
    why = pd.Series("", index=rows.index, dtype="str")
    _reject(why, rows["published_at"].isna(), "published_at is no time like 2013-03-01T16:05:00-05:00")
    _reject(why, rows["title"].str.strip() == "", "no title")
    _reject(why, rows["published_at"] > now, "published in the future")
    return why


def _utc(local: pd.Series, zone: dt.tzinfo) -> pd.Series:
    # A clock that shows a time twice means the later one: known later is the safe side.
    later = np.zeros(len(local), dtype=bool)
    zoned = local.dt.tz_localize(zone, ambiguous=later, nonexistent="shift_forward")
    instants: pd.Series = zoned.dt.tz_convert("UTC")
    return instants


def _figures(values: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    if name in WHEN_EMPTY:
        blank = values.isna() | (as_text(values).str.strip() == "")
        numbers = numbers.mask(blank, WHEN_EMPTY[name])
    return numbers.mask(numbers == 0, 1.0) if name == "split" else numbers


def _reject_sessions(why: pd.Series, session: pd.Series, calendar: str) -> None:
    """Judge the sessions of tickers that trade on one calendar."""
    now = pd.Timestamp.now("UTC")
    try:
        first, last = bounds(calendar)
        _reject(why, session > now.tz_localize(None) + pd.Timedelta(days=1), NOT_OVER)
        _reject(why, (session < first) | (session > last), f"calendar {calendar} does not reach this session")
        asked = session[why[session.index] == ""]
        if asked.empty:
            return
        sessions, closes = calendar_sessions(calendar, asked.min() - NEAR, asked.max() + NEAR)
    except CalendarError as error:
        raise DataError(str(error)) from None
    _reject(why, ~session.isin(sessions), f"session is none of calendar {calendar}")
    _reject(why, session.isin(sessions[closes > now]), NOT_OVER)


def _reject(why: pd.Series, rows: pd.Series, reason: str) -> None:
    """Give `reason` to the rows (all, or some of them by index) that have none yet."""
    index = rows.index[rows]
    why[index[why[index] == ""]] = reason
