"""A small simulated world with the clock of its exchange: bars known at the close, headlines at any hour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from features import frames
from features.alterations import World
from features.calendars import calendar_sessions
from pipeline.config import Config
from pipeline.store import Lake
from tests.conftest import simulate_prices

FIRST = "2005-01-03"
TEXTS = ("shares soar on a wonderful quarter", "a terrible loss", "the board meets on tuesday")


def sessions_and_closes(sessions: int) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """The first sessions from 2005-01-03 on."""
    days, closes = calendar_sessions("XNYS", FIRST, "2009-12-31")
    return days[:sessions], closes[:sessions]


def world_of(tickers: int = 3, sessions: int = 640, news: int = 500) -> World:
    """Bars of all tickers on all sessions, and headlines at random instants, some without a ticker."""
    days, closes = sessions_and_closes(sessions)
    rows = simulate_prices(tickers, sessions, first=FIRST)
    assert (rows["session"].to_numpy()[::tickers] == days.to_numpy()).all()
    known_at = pd.Series(closes.repeat(tickers)).astype(frames.INSTANT)
    return World(rows.assign(known_at=known_at, ingested_at=known_at), headlines(tickers, days, news))


def headlines(tickers: int, days: pd.DatetimeIndex, number: int) -> pd.DataFrame:
    generator = np.random.default_rng(5)
    day = days.to_numpy()[np.sort(generator.integers(0, len(days), number))]
    seconds = generator.integers(0, 86_400, number).astype("timedelta64[s]")
    known_at = pd.Series(day + seconds).dt.tz_localize("UTC").astype(frames.INSTANT)
    names = np.array([*(f"T{i:02d}" for i in range(tickers)), ""], dtype=object)
    columns = {
        "news_id": [f"n{i}" for i in range(number)],
        "ticker": names[generator.integers(0, len(names), number)],
        "published_at": known_at,
        "known_at": known_at,
        "ingested_at": known_at,
        "source": "simulated",
        "title": np.array(TEXTS, dtype=object)[generator.integers(0, len(TEXTS), number)],
        "summary": "",
        "url": "",
    }
    return frames.check("news", pd.DataFrame(columns).astype(frames.COLUMNS["news"]))


def audited_config(small: Config, root: Path) -> Config:
    """`small_config` at its own place, with a lexicon for text and a race of one test year, 2007."""
    data = small.data.model_copy(update={"lake": str(root / "lake"), "artifacts": root / "artifacts"})
    splits = small.splits.model_copy(update={"min_train_sessions": 300, "validation_sessions": 120})
    sentiment = small.sentiment.model_copy(update={"scorer": "textblob"})
    return small.model_copy(update={"data": data, "splits": splits, "sentiment": sentiment})


def lake_of(config: Config, world: World) -> Lake:
    """The lake of the configuration, holding the world."""
    lake = Lake.of(config.data)
    lake.upsert_prices(world.prices)
    lake.add_news(world.news)
    return lake
