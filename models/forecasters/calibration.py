"""What a forecaster of scale alone needs around it: admission of its training slice, calibration, validation losses.

A scale forecaster says log s for every cell in z units; the residual shape of z / s in training turns that into
quantiles, the mean of v / s^2 into a sigma, and the share of rising targets is its p_up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES, Forecast, decode
from models.forecasters.conformal import residual_shape, sigma_factor
from models.forecasters.foundation import session_pinball
from models.forecasters.interface import Inputs, Training

Float64 = npt.NDArray[np.float64]

RETURN_CLIP = 0.5
"""Log returns beyond it count as much: the EWMA volatility clips alike."""


@dataclass(frozen=True)
class Calibration:
    """shape: (H, 9), factor: (H,): see `models.decode.decode`. up: (H,), logit of the share of rising targets."""

    shape: Float64
    factor: Float64
    up: Float64

    def outputs(self, log_scale: Float64) -> Float64:
        """(N, T, H) log-scale in z units -> (N, T, H, 4): location 0, log-scale twice, logit of p_up."""
        y = np.zeros((*log_scale.shape, 4))
        y[..., 1] = y[..., 2] = log_scale
        y[..., 3] = np.where(np.isfinite(log_scale), self.up, np.nan)
        return y

    def forecast(self, log_scale: Float64, inputs: Inputs, horizons: tuple[int, ...]) -> Forecast:
        """The distribution of every cell; NaN where the scale or the volatility is."""
        found = decode(self.outputs(log_scale), inputs.vol, horizons, self.shape, self.factor)
        return found._replace(p_up=np.where(np.isfinite(log_scale), found.p_up, np.nan))


def calibrate(training: Training, log_scale: Float64, end: int) -> Calibration:
    """From the cells of sessions [0, end) with a scale and a known target, weighted by recency.

    Args:
        log_scale: (N, T, H) in z units, NaN = no forecast; T at least `end`.

    Raises:
        ValueError: a horizon has no known target with a scale.
    """
    horizons = len(training.horizons)
    z = np.where(np.isfinite(log_scale[:, :end]), training.z[:, :end], np.nan).reshape(-1, horizons)
    scale = np.where(np.isfinite(log_scale[:, :end]), log_scale[:, :end], 0.0).reshape(-1, horizons)
    known = np.isfinite(z)
    for h, horizon in enumerate(training.horizons):
        if not known[:, h].any():
            raise ValueError(
                f"no known target of horizon {horizon} in the first {end} sessions; lengthen the training slice or"
                " leave the horizon out"
            )
    weight = np.tile(recency(training, end), log_scale.shape[0])
    variance = np.where(known, training.relative_variance[:, :end].reshape(-1, horizons), np.nan)
    rising = (known & (z > 0)).T @ weight / (known.T @ weight)
    rising = np.clip(rising, 0.01, 0.99)
    return Calibration(
        residual_shape(z, scale, weight), sigma_factor(variance, scale, weight), np.log(rising / (1 - rising))
    )


def recency(training: Training, end: int) -> Float64:
    """(end,) weight of a session: halved every half-life before `end`."""
    return np.asarray(0.5 ** (np.arange(end - 1, -1, -1) / training.half_life))


def validation_losses(training: Training, y: Float64, shape: Float64) -> Float64:
    """(V, H) pinball of outputs (N, T, H, 4) on the validation slice; NaN in a session without a known target."""
    held_out = slice(training.slices.validation_start, training.slices.train_end)
    return session_pinball(training.z[:, held_out], y[:, held_out], shape)


def mean_losses(losses: Float64) -> Float64:
    """(C, V, H) losses of C candidates -> (C,): over sessions, relative to the first candidate, horizons alike."""
    means = np.nanmean(losses, axis=1)
    return np.asarray((means / means[0]).mean(1))


def gain(before: Float64, after: Float64, block: int) -> tuple[float, float]:
    """Relative gain of (V, H) pinball, horizons counted alike, and its standard error over blocks of sessions."""
    by_session = ((before - after) / np.nanmean(before, axis=0)).mean(1)
    by_session = by_session[np.isfinite(by_session)]
    blocks = np.array([part.mean() for part in np.array_split(by_session, max(2, len(by_session) // block))])
    return float(by_session.mean()), float(blocks.std(ddof=1) / np.sqrt(len(blocks)))


def logit_above_zero(standardised: Float64, shape: Float64) -> Float64:
    """(N, T, H) logit of the chance that location + scale * residual is above zero, read off the residual shape.

    Args:
        standardised: (N, T, H), location over scale. shape: (H, 9).
    """
    found = np.empty(standardised.shape)
    for h in range(shape.shape[0]):
        below = np.interp(-standardised[..., h], shape[h], QUANTILES)
        found[..., h] = np.log1p(-below) - np.log(below)
    return found


def check(training: Training) -> None:
    """Refuse a training slice that no forecaster can use.

    Raises:
        ValueError: shapes disagree, a feature is not finite, or the fit or validation slice has no known target of a
            horizon.
    """
    inputs, slices = training.inputs, training.slices
    tickers, sessions, _ = inputs.x.shape
    if sessions != slices.train_end or training.z.shape != (tickers, sessions, len(training.horizons)):
        raise ValueError(
            f"x of shape {inputs.x.shape} and z of shape {training.z.shape} do not fit {slices.train_end} sessions"
            f" and {len(training.horizons)} horizons; hand in the training slice alone"
        )
    finite = np.isfinite(inputs.x).all((0, 1))
    if not finite.all():
        raise ValueError(
            f'feature "{training.features[int(np.argmin(finite))]}" is not finite in training; scale the panel'
            " and set what is missing to 0"
        )
    parts = {"fit": slice(0, slices.fit_end), "validation": slice(slices.validation_start, slices.train_end)}
    for name, part in parts.items():
        for h, horizon in enumerate(training.horizons):
            if not np.isfinite(training.z[:, part, h]).any():
                raise ValueError(
                    f"no known target of horizon {horizon} in the {name} slice of {part.stop - part.start} sessions;"
                    " lengthen it or leave the horizon out"
                )


def still_features(training: Training) -> list[str]:
    """Names of the features that are constant in training: nothing can be learnt from them."""
    x = training.inputs.x
    still = (x == x[:1, :1]).all((0, 1))
    return [name for name, constant in zip(training.features, still, strict=True) if constant]


def squared_returns(inputs: Inputs) -> Float64:
    """(N, T) squares of the clipped session returns, NaN where there is none."""
    return np.asarray(np.clip(inputs.returns, -RETURN_CLIP, RETURN_CLIP) ** 2)


def training_level(training: Training, end: int, least: int) -> tuple[Float64, int]:
    """(N,) mean squared return of sessions [0, end), the typical ticker's where there are fewer than `least`; and
    how many tickers that are.

    Raises:
        ValueError: no ticker has so many returns, or every return is zero.
    """
    squares = squared_returns(training.inputs)[:, :end]
    count = np.isfinite(squares).sum(1)
    if not (count >= least).any():
        raise ValueError(
            f"no ticker has {least} returns in the first {end} sessions, the most is {count.max(initial=0)}; take"
            " longer histories"
        )
    level = np.nansum(squares, axis=1) / np.maximum(count, 1)
    usable = (count >= least) & (level > 0)
    if not usable.any():
        raise ValueError("every return in training is zero: prices are constant; check the prices")
    return np.where(usable, level, np.median(level[usable])), int((~usable).sum())
