"""One fit of the student: scale skip, body, and every choice inside the training slice.

    fit slice        skip for each alpha, what a teacher adds to it, body for each teacher's weight by early stopping
    validation       chooses alpha, how much of the skip's lesson to take, the teacher's weight in the body's loss, the
                     epoch and the body's weight from {0, .25, .5, 1}
    whole training   skip and lesson again, body again for the chosen number of epochs, residual shape, sigma factor

So the student is never worse than the skip by choice, and nothing after the training slice is read. With a teacher the
skip takes what is linear of its forecasts (taught_skip.py) and the body learns from them beside the labels
(models/compact/distill.py); what is chosen is judged on labels alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.compact.distill import Teacher, levelled, teacher_outputs
from models.compact.network import Network
from models.decode import Forecast
from models.forecasters.fit import FitConfig, Supervision, body_outputs, fit
from models.forecasters.foundation import Foundation, choose_foundation, fit_foundation, session_pinball
from models.forecasters.interface import Training
from models.forecasters.taught_skip import Lesson, choose_share, lesson, no_lesson
from models.forecasters.tcn import TCN, TCNConfig
from models.receptive_field import FIELD

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StudentConfig:
    """Everything that shapes a fit; the same config, data and thread count give the same bytes.

    body_weights: of the body on top of the skip; teacher_weights: of the match to the teacher, beside the labels of
    weight one, where there is a teacher. Both are tried on validation.
    """

    alphas: tuple[float, ...]
    half_life: float
    width: int
    body_features: int
    body_weights: tuple[float, ...]
    training: FitConfig
    teacher_weights: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class FittedStudent:
    """A fitted student and the skip under it, as networks, with their common calibration.

    shape: (H, 9), factor: (H,): see `models.decode.decode`. teacher_weight: 0 where its body learned from labels alone.
    taught_share: of what is linear in its teacher, in its skip; `skip_network` has nothing of it.
    """

    network: Network
    skip_network: Network
    shape: Float64
    factor: Float64
    alpha: float
    body_weight: float
    epochs: int
    teacher_weight: float = 0.0
    taught_share: float = 0.0

    @property
    def is_taught(self) -> bool:
        """Whether anything of it is a teacher's."""
        return self.teacher_weight > 0 or self.taught_share > 0

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen inside training, for the record: JSON values."""
        names = ("alpha", "body_weight", "epochs", "teacher_weight", "taught_share")
        return {name: getattr(self, name) for name in names}


def fit_student(training: Training, config: StudentConfig, teacher: Teacher | None = None) -> FittedStudent:
    """Fit on the training slice.

    Args:
        training: inputs and targets; its half-life and seed are those of `config`.
        config: sizes, candidates, seed.
        teacher: its forecasts of the training slice; None = labels alone.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: a horizon has no known target, or every feature is constant in training.
    """
    first = choose_foundation(training, config.alphas)
    body_at = _body_features(training, first, config.body_features)
    nothing = no_lesson(training.inputs.x.shape[2], len(training.horizons))
    early, first_lesson, share = None, nothing, 0.0
    if teacher is not None and any(config.teacher_weights):
        early = teacher.final if teacher.early is None else teacher.early
        first_lesson = lesson(training, first, early)
        share = choose_share(training, first, first_lesson, blind=teacher.early is None)
    trial = _chosen(training, first, body_at, config, early, first_lesson.scaled(share))
    final = fit_foundation(training, training.slices.train_end, first.alpha)
    last = None if early is None or teacher is None else teacher.final
    learnt = nothing if last is None else lesson(training, final, last).scaled(share)
    network = _network(final, learnt, None, body_at, 0.0, config.width)
    if trial.weight > 0:
        data = _supervision(training, final, body_at, last, learnt)
        body = _new_body(data, config)
        settings = replace(config.training, epochs=trial.epochs, teacher_weight=trial.teacher_weight)
        fit(body, data, slice(0, training.slices.train_end), None, settings)
        network = _network(final, learnt, body, body_at, trial.weight, config.width)
        network = _centred(network, body, data, trial.weight)
    return FittedStudent(
        network, _network(final, nothing, None, body_at, 0.0, config.width), final.shape, final.factor, first.alpha,
        trial.weight, trial.epochs, trial.teacher_weight, share,
    )  # fmt: skip


@dataclass(frozen=True)
class _Trial:
    """A body trained on the fit slice, at one weight; loss on validation, of the skip's, mean over horizons."""

    teacher_weight: float
    epochs: int
    weight: float
    loss: float


def _chosen(
    training: Training,
    foundation: Foundation,
    body_at: npt.NDArray[np.int64],
    config: StudentConfig,
    taught: Forecast | None,
    learnt: Lesson,
) -> _Trial:
    """The best on validation, the first of equals; the skip alone where no body is trained or none helps."""
    slices, best = training.slices, _Trial(0.0, 0, 0.0, 1.0)
    if not any(weight > 0 for weight in config.body_weights):
        return best
    held_out, z = slice(slices.validation_start, slices.train_end), training.z[:, : slices.train_end]
    data = _supervision(training, foundation, body_at, taught, learnt)
    skipped = data.skip.numpy()[:, held_out]
    reference = np.nanmean(session_pinball(z[:, held_out], skipped, foundation.shape), axis=0)
    tried = []
    for teacher_weight in (0.0,) if taught is None else config.teacher_weights:
        body, settings = _new_body(data, config), replace(config.training, teacher_weight=teacher_weight)
        epochs = fit(body, data, slice(0, slices.fit_end), held_out, settings).best_epoch
        added = body_outputs(body, data.x.numpy())[:, held_out]
        for weight in config.body_weights if epochs else ():
            losses = session_pinball(z[:, held_out], skipped + weight * added, foundation.shape)
            loss = float((np.nanmean(losses, axis=0) / reference).mean())
            tried.append(_Trial(teacher_weight if weight else 0.0, epochs if weight else 0, weight, loss))
    return min(tried, key=lambda trial: trial.loss, default=best)


def _new_body(data: Supervision, config: StudentConfig) -> TCN:
    torch.manual_seed(config.training.seed)
    return TCN(TCNConfig(data.x.shape[2], config.width, data.z.shape[2]))


def _supervision(
    training: Training,
    foundation: Foundation,
    body_at: npt.NDArray[np.int64],
    taught: Forecast | None,
    learnt: Lesson,
) -> Supervision:
    """Of the training slice, on a skip with what it learnt; where `taught` ends before it, the rest has no teacher."""
    end = training.slices.train_end
    x, z = training.inputs.x[:, :end], training.z[:, :end]
    skip, teacher = foundation.outputs(x), None
    if taught is not None:
        held = taught.sigma.shape[1]
        y = teacher_outputs(taught, training.inputs.vol[:, :held], training.horizons, foundation.shape)
        teacher = torch.full((*z.shape, 4), torch.nan)
        teacher[:, :held] = torch.from_numpy(levelled(y, skip[:, :held]).astype(np.float32))
    return Supervision(
        torch.from_numpy(np.ascontiguousarray(x[..., body_at])),
        torch.from_numpy(skip + learnt.outputs(x)),
        torch.from_numpy(z.astype(np.float32)),
        torch.from_numpy(foundation.shape.astype(np.float32)),
        teacher,
    )


def _body_features(training: Training, foundation: Foundation, most: int) -> npt.NDArray[np.int64]:
    """The features the convolution reads, of those that move in training: what never moved has random weights in a
    body, which a later value would meet."""
    x = training.inputs.x[:, : training.slices.train_end]
    moving = np.flatnonzero((x != x[:1, :1]).any((0, 1)))
    if not len(moving):
        raise ValueError(f"all {x.shape[2]} features are constant in training: there is nothing to learn from")
    return foundation.strongest(moving, most)


def _network(
    foundation: Foundation, learnt: Lesson, body: TCN | None, body_at: npt.NDArray[np.int64], weight: float, width: int
) -> Network:
    skip_weight, skip_bias = (own + more for own, more in zip(foundation.skip.outputs(), learnt, strict=True))
    outputs = len(skip_bias)
    if body is None:
        sizes = ((width, len(body_at), 4), (width, width, 4), (width, width, 4))
        convolutions = tuple(np.zeros(size, dtype=np.float32) for size in sizes)
        biases = tuple(np.zeros(width, dtype=np.float32) for _ in sizes)
        head, head_bias = np.zeros((width, outputs), np.float32), np.zeros(outputs, np.float32)
    else:
        state = {name: value.numpy() for name, value in body.state_dict().items()}
        convolutions = tuple(state[f"convolutions.{i}.weight"].copy() for i in range(3))
        biases = tuple(state[f"convolutions.{i}.bias"].copy() for i in range(3))
        head = np.ascontiguousarray(weight * state["head.weight"].T).astype(np.float32)
        head_bias = (weight * state["head.bias"]).astype(np.float32)
    return Network(
        conv_weight=convolutions,
        conv_bias=biases,
        head_weight=head,
        head_bias=head_bias,
        skip_weight=skip_weight,
        skip_bias=skip_bias,
        body_features=body_at,
    )


def _centred(network: Network, body: TCN, data: Supervision, weight: float) -> Network:
    """The body reorders scales; their average level belongs to the calibrated skip, so its mean is taken out."""
    added = body_outputs(body, data.x.numpy())[:, FIELD - 1 :]  # (N, S, H, 4)
    known = torch.isfinite(data.z[:, FIELD - 1 :]).any(-1).numpy()
    mean = added[known].mean(0)  # (H, 4)
    mean[:, 3] = 0.0
    return replace(network, head_bias=(network.head_bias - weight * mean.ravel()).astype(np.float32))
