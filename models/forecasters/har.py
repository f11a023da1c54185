"""HAR: tomorrow's variance from the daily, weekly and monthly averages of squared returns (Corsi 2009), pooled.

Each horizon has its own direct regression over all tickers, in units of the ticker's own level in training so that
they can share coefficients. Two forms, the better on validation counts: in logs (coefficients by least squares), and in
variances (not negative, weighted by the inverse square of the monthly average, so that the calm days have a say).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from models.decode import Forecast
from models.forecasters.calibration import (
    Calibration,
    calibrate,
    check,
    mean_losses,
    recency,
    squared_returns,
    training_level,
    validation_losses,
)
from models.forecasters.interface import Inputs, Training

Float64 = npt.NDArray[np.float64]
Form = Literal["log", "variance"]

FLOOR = 0.15**2
"""A squared return below this share of its ticker's level counts as much: as |z| in the skip."""
CAP = 50.0
"""A realised variance above so many levels counts as much in the regression of variances."""


@dataclass(frozen=True)
class HarConfig:
    """Attributes:
    windows: sessions of the averages, ascending. forms: tried on validation.
    least: returns a ticker needs for a level of its own; others take the typical ticker's.
    """

    windows: tuple[int, ...] = (1, 5, 22)
    forms: tuple[Form, ...] = ("log", "variance")
    least: int = 60

    def fit(self, training: Training) -> FittedHar:
        """Fit on the training slice: see `Forecaster.fit`."""
        check(training)
        first = [_fit(self, training, form, training.slices.fit_end) for form in self.forms]
        losses = []
        for each in first:
            y = each.calibration.outputs(each.log_scale(training.inputs))
            losses.append(validation_losses(training, y, each.calibration.shape))
        form = self.forms[int(np.argmin(mean_losses(np.array(losses))))]
        fitted = _fit(self, training, form, training.slices.train_end)
        training.progress(1.0)
        return fitted


@dataclass(frozen=True)
class FittedHar:
    """Pooled coefficients.

    Attributes:
        coefficients: (1 + windows, H), the constant first. level: (N,) mean squared return in training.
    """

    form: Form
    windows: tuple[int, ...]
    coefficients: Float64
    level: Float64
    calibration: Calibration
    horizons: tuple[int, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`."""
        return self.calibration.forecast(self.log_scale(inputs), inputs, self.horizons)

    def log_scale(self, inputs: Inputs) -> Float64:
        """(N, T, H) log-scale in z units."""
        found = _design(self.form, inputs, self.level, self.windows) @ self.coefficients
        logs = found if self.form == "log" else np.log(np.maximum(found, FLOOR)) / 2
        return np.asarray(logs + (np.log(self.level) / 2)[:, None, None] - np.log(inputs.vol)[..., None])


def averages(squares: Float64, windows: tuple[int, ...]) -> Float64:
    """(N, T, W) mean of the squares that a ticker has in the last w sessions; NaN where it has none.

    Shifted arrays are added one by one: a running sum would carry every crisis as rounding into calm years.
    """
    held = np.isfinite(squares)
    filled = np.where(held, squares, 0.0)
    total, count = np.zeros(squares.shape), np.zeros(squares.shape)
    found = {}
    for back in range(max(windows)):
        kept = max(0, squares.shape[1] - back)
        total[:, back:] += filled[:, :kept]
        count[:, back:] += held[:, :kept]
        if back + 1 in windows:
            found[back + 1] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.stack([found[window] for window in windows], axis=-1)


def _design(form: Form, inputs: Inputs, level: Float64, windows: tuple[int, ...]) -> Float64:
    """(N, T, 1 + W): a constant and the averages over the ticker's level, halves of their logs in the log form."""
    relative = averages(squared_returns(inputs), windows) / level[:, None, None]
    if form == "log":
        relative = np.log(np.maximum(relative, FLOOR)) / 2
    constant = np.ones((*relative.shape[:2], 1))
    return np.concatenate([constant, relative], axis=-1)


def _fit(config: HarConfig, training: Training, form: Form, end: int) -> FittedHar:
    level, without = training_level(training, end, config.least)
    design = _design(form, training.inputs, level, config.windows)[:, :end]
    vol2 = training.inputs.vol[:, :end, None] ** 2
    realised = training.relative_variance[:, :end] * vol2 / level[:, None, None]  # (N, end, H) in levels
    coefficients = np.empty((design.shape[2], len(training.horizons)))
    recent = np.broadcast_to(recency(training, end), design.shape[:2])
    for h in range(len(training.horizons)):
        known = np.isfinite(realised[..., h]) & np.isfinite(design).all(-1) & np.isfinite(training.z[:, :end, h])
        _check_rows(known, training.horizons[h], end)
        coefficients[:, h] = _regress(form, design[known], realised[known, h], recent[known])
    names = ["constant", *(f"mean_{window}" for window in config.windows)]
    choices = {
        "form": form,
        "tickers_at_typical_level": without,
        "coefficients": {
            str(horizon): dict(zip(names, map(float, coefficients[:, h]), strict=True))
            for h, horizon in enumerate(training.horizons)
        },
    }
    blank = Calibration(np.zeros((0, 9)), np.zeros(0), np.zeros(0))
    bare = FittedHar(form, config.windows, coefficients, level, blank, training.horizons, choices)
    calibration = calibrate(training, bare.log_scale(training.inputs), end)
    return FittedHar(form, config.windows, coefficients, level, calibration, training.horizons, choices)


def _regress(form: Form, design: Float64, realised: Float64, weight: Float64) -> Float64:
    if form == "log":
        root, target = np.sqrt(weight), np.log(np.maximum(realised, FLOOR)) / 2
        return np.asarray(np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0])
    root = np.sqrt(weight) / np.maximum(design[:, -1], FLOOR)
    return np.asarray(nnls(design * root[:, None], np.minimum(realised, CAP) * root)[0])


def _check_rows(known: npt.NDArray[np.bool_], horizon: int, end: int) -> None:
    if not known.any():
        raise ValueError(
            f"no known target of horizon {horizon} with a return in the first {end} sessions; lengthen the training"
            " slice or leave the horizon out"
        )
