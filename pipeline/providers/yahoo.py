"""Yahoo Finance through yfinance: one history request a ticker, retried, every failure named.

`yfinance.download` hides errors behind empty columns, so each ticker is asked for on its own with
`Ticker.history(auto_adjust=False, actions=True)` and exceptions left visible.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from features import frames
from pipeline.config import Config
from pipeline.errors import NetworkError, ProviderError, RateLimitError, UnknownTickerError, UsageError
from pipeline.providers import BARS, Delivery, Rejected
from pipeline.providers.validation import usable_prices
from pipeline.summary import Progress

log = logging.getLogger(__name__)

FIRST_WAIT = 1.0
"""Seconds before the second try; doubled for each further one, plus up to as much again at random."""


class Yahoo:
    """Daily bars of the tickers in `universe.tickers`.

    Args:
        config: the configuration.
        session: a curl_cffi session for yfinance; None lets it make its own.
        sleep: how to wait between tries.
    """

    def __init__(self, config: Config, session: Any = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._config, self._session, self._sleep = config, session, sleep

    def fetch(self, progress: Progress) -> Delivery:
        """Every ticker that Yahoo delivers; the others by name and reason.

        Raises:
            UsageError: no tickers are named.
            ProviderError: no ticker could be delivered; the first failure is raised.
        """
        tickers = self._config.universe.tickers
        if not tickers:
            raise UsageError('yahoo needs tickers: --set universe.tickers=["SPY","AAPL"]')
        bars, rejected, errors = [], list[Rejected](), dict[str, ProviderError]()
        for done, ticker in enumerate(tickers):
            progress("asking Yahoo", done, len(tickers))
            try:
                kept, bad = self._ticker(ticker)
            except ProviderError as error:
                log.warning("%s", error)
                errors[ticker] = error
            else:
                bars.append(kept)
                rejected += bad
        progress("asking Yahoo", len(tickers), len(tickers))
        if not bars:
            raise next(iter(errors.values()))
        failed = {ticker: str(error) for ticker, error in errors.items()}
        notes = ("adj_close of a back-filled history is as Yahoo sees it today",)
        return Delivery("yahoo", pd.concat(bars, ignore_index=True), pd.DataFrame(), tuple(rejected), failed, notes)

    def _ticker(self, ticker: str) -> tuple[pd.DataFrame, list[Rejected]]:
        attempts = self._config.data.attempts
        for attempt in range(1, attempts + 1):
            try:
                history = self._history(ticker)
                break
            except (NetworkError, RateLimitError) as error:
                if attempt == attempts:
                    raise type(error)(f"{error} (tried {attempts} times)") from error
                wait = FIRST_WAIT * 2 ** (attempt - 1)
                log.info("%s; trying again", error)
                self._sleep(wait * (1 + random.random()))
        if history.empty:
            raise UnknownTickerError(f"{ticker}: Yahoo has no prices for it in the range asked for")
        kept, bad = usable_prices(_as_text(ticker, history), self._config.universe.calendar, f"yahoo:{ticker}")
        if kept.empty:
            raise ProviderError(f"{ticker}: none of Yahoo's {len(history)} rows can be used; first: {bad[0].reason}")
        return kept, bad

    def _history(self, ticker: str) -> pd.DataFrame:
        import yfinance
        from curl_cffi.requests.exceptions import RequestException
        from yfinance import exceptions

        yfinance.config.debug.hide_exceptions = False
        universe = self._config.universe
        # Yahoo's end is exclusive.
        end = None if universe.until is None else pd.Timestamp(universe.until) + pd.Timedelta(days=1)
        span: dict[str, Any] = {"start": universe.since, "end": end} if universe.since else {"period": "max"}
        try:
            history: pd.DataFrame = yfinance.Ticker(ticker, session=self._session).history(
                auto_adjust=False, actions=True, **span
            )
        except exceptions.YFRateLimitError:
            raise RateLimitError(f"{ticker}: Yahoo answers that requests come too fast (429)") from None
        except (exceptions.YFTickerMissingError, exceptions.YFInvalidPeriodError) as error:
            raise UnknownTickerError(f"{ticker}: Yahoo does not know it ({_line(error)})") from None
        except (RequestException, ConnectionError, TimeoutError) as error:
            raise NetworkError(f"{ticker}: Yahoo could not be reached ({_line(error)})") from None
        except (exceptions.YFException, ValueError, KeyError, TypeError) as error:
            # An answer that is not what the client expects: an error page, half a body, a changed format.
            raise NetworkError(f"{ticker}: Yahoo's answer cannot be read ({_line(error)})") from None
        return history


def _as_text(ticker: str, history: pd.DataFrame) -> pd.DataFrame:
    """yfinance's frame as the text that `usable_prices` checks; the exchange's local date is the session."""
    columns = {
        "open": "Open", "high": "High", "low": "Low", "close": "Close", "adj_close": "Adj Close",
        "volume": "Volume", "dividend": "Dividends", "split": "Stock Splits",
    }  # fmt: skip
    text = pd.DataFrame({name: history[theirs].to_numpy() for name, theirs in columns.items()})
    text["split"] = text["split"].where(text["split"] != 0, 1.0)
    text["session"] = pd.DatetimeIndex(history.index).strftime("%Y-%m-%d")
    text["ticker"] = ticker
    assert set(BARS) == set(text.columns) >= set(frames.PRICE_FIGURES)
    return text[list(BARS)].astype("str")


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
