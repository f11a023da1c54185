"""One walk-forward race: fit on each training slice, forecast its test year, never the other way round."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import frames, splits
from features.bars import HALT_BARS, halted
from features.panel import Panel, align, load
from features.splits import Dates, Fold
from models.compact.distill import Teacher
from models.compact.network import Network
from models.decode import Forecast, decode
from models.forecasters.baselines import Distribution, trailing, unconditional
from models.forecasters.fit import FitConfig
from models.forecasters.interface import Inputs, Slices, Training
from models.forecasters.student import FittedStudent, StudentConfig, fit_student
from models.receptive_field import FIELD
from models.scaling import Scaler
from pipeline import universe
from pipeline.config import Config
from pipeline.errors import DataError, StoreError, TooLittleHistoryError
from pipeline.evidence.significance import Resampling
from pipeline.store import SOURCES, Lake

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Halt(NamedTuple):
    """A ticker whose price stood still: on how many sessions, the first and the last of them."""

    ticker: str
    sessions: int
    first: str
    last: str


@dataclass(frozen=True)
class Dataset:
    """Features and outcomes on one pair of axes (N tickers, T sessions of the union axis).

    log_return, rv: (N, T, H), NaN until known; z = log_return / (vol sqrt h); relative_variance = rv / vol^2.
    known_after: by horizon, the steps of the axis after which a label is known (pipeline/universe.py). purge: steps
    between the last training decision and the first test decision. halts: where prices stood still; there is no
    volatility, no return and no outcome on these sessions, so nothing is learnt, forecast or judged.
    """

    panel: Panel
    horizons: tuple[int, ...]
    log_return: Array
    rv: Array
    z: Array
    relative_variance: Array
    known_after: tuple[int, ...]
    purge: int
    halts: tuple[Halt, ...] = ()

    @property
    def returns(self) -> Array:
        """(N, T) log total return since the ticker's previous bar, NaN where there is none."""
        return self.panel.r.astype(np.float64)

    def fingerprint(self) -> str:
        """A hash of everything a model is fitted on."""
        digest = hashlib.sha256("|".join([*self.panel.feature_names, *map(str, self.panel.tickers)]).encode())
        for array in (self.panel.sessions, self.panel.x, self.panel.vol, self.panel.r, self.log_return, self.rv):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class FittedFold:
    """One fold: its slices, its scaler (fitted on its training rows) and its student.

    muted: positions of the features that it may not use; its weights on them are zero.
    teachers: model -> weight by horizon in the stack that taught it; empty where it learned from labels alone.
    """

    fold: Fold
    scaler: Scaler
    student: FittedStudent
    muted: tuple[int, ...] = ()
    teachers: dict[str, list[float]] = field(default_factory=dict)


def read(lake: Lake, config: Config) -> Dataset:
    """The features and targets of the lake on the panel's axes.

    Raises:
        DataError: a row lies on a date that is no session of its ticker's calendar, or no price ever moves.
        StoreError: there are no features yet, or they were written before they held the returns.
    """
    rows = lake.read("features", order_by="ticker, session")
    if "r" not in rows.columns:
        raise StoreError("the table features has no returns yet, column r; write it anew: tradewind features")
    panel = load(rows)
    still = halted(panel.r)
    panel = replace(panel, vol=np.where(still, np.nan, panel.vol), r=np.where(still, np.nan, panel.r))
    if not np.isfinite(panel.vol).any():
        raise DataError(
            f"no ticker can be forecast: the prices of {', '.join(map(str, panel.tickers[:10]))} never move for "
            f"{HALT_BARS} bars or longer; see that the provider delivers prices and not one quote carried forward"
        )
    rows = lake.read("targets")
    horizons = config.target.horizons
    log_return, rv = (
        np.where(still[..., None], np.nan, align(panel, rows, name, horizons)) for name in ("log_return", "rv")
    )
    vol = panel.vol[..., None].astype(np.float64)
    z = log_return / (vol * np.sqrt(np.asarray(horizons)))
    held = np.asarray(np.isfinite(panel.x).any(axis=-1).T)
    known_after = universe.known_after(config, panel.tickers.tolist(), pd.DatetimeIndex(panel.sessions), held)
    purge = max(config.purge, *known_after)
    return Dataset(panel, horizons, log_return, rv, z, rv / vol**2, known_after, purge, _halts(panel, still))


def _halts(panel: Panel, still: Bools) -> tuple[Halt, ...]:
    found = []
    for ticker, row in zip(panel.tickers, still, strict=True):
        at = np.flatnonzero(row)
        if len(at):
            found.append(Halt(str(ticker), len(at), str(panel.sessions[at[0]]), str(panel.sessions[at[-1]])))
    return tuple(found)


def folds(data: Dataset, config: Config) -> list[Fold]:
    """The walk-forward of the `[splits]` section, or its fixed dates.

    Raises:
        TooLittleHistoryError: no test slice has enough training sessions before it, or fixed dates do not fit.
    """
    wanted, sessions = config.splits, data.panel.sessions
    first = None if wanted.first_test is None else np.datetime64(wanted.first_test)
    try:
        if wanted.fixed:
            dates = [Dates(e.name, *map(np.datetime64, (e.validation, e.test, e.end))) for e in wanted.fixed]
            return splits.fixed(sessions, dates, data.purge, wanted.embargo)
        return splits.walk_forward(
            sessions,
            wanted.min_train_sessions,
            wanted.validation_sessions,
            data.purge,
            wanted.embargo,
            first,
            wanted.refit,
        )
    except ValueError as error:
        instead = "correct splits.fixed" if wanted.fixed else "lower splits.min_train_sessions or validation_sessions"
        raise TooLittleHistoryError(f"{error}; ingest more history or {instead}") from None


def live_fold(data: Dataset, config: Config) -> Fold:
    """The last fit, on every label that is known."""
    return splits.live_fold(len(data.panel.sessions), config.splits.validation_sessions, data.purge)


def table_versions(lake: Lake) -> dict[str, int]:
    """The Delta version of every table behind the features in the lake, and of the features and targets themselves.

    Those of prices and news are the ones that features were computed from, which may have moved on since.
    """
    sources = json.loads(lake.state().get(SOURCES, "{}"))
    return {
        **(sources or lake.versions(("prices", "price_revisions", "news"))),
        **lake.versions(("features", "targets")),
    }


def student_config(config: Config) -> StudentConfig:
    """The `[models]` and `[compress]` sections as the student's own configuration."""
    student = config.models.student
    return StudentConfig(
        alphas=config.models.scale.alphas,
        half_life=config.models.scale.half_life_sessions,
        width=student.width,
        body_features=config.compress.body_features,
        body_weights=student.body_weights,
        training=FitConfig(
            student.epochs, student.patience, student.learning_rate, student.weight_decay, config.models.seed,
            noise=student.noise,
        ),
        teacher_weights=student.teacher_weights,
    )  # fmt: skip


def resampling(config: Config) -> Resampling:
    """The `[evidence]` section as the way to resample."""
    e = config.evidence
    return Resampling(e.confidence, e.gate_level, e.resamples, e.block_sessions, e.min_blocks, config.models.seed)


def fit_folds(
    data: Dataset,
    folds: list[Fold],
    config: StudentConfig,
    progress: Callable[[int], None] = lambda done: None,
    muted: Mapping[str, tuple[int, ...]] | None = None,
    teacher_of: Callable[[Fold], Teacher | None] = lambda fold: None,
) -> list[FittedFold]:
    """Fit every fold on its own past.

    Args:
        data: features and outcomes. folds: where each trains and tests. config: of the student.
        progress: called with the number of folds that are done.
        muted: fold name -> positions of features that it may not use. It is trained as if they were missing
            everywhere and its weights on them are exactly zero: the list of features stays that of the others,
            and nothing has to be masked when it forecasts.
        teacher_of: what the student of a fold is taught, from sessions of its training slice; None = labels alone.

    Raises:
        DataError: a training slice cannot support it, or its loss is not finite; fold and reason are named.
    """
    fitted = []
    for done, fold in enumerate(folds):
        progress(done)
        try:
            fitted.append(_fit_fold(data, fold, config, (muted or {}).get(fold.name, ()), teacher_of(fold)))
        except (ValueError, FloatingPointError) as error:
            raise DataError(f"the student cannot be fitted for {fold.name}: {error}") from error
    progress(len(folds))
    return fitted


def training_of(
    data: Dataset, fold: Fold, half_life: float, seed: int, silent: Sequence[int] = (), directory: Path | None = None
) -> tuple[Training, Scaler]:
    """What a fit of this fold may read, and the scaler fitted on its training rows.

    Args:
        data: features and outcomes. fold: where it trains. half_life, seed: see `Training`.
        silent: positions of features it may not use: they are missing everywhere.
        directory: of checkpoints and curves; None = none.

    Raises:
        ValueError: no ticker has a volatility in its training slice.
    """
    end = fold.train_end
    seen = np.isfinite(data.panel.vol[:, :end])
    if not seen.any():
        raise ValueError(f"no price moves in its {end} sessions of training; start the splits later")
    scaler = Scaler.fit(data.panel.x[:, :end][seen])
    training = Training(
        inputs=inputs_of(data, scaler, slice(0, end), silent),
        z=data.z[:, :end],
        relative_variance=data.relative_variance[:, :end],
        horizons=data.horizons,
        features=data.panel.feature_names,
        slices=Slices(fold.fit_end, fold.validation_start, end),
        half_life=half_life,
        seed=seed,
        directory=directory,
    )
    return training, scaler


def inputs_of(data: Dataset, scaler: Scaler, sessions: slice, silent: Sequence[int] = ()) -> Inputs:
    """What a forecast may read of these sessions."""
    x = scaler.transform(data.panel.x[:, sessions])
    x[..., list(silent)] = 0
    return Inputs(x, data.panel.vol[:, sessions].astype(np.float64), data.returns[:, sessions])


def _fit_fold(
    data: Dataset, fold: Fold, config: StudentConfig, silent: tuple[int, ...], teacher: Teacher | None
) -> FittedFold:
    training, scaler = training_of(data, fold, config.half_life, config.training.seed, silent)
    z, slices = training.z, training.slices
    for name, part in {"fit": z[:, : slices.fit_end], "validation": z[:, slices.validation_start :]}.items():
        for at, horizon in enumerate(data.horizons):
            if not np.isfinite(part[..., at]).any():
                raise ValueError(
                    f"no known target of horizon {horizon} in the {name} slice of {part.shape[1]} sessions; lengthen "
                    "it or leave the horizon out"
                )
    student = fit_student(training, config, teacher)
    network, skip = deaf(student.network, silent), deaf(student.skip_network, silent)
    return FittedFold(fold, scaler, replace(student, network=network, skip_network=skip), silent)


def deaf(network: Network, silent: tuple[int, ...]) -> Network:
    """The network with no weight on the features `silent`: whatever they hold, its outputs are the same."""
    if not silent:
        return network
    first = network.conv_weight[0].copy()
    first[:, np.isin(network.body_features, silent)] = 0
    skip = network.skip_weight.copy()
    skip[list(silent)] = 0
    return replace(network, conv_weight=(first, *network.conv_weight[1:]), skip_weight=skip)


def forecast_folds(data: Dataset, fitted: list[FittedFold], network_of: Callable[[FittedStudent], Network]) -> Forecast:
    """The out-of-sample forecasts of every fold on the panel's axes, NaN outside the test years."""
    out = blank(data)
    for each in fitted:
        test = slice(each.fold.test_start, each.fold.test_end)
        x = each.scaler.transform(data.panel.x[:, test.start - FIELD + 1 : test.stop])
        y = network_of(each.student).forward_panel(x)
        found = decode(y, data.panel.vol[:, test], data.horizons, each.student.shape, each.student.factor)
        for target, source in zip(out, found, strict=True):
            target[:, test] = source
    return out


def forecast_ewma(data: Dataset, folds: list[Fold]) -> tuple[Forecast, Distribution]:
    """The trailing-EWMA baseline over all test sessions, and its distribution by session."""
    # The last row is wanted for a bundle even where the last fold ends earlier.
    found = trailing(data.z, data.relative_variance, data.known_after, folds[0].test_start)
    unit = data.panel.vol[..., None].astype(np.float64) * np.sqrt(np.asarray(data.horizons))  # (N, T, H)
    out = blank(data)
    for fold in folds:
        test = slice(fold.test_start, fold.test_end)
        known = np.isfinite(unit[:, test])
        out.sigma[:, test] = unit[:, test] * found.sigma[None, test]
        out.quantiles[:, test] = unit[:, test, :, None] * found.quantiles[None, test]
        out.p_up[:, test] = np.where(known, found.p_up[None, test], np.nan)
    return out, found


def forecast_unconditional(data: Dataset, folds: list[Fold]) -> Forecast:
    """The unconditional baseline, refitted for each test year on its training slice."""
    out = blank(data)
    for fold in folds:
        found = unconditional(data.log_return[:, : fold.train_end], data.rv[:, : fold.train_end], data.horizons)
        test = slice(fold.test_start, fold.test_end)
        known = np.isfinite(data.panel.vol[:, test])
        for target, source in zip(out, (found.sigma, found.quantiles, found.p_up), strict=True):
            cells = known.reshape(known.shape + (1,) * (target.ndim - 2))
            target[:, test] = np.where(cells, source, np.nan)
    return out


def forecast_rows(
    data: Dataset,
    folds: list[Fold],
    run_id: str,
    model: str,
    forecast: Forecast,
    created_at: pd.Timestamp,
    bundle_version: str = "",
) -> pd.DataFrame:
    """Rows of the `forecasts` table for every cell with a sigma, by ticker, session and horizon."""
    n, t, h = np.nonzero(np.isfinite(forecast.sigma))
    fold_of = np.full(len(data.panel.sessions), "", dtype=object)
    for fold in folds:
        fold_of[fold.test_start : fold.test_end] = fold.name
    rows = pd.DataFrame(
        {
            "run_id": run_id,
            "model": model,
            "bundle_version": bundle_version,
            "fold": fold_of[t],
            "ticker": data.panel.tickers[n],
            "session": pd.DatetimeIndex(data.panel.sessions[t]).astype(frames.SESSION),
            "horizon": np.asarray(data.horizons, dtype=np.int32)[h],
            "sigma": forecast.sigma[n, t, h],
        }
    )
    quantiles = pd.DataFrame(forecast.quantiles[n, t, h], columns=list(frames.QUANTILE_COLUMNS))
    rows = pd.concat([rows, quantiles], axis=1)
    rows["p_up"] = forecast.p_up[n, t, h]
    rows["calibrated"] = True
    rows["created_at"] = pd.Series(created_at, index=rows.index).astype(frames.INSTANT)
    text = ("run_id", "model", "bundle_version", "fold", "ticker")
    return rows.astype(dict.fromkeys(text, "str"))


def blank(data: Dataset) -> Forecast:
    """A forecast of NaN on the axes of `data`."""
    n, t, h = data.z.shape
    return Forecast(np.full((n, t, h), np.nan), np.full((n, t, h, 9), np.nan), np.full((n, t, h), np.nan))
