"""SIMULATED headlines: price recaps written from prices, because no freely licensed dated headlines exist.

Each one tells the move of a session that is over, and is stamped 5 to 90 minutes after that session's close.
So it holds nothing that the prices did not hold already: it shows that the news side of the line works, and
can show nothing about the worth of text. Title and source both say that it is simulated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import frames
from features.calendars import calendar_sessions
from pipeline.providers import NEWS_COLUMNS, empty_news

SOURCE = "simulated"
MARKET_TICKER = "SPX"
ONE_IN = 3
FIRST_MINUTE, LAST_MINUTE = 5, 90
HEAVY = 1.5
VOLUME_SESSIONS = 20

EDGES = (-3.0, -1.0, -0.25, 0.25, 1.0, 3.0)
"""Moves in percent between the rows of PHRASES."""

PHRASES = (
    (("plunges", "a terrible day"), ("tumbles", "an awful session for investors"), ("sinks", "a horrible day")),
    (("falls", "a bad day"), ("drops", "a disappointing session"), ("slides", "a poor day for investors")),
    (("slips", "a slightly weak session"), ("eases", "a rather dull day"), ("dips", "a somewhat bad session")),
    (
        ("closes flat, moving", "in the end"),
        ("goes sideways, moving", "by the close"),
        ("holds, moving", "as trade ends"),
    ),
    (("edges up", "a fairly good session"), ("adds", "a rather pleasant day"), ("inches up", "a fine day")),
    (("rises", "a good day"), ("gains", "a nice session for investors"), ("climbs", "a strong, good day")),
    (("soars", "an excellent day"), ("surges", "a wonderful session for investors"), ("jumps", "a great day")),
)
"""Verb and verdict, three to choose from, by rising move. The verdicts are what TextBlob's lexicon can read."""

Ints = npt.NDArray[np.int64]


def headlines(prices: pd.DataFrame, calendar: str, seed: int = 0) -> pd.DataFrame:
    """About one headline in three sessions for each ticker, and for the market where SPX is there.

    A row depends on nothing but its ticker, its session's and the sessions' before, and the seed: rows added later,
    and other tickers, change none.

    Args:
        prices: the price columns of a delivery, every session one of the calendar.
        calendar: a name of exchange_calendars.
        seed: which sessions have one, and in which words.

    Returns:
        NEWS_COLUMNS, by (published_at, ticker); known_at is published_at.
    """
    if prices.empty:
        return empty_news()
    market = prices[prices["ticker"] == MARKET_TICKER].assign(ticker="")
    rows = pd.concat([prices, market]).sort_values(["ticker", "session"], ignore_index=True)
    by_ticker = rows.groupby("ticker", sort=False)
    rows["move"] = 100.0 * by_ticker["adj_close"].pct_change()
    usual = by_ticker["volume"].transform(lambda v: v.rolling(VOLUME_SESSIONS).mean().shift())
    rows["heavy"] = rows["volume"] > HEAVY * usual
    key = rows["ticker"] + "|" + rows["session"].dt.strftime("%Y-%m-%d")
    draw = pd.util.hash_array(key.to_numpy(dtype=object), hash_key=f"{seed % 10**16:016d}", categorize=False)
    chosen = (draw % np.uint64(ONE_IN) == 0) & rows["move"].notna().to_numpy()
    return _written(rows[chosen], draw[chosen], calendar)


def _written(rows: pd.DataFrame, draw: npt.NDArray[np.uint64], calendar: str) -> pd.DataFrame:
    if rows.empty:
        return empty_news()
    sessions, closes = calendar_sessions(calendar, rows["session"].min(), rows["session"].max())
    minutes = FIRST_MINUTE + ((draw >> np.uint64(8)) % np.uint64(LAST_MINUTE - FIRST_MINUTE + 1)).astype(np.int64)
    published = closes[sessions.get_indexer(pd.Index(rows["session"]))] + pd.to_timedelta(minutes, unit="m")
    news = pd.DataFrame({"ticker": rows["ticker"].to_numpy(), "title": _titles(rows, draw), "source": SOURCE})
    news["published_at"] = news["known_at"] = published.astype(frames.INSTANT)
    news["summary"] = news["url"] = ""
    return news[list(NEWS_COLUMNS)].astype(NEWS_COLUMNS).sort_values(["published_at", "ticker"], ignore_index=True)


def _titles(rows: pd.DataFrame, draw: npt.NDArray[np.uint64]) -> list[str]:
    words = np.array(PHRASES, dtype=object)  # (move, choice, verb | verdict)
    move = rows["move"].to_numpy()
    choice = ((draw >> np.uint64(32)) % np.uint64(words.shape[1])).astype(np.int64)
    picked = words[np.searchsorted(EDGES, move), choice]
    names = np.where(rows["ticker"] == "", "The market", rows["ticker"])
    trading = np.where(rows["heavy"], " as volume swells", "")
    return [
        f"[simulated] {name} {verb} {size:.1f}%{busy}, {verdict}"
        for name, (verb, verdict), size, busy in zip(names, picked, np.abs(move), trading, strict=True)
    ]
