"""The real yfinance client, talking to a local server that replays Yahoo's answers."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import yfinance
from curl_cffi import requests
from yfinance.data import YfData

from pipeline.config import Config, Data, Universe
from pipeline.errors import NetworkError, ProviderError, RateLimitError, UnknownTickerError, UsageError
from pipeline.providers.yahoo import Yahoo
from pipeline.summary import silent

Answer = tuple[int, str]
Respond = Callable[[str, dict[str, list[str]]], Answer]
DAYS = pd.date_range("2013-02-25", "2013-03-01", freq="B", tz="America/New_York") + pd.Timedelta("9h30min")


class Replay(ThreadingHTTPServer):
    """Answers chart requests through `respond`, counts them by ticker, and knows a crumb."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond: Respond = lambda ticker, query: (200, chart(ticker))
        self.asked: dict[str, int] = {}
        self.queries: list[dict[str, list[str]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Replay

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "/v8/finance/chart/" in url.path:
            ticker = url.path.rsplit("/", 1)[1]
            self.server.asked[ticker] = self.server.asked.get(ticker, 0) + 1
            self.server.queries.append(parse_qs(url.query))
            status, body = self.server.respond(ticker, parse_qs(url.query))
        elif "getcrumb" in url.path:
            status, body = 200, "crumb"
        else:
            status, body = 404, "{}"
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Redirected(requests.Session):
    """A curl_cffi session that sends every request to one local port instead."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
        parts = urlsplit(url)
        local = f"http://127.0.0.1:{self._port}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        return super().request(method, local, *args, **kwargs)


def chart(ticker: str, close: list[float | None] | None = None, days: pd.DatetimeIndex = DAYS) -> str:
    closes = close if close is not None else [100.0 + i for i in range(len(days))]
    stamps = [int(day.timestamp()) for day in days]
    quote = {
        "open": closes,
        "high": [None if c is None else c + 1 for c in closes],
        "low": [None if c is None else c - 1 for c in closes],
        "close": closes,
        "volume": [None if c is None else 1000 for c in closes],
    }
    adjusted = [None if c is None else c / 2 for c in closes]
    events: dict[str, Any] = {}
    if len(stamps) > 2:
        events = {
            "dividends": {str(stamps[1]): {"amount": 0.5, "date": stamps[1]}},
            "splits": {str(stamps[2]): {"date": stamps[2], "numerator": 2, "denominator": 1, "splitRatio": "2:1"}},
        }
    meta = {
        "currency": "USD", "symbol": ticker, "exchangeTimezoneName": "America/New_York", "timezone": "EST",
        "instrumentType": "EQUITY", "priceHint": 2, "validRanges": ["1d", "1mo", "max"], "dataGranularity": "1d",
        "firstTradeDate": stamps[0] if stamps else None, "gmtoffset": -18000, "range": "", "exchangeName": "NYQ",
        "regularMarketTime": stamps[-1] if stamps else 0,
        "currentTradingPeriod": {
            name: {"timezone": "EST", "start": 0, "end": 0, "gmtoffset": -18000} for name in ("pre", "regular", "post")
        },
    }  # fmt: skip
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [quote], "adjclose": [{"adjclose": adjusted}]}}
    if stamps:
        result |= {"timestamp": stamps, "events": events}
    else:
        result["indicators"] = {"quote": [{}], "adjclose": [{}]}
    return json.dumps({"chart": {"result": [result], "error": None}})


UNKNOWN = json.dumps(
    {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}}
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replay]:
    yfinance.set_tz_cache_location(str(tmp_path / "cache"))
    YfData.cache_get.cache_clear()
    with Replay() as replay:
        thread = threading.Thread(target=replay.serve_forever, daemon=True)
        thread.start()
        yield replay
        replay.shutdown()
        thread.join()
    YfData.cache_get.cache_clear()


def provider(server: Replay, *tickers: str, waits: list[float] | None = None, **universe: Any) -> Yahoo:
    config = Config(data=Data(provider="yahoo", attempts=3), universe=Universe(tickers=tickers, **universe))
    slept = waits if waits is not None else []
    return Yahoo(config, Redirected(server.server_address[1]), slept.append)


def test_bars_as_the_lake_wants_them(server: Replay) -> None:
    delivery = provider(server, "AAA").fetch(silent)
    rows = delivery.prices
    assert rows["session"].dt.strftime("%Y-%m-%d").tolist() == [
        "2013-02-25", "2013-02-26", "2013-02-27", "2013-02-28", "2013-03-01",
    ]  # fmt: skip
    assert rows["close"].tolist() == [100, 101, 102, 103, 104]
    assert rows["adj_close"].tolist() == [50, 50.5, 51, 51.5, 52]
    assert rows["dividend"].tolist() == [0, 0.5, 0, 0, 0]
    assert rows["split"].tolist() == [1, 1, 2, 1, 1]
    assert set(rows["source"]) == {"yahoo"}
    assert delivery.rejected == ()
    assert "revises the whole history" in delivery.notes[0]


def test_the_range_is_asked_for_with_its_last_day(server: Replay) -> None:
    since, until = dt.date(2013, 2, 25), dt.date(2013, 2, 27)
    rows = provider(server, "AAA", since=since, until=until).fetch(silent).prices
    query = server.queries[-1]
    asked = [pd.Timestamp(int(query[name][0]), unit="s", tz="America/New_York") for name in ("period1", "period2")]
    assert [at.date() for at in asked] == [since, until + dt.timedelta(days=1)]
    assert rows["session"].min() == pd.Timestamp("2013-02-25")


def test_rows_that_cannot_be_used_are_kept_aside(server: Replay) -> None:
    days = pd.DatetimeIndex([*DAYS[:2], pd.Timestamp("2013-03-02 09:30", tz="America/New_York")])
    server.respond = lambda ticker, query: (200, chart(ticker, [100.0, -5.0, 100.0], days))
    delivery = provider(server, "AAA").fetch(silent)
    assert len(delivery.prices) == 1
    assert [row.reason for row in delivery.rejected] == ["open is not above zero", "session is none of calendar XNYS"]
    assert json.loads(delivery.rejected[0].row)["close"] == -5.0
    assert {(row.table, row.source) for row in delivery.rejected} == {("prices", "yahoo")}


def test_a_bar_in_the_making_waits_for_its_close(server: Replay) -> None:
    # Tomorrow is never over; a weekday of next week is certainly a session in the making.
    ahead = pd.Timestamp.now("America/New_York").normalize() + pd.Timedelta(days=7, hours=9.5)
    server.respond = lambda ticker, query: (
        200,
        chart(ticker, [100.0, 101.0, 102.0], DAYS[:2].append(pd.DatetimeIndex([ahead]))),
    )
    delivery = provider(server, "AAA").fetch(silent)
    assert len(delivery.prices) == 2
    assert delivery.rejected == ()


def test_one_unknown_ticker_does_not_stop_the_others(server: Replay) -> None:
    server.respond = lambda ticker, query: (404, UNKNOWN) if ticker == "NOPE" else (200, chart(ticker))
    waits: list[float] = []
    delivery = provider(server, "AAA", "NOPE", "BBB", waits=waits).fetch(silent)
    assert delivery.prices["ticker"].unique().tolist() == ["AAA", "BBB"]
    assert list(delivery.failed) == ["NOPE"]
    assert "Yahoo does not know it" in delivery.failed["NOPE"]
    assert waits == [], "an unknown ticker is not asked for again"


def test_an_unknown_ticker_alone_is_an_error(server: Replay) -> None:
    server.respond = lambda ticker, query: (404, UNKNOWN)
    with pytest.raises(UnknownTickerError, match=r"^NOPE: Yahoo does not know it \(.*\)$"):
        provider(server, "NOPE").fetch(silent)


def test_no_prices_is_an_error(server: Replay) -> None:
    server.respond = lambda ticker, query: (200, chart(ticker, [], DAYS[:0]))
    with pytest.raises(UnknownTickerError, match=r"^AAA: Yahoo (does not know it|has no prices)"):
        provider(server, "AAA").fetch(silent)


def test_too_many_requests(server: Replay) -> None:
    server.respond = lambda ticker, query: (429, "Too Many Requests")
    waits: list[float] = []
    with pytest.raises(RateLimitError, match=r"^AAA: Yahoo answers that requests come too fast.*\(tried 3 times\)$"):
        provider(server, "AAA", waits=waits).fetch(silent)
    assert len(waits) == 2
    assert 1 <= waits[0] <= 2 <= waits[1] <= 4


def test_a_passing_failure_is_tried_again(server: Replay) -> None:
    def respond(ticker: str, query: dict[str, list[str]]) -> Answer:
        return (503, "<html>busy</html>") if server.asked[ticker] <= 2 else (200, chart(ticker))

    server.respond = respond
    waits: list[float] = []
    assert len(provider(server, "AAA", waits=waits).fetch(silent).prices) == 5
    assert len(waits) == 1


def test_no_network(server: Replay) -> None:
    config = Config(data=Data(provider="yahoo", attempts=2), universe=Universe(tickers=("AAA",)))
    with pytest.raises(NetworkError, match=r"^AAA: Yahoo could not be reached \(.*\) \(tried 2 times\)$") as caught:
        Yahoo(config, Redirected(1), lambda seconds: None).fetch(silent)
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_no_answer(server: Replay) -> None:
    server.respond = lambda ticker, query: (200, "<html>Will be right back</html>")
    with pytest.raises(NetworkError, match=r"^AAA: Yahoo's answer cannot be read"):
        provider(server, "AAA").fetch(silent)


def test_nothing_usable(server: Replay) -> None:
    server.respond = lambda ticker, query: (200, chart(ticker, [-1.0, -2.0], DAYS[:2]))
    with pytest.raises(ProviderError, match=r"^AAA: none of Yahoo's 2 rows can be used; the first: open is not above"):
        provider(server, "AAA").fetch(silent)


def test_tickers_must_be_named(server: Replay) -> None:
    with pytest.raises(UsageError, match=r"universe.tickers"):
        provider(server).fetch(silent)
