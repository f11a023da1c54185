"""Who trades when: the dated file of members, and the calendars of ticker groups.

Groups on different calendars meet on the *union axis*, every date that is a session of any of them. There a step is
not a session: a label twenty New York sessions long spans some twenty-nine dates of an axis that also holds
weekends, and on one date Tokyo decides before New York opens. `known_after` counts in steps of the axis, and by the
clock.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import calendars
from features import members as membership
from pipeline.config import Config, Universe
from pipeline.errors import DataError

Bools = npt.NDArray[np.bool_]

HINDSIGHT = (
    "Universe chosen with hindsight: its tickers are those known today, so that what failed or left before is missing "
    "and every return looks better than it could have been; say who belonged when in [universe] members."
)
MOST_NAMED = 10
TRADING_YEAR = 252
DAYS_OF_YEAR = 365


def members(config: Config) -> pd.DataFrame | None:
    """The spells of `universe.members`: ticker, first, last (NaT = still in); None where no file is named.

    Raises:
        DataError: the file cannot be read or used; the line and the value are named.
    """
    path = config.universe.members
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except OSError as error:
        raise DataError(f"{path} of [universe] members cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} of [universe] members is no CSV: {error}") from None
    numbered = {number: line for number, line in enumerate(lines, 1) if any(cell.strip() for cell in line)}
    header = [name.strip().lower() for name in next(iter(numbered.values()), [])]
    cells = {number: [*line, *[""] * len(header)][: len(header)] for number, line in list(numbered.items())[1:]}
    rows = pd.DataFrame.from_dict(cells, orient="index", columns=header, dtype="str")
    try:
        return membership.spells(rows)
    except membership.MembersError as error:
        where = str(path) if error.line is None else f"{path}, line {error.line}"
        raise DataError(f"{where}: {error}") from None


def facts(spells: pd.DataFrame | None, config: Config, held: Sequence[str]) -> dict[str, Any]:
    """What training records of the universe: whether it was chosen with hindsight, and which members have no prices.

    Args:
        spells: of `members`.
        config: names the file.
        held: the tickers of the lake.
    """
    if spells is None or config.universe.members is None:
        return {"members": None, "hindsight": True}
    named = sorted(set(spells["ticker"]))
    return {
        "members": config.universe.members.name,
        "hindsight": False,
        "tickers": len(named),
        "spells": len(spells),
        "missing": sorted(set(named) - set(held)),
    }


def sentence(found: dict[str, Any]) -> str:
    """`facts` in words."""
    if found["hindsight"]:
        return HINDSIGHT
    text = f"Universe dated by {found['members']}: {found['tickers']:,} tickers in {found['spells']:,} spells"
    missing = found["missing"]
    if not missing:
        return f"{text}, all of them with prices."
    names = ", ".join(missing[:MOST_NAMED]) + (", ..." if len(missing) > MOST_NAMED else "")
    return (
        f"{text}; {len(missing):,} have no prices in the lake ({names}), and where those are delisted losers the "
        "survivors flatter every return."
    )


def groups(universe: Universe, tickers: Sequence[str]) -> dict[str, list[str]]:
    """The tickers by calendar, in the order in which calendars first appear."""
    found: dict[str, list[str]] = {}
    for ticker in tickers:
        found.setdefault(universe.calendar_of(str(ticker)), []).append(str(ticker))
    return found


def axis(name: str, dates: pd.Series) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """`features.calendars.axis`.

    Raises:
        DataError: the calendar is unknown, or has no session there.
    """
    try:
        return calendars.axis(name, dates)
    except calendars.CalendarError as error:
        raise DataError(str(error)) from None


def own_sessions(universe: Universe, tickers: Sequence[str], sessions: pd.DatetimeIndex, held: Bools) -> Bools:
    """(T, N) whether each date of the union axis is a session of the ticker's own calendar.

    All are, where there is one calendar.

    Args:
        universe: the calendars.
        tickers: N tickers. sessions: T dates.
        held: (T, N) where there is a row; without a calendar these dates are the group's sessions.

    Raises:
        DataError: a row lies on a date that is none of its calendar's sessions.
    """
    own = np.ones(held.shape, dtype=bool)
    found = groups(universe, tickers)
    if len(found) > 1:
        names = pd.Index([str(ticker) for ticker in tickers])
        for name, some in found.items():
            at = names.get_indexer(pd.Index(some))
            own[:, at] = _is_session(name, sessions, held[:, at])[:, None]
        wrong = np.argwhere(held & ~own)
        if len(wrong):
            t, n = wrong[0]
            calendar = universe.calendar_of(str(tickers[n]))
            raise DataError(
                f"{tickers[n]} has a row on {sessions[t]:%Y-%m-%d}, which is no session of calendar {calendar}; after "
                "a change of [universe] calendars run: tradewind features"
            )
    return own


def known_after(config: Config, tickers: Sequence[str], sessions: pd.DatetimeIndex, held: Bools) -> tuple[int, ...]:
    """By horizon, how many steps of the axis after a decision its label is known to every ticker's decision.

    On one calendar that is the horizon, plus one where the position is opened at the next open. On several it is the
    longest over tickers and time; a label counts as known when its last session has closed.

    Args:
        config: calendars, lead, horizons, interval.
        tickers: N tickers. sessions: T dates, ascending.
        held: (T, N) where there is a row.
    """
    delay = 1 if config.target.interval == "open_to_open" else 0
    steps = tuple(h + delay for h in config.target.horizons)
    found = groups(config.universe, tickers)
    if len(found) < 2:
        return steps
    own = own_sessions(config.universe, tickers, sessions, held)
    names = pd.Index([str(ticker) for ticker in tickers])
    closes = [(np.flatnonzero(own[:, names.get_loc(some[0])]), _closes(name, sessions)) for name, some in found.items()]
    lead = np.timedelta64(config.universe.decision_lead_minutes, "m")
    earliest = np.full(len(sessions), np.datetime64("2262-01-01", "us"))
    for at, close in closes:
        earliest[at] = np.minimum(earliest[at], close[at] - lead)
    # The first date from which every decision, on whatever exchange, comes later than an instant.
    earliest = np.minimum.accumulate(earliest[::-1])[::-1]
    longest = list(steps)
    for at, close in closes:
        for i, step in enumerate(steps):
            if len(at) > step:
                known = earliest.searchsorted(close[at[step:]], side="left")
                longest[i] = max(longest[i], int((known - at[:-step]).max()))
    return tuple(longest)


def sessions_per_year(name: str, sessions: pd.DatetimeIndex) -> float:
    """How many sessions of a calendar make a year: 252 of an exchange, 365 round the clock; without a calendar by the
    usual distance of the dates, so that a later date changes nothing."""
    if name == "24/7":
        return DAYS_OF_YEAR
    if name != calendars.NONE or len(sessions) < 2:
        return TRADING_YEAR
    gap = float(np.median(np.diff(sessions.to_numpy()) / np.timedelta64(1, "D")))
    if gap > 1:
        return DAYS_OF_YEAR / gap
    return DAYS_OF_YEAR if (sessions.day_of_week >= 5).mean() > 0.1 else TRADING_YEAR


def shared_year(universe: Universe, tickers: Sequence[str], sessions: pd.DatetimeIndex) -> float:
    """`sessions_per_year` of all tickers together; 252 where their calendars differ in it."""
    years = {sessions_per_year(name, sessions) for name in groups(universe, tickers)}
    return years.pop() if len(years) == 1 else TRADING_YEAR


def _is_session(name: str, sessions: pd.DatetimeIndex, held: Bools) -> Bools:
    """(T,) whether each date is a session of the calendar."""
    if name == calendars.NONE:
        return np.asarray(held.any(axis=1))
    days, _ = axis(name, pd.Series(sessions))
    return np.asarray(sessions.isin(days))


def _closes(name: str, sessions: pd.DatetimeIndex) -> npt.NDArray[np.datetime64]:
    """(T,) datetime64[us], UTC: when each date closes; NaT where it is no session."""
    days, closes = axis(name, pd.Series(sessions))
    found = pd.Series(closes.tz_localize(None), index=days).reindex(sessions)
    return found.to_numpy().astype("datetime64[us]")
