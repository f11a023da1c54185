"""One fit of the student: scale skip, body, and every choice inside the training slice.

    fit slice        skip for each alpha, body by early stopping
    validation       chooses alpha, the epoch and the body's weight from {0, .25, .5, 1}
    whole training   skip again, body again for the chosen number of epochs, residual shape, sigma factor

So the student is never worse than the skip by choice, and nothing after the training slice is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from models.compact.network import Network
from models.decode import QUANTILES
from models.forecasters.conformal import residual_shape, sigma_factor
from models.forecasters.fit import FitConfig, Supervision, body_outputs, fit
from models.forecasters.scale import ScaleSkip, fit_scale_skip
from models.forecasters.tcn import FIELD, TCN, TCNConfig

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

PRIMARY = tuple(QUANTILES.index(q) for q in (0.10, 0.50, 0.90))


@dataclass(frozen=True)
class StudentConfig:
    """Everything that shapes a fit; the same config, data and thread count give the same bytes."""

    alphas: tuple[float, ...]
    half_life: float
    width: int
    body_features: int
    body_weights: tuple[float, ...]
    training: FitConfig


@dataclass(frozen=True)
class Slices:
    """Half-open positions on the axis of sessions: fit [0, fit_end), validation [validation_start, train_end)."""

    fit_end: int
    validation_start: int
    train_end: int


@dataclass(frozen=True)
class FittedStudent:
    """A fitted student and the skip under it, as networks, with their common calibration.

    shape: (H, 9), factor: (H,): see `models.decode.decode`.
    """

    network: Network
    skip_network: Network
    shape: Float64
    factor: Float64
    alpha: float
    body_weight: float
    epochs: int


def fit_student(
    x: Float32, z: Float64, relative_variance: Float64, slices: Slices, config: StudentConfig
) -> FittedStudent:
    """Fit on the training slice.

    Args:
        x: (N, T, F) scaled, finite. z: (N, T, H) targets, NaN = not known or not observed.
        relative_variance: (N, T, H) realised variance over squared volatility, NaN where z is.
        slices: where to fit, to validate, and where training ends.
        config: sizes, candidates, seed.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: a horizon has no known target, or every feature is constant in training.
    """
    alpha, skip, shape = _choose_alpha(x, z, slices, config)
    body_at = _body_features(skip, x[:, : slices.train_end], config.body_features)
    has_body = any(weight > 0 for weight in config.body_weights)
    epochs, weight = _fit_body(x, z, skip, shape, body_at, slices, config) if has_body else (0, 0.0)
    final_skip, shape, rows = _skip_and_shape(x, z, slices.train_end, alpha, config.half_life)
    factor = sigma_factor(
        relative_variance[:, : slices.train_end].reshape(-1, z.shape[2]), final_skip.log_scale(rows.x), rows.weight
    )
    skip_network = _network(final_skip, None, body_at, 0.0, config.width)
    network = skip_network
    if weight > 0:
        data = _supervision(x, z, final_skip, shape, body_at, slices.train_end)
        torch.manual_seed(config.training.seed)
        body = TCN(TCNConfig(len(body_at), config.width, z.shape[2]))
        fit(body, data, slice(0, slices.train_end), None, replace(config.training, epochs=epochs))
        network = _network(final_skip, body, body_at, weight, config.width)
        network = _centred(network, body, data, weight)
    return FittedStudent(network, skip_network, shape, factor, alpha, weight, epochs)


@dataclass(frozen=True)
class _Rows:
    x: Float32
    z: Float64
    weight: Float64
    age: Float64


def _rows(x: Float32, z: Float64, end: int, half_life: float) -> _Rows:
    """Flat rows of [0, end): cells without any known target weigh nothing but keep their place."""
    n_tickers, _, horizons = z.shape
    age = np.tile(np.arange(end - 1, -1, -1, dtype=np.float64), n_tickers)
    known = np.isfinite(z[:, :end]).any(-1).ravel()
    return _Rows(
        x[:, :end].reshape(-1, x.shape[2]), z[:, :end].reshape(-1, horizons), known * 0.5 ** (age / half_life), age
    )


def _skip_and_shape(
    x: Float32, z: Float64, end: int, alpha: float, half_life: float
) -> tuple[ScaleSkip, Float64, _Rows]:
    rows = _rows(x, z, end, half_life)
    known = rows.weight > 0
    skip = fit_scale_skip(rows.x[known], rows.z[known], rows.age[known], alpha, half_life)
    shape = residual_shape(rows.z[known], skip.log_scale(rows.x[known]), rows.weight[known])
    return skip, shape, rows


def _choose_alpha(x: Float32, z: Float64, slices: Slices, config: StudentConfig) -> tuple[float, ScaleSkip, Float64]:
    held_out = slice(slices.validation_start, slices.train_end)
    tried = []
    for alpha in config.alphas:
        skip, shape, _ = _skip_and_shape(x, z, slices.fit_end, alpha, config.half_life)
        scale = np.exp(skip.log_scale(x[:, held_out]))
        tried.append((alpha, skip, shape, _pinball(z[:, held_out], scale[..., None] * shape)))
    losses = np.array([value for *_, value in tried])  # (A, H)
    best = int(np.argmin((losses / losses[0]).mean(1)))
    return tried[best][:3]


def _fit_body(
    x: Float32,
    z: Float64,
    skip: ScaleSkip,
    shape: Float64,
    body_at: npt.NDArray[np.int64],
    slices: Slices,
    config: StudentConfig,
) -> tuple[int, float]:
    held_out = slice(slices.validation_start, slices.train_end)
    data = _supervision(x, z, skip, shape, body_at, slices.train_end)
    torch.manual_seed(config.training.seed)
    body = TCN(TCNConfig(len(body_at), config.width, z.shape[2]))
    fitted = fit(body, data, slice(0, slices.fit_end), held_out, config.training)
    if fitted.best_epoch == 0:
        return 0, 0.0
    added = body_outputs(body, data.x.numpy())[:, held_out]
    skipped = data.skip.numpy()[:, held_out]
    losses = []
    for weight in config.body_weights:
        y = skipped + weight * added  # (N, V, H, 4)
        scale = np.exp(np.where(shape < 0, y[..., 1:2], y[..., 2:3]))
        losses.append(_pinball(z[:, held_out], y[..., 0:1] + scale * shape))
    best = int(np.argmin((np.array(losses) / losses[0]).mean(1)))
    return fitted.best_epoch, config.body_weights[best]


def _supervision(
    x: Float32, z: Float64, skip: ScaleSkip, shape: Float64, body_at: npt.NDArray[np.int64], end: int
) -> Supervision:
    weight, bias = skip.outputs()
    outputs = (x[:, :end] @ weight + bias).reshape(x.shape[0], end, -1, 4)
    return Supervision(
        torch.from_numpy(np.ascontiguousarray(x[:, :end, body_at])),
        torch.from_numpy(outputs),
        torch.from_numpy(z[:, :end].astype(np.float32)),
        torch.from_numpy(shape.astype(np.float32)),
    )


def _body_features(skip: ScaleSkip, x: Float32, most: int) -> npt.NDArray[np.int64]:
    """The features the convolution reads: those with the largest skip weights summed over horizons, of those that move
    in training. What never moved has random weights in a body, which a later value would meet."""
    moving = np.flatnonzero((x != x[:1, :1]).any((0, 1)))
    if not len(moving):
        raise ValueError(f"all {x.shape[2]} features are constant in training: there is nothing to learn from")
    strength = np.abs(skip.weight).sum(1)[moving]
    chosen = moving[np.argsort(-strength, kind="stable")[:most]]
    return np.sort(chosen).astype(np.int64)


def _network(skip: ScaleSkip, body: TCN | None, body_at: npt.NDArray[np.int64], weight: float, width: int) -> Network:
    skip_weight, skip_bias = skip.outputs()
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


def _pinball(z: Float64, quantiles: Float64) -> Float64:
    """(N, V, H) against (N, V, H, 9) -> (H,): mean pinball loss over q10, q50, q90 where z is known."""
    losses = []
    for at in PRIMARY:
        error = z - quantiles[..., at]
        losses.append(np.nanmean(np.maximum(QUANTILES[at] * error, (QUANTILES[at] - 1) * error), axis=(0, 1)))
    return np.asarray(np.mean(losses, axis=0))
