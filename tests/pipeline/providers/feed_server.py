"""A local HTTP server that answers as told, and remembers what it was asked."""

from __future__ import annotations

import gzip
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

from pipeline.config import Config, Data, Feed, Rss, Universe
from pipeline.providers import Delivery, Held
from pipeline.providers.rss import Feeds
from pipeline.summary import silent


@dataclass(frozen=True)
class Answer:
    """One answer; `write`, if given, writes everything itself."""

    body: bytes | str = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    write: Callable[[Handler], None] | None = None


class Server(ThreadingHTTPServer):
    """Per path a list of answers, the last one for good."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: dict[str, list[dict[str, str]]] = defaultdict(list)

    def url(self, path: str = "/feed") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def on(self, *answers: Answer | bytes | str, path: str = "/feed") -> str:
        """From now on `path` answers so; returns its address."""
        self.answers[path] = [each if isinstance(each, Answer) else Answer(each) for each in answers]
        return self.url(path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        asked = self.server.asked[self.path]
        asked.append({name.lower(): value for name, value in self.headers.items()})
        answers = self.server.answers.get(self.path, [Answer(status=404)])
        answer = answers[min(len(asked), len(answers)) - 1]
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that has read enough hangs up
            (answer.write or _plainly(answer))(self)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _plainly(answer: Answer) -> Callable[[Handler], None]:
    def write(handler: Handler) -> None:
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return write


def drip(start: bytes, pause: float) -> Answer:
    """Sends `start`, then one byte now and then, for ever."""

    def write(handler: Handler) -> None:
        handler.wfile.write(start)
        while True:
            handler.wfile.write(b"a")
            time.sleep(pause)

    return Answer(write=write)


def silence(seconds: float) -> Answer:
    """Takes the request and says nothing."""
    return Answer(write=lambda handler: time.sleep(seconds))


def packed(body: bytes) -> Answer:
    return Answer(gzip.compress(body), headers={"Content-Encoding": "gzip"})


@contextmanager
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def item(
    title: str, link: str = "https://news.test/1", date: str = "Fri, 01 Mar 2013 16:05:00 GMT", more: str = ""
) -> str:
    parts = {"title": title, "link": link, "pubDate": date}
    return "<item>" + "".join(f"<{n}>{escape(text)}</{n}>" for n, text in parts.items() if text) + more + "</item>"


def feed(*items: str, declared: str = "utf-8") -> str:
    start = f'<?xml version="1.0" encoding="{declared}"?><rss version="2.0"><channel><title>News</title>'
    return start + "".join(items) + "</channel></rss>"


def feeds_of(*feeds: str | Feed, waits: list[float] | None = None, parsing: float = 60.0, **settings: Any) -> Feeds:
    """The provider; `settings` are those of data.rss, and `tickers` and `attempts`."""
    universe = Universe(tickers=settings.pop("tickers", ()))
    attempts = settings.pop("attempts", 3)
    named = tuple(each if isinstance(each, Feed) else Feed(url=each) for each in feeds)
    rss = Rss(feeds=named, **{"timeout_seconds": 5.0, **settings})
    config = Config(data=Data(attempts=attempts, rss=rss), universe=universe)
    return Feeds(config, (waits if waits is not None else []).append, parsing)


def had(provider: Feeds, state: dict[str, str] | None = None) -> Delivery:
    """The delivery of its only feed."""
    (delivery,) = provider.deliver(silent, Held(state=state or {}))
    return delivery
