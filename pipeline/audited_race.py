"""What the look-ahead audit is run on, second part: the labels, the scaler and the forecasters of the race.

They go the way they go in training: tables of a lake, `pipeline.walkforward`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from features import splits, table
from features.actions import adjust
from features.alterations import World
from features.audit import Cells, Instants, Subject
from features.panel import align, load
from pipeline import feature_years, lift, racing, universe, walkforward
from pipeline.audited import decisions
from pipeline.config import Config
from pipeline.feature_years import Makers, Sources
from pipeline.store import Lake
from pipeline.walkforward import Dataset

SCALER, FORECASTER = "scaler", "forecaster"


def dataset(config: Config, spells: pd.DataFrame | None, world: World, makers: Makers) -> Dataset:
    """Features and labels as training reads them: written to the tables of a lake of its own and read from there.

    Args:
        config: everything.
        spells: of `pipeline.universe.members`; None = all tickers, always.
        world: the tables.
        makers: own families and the scorer of headlines.
    """
    feature_rows, target_rows = _tables(config, spells, world, makers)
    with tempfile.TemporaryDirectory(prefix="tradewind-audit-") as place:
        lake = Lake(place)
        lake.replace("features", feature_rows)
        lake.replace("targets", target_rows)
        return walkforward.read(lake, config)


def used_at_of(config: Config, data: Dataset) -> Instants:
    """(T, N) when each ticker decides on each date of the panel; NaT where the date is no session of its own."""
    panel = data.panel
    days = pd.DatetimeIndex(panel.sessions)
    out = np.full((len(days), len(panel.tickers)), np.datetime64("NaT"), dtype="datetime64[us]")
    names = pd.Index(panel.tickers)
    lead = config.universe.decision_lead_minutes
    for name, some in universe.groups(config.universe, panel.tickers.tolist()).items():
        sessions, closes = universe.axis(name, pd.Series(days))
        own = pd.Series(decisions(closes, lead), index=sessions).reindex(days).to_numpy().astype("datetime64[us]")
        out[:, names.get_indexer(pd.Index(some))] = own[:, None]
    return out


class Slice(NamedTuple):
    """Labels that are fitted on: those of the sessions before `end`, first used at the instant `used_at` (UTC)."""

    name: str
    end: np.datetime64
    used_at: np.datetime64


def slices(config: Config, data: Dataset) -> list[Slice]:
    """Every fitting slice, with the first decision of the slice that follows it: of validation, where choices are
    made, and of the test.

    Raises:
        TooLittleHistoryError: too few sessions for one.
    """
    used_at, sessions = used_at_of(config, data), data.panel.sessions
    found = []
    for fold in walkforward.folds(data, config):
        uses = {"validation": (fold.fit_end, fold.validation_start), "test": (fold.train_end, fold.test_start)}
        for use, (end, start) in uses.items():
            found.append(Slice(f"before {use} {fold.name}", sessions[end], np.fmin.reduce(used_at[start])))
    return found


def labels(config: Config, spells: pd.DataFrame | None, fitted_on: Sequence[Slice]) -> Subject:
    """The labels of fitting slices, by horizon. They need no feature but `vol`."""
    bare = config.model_copy(update={"features": config.features.model_copy(update={"chosen": (table.OBSERVED,)})})
    horizons = config.target.horizons

    def subject(world: World) -> dict[str, Cells]:
        feature_rows, target_rows = _tables(bare, spells, world, Makers((), "textblob"))
        panel = load(feature_rows)
        z, found = align(panel, target_rows, "z", horizons), {}
        for each in fitted_on:
            end = int(np.searchsorted(panel.sessions, each.end))
            when = np.full(end, each.used_at)
            for h, horizon in enumerate(horizons):
                name = f"labels {each.name}, h={horizon}"
                found[name] = Cells(panel.sessions[:end], panel.tickers, when, z[:, :end, h].T)
        return found

    return subject


def race(config: Config, spells: pd.DataFrame | None, makers: Makers, years: Sequence[str]) -> Subject:
    """The scaled features and the forecasts of every model of the race.

    Args:
        config: everything.
        spells: of `pipeline.universe.members`; None = all tickers, always.
        makers: own families and the scorer of headlines.
        years: the folds that are fitted and forecast, by name.
    """

    def subject(world: World) -> dict[str, Cells]:
        data = dataset(config, spells, world, makers)
        folds = [fold for fold in walkforward.folds(data, config) if fold.name in years]
        used_at = used_at_of(config, data)
        torch.set_num_threads(config.models.threads)
        with threadpool_limits(config.models.threads):
            raced = racing.race(data, folds, config, muted=_muted(config, data, folds))
            found = _scaled(data, raced.students, used_at)
            for model, forecast in raced.forecasts.items():
                for part, values in forecast._asdict().items():
                    found[f"{FORECASTER} {model}: {part}"] = _cells(data, used_at, values)
        return found

    return subject


def _muted(config: Config, data: Dataset, folds: list[splits.Fold]) -> dict[str, tuple[int, ...]]:
    """The features that each fold may not use, where text has to earn its place: that is decided from all folds."""
    if not config.sentiment.require_lift or not lift.text_columns(data.panel):
        return {}
    losses = lift.measured(data, walkforward.folds(data, config), walkforward.student_config(config))
    return lift.muted(data, lift.decide(data, folds, losses, walkforward.resampling(config)))


def _scaled(data: Dataset, fitted: Sequence[walkforward.FittedFold], used_at: Instants) -> dict[str, Cells]:
    scaled = np.full(data.panel.x.shape, np.nan, dtype=np.float32)
    for each in fitted:
        test = slice(each.fold.test_start, each.fold.test_end)
        scaled[:, test] = each.scaler.transform(data.panel.x[:, test])
    scaled[np.isnan(data.panel.vol)] = np.nan  # not observed: scaled to 0, and never read
    return {f"{SCALER}: {n}": _cells(data, used_at, scaled[..., i]) for i, n in enumerate(data.panel.feature_names)}


def _cells(data: Dataset, used_at: Instants, values: npt.NDArray[Any]) -> Cells:
    """(N, T, ...) values of the panel."""
    return Cells(data.panel.sessions, data.panel.tickers, used_at, np.swapaxes(values, 0, 1))


def _tables(
    config: Config, spells: pd.DataFrame | None, world: World, makers: Makers
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `features` and of `targets`, as featurize computes them."""
    prices, news = world
    begins = prices.groupby("ticker")["session"].min()
    return feature_years.compute(config, Sources(prices, adjust(prices), news, spells, begins, makers), None)
