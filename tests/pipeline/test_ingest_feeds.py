"""Feeds beside prices, through ingestion into the lake: once, again, and with one feed that fails."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline import ingest
from pipeline.config import Config, Data, Feed, Rss, Universe
from pipeline.store import Lake
from tests.pipeline.providers.feed_server import Answer, feed, item, running


def config_of(root: Path, *urls: str) -> Config:
    rss = Rss(feeds=tuple(Feed(url=url) for url in urls), companies={"IBM": ("IBM", "Big Blue")})
    return Config(data=Data(lake=root / "lake", attempts=1, rss=rss), universe=Universe(tickers=("IBM",)))


def test_feeds_are_read_beside_the_provider(tmp_path: Path) -> None:
    """The headline is known from when we saw it, and a feed that has not changed is not sent again."""
    with running() as server:
        body = feed(item("Big Blue buys a rival"), item("Rain expected", "https://example.test/rain"))
        url = server.on(Answer(body, headers={"ETag": '"1"'}), Answer(status=304))
        config, lake = config_of(tmp_path, url, server.url("/gone")), Lake(tmp_path / "lake")
        before = pd.Timestamp.now("UTC")
        first = ingest.run(config)
        told = lake.news()
        told = told[told["source"].str.startswith("127.0.0.1")].set_index("title")
        assert told["ticker"].to_dict() == {"Big Blue buys a rival": "IBM", "Rain expected": ""}
        assert (told["known_at"] >= before).all()
        assert (told["published_at"] < before).all()
        assert lake.news(before - pd.Timedelta(days=1))["source"].eq("simulated").all()
        (left,) = first.left_out
        assert left.startswith(f"{server.url('/gone')} (")
        assert "404" in left
        versions = lake.versions(("prices", "news", "state"))
        again = ingest.run(config)
        assert server.asked["/feed"][1]["if-none-match"] == '"1"'
        assert again.figures["news"]["inserted"] == 0
        assert lake.versions(("prices", "news", "state")) == versions
