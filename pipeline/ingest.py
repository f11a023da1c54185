"""ingest: a provider's prices and news into the lake, with both clocks, nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib import import_module
from typing import cast

import pandas as pd

from features import frames
from features.calendars import CalendarError, calendar_sessions
from features.news import MARKET
from pipeline.config import Config
from pipeline.errors import DataError, UnknownTickerError
from pipeline.providers import Delivery, Provider
from pipeline.store import Lake, Upserted, news_id
from pipeline.summary import Progress, Summary, silent


def run(config: Config, progress: Progress = silent, provider: Provider | None = None) -> Summary:
    """Fetch what the configuration asks for and keep it.

    Args:
        config: the configuration.
        progress: called as work goes on.
        provider: another provider than the configured one.

    Raises:
        DataError: an empty range, or nothing usable.
        ProviderError: nothing came for any ticker; its subclass says why.
    """
    universe = config.universe
    if universe.since and universe.until and universe.since > universe.until:
        raise DataError(f"empty range: universe.since {universe.since} is after universe.until {universe.until}")
    try:
        delivery = _wanted((provider or configured(config))(config, progress), config)
    except CalendarError as error:
        raise DataError(str(error)) from None
    if delivery.prices.empty:
        reasons = "; ".join(f"{ticker}: {reason}" for ticker, reason in delivery.failed.items())
        raise UnknownTickerError(reasons or f"{config.data.provider} delivered no prices")
    prices = _in_range(delivery.prices, "session", config)
    if prices.empty:
        first, last = delivery.prices["session"].min(), delivery.prices["session"].max()
        raise DataError(
            f"empty range: no session from {universe.since or first:%Y-%m-%d} to {universe.until or last:%Y-%m-%d}; "
            f"{config.data.provider} has {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        )
    lake = Lake.of(config.data)
    seen = pd.Timestamp.now("UTC")
    progress("writing the lake", 0, 3)
    priced = lake.upsert_prices(_stamped(prices, config.universe.calendar, seen))
    progress("writing the lake", 1, 3)
    news = _in_range(delivery.news, "published_at", config)
    told = lake.add_news(_identified(news, seen)) if len(news) else Upserted(0, 0, 0)
    progress("writing the lake", 2, 3)
    fresh = _quarantine(lake, delivery)
    progress("writing the lake", 3, 3)
    return _summary(config, lake, delivery, priced, told, fresh)


def configured(config: Config) -> Provider:
    """The provider that `data.provider` names."""
    return cast(Provider, import_module(f"pipeline.providers.{config.data.provider}").deliver)


def _wanted(delivery: Delivery, config: Config) -> Delivery:
    """Only the tickers asked for, and news of the market; a ticker that did not come is a failure with its reason."""
    tickers = config.universe.tickers
    if not tickers:
        return delivery
    held = sorted(delivery.prices["ticker"].unique())
    there = ", ".join(held[:10]) + (" and more" if len(held) > 10 else "")
    reason = f"{config.data.provider} has no such ticker; it has {there or 'none'}"
    return replace(
        delivery,
        prices=delivery.prices[delivery.prices["ticker"].isin(tickers)],
        news=delivery.news[delivery.news["ticker"].isin([*tickers, *MARKET])],
        failed={**{ticker: reason for ticker in tickers if ticker not in held}, **delivery.failed},
    )


def _in_range(rows: pd.DataFrame, column: str, config: Config) -> pd.DataFrame:
    if rows.empty:
        return rows
    day = rows[column].dt.tz_localize(None).dt.normalize() if column == "published_at" else rows[column]
    kept = pd.Series(True, index=rows.index)
    if config.universe.since:
        kept &= day >= pd.Timestamp(config.universe.since)
    if config.universe.until:
        kept &= day <= pd.Timestamp(config.universe.until)
    return rows[kept]


def _stamped(prices: pd.DataFrame, calendar: str, seen: pd.Timestamp) -> pd.DataFrame:
    """A price bar is known at the close of its session."""
    try:
        sessions, closes = calendar_sessions(calendar, prices["session"].min(), prices["session"].max())
    except CalendarError as error:
        raise DataError(str(error)) from None
    known = prices["session"].map(pd.Series(closes, index=sessions))
    stamped = prices.assign(known_at=known, ingested_at=seen)
    return stamped[list(frames.COLUMNS["prices"])].astype(frames.COLUMNS["prices"]).reset_index(drop=True)


def _identified(news: pd.DataFrame, seen: pd.Timestamp) -> pd.DataFrame:
    stamps = news["published_at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    parts = zip(news["source"], news["url"], news["ticker"], stamps, news["title"], strict=True)
    rows = news.assign(news_id=[news_id(*each) for each in parts], ingested_at=seen).drop_duplicates("news_id")
    return rows[list(frames.COLUMNS["news"])].astype(frames.COLUMNS["news"]).reset_index(drop=True)


def _quarantine(lake: Lake, delivery: Delivery) -> int:
    fresh = 0
    for table, source in sorted({(row.table, row.source) for row in delivery.rejected}):
        rows = [row for row in delivery.rejected if (row.table, row.source) == (table, source)]
        fresh += lake.quarantine(table, [row.reason for row in rows], [row.row for row in rows], source)
    return fresh


def _summary(config: Config, lake: Lake, delivery: Delivery, priced: Upserted, told: Upserted, fresh: int) -> Summary:
    held = lake.read("prices")
    sizes = held.groupby("ticker")["session"].size()
    short = {str(ticker): int(n) for ticker, n in sizes.items() if n < config.universe.min_sessions}
    lines = [
        f"prices: {priced.inserted:,} new, {priced.revised:,} revised, {priced.unchanged:,} unchanged; "
        f"{len(sizes)} tickers, {held['session'].min():%Y-%m-%d} to {held['session'].max():%Y-%m-%d}",
        f"news: {told.inserted:,} new, {told.unchanged:,} known",
    ]
    if delivery.rejected:
        reasons = Counter(row.reason for row in delivery.rejected).most_common(3)
        lines.append(
            f"quarantined: {len(delivery.rejected):,} rows ({fresh:,} new): "
            + ", ".join(f"{reason} x {n}" for reason, n in reasons)
        )
    lines += [f"too short to learn from: {ticker} ({n} sessions)" for ticker, n in short.items()]
    lines += [f"failed: {ticker}: {reason}" for ticker, reason in delivery.failed.items()]
    lines += [f"note: {note}" for note in delivery.notes]
    others = sorted(set(sizes.index) - {*delivery.prices["ticker"], *config.universe.tickers})
    if others:
        named = ", ".join(others[:10]) + (" and more" if len(others) > 10 else "")
        lines.append(f"note: the lake also holds {named}; later stages use them too (else choose another data.lake)")
    figures = {
        "prices": priced.__dict__,
        "news": told.__dict__,
        "quarantined": len(delivery.rejected),
        "tickers": [str(ticker) for ticker in sizes.index],
        "too_short": short,
        "also_held": others,
        "failed": dict(delivery.failed),
        "versions": lake.versions(("prices", "news", "price_revisions", "quarantine")),
    }
    left_out = tuple(f"{ticker} ({reason})" for ticker, reason in delivery.failed.items())
    return Summary("ingest", tuple(lines), figures, left_out)
