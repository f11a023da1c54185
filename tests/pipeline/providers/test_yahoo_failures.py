"""Prices through the real yfinance client: what goes wrong, and several tickers at a time."""

from __future__ import annotations

import datetime as dt
import gc
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Config, Data, Universe
from pipeline.errors import DataError, NetworkError, ProviderError, RateLimitError, UnknownTickerError, UsageError
from pipeline.providers.yahoo import Yahoo
from pipeline.providers.yahoo_client import GIVE_UP
from pipeline.summary import silent
from tests.pipeline.providers.yahoo_replay import (
    BUSY,
    DAYS,
    NOTHING,
    UNKNOWN,
    Answer,
    Redirected,
    Replay,
    Reply,
    chart,
    only,
    replaying,
    yahoo,
)

HTML = "<html>Will be right back</html>"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replay]:
    with replaying(tmp_path / "cache") as replay:
        yield replay


# What goes wrong.


def test_one_bad_ticker_among_ten(server: Replay) -> None:
    server.chart = lambda ticker, query: (404, UNKNOWN) if ticker == "NOPE" else (200, chart(ticker))
    waits: list[float] = []
    tickers = ["AAA", "BBB", "CCC", "NOPE", "DDD", "EEE", "FFF", "GGG", "HHH", "III"]
    delivery = only(yahoo(server, *tickers, waits=waits))
    assert delivery.prices["ticker"].unique().tolist() == [t for t in tickers if t != "NOPE"]
    assert list(delivery.failed) == ["NOPE"]
    assert delivery.failed["NOPE"].startswith("Yahoo does not know it (")
    assert "yahoo:NOPE" not in delivery.state
    assert waits == [], "an unknown ticker is not asked for again"


def test_an_unknown_ticker_alone_is_an_error(server: Replay) -> None:
    server.chart = lambda ticker, query: (404, UNKNOWN)
    with pytest.raises(UnknownTickerError, match=r"^NOPE: Yahoo does not know it \(.*\)$"):
        only(yahoo(server, "NOPE"))


@pytest.mark.parametrize("body", ["null", "[1]", "{}", '{"chart": {"result": [], "error": null}}'])
def test_an_answer_without_anything(server: Replay, body: str) -> None:
    """yfinance takes it for a ticker without prices, once it knows the time zone."""
    server.chart = lambda ticker, query: (200, chart(ticker) if "range" in query else body)
    with pytest.raises(UnknownTickerError, match=r"^AAA: Yahoo does not know it \(.*no price data found"):
        only(yahoo(server, "AAA"))


@pytest.mark.parametrize("days", [0, 1])
def test_no_prices_is_an_error(server: Replay, days: int) -> None:
    server.chart = lambda ticker, query: (200, chart(ticker, [None] * days, DAYS[:days]))
    with pytest.raises(ProviderError, match=r"^AAA: (Yahoo (does not know it|has no prices)|none of Yahoo's 1 rows)"):
        only(yahoo(server, "AAA"))


def test_too_many_requests(server: Replay) -> None:
    server.chart = lambda ticker, query: (429, "Too Many Requests")
    waits: list[float] = []
    with pytest.raises(RateLimitError, match=r"^AAA: Yahoo answers that requests come too fast.*\(tried 3 times\)$"):
        only(yahoo(server, "AAA", waits=waits))
    assert server.asked("AAA") == 6, "yfinance itself asks a second time, with another cookie"
    longest = sorted(waits)[-2:]
    assert 1 <= longest[0] <= 2 <= longest[1] + 0.1 <= 4.1


def test_too_many_requests_then_an_answer(server: Replay) -> None:
    server.chart = lambda ticker, query: (200, chart(ticker)) if server.asked(ticker) > 2 else (429, "")
    waits: list[float] = []
    assert len(only(yahoo(server, "AAA", waits=waits)).prices) == 5
    assert max(waits) >= 0.9


def test_retry_after_is_kept(server: Replay) -> None:
    server.chart = lambda ticker, query: (
        Reply(429, "", {"Retry-After": "17"}) if server.asked(ticker) == 1 else (200, chart(ticker))
    )
    waits: list[float] = []
    assert len(only(yahoo(server, "AAA", waits=waits)).prices) == 5
    assert 16.5 < max(waits) <= 17


@pytest.mark.parametrize("body", [HTML, BUSY, "{}", ""])
def test_a_failure_is_tried_until_given_up(server: Replay, body: str) -> None:
    server.chart = lambda ticker, query: (500, body)
    waits: list[float] = []
    with pytest.raises(NetworkError, match=r"^AAA: Yahoo .*500.*\(tried 3 times\)$"):
        only(yahoo(server, "AAA", waits=waits))
    assert len(waits) == 2
    assert 1 <= waits[0] <= 2 <= waits[1] <= 4


@pytest.mark.parametrize("until", [None, dt.date(2013, 3, 1)])
def test_a_passing_failure_is_tried_again(server: Replay, until: dt.date | None) -> None:
    """A range in the past goes through yfinance's own cache, which keeps bad answers too."""

    def respond(ticker: str, query: dict[str, str]) -> Answer:
        return (503, "<html>busy</html>") if server.asked(ticker) in (1, 2, 4, 5) else (200, chart(ticker))

    server.chart = respond
    waits: list[float] = []
    assert len(only(yahoo(server, "AAA", waits=waits, until=until)).prices) == 5
    assert len(waits) == 2


def test_tomorrow_is_not_answered_from_todays_memory(server: Replay) -> None:
    span = {"since": dt.date(2013, 2, 25), "until": dt.date(2013, 3, 1)}
    first = only(yahoo(server, "AAA", **span))
    server.chart = lambda ticker, query: (200, chart(ticker, [50.0, 51.0, 52.0, 53.0, 54.0]))
    assert only(yahoo(server, "AAA", **span)).prices["close"].iloc[0] == first.prices["close"].iloc[0] / 2


def test_no_network(server: Replay) -> None:
    config = Config(data=Data(provider="yahoo", attempts=2), universe=Universe(tickers=("AAA",)))
    with pytest.raises(NetworkError, match=r"^AAA: Yahoo could not be reached \(.*\) \(tried 2 times\)$") as caught:
        only(Yahoo(config, Redirected(1), lambda seconds: None))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(body=HTML), "answer cannot be read|could not be reached"),
        (Reply(body="<html>Sign in</html>"), "answer cannot be read"),
        (Reply(body="{"), "answer cannot be read"),
        (Reply(body=b"\xff\xfe\x00\x80"), "answer cannot be read"),
        (
            Reply(body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}),
            "answer cannot be read|could not be reached",
        ),
        (Reply(body="[1, 2]"), "answer cannot be read"),
        (Reply(body="null"), "answer cannot be read"),
        (Reply(body='{"chart": {"result": [{"meta": {}}], "error": null}}'), "answer cannot be read"),
        (Reply(body='{"chart": 5}'), "answer cannot be read"),
        (Reply(body="[" * 100_000), "answer cannot be read"),
        (Reply(body=chart("AAA")[:200], missing=1000), "could not be reached"),
        (Reply(closes=True), "could not be reached"),
        (Reply(401, '{"finance": {"error": {"description": "Invalid Crumb"}}}'), "status 401|could not be reached"),
    ],
)
def test_an_answer_that_is_no_answer(server: Replay, reply: Reply, message: str) -> None:
    server.chart = lambda ticker, query: reply
    with pytest.raises(NetworkError, match=rf"^AAA: Yahoo.*({message}).*\(tried 3 times\)$") as caught:
        only(yahoo(server, "AAA"))
    assert "\n" not in str(caught.value)


def test_a_second_half_that_does_not_fit_the_first(server: Replay) -> None:
    """The time zone came, then the prices are broken."""
    good = json.loads(chart("AAA"))
    good["chart"]["result"][0]["timestamp"].pop()
    server.chart = lambda ticker, query: (200, chart(ticker) if "range" in query else json.dumps(good))
    with pytest.raises(NetworkError, match=r"^AAA: Yahoo's answer cannot be read \(Length mismatch"):
        only(yahoo(server, "AAA"))


def test_a_server_that_hangs(server: Replay) -> None:
    server.chart = lambda ticker, query: Reply(wait=1.0)
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"^AAA: Yahoo could not be reached \(.*timed out.*\) \(tried 2 times\)$"):
        only(yahoo(server, "AAA", data={"attempts": 2}, timeouts=(0.2, 0.2)))
    assert time.monotonic() - started < 3


def test_everything_hangs_cookies_too(tmp_path: Path) -> None:
    """A cookie host that does not answer is asked once, though four workers wait for it."""
    with replaying(tmp_path) as server:
        server.hangs = 0.6
        started = time.monotonic()
        with pytest.raises(NetworkError, match=r"^T0: Yahoo could not be reached"):
            only(yahoo(server, *[f"T{i}" for i in range(8)], data={"attempts": 2}, timeouts=(0.2, 0.2)))
        assert time.monotonic() - started < 8
        asked = [request.path for request in server.requests]
        assert (asked.count("/"), asked.count("/consent")) == (1, 1)


def test_a_yahoo_that_is_down_is_not_asked_for_everything(server: Replay) -> None:
    tickers = [f"T{i:03}" for i in range(200)]
    server.chart = lambda ticker, query: (200, chart(ticker)) if ticker == "T000" else (502, HTML)
    deliveries = list(yahoo(server, *tickers).fetch(silent, NOTHING))
    failed = {name: why for delivery in deliveries for name, why in delivery.failed.items()}
    assert len(failed) == 199
    assert failed["T001"].startswith("Yahoo ")
    assert failed["T199"].startswith("not asked for, as Yahoo failed")
    assert sum(server.asked(ticker) > 0 for ticker in tickers) <= GIVE_UP + 5


def test_nothing_usable(server: Replay) -> None:
    server.chart = lambda ticker, query: (200, chart(ticker, [-1.0, -2.0], DAYS[:2]))
    deliveries = yahoo(server, "AAA").fetch(silent, NOTHING)
    delivery = next(deliveries)
    assert [row.reason for row in delivery.rejected] == ["open is not above zero"] * 2
    with pytest.raises(ProviderError, match=r"^AAA: none of Yahoo's 2 rows can be used; the first: open is not above"):
        next(deliveries)


def test_tickers_must_be_named(server: Replay) -> None:
    with pytest.raises(UsageError, match=r"universe.tickers"):
        only(yahoo(server))


def test_an_unknown_calendar_is_named(server: Replay) -> None:
    with pytest.raises(DataError, match=r"unknown exchange calendar 'XNIS'; did you mean"):
        only(yahoo(server, "AAA", "BBB", calendar="XNIS"))


def test_a_broken_cache_of_yfinance_is_named(tmp_path: Path) -> None:
    (tmp_path / "tkr-tz.db").write_bytes(b"no database, " * 1000)
    with (
        replaying(tmp_path) as server,
        pytest.raises(ProviderError, match=rf"yfinance's cache in {tmp_path} cannot be used \(.*\); remove that"),
    ):
        only(yahoo(server, "AAA"))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_json_comes_it_is_delivered_or_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """One place of a good answer replaced by anything."""
    answer = json.loads(chart("AAA"))
    node, key = {"": answer}, ""
    while isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 7)):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(JUNK)
    with replaying(tmp_path_factory.mktemp("cache")) as server:
        server.chart = lambda ticker, query: (200, chart(ticker) if "range" in query else json.dumps(answer))
        with suppress(ProviderError):
            delivery = only(yahoo(server, "AAA", data={"attempts": 1}))
            assert len(delivery.prices) + len(delivery.rejected) > 0


# Several at a time.


def test_batches_land_one_by_one_in_the_order_of_the_tickers(server: Replay) -> None:
    tickers = [f"T{i:03}" for i in range(45)]
    server.chart = lambda ticker, query: Reply(200, chart(ticker), wait=0.02 if int(ticker[1:]) % 3 == 0 else 0.0)
    steps: list[tuple[int, int]] = []
    provider = yahoo(server, *tickers)
    sizes = []
    arrived: list[str] = []
    for delivery in provider.fetch(lambda what, done, total: steps.append((done, total)), NOTHING):
        sizes.append(delivery.prices["ticker"].nunique())
        arrived += delivery.prices["ticker"].unique().tolist()
        assert list(delivery.state) == [f"yahoo:{t}" for t in delivery.prices["ticker"].unique()]
    assert sizes == [20, 20, 5]
    assert arrived == tickers
    assert steps == [(done, 45) for done in range(46)]
    assert 2 <= server.most <= 4


def test_never_more_at_one_time_than_allowed(server: Replay) -> None:
    server.chart = lambda ticker, query: Reply(200, chart(ticker), wait=0.05)
    only(yahoo(server, *[f"T{i:03}" for i in range(12)], data={"concurrency": 4}))
    assert server.most == 4
    server.most = 0
    only(yahoo(server, *[f"T{i:03}" for i in range(4)], data={"concurrency": 1}))
    assert server.most == 1


def test_told_to_slow_down_all_of_them_wait(server: Replay) -> None:
    told: list[float] = []

    def respond(ticker: str, query: dict[str, str]) -> Answer:
        if ticker == "T005" and not told:
            told.append(time.monotonic())
            return 429, "Too Many Requests"
        return Reply(200, chart(ticker), wait=0.02)

    server.chart = respond
    tickers = [f"T{i:03}" for i in range(16)]
    provider = yahoo(server, *tickers)
    delivery = only(Yahoo(provider.config, provider.session))
    assert delivery.failed == {}
    # Those that were under way when the answer came had been sent before it.
    waited = [request.at - told[0] for request in server.requests if request.at > told[0] + 0.05]
    assert len(waited) >= 16
    assert min(waited) > 0.9
    assert server.most <= 4


def test_a_slow_caller_is_not_run_ahead_of(server: Replay) -> None:
    deliveries = yahoo(server, *[f"T{i:03}" for i in range(200)]).fetch(silent, NOTHING)
    next(deliveries)
    time.sleep(0.5)
    assert len(server.charts()) <= 20 + 20 + 4
    deliveries.close()


def test_who_wants_no_more_is_left_alone(server: Replay) -> None:
    def respond(ticker: str, query: dict[str, str]) -> Answer:
        return (200, chart(ticker)) if ticker < "T020" else Reply(500, "{}", wait=0.2)

    server.chart = respond
    tickers = [f"T{i:03}" for i in range(200)]
    deliveries = yahoo(server, *tickers, data={"attempts": 10}).fetch(silent, NOTHING)
    next(deliveries)
    started = time.monotonic()
    deliveries.close()
    assert time.monotonic() - started < 2, "what is under way ends, and is not tried again"
    asked = len(server.requests)
    time.sleep(0.3)
    assert len(server.requests) == asked
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("yahoo")]
