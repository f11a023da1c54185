"""SIMULATED headlines: recaps of a session's own price move, for exercising the text path. Evidence of nothing.

A headline of session t is made from the close-to-close move and volume known at the close of t, and stamped 5 to
90 minutes after it. Whether there is one, its minute and its wording come from a hash of (ticker, session): no
headline depends on anything later, nor on other tickers or on how long the history is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from features import frames
from pipeline.store import news_id

SOURCE = "simulated"
SHARE = 0.35
"""Share of sessions with a headline; large moves always have one."""
LARGE_MOVE = 0.03

_WORDS = {
    "crash": ("plunges", "a terrible day for holders"),
    "fall": ("slips", "on weak trading"),
    "flat": ("ends little changed", "in a quiet session"),
    "rise": ("gains", "on good demand"),
    "surge": ("jumps", "in an excellent session for holders"),
}
_MOODS = tuple(_WORDS)
_EDGES = (-LARGE_MOVE, -0.004, 0.004, LARGE_MOVE)


def headlines(prices: pd.DataFrame, closes: pd.Series) -> pd.DataFrame:
    """The `news` table, without `ingested_at`, for these prices.

    Args:
        prices: ticker, session, adj_close, sorted by ticker and session.
        closes: session -> close of the exchange, UTC.
    """
    move = prices.groupby("ticker")["adj_close"].pct_change().to_numpy()
    key = pd.util.hash_pandas_object(
        prices["ticker"].astype(str) + prices["session"].dt.strftime("%Y-%m-%d"), index=False
    ).to_numpy()
    chance = (key % np.uint64(10_000)).astype(np.float64) / 10_000
    told = np.isfinite(move) & ((chance < SHARE) | (np.abs(move) >= LARGE_MOVE))
    rows, move, key = prices.loc[told, ["ticker", "session"]], move[told], key[told]
    minutes = 5 + ((key >> np.uint64(20)) % np.uint64(86)).astype(np.int64)
    published = rows["session"].map(closes) + pd.to_timedelta(minutes, unit="min")
    ticker = rows["ticker"].astype(str)
    titles = [
        _title(name, change, mood)
        for name, change, mood in zip(ticker, move, np.searchsorted(_EDGES, move), strict=True)
    ]
    stamped = published.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = pd.DataFrame(
        {
            "news_id": [
                news_id(SOURCE, "", name, at, title) for name, at, title in zip(ticker, stamped, titles, strict=True)
            ],
            "ticker": ticker.to_numpy(),
            "published_at": published.astype(frames.INSTANT).to_numpy(),
            "known_at": published.astype(frames.INSTANT).to_numpy(),
            "source": SOURCE,
            "title": titles,
            "summary": "",
            "url": "",
        }
    )
    found[["published_at", "known_at"]] = found[["published_at", "known_at"]].apply(
        lambda column: pd.to_datetime(column, utc=True).astype(frames.INSTANT)
    )
    return found.astype(dict.fromkeys(("news_id", "ticker", "source", "title", "summary", "url"), "str"))


def _title(ticker: str, change: float, mood: int) -> str:
    verb, colour = _WORDS[_MOODS[mood]]
    amount = "" if _MOODS[mood] == "flat" else f" {abs(change):.1%}"
    return f"[simulated] {ticker} {verb}{amount} {colour}"
