"""The calendar: known years ahead, from the date of the session alone, but for `days_since`."""

from __future__ import annotations

import numpy as np

from features import trailing
from features.bars import Bars
from features.trailing import Array

MOST_DAYS = 10
MONTH_END_DAYS = 3


def calendar_family(bars: Bars) -> dict[str, Array]:
    """monday, tuesday, wednesday, thursday: 1 on that weekday, 0 otherwise (Friday is the absence of the others).

    days_since = ln of the calendar days since the ticker's previous bar, at most 10; missing on its first one.
    month_end = 1 on the last three calendar days of a month. expiry_week = 1 from Monday to Sunday around the third
    Friday of a month, when options expire.
    """
    days = bars.now(bars.sessions[None, :])[0]
    since_monday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    months = days.astype("datetime64[M]")
    left = ((months + 1).astype("datetime64[D]") - days).astype(np.int64)
    friday = days + (4 - since_monday)
    day_of_friday = (friday - friday.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    flags = {name: since_monday == day for day, name in enumerate(("monday", "tuesday", "wednesday", "thursday"))}
    flags["month_end"] = left <= MONTH_END_DAYS
    flags["expiry_week"] = (day_of_friday >= 15) & (day_of_friday <= 21)
    traded = bars.now(bars.traded)
    found = {name: np.where(traded, flag.astype(np.float64), np.nan) for name, flag in flags.items()}
    return found | {"days_since": _days_since(bars)}


def _days_since(bars: Bars) -> Array:
    day = bars.sessions.astype(np.int64).astype(np.float64)
    last = trailing.carried(np.where(bars.traded, day, np.nan))
    before = trailing.lagged(last, 1, bars.keep)
    since = np.minimum(bars.now(day[None, :]) - before, MOST_DAYS)
    return np.where(bars.now(bars.traded), trailing.ln(since), np.nan)
