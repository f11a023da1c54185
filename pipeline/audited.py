"""What the look-ahead audit is run on, first part: functions from rows to features, with the instant of their use.

Features go the way they go in the pipeline: rows, calendar, `features.table.build`, float32 as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from features import members, table
from features.alterations import World
from features.audit import AuditError, Cells, Instants, Subject
from features.bars import Bars
from features.prices import Wide
from pipeline import universe
from pipeline.config import Config
from pipeline.feature_years import Makers

VOL, RETURN = "vol", "r"


@dataclass(frozen=True)
class View:
    """The tables on one calendar's sessions.

    Attributes:
        calendar: its name.
        prices: the rows of its tickers.
        news: all news.
        bars: the prices, N tickers on T sessions.
        closes: (T,) UTC.
        used_at: (T,) decision times, UTC.
    """

    calendar: str
    prices: pd.DataFrame
    news: pd.DataFrame
    bars: Bars
    closes: pd.DatetimeIndex
    used_at: Instants

    @cached_property
    def wide(self) -> Wide:
        """The prices as frames."""
        return Wide.of(self.bars)


def views(config: Config, spells: pd.DataFrame | None, world: World) -> Iterator[View]:
    """One for each calendar that has tickers in the tables.

    Args:
        config: calendars and lead.
        spells: of `pipeline.universe.members`; None = all tickers, always.
        world: the tables.

    Raises:
        DataError: a calendar is unknown, or has no session there.
    """
    tickers = sorted(world.prices["ticker"].unique())
    for name, some in universe.groups(config.universe, tickers).items():
        rows = world.prices[world.prices["ticker"].isin(some)].reset_index(drop=True)
        sessions, closes = universe.axis(name, rows["session"])
        inside = None if spells is None else members.mask(spells, sorted(some), sessions).T
        bars = Bars.from_rows(rows, sessions, members=inside)
        yield View(name, rows, world.news, bars, closes, decisions(closes, config.universe.decision_lead_minutes))


def decisions(closes: pd.DatetimeIndex, lead_minutes: int) -> Instants:
    """(T,) datetime64[us], UTC: when each session decides."""
    instants = closes.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
    return np.asarray(instants - np.timedelta64(lead_minutes, "m"))


def features(config: Config, spells: pd.DataFrame | None, makers: Makers, only_own: bool = False) -> Subject:
    """Every feature of the table, `vol` and `r`; by calendar, where several are configured.

    Args:
        config: which families, which features.
        spells: of `pipeline.universe.members`; None = all tickers, always.
        makers: own families and the scorer of headlines.
        only_own: the user's features alone.

    Raises:
        FeatureError: once it runs: an own family, or a chosen name, cannot be used.
    """
    families, chosen = ((), ()) if only_own else (config.features.families, config.features.chosen)
    lead, threshold = config.universe.decision_lead_minutes, config.sentiment.threshold

    def subject(world: World) -> dict[str, Cells]:
        found: dict[str, Cells] = {}
        for view in views(config, spells, world):
            news = table.News(view.news, view.closes, lead, threshold, makers.scorer)
            panel = table.build(view.bars, news, families, makers.own, chosen)
            of = f" on {view.calendar}" if config.universe.calendars else ""
            values = {name: panel.x[..., i] for i, name in enumerate(panel.feature_names)} | {VOL: panel.vol}
            values[RETURN] = panel.r
            for name in (name for name in values if not only_own or name not in (VOL, RETURN, table.OBSERVED)):
                found[name + of] = Cells(panel.sessions, panel.tickers, view.used_at, values[name].T)
        return found

    return subject


def cells_of(name: str, frame: pd.DataFrame, view: View) -> Cells:
    """A (sessions, tickers) frame as cells used at the decisions of its sessions.

    Raises:
        AuditError: a row is no session, or there twice.
    """
    at = pd.DatetimeIndex(view.bars.sessions).get_indexer(pd.DatetimeIndex(frame.index))
    if (at < 0).any():
        strange = frame.index[int(np.flatnonzero(at < 0)[0])]
        raise AuditError(f"{name} has a row {strange!s}, which is no session of calendar {view.calendar}")
    if not frame.index.is_unique or not frame.columns.is_unique:
        raise AuditError(f"{name} has a session or a ticker twice")
    tickers = np.asarray(frame.columns, dtype=str)
    return Cells(view.bars.sessions[at], tickers, view.used_at[at], frame.to_numpy())
