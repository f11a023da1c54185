"""Simulated prices on any calendar, and a whole run on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from features import frames
from features.calendars import NONE, calendar_sessions
from pipeline import backtest, compress, featurize, ingest, today, train
from pipeline.config import Config
from pipeline.providers import Delivery, Held, empty_news
from pipeline.store import Lake
from pipeline.summary import Progress, Summary
from tests.conftest import simulate_prices

BAR = ("open", "high", "low", "close", "adj_close", "volume")


def days_of(calendar: str, first: str, last: str) -> pd.DatetimeIndex:
    """Sessions of a calendar; without one, Fridays."""
    if calendar == NONE:
        return pd.date_range(first, last, freq="W-FRI").as_unit("us")
    return calendar_sessions(calendar, first, last)[0]


def prices_on(days: pd.DatetimeIndex, names: list[str], seed: int = 0) -> pd.DataFrame:
    """The simulator's bars, one a day of `days`."""
    rows = simulate_prices(len(names), len(days), seed, "1996-01-02")
    place, _ = pd.factorize(rows["session"])
    rows["session"] = days[place].astype(frames.SESSION)
    rows["ticker"] = np.tile(np.array(names, dtype=object), len(days))
    known = (rows["session"] + pd.Timedelta(hours=24)).dt.tz_localize("UTC").astype(frames.INSTANT)
    return rows.assign(known_at=known, ingested_at=known).astype({"ticker": "str"})


def altered(prices: pd.DataFrame, which: pd.Series, seed: int = 0) -> pd.DataFrame:
    """Other prices where `which` holds."""
    rows = prices.copy()
    factor = np.exp(np.random.default_rng(seed).normal(0.5, 0.3, int(which.sum())))
    for name in BAR:
        rows.loc[which, name] *= factor
    return rows


def under(config: Config, root: Path, **changes: object) -> Config:
    """The configuration with its lake and artifacts under `root` and other keys of [universe]."""
    data = config.data.model_copy(update={"lake": str(root / "lake"), "artifacts": root / "artifacts"})
    return config.model_copy(update={"data": data, "universe": config.universe.model_copy(update=changes)})


def lake_of(config: Config, prices: pd.DataFrame) -> Lake:
    """Ingest the prices, every one of which must be usable."""

    def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
        yield Delivery(prices.drop(columns=["known_at", "ingested_at"]), empty_news())

    ingest.run(config, provider=deliver)
    lake = Lake.of(config.data)
    assert len(lake.prices()) == len(prices)
    return lake


def trained(config: Config, prices: pd.DataFrame) -> Lake:
    """Prices through features and training."""
    lake = lake_of(config, prices)
    featurize.run(config)
    train.run(config)
    return lake


def all_stages(config: Config, prices: pd.DataFrame) -> dict[str, Summary]:
    """Prices through every stage up to today's positions."""
    lake_of(config, prices)
    return {
        stage.__name__.rpartition(".")[2]: stage.run(config) for stage in (featurize, train, compress, backtest, today)
    }
