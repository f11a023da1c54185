"""Other futures: what a look-ahead audit does to everything that was not yet known at an instant, the cut.

Each alteration takes the tables as they are and returns them with rows known after the cut changed, removed or
added; rows known at or before the cut stay as they were. Two are special. A vendor that learns of a later dividend
rebases the whole history of `adj_close`, so there early rows change too, as they do in life. And a hole is made in
the last known sessions of some tickers, before and after alike: what fills it may only come from the past.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from features import frames

Alter = Callable[["World", pd.Timestamp, np.random.Generator], "World"]

PRICES = ("open", "high", "low", "close", "adj_close")
SPREAD = 0.3
"""Standard deviation of the log of the factors that later figures are multiplied by."""
HOLE_SESSIONS = 2
DAY = pd.Timedelta(days=1)
REBASE = (0.97, 0.5)
"""A dividend of 3 % and a split in two: two decimals at most, so that prices in cents keep four."""
DELAYS = (pd.Timedelta(seconds=1), pd.Timedelta(minutes=10), DAY)
BACKDATED = pd.Timedelta(hours=20)
PRAISE = "a wonderful, excellent, superb, happy result"
BLAME = "an awful, terrible, horrible, nasty result"


class World(NamedTuple):
    """What outputs are computed from: rows of the `prices` and of the `news` table, any order, no index meant."""

    prices: pd.DataFrame
    news: pd.DataFrame


@dataclass(frozen=True)
class Alteration:
    """One way in which the future can differ.

    Attributes:
        name: short, as in `when later prices were NAME`.
        of: the table it alters: prices or news.
        alter: gives the other future; the generator is all its randomness.
        prepare: what is done to both futures first; None = nothing.
    """

    name: str
    of: str
    alter: Alter
    prepare: Alter | None = None


def perturbed(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """Later figures multiplied by random factors; one later bar in fifty pays a dividend of 2 %."""
    prices = world.prices.copy()
    late = (prices["known_at"] > cut).to_numpy()
    factor = np.exp(generator.normal(0.0, SPREAD, (int(late.sum()), 4)))
    moved = prices.loc[late, [*PRICES, "volume", "dividend"]].astype(np.float64)
    for name in PRICES:
        moved[name] *= factor[:, 0]
    top, bottom = moved[["open", "close"]].max(axis=1), moved[["open", "close"]].min(axis=1)
    moved["high"] = np.maximum(moved["high"], top) * np.maximum(factor[:, 1], 1.0)
    moved["low"] = np.minimum(moved["low"], bottom) * np.minimum(factor[:, 2], 1.0)
    moved["volume"] = moved["volume"] * factor[:, 3] + 1.0
    moved["dividend"] += np.where(generator.random(len(moved)) < 0.02, 0.02 * moved["close"], 0.0)
    prices.loc[late, moved.columns] = moved
    return world._replace(prices=prices)


def thinned(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """One later bar in ten is missing."""
    keep = (world.prices["known_at"] <= cut).to_numpy() | (generator.random(len(world.prices)) < 0.9)
    return world._replace(prices=world.prices[keep].reset_index(drop=True))


def left_out(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """There is no later bar: what was to be seen at the cut itself."""
    return world._replace(prices=world.prices[world.prices["known_at"] <= cut].reset_index(drop=True))


def added(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """A new ticker is listed after the cut, with another's bars at another price."""
    late = world.prices[world.prices["known_at"] > cut]
    if late.empty:
        return world
    model = late["ticker"].iloc[int(generator.integers(len(late)))]
    bars = late[late["ticker"] == model].assign(ticker="ZZZ-NEW")
    figures = list(PRICES)
    bars[figures] = bars[figures] * float(np.exp(generator.normal(0.0, 1.0)))
    bars = bars.astype({"ticker": world.prices["ticker"].dtype})
    return world._replace(prices=pd.concat([world.prices, bars], ignore_index=True))


def rebased(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """A dividend or a split of each ticker after the cut, and `adj_close` of every bar before it rebased."""
    prices = world.prices.copy()
    late = prices[prices["known_at"] > cut]
    # Not on the first bar after the cut of any ticker: that one may lie before it for others.
    events = late.groupby("ticker")["session"].agg(lambda days: days.sort_values().iloc[len(days) // 2])
    factor = pd.Series(generator.choice(REBASE, len(events)), index=events.index)
    event, by = prices["ticker"].map(events), prices["ticker"].map(factor).fillna(1.0)
    before = (prices["session"] < event).to_numpy()
    prices["adj_close"] = prices["adj_close"].where(~before, prices["adj_close"] * by)
    return world._replace(prices=prices)


def with_holes(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """A third of the tickers, one at least, did not trade in the last sessions known at the cut."""
    prices = world.prices
    known = prices["known_at"] <= cut
    last = np.unique(prices.loc[known, "session"].to_numpy())[-HOLE_SESSIONS:]
    tickers = np.unique(prices["ticker"].to_numpy(dtype=str))
    chosen = generator.permutation(tickers)[: max(1, len(tickers) // 3)]
    hole = known & prices["session"].isin(last) & prices["ticker"].isin(list(chosen))
    return world._replace(prices=prices[~hole].reset_index(drop=True))


def news_changed(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """Later headlines say something else."""
    news = world.news.copy()
    late = (news["known_at"] > cut).to_numpy()
    news.loc[late, "title"] = np.where(generator.random(int(late.sum())) < 0.5, PRAISE, BLAME)
    news.loc[late, "summary"] = ""
    return world._replace(news=news)


def news_removed(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """There is no later headline."""
    return world._replace(news=world.news[world.news["known_at"] <= cut].reset_index(drop=True))


def news_added(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """New headlines on every ticker and on the market, from one second after the cut on; of each two, one was
    published long before the cut and only seen after it."""
    tickers = [*np.unique(world.prices["ticker"].to_numpy(dtype=str)), ""]
    wanted = [(ticker, cut + delay, back) for ticker in tickers for delay in DELAYS for back in (False, True)]
    known_at = pd.Series([known for _, known, _ in wanted]).astype(frames.INSTANT)
    earlier = pd.Series([BACKDATED if back else pd.Timedelta(0) for *_, back in wanted])
    rows = pd.DataFrame(
        {
            "news_id": [f"added-{i}-{generator.integers(1 << 40)}" for i in range(len(wanted))],
            "ticker": [ticker for ticker, *_ in wanted],
            "published_at": (known_at - earlier).astype(frames.INSTANT),
            "known_at": known_at,
            "ingested_at": known_at,
            "source": "audit",
            "title": [f"{ticker}: {PRAISE if i % 2 else BLAME}" for i, (ticker, *_) in enumerate(wanted)],
            "summary": "",
            "url": "",
        }
    )
    rows = rows[list(world.news.columns)].astype({name: world.news[name].dtype for name in world.news.columns})
    return world._replace(news=pd.concat([world.news, rows], ignore_index=True))


def everything(world: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    """Later figures multiplied by random factors, later headlines changed, and new ones."""
    for alter in (perturbed, news_changed, news_added):
        world = alter(world, cut, generator)
    return world


ALTERATIONS = (
    Alteration("perturbed", "prices", perturbed),
    Alteration("thinned", "prices", thinned),
    Alteration("left out", "prices", left_out),
    Alteration("added", "prices", added),
    Alteration("rebased", "prices", rebased),
    Alteration("perturbed after a hole", "prices", perturbed, with_holes),
    Alteration("changed", "news", news_changed),
    Alteration("added", "news", news_added),
    Alteration("removed", "news", news_removed),
)
"""One by one, in the order in which a leak is attributed."""
EVERYTHING = Alteration("altered", "prices and news", everything)
"""At once, where every run is dear."""
