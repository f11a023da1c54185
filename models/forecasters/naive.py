"""Naive directions around the EWMA scale: always up, and the market's momentum (Moskowitz, Ooi, Pedersen 2012).

Their quantiles are the pooled shape of z in training, so that they differ from each other in p_up alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import Forecast
from models.forecasters.calibration import Calibration, calibrate, check
from models.forecasters.interface import Inputs, Training

Float64 = npt.NDArray[np.float64]

LEAST_P_UP = 0.501
"""A naive direction says up, however little it believes in it."""


@dataclass(frozen=True)
class AlwaysUpConfig:
    """p_up is the share of rising targets in training, never below .501."""

    def fit(self, training: Training) -> FittedNaive:
        """Fit on the training slice: see `Forecaster.fit`."""
        return _fit(training, 0)


@dataclass(frozen=True)
class MarketMomentumConfig:
    """Every ticker goes where the mean return of all went over the `sessions` before the last one; p is the share of
    training targets that did, never below .501. The last one is left out since tickers may trade on several calendars:
    the bar of the same date closes later in New York than in Tokyo."""

    sessions: int = 20

    def fit(self, training: Training) -> FittedNaive:
        """Fit on the training slice: see `Forecaster.fit`.

        Raises:
            ValueError: no sessions.
        """
        if self.sessions < 1:
            raise ValueError(f"sessions is {self.sessions}; momentum needs at least one session")
        return _fit(training, self.sessions)


@dataclass(frozen=True)
class FittedNaive:
    """sessions: of the momentum, 0 = always up. hit: (H,) p_up where the direction is up."""

    sessions: int
    hit: Float64
    calibration: Calibration
    horizons: tuple[int, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`."""
        log_scale = np.where(np.isfinite(inputs.vol), 0.0, np.nan)[..., None].repeat(len(self.horizons), axis=-1)
        found = self.calibration.forecast(log_scale, inputs, self.horizons)
        up = direction(inputs.returns, self.sessions)[None, :, None]
        p_up = np.where(up, self.hit, 1 - self.hit)
        return found._replace(p_up=np.where(np.isfinite(found.sigma), p_up, np.nan))


def direction(returns: Float64, sessions: int) -> npt.NDArray[np.bool_]:
    """(T,) True where the market rose over the sessions before the last one, or has no return yet; always with 0
    sessions."""
    held = np.isfinite(returns)
    market = np.where(held, returns, 0.0).sum(0) / np.maximum(held.sum(0), 1)
    total = np.zeros(market.shape)
    for back in range(1, min(sessions + 1, len(market))):
        total[back:] += market[: len(market) - back]
    return np.asarray(total >= 0)


def _fit(training: Training, sessions: int) -> FittedNaive:
    check(training)
    end = training.slices.train_end
    calibration = calibrate(training, np.zeros(training.z.shape), end)
    up = direction(training.inputs.returns, sessions)[None, :, None]
    followed = np.where(np.isfinite(training.z), (training.z > 0) == up, np.nan)
    hit = np.clip(np.nanmean(followed.reshape(-1, len(training.horizons)), axis=0), LEAST_P_UP, 0.99)
    choices = {"sessions": sessions, "p": {str(h): float(p) for h, p in zip(training.horizons, hit, strict=True)}}
    training.progress(1.0)
    return FittedNaive(sessions, hit, replace(calibration, up=np.log(hit / (1 - hit))), training.horizons, choices)
