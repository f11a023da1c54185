"""How Yahoo is asked: the session under yfinance, the pace all workers keep, tries with backoff, errors by name.

yfinance keeps one `YfData` a process: one session, one cookie, one crumb, fetched under its own lock, so threads may
share it. What threads must not share is handled here: its lru cache keeps answers, bad ones too, and its SQLite
caches are opened by the first who asks.
"""

from __future__ import annotations

import functools
import logging
import random
import sqlite3
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import peewee
import yfinance
from curl_cffi import requests
from curl_cffi.requests.exceptions import ConnectionError as ConnectionFailed
from curl_cffi.requests.exceptions import RequestException
from yfinance import cache, exceptions
from yfinance.data import YfData

from pipeline.errors import NetworkError, ProviderError, RateLimitError, UnknownTickerError

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT = 30.0
"""Seconds one answer may take, whole. yfinance's own are 10 for prices, too few for decades of them on a slow line."""
COOKIE_TIMEOUT = 10.0
"""Seconds for a cookie or a crumb. yfinance allows 30 and asks under a lock, while every other worker waits."""
COOKIE_HOSTS = ("fc.yahoo.com", "guce.yahoo.com", "consent.yahoo.com")
COOKIES_AGAIN = 300.0
"""Seconds before a cookie host that did not answer is asked again: prices come without cookies too."""
FIRST_WAIT = 1.0
"""Seconds before the second try; doubled for each further one, plus up to as much again at random."""
LONGEST_WAIT = 60.0
"""Seconds; more neither by doubling nor because Yahoo's Retry-After says so."""
GIVE_UP = 10
"""Requests that failed in a row, all their tries, before the others are no longer asked."""
TOO_MANY = 429
NO_SUCH = (400, 404, 422)
"""Statuses with which Yahoo says that a ticker, or the range asked for, does not exist."""
UNREADABLE = (
    exceptions.YFException, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What yfinance raises on an answer it does not expect: an error page, half a body, a changed format."""


class StoppedError(ProviderError):
    """The run wants no more of this work."""


class Pace:
    """The instant before which no worker may send: told to slow down, all of them do."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._stopped = False
        self._slept = threading.local()

    def hold(self, seconds: float) -> None:
        """Nobody sends for so long."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def wait(self) -> None:
        """Sleep until sending is allowed.

        Raises:
            StoppedError: nobody may send any more.
        """
        while (until := self._not_before) > max(getattr(self._slept, "until", 0.0), now := time.monotonic()):
            self._sleep(until - now)
            self._slept.until = until
        if self._stopped:
            raise StoppedError("stopped")

    def stop(self) -> None:
        """Nobody sends any more."""
        self._stopped = True


class Client(requests.Session):  # type: ignore[misc]  # curl_cffi is not followed by mypy
    """The session under yfinance: keeps the pace, bounds every wait, and remembers the last status of each thread.

    Attributes:
        pace: shared by all workers.
        timeouts: longest seconds for an answer, and for a cookie or a crumb.
    """

    def __init__(self, timeouts: tuple[float, float] = (TIMEOUT, COOKIE_TIMEOUT), **options: Any) -> None:
        super().__init__(**options)
        self.pace = Pace()
        self.timeouts = timeouts
        self._seen = threading.local()
        self._mute: dict[str, float] = {}

    @property
    def status(self) -> int:
        """Of the last answer to this thread; 0 if there was none."""
        return getattr(self._seen, "status", 0)

    @status.setter
    def status(self, value: int) -> None:
        self._seen.status = value

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
        """As curl_cffi's, when it is this worker's turn.

        Raises:
            ConnectionError: curl_cffi's, at once, for a cookie host that has just not answered.
            StoppedError: nobody may send any more.
        """
        host = urlsplit(url).hostname or ""
        is_cookie = host in COOKIE_HOSTS or "getcrumb" in url
        if time.monotonic() < self._mute.get(host, 0.0):
            raise ConnectionFailed(f"{host} did not answer a moment ago")
        self.pace.wait()
        self.status = 0
        longest = self.timeouts[is_cookie]
        kwargs["timeout"] = min(longest, kwargs.get("timeout") or longest)
        try:
            response = super().request(method, url, *args, **kwargs)
        except RequestException:
            if host in COOKIE_HOSTS:
                self._mute[host] = time.monotonic() + COOKIES_AGAIN
            raise
        self.status = response.status_code
        if response.status_code == TOO_MANY:
            self.pace.hold(_retry_after(response.headers.get("Retry-After")))
        return response


@functools.cache
def shared_client() -> Client:
    """One a process, as yfinance keeps one cookie and crumb a process."""
    return Client(impersonate="chrome")


@dataclass
class Asker:
    """Asks one thing at a time, patiently; used by all workers at once.

    Attributes:
        client: the session.
        attempts: tries of each request.
        sleep: how to wait between them.
    """

    client: Client
    attempts: int
    sleep: Callable[[float], None] = time.sleep
    _failed: int = field(default=0, init=False)

    def ask(self, what: str, request: Callable[[], T]) -> T:
        """What `request` returns, tried again while Yahoo cannot be reached, answers nonsense or asks to slow down.

        Args:
            what: the ticker, or what else is asked for; every message begins with it.
            request: one call of yfinance.

        Raises:
            UnknownTickerError: Yahoo says that it does not exist; not tried again.
            ProviderError: every try failed, or so many requests before it that it was not tried.
        """
        if self._failed >= GIVE_UP:
            raise NetworkError(f"{what}: not asked for, as Yahoo failed {self._failed} times in a row before it")
        for attempt in range(1, self.attempts + 1):
            try:
                self.client.pace.wait()
                answer = self._once(what, request)
            except (NetworkError, RateLimitError) as error:
                if attempt == self.attempts:
                    self._failed += 1
                    tries = f" (tried {self.attempts} times)" if self.attempts > 1 else ""
                    raise type(error)(f"{error}{tries}") from None
                log.info("%s; trying again", error)
                self._wait(attempt, error)
                forget()
            except UnknownTickerError:
                self._failed = 0
                raise
            else:
                self._failed = 0
                return answer
        raise AssertionError("unreachable")

    def _wait(self, attempt: int, error: ProviderError) -> None:
        seconds = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT / 2) * (1 + random.random())
        if isinstance(error, RateLimitError):
            self.client.pace.hold(seconds)  # and sleep with all the others
        else:
            self.sleep(seconds)

    def _once(self, what: str, request: Callable[[], T]) -> T:
        self.client.status = 0
        try:
            answer = request()
        except exceptions.YFRateLimitError:
            raise RateLimitError(f"{what}: Yahoo answers that requests come too fast (429)") from None
        except (RequestException, ConnectionError, TimeoutError) as error:
            status = getattr(getattr(error, "response", None), "status_code", 0)
            if status in NO_SUCH:
                raise UnknownTickerError(f"{what}: Yahoo does not know it ({_line(error)})") from None
            raise NetworkError(f"{what}: Yahoo could not be reached ({_line(error)})") from None
        except (peewee.PeeweeException, sqlite3.Error) as error:
            raise NetworkError(f"{what}: {_cache_trouble(error)}") from None
        except UNREADABLE as error:
            if self.client.status >= 400 and self.client.status not in NO_SUCH:
                raise NetworkError(f"{what}: Yahoo answers with status {self.client.status} ({_line(error)})") from None
            if isinstance(error, exceptions.YFTickerMissingError | exceptions.YFInvalidPeriodError):
                raise UnknownTickerError(f"{what}: Yahoo does not know it ({_line(error)})") from None
            raise NetworkError(f"{what}: Yahoo's answer cannot be read ({_line(error)})") from None
        if self.client.status >= 400:  # yfinance's news does not look at it
            raise NetworkError(f"{what}: Yahoo answers with status {self.client.status}")
        return answer


def prepare() -> None:
    """Make yfinance raise what fails, and open its caches before several workers do.

    Raises:
        ProviderError: its cache cannot be used.
    """
    yfinance.config.debug.hide_exceptions = False
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")  # pandas' to yfinance
    logging.getLogger("yfinance").setLevel(logging.ERROR)  # what fails is raised, so its warnings are noise
    forget()
    try:
        cache.get_tz_cache().lookup("")
        cache.get_cookie_cache().lookup("")
    except (peewee.PeeweeException, sqlite3.Error) as error:
        raise ProviderError(_cache_trouble(error)) from None


def forget() -> None:
    """yfinance keeps answers for the whole process, bad ones too: a retry, or tomorrow's run, would get them again."""
    YfData.cache_get.cache_clear()


def in_order(workers: int, pace: Pace, work: Callable[[T], R], items: Sequence[T], ahead: int) -> Iterator[R]:
    """`work` of each item in the order of the items, however they finish.

    Args:
        workers: most at one time.
        pace: stopped when the caller wants no more.
        work: called in a thread.
        items: what to work on.
        ahead: most results kept waiting, so that a slow caller does not fill the memory.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="yahoo")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= ahead + workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException:
        pace.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _retry_after(header: str | None) -> float:
    """Seconds; Retry-After as a date is too rare to be read, and means the least wait."""
    seconds = float(header) if header and header.strip().isascii() and header.strip().isdigit() else 0.0
    return min(max(seconds, FIRST_WAIT), LONGEST_WAIT)


def _cache_trouble(error: BaseException) -> str:
    where = cache._TzDBManager.get_location()
    return f"yfinance's cache in {where} cannot be used ({_line(error)}); remove that directory"


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    # curl ends every message with where to read about it.
    return text[0].partition(". See http")[0][:160] if text else type(error).__name__
