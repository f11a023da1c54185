"""ingest: what the providers deliver into the lake, batch by batch, with both clocks, nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import cast

import pandas as pd

from features import frames
from features.calendars import CalendarError, calendar_sessions
from features.news import MARKET
from pipeline.config import Config, Universe
from pipeline.errors import DataError, UnknownTickerError
from pipeline.providers import Delivery, Held, Provider
from pipeline.store import Lake, Upserted, news_id
from pipeline.summary import Progress, Summary, silent

NOTHING = Upserted(0, 0, 0)


@dataclass
class Landed:
    """What has been written so far, over all batches.

    repeated: headlines that came more than once in one batch, under one source, ticker, time and title (or address).
    first, last: the sessions delivered, in range or not; known: tickers delivered, asked for or not. begun: the first
    session that the lake held of each ticker before.
    """

    prices: Upserted = NOTHING
    news: Upserted = NOTHING
    repeated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    known: set[str] = field(default_factory=set)
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    is_in_range: bool = False
    begun: dict[str, pd.Timestamp] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def run(config: Config, progress: Progress = silent, provider: Provider | None = None) -> Summary:
    """Fetch what the configuration asks for and the lake does not hold, and keep it.

    Every batch is written before the next one is asked for: what had landed before a crash stays, and the next run
    completes it.

    Args:
        config: the configuration.
        progress: called as work goes on.
        provider: another provider than the configured ones.

    Raises:
        DataError: an empty range, or nothing usable.
        ProviderError: nothing came for any ticker; its subclass says why.
    """
    universe = config.universe
    if universe.since and universe.until and universe.since > universe.until:
        raise DataError(f"empty range: universe.since {universe.since} is after universe.until {universe.until}")
    lake = Lake.of(config.data)
    held = Held(lake.recent_prices(config.data.recheck_sessions), lake.state())
    landed = Landed()
    if universe.since and lake.exists("prices"):
        before = lake.coverage()
        landed.begun = dict(zip(before["ticker"], before["first"], strict=True))
    for delivery in _deliveries(config, progress, held, provider):
        _land(lake, config, delivery, landed)
    _check(config, landed)
    lake.tidy()
    return _summary(config, lake, landed)


def configured(config: Config) -> Provider:
    """The provider that `data.provider` names."""
    return _provider(config.data.provider)


def _provider(name: str) -> Provider:
    return cast(Provider, import_module(f"pipeline.providers.{name}").deliver)


def _deliveries(config: Config, progress: Progress, held: Held, provider: Provider | None) -> Iterator[Delivery]:
    try:
        yield from (provider or configured(config))(config, progress, held)
        if provider is None and config.data.rss.feeds:
            yield from _provider("rss")(config, progress, held)
    except CalendarError as error:
        raise DataError(str(error)) from None


def _land(lake: Lake, config: Config, delivery: Delivery, landed: Landed) -> None:
    """Write one batch; its state last, so that a batch cut short is asked for again."""
    seen = pd.Timestamp.now("UTC")
    _note_what_came(delivery, landed)
    wanted = _wanted(delivery, config.universe)
    prices = _in_range(wanted.prices, "session", config.universe, landed.begun)
    if len(prices):
        landed.is_in_range = True
        landed.prices += lake.upsert_prices(_stamped(prices, config.universe, seen))
    news = _in_range(wanted.news, "published_at", config.universe)
    if len(news) and (landed.is_in_range or delivery.prices.empty):
        items = _identified(news, seen)
        landed.repeated += len(news) - len(items)
        landed.news += lake.add_news(items)
    for table in sorted({row.table for row in delivery.rejected}):
        rows = [row for row in delivery.rejected if row.table == table]
        reasons, texts, sources = ([getattr(row, name) for row in rows] for name in ("reason", "row", "source"))
        landed.quarantined += lake.quarantine(table, reasons, texts, sources)
    lake.keep_state(delivery.state)


def _note_what_came(delivery: Delivery, landed: Landed) -> None:
    landed.failed |= delivery.failed
    landed.notes += [note for note in delivery.notes if note not in landed.notes]
    landed.rejected.update(row.reason for row in delivery.rejected)
    if len(delivery.prices):
        first, last = delivery.prices["session"].min(), delivery.prices["session"].max()
        landed.first = first if landed.first is None else min(first, landed.first)
        landed.last = last if landed.last is None else max(last, landed.last)
        landed.known |= set(delivery.prices["ticker"].unique())


def _check(config: Config, landed: Landed) -> None:
    """An ingestion that brought no price at all is an error; a ticker that did not come is a failure."""
    universe, name = config.universe, config.data.provider
    if landed.first is None or landed.last is None:
        reasons = "; ".join(f"{ticker}: {reason}" for ticker, reason in landed.failed.items())
        raise UnknownTickerError(reasons or f"{name} delivered no prices")
    there = ", ".join(sorted(landed.known)[:10]) + (" and more" if len(landed.known) > 10 else "")
    reason = f"{name} has no such ticker; it has {there}"
    missing = [ticker for ticker in universe.tickers if ticker not in landed.known]
    landed.failed = {**dict.fromkeys(missing, reason), **landed.failed}
    if universe.tickers and len(missing) == len(universe.tickers):
        raise UnknownTickerError("; ".join(f"{ticker}: {landed.failed[ticker]}" for ticker in missing))
    if not landed.is_in_range:
        raise DataError(
            f"empty range: no session from {universe.since or f'{landed.first:%Y-%m-%d}'} "
            f"to {universe.until or f'{landed.last:%Y-%m-%d}'}; "
            f"{name} has {landed.first:%Y-%m-%d} to {landed.last:%Y-%m-%d}"
        )


def _wanted(delivery: Delivery, universe: Universe) -> Delivery:
    """Only the tickers asked for, and news of the market."""
    if not universe.tickers:
        return delivery
    return replace(
        delivery,
        prices=delivery.prices[delivery.prices["ticker"].isin(universe.tickers)],
        news=delivery.news[delivery.news["ticker"].isin([*universe.tickers, *MARKET])],
    )


def _in_range(
    rows: pd.DataFrame, column: str, universe: Universe, begun: Mapping[str, pd.Timestamp] | None = None
) -> pd.DataFrame:
    """The rows from universe.since to universe.until.

    What the lake holds from before `since` is renewed with the rest: of a history that its vendor rebased, a part left
    as it was would make a jump where the two meet.
    """
    if rows.empty:
        return rows
    day = rows[column].dt.tz_localize(None).dt.normalize() if column == "published_at" else rows[column]
    kept = pd.Series(True, index=rows.index)
    if universe.since:
        since = pd.Timestamp(universe.since)
        kept &= day >= since
        if begun:
            kept |= day >= rows["ticker"].map(dict(begun)).fillna(since)
    if universe.until:
        kept &= day <= pd.Timestamp(universe.until)
    return rows[kept]


def _stamped(prices: pd.DataFrame, universe: Universe, seen: pd.Timestamp) -> pd.DataFrame:
    """A price bar is known at the close of its session, on the calendar of its ticker."""
    calendars = prices["ticker"].map({ticker: universe.calendar_of(ticker) for ticker in prices["ticker"].unique()})
    known = []
    for calendar, session in prices["session"].groupby(calendars):
        sessions, closes = calendar_sessions(str(calendar), session.min(), session.max())
        known.append(session.map(pd.Series(closes, index=sessions)))
    stamped = prices.assign(known_at=pd.concat(known), ingested_at=seen)
    return stamped[list(frames.COLUMNS["prices"])].astype(frames.COLUMNS["prices"]).reset_index(drop=True)


def _identified(news: pd.DataFrame, seen: pd.Timestamp) -> pd.DataFrame:
    stamps = news["published_at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    parts = zip(news["source"], news["url"], news["ticker"], stamps, news["title"], strict=True)
    rows = news.assign(news_id=[news_id(*each) for each in parts], ingested_at=seen).drop_duplicates("news_id")
    return rows[list(frames.COLUMNS["news"])].astype(frames.COLUMNS["news"]).reset_index(drop=True)


def _summary(config: Config, lake: Lake, landed: Landed) -> Summary:
    held = lake.coverage()
    sizes = dict(zip(held["ticker"], held["sessions"], strict=True))
    short = {ticker: int(n) for ticker, n in sizes.items() if n < config.universe.min_sessions}
    priced, told = landed.prices, landed.news
    lines = [
        f"prices: {priced.inserted:,} new, {priced.revised:,} revised, {priced.unchanged:,} unchanged; "
        f"{len(sizes)} tickers, {held['first'].min():%Y-%m-%d} to {held['last'].max():%Y-%m-%d}",
        f"news: {told.inserted:,} new, {told.unchanged:,} known"
        + (f", {landed.repeated:,} delivered twice" if landed.repeated else ""),
    ]
    if priced.revised:
        lines.append("revised by the vendor: what was there before is kept; see: tradewind lake revisions")
    if landed.rejected:
        lines.append(
            f"quarantined: {landed.rejected.total():,} rows ({landed.quarantined:,} new): "
            + ", ".join(f"{reason} x {n}" for reason, n in landed.rejected.most_common(3))
        )
    lines += [f"too short to learn from: {ticker} ({n} sessions)" for ticker, n in short.items()]
    lines += [f"failed: {ticker}: {reason}" for ticker, reason in landed.failed.items()]
    lines += [f"note: {note}" for note in landed.notes]
    others = sorted(set(sizes) - set(config.universe.tickers or landed.known))
    if others:
        named = ", ".join(others[:10]) + (" and more" if len(others) > 10 else "")
        lines.append(f"note: the lake also holds {named}; later stages use them too (else choose another data.lake)")
    figures = {
        "prices": priced.__dict__,
        "news": {**told.__dict__, "repeated": landed.repeated},
        "quarantined": landed.rejected.total(),
        "tickers": list(sizes),
        "too_short": short,
        "also_held": others,
        "failed": landed.failed,
        "versions": lake.versions(("prices", "news", "price_revisions", "quarantine")),
    }
    left_out = tuple(f"{ticker} ({reason})" for ticker, reason in landed.failed.items())
    return Summary("ingest", tuple(lines), figures, left_out)
