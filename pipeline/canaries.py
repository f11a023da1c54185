"""The eight planted leaks: each the shortest implementation of a mistake that people make.

An audit that lets one of them pass is worth nothing; so they are kept as tests, and run beside every audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from features import calendars
from features.alterations import World
from features.audit import Cells, Verdict, audit, cuts
from features.news import assign_sessions
from models.scaling import Scaler
from pipeline.audited import View, cells_of, views
from pipeline.config import Config

LEAD_MINUTES = 15


@dataclass(frozen=True)
class Canary:
    """One planted leak.

    Attributes:
        leak: what the mistake is called.
        make: the outputs, as (sessions, tickers) frames.
        lead_minutes: how long before the close the decision is made; None = as configured.
    """

    leak: str
    make: Callable[[View], dict[str, pd.DataFrame]]
    lead_minutes: int | None = None


def same_session_market(view: View) -> dict[str, pd.DataFrame]:
    """Today's market return, which is known at the close, for a decision a quarter of an hour before it."""
    returns = view.wide.returns
    return {"market_return": returns.mul(0.0).add(returns.mean(axis=1), axis=0)}


def centred_window(view: View) -> dict[str, pd.DataFrame]:
    """A smoothed return whose window reaches two sessions ahead."""
    return {"centred_5": view.wide.returns.rolling(5, center=True).mean()}


def back_fill(view: View) -> dict[str, pd.DataFrame]:
    """Missing values filled with the next known one."""
    return {"filled_60": view.wide.returns.rolling(60).mean().bfill()}


def full_sample_scaler(view: View) -> dict[str, pd.DataFrame]:
    """A causal feature, scaled by the median and the spread of the whole history."""
    week = view.wide.returns.rolling(5).sum()
    x = week.to_numpy(dtype=np.float32)[..., None]  # (T, N, 1)
    scaled = Scaler.fit(x.reshape(-1, 1)).transform(x)
    return {"scaled_ret_5": week.mul(0.0).add(scaled[..., 0])}


def random_split(view: View) -> dict[str, pd.DataFrame]:
    """A fifth of the sessions, drawn at random, forecast from the others: from those after them too."""
    returns = view.wide.returns
    is_test = np.random.default_rng(0).random(len(returns)) < 0.2
    return {"sigma_of_random_split": returns[is_test].mul(0.0).add(returns[~is_test].std())}


def same_day_tweets(view: View) -> dict[str, pd.DataFrame]:
    """Tweets counted by the day on which they were written, those of the evening too."""
    day = view.news["known_at"].dt.tz_convert(calendars.zone(view.calendar)).dt.normalize().dt.tz_localize(None)
    return {"tweets": _counts(day, view)}


def date_only_news(view: View) -> dict[str, pd.DataFrame]:
    """News stamped by date: midnight, when nobody had read it, and so before the day's decision."""
    midnight = pd.DatetimeIndex(view.news["known_at"].dt.normalize())
    t = assign_sessions(midnight, view.closes, 0)
    days = np.append(view.wide.close.index.to_numpy(), np.datetime64("NaT"))[np.minimum(t, len(view.closes))]
    return {"news_by_date": _counts(pd.Series(days, index=view.news.index), view)}


def level_of_adjusted(view: View) -> dict[str, pd.DataFrame]:
    """The level of the adjusted close as downloaded today, with every later dividend already taken off."""
    level = view.prices.pivot(index="session", columns="ticker", values="adj_close")
    return {"log_adj_close": level.map(np.log)}


CANARIES = (
    Canary("same-session market return", same_session_market, LEAD_MINUTES),
    Canary("centred window", centred_window),
    Canary("back-fill", back_fill),
    Canary("full-sample scaler", full_sample_scaler),
    Canary("random split", random_split),
    Canary("same-day tweets", same_day_tweets),
    Canary("news stamped by date only", date_only_news),
    Canary("adjusted close re-based later", level_of_adjusted),
)


def judge(
    config: Config,
    world: World,
    canary: Canary,
    number: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Verdict]:
    """What the audit says of a planted leak, on the first calendar that has tickers: it must be a leak.

    Args:
        config: calendars.
        world: the tables as they are.
        canary: the leak.
        number: of cuts.
        seed: of the cuts and the alterations.
        progress: called with (runs done, runs in all).

    Raises:
        AuditError: too few sessions to cut.
    """
    universe = config.universe
    if canary.lead_minutes is not None:
        universe = universe.model_copy(update={"decision_lead_minutes": canary.lead_minutes})
    settings = config.model_copy(update={"universe": universe})

    def subject(tables: World) -> dict[str, Cells]:
        view = next(views(settings, None, tables))
        return {name: cells_of(name, frame, view) for name, frame in canary.make(view).items()}

    at = cuts(next(views(settings, None, world)).used_at, number, seed)
    return audit(subject, world, at, seed=seed, progress=progress)


def _counts(day: pd.Series, view: View) -> pd.DataFrame:
    """Headlines by session and ticker, where there is a bar."""
    close = view.wide.close
    found = view.news.assign(day=day).groupby(["day", "ticker"]).size().unstack()
    return found.reindex(index=close.index, columns=close.columns).fillna(0.0).where(close.notna())
