"""From a network to a forecaster: scale skip, body, and every choice inside the training slice.

    fit slice        skip for each alpha, a body for each location penalty by early stopping
    validation       chooses alpha, the epoch, the penalty and the body's weight on top of the skip
    whole training   skip again, body again for the chosen number of epochs, residual shape, sigma factor

With 0 among the weights the skip forecasts alone where no body helps on validation, so that a network is never worse
than its skip by choice.
A new network is one file: a configuration that inherits `NetworkConfig` and names its `Body`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.decode import Forecast, decode
from models.forecasters.admission import Admission, admit, ripe
from models.forecasters.body import Body
from models.forecasters.calibration import gain
from models.forecasters.fit import LOCATION_PENALTY, FitConfig, Supervision, body_outputs, fit
from models.forecasters.foundation import Foundation, choose_foundation, fit_foundation, session_pinball
from models.forecasters.interface import Inputs, Training

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

FREER = 2.0
"""Standard errors by which a weaker location penalty must win on validation: directions are mostly noise."""


@dataclass(frozen=True)
class NetworkConfig(ABC):
    """What every network forecaster is configured by; see `FitConfig` for the names that are its own.

    Attributes:
        alphas: ridge penalties of the skip, tried on validation.
        body_features: most features the body reads, those of largest skip weight; 0 = all.
        body_weights: of the body on top of the skip, tried on validation.
        location_penalties: of the squared location, hardest first, each trained; a weaker one must win by two
            standard errors, so that a location is only freed for a signal that shows.
    """

    alphas: tuple[float, ...] = (300.0, 3000.0, 30000.0)
    body_features: int = 0
    body_weights: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    location_penalties: tuple[float, ...] = (LOCATION_PENALTY, 0.003)
    epochs: int = 20
    patience: int = 5
    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    batch: int = 8
    chunk: int = 256
    device: str = "auto"
    mixed_precision: bool = True
    distributed: bool = False
    checkpoint_steps: int = 200

    @abstractmethod
    def network(self, features: int, horizons: tuple[int, ...]) -> Body:
        """A new body for so many features, with random first weights."""

    def fit(self, training: Training) -> FittedNetwork:
        """Fit on the training slice: see `Forecaster.fit`."""
        return _Fit(self, training).run()

    def training(self, seed: int, epochs: int, penalty: float) -> FitConfig:
        """The settings of one training loop."""
        return FitConfig(
            epochs, self.patience, self.learning_rate, self.weight_decay, seed, self.batch, self.chunk,
            location_penalty=penalty, device=self.device, mixed_precision=self.mixed_precision,
            distributed=self.distributed, checkpoint_steps=self.checkpoint_steps,
        )  # fmt: skip


@dataclass(frozen=True)
class FittedNetwork:
    """A body on its skip.

    Attributes:
        foundation: the skip and its calibration. body: None where the skip forecasts alone.
        body_at: positions of the features the body reads. weight: of the body on top of the skip.
        centre: (H, 4), the body's mean in training: it reorders scales, their level belongs to the calibrated skip.
        context: sessions without a forecast at the start of a history.
    """

    foundation: Foundation
    body: Body | None
    body_at: npt.NDArray[np.int64]
    weight: float
    centre: Float32
    context: int
    horizons: tuple[int, ...]
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        """See `Fitted.forecast`. The first `context` sessions are NaN; a ticker with fewer bars than that so far is
        forecast by the skip alone."""
        y = self.outputs(inputs)
        return decode(y, inputs.vol, self.horizons, self.foundation.shape, self.foundation.factor)

    def outputs(self, inputs: Inputs) -> Float32:
        """(N, T, H, 4) float32: location, log-scales and logit in z units, NaN at the first `context` sessions."""
        y = self.foundation.outputs(inputs.x)
        if self.body is not None and inputs.x.shape[1] > self.context:
            added = body_outputs(self.body, np.ascontiguousarray(inputs.x[:, :, self.body_at])) - self.centre
            y += np.float32(self.weight) * np.where(ripe(inputs.vol, self.context)[..., None, None], added, 0)
        y[:, : self.context] = np.nan
        return y


@dataclass(frozen=True)
class _Trial:
    """A body trained on the fit slice at one location penalty, with its best weight; losses (V, H) on validation."""

    penalty: float
    epochs: int
    weight: float
    losses: Float64


class _Fit:
    def __init__(self, config: NetworkConfig, training: Training) -> None:
        self.config, self.training, self.slices = config, training, training.slices
        torch.manual_seed(training.seed)
        self.context = config.network(1, training.horizons).context
        self.admission: Admission = admit(training, self.context)

    def run(self) -> FittedNetwork:
        first = choose_foundation(self.training, self.config.alphas)
        body_at = first.strongest(self.admission.moving, self.config.body_features)
        trial = self._chosen(first, body_at)
        foundation = fit_foundation(self.training, self.slices.train_end, first.alpha)
        body, centre = None, np.zeros((len(self.training.horizons), 4), np.float32)
        if trial.weight > 0:
            data = self._supervision(foundation, body_at)
            body, _ = self._train(data, slice(0, self.slices.train_end), None, trial.epochs, trial.penalty, "refit")
            centre = _centre(body, data)
        self.training.progress(1.0)
        choices = {
            "alpha": first.alpha,
            "epochs": trial.epochs if body else 0,
            "body_weight": trial.weight,
            "location_penalty": trial.penalty if body else None,
            "body_features": [self.training.features[at] for at in body_at],
            "constant_features": self.admission.constant,
            "short_tickers": int(self.admission.short.sum()),
        }
        return FittedNetwork(
            foundation, body, body_at, trial.weight, centre, self.context, self.training.horizons, choices
        )

    def _chosen(self, foundation: Foundation, body_at: npt.NDArray[np.int64]) -> _Trial:
        """The trial of the best penalty; a weaker one only where it clearly wins."""
        held_out = slice(self.slices.validation_start, self.slices.train_end)
        z = self.training.z[:, held_out]
        data = self._supervision(foundation, body_at)
        skip_losses = session_pinball(z, data.skip.numpy()[:, held_out], foundation.shape)
        best = _Trial(self.config.location_penalties[0], 0, 0.0, skip_losses)
        for number, penalty in enumerate(self.config.location_penalties):
            body, epochs = self._train(
                data, slice(0, self.slices.fit_end), held_out, self.config.epochs, penalty, f"choice-{number}"
            )
            added = body_outputs(body, data.x.numpy())[:, held_out]
            skip = data.skip.numpy()[:, held_out]
            tried = [
                _Trial(penalty, epochs, weight, session_pinball(z, skip + weight * added, foundation.shape))
                for weight in self.config.body_weights
                if weight > 0 and epochs
            ]
            for trial in sorted(tried, key=lambda each: gain(skip_losses, each.losses, 1)[0], reverse=True)[:1]:
                value, error = gain(best.losses, trial.losses, max(self.training.horizons))
                forced = number == 0 and 0.0 not in self.config.body_weights
                if forced or value > (FREER * error if number else 0.0):
                    best = trial
        return best

    def _train(
        self, data: Supervision, train: slice, validation: slice | None, epochs: int, penalty: float, name: str
    ) -> tuple[Body, int]:
        torch.manual_seed(self.training.seed)
        body = self.config.network(data.x.shape[2], self.training.horizons)
        loops = len(self.config.location_penalties) + 1
        done = int(name.removeprefix("choice-")) if validation is not None else loops - 1
        fitted = fit(
            body, data, train, validation, self.config.training(self.training.seed, epochs, penalty),
            lambda epoch: self.training.progress((done + epoch / epochs) / loops),
            self.training.directory, name,
        )  # fmt: skip
        return body, fitted.best_epoch

    def _supervision(self, foundation: Foundation, body_at: npt.NDArray[np.int64]) -> Supervision:
        inputs = self.training.inputs
        z = np.where(ripe(inputs.vol, self.context)[..., None], self.training.z, np.nan)
        return Supervision(
            torch.from_numpy(np.ascontiguousarray(inputs.x[:, :, body_at])),
            torch.from_numpy(foundation.outputs(inputs.x)),
            torch.from_numpy(z.astype(np.float32)),
            torch.from_numpy(foundation.shape.astype(np.float32)),
        )


def _centre(body: Body, data: Supervision) -> Float32:
    """(H, 4): mean of what the body adds where a target is known; the logit keeps its own."""
    known = torch.isfinite(data.z[:, body.context :]).any(-1).numpy()
    centre = body_outputs(body, data.x.numpy())[:, body.context :][known].mean(0, dtype=np.float64)
    centre[:, 3] = 0.0
    return np.asarray(centre, dtype=np.float32)
