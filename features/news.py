"""News on the exchange's clock: which session may use a headline, and what its headlines tell per ticker and session.

The decision time of a session is its close minus the lead. A headline belongs to the first session whose
decision time is at or after the instant it was publicly known; one second too late is the next session's.

Every feature of a session in calendar year y is a function of the sessions of years y-1 and y and of the headlines
that belong to them, whatever else the history holds; the year y-2 is only asked when its last session decided.
So three years of sessions and headlines give the same bytes as the whole history. The order of rows is of no matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.novelty import novelty, words_of
from features.sentiment import NEGATIVE, POSITIVE
from features.tone import Scorer, on_grid, tones

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Instants = npt.NDArray[np.datetime64]

MARKET: Final = ("", "*")
DECAY_SESSIONS: Final = 5
RECENT_SESSIONS: Final = 20
FIRST_HOURS: Final = np.timedelta64(24, "h")
"""How far back a session's news reaches where the session before it is not known."""
_SMEDT, _HUTTO, _TETLOCK = "De Smedt and Daelemans 2012", "Hutto and Gilbert 2014", "Tetlock 2011"
CATALOGUE: Final[tuple[tuple[str, str, str], ...]] = (
    ("news_count", "ln(1 + n), n = headlines of the session", "Barber and Odean 2008"),
    ("no_news", "1 without a headline, else 0", ""),
    ("since_news_20", "sessions since the last headline, at most 20, / 20; 0 if there is one in this session", ""),
    ("attention_decay_5", "ln(1 + A), A(t) = n + k A(t-1), k = e^(-1/5)", "Da, Engelberg and Gao 2011"),
    ("novelty_20", "share of the session's words that no headline of the ticker held in the 20 sessions before; 0 "
     "without a word", _TETLOCK),
    *((f"chance_{name}", f"mean chance of {name} by the scorer in use; 0 without a headline", "")
      for name in ("negative", "neutral", "positive")),
    *((f"{name}_share", f"share of the headlines that the scorer in use calls {name}; 0 without one", "Antweiler and "
       "Frank 2004") for name in ("negative", "positive")),
    ("tone_mean", "mean of tone = chance of positive - chance of negative; 0 without a headline", ""),
    ("tone_dispersion", "standard deviation of tone over the session's headlines, ddof 0; 0 with fewer than two",
     "Antweiler and Frank 2004"),
    ("tone_decay_5", "B / (1 + A), B(t) = sum of tone + k B(t-1): mean tone of recent headlines, drawn to 0 as they "
     "get old or are few", ""),
    ("polarity_mean", "mean of TextBlob's polarity; 0 without a headline", _SMEDT),
    ("subjectivity_mean", "mean of TextBlob's subjectivity; 0 without a headline", _SMEDT),
    ("polarity_decay_5", "P(t) = polarity_mean + k P(t-1)", _SMEDT),
    ("compound_mean", "mean of VADER's compound; 0 without a headline", _HUTTO),
    *((f"market_{name}", f"{of} of the news without a ticker, the same for every ticker", "")
      for name, of in (("count", "news_count"), ("tone", "tone_mean"), ("dispersion", "tone_dispersion"),
                       ("polarity", "polarity_mean"))),
)  # fmt: skip
"""Name, formula, source of each feature. All are known when the session decides, need no warm-up, are never NaN."""
NAMES: Final = tuple(name for name, _, _ in CATALOGUE)
SCORED: Final = (
    "chance_negative", "chance_neutral", "chance_positive", "negative_share", "positive_share",
    "tone_mean", "tone_dispersion", "tone_decay_5", "market_tone", "market_dispersion",
)  # fmt: skip
"""Those that are made of what the scorer in use says."""


class News(NamedTuple):
    """What the sentiment family needs.

    Attributes:
        rows: the `news` table (ticker, known_at, title, summary), any order.
        closes: (T,) the closes of the sessions, UTC, ascending.
        lead_minutes: how long before the close a decision is made.
        threshold: TextBlob's polarity beyond which a headline is positive or negative.
        scorer: what gives chances and classes: a trained classifier, "textblob" or "vader".
    """

    rows: pd.DataFrame
    closes: pd.DatetimeIndex
    lead_minutes: int
    threshold: float
    scorer: Scorer = "textblob"


def assign_sessions(known_at: pd.DatetimeIndex, closes: pd.DatetimeIndex, lead_minutes: int) -> Ints:
    """The position of the first session whose decision time is at or after each instant.

    Args:
        known_at: (n,) instants, UTC, in any order.
        closes: (T,) closes, UTC, ascending.
        lead_minutes: how long before the close a decision is made.

    Returns:
        (n,) positions into `closes`; T where the last session decides before the instant.
    """
    return np.searchsorted(_decisions(closes, lead_minutes), _instants(known_at), side="left").astype(np.int64)


def sentiment_features(news: News, tickers: Sequence[str], sessions: pd.DatetimeIndex) -> dict[str, Float32]:
    """What the news of each ticker says, per decision session: every name of NAMES -> (N, T) float32.

    The formulas are in CATALOGUE. All are known at the session's decision time, none is NaN. What looks back (A, B, P,
    the 20 sessions) begins with the calendar year before, and sees less in the first sessions. The market's news has
    the ticker '' or '*'. News of other tickers, and news known after the last decision, is left aside; the first
    session takes the news of the 24 hours before it decides.

    Args:
        news: headlines and the clock they are assigned by.
        tickers: N different tickers.
        sessions: T sessions, ascending, without zone: those of `news.closes`.

    Raises:
        ValueError: there are not as many closes as sessions, or an instant has no time zone.
    """
    if len(news.closes) != len(sessions):
        raise ValueError(f"{len(news.closes)} closes for {len(sessions)} sessions; give each session its close")
    years = pd.DatetimeIndex(sessions).year.to_numpy().astype(np.int64)
    row, t, texts = _used(news, tickers, years)  # market news is the row below the tickers'
    place, unique = pd.factorize(texts)
    scored = tones(unique.tolist(), news.scorer, news.threshold)
    cells = _Cells.of_headlines(row, t, (len(tickers) + 1, len(years)))
    count, tone = cells.dense(cells.count), scored.tone[place]
    polarity = cells.dense(cells.mean(scored.polarity[place]))
    attention, recent_tone, recent_polarity = decayed(
        np.stack([count, cells.dense(cells.total(tone)), polarity]), years, DECAY_SESSIONS
    )
    new, own = np.zeros(len(row)), row < len(tickers)
    new[own] = novelty(row[own], t[own], place[own], words_of(unique.tolist()), years, RECENT_SESSIONS)
    found = {
        "news_count": np.log1p(count),
        "no_news": (count == 0).astype(np.float64),
        "since_news_20": _since(count > 0, years, RECENT_SESSIONS),
        "attention_decay_5": np.log1p(attention),
        "novelty_20": cells.dense(cells.shared(new)),
        **{
            f"chance_{name}": cells.dense(cells.mean(scored.chances[place, i]))
            for i, name in enumerate(("negative", "neutral", "positive"))
        },
        "negative_share": cells.dense(cells.mean((scored.label == NEGATIVE)[place].astype(np.float64))),
        "positive_share": cells.dense(cells.mean((scored.label == POSITIVE)[place].astype(np.float64))),
        "tone_mean": cells.dense(cells.mean(tone)),
        "tone_dispersion": cells.dense(cells.deviation(tone)),
        "tone_decay_5": recent_tone / (1.0 + attention),
        "polarity_mean": polarity,
        "subjectivity_mean": cells.dense(cells.mean(scored.subjectivity[place])),
        "polarity_decay_5": recent_polarity,
        "compound_mean": cells.dense(cells.mean(scored.compound[place])),
    }
    market = {"count": "news_count", "tone": "tone_mean", "dispersion": "tone_dispersion", "polarity": "polarity_mean"}
    found |= {f"market_{name}": np.broadcast_to(found[of][-1], count.shape) for name, of in market.items()}
    return {name: found[name][:-1].astype(np.float32) for name in NAMES}


def decayed(values: Floats, years: Ints, sessions: int) -> Floats:
    """Each session's value plus what is left of the past: s(t) = v(t) + k s(t-1), k = e^(-1/sessions), (..., T).

    The past is that of this calendar year and of the one before: s(t) = e(t) + k^c e', where e starts from 0 with the
    year, c counts its sessions, and e' is the last e of the year before. What that leaves out weighs less than k^250.

    Args:
        values: (..., T) float64, no NaN.
        years: (T,) calendar year of each session, ascending.
        sessions: after how many sessions a value has fallen to 1/e.
    """
    keep = np.exp(-1.0 / sessions)
    out = np.empty(values.shape)
    before = state = np.zeros(values.shape[:-1])
    weight = 1.0
    for t, year in enumerate(years):
        if t and year != years[t - 1]:
            before = state if year == years[t - 1] + 1 else np.zeros_like(state)
            state, weight = np.zeros_like(state), 1.0
        state = values[..., t] + keep * state
        weight *= keep
        out[..., t] = state + weight * before
    return out


@dataclass(frozen=True)
class _Cells:
    """Sums over the headlines of each (row, session) that has one.

    Attributes:
        shape: rows, sessions. at: (C,) the cells, flat, ascending. of: (n,) the cell of each headline.
        count: (C,) headlines, float64.
    """

    shape: tuple[int, int]
    at: Ints
    of: Ints
    count: Floats

    @classmethod
    def of_headlines(cls, row: Ints, t: Ints, shape: tuple[int, int]) -> _Cells:
        at, of, count = np.unique(row * shape[1] + t, return_inverse=True, return_counts=True)
        return cls(shape, at, of, count.astype(np.float64))

    def total(self, values: Floats) -> Floats:
        """(C,) sums of (n,) multiples of 2^-32: exact."""
        return np.bincount(self.of, values, len(self.at)).astype(np.float64)

    def mean(self, values: Floats) -> Floats:
        return np.asarray(self.total(values) / self.count)

    def deviation(self, values: Floats) -> Floats:
        apart = values - self.mean(values)[self.of]
        return np.sqrt(self.mean(on_grid(apart * apart)))

    def shared(self, values: Floats) -> Floats:
        """(C,) of (n,) values that are the same for all headlines of a cell."""
        found = np.empty(len(self.at))
        found[self.of] = values
        return found

    def dense(self, values: Floats) -> Floats:
        """(rows, sessions), 0 where there is no headline."""
        out = np.zeros(self.shape)
        out.reshape(-1)[self.at] = values
        return out


def _used(news: News, tickers: Sequence[str], years: Ints) -> tuple[Ints, Ints, npt.NDArray[np.object_]]:
    """Row (N for market news), session and text of every headline that a session may use."""
    ticker = pd.Index(news.rows["ticker"])
    row = np.where(ticker.isin(MARKET), len(tickers), pd.Index(list(tickers), dtype="str").get_indexer(ticker))
    known_at = pd.DatetimeIndex(news.rows["known_at"])
    t = assign_sessions(known_at, news.closes, news.lead_minutes)
    used = (row >= 0) & (t < len(years))
    # Without a session in this year or the year before there is no telling since when news is this session's.
    alone = np.append(True, np.diff(years) > 1)[: len(years)]
    waited = _decisions(news.closes, news.lead_minutes)[t[used]] - _instants(known_at)[used]
    used[used] = ~alone[t[used]] | (waited < FIRST_HOURS)
    rows = news.rows[used]
    texts = (rows["title"].str.strip() + " " + rows["summary"].str.strip()).str.strip()
    return row[used].astype(np.int64), t[used], texts.to_numpy(dtype=object)


def _since(there: npt.NDArray[np.bool_], years: Ints, most: int) -> Floats:
    """Sessions since the last one with a headline in this calendar year or the one before, at most `most`, / most."""
    t = np.arange(len(years))
    last = np.maximum.accumulate(np.where(there, t, -1), axis=-1)
    near = (last >= 0) & (years - years[last] <= 1)
    return np.asarray(np.where(near, np.minimum(t - last, most), most) / most)


def _decisions(closes: pd.DatetimeIndex, lead_minutes: int) -> Instants:
    """(T,) datetime64[us], UTC without the zone."""
    return np.asarray(_instants(closes) - np.timedelta64(lead_minutes, "m"))


def _instants(index: pd.DatetimeIndex) -> Instants:
    """(n,) datetime64[us], UTC without the zone."""
    aware = pd.DatetimeIndex(index)
    if aware.tz is None:
        raise ValueError("instants need a time zone, like 2013-03-01T21:00Z")
    return aware.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
