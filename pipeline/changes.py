"""Which years of the features are still those of the lake: what they were made of, kept beside them.

The features of a calendar year are a function of the bars and headlines of that year and the two before it
(features/bars.py). So a new session, a revision or a late headline changes the features of its own year and of later
ones, and of no earlier one. Rows of `prices` change only together with their `ingested_at`, rows of `news` never: sums
over a year tell a change, whatever compaction does to the files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import features
from pipeline.config import Config
from pipeline.store import Lake

STATE: Final = "features:made"
RESULTS: Final = ("features", "targets")
_YEARS_OF_PRICES: Final = """
    SELECT CAST(year AS VARCHAR) AS of,
        count(*) || ' ' || max(seen) || ' ' || sum(seen % 1000000007) AS told
    FROM (SELECT year, CAST(ingested_at AS BIGINT) AS seen FROM t) GROUP BY year
"""
# At midnight of January 1 it is known in time for a session that ends then.
_YEARS_OF_NEWS: Final = """
    SELECT CAST(year AS VARCHAR) AS of, CAST(count(*) AS VARCHAR) AS told
    FROM (SELECT CAST(date_part('year', known_at - INTERVAL '1 microsecond') AS INT) AS year FROM t) GROUP BY year
"""


@dataclass(frozen=True)
class Made:
    """What features were, or would be, made of.

    Attributes:
        recipe: digest of the code of the features and of everything in the configuration that they depend on.
        tickers: those with features.
        prices, news: year -> what tells one content of the year's rows from another.
    """

    recipe: str
    tickers: tuple[str, ...]
    prices: dict[str, str]
    news: dict[str, str]


def made_of(config: Config, lake: Lake, tickers: list[str], *ingredients: bytes) -> Made:
    """What features made now are made of.

    Args:
        config: the configuration.
        lake: has prices.
        tickers: those that will have features.
        ingredients: files the features depend on beside the lake: members, own features, the text classifier.
    """
    return Made(_recipe(config, ingredients), tuple(tickers), _told(lake, "prices"), _told(lake, "news"))


def held(lake: Lake) -> Made | None:
    """What the features in the lake were made of; None where that is not known, or they were written by halves."""
    text = lake.state().get(STATE)
    found = {} if text is None else json.loads(text)
    if not found or found["versions"] != lake.versions(RESULTS):
        return None
    return Made(found["recipe"], tuple(found["tickers"]), found["prices"], found["news"])


def kept(made: Made, lake: Lake) -> dict[str, str]:
    """As state of the lake, whose features and targets are now made of this."""
    return {STATE: json.dumps({**asdict(made), "versions": lake.versions(RESULTS)})}


def first_changed_year(before: Made | None, now: Made) -> int | None:
    """The first calendar year of which anything is different.

    Returns:
        A year; one after all of them if nothing changed; None if everything has to be made again.
    """
    if before is None or before.recipe != now.recipe or before.tickers != now.tickers:
        return None
    changed = [
        int(year)
        for old, new in ((before.prices, now.prices), (before.news, now.news))
        for year in old.keys() | new.keys()
        if old.get(year) != new.get(year)
    ]
    last = max(int(year) for year in now.prices)
    return min(changed, default=last + 1)


def _told(lake: Lake, table: str) -> dict[str, str]:
    if not lake.exists(table):
        return {}
    sql = _YEARS_OF_PRICES if table == "prices" else _YEARS_OF_NEWS
    rows = lake.tables.query_arrow(sql, t=lake.tables.open(table)).to_pylist()
    return {row["of"]: row["told"] for row in sorted(rows, key=lambda row: row["of"])}


def _recipe(config: Config, ingredients: tuple[bytes, ...]) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(next(iter(features.__path__))).rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    for section in (config.features, config.sentiment, config.target, config.universe):
        digest.update(section.model_dump_json().encode())
    digest.update(str(config.data.as_of).encode())
    for content in ingredients:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
