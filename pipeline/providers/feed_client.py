"""GET one feed over HTTP: bounded in time, in bytes and in redirects, tried again when that can help."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import zlib
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

from pipeline.errors import NetworkError, ProviderError, RateLimitError

log = logging.getLogger(__name__)

HEADERS = {
    "User-Agent": "Tradewind",
    "Accept": "application/rss+xml, application/atom+xml, application/rdf+xml, application/xml;q=0.9, */*;q=0.1",
    # Unpacked here, so that a small body cannot become a large one; other codings have no such bound.
    "Accept-Encoding": "gzip",
}
REDIRECTS = 5
PATIENCE = 3
"""One request, redirects and body included, takes at most this many times the longest wait for a single read."""
FIRST_WAIT = 1.0
"""Seconds before the second try; doubled for each further one, plus up to as much again at random."""
LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is asked again after this long."""
TOO_FAST, NOT_MODIFIED = 429, 304
LAST_PORT = 65535


@dataclass(frozen=True)
class Answer:
    """What a server said in the end: a body (2xx), or that nothing has changed (304)."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Client:
    """Asks for feeds.

    Attributes:
        timeout: longest wait in seconds, to connect and for each read.
        max_bytes: a longer body, as sent or unpacked, is refused.
        attempts: tries of each request.
        sleep: how to wait between tries, in seconds.
    """

    timeout: float
    max_bytes: int
    attempts: int
    sleep: Callable[[float], None] = time.sleep

    def get(self, url: str, conditions: Mapping[str, str]) -> Answer:
        """The feed at `url`, or 304 if the headers in `conditions` say that we have it.

        Raises:
            NetworkError: it could not be reached, broke off, took too long, or the server failed (5xx), every time.
            RateLimitError: 429 every time.
            ProviderError: trying again is of no use: not http or https, refused (4xx), too long.
        """
        for attempt in range(1, self.attempts + 1):
            asked = 0.0
            error: ProviderError | None
            try:
                answer = self._once(url, conditions)
            except NetworkError as caught:
                error = caught
            else:
                error = _refusal(answer, conditions)
                if error is None:
                    return answer
                asked = _asked_wait(answer)
            if attempt == self.attempts:
                tries = f" (tried {attempt} times)" if attempt > 1 else ""
                raise type(error)(f"{error}{tries}") from None
            log.info("%s: %s; trying again", url, error)
            backoff = FIRST_WAIT * 2 ** (attempt - 1) * (1 + random.random())
            self.sleep(min(max(backoff, asked), LONGEST_WAIT))
        raise AssertionError("unreachable")

    def _once(self, url: str, conditions: Mapping[str, str]) -> Answer:
        try:
            return _run(self._ask(url, conditions))
        except httpx.TimeoutException:
            raise NetworkError(f"did not answer within {self.timeout:g} s") from None
        except TimeoutError:
            raise NetworkError(f"was not read to its end within {self.timeout * PATIENCE:g} s") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
            raise ProviderError(f"is no address that can be asked ({_line(error)})") from None
        except httpx.TransportError as error:
            raise NetworkError(f"could not be reached ({_line(error)})") from None

    async def _ask(self, url: str, conditions: Mapping[str, str]) -> Answer:
        # Asynchronous for one reason: a deadline over everything. A server that sends one byte of its headers now and
        # then keeps every single read within its time-out.
        async with (
            asyncio.timeout(self.timeout * PATIENCE),
            httpx.AsyncClient(timeout=self.timeout, headers=HEADERS) as client,
        ):
            first = httpx.URL(url)
            _check(first)
            request = client.build_request("GET", first, headers=dict(conditions))
            for _ in range(REDIRECTS + 1):
                response = await client.send(request, stream=True)
                try:
                    if response.next_request is None:
                        body = await self._body(response) if response.is_success else b""
                        return Answer(str(response.url), response.status_code, response.headers, body)
                finally:
                    await response.aclose()
                request = response.next_request
                _check(request.url, ": redirected to ")
        raise ProviderError(f"redirects more than {REDIRECTS} times, at last to {request.url}")

    async def _body(self, response: httpx.Response) -> bytes:
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip"):
            raise ProviderError(f"comes in the content coding {coding!r}, which was not asked for")
        unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if "gzip" in coding else None
        body, received = bytearray(), 0
        async for chunk in response.aiter_raw():
            received += len(chunk)
            try:
                body += chunk if unpack is None else unpack.decompress(chunk, self.max_bytes + 1 - len(body))
            except zlib.error as error:
                raise NetworkError(f"its gzip body is damaged ({_line(error)})") from None
            if max(received, len(body)) > self.max_bytes:
                raise ProviderError(f"is longer than data.rss.max_bytes = {self.max_bytes:,}")
        if unpack is not None and not unpack.eof:
            raise NetworkError(f"its gzip body breaks off after {received:,} bytes")
        return bytes(body)


def _run(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """`asyncio.run`, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _check(url: httpx.URL, how: str = "") -> None:
    where = f"{how}{url}" if how else ""
    if url.scheme not in ("http", "https"):
        raise ProviderError(f"only http and https are read{where}")
    if not url.host:
        raise ProviderError(f"is no address that can be asked (it has no host){where}")
    if url.port is not None and not 0 < url.port <= LAST_PORT:
        raise ProviderError(f"is no address that can be asked (there is no port {url.port}){where}")


def _refusal(answer: Answer, conditions: Mapping[str, str]) -> ProviderError | None:
    """Why to ask again later; None if the answer can be used.

    Raises:
        ProviderError: asking again is of no use.
    """
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES or (status == NOT_MODIFIED and conditions):
        return None
    if status == TOO_FAST:
        return RateLimitError("answers that requests come too fast (429)")
    text = f"answers {status} {httpx.codes.get_reason_phrase(status)}".rstrip()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return NetworkError(text)
    raise ProviderError(text)


def _asked_wait(answer: Answer) -> float:
    """Seconds of Retry-After, a number or a date; 0 without one, or with one that cannot be read."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
