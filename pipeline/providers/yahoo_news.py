"""Yahoo's news: the headlines of each ticker, and of searches; a failure here never costs a price.

Yahoo hands over the latest headlines only and says nothing of when each one appeared there: a headline is known when
it was first seen, which for a headline of last week is now.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import yfinance

from pipeline.config import Config
from pipeline.errors import ProviderError
from pipeline.providers import NEWS_COLUMNS, Delivery, Rejected, empty_news
from pipeline.providers.checks import check_news, parse_published
from pipeline.providers.yahoo_client import TIMEOUT, Asker, in_order
from pipeline.summary import Progress

SOURCE = "yahoo"
MARKET = ""
NEWS_COUNT = 50
"""Most headlines asked for at one time: some tickers have more than yfinance's 10 in a day."""
BATCH = 50
LAST_SECOND = 1e10
"""Of a time in seconds: the year 2286; more are milliseconds or nonsense."""
FIELDS = ("published_at", "source", "title", "summary", "url")


class Judged(NamedTuple):
    """Headlines that can be used, those that cannot, and how many were advertisements."""

    news: pd.DataFrame
    rejected: tuple[Rejected, ...]
    ads: int


class Wanted(NamedTuple):
    """One request for news: what it is called in messages, and how to ask and to judge."""

    name: str
    ask: Callable[[], list[Any]]
    judge: Callable[[list[Any], pd.Timestamp], Judged]


def ask_news(config: Config, asker: Asker, tickers: tuple[str, ...], progress: Progress) -> Iterator[Delivery]:
    """One delivery of all headlines; none if no news is wanted.

    Args:
        config: data.yahoo_news: of each ticker; data.searches: of each search.
        asker: with which to ask.
        tickers: those that Yahoo knows.
        progress: called as work goes on.
    """
    wanted = _wanted(config, asker, tickers)
    if not wanted:
        return
    total = len(wanted)
    found: list[Judged] = []
    failed: dict[str, str] = {}
    progress("asking Yahoo for news", 0, total)
    answers = in_order(config.data.concurrency, asker.client.pace, partial(_answer, asker), wanted, BATCH)
    for done, (each, answer) in enumerate(zip(wanted, answers, strict=True), 1):
        progress("asking Yahoo for news", done, total)
        if isinstance(answer, ProviderError):
            failed[each.name] = str(answer).removeprefix(f"{each.name}: ")
        else:
            found.append(answer)
    ads = sum(judged.ads for judged in found)
    yield Delivery(
        news=pd.concat([empty_news(), *(judged.news for judged in found)], ignore_index=True),
        rejected=tuple(row for judged in found for row in judged.rejected),
        failed=failed,
        notes=(f"yahoo: {ads} advertisements among the news left out",) if ads else (),
    )


def ticker_news(items: list[Any], now: pd.Timestamp, ticker: str) -> Judged:
    """The headlines of one ticker, as `Ticker.get_news` of yfinance 1.7 hands them over.

    Args:
        items: of JSON; anything may be in them.
        now: when they were seen.
        ticker: ours.
    """
    rows, texts, ads = [], [], 0
    for item in items:
        if isinstance(item, dict) and item.get("ad"):
            ads += 1
            continue
        content = _dict(item, "content")
        publisher = _text(_dict(content, "provider"), "displayName")
        url = _text(_dict(content, "canonicalUrl"), "url") or _text(_dict(content, "clickThroughUrl"), "url")
        summary = _text(content, "summary") or _text(content, "description")
        rows.append((_text(content, "pubDate"), _source(publisher), _text(content, "title"), summary, url))
        texts.append(item)
    return _judged(rows, texts, [(ticker,)] * len(rows), now, ads)


def search_news(items: list[Any], now: pd.Timestamp, tickers: Sequence[str]) -> Judged:
    """The headlines of a search, as `Search(...).news` of yfinance 1.7 hands them over.

    Args:
        items: of JSON; anything may be in them.
        now: when they were seen.
        tickers: ours; a headline related to several of them is news of each, to none news of the market.
    """
    rows, texts, of = [], [], []
    ours = {ticker.upper(): ticker for ticker in tickers}
    for item in items:
        related = item.get("relatedTickers") if isinstance(item, dict) else None
        named = [name.upper() for name in related if isinstance(name, str)] if isinstance(related, list) else []
        published = _instant(item.get("providerPublishTime") if isinstance(item, dict) else None)
        rows.append((published, _source(_text(item, "publisher")), _text(item, "title"), "", _text(item, "link")))
        texts.append(item)
        of.append(tuple(ours[name] for name in dict.fromkeys(named) if name in ours) or (MARKET,))
    return _judged(rows, texts, of, now, ads=0)


def _wanted(config: Config, asker: Asker, tickers: tuple[str, ...]) -> list[Wanted]:
    """Tickers first, then searches."""
    session = asker.client

    def of_ticker(ticker: str) -> list[Any]:
        return _list(yfinance.Ticker(ticker, session=session).get_news(count=NEWS_COUNT))

    def of_search(query: str) -> list[Any]:
        found = yfinance.Search(
            query, max_results=1, news_count=NEWS_COUNT, lists_count=0, session=session, timeout=TIMEOUT
        )
        return _list(found.news)

    of_tickers = [
        Wanted(f"{ticker} (news)", partial(of_ticker, ticker), partial(ticker_news, ticker=ticker))
        for ticker in (tickers if config.data.yahoo_news else ())
    ]
    of_searches = [
        Wanted(f'search "{query}" (news)', partial(of_search, query), partial(search_news, tickers=tickers))
        for query in dict.fromkeys(config.data.searches)
    ]
    return of_tickers + of_searches


def _answer(asker: Asker, wanted: Wanted) -> Judged | ProviderError:
    try:
        items = asker.ask(wanted.name, wanted.ask)
    except ProviderError as error:
        return error
    return wanted.judge(items, pd.Timestamp.now("UTC"))


def _judged(
    rows: Sequence[tuple[str, ...]], items: list[Any], of: Sequence[tuple[str, ...]], now: pd.Timestamp, ads: int
) -> Judged:
    """Give each headline a reason why it cannot be used, or one row for each of its tickers."""
    if not rows:
        return Judged(empty_news(), (), ads)
    frame = pd.DataFrame(rows, columns=list(FIELDS)).astype("str")
    frame["published_at"], known = parse_published(frame["published_at"], UTC)
    why = check_news(frame, now)
    bad = why[why != ""]
    lines = [json.dumps(items[at], default=str) for at in bad.index]
    rejected = tuple(Rejected("news", reason, SOURCE, line) for reason, line in zip(bad, lines, strict=True))
    known_at = known.where(known > now, now.as_unit("us"))
    news = frame.assign(ticker=pd.Series(of, dtype="object"), known_at=known_at)[why == ""].explode("ticker")
    return Judged(news[list(NEWS_COLUMNS)].astype(NEWS_COLUMNS).reset_index(drop=True), rejected, ads)


def _instant(seconds: Any) -> str:
    """ISO text of seconds since 1970; '' where there are none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    if not math.isfinite(seconds) or not 0 < seconds < LAST_SECOND:
        return ""
    return f"{pd.Timestamp(seconds, unit='s', tz=UTC).isoformat()}"


def _source(publisher: str) -> str:
    return f"{SOURCE}/{publisher}" if publisher else SOURCE


def _list(answer: Any) -> list[Any]:
    """The items of an answer.

    Raises:
        ValueError: it holds none, not even an empty list.
    """
    if not isinstance(answer, list):
        raise ValueError(f"a list of news was expected, not {type(answer).__name__}")
    return answer


def _dict(item: Any, key: str) -> dict[str, Any]:
    found = item.get(key) if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}


def _text(item: Any, key: str) -> str:
    """Text without what UTF-8 cannot hold: JSON may name half a surrogate pair."""
    found = item.get(key) if isinstance(item, dict) else None
    return found.encode("utf-8", "replace").decode().strip() if isinstance(found, str) else ""
