"""Histogram gradient boosting: trees on what the scale skip leaves of log|z|, and a location of trees where
validation clearly asks for one.

Trees see interactions that a line cannot; their number and their weight are chosen on validation, so that noise leaves
the skip as it was. Early stopping by random rows would see neighbours of the same session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from models.decode import Forecast, decode
from models.forecasters.calibration import (
    check,
    gain,
    logit_above_zero,
    mean_losses,
    recency,
    still_features,
)
from models.forecasters.conformal import residual_shape
from models.forecasters.foundation import Foundation, choose_foundation, fit_foundation, session_pinball
from models.forecasters.interface import Float32, Inputs, Training
from models.forecasters.scale import Z_FLOOR

Float64 = npt.NDArray[np.float64]
Choice = tuple[int, float]
"""Number of trees, and their weight."""

CLEARLY = 3.0
"""Standard errors by which a location must win on validation: the best of dozens wins by luck more often than one."""


@dataclass(frozen=True)
class BoostingConfig:
    """Attributes:
    alphas: ridge penalties of the skip, tried on validation. weights: of the trees on top of it.
    location_weights: of the trees of the location, tried on validation; the best must win by three standard errors.
        (): no location is tried.
    iterations: most trees; every `step`th number is tried on validation, jointly with the weight.
    leaves, leaf_rows, learning_rate, l2, bins: see scikit-learn's HistGradientBoostingRegressor.
    features: share of the features that a split may choose from.
    rows: most rows of a fit; of more, evenly spaced sessions are kept.
    """

    alphas: tuple[float, ...] = (300.0, 3000.0, 30000.0)
    weights: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    location_weights: tuple[float, ...] = (0.25, 0.5, 1.0)
    iterations: int = 200
    step: int = 10
    leaves: int = 16
    leaf_rows: int = 1000
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
        return _Fit(self, training).run(still)


class Bins(NamedTuple):
    """Where trees may split: edges of each feature, ascending. The bin of a value is the number of edges below it.

    Trees see bins alone: scikit-learn would look for edges anew in every fit, by weighted percentiles, which takes
    longer than the trees do.
    """

    edges: tuple[Float32, ...]

    @classmethod
    def of(cls, x: Float32, most: int) -> Bins:
        """(n, F) rows of training: between all values of a feature where they are few, else at even shares of rows."""
        edges = []
        for column in x.T:
            values, counts = np.unique(column, return_counts=True)
            if len(values) > most:
                upto = np.cumsum(counts)
                edges.append(np.unique(values[np.searchsorted(upto, upto[-1] * np.arange(1, most) / most)]))
            else:
                edges.append((values[:-1] + values[1:]) / 2)
        return cls(tuple(edges))

    def __call__(self, x: Float32) -> Float32:
        """(..., F) -> (..., F) bins from 0."""
        out = np.empty_like(x)
        for at, edges in enumerate(self.edges):
            out[..., at] = np.searchsorted(edges, x[..., at])
        return out


@dataclass(frozen=True)
class Trees:
    """One model a horizon, none where nothing is added. centre: (H,), what they predict on average in training: levels
    belong to the calibrated skip."""

    models: tuple[HistGradientBoostingRegressor, ...]
    weight: float
    centre: Float64

    def added(self, x: Float32) -> Float64 | float:
        """(N, T, F) bins -> (N, T, H), 0 where there are none."""
        if not self.models:
            return 0.0
        found = np.stack([model.predict(x.reshape(-1, x.shape[2])) for model in self.models], axis=-1)
        return np.asarray(self.weight * (found - self.centre).reshape(*x.shape[:2], -1))


@dataclass(frozen=True)
class FittedBoosting:
    """Trees on their skip; none where the skip forecasts alone. location: in z units, mostly none."""

    foundation: Foundation
    bins: Bins
    scale: Trees
    location: Trees
    horizons: tuple[int, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`."""
        return decode(self.outputs(inputs), inputs.vol, self.horizons, self.foundation.shape, self.foundation.factor)

    def outputs(self, inputs: Inputs) -> Float64:
        """(N, T, H, 4): location, log-scales and logit in z units."""
        y = self.foundation.outputs(inputs.x).astype(np.float64)
        if self.scale.models or self.location.models:
            x = self.bins(inputs.x)
        if self.scale.models:
            y[..., 1:3] += np.asarray(self.scale.added(x))[..., None]
        if self.location.models:
            y[..., 0] = self.location.added(x)
            y[..., 3] = logit_above_zero(y[..., 0] / np.exp(y[..., 1]), self.foundation.shape)
        return y


class _Fit:
    def __init__(self, config: BoostingConfig, training: Training) -> None:
        self.config, self.training, self.slices = config, training, training.slices
        self.known = np.isfinite(training.z)
        self.held_out = slice(training.slices.validation_start, training.slices.train_end)
        end = training.slices.fit_end
        self.bins = Bins.of(training.inputs.x[:, :end][self.known[:, :end].any(-1)], config.bins)
        self.x = self.bins(training.inputs.x)

    def run(self, still: list[str]) -> FittedBoosting:
        first = choose_foundation(self.training, self.config.alphas)
        (iterations, weight), scaled = self._chosen_scale(first)
        self.training.progress(0.4)
        location_iterations, location_weight = self._chosen_location(first, scaled)
        self.training.progress(0.6)
        end = self.slices.train_end
        foundation = fit_foundation(self.training, end, first.alpha)
        scale = self._centred(self._scale_trees(foundation, end, iterations), weight)
        location = self._centred(self._location_trees(foundation, end, location_iterations), location_weight)
        if location.models:
            foundation = replace(foundation, shape=self._shape(foundation, location))
        self.training.progress(1.0)
        choices = {
            "alpha": first.alpha,
            "iterations": iterations,
            "weight": weight,
            "location_iterations": location_iterations,
            "location_weight": location_weight,
            "constant_features": still,
        }
        return FittedBoosting(foundation, self.bins, scale, location, self.training.horizons, choices)

    def _chosen_scale(self, foundation: Foundation) -> tuple[Choice, Float64]:
        """Number of trees and their weight with the least pinball on validation, and the outputs with them."""
        trees = self._scale_trees(foundation, self.slices.fit_end, self.config.iterations)
        skip = foundation.outputs(self.training.inputs.x[:, self.held_out]).astype(np.float64)
        tried = self._tried(trees, self.config.weights, skip, slice(1, 3))
        choice, y, _, _ = self._best(tried, foundation.shape)
        return choice, y

    def _chosen_location(self, foundation: Foundation, scaled: Float64) -> Choice:
        """Number of trees and their weight with the least pinball on validation; (0, 0) unless it clearly wins."""
        if not self.config.location_weights:
            return 0, 0.0
        trees = self._location_trees(foundation, self.slices.fit_end, self.config.iterations)
        tried = self._tried(trees, (0.0, *self.config.location_weights), scaled, slice(0, 1))
        choice, _, before, after = self._best(tried, foundation.shape)
        value, error = gain(before, after, max(self.training.horizons))
        return choice if value > CLEARLY * error else (0, 0.0)

    def _best(
        self, tried: Iterator[tuple[Choice, Float64]], shape: Float64
    ) -> tuple[Choice, Float64, Float64, Float64]:
        """The choice of least pinball with its outputs, the losses (V, H) of the first tried and its own."""
        z = self.training.z[:, self.held_out]
        choice, y = next(tried)
        first = least = session_pinball(z, y, shape)
        for other, outputs in tried:
            losses = session_pinball(z, outputs, shape)
            best, found = mean_losses(np.stack([first, least, losses]))[1:]
            if found < best:
                choice, y, least = other, outputs, losses
        return choice, y, first, least

    def _tried(
        self, trees: list[HistGradientBoostingRegressor], weights: tuple[float, ...], y: Float64, to: slice
    ) -> Iterator[tuple[Choice, Float64]]:
        """Outputs (N, V, H, 4) on validation: every `step`th number of trees at every weight, added to `y[..., to]`;
        without trees first, where 0 is a weight. What trees add is centred: levels belong to the skip."""
        if 0.0 in weights:
            yield (0, 0.0), y
        x = self.x[:, self.held_out]
        rows = x.reshape(-1, x.shape[2])
        for number, stage in enumerate(zip(*(each.staged_predict(rows) for each in trees), strict=True), 1):
            if number % self.config.step and number != self.config.iterations:
                continue
            added = np.stack(stage, axis=-1)
            added = (added - added.mean(0)).reshape(*x.shape[:2], -1, 1)
            for weight in (each for each in weights if each > 0):
                outputs = y.copy()
                outputs[..., to] += weight * added
                yield (number, weight), outputs

    def _scale_trees(self, foundation: Foundation, end: int, iterations: int) -> list[HistGradientBoostingRegressor]:
        """On the residual log|z| - skip of [0, end)."""
        z = self.training.z[:, :end]
        logs = np.log(np.maximum(np.abs(np.where(self.known[:, :end], z, 1.0)), Z_FLOOR))
        return self._trees(logs - foundation.skip.log_scale(self.training.inputs.x[:, :end]), 1.0, iterations)

    def _location_trees(self, foundation: Foundation, end: int, iterations: int) -> list[HistGradientBoostingRegressor]:
        """On z of [0, end), rows weighted by one over the squared scale of the skip."""
        log_scale = foundation.skip.log_scale(self.training.inputs.x[:, :end])
        return self._trees(self.training.z[:, :end], np.exp(-2 * log_scale), iterations)

    def _trees(
        self, target: Float64, precision: Float64 | float, iterations: int
    ) -> list[HistGradientBoostingRegressor]:
        """One model a horizon on (N, end, H) targets; rows weighted by recency and precision."""
        config, end, fitted = self.config, target.shape[1], []
        weights = np.broadcast_to(recency(self.training, end)[:, None] * precision, target.shape)
        for h in range(target.shape[2] if iterations else 0):
            known = self.known[:, :end, h].copy()
            every = -(-int(known.sum()) // config.rows)
            known &= (np.arange(end) % every == (end - 1) % every)[None]
            x = self.x[:, :end][known]
            model = HistGradientBoostingRegressor(
                learning_rate=config.learning_rate, max_iter=iterations, max_leaf_nodes=config.leaves,
                min_samples_leaf=min(config.leaf_rows, max(20, len(x) // 50)), l2_regularization=config.l2,
                max_bins=config.bins, max_features=config.features, early_stopping=False,
                random_state=self.training.seed,
            )  # fmt: skip
            fitted.append(model.fit(x, target[..., h][known], sample_weight=weights[..., h][known]))
        return fitted

    def _centred(self, models: list[HistGradientBoostingRegressor], weight: float) -> Trees:
        x = self.x[self.known.any(-1)]
        return Trees(tuple(models), weight, np.array([model.predict(x).mean() for model in models]))

    def _shape(self, foundation: Foundation, location: Trees) -> Float64:
        """The residual shape around the location."""
        x, z, held = self.training.inputs.x, self.training.z, self.known.any(-1)
        weight = np.broadcast_to(recency(self.training, z.shape[1]), held.shape)[held]
        return residual_shape((z - location.added(self.x))[held], foundation.skip.log_scale(x[held]), weight)
