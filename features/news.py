"""News on the exchange's clock: which session may use a headline, and its sentiment per ticker and session.

The decision time of a session is its close minus the lead. A headline belongs to the first session whose
decision time is at or after the instant it was publicly known; one second too late is the next session's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.sentiment import NEGATIVE, POSITIVE, score

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

MARKET = ("", "*")
DECAY_SESSIONS = 5
NAMES = (
    "news_count", "positive_share", "negative_share", "polarity_mean", "subjectivity_mean",
    "polarity_decay_5", "market_polarity", "no_news",
)  # fmt: skip


def assign_sessions(known_at: pd.DatetimeIndex, closes: pd.DatetimeIndex, lead_minutes: int) -> Ints:
    """The position of the first session whose decision time is at or after each instant.

    Args:
        known_at: (n,) instants, UTC, in any order.
        closes: (T,) closes, UTC, ascending.
        lead_minutes: how long before the close a decision is made.

    Returns:
        (n,) positions into `closes`; T where the last session decides before the instant.
    """
    decisions = _instants(closes) - np.timedelta64(lead_minutes, "m")
    return np.searchsorted(decisions, _instants(known_at), side="left").astype(np.int64)


def sentiment_features(
    news: pd.DataFrame,
    tickers: Sequence[str],
    sessions: pd.DatetimeIndex,
    closes: pd.DatetimeIndex,
    lead_minutes: int,
    threshold: float,
) -> dict[str, Float32]:
    """What the news of each ticker says, per decision session: every name of NAMES -> (N, T) float32.

    All are known at the session's decision time and none is NaN. `news_count` is log(1 + headlines); shares
    and means are 0 without news; `polarity_decay_5` forgets by e^(-1/5) a session; `market_polarity` is the
    mean polarity of market news (ticker '' or '*'), the same for every ticker; `no_news` is 1 or 0. News of
    other tickers, and news known after the last decision, is left aside.

    Args:
        news: the `news` table (ticker, known_at, title, summary), any order.
        tickers: N tickers.
        sessions, closes: T sessions and their closes.
        lead_minutes: how long before the close a decision is made.
        threshold: polarity beyond which a headline is positive or negative.
    """
    shape = len(tickers), len(sessions)
    ticker = news["ticker"].to_numpy(dtype=str)
    t = assign_sessions(pd.DatetimeIndex(news["known_at"]), closes, lead_minutes)
    row = np.where(np.isin(ticker, MARKET), shape[0], pd.Index(tickers).get_indexer(pd.Index(ticker)))
    used = (row >= 0) & (t < shape[1])  # market news is the row below the tickers'
    texts = (news["title"].str.strip() + " " + news["summary"].str.strip()).str.strip()
    scores = score(texts[used].tolist(), threshold)
    cell = row[used] * shape[1] + t[used]

    def total(weights: Floats | None = None) -> Floats:
        sums = np.bincount(cell, weights, minlength=(shape[0] + 1) * shape[1])
        return sums.reshape(shape[0] + 1, shape[1]).astype(np.float64)

    count = total()
    some = np.maximum(count, 1.0)
    polarity = total(scores.polarity) / some
    found = {
        "news_count": np.log1p(count),
        "positive_share": total((scores.label == POSITIVE).astype(np.float64)) / some,
        "negative_share": total((scores.label == NEGATIVE).astype(np.float64)) / some,
        "polarity_mean": polarity,
        "subjectivity_mean": total(scores.subjectivity) / some,
        "polarity_decay_5": decayed(polarity, DECAY_SESSIONS),
        "market_polarity": np.broadcast_to(polarity[-1], polarity.shape),
        "no_news": (count == 0).astype(np.float64),
    }
    return {name: found[name][:-1].astype(np.float32) for name in NAMES}


def decayed(values: Floats, sessions: int) -> Floats:
    """Each session's value plus what is left of the past: s(t) = v(t) + e^(-1/sessions) s(t-1), (..., T)."""
    keep = np.exp(-1.0 / sessions)
    out = np.array(values, dtype=np.float64)
    for t in range(1, out.shape[-1]):
        out[..., t] += keep * out[..., t - 1]
    return out


def _instants(index: pd.DatetimeIndex) -> npt.NDArray[np.datetime64]:
    """(n,) datetime64[us], UTC without the zone."""
    aware = pd.DatetimeIndex(index)
    if aware.tz is None:
        raise ValueError("instants need a time zone, like 2013-03-01T21:00Z")
    return aware.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
