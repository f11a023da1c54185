"""The forecasters of a race, made from the configuration, fitted fold by fold and forecast out of sample.

    [models]
    race = ["regression", "boosting", "lstm", "transformer"]

    [models.own]
    mine = { model = "my_model.py:MyModel", settings = { strength = 3 } }

A model of yours is a class with `fit` as in models/forecasters/interface.py; it is fitted on the same slices as the
others and held to the same gate. Fits share the processors: one process a fit, the same bytes with any number of them.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from joblib import Parallel, cpu_count, delayed
from threadpoolctl import threadpool_limits

from features.splits import Fold
from models.decode import Forecast
from models.forecasters.boosting import BoostingConfig
from models.forecasters.convolution import ConvolutionConfig
from models.forecasters.ensemble import SeedEnsembleConfig, Stacked, stack
from models.forecasters.garch import GarchConfig
from models.forecasters.har import HarConfig
from models.forecasters.interface import Fitted, Forecaster, Training
from models.forecasters.lstm import LSTMConfig
from models.forecasters.naive import AlwaysUpConfig, MarketMomentumConfig
from models.forecasters.regression import RegressionConfig
from models.forecasters.seq2seq import Seq2SeqConfig
from models.forecasters.transformer import TransformerConfig
from models.scaling import Scaler
from pipeline import walkforward
from pipeline.config import Config
from pipeline.config_models import Own
from pipeline.errors import DataError, UsageError
from pipeline.own_code import Named
from pipeline.teachers import Kept
from pipeline.walkforward import Dataset, inputs_of

Array = npt.NDArray[np.float64]

ALWAYS = ("har", "garch", "always_up", "market_momentum")
"""Fitted in every race, besides the baselines that need no fit."""
NETWORKS = {
    "lstm": LSTMConfig,
    "transformer": TransformerConfig,
    "convolution": ConvolutionConfig,
    "seq2seq": Seq2SeqConfig,
}
EXAMPLE = "my_model.py:MyModel"
PAST = "past.npz"


@dataclass(frozen=True)
class Entry:
    """A model on one fold.

    Attributes:
        model, fold: their names.
        forecast: (N, test sessions, H) out of sample.
        choices: what was chosen inside training: JSON values.
        past: (N, sessions up to the end of the test, H), training among them; None where nobody is taught by it.
    """

    model: str
    fold: str
    forecast: Forecast
    choices: dict[str, Any]
    past: Kept | None = None


class Entered(NamedTuple):
    """What came out of the fits of some models on some folds.

    Attributes:
        forecasts: model -> forecast on the panel's axes, NaN outside the test slices.
        choices: model -> fold -> what was chosen inside training, JSON values.
        pasts: model -> by fold what its fit says of all sessions up to the end of its test; empty if not kept.
    """

    forecasts: dict[str, Forecast]
    choices: dict[str, dict[str, Any]]
    pasts: dict[str, list[Kept]]


def learners(config: Config) -> tuple[str, ...]:
    """The models that `[models] race` and `[models.own]` enter, in their order."""
    return (*config.models.race, *config.models.own)


def forecaster(config: Config, name: str) -> Forecaster:
    """One of `ALWAYS` or of `learners`, from its section.

    Raises:
        UsageError: the user's own class cannot be used.
    """
    models = config.models
    if name in models.own:
        return _own(name, models.own[name])
    if name in NETWORKS:
        settings = getattr(models, name).model_dump()
        network = NETWORKS[name](alphas=models.scale.alphas, **settings)
        return network if models.seeds == 1 else SeedEnsembleConfig(network, models.seeds)
    made: dict[str, Callable[[], Forecaster]] = {
        "always_up": AlwaysUpConfig,
        "market_momentum": MarketMomentumConfig,
        "har": lambda: HarConfig(**models.har.model_dump()),
        "garch": lambda: GarchConfig(**models.garch.model_dump()),
        "regression": lambda: RegressionConfig(**models.regression.model_dump()),
        "boosting": lambda: BoostingConfig(alphas=models.scale.alphas, **models.boosting.model_dump()),
    }
    return made[name]()


def sharing(folds: Sequence[Fold], every: int) -> list[Fold]:
    """Folds for models that are fitted at every so many test slices only: the first one's training, all their tests.

    Slices with sessions between them, of fixed dates, are never put together.
    """
    found: list[Fold] = []
    held = 0
    for fold in folds:
        if found and held < every and found[-1].test_end == fold.test_start:
            found[-1], held = replace(found[-1], test_end=fold.test_end), held + 1
        else:
            found.append(fold)
            held = 1
    return found


def training_of(
    data: Dataset, fold: Fold, config: Config, silent: Sequence[int] = (), directory: Path | None = None
) -> tuple[Training, Scaler]:
    """`walkforward.training_of` with the half-life and the seed of the configuration."""
    half_life, seed = config.models.scale.half_life_sessions, config.models.seed
    return walkforward.training_of(data, fold, half_life, seed, silent, directory)


def fit(training: Training, config: Config, name: str, fold: str) -> Fitted:
    """Fit one model on one fold.

    Raises:
        DataError: the training slice cannot support it, or its loss is not finite; model, fold and reason are named.
        UsageError: the user's own class cannot be used.
    """
    try:
        return forecaster(config, name).fit(training)
    except (ValueError, FloatingPointError) as error:
        raise DataError(f"{name} cannot be fitted for {fold}: {error}") from error


def enter(
    data: Dataset,
    folds: Sequence[Fold],
    config: Config,
    names: Sequence[str],
    muted: Mapping[str, tuple[int, ...]] | None = None,
    work: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
    keep: bool = False,
) -> Entered:
    """Fit every model on every fold and forecast the test sessions.

    Args:
        data: features and outcomes. folds: where each trains and tests. config: of everything.
        names: of the models. muted: fold name -> positions of features it may not use.
        work: where checkpoints and finished folds are kept, so that a killed run goes on from there; None = nowhere.
        progress: called with the number of fits that are done, out of names times folds.
        keep: whether to keep what each fit says of the sessions before its test too.

    Raises:
        DataError: as `fit`.
        UsageError: as `fit`; or a model of the user's gave a forecast of the wrong shape.
    """
    jobs = [(name, fold) for name in names for fold in folds]
    run = Parallel(n_jobs=_processes(config, len(jobs)), return_as="generator_unordered")
    forecasts: dict[str, Forecast] = {name: walkforward.blank(data) for name in names}
    choices: dict[str, dict[str, Any]] = {name: {} for name in names}
    places = {fold.name: slice(fold.test_start, fold.test_end) for fold in folds}
    progress(0)
    silent = muted or {}
    done = run(delayed(_entry)(data, f, config, name, silent.get(f.name, ()), work, keep) for name, f in jobs)
    pasts: dict[str, dict[str, Kept]] = {name: {} for name in names}
    for count, entry in enumerate(done, start=1):
        for target, source in zip(forecasts[entry.model], entry.forecast, strict=True):
            target[:, places[entry.fold]] = source
        choices[entry.model][entry.fold] = entry.choices
        if entry.past is not None:
            pasts[entry.model][entry.fold] = entry.past
        progress(count)
    in_order = {name: {fold.name: choices[name][fold.name] for fold in folds} for name in names}
    kept = {name: [of[fold.name] for fold in folds] if keep else [] for name, of in pasts.items()}
    return Entered(forecasts, in_order, kept)


def stacked(data: Dataset, folds: Sequence[Fold], members: Mapping[str, Forecast]) -> Stacked:
    """The members' forecasts weighted by what earlier test years say; equal weights in the first one.

    Nested selection: weights of a test year rest on out-of-sample forecasts whose outcomes were known before it.
    """
    starts = [fold.test_start for fold in folds]
    vol = data.panel.vol.astype(np.float64)
    return stack(tuple(members.values()), data.log_return, vol, data.horizons, data.known_after, starts)


def _entry(
    data: Dataset, fold: Fold, config: Config, name: str, silent: Sequence[int], work: Path | None, keep: bool
) -> Entry:
    """Fit and forecast; read back where an earlier run has already done so."""
    torch.set_num_threads(config.models.threads)
    held = None if work is None else work / name / fold.name
    if held is not None and (found := _read(held, name, fold, keep)) is not None:
        return found
    with threadpool_limits(config.models.threads):
        training, scaler = training_of(data, fold, config, silent, held)
        fitted = fit(training, config, name, fold.name)
        # From the first session on: a recursion needs the whole past.
        whole = fitted.forecast(inputs_of(data, scaler, slice(0, fold.test_end), silent))
    expected = (len(data.panel.tickers), fold.test_end, len(data.horizons))
    if whole.sigma.shape != expected or whole.quantiles.shape != (*expected, 9) or whole.p_up.shape != expected:
        raise UsageError(
            f"{name} forecast sigma, quantiles and p_up of shapes {whole.sigma.shape}, {whole.quantiles.shape} and "
            f"{whole.p_up.shape} where {expected}, {(*expected, 9)} and {expected} were asked for; see "
            "models/forecasters/interface.py"
        )
    past = Kept.of(whole, fold.train_end, None if held is None else held / PAST) if keep else None
    entry = Entry(name, fold.name, Forecast(*(v[:, fold.test_start :] for v in whole)), fitted.choices, past)
    if held is not None:
        _write(held, entry)
    return entry


def _processes(config: Config, jobs: int) -> int:
    wanted = config.models.processes or max(1, cpu_count() // config.models.threads)
    return max(1, min(wanted, jobs))


def _read(directory: Path, name: str, fold: Fold, keep: bool) -> Entry | None:
    file, notes, past = directory / "forecast.npz", directory / "choices.json", directory / PAST
    if not notes.is_file() or (keep and not past.is_file()):
        return None
    with np.load(file, allow_pickle=False) as held:
        forecast = Forecast(*(held[part] for part in Forecast._fields))
    kept = Kept(fold.train_end, fold.test_end, past) if keep else None
    return Entry(name, fold.name, forecast, json.loads(notes.read_text()), kept)


def _write(directory: Path, entry: Entry) -> None:
    """The choices last: where they are, the forecast is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / "forecast.partial.npz"
    np.savez(partial, **entry.forecast._asdict())
    partial.replace(directory / "forecast.npz")
    notes = directory / "choices.json.partial"
    notes.write_text(json.dumps(entry.choices))
    notes.replace(directory / "choices.json")


def _own(name: str, own: Own) -> Forecaster:
    what = f"models.own.{name}"
    made = _own_class(what, own.model)
    try:
        found = made(**own.settings)
    except Exception as error:
        raise UsageError(f"{what}: {own.model} cannot be made of {own.settings}: {error}") from error
    if not isinstance(found, Forecaster):
        raise UsageError(f"{what}: {own.model} has no method fit; see models/forecasters/interface.py")
    return found


def _own_class(what: str, given: str) -> Callable[..., Any]:
    if ".py:" in given:
        return Named.of(what, given, Path(), "CLASS", EXAMPLE).load("class")
    module, colon, name = given.partition(":")
    if not colon:
        raise UsageError(f"{what} {given!r}: expected FILE.py:CLASS or MODULE:CLASS, like {EXAMPLE}")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{what}: {given} cannot be imported: {error}; correct it or install it") from error
    return found


def own_digest(config: Config) -> str:
    """A hash of the files of the user's own models: another code is another run."""
    files = [own.model.rpartition(":")[0] for own in config.models.own.values() if ".py:" in own.model]
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:8] if files else ""
