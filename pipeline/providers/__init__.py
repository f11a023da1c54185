"""Providers: where prices and news come from. Each is one function, `deliver(config, progress) -> Delivery`.

A provider reads everything it was asked for and judges every row; it knows neither the lake nor when a price
bar became known. `pipeline.ingest` adds the times and writes.
"""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True)
class Delivery:
    """What a provider hands over.

    Attributes:
        prices: PRICE_COLUMNS, (ticker, session) unique; an unknown volume is 0, no dividend 0, no split 1.
        news: NEWS_COLUMNS, instants in UTC; a ticker of '' is the market.
        rejected: rows that cannot be used.
        failed: ticker -> why it could not be had.
        notes: what a person should know, one line each.
    """

    prices: pd.DataFrame
    news: pd.DataFrame = field(default_factory=empty_news)
    rejected: tuple[Rejected, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Provider(Protocol):
    """The shape of every `deliver`."""

    def __call__(self, config: Config, progress: Progress) -> Delivery:
        """Everything the configuration asks for.

        Raises:
            DataError: nothing of it can be used.
            ProviderError: nothing of it could be had.
        """
        ...
