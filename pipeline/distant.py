"""Labels from moves instead of from people: a headline is what the price did after it (distant supervision).

A headline of a ticker belongs to the session that may use it first, and is labelled by the sign of that session's z
over the shortest horizon: positive above NEUTRAL_BAND, negative below its negative, else neutral. Only outcomes whose
whole target interval ended by a date are used, so that nothing after it can change a label. A classifier trained so
has seen the outcomes of its texts' sessions: it carries the date, and its features of sessions up to it are missing
(pipeline/feature_years.py), in training and everywhere else.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Final

import numpy as np
import pandas as pd

from features.news import assign_sessions
from pipeline import universe
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.labelled import Labelled
from pipeline.store import Lake

NEUTRAL_BAND: Final = 0.5
"""In units of volatility; some two fifths of all moves are smaller."""


def from_moves(config: Config, lake: Lake, until: dt.date) -> Labelled:
    """The lake's headlines of tickers, labelled by what followed.

    Headlines of one session are one group: what they share is one move of the market.

    Args:
        config: calendars, lead, horizons, interval of the target.
        lake: with headlines, prices and targets.
        until: last date on which a target interval may end.

    Raises:
        StoreError: there are no targets yet.
        DataError: no headline has an outcome that was known by then.
    """
    horizon = min(config.target.horizons)
    outcomes = lake.read("targets", f"horizon = {horizon}")[["ticker", "session", "z"]]
    news, dates = lake.news(), lake.prices()[["ticker", "session"]]
    tickers = sorted(outcomes["ticker"].unique())
    found = [
        _placed(config, name, some, news, dates, until)
        for name, some in universe.groups(config.universe, tickers).items()
    ]
    rows = pd.concat(found, ignore_index=True).merge(outcomes, on=["ticker", "session"])
    if rows.empty:
        raise DataError(
            f"no headline has an outcome over {horizon} sessions that was known by {until}; take a later --until, or "
            "ingest headlines of those years"
        )
    rows = rows.sort_values(["session", "ticker", "text"], ignore_index=True)
    z = rows["z"].to_numpy()
    labels = np.select([z > NEUTRAL_BAND, z < -NEUTRAL_BAND], ["positive", "negative"], "neutral")
    told = "\n".join(map("\t".join, zip(rows["text"], labels, strict=True)))
    sessions = rows["session"].dt.strftime("%Y-%m-%d").tolist()
    digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
    return Labelled(f"moves until {until}", rows["text"].tolist(), labels.tolist(), sessions, (), digest)


def _placed(
    config: Config, calendar: str, tickers: list[str], news: pd.DataFrame, dates: pd.DataFrame, until: dt.date
) -> pd.DataFrame:
    """ticker, session and text of the headlines of these tickers whose outcome was known by `until`."""
    sessions, closes = universe.axis(calendar, dates.loc[dates["ticker"].isin(tickers), "session"])
    steps = min(config.target.horizons) + (config.target.interval == "open_to_open")
    known = int(np.searchsorted(sessions, np.datetime64(until), side="right")) - steps
    own = news[news["ticker"].isin(tickers)]
    at = assign_sessions(pd.DatetimeIndex(own["known_at"]), closes, config.universe.decision_lead_minutes)
    kept = at < max(known, 0)
    text = (own["title"].str.strip() + " " + own["summary"].str.strip()).str.strip()
    rows = pd.DataFrame({"ticker": own["ticker"], "text": text})[kept]
    return rows.assign(session=sessions[at[kept]].astype("datetime64[us]"))
