"""RSS and Atom feeds: headlines, asked for only when they have changed, each given to the companies it names.

A feed that fails is named with its reason and never stops the others. Feeds are not trusted: they are bounded in bytes
and time (`feed_client`), and parsed in a process of their own (`feed_reader`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pandas as pd

from features import frames
from pipeline.config import Config, Feed
from pipeline.errors import ProviderError
from pipeline.providers import NEWS_COLUMNS, Delivery, Held, Rejected
from pipeline.providers.checks import check_news
from pipeline.providers.companies import Companies
from pipeline.providers.feed_client import NOT_MODIFIED, Answer, Client
from pipeline.summary import Progress

log = logging.getLogger(__name__)

READER = Path(__file__).with_name("feed_reader.py")
PARSING = 60.0
"""Seconds a feed may take to be parsed; 10 MB of items take seven, malformed ones twenty."""
ASKING = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
FUTURE = "published in the future"
BREAKS_OFF = "the feed breaks off within this item"
LONGEST_URL = 4_000
FIELDS = ("title", "summary", "cut", "link", "guid", "published", "date")


def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
    """The news of every feed in data.rss.feeds, a delivery each; see `Feeds.deliver`."""
    return Feeds(config).deliver(progress, held)


class State(NamedTuple):
    """What is remembered of a feed between runs, as JSON in `Delivery.state`.

    Attributes:
        headers: of its last answer that was used whole, by lower-case name: ETag and Last-Modified.
        settings: a digest of what decides which of its items are kept, and under which tickers.
        first_seen: when each of its items without a date was first seen, by a digest of the item.
    """

    headers: dict[str, str]
    settings: str
    first_seen: dict[str, str]

    @classmethod
    def of(cls, text: str | None, settings: str) -> State:
        """As remembered; without headers if the settings are others now, so that the whole feed comes again."""
        state = cls(**json.loads(text)) if text else cls({}, settings, {})
        return state if state.settings == settings else state._replace(headers={}, settings=settings)

    def text(self) -> str:
        """As JSON, the same text for the same state."""
        return json.dumps(self._asdict(), sort_keys=True)


@dataclass(frozen=True)
class Feeds:
    """The feeds of a configuration.

    Attributes:
        config: the configuration.
        sleep: how to wait between tries, in seconds.
        parsing: seconds a feed may take to be parsed.
    """

    config: Config
    sleep: Callable[[float], None] = time.sleep
    parsing: float = PARSING

    def deliver(self, progress: Progress, held: Held) -> Iterator[Delivery]:
        """A delivery for each feed: its usable items, those that are not, or why it could not be had.

        An item is known from when it was first seen on, however old it says that it is. One without a date (or with
        one that cannot be read) counts as published then. Without a title the beginning of its summary stands for it.
        """
        feeds = self.config.data.rss.feeds
        for done, feed in enumerate(feeds):
            progress("reading feeds", done, len(feeds))
            try:
                delivery = self._delivery(feed, held)
            except ProviderError as error:
                log.info("%s: %s", feed.url, error)
                delivery = Delivery(failed={feed.url: str(error)})
            yield delivery
        progress("reading feeds", len(feeds), len(feeds))

    def _delivery(self, feed: Feed, held: Held) -> Delivery:
        key = f"rss:{feed.url}"
        before = State.of(held.state.get(key), self._settings(feed))
        answer = self._client.get(feed.url, {ASKING[name]: value for name, value in before.headers.items()})
        if answer.status == NOT_MODIFIED:
            return Delivery()
        items = Items.of(feed, _read(answer, self.parsing), before)
        kept, notes = self._assigned(feed, items.good)
        state = items.state(answer.headers, before)
        return Delivery(
            news=kept[list(NEWS_COLUMNS)].astype(NEWS_COLUMNS).reset_index(drop=True),
            rejected=items.rejected,
            notes=tuple(f"{feed.url}: {note}" for note in (*items.notes, *notes)),
            state={key: state.text()},
        )

    @cached_property
    def _client(self) -> Client:
        rss = self.config.data.rss
        return Client(rss.timeout_seconds, rss.max_bytes, self.config.data.attempts, self.sleep)

    @cached_property
    def _companies(self) -> Companies:
        words = self.config.data.rss.companies
        return Companies(words, (*self.config.universe.tickers, *words))

    def _settings(self, feed: Feed) -> str:
        rss, universe = self.config.data.rss, self.config.universe
        deciding = (feed.ticker, rss.companies, rss.unmatched, universe.tickers, universe.since, universe.until)
        return _digest(*map(str, deciding))

    def _assigned(self, feed: Feed, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        """A row for each ticker that an item belongs to, each (ticker, identity) once; and what to say about it."""
        notes = []
        if feed.ticker:
            rows = rows.assign(ticker=feed.ticker)
        else:
            named = self._companies.named(rows["title"])
            other = ~rows.index.isin(named.index)
            if other.any() and self.config.data.rss.unmatched == "drop":
                notes.append(f"items that name no company, not kept: {other.sum()} (data.rss.unmatched is drop)")
                rows = rows[~other]
            rows = rows.join(named).assign(ticker=lambda joined: joined["ticker"].fillna(""))
        without = rows["url"] == ""
        identity = rows["url"].mask(without, rows["published_at"].astype("str") + rows["title"])
        twice = pd.DataFrame({"ticker": rows["ticker"], "identity": identity}).duplicated()
        if twice.any():
            notes.append(f"items that appear more than once: {rows.index[twice].nunique()} (the first is kept)")
        return rows[~twice], notes


@dataclass(frozen=True)
class Items:
    """The items of one feed, judged.

    Attributes:
        good: the columns of NEWS_COLUMNS without ticker.
        rejected: those that cannot be used.
        notes: what a person should know.
        is_whole: whether nothing more can be had from this very document: all of it was read, and nothing in it is
            ahead of our clock.
        first_seen: as in `State`, for the items of this document.
    """

    good: pd.DataFrame
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    is_whole: bool = True
    first_seen: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, feed: Feed, document: dict[str, Any], before: State) -> Items:
        """The items of a document as `feed_reader.read` returns it; now is when they are seen."""
        now = pd.Timestamp.now("UTC").as_unit("us")
        entries = pd.DataFrame(document["entries"], columns=list(FIELDS)).astype({"cut": "bool"})
        text = entries.drop(columns="cut").astype("str")
        published = pd.to_datetime(text["published"], format="ISO8601", errors="coerce", utc=True)
        undated = published.isna()
        keys = [_digest(*item) for item in text.loc[undated, ["link", "guid", "title", "summary"]].to_numpy()]
        first_seen = {key: before.first_seen.get(key, now.isoformat()) for key in keys}
        seen = pd.Series([pd.Timestamp(first_seen[key]) for key in keys], text.index[undated], frames.INSTANT)
        at = published.astype(frames.INSTANT).fillna(seen)
        is_address = text["link"].str.match(r"(?i)https?://\S+$") & (text["link"].str.len() <= LONGEST_URL)
        address = httpx.URL(feed.url)
        rows = pd.DataFrame(
            {
                "published_at": at,
                "known_at": at.mask(at < now, now),
                "source": f"{address.host}{address.path}",
                "title": text["title"].mask(text["title"] == "", text["summary"]),
                "summary": text["summary"],
                "url": text["link"].where(is_address, ""),
            }
        )
        why = check_news(rows, now)
        if document["breaks_off"]:
            why.iloc[-1] = BREAKS_OFF
        bad = why[why != ""]
        lines = [json.dumps(document["entries"][row], ensure_ascii=False) for row in bad.index]
        return cls(
            rows[why == ""],
            tuple(Rejected("news", *each) for each in zip(bad, rows["source"][bad.index], lines, strict=True)),
            _notes(document, int((undated & (why == "")).sum()), int(entries["cut"].sum())),
            not document["damage"] and not (why == FUTURE).any(),
            first_seen,
        )

    def state(self, headers: Mapping[str, str], before: State) -> State:
        """What to remember after this document; the headers only if it need not be asked for again as it is."""
        if not self.is_whole:
            return before._replace(first_seen={**before.first_seen, **self.first_seen})
        given = {name: headers[name] for name in ASKING if name in headers}
        # Anything else could not be sent back.
        return State({n: v for n, v in given.items() if v.isascii()}, before.settings, self.first_seen)


def _read(answer: Answer, seconds: float) -> dict[str, Any]:
    """The document in an answer, as `feed_reader.read` returns it.

    Raises:
        ProviderError: it is no feed, or cannot be read.
    """
    head = {"content_type": answer.headers.get("content-type", ""), "location": answer.url}
    command = [sys.executable, "-P", str(READER)]  # -P: our modules must not be taken for the library's
    try:
        reader = subprocess.run(
            command, input=json.dumps(head).encode() + b"\n" + answer.body, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise ProviderError(f"could not be parsed within {seconds:g} s ({len(answer.body):,} bytes)") from None
    if reader.returncode:
        said = reader.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {reader.returncode}"]
        raise ProviderError(f"cannot be parsed ({said[-1][:160]})")
    document: dict[str, Any] = json.loads(reader.stdout)
    if document["refused"]:
        raise ProviderError(f"is refused: its document {document['refused']}")
    if document["entries"]:
        return document
    if not document["version"]:
        raise ProviderError(f"is no RSS or Atom feed: {document['begins'] or 'an empty document'}")
    if document["damage"]:
        raise ProviderError(f"is malformed, and no item could be read: {document['damage']}")
    return document


def _notes(document: dict[str, Any], undated: int, cut: int) -> tuple[str, ...]:
    said = [
        (document["damage"], f"malformed ({document['damage']}); items that could be read: {len(document['entries'])}"),
        (document["encoding"], document["encoding"]),
        (undated, f"items without a date that can be read: {undated} (they count as published when first seen)"),
        (cut, f"titles too long, cut: {cut}"),
    ]
    return tuple(note for applies, note in said if applies)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]
