"""News through the real yfinance client, talking to a local server that replays Yahoo's answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UnknownTickerError
from pipeline.providers import NEWS_COLUMNS, Delivery, Held
from pipeline.providers.yahoo import Yahoo
from pipeline.providers.yahoo_client import GIVE_UP
from pipeline.providers.yahoo_news import Judged, search_news, ticker_news
from pipeline.summary import silent
from tests.pipeline.providers.yahoo_replay import UNKNOWN, Answer, Replay, Reply, chart, replaying, stream, yahoo

NOW = pd.Timestamp("2024-11-06T12:00Z")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replay]:
    with replaying(tmp_path / "cache") as replay:
        yield replay


def with_news(server: Replay, *tickers: str, **data: Any) -> Yahoo:
    return yahoo(server, *tickers, data={"yahoo_news": True, **data})


def fetched(provider: Yahoo) -> tuple[Delivery, Delivery]:
    """The prices, the news."""
    prices, news = provider.fetch(silent, Held())
    assert news.prices.empty
    assert prices.news.empty
    return prices, news


def item(title: str = "Profit rises", **content: Any) -> dict[str, Any]:
    """One headline of a ticker, as Yahoo sends it."""
    link = f"https://finance.yahoo.com/news/{title.lower().replace(' ', '-')}.html"
    return {
        "id": "b0a1", "content": {
            "id": "b0a1", "contentType": "STORY", "title": title, "description": "", "summary": "More than last year.",
            "pubDate": "2024-11-05T13:00:00Z", "displayTime": "2024-11-05T14:00:00Z", "isHosted": True,
            "bypassModal": False, "previewUrl": None, "thumbnail": None,
            "provider": {"displayName": "Reuters", "url": "https://www.reuters.com/"},
            "canonicalUrl": {"url": link, "site": "finance", "region": "US", "lang": "en-US"},
            "clickThroughUrl": {"url": f"{link}?click"}, "metadata": {"editorsPick": False},
            "finance": {"premiumFinance": {"isPremiumNews": False}}, "storyline": None, **content,
        },
    }  # fmt: skip


def hit(title: str = "Stocks rise", related: Any = None, **fields: Any) -> dict[str, Any]:
    """One headline of a search."""
    return {
        "uuid": "c0", "title": title, "publisher": "Bloomberg", "link": "https://finance.yahoo.com/m/c0/stocks.html",
        "providerPublishTime": 1730812345, "type": "STORY", "thumbnail": {},
        **({} if related is None else {"relatedTickers": related}), **fields,
    }  # fmt: skip


def found(items: list[Any]) -> str:
    return json.dumps({"quotes": [{"symbol": "SPY"}], "news": items, "count": len(items)})


def test_headlines_as_the_lake_wants_them(server: Replay) -> None:
    server.news = lambda ticker, query: (200, stream([item(f"{ticker} rises"), item(f"{ticker} falls")]))
    before = pd.Timestamp.now("UTC")
    prices, news = fetched(with_news(server, "AAA", "BBB"))
    assert prices.prices["ticker"].nunique() == 2
    rows = news.news
    assert {name: str(dtype) for name, dtype in rows.dtypes.items()} == NEWS_COLUMNS
    assert rows["ticker"].tolist() == ["AAA", "AAA", "BBB", "BBB"]
    assert rows["title"].tolist() == ["AAA rises", "AAA falls", "BBB rises", "BBB falls"]
    assert rows["published_at"].unique().tolist() == [pd.Timestamp("2024-11-05T13:00Z")]
    assert (rows["known_at"] >= before).all(), "known when first seen, not when published"
    assert (rows["known_at"] <= pd.Timestamp.now("UTC")).all()
    assert set(rows["source"]) == {"yahoo/Reuters"}
    assert set(rows["summary"]) == {"More than last year."}
    assert rows["url"].iloc[0] == "https://finance.yahoo.com/news/aaa-rises.html"
    assert news.failed == {}
    assert news.rejected == ()


def test_what_is_asked_for(server: Replay) -> None:
    fetched(with_news(server, "AAA", "BBB", searches=("stock market", "oil", "oil"), concurrency=1))
    posted = server.about("/xhr/ncp")
    assert [request.method for request in posted] == ["POST", "POST"]
    assert [request.query["queryRef"] for request in posted] == ["latestNews"] * 2
    assert [json.loads(request.body)["serviceConfig"] for request in posted] == [
        {"snippetCount": 50, "s": ["AAA"]}, {"snippetCount": 50, "s": ["BBB"]},
    ]  # fmt: skip
    searched = server.about("/v1/finance/search")
    assert [(request.query["q"], request.query["newsCount"]) for request in searched] == [
        ("stock market", "50"), ("oil", "50"),
    ]  # fmt: skip


def test_without_news_none_is_asked_for(server: Replay) -> None:
    (prices,) = yahoo(server, "AAA").fetch(silent, Held())
    assert prices.news.empty
    assert server.about("/xhr/") == []


def test_searches_without_the_news_of_tickers(server: Replay) -> None:
    server.search = lambda query, parameters: (200, found([hit()]))
    _, news = fetched(with_news(server, "AAA", yahoo_news=False, searches=("stock market",)))
    assert news.news["title"].tolist() == ["Stocks rise"]
    assert server.about("/xhr/") == []


def test_a_search_belongs_to_our_tickers_or_to_the_market(server: Replay) -> None:
    items = [hit("Both", ["AAA", "bbb", "ZZZ"]), hit("Neither", ["ZZZ"]), hit("None")]
    server.search = lambda query, parameters: (200, found(items))
    _, news = fetched(with_news(server, "AAA", "BBB", searches=("stocks",)))
    rows = news.news
    assert list(zip(rows["title"], rows["ticker"], strict=True)) == [
        ("Both", "AAA"), ("Both", "BBB"), ("Neither", ""), ("None", ""),
    ]  # fmt: skip
    assert set(rows["source"]) == {"yahoo/Bloomberg"}
    assert set(rows["published_at"]) == {pd.Timestamp(1730812345, unit="s", tz="UTC")}
    assert set(rows["url"]) == {"https://finance.yahoo.com/m/c0/stocks.html"}


def test_a_failure_costs_no_price_and_no_other_headline(server: Replay) -> None:
    server.news = lambda ticker, query: (500, "{}") if ticker == "BBB" else (200, stream([item()]))
    server.search = lambda query, parameters: (502, "<html>")
    prices, news = fetched(with_news(server, "AAA", "BBB", searches=("oil",)))
    assert prices.prices["ticker"].nunique() == 2
    assert prices.failed == {}
    assert news.news["ticker"].tolist() == ["AAA"]
    assert list(news.failed) == ["BBB (news)", 'search "oil" (news)']
    assert news.failed["BBB (news)"] == "Yahoo answers with status 500 (tried 3 times)"
    assert news.failed['search "oil" (news)'].startswith("Yahoo answers with status 502 (")


def test_no_news_of_a_ticker_without_prices(server: Replay) -> None:
    server.chart = lambda ticker, query: (404, UNKNOWN) if ticker == "NOPE" else (200, chart(ticker))
    _, news = fetched(with_news(server, "AAA", "NOPE"))
    assert [json.loads(request.body)["serviceConfig"]["s"] for request in server.about("/xhr/ncp")] == [["AAA"]]
    assert news.failed == {}


def test_without_any_price_no_news_is_asked_for(server: Replay) -> None:
    server.chart = lambda ticker, query: (404, UNKNOWN)
    with pytest.raises(UnknownTickerError, match=r"^NOPE: "):
        list(with_news(server, "NOPE", searches=("oil",)).fetch(silent, Held()))
    assert server.about("/v1/finance/search") == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(429, "Too Many Requests"), "requests come too fast"),
        (Reply(200, "<html>Sign in</html>"), "answer cannot be read"),
        (Reply(200, "Will be right back"), "answer cannot be read"),
        (Reply(200, "[]"), "answer cannot be read"),
        (Reply(200, stream([])[:-9]), "answer cannot be read"),
        (Reply(200, '{"data": null}'), "answer cannot be read"),
        (Reply(200, '{"data": {"tickerStream": {"stream": [5]}}}'), "answer cannot be read"),
        (Reply(200, '{"data": {"tickerStream": {"stream": 7}}}'), "answer cannot be read"),
        (Reply(200, stream([]), missing=10), "could not be reached"),
        (Reply(closes=True), "could not be reached"),
        (Reply(404, "{}"), "answers with status 404"),
    ],
)
def test_an_answer_that_is_no_answer(server: Replay, reply: Reply, message: str) -> None:
    server.news = lambda ticker, query: reply
    _, news = fetched(with_news(server, "AAA"))
    assert message in news.failed["AAA (news)"]
    assert news.failed["AAA (news)"].endswith("(tried 3 times)")


@pytest.mark.parametrize("body", ["[]", '{"news": {}}', '{"news": 5}', '{"quotes": 3}', "<html>", ""])
def test_a_search_that_is_no_answer(server: Replay, body: str) -> None:
    server.search = lambda query, parameters: (200, body)
    _, news = fetched(with_news(server, "AAA", searches=("oil",)))
    assert news.failed['search "oil" (news)'].startswith("Yahoo's answer cannot be read (")


def test_a_server_that_hangs(server: Replay) -> None:
    server.news = lambda ticker, query: Reply(wait=1.0)
    provider = yahoo(server, "AAA", data={"yahoo_news": True, "attempts": 2}, timeouts=(0.3, 0.3))
    _, news = fetched(provider)
    assert "could not be reached" in news.failed["AAA (news)"]


def test_a_passing_failure_is_tried_again(server: Replay) -> None:
    def passing(path: str, body: str) -> Answer:
        return (503, "<html>busy</html>") if len(server.about(path)) <= 2 else (200, body)

    server.news = lambda ticker, query: passing("/xhr/ncp", stream([item()]))
    server.search = lambda query, parameters: passing("/v1/finance/search", found([hit()]))
    _, news = fetched(with_news(server, "AAA", searches=("oil",)))
    assert news.failed == {}
    assert news.news["title"].tolist() == ["Profit rises", "Stocks rise"]


def test_a_search_of_tomorrow_is_not_answered_from_todays_memory(server: Replay) -> None:
    titles = iter(["Today", "Tomorrow"])
    server.search = lambda query, parameters: (200, found([hit(next(titles))]))
    seen = [fetched(with_news(server, "AAA", searches=("oil",)))[1].news["title"].tolist() for _ in range(2)]
    assert seen == [["Today"], ["Tomorrow"]]


def test_news_that_is_down_is_not_asked_for_every_ticker(server: Replay) -> None:
    server.news = lambda ticker, query: (500, "{}")
    tickers = [f"T{i:02}" for i in range(20)]
    provider = with_news(server, *tickers, attempts=2, concurrency=1)
    *_, news = provider.fetch(silent, Held())
    assert len(news.failed) == 20
    assert len(server.about("/xhr/ncp")) == GIVE_UP * 2 * 2, "two tries, each twice by yfinance"


def test_several_at_a_time_in_the_order_of_the_tickers(server: Replay) -> None:
    tickers = [f"T{i:02}" for i in range(16)]
    server.news = lambda ticker, query: Reply(200, stream([item()]), wait=0.05 if ticker < "T04" else 0.01)
    _, news = fetched(with_news(server, *tickers))
    assert news.news["ticker"].tolist() == tickers
    assert 2 <= server.most <= 4


def judged(*items: Any) -> Judged:
    return ticker_news(list(items), NOW, "AAA")


def test_items_that_cannot_be_used_are_kept_aside() -> None:
    ahead = item("Later", pubDate="2024-11-07T00:00:00Z")
    news, rejected, ads = judged(
        item(pubDate=None), item("", id=7), ahead, {}, None, 5, "x", [], item("Good"), {"ad": [{"id": 1}]}
    )
    assert news["title"].tolist() == ["Good"]
    assert ads == 1
    assert [row.reason for row in rejected] == [
        "published_at is no time like 2013-03-01T16:05:00-05:00", "no title", "published in the future",
        *["published_at is no time like 2013-03-01T16:05:00-05:00"] * 5,
    ]  # fmt: skip
    assert json.loads(rejected[2].row) == ahead
    assert [row.row for row in rejected[3:]] == ["{}", "null", "5", '"x"', "[]"]
    assert {(row.table, row.source) for row in rejected} == {("news", "yahoo")}


def test_advertisements_are_counted(server: Replay) -> None:
    """yfinance drops those marked in a ticker's stream; nothing else is left out."""
    server.news = lambda ticker, query: (200, stream([item(), {"ad": [{"title": "Buy"}]}, item("")]))
    _, news = fetched(with_news(server, "AAA"))
    assert len(news.news) == 1
    assert [row.reason for row in news.rejected] == ["no title"]


@pytest.mark.parametrize(
    ("content", "column", "expected"),
    [
        ({"provider": None}, "source", "yahoo"),
        ({"provider": {"displayName": "  "}}, "source", "yahoo"),
        ({"canonicalUrl": None}, "url", "https://finance.yahoo.com/news/profit-rises.html?click"),
        ({"canonicalUrl": None, "clickThroughUrl": None}, "url", ""),
        ({"summary": None, "description": "Shorter."}, "summary", "Shorter."),
        ({"title": " Half a pair \ud83d "}, "title", "Half a pair ?"),
        ({"pubDate": "2024-11-05T08:00:00-05:00"}, "published_at", pd.Timestamp("2024-11-05T13:00Z")),
        ({"pubDate": "2024-11-05T13:00:00"}, "published_at", pd.Timestamp("2024-11-05T13:00Z")),
        ({"pubDate": "2024-11-06"}, "known_at", pd.Timestamp("2024-11-07T00:00:00.000001Z")),
        ({}, "known_at", NOW),
    ],
)
def test_a_headline_with_gaps(content: dict[str, Any], column: str, expected: object) -> None:
    news, rejected, _ = judged(item(**content))
    assert rejected == ()
    assert news[column].iloc[0] == expected


@pytest.mark.parametrize("at", [None, "", "soon", True, -1, 0, 1e300, float("nan"), float("inf"), [1730812345], 10**40])
def test_a_search_without_a_time(at: object) -> None:
    news, rejected, _ = search_news([hit(providerPublishTime=at)], NOW, ["AAA"])
    assert news.empty
    assert rejected[0].reason.startswith("published_at is no time")


@pytest.mark.parametrize("related", [None, 5, "AAA", [], [None, 5, {}], {"AAA": 1}])
def test_a_search_without_tickers_is_the_markets(related: object) -> None:
    news, rejected, _ = search_news([hit(related=related)], NOW, ["AAA"])
    assert rejected == ()
    assert news["ticker"].tolist() == [""]


def test_a_ticker_of_ours_in_lower_case() -> None:
    news, _, _ = search_news([hit(related=["AAA", "AAA"])], NOW, ["aaa"])
    assert news["ticker"].tolist() == ["aaa"]


KEYS = st.sampled_from(
    ["content", "title", "summary", "description", "pubDate", "provider", "displayName", "canonicalUrl", "url", "ad",
     "clickThroughUrl", "publisher", "link", "providerPublishTime", "relatedTickers"]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None), max_size=8),
    st.sampled_from(["2024-11-05T13:00:00Z", "2024-11-05", "0001-01-01", "9999-12-31T23:59:59Z", "AAA", "\ud800"]),
)  # fmt: skip
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=15
)
ITEMS = st.lists(
    JSON | st.fixed_dictionaries({}, optional={"content": st.dictionaries(KEYS, JSON, max_size=8)}), max_size=5
)


@settings(max_examples=100, deadline=None)
@given(items=ITEMS)
def test_whatever_json_holds_nothing_is_lost(items: list[Any]) -> None:
    for news, rejected, ads in (ticker_news(items, NOW, "AAA"), search_news(items, NOW, [])):
        assert len(news) + len(rejected) + ads == len(items)
        assert {name: str(dtype) for name, dtype in news.dtypes.items()} == NEWS_COLUMNS
        assert (news["known_at"] >= NOW).all()
        assert (news["published_at"] <= NOW).all()
        for row in rejected:
            json.loads(row.row)


@settings(max_examples=15, deadline=None)
@given(items=ITEMS)
def test_whatever_json_comes_through_the_client_prices_stay(tmp_path_factory: Any, items: list[Any]) -> None:
    with replaying(tmp_path_factory.mktemp("cache")) as server:
        server.news = lambda ticker, query: (200, stream(items))
        server.search = lambda query, parameters: (200, json.dumps({"news": items}))
        prices, news = fetched(with_news(server, "AAA", searches=("oil",), attempts=1))
        assert len(prices.prices) == 5
        assert set(news.failed) <= {"AAA (news)", 'search "oil" (news)'}
