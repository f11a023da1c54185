"""The rows of `features` and `targets` from one calendar year on, computed from what they depend on alone.

Features of a year are a function of its bars and headlines and of those of the two years before (features/bars.py);
labels of the year before reach into it. So the year y needs the lake from January 1 of y - 3 on, and gets the same
bits from there as from the whole history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from features import actions, frames, members, table
from features.bars import Bars
from features.classifier import Classifier
from features.news import SCORED
from features.own import UserFamily
from features.panel import Panel, rows_of
from features.table import FEATURES, SENTIMENT
from features.targets import label_rows, targets
from features.tone import Scorer
from pipeline import universe
from pipeline.config import Config
from pipeline.labelled import scorer_bytes, scorer_in_use
from pipeline.own_features import own_families, own_files
from pipeline.store import Lake

COLUMNS = ("ticker", "session", *frames.PRICE_FIGURES)
"""The columns of `prices` that features and labels are computed from."""
YEARS_BEHIND = 3
"""How many calendar years before the first wanted one are read: labels of the year before need its volatility."""


class Makers(NamedTuple):
    """What makes features of rows, beside the code shipped: own families and the scorer of headlines."""

    own: Sequence[tuple[str, UserFamily]]
    scorer: Scorer

    @classmethod
    def of(cls, config: Config) -> tuple[Makers, tuple[bytes, ...]]:
        """Those of the configuration, and bytes that are the same for the same ones only.

        Raises:
            UsageError: an own family cannot be found.
            DataError: the text classifier cannot be used.
        """
        wanted = set(config.features.chosen) or {n for family in config.features.families for n in FEATURES[family]}
        scorer = scorer_in_use(config) if wanted & set(FEATURES[SENTIMENT]) else "textblob"
        files = tuple(path.read_bytes() for path in own_files(config))
        return cls(own_families(config), scorer), (scorer_bytes(scorer), *files)


class Sources(NamedTuple):
    """What rows are computed from.

    rows: of `prices`, of the tickers wanted, by ticker and session. adjusted: of these rows. headlines: the news.
    spells: of membership, None without. begins: ticker -> its first session in the lake. makers: what else makes them.
    """

    rows: pd.DataFrame
    adjusted: actions.Adjusted
    headlines: pd.DataFrame
    spells: pd.DataFrame | None
    begins: pd.Series
    makers: Makers


def read(
    config: Config,
    lake: Lake,
    held: pd.DataFrame,
    spells: pd.DataFrame | None,
    makers: Makers,
    first: int | None,
) -> Sources:
    """What the rows from year `first` on are computed from; None = of all years.

    Args:
        held: ticker and first (session) of the tickers wanted.
    """
    year = None if first is None else first - YEARS_BEHIND
    rows = lake.prices(where="TRUE" if year is None else f"year >= {year}", wanted=COLUMNS)
    rows = rows[rows["ticker"].isin(list(held["ticker"]))].reset_index(drop=True)
    headlines = lake.news() if year is None else lake.news(where=f"known_at >= TIMESTAMP '{year}-01-01T00:00:00Z'")
    return Sources(rows, actions.adjust(rows), headlines, spells, held.set_index("ticker")["first"], makers)


def compute(config: Config, sources: Sources, first: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `features` from year `first` on, and of `targets` from the year before it on, sorted."""
    groups = universe.groups(config.universe, sorted(sources.rows["ticker"].unique()))
    parts = [_group(config, name, tickers, sources, first) for name, tickers in groups.items()]
    feature_rows, target_rows = (pd.concat(found, ignore_index=True) for found in zip(*parts, strict=True))
    if len(parts) > 1:
        feature_rows = feature_rows.sort_values(["ticker", "session"], ignore_index=True)
        target_rows = target_rows.sort_values(["ticker", "session", "horizon"], ignore_index=True)
    return feature_rows, target_rows


def _group(
    config: Config, calendar: str, tickers: list[str], sources: Sources, first: int | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the tickers on one calendar."""
    rows = sources.rows[sources.rows["ticker"].isin(tickers)]
    sessions, closes = universe.axis(calendar, _dates(calendar, rows, sources, first))
    bars = Bars.from_rows(rows, sessions, sources.adjusted)
    if sources.spells is not None:
        bars = replace(bars, members=members.mask(sources.spells, bars.tickers.tolist(), sessions).T)
    lead, threshold = config.universe.decision_lead_minutes, config.sentiment.threshold
    news = table.News(sources.headlines, closes, lead, threshold, sources.makers.scorer)
    panel = table.build(bars, news, config.features.families, sources.makers.own, config.features.chosen, first)
    _forget(panel, sources.makers.scorer)
    labels = targets(bars, config.target.horizons, config.target.interval)
    since = len(bars.sessions) - len(panel.sessions)
    vol = np.full(bars.inside.shape, np.nan, dtype=np.float32)
    vol[:, since:] = panel.vol
    if first is not None:
        before = bars.span(first - 1)
        wanted = before.now(before.years[None])[0] == first - 1
        vol[:, since - wanted.sum() : since] = before.scale[:, wanted]
    vol[~bars.inside] = np.nan
    return rows_of(panel, bars.inside[:, since:]), label_rows(labels, bars, vol, config.target.horizons)


def _forget(panel: Panel, scorer: Scorer) -> None:
    """Leave missing what a scorer says of sessions whose outcomes it may have been trained on."""
    until = scorer.known_until if isinstance(scorer, Classifier) else ""
    if until:
        learned = panel.sessions <= np.datetime64(until)
        columns = [i for i, name in enumerate(panel.feature_names) if name in SCORED]
        panel.x[:, learned[:, None] & np.isin(np.arange(panel.x.shape[-1]), columns)] = np.nan


def _dates(calendar: str, rows: pd.DataFrame, sources: Sources, first: int | None) -> pd.Series:
    """Dates between which the sessions lie: those of the rows, and of what was cut off in front.

    Sessions on which none of the group traded are sessions all the same: the whole history has them.
    """
    tickers = rows["ticker"].unique()
    if first is None or calendar == "none":
        return rows["session"]
    cut = pd.Timestamp(first - YEARS_BEHIND, 1, 1)
    start = max(cut, sources.begins.reindex(tickers).min())
    return pd.concat([rows["session"], pd.Series([start]).astype(rows["session"].dtype)], ignore_index=True)
