"""tune: search the settings of one model on what lies before the first test slice of the race, and nothing later.

    [0, end of training of the first fold)    all that a search reads; labels that reach over its end are not known
    three inner folds in its last third       each purged and embargoed: fit, choose on validation, judge on a block

A setting is judged by its pinball loss relative to trailing EWMA on the same blocks, horizons counted alike. Every
trial goes to the ledger, pruned, failed and killed ones too.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
import torch
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

import features
import models
from features import splits
from features.splits import Fold
from models.decode import QUANTILES, Forecast
from pipeline import contenders, lift, search_space, study, walkforward
from pipeline.config import Config
from pipeline.errors import DataError, TooLittleHistoryError
from pipeline.evidence import ledger, metrics
from pipeline.evidence.ledger import Trial
from pipeline.store import Lake
from pipeline.study import Study
from pipeline.summary import Progress, Summary, silent
from pipeline.walkforward import Dataset

MEASURE = "inner_pinball_gain_percent"
LEVELS = (0.10, 0.50, 0.90)
BLOCKS = 3
FEWEST_TO_FIT = 200
"""Sessions of the first inner fit slice: with fewer, networks and trailing EWMA are still warming up."""
FEWEST_FOR_IMPORTANCE = 10
SHOWN = 5


def run(config: Config, model: str, trials: int, timeout: float | None = None, progress: Progress = silent) -> Summary:
    """Search until the study of this model, data and code holds so many trials; one that was stopped goes on.

    Args:
        config: the configuration; its own settings of the model are the first trial.
        model: a key of `search_space.SPACES`.
        trials: how many in all, over every call on the same data.
        timeout: seconds after which no further trial begins; None = no limit.
        progress: called as work goes on.

    Raises:
        UsageError: the model has nothing to tune.
        TooLittleHistoryError: too few sessions before the first test slice for inner folds.
        DataError: every trial failed.
        StoreError: there are no features yet.
        TradewindError: another process is at the same study.
    """
    torch.set_num_threads(config.models.threads)
    with threadpool_limits(config.models.threads):
        lake = Lake.of(config.data)
        search = Search.of(walkforward.read(lake, config), config, model)
        tables = walkforward.table_versions(lake)
        deadline = None if timeout is None else time.monotonic() + timeout
        with study.opened(Path(config.data.artifacts) / "tune", search.name, config.models.seed) as held:
            ledger.append(lake, [_entry(search, held, each, tables) for each in held.ended])
            while held.position < trials and (deadline is None or time.monotonic() < deadline):
                ended = _one(search, held, trials, progress)
                ledger.append(lake, [_entry(search, held, ended, tables)])
            return _summary(search, held, trials, ledger.count(lake).trials)


@dataclass(frozen=True)
class Search:
    """One model's search on one training slice.

    data: nothing at or after the end of that slice. folds: the inner ones. ewma: its forecast on their tests.
    muted: positions of features the model may not use.
    """

    config: Config
    model: str
    data: Dataset
    folds: tuple[Fold, ...]
    ewma: Forecast
    space: search_space.Space
    muted: tuple[int, ...]

    @classmethod
    def of(cls, data: Dataset, config: Config, model: str) -> Search:
        """The search inside the training slice of the race's first fold.

        Raises:
            UsageError: the model has nothing to tune.
            TooLittleHistoryError: too few sessions for the race, or for inner folds.
        """
        space = search_space.of(config, model)
        end = walkforward.folds(data, config)[0].train_end
        known = before(data, end)
        folds = _inner_folds(end, known, config)
        # Text that has to earn its place has had no chance to before the first test slice.
        muted = lift.text_columns(data.panel) if config.sentiment.require_lift else ()
        return cls(config, model, known, folds, walkforward.forecast_ewma(known, list(folds))[0], space, muted)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything but the tuned settings that shapes a loss: JSON values."""
        fixed = self.config.model_dump(
            mode="json",
            include={
                "target": True,
                "models": {"seed", "threads", "seeds", "scale", self.model},
                "compress": {"body_features"},
            },
        )
        for key in self.space:
            del fixed["models"][self.model][key]
        return {
            "model": self.model,
            "space": {key: str(part) for key, part in self.space.items()},
            "settings": fixed,
            "folds": [[each.fit_end, each.validation_start, each.train_end, each.test_start] for each in self.folds],
            "muted": list(self.muted),
            "data": self.fingerprint,
            "code": code_digest(),
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of the data that a search may read."""
        return self.data.fingerprint()

    @property
    def name(self) -> str:
        """Of the study."""
        return f"{self.model}-{study.digest(self.identity)}"

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna drew, as keys and values of the model's section."""
        return search_space.decoded(self.space, drawn, self.config, self.model)

    def loss(self, settings: Mapping[str, Any], fold: Fold) -> list[float]:
        """Pinball loss on the fold's test block over that of trailing EWMA, by horizon.

        Raises:
            ValueError: the section does not take a value, or the fit or its forecasts fail.
            FloatingPointError: the loss of a fit is not finite.
            DataError: the training slice cannot support the model.
        """
        tried = search_space.applied(self.config, self.model, settings)
        own, reference = (_pinball(self.data, each, fold) for each in (_forecast(self, tried, fold), self.ewma))
        found = []
        for at, horizon in enumerate(self.data.horizons):
            common = np.isfinite(own[..., at]) & np.isfinite(reference[..., at])
            if not common.any():
                raise ValueError(f"no session has a forecast and a known outcome at horizon {horizon}")
            found.append(float(own[..., at][common].mean() / reference[..., at][common].mean()))
        return found


@cache
def code_digest() -> str:
    """Of every source file that shapes a loss; a change of the report or of a command is no other study."""
    digest = hashlib.sha256()
    shared = [Path(str(module.__file__)) for module in (contenders, metrics, search_space, walkforward)]
    folders = [Path(package.__path__[0]) for package in (features, models)]
    for path in [Path(__file__), *shared, *(path for root in folders for path in sorted(root.rglob("*.py")))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def before(data: Dataset, end: int) -> Dataset:
    """The data at the close of session `end` - 1: later sessions cut off, labels that were not known yet NaN."""
    panel = data.panel
    cut = replace(panel, sessions=panel.sessions[:end], x=panel.x[:, :end], vol=panel.vol[:, :end], r=panel.r[:, :end])
    known = np.arange(end)[:, None] + np.asarray(data.known_after) < end  # (T, H)

    def label(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(known, values[:, :end], np.nan)

    return replace(
        data,
        panel=cut,
        log_return=label(data.log_return),
        rv=label(data.rv),
        z=label(data.z),
        relative_variance=label(data.relative_variance),
    )


def _inner_folds(end: int, data: Dataset, config: Config) -> tuple[Fold, ...]:
    wanted = "; raise splits.min_train_sessions, set a later splits.first_test, or ingest more history"
    try:
        folds = splits.nested(end, BLOCKS, data.purge, config.splits.embargo)
    except ValueError as error:
        raise TooLittleHistoryError(f"{error}{wanted}") from None
    if folds[0].fit_end < FEWEST_TO_FIT:
        raise TooLittleHistoryError(
            f"the {end} sessions of training before the first test slice leave {folds[0].fit_end} to fit on in the "
            f"first of {BLOCKS} inner folds, and a search needs {FEWEST_TO_FIT}{wanted}"
        )
    return tuple(folds)


def _forecast(search: Search, config: Config, fold: Fold) -> Forecast:
    data, muted = search.data, {fold.name: search.muted}
    if search.model not in ("scale", "student"):
        return contenders.enter(data, [fold], config, [search.model], muted)[0][search.model]
    settings = walkforward.student_config(config)
    if search.model == "scale":
        settings = replace(settings, body_weights=(0.0,))
    fitted = walkforward.fit_folds(data, [fold], settings, muted=muted)
    return walkforward.forecast_folds(data, fitted, lambda student: student.network)


def _pinball(data: Dataset, forecast: Forecast, fold: Fold) -> npt.NDArray[np.float64]:
    """(N, test sessions, H): the primary measure of the race, over q10, q50, q90 in z units."""
    test = slice(fold.test_start, fold.test_end)
    unit = data.panel.vol[:, test, None] * np.sqrt(np.asarray(data.horizons))
    quantiles = forecast.quantiles[:, test][..., [QUANTILES.index(level) for level in LEVELS]]
    return np.asarray(metrics.pinball(data.log_return[:, test], quantiles, LEVELS) / unit)


def _one(search: Search, held: Study, trials: int, progress: Progress) -> FrozenTrial:
    """Draw one trial and judge it."""
    at = held.position

    def show(step: int) -> None:
        progress(f"tuning {search.model}", at * BLOCKS + step, trials * BLOCKS)

    present = search_space.encoded(search.space, search.config, search.model)
    trial = held.ask({key: part.distribution() for key, part in search.space.items()}, present)
    ended = _judged(search, held, trial, show)
    show(BLOCKS)
    return ended


def _judged(search: Search, held: Study, trial: optuna.Trial, show: Callable[[int], None]) -> FrozenTrial:
    """Fit fold by fold, until the last, a failure, or a mean loss that is not worth going on with."""
    known, losses = held.alike(trial), list[list[float]]()
    for step, fold in enumerate(search.folds):
        show(step)
        try:
            losses.append(known[step] if step < len(known) else search.loss(search.settings(trial.params), fold))
        except (ValueError, FloatingPointError, DataError) as error:
            return held.fail(trial, f"{fold.name}: {error}")
        trial.set_user_attr(study.LOSSES, losses)
        trial.report(float(np.mean(losses)), step)
        if step + 1 < BLOCKS and trial.should_prune():
            return held.prune(trial)
    return held.finish(trial, float(np.mean(losses)))


def _entry(search: Search, held: Study, trial: FrozenTrial, tables: Mapping[str, int]) -> Trial:
    """The trial for the ledger; the same trial again is the same entry."""
    losses = trial.user_attrs.get(study.LOSSES, [])
    settings = search.settings(trial.params) if set(trial.params) == set(search.space) else {}
    assert trial.datetime_start is not None
    return Trial(
        run_id=held.name,
        kind="tune",
        settings={"study": search.identity["settings"], "model": search.model, "settings": settings},
        data=search.fingerprint,
        data_versions=tables,
        seed=search.config.models.seed,
        measure=MEASURE,
        by_horizon=dict(zip(search.data.horizons, _gains(trial), strict=True)) if losses else {},
        verdict=_verdict(trial),
        started_at=pd.Timestamp(trial.datetime_start.astimezone()).tz_convert("UTC"),
        figures={"inner_folds": float(len(losses))},
        code=code_digest(),
    )


def _gains(trial: FrozenTrial) -> list[float]:
    """Percent of pinball saved over trailing EWMA, by horizon, over the folds it got to."""
    return [100 * (1 - loss) for loss in study.mean_losses(trial.user_attrs[study.LOSSES])]


def _verdict(trial: FrozenTrial) -> str:
    folds = len(trial.user_attrs.get(study.LOSSES, []))
    if study.is_killed(trial):
        return f"its process died after {folds} of {BLOCKS} inner folds"
    if trial.state == TrialState.FAIL:
        return f"failed: {trial.user_attrs[study.REASON]}"
    return f"{'pruned' if trial.state == TrialState.PRUNED else 'finished'} after {folds} of {BLOCKS} inner folds"


def _summary(search: Search, held: Study, trials: int, counted: int) -> Summary:
    best, ended = held.best(SHOWN), held.ended
    failed = [each for each in ended if each.state == TrialState.FAIL and not study.is_killed(each)]
    if not best and failed:
        raise DataError(f"every trial of {held.name} failed; the last one in {failed[-1].user_attrs[study.REASON]}")
    number = {
        "finished": sum(each.state == TrialState.COMPLETE for each in ended),
        "pruned": sum(each.state == TrialState.PRUNED for each in ended),
        "failed": len(failed),
        "killed": sum(map(study.is_killed, ended)),
    }
    sessions = search.data.panel.sessions
    tests = f"{sessions[search.folds[0].test_start]} to {sessions[search.folds[-1].test_end - 1]}"
    lines = [
        f"study {held.name}: {held.position} of {trials} trials ({', '.join(f'{n} {k}' for k, n in number.items())})",
        f"judged on {BLOCKS} inner folds, {tests}; no session after {sessions[-1]} was read",
    ]
    if held.position < trials:
        lines.append("stopped before the last trial; the same command goes on from here")
    importance = held.importance(FEWEST_FOR_IMPORTANCE)
    if best:
        lines += [*_table(search, best), _choice(held, best[0])]
    if importance:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in importance.items())
        lines.append(f"share of the loss's variance explained by: {shares}")
    lines.append(f"the ledger now counts {counted:,} trials")
    if best:
        lines += ["", *search_space.toml(search.model, search.settings(best[0].params)).splitlines()]
    return Summary("tune", tuple(lines), _figures(search, held, best, number, importance))


def _table(search: Search, best: list[FrozenTrial]) -> list[str]:
    """The best trials, gains in percent of EWMA's pinball."""
    horizons = "  ".join(f"{f'h={h}':>6}" for h in search.data.horizons)
    lines = [f"  {'trial':>5}  {'gain %':>6}  {horizons}  settings"]
    for trial in best:
        gains = "  ".join(f"{gain:+6.2f}" for gain in _gains(trial))
        settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in search.settings(trial.params).items())
        lines.append(f"  {trial.number:>5}  {100 * (1 - (trial.value or 0.0)):+6.2f}  {gains}  {settings}")
    return lines


def _choice(held: Study, best: FrozenTrial) -> str:
    """The best trial beside the settings that the study began with."""
    first = next(each for each in held.ended if not study.is_killed(each))
    if first.params == best.params:
        return "no trial does better than the settings the study began with"
    if first.state != TrialState.COMPLETE:
        return f"the settings the study began with failed: {first.user_attrs[study.REASON]}"
    pairs = zip(best.user_attrs[study.LOSSES], first.user_attrs[study.LOSSES], strict=True)
    won = sum(bool(np.mean(new) < np.mean(old)) for new, old in pairs)
    gain = 100 * ((first.value or 0.0) - (best.value or 0.0))
    return (
        f"trial {best.number} saves {gain:.2f} points more than the settings the study began with, on {won} of "
        f"{BLOCKS} inner folds; the best of many is partly luck"
    )


def _figures(
    search: Search, held: Study, best: list[FrozenTrial], number: dict[str, int], importance: dict[str, float]
) -> dict[str, Any]:
    return {
        "study": held.name,
        "model": search.model,
        "trials": held.position,
        **number,
        "last_session_read": str(search.data.panel.sessions[-1]),
        "best": [
            {"trial": each.number, "loss": each.value, "gains": _gains(each), "settings": search.settings(each.params)}
            for each in best
        ],
        "importance": importance,
    }
