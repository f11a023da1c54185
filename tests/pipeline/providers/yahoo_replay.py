"""A local server that replays Yahoo's answers, behind the real yfinance client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import yfinance
from curl_cffi import requests
from yfinance import cache
from yfinance.data import YfData

from pipeline.config import Config, Data, Universe
from pipeline.providers import Delivery, Held
from pipeline.providers.yahoo import Yahoo
from pipeline.providers.yahoo_client import Client
from pipeline.summary import silent

NEW_YORK = "America/New_York"
NOTHING = Held()
DAYS = pd.date_range("2013-02-25", "2013-03-01", freq="B", tz=NEW_YORK) + pd.Timedelta("9h30min")


@dataclass(frozen=True)
class Reply:
    """One answer, or what a bad network makes of it.

    Attributes:
        missing: bytes of the body that are announced but never sent.
        wait: seconds of silence before the answer.
        closes: no answer at all, the connection is closed.
    """

    status: int = 200
    body: str | bytes = ""
    headers: dict[str, str] = field(default_factory=dict)
    missing: int = 0
    wait: float = 0.0
    closes: bool = False


@dataclass(frozen=True)
class Request:
    """One request as it arrived. `at`: monotonic seconds."""

    method: str
    path: str
    query: dict[str, str]
    body: str
    at: float

    @property
    def ticker(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def first(self) -> str:
        """The date in New York from which a chart is asked for; '' for the request of its time zone."""
        return _date(self.query["period1"]) if "period1" in self.query else ""

    @property
    def end(self) -> str:
        """The date in New York up to which, itself not included."""
        return _date(self.query["period2"]) if "period2" in self.query else ""


Answer = tuple[int, str] | Reply
Respond = Callable[[str, dict[str, str]], Answer]


class Replay(ThreadingHTTPServer):
    """Answers charts, news and searches by the three functions, knows a crumb, remembers every request.

    most: requests of charts and news that were in flight at one time, at the most.
    hangs: seconds of silence before every answer, cookies and crumb included.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.chart: Respond = lambda ticker, query: (200, chart(ticker))
        self.news: Respond = lambda ticker, query: (200, stream([]))
        self.search: Respond = lambda query, parameters: (200, json.dumps({"quotes": [], "news": []}))
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.flying = 0
        self.most = 0
        self.hangs = 0.0

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def charts(self, ticker: str | None = None) -> list[Request]:
        """Requests of prices, without those of a ticker's time zone."""
        return [r for r in self.about("/v8/finance/chart/") if r.first and ticker in (None, r.ticker)]

    def asked(self, ticker: str) -> int:
        """How often a ticker's chart was asked for, its time zone included."""
        return sum(r.ticker == ticker for r in self.about("/v8/finance/chart/"))

    def about(self, path: str) -> list[Request]:
        with self.lock:
            return [request for request in self.requests if request.path.startswith(path)]


class Handler(BaseHTTPRequestHandler):
    server: Replay

    def do_GET(self) -> None:
        self._answer("")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def _answer(self, body: str) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        is_counted = url.path.startswith(("/v8/", "/v1/finance/search", "/xhr/"))
        with self.server.lock:
            self.server.requests.append(Request(self.command, url.path, query, body, time.monotonic()))
            self.server.flying += is_counted
            self.server.most = max(self.server.most, self.server.flying)
        try:
            self._send(self._reply(url.path, query, body))
        finally:
            with self.server.lock:
                self.server.flying -= is_counted

    def _reply(self, path: str, query: dict[str, str], body: str) -> Reply:
        answer: Answer = (404, "{}")
        if path.startswith("/v8/finance/chart/"):
            answer = self.server.chart(path.rsplit("/", 1)[1], query)
        elif path == "/xhr/ncp":
            answer = self.server.news(json.loads(body)["serviceConfig"]["s"][0], query)
        elif path == "/v1/finance/search":
            answer = self.server.search(query["q"], query)
        elif path.endswith("/getcrumb"):
            answer = (200, "crumb")
        return answer if isinstance(answer, Reply) else Reply(*answer)

    def _send(self, reply: Reply) -> None:
        time.sleep(max(reply.wait, self.server.hangs))
        if reply.closes:
            return
        data = reply.body if isinstance(reply.body, bytes) else reply.body.encode()
        try:
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(data) + reply.missing))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has given up

    def log_message(self, format: str, *args: object) -> None:
        pass


class Redirect(requests.Session):
    """A curl_cffi session that sends every request to one local port instead."""

    port = 0

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
        parts = urlsplit(url)
        local = f"http://127.0.0.1:{self.port}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        return super().request(method, local, *args, **kwargs)


class Redirected(Client, Redirect):
    """The provider's own session; what it sends goes to the local port."""

    def __init__(self, port: int, timeouts: tuple[float, float] = (30.0, 10.0)) -> None:
        super().__init__(timeouts)
        self.port = port


@contextmanager
def replaying(location: Path) -> Iterator[Replay]:
    """A server that runs, and a yfinance that has seen nothing yet."""
    yfinance.set_tz_cache_location(str(location))
    cache._TzCacheManager._tz_cache = None  # else it goes on with the database that it has open
    cache._CookieCacheManager._Cookie_cache = None
    YfData.cache_get.cache_clear()
    with Replay() as replay:
        thread = threading.Thread(target=replay.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield replay
        replay.shutdown()
        thread.join()
    YfData.cache_get.cache_clear()


def yahoo(
    server: Replay,
    *tickers: str,
    waits: list[float] | None = None,
    data: dict[str, Any] | None = None,
    timeouts: tuple[float, float] = (30.0, 10.0),
    **universe: Any,
) -> Yahoo:
    """The provider in front of the server; it asks for no news and does not sleep unless told otherwise."""
    options = {"attempts": 3, "yahoo_news": False, **(data or {})}
    config = Config(data=Data(provider="yahoo", **options), universe=Universe(tickers=tickers, **universe))
    slept = waits if waits is not None else []
    return Yahoo(config, Redirected(server.port, timeouts), slept.append)


def only(provider: Yahoo, held: Held = NOTHING) -> Delivery:
    """The one delivery."""
    (delivery,) = provider.fetch(silent, held)
    return delivery


def held(*deliveries: Delivery, recheck: int = 10) -> Held:
    """What a lake holds that has landed them."""
    rows = pd.concat([d.prices for d in deliveries]).drop_duplicates(["ticker", "session"], keep="last")
    recent = rows.sort_values(["ticker", "session"]).groupby("ticker").tail(recheck).reset_index(drop=True)
    return Held(recent, {key: value for d in deliveries for key, value in d.state.items()})


def bars(days: pd.DatetimeIndex = DAYS, start: float = 100.0) -> pd.DataFrame:
    """Closes that rise by one a day; adj_close is the same, nothing was paid or split."""
    close = [start + i for i in range(len(days))]
    return pd.DataFrame({"close": close, "adj_close": close, "dividend": 0.0, "split": 1.0}, index=days)


def replay_bars(frame: pd.DataFrame) -> Respond:
    """Answers with the bars of `frame` that a request's period1 and period2 hold; the last one for a time zone."""

    def respond(ticker: str, query: dict[str, str]) -> Answer:
        if "period1" not in query:
            return 200, chart_of(ticker, frame.iloc[-1:])
        stamps = frame.index.as_unit("s").asi8
        inside = frame[(stamps >= int(query["period1"])) & (stamps < int(query["period2"]))]
        return (200, chart_of(ticker, inside)) if len(inside) else (400, NO_DATA)

    return respond


def chart(ticker: str, close: list[float | None] | None = None, days: pd.DatetimeIndex = DAYS) -> str:
    """Yahoo's JSON: adj_close is half of close, a dividend on the second day, a split on the third."""
    frame = bars(days)
    if close is not None:
        frame["close"] = close
    frame["adj_close"] = frame["close"] / 2
    if len(frame) > 2:
        frame.iloc[1, frame.columns.get_loc("dividend")] = 0.5
        frame.iloc[2, frame.columns.get_loc("split")] = 2.0
    return chart_of(ticker, frame)


def chart_of(ticker: str, frame: pd.DataFrame) -> str:
    """Yahoo's JSON of bars (close, adj_close, dividend, split; perhaps open, high, low, volume)."""
    stamps = [int(day.timestamp()) for day in frame.index]
    closes = _values(frame["close"])
    quote = {
        "open": _values(frame.get("open", frame["close"])),
        "high": _values(frame.get("high", frame["close"] + 1)),
        "low": _values(frame.get("low", frame["close"] - 1)),
        "close": closes,
        "volume": _values(frame["volume"]) if "volume" in frame else [None if c is None else 1000 for c in closes],
    }
    paid, split = zip(stamps, frame["dividend"], strict=True), zip(stamps, frame["split"], strict=True)
    events: dict[str, Any] = {
        "dividends": {str(at): {"amount": amount, "date": at} for at, amount in paid if amount},
        "splits": {
            str(at): {"date": at, "numerator": ratio, "denominator": 1, "splitRatio": f"{ratio:g}:1"}
            for at, ratio in split
            if ratio != 1
        },
    }
    meta = {
        "currency": "USD", "symbol": ticker, "exchangeTimezoneName": NEW_YORK, "timezone": "EST",
        "instrumentType": "EQUITY", "priceHint": 2, "validRanges": ["1d", "1mo", "max"], "dataGranularity": "1d",
        "firstTradeDate": stamps[0] if stamps else None, "gmtoffset": -18000, "range": "", "exchangeName": "NYQ",
        "regularMarketTime": stamps[-1] if stamps else 0,
        "currentTradingPeriod": {
            name: {"timezone": "EST", "start": 0, "end": 0, "gmtoffset": -18000} for name in ("pre", "regular", "post")
        },
    }  # fmt: skip
    adjusted = [{"adjclose": _values(frame["adj_close"])}]
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [quote], "adjclose": adjusted}}
    if stamps:
        result |= {"timestamp": stamps, "events": events}
    else:
        result["indicators"] = {"quote": [{}], "adjclose": [{}]}
    return json.dumps({"chart": {"result": [result], "error": None}})


def stream(items: list[Any]) -> str:
    """The answer to a request for a ticker's news."""
    return json.dumps({"data": {"tickerStream": {"stream": items}}})


def _values(column: pd.Series) -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in column]


def _date(stamp: str) -> str:
    return f"{pd.Timestamp(int(stamp), unit='s', tz=NEW_YORK):%Y-%m-%d}"


def _error(code: str, description: str) -> str:
    return json.dumps({"chart": {"result": None, "error": {"code": code, "description": description}}})


UNKNOWN = _error("Not Found", "No data found, symbol may be delisted")
NO_DATA = _error("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2")
BUSY = _error("Internal Server Error", "try again")
