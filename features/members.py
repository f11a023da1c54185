"""Who belonged to the universe when: spells of membership as rows, and as a mask over sessions and tickers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

COLUMNS = ("ticker", "from", "to")
_DATE = r"\d{4}-\d{2}-\d{2}"
_NEVER = pd.Timestamp("2200-01-01")


class MembersError(ValueError):
    """The spells cannot be used; `line` is the index of the offending row, None where it is no single row."""

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def spells(rows: pd.DataFrame) -> pd.DataFrame:
    """Check spells of membership.

    Args:
        rows: text columns ticker, from and to: the first and the last session in, both included, like 2013-03-01; an
            empty `to` is a ticker still in. A ticker may have several spells. The index is what errors name.

    Returns:
        ticker, first, last (datetime64[us]; NaT = still in), by ticker and first.

    Raises:
        MembersError: a column is missing, a ticker empty, a date unknown, a spell reversed or overlapping another.
    """
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise MembersError(None, f"no column {', '.join(missing)}; the columns are {', '.join(COLUMNS)}")
    if not rows.columns.is_unique:
        raise MembersError(None, f"a column is there twice: {', '.join(rows.columns)}")
    if rows.empty:
        raise MembersError(None, "no ticker in it; give a line like AAPL,2000-01-03,")
    text = {name: rows[name].astype("str").str.strip() for name in COLUMNS}
    _refuse(text["ticker"] == "", lambda line: "no ticker")
    first, last = (_dates(text[name], name) for name in ("from", "to"))
    _refuse(first.isna(), lambda line: "from is empty; a spell needs its first session, like 2013-03-01")
    _refuse(last < first, lambda line: f"to {last[line]:%Y-%m-%d} lies before from {first[line]:%Y-%m-%d}")
    found = pd.DataFrame({"ticker": text["ticker"], "first": first, "last": last})
    found = found.sort_values(["ticker", "first"], kind="stable")
    before = found.groupby("ticker")["last"].shift()
    follows = found["ticker"] == found["ticker"].shift()
    overlaps = follows & (before.isna() | (found["first"] <= before))
    _refuse(overlaps, lambda line: _overlap(found, line))
    return found.reset_index(drop=True)


def mask(members: pd.DataFrame, tickers: Sequence[str], sessions: pd.DatetimeIndex) -> npt.NDArray[np.bool_]:
    """(T, N) whether each ticker belongs at each session.

    Args:
        members: what `spells` returned.
        tickers: N tickers; one without a spell never belongs.
        sessions: T sessions, ascending.
    """
    at = pd.Index(tickers).get_indexer(pd.Index(members["ticker"]))
    known = members[at >= 0]
    start = sessions.searchsorted(pd.DatetimeIndex(known["first"]), side="left")
    end = sessions.searchsorted(pd.DatetimeIndex(known["last"].fillna(_NEVER)), side="right")
    steps = np.zeros((len(sessions) + 1, len(tickers)), dtype=np.int64)
    np.add.at(steps, (start, at[at >= 0]), 1)
    np.add.at(steps, (end, at[at >= 0]), -1)
    inside: npt.NDArray[np.bool_] = np.cumsum(steps, axis=0)[:-1] > 0
    return inside


def _dates(values: pd.Series, name: str) -> pd.Series:
    """datetime64[us], NaT where empty."""
    parsed = pd.to_datetime(values.where(values.str.fullmatch(_DATE)), format="%Y-%m-%d", errors="coerce")
    _refuse(parsed.isna() & (values != ""), lambda line: f"{name} {values[line]!r} is no date like 2013-03-01")
    dates: pd.Series = parsed.astype("datetime64[us]")
    return dates


def _overlap(found: pd.DataFrame, line: int) -> str:
    at = int(np.flatnonzero(found.index == line)[0])
    (_, other), (ticker, first) = found[["ticker", "first"]].iloc[[at - 1, at]].itertuples(index=False)
    until = found["last"].iloc[at - 1]
    lasts = "is still open" if until is pd.NaT else f"lasts to {until:%Y-%m-%d}"
    return f"{ticker} joins on {first:%Y-%m-%d}, but its spell from {other:%Y-%m-%d} {lasts}"


def _refuse(bad: pd.Series, reason: Callable[[int], str]) -> None:
    """Raise for the first row that is bad."""
    if bad.any():
        line = int(bad.index[bad][0])
        raise MembersError(line, reason(line))
