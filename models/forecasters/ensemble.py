"""Ensembles: forecasts averaged in log-scale, over seeds or over models; stacking weights from earlier sessions.

A forecast is taken apart into a median, a width (q90 - q10) and a shape (what is left); widths and sigmas are averaged
in logs, p_up in logits, the median and the shape as they are, so that quantiles stay in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from models.decode import QUANTILES, Forecast
from models.forecasters.interface import Fitted, Forecaster, Inputs, Training

Float64 = npt.NDArray[np.float64]

LOW, MEDIAN, HIGH = (QUANTILES.index(q) for q in (0.10, 0.50, 0.90))
PRIMARY = (LOW, MEDIAN, HIGH)


@dataclass(frozen=True)
class SeedEnsembleConfig:
    """The same forecaster fitted from `seeds` seeds, the training's own and those after it."""

    member: Forecaster
    seeds: int = 5

    def fit(self, training: Training) -> FittedEnsemble:
        """Fit every member: see `Forecaster.fit`.

        Raises:
            ValueError: no seeds.
        """
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; an ensemble needs at least one member")
        jobs = [(self.member, f"seed-{n}", training.seed + n) for n in range(self.seeds)]
        return _fit_members(training, jobs)


@dataclass(frozen=True)
class EnsembleConfig:
    """Different forecasters with equal weights."""

    members: tuple[Forecaster, ...]

    def fit(self, training: Training) -> FittedEnsemble:
        """Fit every member: see `Forecaster.fit`.

        Raises:
            ValueError: no members.
        """
        if not self.members:
            raise ValueError("an ensemble needs at least one member")
        return _fit_members(training, [(each, f"member-{n}", training.seed) for n, each in enumerate(self.members)])


@dataclass(frozen=True)
class FittedEnsemble:
    """Fitted members, averaged with equal weights."""

    members: tuple[Fitted, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`; where a member has no forecast the others stand for it."""
        return combine([each.forecast(inputs) for each in self.members])


def _fit_members(training: Training, jobs: Sequence[tuple[Forecaster, str, int]]) -> FittedEnsemble:
    fitted = []
    for done, (member, name, seed) in enumerate(jobs):

        def progress(share: float, done: int = done) -> None:
            training.progress((done + share) / len(jobs))

        directory = None if training.directory is None else training.directory / name
        fitted.append(member.fit(replace(training, seed=seed, directory=directory, progress=progress)))
    training.progress(1.0)
    return FittedEnsemble(tuple(fitted), {"members": [each.choices for each in fitted]})


def combine(forecasts: Sequence[Forecast], weights: Float64 | None = None) -> Forecast:
    """The weighted average in log-scale.

    Args:
        forecasts: M forecasts with the same axes (..., H), NaN = none. weights: (M,) or (M, H), not negative, each
            horizon adding up to one; None = equal. In a cell where a member has none, the others' weights are scaled
            up; NaN where none of a weight above zero has one.

    Raises:
        ValueError: no forecasts, or their shapes differ.
    """
    if not forecasts:
        raise ValueError("no forecasts to combine")
    shapes = {each.sigma.shape for each in forecasts}
    if len(shapes) > 1:
        raise ValueError(f"forecasts of different shapes cannot be combined: {sorted(shapes)}")
    return _average(_Parts.of(forecasts), weights)


class _Parts(NamedTuple):
    """Of M forecasts: held (M, ..., H); log_sigma, median, log_width, logit likewise; shape (M, ..., H, 9)."""

    held: npt.NDArray[np.bool_]
    log_sigma: Float64
    median: Float64
    log_width: Float64
    shape: Float64
    logit: Float64

    def at(self, cells: npt.NDArray[np.bool_]) -> _Parts:
        """Of the cells (...) alone."""
        held, *others = self
        return _Parts(held[:, cells], *(values[:, cells] for values in others))

    @classmethod
    def of(cls, forecasts: Sequence[Forecast]) -> _Parts:
        quantiles = np.stack([each.quantiles for each in forecasts])
        sigma, p_up = np.stack([each.sigma for each in forecasts]), np.stack([each.p_up for each in forecasts])
        median, width = quantiles[..., MEDIAN], quantiles[..., HIGH] - quantiles[..., LOW]
        held = np.isfinite(width) & (width > 0) & np.isfinite(sigma) & np.isfinite(p_up)
        p = np.clip(np.where(held, p_up, 0.5), 1e-6, 1 - 1e-6)
        safe = np.where(held, width, 1.0)
        shape = np.where(held[..., None], quantiles - median[..., None], 0.0) / safe[..., None]
        return cls(
            held,
            np.log(np.where(held, sigma, 1.0)),
            np.where(held, median, 0.0),
            np.log(safe),
            shape,
            np.log(p) - np.log1p(-p),
        )


def _average(parts: _Parts, weights: Float64 | None) -> Forecast:
    members, horizons = parts.held.shape[0], parts.held.shape[-1]
    given = np.full(members, 1 / members) if weights is None else np.asarray(weights, dtype=np.float64)
    by_horizon = given[:, None] if given.ndim == 1 else given
    by_horizon = np.broadcast_to(by_horizon, (members, horizons))
    cell = by_horizon.reshape(members, *(1,) * (parts.held.ndim - 2), horizons) * parts.held
    total = cell.sum(0)
    share = cell / np.where(total > 0, total, 1.0)
    median = (share * parts.median).sum(0)
    width = np.exp((share * parts.log_width).sum(0))
    shape = (share[..., None] * parts.shape).sum(0)
    found = Forecast(
        np.exp((share * parts.log_sigma).sum(0)),
        median[..., None] + width[..., None] * shape,
        1 / (1 + np.exp(-(share * parts.logit).sum(0))),
    )
    none = total <= 0
    for values in found:
        values[none] = np.nan
    return found


class Stacked(NamedTuple):
    """forecast: the stacked one, NaN before the first block. weights: by block, (B, M, H)."""

    forecast: Forecast
    weights: Float64


def stack(
    forecasts: Sequence[Forecast],
    log_return: Float64,
    vol: Float64,
    horizons: tuple[int, ...],
    known_after: tuple[int, ...],
    starts: Sequence[int],
    least: int = 250,
) -> Stacked:
    """Weights of out-of-sample forecasts, refitted at each start on sessions before it alone.

    Args:
        forecasts: M forecasts (N, T, H), each made out of sample, NaN elsewhere.
        log_return: (N, T, H) outcomes, NaN = not known. vol: (N, T), the unit of the loss.
        known_after: by horizon, sessions after which an outcome is known: at start s those of s - known_after are.
        starts: first sessions of the blocks, ascending; the last block runs to the end.
        least: sessions with a known outcome that weights need; with fewer the members count alike.

    Raises:
        ValueError: starts do not ascend.
    """
    if list(starts) != sorted(set(starts)):
        raise ValueError(f"starts must ascend, these do not: {list(starts)}")
    n_members, n_horizons, sessions = len(forecasts), len(horizons), log_return.shape[1]
    weights = np.full((len(starts), n_members, n_horizons), 1 / n_members)
    out = combine(forecasts)
    for values in out:
        values[:, : starts[0] if starts else sessions] = np.nan
    for block, start in enumerate(starts):
        for h, delay in enumerate(known_after):
            past = slice(0, max(0, start - delay + 1))
            known = np.asarray(np.isfinite(log_return[:, past, h]).any(0))
            for each in forecasts:
                known &= np.asarray(np.isfinite(each.sigma[:, past, h]).any(0))
            if known.sum() >= least:
                unit = vol[:, past][:, known] * np.sqrt(horizons[h])
                part = [_cells(each, past, known, h) for each in forecasts]
                weights[block, :, h] = stack_weights(part, log_return[:, past, h][:, known], unit)
        block_of = slice(start, starts[block + 1] if block + 1 < len(starts) else sessions)
        found = combine([Forecast(*(values[:, block_of] for values in each)) for each in forecasts], weights[block])
        for target, source in zip(out, found, strict=True):
            target[:, block_of] = source
    return Stacked(out, weights)


def stack_weights(forecasts: Sequence[Forecast], actual: Float64, unit: Float64) -> Float64:
    """(M,) weights, not negative and adding up to one, of least mean pinball over q10, q50, q90 at one horizon.

    Args:
        forecasts: M forecasts with axes (..., 1). actual: (...), NaN = not known. unit: (...), the loss is over it.
    """
    members = len(forecasts)
    parts = _Parts.of(forecasts)
    cells = np.isfinite(actual) & np.isfinite(unit) & parts.held[..., 0].all(0)
    if not cells.any() or members == 1:
        return np.full(members, 1 / members)
    parts = parts.at(cells)
    target, scale = actual[cells], unit[cells]

    def loss(weights: Float64) -> float:
        found = _average(parts, np.maximum(weights, 0) + 1e-12).quantiles[:, 0]
        total = 0.0
        for at in PRIMARY:
            error = (target - found[:, at]) / scale
            total += float(np.maximum(QUANTILES[at] * error, (QUANTILES[at] - 1) * error).mean())
        return total / len(PRIMARY)

    even = np.full(members, 1 / members)
    base = loss(even)
    starts = [even, *(0.2 * even + 0.8 * np.eye(members)[m] for m in range(members))]
    # The loss is piecewise smooth: its differences are tiny against its level, so it is blown up for the line search.
    found = minimize(
        lambda weights: 1e3 * loss(weights) / base,
        min(starts, key=loss),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"eps": 1e-3, "ftol": 1e-4, "maxiter": 100},
    )
    weights = np.clip(found.x, 0, 1)
    weights /= weights.sum()
    return np.asarray(min([weights, *starts], key=loss))


def _cells(forecast: Forecast, past: slice, known: npt.NDArray[np.bool_], h: int) -> Forecast:
    return Forecast(*(values[:, past][:, known, h : h + 1] for values in forecast))
