"""Yahoo Finance through yfinance: one history request a ticker, retried, every failure named.

`yfinance.download` hides errors behind empty columns, so each ticker is asked for on its own with
`Ticker.history(auto_adjust=False, actions=True)` and exceptions left visible.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.errors import NetworkError, ProviderError, RateLimitError, UnknownTickerError, UsageError
from pipeline.providers import Delivery, Rejected
from pipeline.providers.checks import NOT_OVER, check_prices
from pipeline.summary import Progress

log = logging.getLogger(__name__)

SOURCE = "yahoo"
COLUMNS = {
    "Open": "open", "High": "high", "Low": "low", "Close": "close", "Adj Close": "adj_close",
    "Volume": "volume", "Dividends": "dividend", "Stock Splits": "split",
}  # fmt: skip
NOT_FOUND = 404
FIRST_WAIT = 1.0
"""Seconds before the second try; doubled for each further one, plus up to as much again at random."""


def deliver(config: Config, progress: Progress) -> Delivery:
    """Every ticker of universe.tickers that Yahoo delivers; see `Yahoo.fetch`."""
    return Yahoo(config).fetch(progress)


@dataclass(frozen=True)
class Yahoo:
    """Daily bars of the tickers in `universe.tickers`.

    Attributes:
        config: the configuration.
        session: a curl_cffi session for yfinance; None lets it make its own.
        sleep: how to wait between tries.
    """

    config: Config
    session: Any = None
    sleep: Callable[[float], None] = time.sleep

    def fetch(self, progress: Progress) -> Delivery:
        """Every ticker that Yahoo delivers; the others by name and reason.

        Yahoo's open, high, low and close are adjusted for splits, its adj_close also for dividends.

        Raises:
            UsageError: no tickers are named.
            ProviderError: no ticker could be delivered; the first failure is raised.
        """
        tickers = tuple(dict.fromkeys(self.config.universe.tickers))
        if not tickers:
            raise UsageError('yahoo needs tickers: --set universe.tickers=["SPY","AAPL"]')
        bars, rejected, errors = [], list[Rejected](), dict[str, ProviderError]()
        for done, ticker in enumerate(tickers):
            progress("asking Yahoo", done, len(tickers))
            try:
                kept, bad = self._ticker(ticker)
            except ProviderError as error:
                log.info("%s", error)
                errors[ticker] = error
            else:
                bars.append(kept)
                rejected += bad
        progress("asking Yahoo", len(tickers), len(tickers))
        if not bars:
            raise next(iter(errors.values()))
        failed = {ticker: str(error).removeprefix(f"{ticker}: ") for ticker, error in errors.items()}
        notes = ("yahoo: adj_close is adjusted as of today, so a new dividend revises the whole history",)
        return Delivery(pd.concat(bars, ignore_index=True), rejected=tuple(rejected), failed=failed, notes=notes)

    def _ticker(self, ticker: str) -> tuple[pd.DataFrame, list[Rejected]]:
        history = self._patiently(ticker)
        if history.empty:
            raise UnknownTickerError(f"{ticker}: Yahoo has no prices for it in the range asked for")
        raw = _raw(ticker, history)
        kept, why = check_prices(raw, self.config.universe.calendar)
        # During trading Yahoo's last row is a bar in the making, not a bad one.
        bad = why[(why != "") & (why != NOT_OVER)]
        if kept.empty:
            first = why.iloc[0] or "unknown"
            raise ProviderError(f"{ticker}: none of Yahoo's {len(raw)} rows can be used; the first: {first}")
        lines = [json.dumps(row, default=str) for row in raw.loc[bad.index].to_dict(orient="records")]
        return kept, [Rejected("prices", reason, SOURCE, line) for reason, line in zip(bad, lines, strict=True)]

    def _patiently(self, ticker: str) -> pd.DataFrame:
        attempts = self.config.data.attempts
        for attempt in range(1, attempts + 1):
            try:
                return self._history(ticker)
            except (NetworkError, RateLimitError) as error:
                if attempt == attempts:
                    tries = f" (tried {attempts} times)" if attempts > 1 else ""
                    raise type(error)(f"{error}{tries}") from None
                log.info("%s; trying again", error)
                _forget()
                self.sleep(FIRST_WAIT * 2 ** (attempt - 1) * (1 + random.random()))
        raise AssertionError("unreachable")

    def _history(self, ticker: str) -> pd.DataFrame:
        import yfinance
        from curl_cffi.requests.exceptions import RequestException
        from yfinance import exceptions

        yfinance.config.debug.hide_exceptions = False
        logging.getLogger("yfinance").setLevel(logging.ERROR)  # what fails is raised, so its warnings are noise
        universe = self.config.universe
        # Yahoo's end is exclusive.
        end = None if universe.until is None else pd.Timestamp(universe.until) + pd.Timedelta(days=1)
        span: dict[str, Any] = {"start": universe.since, "end": end} if universe.since else {"period": "max"}
        try:
            history: pd.DataFrame = yfinance.Ticker(ticker, session=self.session).history(
                auto_adjust=False, actions=True, **span
            )
        except exceptions.YFRateLimitError:
            raise RateLimitError(f"{ticker}: Yahoo answers that requests come too fast (429)") from None
        except (exceptions.YFTickerMissingError, exceptions.YFInvalidPeriodError) as error:
            raise UnknownTickerError(f"{ticker}: Yahoo does not know it ({_line(error)})") from None
        except (RequestException, ConnectionError, TimeoutError) as error:
            if getattr(getattr(error, "response", None), "status_code", None) == NOT_FOUND:
                raise UnknownTickerError(f"{ticker}: Yahoo does not know it ({_line(error)})") from None
            raise NetworkError(f"{ticker}: Yahoo could not be reached ({_line(error)})") from None
        except (exceptions.YFException, ValueError, KeyError, TypeError) as error:
            # An answer that is not what the client expects: an error page, half a body, a changed format.
            raise NetworkError(f"{ticker}: Yahoo's answer cannot be read ({_line(error)})") from None
        return history


def _forget() -> None:
    """yfinance keeps answers, bad ones too: without this a retry would read the same one again."""
    from yfinance.data import YfData

    YfData.cache_get.cache_clear()


def _raw(ticker: str, history: pd.DataFrame) -> pd.DataFrame:
    """yfinance's frame in our columns; the date at the exchange is the session."""
    raw = history.rename(columns=COLUMNS)[list(COLUMNS.values())].reset_index(drop=True)
    session = pd.Series(pd.DatetimeIndex(history.index).strftime("%Y-%m-%d"))
    return raw.assign(ticker=ticker, session=session, source=SOURCE)


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    # curl ends every message with where to read about it.
    return text[0].partition(". See http")[0][:160] if text else type(error).__name__
