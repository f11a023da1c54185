"""Elastic net on log|z|, and a ridge location on top where validation clearly asks for one.

The scale skip is the ridge; here an absolute penalty may leave features out (Zou and Hastie 2005). The p_up is the
skip's logistic, or follows from the location where one is freed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path

from models.decode import Forecast, decode
from models.forecasters.calibration import (
    check,
    gain,
    logit_above_zero,
    mean_losses,
    recency,
    still_features,
    validation_losses,
)
from models.forecasters.conformal import residual_shape, sigma_factor
from models.forecasters.interface import Float32, Inputs, Training
from models.forecasters.scale import Z_FLOOR, ScaleSkip, fit_scale_skip

Float64 = npt.NDArray[np.float64]

FREER = 2.0
"""Standard errors by which a location must win on validation: directions are mostly noise."""


@dataclass(frozen=True)
class RegressionConfig:
    """Attributes:
    l1_shares: of the penalty that is absolute; penalties: over the smallest one that leaves nothing, descending. Every
        pair is tried on validation.
    location_penalties: of the location's ridge over the rows, hardest first; (): none is tried.
    """

    l1_shares: tuple[float, ...] = (0.1, 0.5, 0.9)
    penalties: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    location_penalties: tuple[float, ...] = (10.0, 1.0, 0.1)

    def fit(self, training: Training) -> FittedRegression:
        """Fit on the training slice: see `Forecaster.fit`."""
        check(training)
        return _Fit(self, training).run()


@dataclass(frozen=True)
class FittedRegression:
    """skip: log-scale and logit, linear in x. location: (F, H) in z units, not used where `directed` is False.
    shape: (H, 9), factor: (H,)."""

    skip: ScaleSkip
    location: Float64
    shape: Float64
    factor: Float64
    directed: bool
    horizons: tuple[int, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`."""
        return decode(self.outputs(inputs), inputs.vol, self.horizons, self.shape, self.factor)

    def outputs(self, inputs: Inputs) -> Float64:
        """(N, T, H, 4): location, log-scales and logit in z units."""
        weight, bias = self.skip.outputs()
        y = (inputs.x @ weight + bias).reshape(*inputs.x.shape[:2], -1, 4).astype(np.float64)
        if self.directed:
            y[..., 0] = inputs.x @ self.location
            y[..., 3] = logit_above_zero(y[..., 0] / np.exp(y[..., 1]), self.shape)
        return y


class _Fit:
    def __init__(self, config: RegressionConfig, training: Training) -> None:
        self.config, self.training, self.slices = config, training, training.slices
        self.still = still_features(training)
        if len(self.still) == len(training.features):
            raise ValueError(f"all {len(self.still)} features are constant in training: there is nothing to learn from")

    def run(self) -> FittedRegression:
        first, l1_share, penalty = self._chosen_scale()
        self.training.progress(0.4)
        location_penalty = self._chosen_location(first)
        end = self.slices.train_end
        fitted = self._calibrated(self._scales(end, l1_share, (penalty,))[0], end, location_penalty)
        self.training.progress(1.0)
        weight = fitted.skip.weight
        choices = {
            "l1_share": l1_share,
            "penalty": penalty,
            "location_penalty": location_penalty,
            "features_used": [int(count) for count in (weight != 0).sum(0)],
            "constant_features": self.still,
        }
        return replace(fitted, choices=choices)

    def _chosen_scale(self) -> tuple[FittedRegression, float, float]:
        tried = []
        for l1_share in self.config.l1_shares:
            skips = self._scales(self.slices.fit_end, l1_share, self.config.penalties)
            for penalty, skip in zip(self.config.penalties, skips, strict=True):
                tried.append((self._calibrated(skip, self.slices.fit_end, None), l1_share, penalty))
        losses = [self._losses(each) for each, *_ in tried]
        return tried[int(np.argmin(mean_losses(np.array(losses))))]

    def _chosen_location(self, first: FittedRegression) -> float | None:
        """The penalty of the best location; each one must clearly win over the best so far."""
        best, chosen = self._losses(first), None
        for penalty in self.config.location_penalties:
            losses = self._losses(self._calibrated(first.skip, self.slices.fit_end, penalty))
            value, error = gain(best, losses, max(self.training.horizons))
            if value > FREER * error:
                best, chosen = losses, penalty
        return chosen

    def _losses(self, fitted: FittedRegression) -> Float64:
        return validation_losses(self.training, fitted.outputs(self.training.inputs), fitted.shape)

    def _rows(self, end: int) -> tuple[Float32, Float64, Float64]:
        """Rows with a known target in [0, end): x, z and weights."""
        z = self.training.z[:, :end]
        known = np.isfinite(z).any(-1)
        weight = np.broadcast_to(recency(self.training, end), known.shape)[known]
        return self.training.inputs.x[:, :end][known], z[known], weight

    def _scales(self, end: int, l1_share: float, penalties: tuple[float, ...]) -> list[ScaleSkip]:
        """One skip a penalty; its logistic is the scale skip's."""
        x, z, weight = self._rows(end)
        age = -np.log2(weight) * self.training.half_life
        base = fit_scale_skip(x, z, age, alpha=1.0, half_life=self.training.half_life)
        weights, biases = np.empty((len(penalties), *base.weight.shape)), np.empty((len(penalties), len(base.bias)))
        for h in range(z.shape[1]):
            known = np.isfinite(z[:, h])
            logs = np.log(np.maximum(np.abs(z[known, h]), Z_FLOOR))
            weights[:, :, h], biases[:, h] = _elastic_nets(x[known], logs, weight[known], l1_share, penalties)
        return [replace(base, weight=w, bias=b) for w, b in zip(weights, biases, strict=True)]

    def _calibrated(self, skip: ScaleSkip, end: int, location_penalty: float | None) -> FittedRegression:
        x, z, weight = self._rows(end)
        log_scale, location = skip.log_scale(x), np.zeros_like(skip.weight)
        if location_penalty is not None:
            location = _locations(x, z, np.exp(log_scale), weight, location_penalty)
        shape = residual_shape(z - x @ location, log_scale, weight)
        variance = self.training.relative_variance[:, :end][np.isfinite(self.training.z[:, :end]).any(-1)]
        factor = sigma_factor(variance, log_scale, weight)
        return FittedRegression(skip, location, shape, factor, location_penalty is not None, self.training.horizons, {})


def _elastic_nets(
    x: Float32, y: Float64, weight: Float64, l1_share: float, penalties: tuple[float, ...]
) -> tuple[Float64, Float64]:
    """(P, F) weights and (P,) constants by coordinate descent on the weighted Gram matrix."""
    share = weight / weight.sum()
    mean, level = share @ x, float(share @ y)
    root = np.sqrt(share * len(y))[:, None]
    rows, target = np.asfortranarray((x - mean) * root), (y - level) * root[:, 0]
    gram, cross = rows.T @ rows, rows.T @ target
    largest = np.abs(cross).max() / len(y) / l1_share
    strengths = largest * np.asarray(penalties)
    # The path must descend; the penalties may be handed in in any order.
    order = np.argsort(-strengths, kind="stable")
    with warnings.catch_warnings():
        # A path that stops early is a weaker fit, and validation judges it as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, found, _ = enet_path(
            rows, target, l1_ratio=l1_share, alphas=strengths[order], precompute=gram, Xy=cross, max_iter=5000, tol=1e-5
        )
    weights = np.empty((len(strengths), x.shape[1]))
    weights[order] = found.T
    return weights, level - weights @ mean


def _locations(x: Float32, z: Float64, scale: Float64, weight: Float64, penalty: float) -> Float64:
    """(F, H) ridge of z, rows weighted by recency over squared scale; no constant: the shape holds it."""
    found = np.zeros((x.shape[1], z.shape[1]))
    for h in range(z.shape[1]):
        known = np.isfinite(z[:, h])
        rows, w = x[known].astype(np.float64), weight[known] / scale[known, h] ** 2
        mean, level = w @ rows / w.sum(), float(w @ z[known, h] / w.sum())
        centred = rows - mean
        gram = centred.T @ (centred * w[:, None])
        gram[np.diag_indices_from(gram)] += penalty * w.sum()
        found[:, h] = np.linalg.solve(gram, centred.T @ (w * (z[known, h] - level)))
    return found
