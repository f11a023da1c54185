"""Where prices and news come from. A provider delivers; `pipeline.ingest` decides what the lake keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from pipeline.summary import Progress

BARS = ("ticker", "session", "open", "high", "low", "close", "adj_close", "volume", "dividend", "split")
"""Columns of delivered prices: the `prices` table without its source and its clocks."""


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used: for which table, why, from where, and its original text."""

    table: str
    reason: str
    source: str
    row: str


@dataclass(frozen=True)
class Delivery:
    """What a provider found.

    Attributes:
        source: the provider's name, kept with every price row.
        prices: BARS; sessions `datetime64[us]`, figures float64, each (ticker, session) once.
        news: the `news` table without `ingested_at`.
        rejected: rows that cannot be used.
        failed: ticker -> why nothing came for it.
        notes: what the user should know about this delivery.
    """

    source: str
    prices: pd.DataFrame
    news: pd.DataFrame
    rejected: tuple[Rejected, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Provider(Protocol):
    """Anything that delivers."""

    def fetch(self, progress: Progress) -> Delivery:
        """Deliver everything that the configuration asks for.

        Raises:
            DataError, ProviderError: nothing at all could be delivered.
        """
        ...
