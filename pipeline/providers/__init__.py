"""Providers: where prices and news come from. Each is one function, `deliver(config, progress, held)`.

A provider yields deliveries, one batch at a time, and judges every row of them; it knows neither the lake nor when
a price bar became known. `pipeline.ingest` adds the times and writes each batch before it asks for the next one, so
that a large source never lies in memory whole and a crash keeps what had landed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import pandas as pd

from features import frames
from pipeline.config import Config
from pipeline.summary import Progress

PRICE_COLUMNS: Final = {
    name: dtype for name, dtype in frames.COLUMNS["prices"].items() if name not in ("known_at", "ingested_at")
}
NEWS_COLUMNS: Final = {
    name: dtype for name, dtype in frames.COLUMNS["news"].items() if name not in ("news_id", "ingested_at")
}


class Rejected(NamedTuple):
    """One row that cannot be used, as it was received."""

    table: str
    reason: str
    source: str
    row: str


def empty_news() -> pd.DataFrame:
    """No headline, in the columns of a delivery."""
    return pd.DataFrame(columns=list(NEWS_COLUMNS)).astype(NEWS_COLUMNS)


def empty_prices() -> pd.DataFrame:
    """No bar, in the columns of a delivery."""
    return pd.DataFrame(columns=list(PRICE_COLUMNS)).astype(PRICE_COLUMNS)


@dataclass(frozen=True)
class Held:
    """What the lake already holds, so that a provider can ask for the missing part only.

    Attributes:
        recent: PRICE_COLUMNS; the last `data.recheck_sessions` bars of every ticker, by ticker and session.
        state: what earlier deliveries left in `Delivery.state`, by key.
    """

    recent: pd.DataFrame = field(default_factory=empty_prices)
    state: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delivery:
    """One batch of what a provider hands over.

    Attributes:
        prices: PRICE_COLUMNS, (ticker, session) unique over all batches; an unknown volume is 0, no dividend 0, no
            split 1.
        news: NEWS_COLUMNS, instants in UTC; a ticker of '' is the market.
        rejected: rows that cannot be used.
        failed: ticker, feed or file -> why it could not be had.
        notes: what a person should know, one line each; said twice, shown once.
        state: text by key, kept once this batch has been written, and handed to the next run as `Held.state`.
            Keys begin with the provider's name, like `rss:https://...`.
    """

    prices: pd.DataFrame = field(default_factory=empty_prices)
    news: pd.DataFrame = field(default_factory=empty_news)
    rejected: tuple[Rejected, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    state: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """The shape of every `deliver`."""

    def __call__(self, config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
        """Everything the configuration asks for that is not held, batch by batch.

        Raises:
            DataError: nothing of it can be used.
            ProviderError: nothing of it could be had.
        """
        ...
