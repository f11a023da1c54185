"""Histogram gradient boosting in log-scale: trees on what the scale skip leaves of log|z|.

Trees see interactions that a line cannot; their number and their weight on top of the skip are chosen on validation,
so that noise leaves the skip as it was. Early stopping by random rows would see neighbours of the same session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from models.decode import Forecast, decode
from models.forecasters.calibration import check, mean_losses, recency, still_features, validation_losses
from models.forecasters.foundation import Foundation, choose_foundation, fit_foundation
from models.forecasters.interface import Float32, Inputs, Training
from models.forecasters.scale import Z_FLOOR

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BoostingConfig:
    """Attributes:
    alphas: ridge penalties of the skip, tried on validation. weights: of the trees on top of it.
    iterations: most trees; every `step`th number is tried on validation, jointly with the weight.
    leaves, leaf_rows, learning_rate, l2, bins: see scikit-learn's HistGradientBoostingRegressor.
    features: share of the features that a split may choose from.
    rows: most rows of a fit; of more, evenly spaced sessions are kept.
    """

    alphas: tuple[float, ...] = (300.0, 3000.0, 30000.0)
    weights: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    iterations: int = 150
    step: int = 10
    leaves: int = 8
    leaf_rows: int = 300
    learning_rate: float = 0.05
    l2: float = 10.0
    bins: int = 63
    features: float = 0.5
    rows: int = 150_000

    def fit(self, training: Training) -> FittedBoosting:
        """Fit on the training slice: see `Forecaster.fit`."""
        check(training)
        still = still_features(training)
        if len(still) == len(training.features):
            raise ValueError(f"all {len(still)} features are constant in training: there is nothing to learn from")
        first = choose_foundation(training, self.alphas)
        trees = self._trees(training, first, training.slices.fit_end, self.iterations)
        training.progress(0.5)
        iterations, weight = self._chosen(training, first, trees)
        end = training.slices.train_end
        foundation = fit_foundation(training, end, first.alpha)
        centre = np.zeros(len(training.horizons))
        final: list[HistGradientBoostingRegressor] = []
        if weight > 0:
            final = self._trees(training, foundation, end, iterations)
            known = np.isfinite(training.z).any(-1)
            centre = _predict(final, training.inputs.x[known]).mean(0)
        training.progress(1.0)
        choices = {
            "alpha": first.alpha,
            "iterations": iterations,
            "weight": weight,
            "constant_features": still,
        }
        return FittedBoosting(foundation, tuple(final), weight, centre, training.horizons, choices)

    def _trees(
        self, training: Training, foundation: Foundation, end: int, iterations: int
    ) -> list[HistGradientBoostingRegressor]:
        """One model a horizon, on the residual log|z| - skip of [0, end)."""
        recent, fitted = recency(training, end), []
        for h in range(len(training.horizons)):
            z = training.z[:, :end, h]
            known = np.isfinite(z)
            every = -(-int(known.sum()) // self.rows)
            known &= (np.arange(end) % every == (end - 1) % every)[None]
            x = training.inputs.x[:, :end][known]
            logs = np.log(np.maximum(np.abs(z[known]), Z_FLOOR))
            weight = np.broadcast_to(recent, known.shape)[known]
            model = HistGradientBoostingRegressor(
                learning_rate=self.learning_rate, max_iter=iterations, max_leaf_nodes=self.leaves,
                min_samples_leaf=min(self.leaf_rows, max(20, len(x) // 50)), l2_regularization=self.l2,
                max_bins=self.bins, max_features=self.features, early_stopping=False, random_state=training.seed,
            )  # fmt: skip
            fitted.append(model.fit(x, logs - foundation.skip.log_scale(x)[:, h], sample_weight=weight))
        return fitted

    def _chosen(
        self, training: Training, foundation: Foundation, trees: list[HistGradientBoostingRegressor]
    ) -> tuple[int, float]:
        """Number of trees and their weight with the least pinball on validation; the skip alone is the first tried."""
        start = training.slices.validation_start
        x = training.inputs.x[:, start:]
        skip = np.zeros((*training.z.shape[:2], len(training.horizons), 4))
        skip[:, start:] = foundation.outputs(x)
        stages = zip(*(model.staged_predict(x.reshape(-1, x.shape[2])) for model in trees), strict=True)
        tried: list[tuple[int, float]] = [(0, 0.0)] if 0.0 in self.weights else []
        losses = [validation_losses(training, skip, foundation.shape)] if tried else []
        for number, stage in enumerate(stages, 1):
            if number % self.step and number != self.iterations:
                continue
            added = np.stack(stage, axis=-1)
            added = (added - added.mean(0)).reshape(*x.shape[:2], -1)
            for weight in (each for each in self.weights if each > 0):
                y = skip.copy()
                y[:, start:, :, 1:3] += weight * added[..., None]
                tried.append((number, weight))
                losses.append(validation_losses(training, y, foundation.shape))
        return tried[int(np.argmin(mean_losses(np.array(losses))))]


@dataclass(frozen=True)
class FittedBoosting:
    """Trees on their skip; none where the skip forecasts alone. centre: (H,), what they add on average in training: the
    level belongs to the calibrated skip."""

    foundation: Foundation
    trees: tuple[HistGradientBoostingRegressor, ...]
    weight: float
    centre: Float64
    horizons: tuple[int, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`."""
        return decode(self.outputs(inputs), inputs.vol, self.horizons, self.foundation.shape, self.foundation.factor)

    def outputs(self, inputs: Inputs) -> Float64:
        """(N, T, H, 4): location, log-scales and logit in z units."""
        y = self.foundation.outputs(inputs.x).astype(np.float64)
        if self.trees:
            added = _predict(list(self.trees), inputs.x.reshape(-1, inputs.x.shape[2])) - self.centre
            y[..., 1:3] += self.weight * added.reshape(*inputs.x.shape[:2], -1, 1)
        return y


def _predict(trees: list[HistGradientBoostingRegressor], x: Float32) -> Float64:
    """(n, F) -> (n, H)."""
    return np.stack([model.predict(x) for model in trees], axis=-1)
