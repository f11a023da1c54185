"""GARCH and GJR(1,1) with filtered historical residuals, per ticker through `arch` or pooled; validation chooses.

h(t+1) = omega + (alpha + gamma [r(t) < 0]) r(t)^2 + beta h(t)   (Bollerslev 1986; Glosten, Jagannathan, Runkle 1993)

Over k more sessions the expected variance returns to its long-run level at the rate of the persistence, so that the
variance over a horizon is a geometric sum. Quantiles are those of z / sigma in training (Barone-Adesi, Giannopoulos,
Vosper 1999; Hull, White 1998). Parameters are fitted on training; filtering forward reads returns up to each session.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.decode import Forecast
from models.forecasters.calibration import (
    RETURN_CLIP,
    Calibration,
    calibrate,
    check,
    mean_losses,
    training_level,
    validation_losses,
)
from models.forecasters.garch_fit import Distribution, Parameters, fit_pooled, fit_ticker
from models.forecasters.interface import Inputs, Training

Float64 = npt.NDArray[np.float64]
Form = Literal["garch", "gjr", "pooled"]

LEVEL_FLOOR = 0.001**2
"""Long-run variance a day of a ticker whose price never moved in training."""


@dataclass(frozen=True)
class GarchConfig:
    """Attributes:
    forms: "garch" and "gjr" per ticker, "pooled" one GJR for all around each ticker's own level; tried on validation.
    distribution: of the innovations in the likelihood. least: returns a ticker needs for parameters of its own.
    """

    forms: tuple[Form, ...] = ("pooled", "gjr", "garch")
    distribution: Distribution = "t"
    least: int = 250

    def fit(self, training: Training) -> FittedGarch:
        """Fit on the training slice: see `Forecaster.fit`. A ticker whose own fit fails, or that has too few returns,
        takes the pooled parameters; `choices` counts them by reason."""
        check(training)
        form = self.forms[0]
        if len(self.forms) > 1:
            tried = [self._fitted(training, each, training.slices.fit_end) for each in self.forms]
            losses = []
            for each in tried:
                y = each.calibration.outputs(each.log_scale(training.inputs))
                losses.append(validation_losses(training, y, each.calibration.shape))
            form = self.forms[int(np.argmin(mean_losses(np.array(losses))))]
            training.progress(0.6)
        fitted = self._fitted(training, form, training.slices.train_end)
        training.progress(1.0)
        return fitted

    def _fitted(self, training: Training, form: Form, end: int) -> FittedGarch:
        returns = _clipped(training.inputs)[:, :end]
        least = min(self.least, end // 2)
        level, without = training_level(training, end, least)
        level = np.maximum(level, LEVEL_FLOOR)
        pooled, converged = fit_pooled(returns / np.sqrt(level)[:, None], self.distribution)
        by_ticker = Parameters(level * pooled.omega, *(np.full(len(level), value) for value in pooled[1:]))
        failed: Counter[str] = Counter()
        if form != "pooled":
            for n, row in enumerate(returns):
                found, reason = fit_ticker(row[np.isfinite(row)], form == "gjr", self.distribution, least)
                if found is None:
                    failed[reason] += 1
                else:
                    for values, value in zip(by_ticker, found, strict=True):
                        values[n] = value
        choices: dict[str, Any] = {
            "form": form,
            "pooled": {name: float(value[0]) for name, value in pooled._asdict().items()},
            "pooled_converged": converged,
            "fallback_tickers": sum(failed.values()),
            "fallback_reasons": dict(sorted(failed.items())),
            "tickers_at_typical_level": without,
        }
        blank = Calibration(np.zeros((0, 9)), np.zeros(0), np.zeros(0))
        bare = FittedGarch(by_ticker, blank, training.horizons, choices)
        calibration = calibrate(training, bare.log_scale(training.inputs), end)
        return FittedGarch(by_ticker, calibration, training.horizons, choices)


@dataclass(frozen=True)
class FittedGarch:
    """parameters: (N,) each, in squared log returns."""

    parameters: Parameters
    calibration: Calibration
    horizons: tuple[int, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`. Tickers are those of training, in its order.

        Raises:
            ValueError: another number of tickers than in training.
        """
        return self.calibration.forecast(self.log_scale(inputs), inputs, self.horizons)

    def log_scale(self, inputs: Inputs) -> Float64:
        """(N, T, H) log-scale in z units."""
        tickers = len(self.parameters.omega)
        if inputs.returns.shape[0] != tickers:
            raise ValueError(
                f"{inputs.returns.shape[0]} tickers to forecast and parameters of {tickers}; GARCH needs the tickers"
                " of training in the same order"
            )
        after = next_variance(_clipped(inputs), self.parameters)
        total = horizon_variance(after, self.parameters, self.horizons)
        unit = inputs.vol[..., None] * np.sqrt(np.asarray(self.horizons, dtype=np.float64))
        return np.asarray(np.log(total) / 2 - np.log(unit))


def next_variance(returns: Float64, parameters: Parameters) -> Float64:
    """(N, T) variance of the next session given the returns up to each; it stands still where a ticker has none.

    Starts at the long-run variance. One loop over sessions, all tickers at once.
    """
    omega, alpha, gamma, beta = parameters
    squares = np.where(np.isfinite(returns), returns, 0.0) ** 2
    shock = omega[:, None] + (alpha[:, None] + gamma[:, None] * (returns < 0)) * squares
    held = np.isfinite(returns)
    shock, held_by_session = np.ascontiguousarray(shock.T), np.ascontiguousarray(held.T)
    found = np.empty(shock.shape)
    variance = long_run(parameters)
    for t in range(len(shock)):
        variance = np.where(held_by_session[t], shock[t] + beta * variance, variance)
        found[t] = variance
    return np.ascontiguousarray(found.T)


def horizon_variance(after: Float64, parameters: Parameters, horizons: tuple[int, ...]) -> Float64:
    """(N, T, H) expected variance summed over the next h sessions, from (N, T) that of the next one."""
    level, persistence = long_run(parameters)[:, None, None], parameters.persistence[:, None, None]
    h = np.asarray(horizons, dtype=np.float64)
    return np.asarray(level * h + (after[..., None] - level) * (1 - persistence**h) / (1 - persistence))


def long_run(parameters: Parameters) -> Float64:
    """(N,) the variance that forecasts return to."""
    return np.asarray(parameters.omega / (1 - parameters.persistence))


def _clipped(inputs: Inputs) -> Float64:
    return np.asarray(np.clip(inputs.returns, -RETURN_CLIP, RETURN_CLIP))
