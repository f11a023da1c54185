"""audit: does anything look ahead? Alter what came after random instants, and compare bytes before them.

Behind `tradewind audit lookahead | canaries`. Features are cheap and get many cuts, each with nine other futures;
labels get a cut at the first use of every fitting slice; the race is fitted anew for every other future, so it gets
two test years, two cuts in each, and one future in which prices and news differ at once. The planted leaks
(pipeline/canaries.py) run beside, on the same rows: an audit that lets one pass says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from features.alterations import ALTERATIONS, EVERYTHING, World
from features.audit import AuditError, Instants, Verdict, audit, cuts
from features.own import FeatureError
from features.splits import Fold
from pipeline import audited, audited_race, canaries, universe, walkforward
from pipeline.audit_text import Planted, failures, figures, planted_figures, planted_table, table
from pipeline.config import Config
from pipeline.errors import DataError, TooLittleHistoryError
from pipeline.feature_years import Makers
from pipeline.own_features import load_function
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

CUTS, QUICK_CUTS, PLANTED_CUTS = 5, 2, 1
RACE_YEARS = 2
MOST_NAMED = 3
OF_LABELS = tuple(each for each in ALTERATIONS if each.of == "prices" and each.name in ("perturbed", "thinned"))


class Rows(NamedTuple):
    """What is audited: the rows of the lake that featurize would take, and the spells of membership, if any."""

    world: World
    spells: pd.DataFrame | None


def run_lookahead(
    config: Config,
    module: str | None = None,
    number: int | None = None,
    seed: int = 0,
    quick: bool = False,
    progress: Progress = silent,
) -> Summary:
    """Audit features, labels, the scaler and every forecaster of the race, and find the planted leaks.

    Args:
        config: everything, own features too.
        module: FILE.py:FUNCTION of a user's features, from the working directory: only these are audited.
        number: of cuts for features; None = 5, or 2 if quick.
        seed: of the cuts, the years of the race and the alterations.
        quick: features and planted leaks only.
        progress: called as work goes on.

    Returns:
        A summary whose figures say `passed`, and `failures` by name; `left_out` names what has too little history.

    Raises:
        UsageError: an own function is not there.
        DataError: one fails or returns something else, or the rows cannot be audited.
        StoreError: nothing has been ingested.
    """
    if module is None:
        makers, _ = Makers.of(config)
    else:
        makers = Makers(((module, load_function(module, Path())),), "textblob")
    rows = _rows(config)
    number = number or (QUICK_CUTS if quick else CUTS)
    try:
        found = _features(config, rows, makers, module is not None, number, seed, progress)
        planted = [] if module else _planted(config, rows.world, seed, progress)
        left_out = []
        if not module and not quick:
            try:
                found += _race(config, rows, makers, seed, progress)
            except TooLittleHistoryError as error:
                left_out.append(
                    f"labels, scaler and forecasters: {error}; ingest more or lower splits.min_train_sessions"
                )
    except (AuditError, FeatureError) as error:
        raise DataError(str(error)) from error
    about = {"seed": seed, "cuts": number, "module": module, "quick": quick}
    return _summary("audit lookahead", config, rows, found, planted, about, left_out)


def run_canaries(config: Config, number: int = PLANTED_CUTS, seed: int = 0, progress: Progress = silent) -> Summary:
    """Only find the planted leaks.

    Args:
        config: calendars and the lake.
        number: of cuts for each.
        seed: of the cuts and the alterations.
        progress: called as work goes on.

    Raises:
        DataError: the rows cannot be audited.
        StoreError: nothing has been ingested.
    """
    rows = _rows(config)
    try:
        planted = _planted(config, rows.world, seed, progress, number)
    except AuditError as error:
        raise DataError(str(error)) from error
    return _summary("audit canaries", config, rows, [], planted, {"seed": seed, "cuts": number}, [])


def _rows(config: Config) -> Rows:
    """The tickers that featurize takes: with enough sessions, and a member at some time."""
    lake, spells = Lake.of(config.data), universe.members(config)
    prices = lake.prices()
    counts = prices["ticker"].value_counts()
    taken = counts.index[counts >= config.universe.min_sessions]
    if spells is not None:
        taken = taken.intersection(pd.Index(spells["ticker"]))
    if taken.empty:
        raise TooLittleHistoryError(
            f"no ticker to audit: of {len(counts)} in the lake the longest has {counts.max()} sessions, and "
            f"universe.min_sessions is {config.universe.min_sessions}"
            + ("" if spells is None else f"; or none of them is in {config.universe.members}")
        )
    prices = prices[prices["ticker"].isin(list(taken))].reset_index(drop=True)
    return Rows(World(prices, lake.news()), spells)


def _features(
    config: Config, rows: Rows, makers: Makers, only_own: bool, number: int, seed: int, progress: Progress
) -> list[Verdict]:
    views = audited.views(config, rows.spells, rows.world)
    used_at = np.unique(np.concatenate([view.used_at for view in views]))
    subject = audited.features(config, rows.spells, makers, only_own)
    told = partial(progress, "auditing features")
    return list(audit(subject, rows.world, cuts(used_at, number, seed), seed=seed, progress=told).values())


def _race(config: Config, rows: Rows, makers: Makers, seed: int, progress: Progress) -> list[Verdict]:
    """Labels, scaler and forecasters.

    Raises:
        TooLittleHistoryError: no test year.
    """
    world, spells = rows
    data = audited_race.dataset(config, spells, world, makers)
    fitted_on = audited_race.slices(config, data)
    at = sorted({pd.Timestamp(each.used_at, tz="UTC") for each in fitted_on})
    subject = audited_race.labels(config, spells, fitted_on)
    found = audit(subject, world, at, OF_LABELS, seed, partial(progress, "auditing labels"))
    folds = _years(walkforward.folds(data, config), seed)
    used_at = audited_race.used_at_of(config, data)
    race = audited_race.race(config, spells, makers, [fold.name for fold in folds])
    at = _race_cuts(folds, used_at, seed)
    found |= audit(race, world, at, (EVERYTHING,), seed, partial(progress, "auditing the race"))
    return list(found.values())


def _years(folds: Sequence[Fold], seed: int) -> list[Fold]:
    """One test year out of each half."""
    generator = np.random.default_rng((seed, len(folds)))
    parts = [part for part in np.array_split(np.arange(len(folds)), RACE_YEARS) if len(part)]
    return [folds[int(generator.choice(part))] for part in parts]


def _race_cuts(folds: Sequence[Fold], used_at: Instants, seed: int) -> list[pd.Timestamp]:
    """Of each test year the first decision, which a label that reaches too far would touch, and one at random."""
    generator = np.random.default_rng((seed, len(used_at)))
    at = [t for fold in folds for t in (fold.test_start, int(generator.integers(fold.test_start, fold.test_end)))]
    return sorted({pd.Timestamp(np.fmin.reduce(used_at[t]), tz="UTC") for t in at})


def _planted(config: Config, world: World, seed: int, progress: Progress, number: int = PLANTED_CUTS) -> list[Planted]:
    every = canaries.CANARIES

    def told(i: int) -> Callable[[int, int], None]:
        return lambda done, total: progress("finding planted leaks", i * total + done, len(every) * total)

    return [Planted(each, canaries.judge(config, world, each, number, seed, told(i))) for i, each in enumerate(every)]


def _summary(
    stage: str,
    config: Config,
    rows: Rows,
    found: Sequence[Verdict],
    planted: Sequence[Planted],
    about: dict[str, Any],
    left_out: Sequence[str],
) -> Summary:
    prices, news = rows.world
    first, last = (f"{day:%Y-%m-%d}" for day in (prices["session"].min(), prices["session"].max()))
    lines = [
        f"{prices['ticker'].nunique():,} tickers, {first} to {last}, {len(prices):,} bars, {len(news):,} headlines; "
        f"{about['cuts']} {'cut' if about['cuts'] == 1 else 'cuts'}, seed {about['seed']}",
        "",
    ]
    failed = failures(found, planted)
    lines += [*table(found), ""] if found else []
    lines += [*planted_table(planted), ""] if planted else []
    late = _late_bars(config, rows) if failed else []
    lines += late
    lines += ["left out by --quick: labels, the scaler and the forecasters"] if about.get("quick") else []
    lines.append(_closing(failed, len(found)))
    told = {
        **about,
        "passed": not failed,
        "failures": failed,
        "first": first,
        "last": last,
        "tickers": sorted(str(ticker) for ticker in prices["ticker"].unique()),
        "outputs": [figures(verdict) for verdict in found],
        "planted": [row for each in planted for row in planted_figures(each)],
        "notes": late,
    }
    return Summary(stage, tuple(lines), told, tuple(left_out))


def _closing(failed: Sequence[str], outputs: int) -> str:
    if failed:
        return f"FAILED: {'; '.join(failed[:MOST_NAMED])}" + ("; ..." if len(failed) > MOST_NAMED else "")
    return f"passed: {outputs:,} outputs, none looks ahead" if outputs else "passed: every planted leak was found"


def _late_bars(config: Config, rows: Rows) -> list[str]:
    """Bars known only after the decision of their own session: then every feature of prices looks ahead."""
    lines = []
    for view in audited.views(config, rows.spells, rows.world):
        at = pd.Series(pd.DatetimeIndex(view.used_at).tz_localize("UTC"), index=pd.DatetimeIndex(view.bars.sessions))
        decided = at.reindex(pd.DatetimeIndex(view.prices["session"])).to_numpy()
        late = np.asarray(view.prices["known_at"].to_numpy() > decided)
        if late.any():
            bar = view.prices[late].iloc[0]
            lines.append(
                f"note: {int(late.sum()):,} of {len(late):,} bars on {view.calendar} are known only after the decision "
                f"of their own session, first {bar['ticker']} {bar['session']:%Y-%m-%d} (known "
                f"{bar['known_at']:%H:%M}Z, decided {decided[late][0]:%H:%M}Z): what reads the session's own bar looks "
                f"ahead; universe.decision_lead_minutes is {config.universe.decision_lead_minutes}"
            )
    return lines
