"""The one interface of every forecaster: fit on arrays of the past, forecast causally.

A forecaster is a configuration dataclass with a `fit`; what it returns forecasts any history, at each session from
that session and earlier ones alone. A new model is one file with such a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from models.decode import Forecast

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Slices:
    """Half-open positions on the axis of sessions: fit [0, fit_end), validation [validation_start, train_end).

    The gap in between is the purge: no label of the fit slice reaches into validation.
    """

    fit_end: int
    validation_start: int
    train_end: int


@dataclass(frozen=True)
class Inputs:
    """What a forecast may read: N tickers, T sessions, F features, everything of a session known at its decision.

    Attributes:
        x: (N, T, F) float32, scaled on the training slice, finite; 0 where missing.
        vol: (N, T) float64, the EWMA volatility of a session, the unit of z; NaN where the ticker has no bar.
        returns: (N, T) float64, one-session log total returns; NaN where there is none.
    """

    x: Float32
    vol: Float64
    returns: Float64


@dataclass(frozen=True)
class Training:
    """What a fit may read: nothing of it lies after the training slice.

    Attributes:
        inputs: of the T = slices.train_end sessions of training.
        z: (N, T, H) float64 targets in units of vol sqrt(h), NaN = not known by the end of training.
        relative_variance: (N, T, H) float64, realised variance a session over vol^2, NaN where z is.
        horizons: H numbers of sessions. features: F names.
        slices: where to fit, to choose, and where training ends.
        half_life: sessions after which a row weighs half. seed: of every random choice.
        directory: where checkpoints and curves may be written; None = nowhere.
        progress: called with the share done, 0 to 1.
    """

    inputs: Inputs
    z: Float64
    relative_variance: Float64
    horizons: tuple[int, ...]
    features: tuple[str, ...]
    slices: Slices
    half_life: float
    seed: int
    directory: Path | None = None
    progress: Callable[[float], None] = field(default=lambda share: None)


@runtime_checkable
class Fitted(Protocol):
    """A fitted forecaster."""

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen inside training, for the record: JSON values."""
        ...

    def forecast(self, inputs: Inputs) -> Forecast:
        """(N, T, H) sigma and p_up, (N, T, H, 9) quantiles, in log returns over the horizon; NaN where vol is, or where
        the history is too short. At session t nothing later than t is read."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """A configuration that can be fitted."""

    def fit(self, training: Training) -> Fitted:
        """Fit on the training slice; the same training, configuration and thread count give the same bytes.

        Raises:
            FloatingPointError: the loss is not finite.
            ValueError: the training slice cannot support the model; the message says what is missing.
        """
        ...
