"""Yahoo Finance through yfinance: daily bars, dividends and splits; only what the lake does not hold is asked for.

`yfinance.download` hides errors behind empty columns, so each ticker is asked for on its own with
`Ticker.history(auto_adjust=False, actions=True)` and exceptions left visible. Yahoo rewrites history: a split divides
every earlier price, a dividend every earlier adj_close. So the last held sessions are asked for again, and when the
oldest of them has another price than before, the whole history is.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import yfinance

from features import frames
from pipeline.config import Config, Universe
from pipeline.errors import ProviderError, UnknownTickerError, UsageError
from pipeline.providers import Delivery, Held, Rejected, empty_prices
from pipeline.providers.checks import NOT_OVER, check_prices
from pipeline.providers.yahoo_client import TIMEOUT, Asker, Client, Pace, in_order, prepare, shared_client
from pipeline.providers.yahoo_news import ask_news
from pipeline.summary import Progress

log = logging.getLogger(__name__)

SOURCE = "yahoo"
COLUMNS = {
    "Open": "open", "High": "high", "Low": "low", "Close": "close", "Adj Close": "adj_close",
    "Volume": "volume", "Dividends": "dividend", "Stock Splits": "split",
}  # fmt: skip
BATCH = 20
"""Tickers in one delivery: what a crash can cost."""
REBASED = 1e-5
"""Relative change of a held price that means another basis: far above the noise of Yahoo's float32 figures (1e-7),
far below any dividend; a smaller change of basis leaves no larger step than this in the returns."""
NOTE = "yahoo: adj_close is adjusted as of today, so a new dividend revises the whole history"
NONE_AGAIN = "none of the held sessions came again"


def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
    """Every ticker of universe.tickers that Yahoo delivers, then news; see `Yahoo.fetch`."""
    yield from Yahoo(config).fetch(progress, held)


class Holding(NamedTuple):
    """What the lake holds of one ticker.

    Attributes:
        recent: its last bars, by session.
        since: the first date ever asked for; None = all there is.
    """

    recent: pd.DataFrame
    since: dt.date | None


class Outcome(NamedTuple):
    """What came of asking for one ticker.

    Attributes:
        ticker: the ticker.
        rows: its bars, as they came, then only those that can be used.
        rejected: those that cannot.
        notes: what a person should know.
        since: the first date from which the lake will hold all that Yahoo has.
        error: why nothing of it is delivered.
    """

    ticker: str
    rows: pd.DataFrame
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    since: dt.date | None = None
    error: ProviderError | None = None


@dataclass(frozen=True)
class Yahoo:
    """Daily bars of the tickers in `universe.tickers`, and their news.

    Attributes:
        config: the configuration.
        session: the session for yfinance; None is one for the whole process.
        sleep: how to wait between tries.
    """

    config: Config
    session: Client | None = None
    sleep: Callable[[float], None] = time.sleep

    def fetch(self, progress: Progress, held: Held) -> Iterator[Delivery]:
        """Every ticker that Yahoo delivers, a batch at a time, the others by name and reason; then the news.

        Yahoo's open, high, low and close are adjusted for splits, its adj_close also for dividends.

        Raises:
            UsageError: no tickers are named.
            DataError: a calendar is unknown.
            ProviderError: no ticker could be delivered; the first failure is raised.
        """
        tickers = tuple(dict.fromkeys(self.config.universe.tickers))
        if not tickers:
            raise UsageError('yahoo needs tickers: --set universe.tickers=["SPY","AAPL"]')
        prepare()
        client = self.session or shared_client()
        client.pace = Pace(self.sleep)
        delivered: list[str] = []
        for outcomes in self._batches(client, tickers, progress, held):
            yield _delivery(outcomes, first=not delivered)
            delivered += [outcome.ticker for outcome in outcomes if outcome.error is None]
        yield from ask_news(self.config, self._asker(client), tuple(delivered), progress)

    def _asker(self, client: Client) -> Asker:
        return Asker(client, self.config.data.attempts, self.sleep)

    def _batches(
        self, client: Client, tickers: tuple[str, ...], progress: Progress, held: Held
    ) -> Iterator[list[Outcome]]:
        """Outcomes in the order of the tickers. Failures wait for the first ticker that can be delivered."""
        work = partial(self._ticker, self._asker(client), _holdings(held, tickers))
        came: list[Outcome] = []
        ready: list[Outcome] = []
        has_landed = False
        progress("asking Yahoo", 0, len(tickers))
        for done, outcome in enumerate(in_order(self.config.data.concurrency, client.pace, work, tickers, BATCH), 1):
            progress("asking Yahoo", done, len(tickers))
            came.append(outcome)
            if len(came) < BATCH and done < len(tickers):
                continue
            ready += _judged(came, self.config.universe)
            came = []
            has_landed |= any(each.error is None for each in ready)
            if has_landed:
                yield ready
                ready = []
        if not has_landed:
            if any(outcome.rejected for outcome in ready):
                yield ready
            raise next(outcome.error for outcome in ready if outcome.error is not None)

    def _ticker(self, asker: Asker, holdings: Mapping[str, Holding], ticker: str) -> Outcome:
        try:
            holding = holdings.get(ticker)
            if holding is None:
                return self._whole(asker, ticker, self.config.universe.since)
            return self._update(asker, ticker, holding)
        except ProviderError as error:
            log.info("%s", error)
            return Outcome(ticker, empty_prices(), error=error)

    def _update(self, asker: Asker, ticker: str, holding: Holding) -> Outcome:
        """What is missing of a ticker that is held."""
        since, until = self.config.universe.since, self.config.universe.until
        wider = _earlier(since, holding.since)
        first, last = holding.recent["session"].iloc[0], holding.recent["session"].iloc[-1]
        if wider != holding.since or (until is not None and pd.Timestamp(until) < first):
            joins = until is None or holding.since is None or until >= holding.since
            return self._whole(asker, ticker, since)._replace(since=wider if joins else holding.since)
        try:
            rows = self._history(asker, ticker, first.date())
        except UnknownTickerError:
            changed = NONE_AGAIN
        else:
            changed = _basis(holding.recent, rows)
            if not changed:
                is_apart = since is not None and pd.Timestamp(since) > last
                known = since if is_apart else holding.since  # what lies between is not wanted, so not held
                return Outcome(ticker, rows, notes=_missing(ticker, holding.recent, rows), since=known)
        # The lake keeps bars from before universe.since, if they were ever asked for: they have the old basis too.
        whole = self._whole(asker, ticker, wider)
        return whole._replace(notes=(f"{ticker}: {changed}, asked for again in full",), since=since)

    def _whole(self, asker: Asker, ticker: str, since: dt.date | None) -> Outcome:
        return Outcome(ticker, self._history(asker, ticker, since), since=since)

    def _history(self, asker: Asker, ticker: str, since: dt.date | None) -> pd.DataFrame:
        """All bars from `since` to universe.until, as they came."""
        until = self.config.universe.until
        # Yahoo's end is exclusive.
        end = None if until is None else until + dt.timedelta(days=1)
        span: dict[str, Any] = {"period": "max"} if since is None else {"start": since}

        def request() -> pd.DataFrame:
            history = yfinance.Ticker(ticker, session=asker.client).history(
                auto_adjust=False, actions=True, timeout=TIMEOUT, end=end, **span
            )
            return _raw(ticker, history)

        raw = asker.ask(ticker, request)
        if raw.empty:
            raise UnknownTickerError(f"{ticker}: Yahoo has no prices for it in the range asked for")
        return raw


def _judged(came: list[Outcome], universe: Universe) -> list[Outcome]:
    """Divide the rows of all tickers into those that can be used and the others; a ticker with none has failed.

    All tickers at once: laying out a calendar takes longer than judging their rows.
    """
    raw = pd.concat([outcome.rows for outcome in came], ignore_index=True)
    if raw.empty:
        return came
    kept, why = check_prices(raw, universe)
    # During trading Yahoo's last row is a bar in the making, not a bad one.
    bad = raw.loc[(why != "") & (why != NOT_OVER)]
    judged = []
    for outcome in came:
        if outcome.error is None:
            mine = bad[bad["ticker"] == outcome.ticker]
            lines = [json.dumps(row, default=str) for row in mine.to_dict(orient="records")]
            rejected = [Rejected("prices", why[at], SOURCE, line) for at, line in zip(mine.index, lines, strict=True)]
            rows, n = kept[kept["ticker"] == outcome.ticker], len(outcome.rows)
            outcome = outcome._replace(rows=rows, rejected=tuple(rejected))
            if rows.empty:
                first = why[raw["ticker"] == outcome.ticker].iloc[0]
                said = f"{outcome.ticker}: none of Yahoo's {n} rows can be used; the first: {first}"
                outcome = outcome._replace(error=ProviderError(said))
        judged.append(outcome)
    return judged


def _holdings(held: Held, tickers: tuple[str, ...]) -> dict[str, Holding]:
    """By ticker, those whose bars are Yahoo's and of which is known what was asked for."""
    recent = held.recent[(held.recent["source"] == SOURCE) & held.recent["ticker"].isin(tickers)]
    found = {}
    for ticker, rows in recent.sort_values("session").groupby("ticker"):
        state = held.state.get(f"{SOURCE}:{ticker}")
        if state is None:
            continue
        try:
            since = json.loads(state)["since"]
            found[str(ticker)] = Holding(rows, None if since is None else dt.date.fromisoformat(since))
        except (ValueError, TypeError, KeyError):
            log.warning("%s: what was asked for before cannot be read (%s); asking for all of it", ticker, state[:80])
    return found


def _delivery(outcomes: list[Outcome], first: bool) -> Delivery:
    landed = [outcome for outcome in outcomes if outcome.error is None]
    notes = (NOTE,) if first and landed else ()
    since = {outcome.ticker: None if outcome.since is None else f"{outcome.since}" for outcome in landed}
    return Delivery(
        prices=pd.concat([outcome.rows for outcome in landed], ignore_index=True) if landed else empty_prices(),
        rejected=tuple(row for outcome in outcomes for row in outcome.rejected),
        failed={
            outcome.ticker: str(outcome.error).removeprefix(f"{outcome.ticker}: ")
            for outcome in outcomes
            if outcome.error is not None
        },
        notes=(*notes, *(note for outcome in landed for note in outcome.notes)),
        state={f"{SOURCE}:{ticker}": json.dumps({"since": date}) for ticker, date in since.items()},
    )


def _basis(held: pd.DataFrame, now: pd.DataFrame) -> str:
    """How the basis of the prices has changed, judged by the oldest session in both; '' if it has not.

    A correction of later bars is no change of basis: it is delivered with the other rows.
    """
    prices = ["close", "adj_close"]
    again = now.loc[(now[prices] > 0).all(axis=1), ["session", *prices]].assign(session=_sessions(now))
    both = held.merge(again, on="session", suffixes=("", "_now")).sort_values("session")
    if both.empty:
        return NONE_AGAIN
    oldest = both.iloc[0]
    factors = {name: oldest[f"{name}_now"] / oldest[name] for name in prices}
    changed = [f"{name} x {factor:.6g}" for name, factor in factors.items() if abs(factor - 1) > REBASED]
    return f"history rebased ({', '.join(changed)})" if changed else ""


def _missing(ticker: str, held: pd.DataFrame, now: pd.DataFrame) -> tuple[str, ...]:
    """A note of held sessions that Yahoo no longer has; they stay in the lake."""
    sessions = _sessions(now)
    gone = held.loc[~held["session"].isin(sessions) & (held["session"] <= sessions.max()), "session"]
    if gone.empty:
        return ()
    return (f"{ticker}: Yahoo no longer has {', '.join(gone.dt.strftime('%Y-%m-%d'))}; what is held stays",)


def _sessions(raw: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(raw["session"]).astype(frames.SESSION)


def _earlier(one: dt.date | None, other: dt.date | None) -> dt.date | None:
    """The earlier of two starts; None is the beginning of all."""
    return None if one is None or other is None else min(one, other)


def _raw(ticker: str, history: pd.DataFrame) -> pd.DataFrame:
    """yfinance's frame in our columns; the date at the exchange is the session."""
    raw = history.rename(columns=COLUMNS)[list(COLUMNS.values())].reset_index(drop=True)
    session = pd.Series(pd.DatetimeIndex(history.index).strftime("%Y-%m-%d"))
    return raw.assign(ticker=ticker, session=session, source=SOURCE)
