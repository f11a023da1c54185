"""The real httpx and feedparser, talking to a local server that answers as told."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import time
from collections.abc import Iterator
from email.utils import format_datetime
from typing import Any

import pandas as pd
import pytest

from features import frames
from pipeline.config import Feed
from pipeline.providers import Held
from tests.pipeline.providers.feed_server import (
    Answer,
    Server,
    drip,
    feed,
    feeds_of,
    had,
    item,
    packed,
    running,
    silence,
)  # fmt: skip

IDENTITY = ["source", "ticker", "url", "title"]
ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>
<entry><title type="html">Apple &amp;amp; IBM &lt;i&gt;rise&lt;/i&gt;</title><id>urn:1</id>
<link rel="alternate" href="/story/1"/><updated>2013-03-01T18:05:00+02:00</updated>
<content type="html">&lt;p&gt;One&lt;/p&gt;&lt;p&gt;two&lt;/p&gt;</content></entry>
<entry><title>Second</title><id>urn:2</id><link href="https://news.test/2"/>
<published>2013-03-01T10:00:00Z</published><updated>2013-03-02T10:00:00Z</updated><summary>Text</summary></entry>
</feed>"""
RSS_1 = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://news.test/"><title>News</title></channel>
<item rdf:about="https://news.test/1"><title>Old format</title><link>https://news.test/1</link>
<dc:date>2013-03-01T11:05:00-05:00</dc:date></item></rdf:RDF>"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    shared.answers.clear()
    shared.asked.clear()
    return shared


def reason(server: Server, *answers: Any, **settings: Any) -> str:
    """Why the feed failed, nothing else having come of it."""
    url = server.on(*answers)
    delivery = had(feeds_of(url, **settings))
    assert delivery.news.empty
    assert delivery.state == {}
    assert list(delivery.failed) == [url]
    return delivery.failed[url]


def titles(server: Server, body: bytes | str | Answer, **settings: Any) -> list[str]:
    delivery = had(feeds_of(server.on(body), **settings))
    assert delivery.failed == {}
    return delivery.news["title"].tolist()


# What a feed says


def test_headlines_as_the_lake_wants_them(server: Server) -> None:
    before = pd.Timestamp.now("UTC")
    url = server.on(feed(item("Apple rises", more="<description>&lt;b&gt;Up&lt;/b&gt;  again</description>")))
    delivery = had(feeds_of(url, companies={"AAPL": ["Apple"]}))
    (row,) = delivery.news.to_dict(orient="records")
    assert row.pop("known_at") > before
    assert row == {
        "ticker": "AAPL", "published_at": pd.Timestamp("2013-03-01T16:05Z"), "source": "127.0.0.1/feed",
        "title": "Apple rises", "summary": "Up again", "url": "https://news.test/1",
    }  # fmt: skip
    contract = {name: dtype for name, dtype in frames.COLUMNS["news"].items() if name not in ("news_id", "ingested_at")}
    assert {name: str(dtype) for name, dtype in delivery.news.dtypes.items()} == contract
    assert (delivery.prices.empty, delivery.rejected, delivery.failed, delivery.notes) == (True, (), {}, ())
    (asked,) = server.asked["/feed"]
    assert asked["user-agent"] == "Tradewind"
    assert "if-none-match" not in asked


def test_atom_and_rss_1(server: Server) -> None:
    news = had(feeds_of(server.on(ATOM))).news
    assert news["title"].tolist() == ["Apple & IBM rise", "Second"]
    assert news["url"].tolist() == [server.url("/story/1"), "https://news.test/2"]
    assert news["published_at"].tolist() == [pd.Timestamp("2013-03-01T16:05Z"), pd.Timestamp("2013-03-01T10:00Z")]
    assert news["summary"].tolist() == ["One two", "Text"]
    news = had(feeds_of(server.on(RSS_1))).news
    assert news[["title", "published_at"]].to_numpy().tolist() == [["Old format", pd.Timestamp("2013-03-01T16:05Z")]]


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("Buy <script>alert('<b>x</b>')</script>now", "Buy now"),
        ("<img src=x onerror=alert(1)>Up", "Up"),
        ("A&amp;T &lt; S&amp;P &#8364;", "A&T < S&P €"),
        ("<p>One</p><p>two<br/>three</p>", "One two three"),
        ("<b>App</b>le\n\t up", "Apple up"),
        ("<style>p{}</style>Styled<!-- hidden -->", "Styled"),
        ("5 < 6 and <3", "5 < 6 and <3"),
        ("<![odd[ Up", "<![odd[ Up"),
        ("<script>never closed", ""),
    ],
)
def test_titles_are_plain_text(server: Server, markup: str, title: str) -> None:
    more = "<description>beginning</description>"
    assert titles(server, feed(item(markup, more=more))) == [title or "beginning"]


def test_long_texts_are_cut(server: Server) -> None:
    url = server.on(feed(item("A" * 1_001, more=f"<description>{'b ' * 5_000}</description>"), item("ok", "")))
    delivery = had(feeds_of(url))
    assert delivery.news["title"].str.len().tolist() == [1_000, 2]
    assert delivery.news["summary"].str.len().tolist() == [1_999, 0]
    assert delivery.notes == (f"{url}: titles too long, cut: 1",)


@pytest.mark.parametrize("link", ["javascript:alert(1)", "file:///etc/passwd", "", "https://x.test/ two", "ftp://x/1"])
def test_only_web_addresses_are_kept(server: Server, link: str) -> None:
    assert had(feeds_of(server.on(feed(item("T", link))))).news["url"].tolist() == [""]


def test_an_item_without_a_date_keeps_the_time_it_was_first_seen(server: Server) -> None:
    url = server.on(feed(item("Undated", "", ""), item("Misdated", "", "the day before")))
    first = had(feeds_of(url))
    assert first.notes == (
        f"{url}: items without a date that can be read: 2 (they count as published when first seen)",
    )
    assert (first.news["published_at"] == first.news["known_at"]).all()
    again = had(feeds_of(url), dict(first.state))
    assert again.news["published_at"].tolist() == first.news["published_at"].tolist()
    assert (again.news["known_at"] > first.news["known_at"]).all()


def test_dates_without_a_zone_are_utc(server: Server) -> None:
    body = feed(item("a", date="2013-03-01T16:05:00"), item("b", "https://x.test/2", "Fri, 01 Mar 2013 16:05:00 -0500"))
    published = had(feeds_of(server.on(body))).news["published_at"]
    assert published.dt.strftime("%H:%M").tolist() == ["16:05", "21:05"]


def test_items_that_cannot_be_used_are_handed_over(server: Server) -> None:
    url = server.on(feed(item("Tomorrow", date="Fri, 01 Mar 2999 16:05:00 GMT"), item(""), item("Fine")))
    delivery = had(feeds_of(url))
    assert delivery.news["title"].tolist() == ["Fine"]
    assert [(row.table, row.reason, row.source) for row in delivery.rejected] == [
        ("news", "published in the future", "127.0.0.1/feed"),
        ("news", "no title", "127.0.0.1/feed"),
    ]
    assert json.loads(delivery.rejected[0].row)["title"] == "Tomorrow"


def test_duplicates_are_counted(server: Server) -> None:
    guid = "<guid isPermaLink='false'>g1</guid>"
    items = (item("One", more=guid), item("One again", more=guid), item("Two", "https://x.test/2", more=guid))
    url = server.on(feed(*items, item("No link", ""), item("No link", "")))
    delivery = had(feeds_of(url))
    assert delivery.news["title"].tolist() == ["One", "Two", "No link"]
    assert delivery.notes == (f"{url}: items that appear more than once: 2 (the first is kept)",)


def test_the_same_feed_twice_has_the_same_identity(server: Server) -> None:
    url = server.on(feed(item("Apple and IBM"), item("No date", "https://x.test/2", ""), item("Neither", "", "")))
    provider = feeds_of(url, companies={"AAPL": ["Apple"], "IBM": ["IBM"]})
    first = had(provider)
    again = had(provider, dict(first.state))
    assert len(first.news) == 4
    assert (
        again.news[[*IDENTITY, "published_at"]]
        .iloc[[0, 1, 3]]
        .equals(first.news[[*IDENTITY, "published_at"]].iloc[[0, 1, 3]])
    )
    assert again.news[IDENTITY].equals(first.news[IDENTITY])
    assert again.state == first.state


def test_an_empty_feed_is_fine(server: Server) -> None:
    delivery = had(feeds_of(server.on(feed())))
    assert (len(delivery.news), delivery.failed, delivery.notes) == (0, {}, ())


# Which companies a headline names


COMPANIES = {"AAPL": ["Apple"], "GOOG": ["Google"], "GOOGL": ["Google"]}


def test_a_row_for_each_company_named(server: Server) -> None:
    body = feed(item("Google sues Apple"), item("Weather", "https://x.test/2"), item("(NYSE: F)", "https://x.test/3"))
    news = had(feeds_of(server.on(body), companies=COMPANIES, tickers=("F",))).news
    assert news["ticker"].tolist() == ["GOOG", "GOOGL", "AAPL", "", "F"]
    assert news["title"].tolist() == ["Google sues Apple"] * 3 + ["Weather", "(NYSE: F)"]


def test_a_feed_of_one_ticker(server: Server) -> None:
    url = server.on(feed(item("Apple and Google")))
    assert had(feeds_of(Feed(url=url, ticker="XYZ"), companies=COMPANIES)).news["ticker"].tolist() == ["XYZ"]


def test_headlines_that_name_nobody_can_be_dropped(server: Server) -> None:
    url = server.on(feed(item("Weather"), item("Apple", "https://x.test/2"), item("Sports", "https://x.test/3")))
    delivery = had(feeds_of(url, companies=COMPANIES, unmatched="drop"))
    assert delivery.news["title"].tolist() == ["Apple"]
    assert delivery.notes == (f"{url}: items that name no company, not kept: 2 (data.rss.unmatched is drop)",)


def test_without_companies_everything_is_of_the_market(server: Server) -> None:
    assert had(feeds_of(server.on(feed(item("Apple $AAPL"))))).news["ticker"].tolist() == [""]


# What is asked for


def test_an_unchanged_feed_is_not_sent_again(server: Server) -> None:
    headers = {"ETag": 'W/"abc"', "Last-Modified": "Fri, 01 Mar 2013 16:05:00 GMT"}
    url = server.on(Answer(feed(item("One")), headers=headers), Answer(status=304))
    first = had(feeds_of(url))
    assert list(first.state) == [f"rss:{url}"]
    second = had(feeds_of(url), dict(first.state))
    asked = server.asked["/feed"][1]
    assert (asked["if-none-match"], asked["if-modified-since"]) == (headers["ETag"], headers["Last-Modified"])
    assert second.news.empty
    assert (second.failed, second.notes, second.rejected, second.state) == ({}, (), (), {})


def test_other_settings_ask_for_the_whole_feed(server: Server) -> None:
    url = server.on(Answer(feed(item("One")), headers={"ETag": '"abc"'}))
    state = dict(had(feeds_of(url)).state)
    had(feeds_of(url, companies={"ONE": ["One"]}), state)
    had(feeds_of(Feed(url=url, ticker="ONE")), state)
    assert ["if-none-match" in asked for asked in server.asked["/feed"]] == [False] * 3


@pytest.mark.parametrize(
    "body", ["<html>Maintenance</html>", feed(item("One"))[:-9], feed(item("1", date="2999-01-01"))]
)
def test_what_was_not_used_whole_is_asked_for_again(server: Server, body: str) -> None:
    url = server.on(Answer(feed(item("One")), headers={"ETag": '"1"'}), Answer(body, headers={"ETag": '"2"'}))
    provider = feeds_of(url)
    state = dict(had(provider).state)
    state |= had(provider, state).state
    had(provider, state)
    assert [asked.get("if-none-match") for asked in server.asked["/feed"]] == [None, '"1"', '"1"']


def test_an_unasked_304_is_a_failure(server: Server) -> None:
    assert reason(server, Answer(status=304)) == "answers 304 Not Modified"


def test_tags_that_cannot_be_sent_back_are_not_kept(server: Server) -> None:
    url = server.on(Answer(feed(item("One")), headers={"ETag": '"\xe9"'}))
    state = dict(had(feeds_of(url)).state)
    assert len(had(feeds_of(url), state).news) == 1


# A server in trouble


def test_too_fast_then_fine(server: Server) -> None:
    waits: list[float] = []
    body = feed(item("One"))
    url = server.on(Answer(status=429, headers={"Retry-After": "7"}), Answer(status=503), body)
    assert len(had(feeds_of(url, waits=waits)).news) == 1
    assert waits[0] == 7
    assert 2 <= waits[1] <= 4
    assert len(waits) == 2


@pytest.mark.parametrize(("after", "least", "most"), [("9" * 400, 60, 60), ("soon", 1, 2), ("0", 1, 2), ("-5", 1, 2)])
def test_waits_are_bounded(server: Server, after: str, least: float, most: float) -> None:
    waits: list[float] = []
    had(feeds_of(server.on(Answer(status=429, headers={"Retry-After": after}), feed()), waits=waits))
    assert len(waits) == 1
    assert least <= waits[0] <= most


def test_retry_after_as_a_date(server: Server) -> None:
    waits: list[float] = []
    until = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30), usegmt=True)
    had(feeds_of(server.on(Answer(status=503, headers={"Retry-After": until}), feed()), waits=waits))
    assert 25 <= waits[0] <= 30


def test_a_server_that_stays_in_trouble(server: Server) -> None:
    waits: list[float] = []
    assert reason(server, Answer(status=500), waits=waits) == "answers 500 Internal Server Error (tried 3 times)"
    assert len(server.asked["/feed"]) == 3
    assert len(waits) == 2
    too_fast = reason(server, Answer(status=429), attempts=2)
    assert too_fast == "answers that requests come too fast (429) (tried 2 times)"


def test_a_refusal_is_not_asked_again(server: Server) -> None:
    assert reason(server, Answer(status=404)) == "answers 404 Not Found"
    assert reason(server, Answer(status=402)) == "answers 402 Payment Required"
    assert len(server.asked["/feed"]) == 2


def test_one_feed_that_fails_does_not_stop_the_others(server: Server) -> None:
    urls = [server.on(feed(item("One")), path="/1"), server.url("/none"), server.on(feed(item("Two")), path="/3")]
    seen: list[tuple[int, int]] = []
    deliveries = list(feeds_of(*urls).deliver(lambda what, done, total: seen.append((done, total)), Held()))
    assert [delivery.news["title"].tolist() for delivery in deliveries] == [["One"], [], ["Two"]]
    assert [dict(delivery.failed) for delivery in deliveries] == [{}, {urls[1]: "answers 404 Not Found"}, {}]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_silence(server: Server) -> None:
    started = time.monotonic()
    said = reason(server, silence(2), timeout_seconds=0.2, attempts=2)
    assert said == "did not answer within 0.2 s (tried 2 times)"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX-Head: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"])
def test_a_server_that_drips(server: Server, start: bytes) -> None:
    started = time.monotonic()
    said = reason(server, drip(start, 0.05), timeout_seconds=0.3, attempts=1)
    assert said == "was not read to its end within 0.9 s"
    assert time.monotonic() - started < 3


def test_nobody_there_and_broken_off(server: Server) -> None:
    url = "http://127.0.0.1:1/feed"
    assert "could not be reached" in had(feeds_of(url)).failed[url]
    cut = Answer(
        write=lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<rss>") and None
    )
    assert re.match(r"could not be reached \(peer closed connection.*\(tried 3 times\)", reason(server, cut))


def test_a_feed_that_is_too_long(server: Server) -> None:
    body = feed(item("A" * 3_000))
    assert reason(server, body, max_bytes=2_000) == "is longer than data.rss.max_bytes = 2,000"
    assert len(titles(server, body, max_bytes=5_000)) == 1


def test_gzip(server: Server) -> None:
    assert titles(server, packed(feed(item("Packed")).encode())) == ["Packed"]
    bomb = packed(b" " * 50_000_000)
    assert reason(server, bomb, max_bytes=1_000_000) == "is longer than data.rss.max_bytes = 1,000,000"
    whole = packed(feed(item("Packed")).encode())
    assert isinstance(whole.body, bytes)
    cut = Answer(whole.body[:-20], headers=whole.headers)
    assert re.match(r"its gzip body breaks off after \d+ bytes \(tried 3 times\)", reason(server, cut))
    assert "its gzip body is damaged" in reason(server, Answer(b"<rss/>", headers=whole.headers))
    odd = reason(server, Answer(b"x", headers={"Content-Encoding": "br"}))
    assert odd == "comes in the content coding 'br', which was not asked for"


def test_redirects(server: Server) -> None:
    server.on(feed(item("Moved")), path="/there")
    assert titles(server, Answer(status=301, headers={"Location": "/there"})) == ["Moved"]
    loop = reason(server, Answer(status=302, headers={"Location": "/feed"}))
    assert loop == f"redirects more than 5 times, at last to {server.url()}"
    local = reason(server, Answer(status=302, headers={"Location": "file:///etc/passwd"}))
    assert re.fullmatch(r"only http and https are read: redirected to file:.*/etc/passwd", local)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "only http and https are read"),
        ("ftp://news.test/feed", "only http and https are read"),
        ("feed.xml", "only http and https are read"),
        ("http:///feed", "it has no host"),
        ("http://127.0.0.1:99999/", "there is no port 99999"),
        ("http://\x00/", "is no address that can be asked"),
    ],
)
def test_addresses_that_cannot_be_asked(url: str, why: str) -> None:
    assert why in had(feeds_of(url)).failed[url]


def test_where_a_loop_runs_already(server: Server) -> None:
    url = server.on(feed(item("One")))

    async def inside() -> int:
        return len(had(feeds_of(url)).news)

    assert asyncio.run(inside()) == 1
