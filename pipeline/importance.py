"""Permutation importance by feature family, out of sample: what a fitted model loses when a family is shuffled.

The features of one family are moved together (Breiman 2001; by group: Gregorutti et al. 2015), so that what they say of
one another stays: only their link with the outcome and with the other families is cut. A cell of the test slice takes
them from another session, the same one for all tickers, and from another ticker. Sessions move in blocks that keep
their order, because a network reads a history and volatility persists: single sessions in random order would be a
history no model has met. Within a block each ticker takes the features of one other ticker throughout. To ask when and
which apart: `over="sessions"` leaves each ticker its own features, `over="tickers"` each session.

The volatility that is the unit of the forecast stays: what is measured is what the model adds to it. Families share
what they know, so importances do not add up, and one that the others can stand in for shows little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from features.splits import Fold
from features.table import FEATURES, OBSERVED
from models.decode import Forecast, decode
from models.forecasters.interface import Fitted, Inputs
from models.receptive_field import FIELD
from models.scaling import Scaler
from pipeline import walkforward
from pipeline.evidence import losses
from pipeline.evidence.losses import Outcome
from pipeline.evidence.significance import BySession, Interval, Resamples, Resampling, Statistic, by_session
from pipeline.walkforward import Dataset, FittedFold

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Over = Literal["both", "sessions", "tickers"]

OWN = "own"
"""The family of all features that no shipped family has: the user's."""
BLOCK = 21
"""Sessions that move together; fewer where a test slice would hold fewer than four blocks."""


@dataclass(frozen=True)
class Tested:
    """A fitted model on its test slice.

    Attributes:
        fold: where it tests.
        x: (N, S, F) scaled features of the test slice and of FIELD - 1 sessions before it: what is shuffled.
        forecast: features of that shape -> (N, test sessions, H).
    """

    fold: Fold
    x: Float32
    forecast: Callable[[Float32], Forecast]


def of_student(data: Dataset, fitted: FittedFold) -> Tested:
    """The student of a fold."""
    student, test = fitted.student, slice(fitted.fold.test_start, fitted.fold.test_end)
    vol = data.panel.vol[:, test]

    def forecast(x: Float32) -> Forecast:
        y = student.network.forward_panel(x)
        return decode(y, vol, data.horizons, student.shape, student.factor)

    return Tested(fitted.fold, fitted.scaler.transform(data.panel.x[:, test.start - FIELD + 1 : test.stop]), forecast)


def of_model(data: Dataset, fold: Fold, scaler: Scaler, model: Fitted) -> Tested:
    """Any fitted forecaster. It reads the whole past, of which the last FIELD - 1 sessions are shuffled too."""
    start, past = max(0, fold.test_start - FIELD + 1), slice(0, fold.test_end)
    whole = scaler.transform(data.panel.x[:, past])
    vol, returns = data.panel.vol[:, past].astype(np.float64), data.returns[:, past]

    def forecast(x: Float32) -> Forecast:
        found = model.forecast(Inputs(np.concatenate([whole[:, :start], x], axis=1), vol, returns))
        return Forecast(*(values[:, fold.test_start :] for values in found))

    return Tested(fold, whole[:, start:], forecast)


def families(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Family -> positions of its features among `names`, in the order of the table; `own` last; `observed` in none."""
    shipped = {name for family in FEATURES.values() for name in family}
    members = {**FEATURES, OWN: tuple(name for name in names if name not in shipped and name != OBSERVED)}
    at = {name: position for position, name in enumerate(names)}
    found = {family: tuple(at[name] for name in wanted if name in at) for family, wanted in members.items()}
    return {family: positions for family, positions in found.items() if positions}


def importance(
    data: Dataset,
    tested: Sequence[Tested],
    baseline: Forecast,
    resampling: Resampling,
    permutations: int = 3,
    over: Over = "both",
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """How much of the model's gain over a baseline each family carries, in points of percent of the baseline's pinball.

    Args:
        data: features and outcomes. tested: the model of every fold. baseline: (N, T, H) axes of the panel.
        resampling: of the intervals; its seed is that of the permutations, which are the same for every family.
        permutations: losses are averaged over so many. over: what is shuffled, see above.
        progress: called with the number of families that are done.

    Returns:
        JSON values. gains: by horizon, of the intact model over the baseline. rows: by family and horizon (None = mean
        of the horizons), `lost` points of that gain with its interval over blocks of sessions, and `spread`, the
        standard deviation of `lost` between single permutations; None where too little is known or permuted once.

    Raises:
        ValueError: nothing to test, fewer than one permutation, or no outcome of a horizon is known.
    """
    if not tested or permutations < 1:
        raise ValueError(f"{len(tested)} folds and {permutations} permutations: importance needs at least one of each")
    intact = _assembled(data, tested, [each.forecast(each.x) for each in tested])
    vol = data.panel.vol.astype(np.float64)
    outcomes = losses.outcomes({"model": intact, "baseline": baseline}, data.log_return, data.rv, vol, data.horizons)
    series = {f"model|{o.horizon}": by_session(losses.pinball(intact, o)) for o in outcomes}
    series |= {f"baseline|{o.horizon}": by_session(losses.pinball(baseline, o)) for o in outcomes}
    columns, spreads = families(data.panel.feature_names), {}
    for done, (family, positions) in enumerate(columns.items()):
        progress(done)
        drawn = [_shuffled(data, tested, outcomes, positions, over, (resampling.seed, p)) for p in range(permutations)]
        for at, outcome in enumerate(outcomes):
            sums = np.mean([each[at].sums for each in drawn], axis=0)
            series[f"{family}|{outcome.horizon}"] = BySession(sums, drawn[0][at].counts)
        spreads[family] = _lost_by_permutation(series, drawn, data.horizons)
    progress(len(columns))
    draws = Resamples(series, resampling)
    rows = [row for family in columns for row in _rows(draws, family, data.horizons, spreads[family])]
    names = {family: [data.panel.feature_names[i] for i in positions] for family, positions in columns.items()}
    gains = [{"horizon": h, **_figures("gain_percent", _gain(draws, h))} for h in data.horizons]
    return {
        "families": names,
        "gains": gains,
        "rows": rows,
        "over": over,
        "permutations": permutations,
        "block_sessions": BLOCK,
    }


def shuffle(x: Float32, positions: Sequence[int], over: Over, generator: np.random.Generator) -> Float32:
    """A copy of (N, S, F) features in which those at `positions` are moved, see above; the others stay.

    No block stays in its place and no ticker keeps its features, where there are two of them.
    """
    tickers, sessions, _ = x.shape
    blocks = _blocks(sessions, generator)
    donor = np.broadcast_to(np.arange(tickers)[:, None], (tickers, sessions)).copy()
    when = np.arange(sessions)
    if over != "tickers":
        when = np.concatenate([blocks[i] for i in _derangement(len(blocks), generator)])
    if over != "sessions":
        for block in blocks:
            donor[:, block] = _derangement(tickers, generator)[:, None]
    out, columns = x.copy(), list(positions)
    out[..., columns] = x[..., columns][donor, when]
    return out


def _blocks(sessions: int, generator: np.random.Generator) -> list[Ints]:
    """Sessions cut into blocks of equal length, the first of any length up to it, so that no cut is special."""
    length = max(1, min(BLOCK, sessions // 4))
    first = int(generator.integers(1, length + 1))
    return np.split(np.arange(sessions), np.arange(first, sessions, length))


def _derangement(size: int, generator: np.random.Generator) -> Ints:
    """A random order in which nothing keeps its place; of one thing, itself."""
    order = generator.permutation(size)
    while size > 1 and (order == np.arange(size)).any():  # e times on average
        order = generator.permutation(size)
    return order


def _shuffled(
    data: Dataset,
    tested: Sequence[Tested],
    outcomes: list[Outcome],
    positions: Sequence[int],
    over: Over,
    seed: tuple[int, int],
) -> list[BySession]:
    """The pinball of one permutation, by horizon."""
    made = []
    for number, each in enumerate(tested):
        generator = np.random.default_rng([*seed, number])
        made.append(each.forecast(shuffle(each.x, positions, over, generator)))
    forecast = _assembled(data, tested, made)
    return [by_session(losses.pinball(forecast, outcome)) for outcome in outcomes]


def _assembled(data: Dataset, tested: Sequence[Tested], made: Sequence[Forecast]) -> Forecast:
    """Forecasts of test slices on the panel's axes."""
    out = walkforward.blank(data)
    for each, forecast in zip(tested, made, strict=True):
        for target, source in zip(out, forecast, strict=True):
            target[:, each.fold.test_start : each.fold.test_end] = source
    return out


def _lost_by_permutation(
    series: Mapping[str, BySession], drawn: Sequence[Sequence[BySession]], horizons: tuple[int, ...]
) -> Array:
    """(permutations, H) points lost by each."""
    total = [[each.sums.sum() for each in losses_of] for losses_of in drawn]
    model = np.array([series[f"model|{h}"].sums.sum() for h in horizons])
    against = np.array([series[f"baseline|{h}"].sums.sum() for h in horizons])
    return np.asarray(100 * (np.array(total) - model) / against)


def _gain(draws: Resamples, horizon: int) -> Interval:
    return draws.statistic(lambda means: 100 * (1 - means[f"model|{horizon}"] / means[f"baseline|{horizon}"]))


def _rows(draws: Resamples, family: str, horizons: tuple[int, ...], lost: Array) -> list[dict[str, Any]]:
    """The mean of the horizons first, then each."""
    several = len(lost) > 1
    rows = []
    for horizon in (None, *horizons):
        of = horizons if horizon is None else (horizon,)
        at = [horizons.index(h) for h in of]
        spread = float(lost[:, at].mean(1).std(ddof=1)) if several else None
        figures = _figures("lost", draws.statistic(_lost(family, of)))
        rows.append({"family": family, "horizon": horizon, **figures, "spread": spread})
    return rows


def _lost(family: str, horizons: tuple[int, ...]) -> Statistic:
    def of(means: Mapping[str, Array]) -> Array:
        lost = [(means[f"{family}|{h}"] - means[f"model|{h}"]) / means[f"baseline|{h}"] for h in horizons]
        return np.asarray(100 * np.mean(lost, axis=0))

    return of


def _figures(name: str, found: Interval) -> dict[str, float | None]:
    """The figure, `low` and `high`; None where too little is known for any."""
    return {k: v if math.isfinite(v) else None for k, v in zip((name, "low", "high"), found, strict=True)}
