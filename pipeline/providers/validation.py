"""Which delivered rows can be used: vectorised checks, each with its reason; the first that fails counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import frames
from features.news import CalendarError, calendar_sessions
from pipeline.errors import DataError
from pipeline.providers import BARS, Rejected

PRICES = ("open", "high", "low", "close", "adj_close")
ROUNDING = 1e-9
"""High and low may miss the others by this relative amount: adjusted figures are rounded."""

Mask = npt.NDArray[np.bool_]


def usable_prices(text: pd.DataFrame, calendar: str, source: str) -> tuple[pd.DataFrame, list[Rejected]]:
    """Split delivered prices into bars and rejected rows; their numbers add up to the rows received.

    Args:
        text: BARS as text, one row a bar; extra columns are kept in the text of a rejected row.
        calendar: exchange_calendars name.
        source: where the rows came from, for the quarantine.

    Returns:
        Bars in the order received, with sessions `datetime64[us]` and float64 figures, and the rejected rows.

    Raises:
        DataError: the calendar is unknown.
    """
    figures = {name: pd.to_numeric(text[name], errors="coerce").to_numpy(np.float64) for name in frames.PRICE_FIGURES}
    day = pd.to_datetime(text["session"].str.slice(0, 10), format="%Y-%m-%d", errors="coerce")
    reasons = _Reasons(len(text))
    reasons.where(text["ticker"].str.strip().eq("").to_numpy(), "no ticker")
    reasons.where(day.isna().to_numpy(), "date is not YYYY-MM-DD")
    for name in frames.PRICE_FIGURES:
        reasons.where(~np.isfinite(figures[name]), f"{name} is no finite number")
    for name in PRICES:
        reasons.where(figures[name] <= 0, f"{name} is not above zero")
    for name in ("volume", "dividend"):
        reasons.where(figures[name] < 0, f"{name} is negative")
    reasons.where(figures["split"] <= 0, "split is not above zero")
    o, high, low, c = (figures[name] for name in ("open", "high", "low", "close"))
    reasons.where(high < low, "high is below low")
    reasons.where(high < np.maximum(o, c) * (1 - ROUNDING), "high is below open or close")
    reasons.where(low > np.minimum(o, c) * (1 + ROUNDING), "low is above open or close")
    _check_sessions(day, calendar, reasons)
    keys = pd.DataFrame({"ticker": text["ticker"].str.strip(), "day": day})
    usable = reasons.none()
    repeated = np.zeros(len(text), dtype=bool)
    repeated[usable] = keys[usable].duplicated().to_numpy()
    reasons.where(repeated, "duplicate (ticker, session): the first is kept")
    bars = pd.DataFrame({"ticker": keys["ticker"], "session": day.astype(frames.SESSION), **figures})[list(BARS)]
    kept = bars[reasons.none()].reset_index(drop=True).astype({"ticker": "str"})
    return kept, reasons.rejected("prices", text, source)


def _check_sessions(day: pd.Series, calendar: str, reasons: _Reasons) -> None:
    if day.notna().any():
        try:
            sessions, closes = calendar_sessions(calendar, day.min(), day.max())
        except CalendarError as error:
            if "unknown" in str(error):
                raise DataError(str(error)) from None
            sessions, closes = pd.DatetimeIndex([]), pd.DatetimeIndex([])
        known = day.isna() | day.isin(sessions)
        reasons.where(~known.to_numpy(), f"date is no session of {calendar}")
        open_still = sessions[closes > pd.Timestamp.now("UTC")]
        reasons.where(day.isin(open_still).to_numpy(), "session has not closed yet")


class _Reasons:
    """The first reason found for each row, empty where there is none."""

    def __init__(self, rows: int) -> None:
        self._found = np.full(rows, "", dtype=object)

    def where(self, failed: Mask, reason: str) -> None:
        self._found[failed & (self._found == "")] = reason

    def none(self) -> Mask:
        return np.asarray(self._found == "", dtype=bool)

    def rejected(self, table: str, text: pd.DataFrame, source: str) -> list[Rejected]:
        bad = ~self.none()
        if not bad.any():
            return []
        rows = text[bad].to_json(orient="records", lines=True, force_ascii=False).splitlines()
        return [Rejected(table, str(why), source, row) for why, row in zip(self._found[bad], rows, strict=True)]


def usable_news(text: pd.DataFrame, source: str) -> tuple[pd.DataFrame, list[Rejected]]:
    """Split delivered headlines into news and rejected rows; their numbers add up to the rows received.

    Args:
        text: ticker ('' = the whole market), published_at, title, summary, url, source, all text.
        source: the file, for the quarantine.

    A time without a zone is read as UTC. A date without a time is known only after that date, so that it
    belongs to the next session.

    Returns:
        The `news` table without `ingested_at`, and the rejected rows.
    """
    from features.news import date_known_at
    from pipeline.store import news_id

    stamp = text["published_at"].str.strip()
    published = pd.to_datetime(stamp, format="ISO8601", errors="coerce", utc=True).astype(frames.INSTANT)
    reasons = _Reasons(len(text))
    reasons.where(text["title"].str.strip().eq("").to_numpy(), "no title")
    reasons.where(published.isna().to_numpy(), "published_at is no ISO date or time")
    reasons.where((published > pd.Timestamp.now("UTC")).to_numpy(), "published_at lies in the future")
    date_only = (stamp.str.len() == 10).to_numpy()
    known = published.where(~date_only, pd.Series(date_known_at(_naive(published)), index=text.index))
    good = text[reasons.none()]
    at = published[reasons.none()]
    columns = (good["source"], good["url"], good["ticker"], at.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), good["title"])
    kept = pd.DataFrame(
        {
            "news_id": [news_id(*parts) for parts in zip(*columns, strict=True)],
            "ticker": good["ticker"].str.strip(),
            "published_at": at,
            "known_at": known[reasons.none()],
            **{name: good[name] for name in ("source", "title", "summary", "url")},
        }
    )
    dtypes = {name: dtype for name, dtype in frames.COLUMNS["news"].items() if name in kept.columns}
    return kept.astype(dtypes).reset_index(drop=True), reasons.rejected("news", text, source)


def _naive(instants: pd.Series) -> pd.DatetimeIndex:
    filled = instants.fillna(pd.Timestamp(0, tz="UTC"))
    return pd.DatetimeIndex(filled.dt.tz_localize(None))
