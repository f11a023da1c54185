"""Structured pruning: whole channels leave the student's convolutions, and what is left is trained again.

What a channel is worth is the first-order change of the loss if it were silent, |mean of activation x gradient| in each
training sequence, averaged over sequences (Molchanov et al. 2017, arXiv 1611.06440, section 2.2). Channels leave in
fours, the number of u8 x s8 products that one lane of a CPU's int8 instruction adds up: at every step, of all layers'
weakest four those that cost least for each multiply-add saved. What a removed channel gave on average goes into the
biases that read it.

What is left is trained again on the labels and, four times as hard, to say what the whole body says.

A path of such steps, cut at wanted shares of the multiply-adds, is a curve of size against skill. It is measured on
validation, which neither the bodies on it nor their skip have seen; the same cut is then made on the body of the whole
training slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.compact.network import Network
from models.forecasters.fit import FitConfig, Supervision, body_outputs, fit, loss_terms
from models.forecasters.foundation import session_pinball
from models.forecasters.tcn import TCN, TCNConfig
from models.receptive_field import FIELD, KERNEL

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Widths = tuple[int, int, int]

LANE = 4
TAUGHT = 4.0
"""Weight of the match to the whole body, beside the labels of weight one. On validation of the sample it lost less than
0 and 1 did, at every size in four of five years."""
_POSITIONS = (FIELD // KERNEL, FIELD // KERNEL**2, FIELD // KERNEL**3)
_LAYERS = ("convolutions.0", "convolutions.1", "convolutions.2", "head")
_BIAS_AND_SCALE = 8
"""Bytes of a channel's s32 bias and float32 scale."""


@dataclass(frozen=True)
class PruneConfig:
    """How to prune.

    Attributes:
        shares: of the multiply-adds, tried besides all of them.
        max_macs: most multiply-adds of a window; 0 = no bound. It is tried too, where it binds.
        tolerance: percent of validation pinball, mean over horizons, that the choice may be worse than the best one
            within `max_macs`; of those the smallest is taken.
        epochs: of training again, 0 = not. training: how.
    """

    shares: tuple[float, ...]
    max_macs: int
    tolerance: float
    epochs: int
    training: FitConfig


@dataclass(frozen=True)
class Point:
    """One size on the curve.

    Attributes:
        widths: channels of the three convolutions. window_macs, panel_macs: multiply-adds of the body for one window,
            and for one more session of a panel. weight_bytes: of the body in integers and the float head.
        pinball: (H,) on validation, mean of q10, q50, q90. loss_percent: mean over horizons against the whole body.
    """

    widths: Widths
    window_macs: int
    panel_macs: int
    weight_bytes: int
    pinball: Float64
    loss_percent: float


def window_macs(inputs: int, widths: Sequence[int]) -> int:
    """Multiply-adds of the body for one window of 64 sessions."""
    pairs = zip(_POSITIONS, (inputs, *widths[:-1]), widths, strict=True)
    return sum(positions * KERNEL * c_in * c_out for positions, c_in, c_out in pairs)


def panel_macs(inputs: int, widths: Sequence[int]) -> int:
    """Multiply-adds of the body for one more session of a panel: its weights."""
    return sum(KERNEL * c_in * c_out for c_in, c_out in zip((inputs, *widths[:-1]), widths, strict=True))


def weight_bytes(inputs: int, widths: Sequence[int], horizons: int) -> int:
    """Bytes of the integer convolutions and the float head."""
    return panel_macs(inputs, widths) + _BIAS_AND_SCALE * sum(widths) + 4 * (widths[-1] + 1) * horizons * 4


def size_curve(
    body: TCN, data: Supervision, fit_end: int, validation: slice, weight: float, config: PruneConfig
) -> list[Point]:
    """The whole body and its cuts, largest first, measured on validation.

    Args:
        body: trained on sessions [0, fit_end); not changed.
        data: of the fit and validation slices; its skip and shape were fitted on [0, fit_end) too.
        fit_end, validation: where to train again, and where to measure.
        weight: of the body on top of the skip.
        config: what to try, and how to train.
    """
    path = _path(body, data, slice(0, fit_end), config.training)
    whole = _measured(body, data, fit_end, validation, weight)
    inputs, horizons = body.config.body_features, body.horizons
    points = []
    for widths in _tried(path, inputs, config):
        small = path.cut(body, widths)
        if widths == path.widths[0]:
            losses = whole
        else:
            _train_again(small, body, data, fit_end, config)
            losses = _measured(small, data, fit_end, validation, weight)
        change = 100 * float((losses / whole - 1).mean())
        points.append(
            Point(
                widths,
                window_macs(inputs, widths),
                panel_macs(inputs, widths),
                weight_bytes(inputs, widths, horizons),
                losses,
                change,
            )
        )
    return points


def choose(points: Sequence[Point], config: PruneConfig) -> Point:
    """The smallest point within the budget that is at most `tolerance` worse than the best within it.

    Raises:
        ValueError: no point is within the budget.
    """
    within = [point for point in points if not config.max_macs or point.window_macs <= config.max_macs]
    if not within:
        least = min(point.window_macs for point in points)
        raise ValueError(
            f"the smallest body has {least:,} multiply-adds a window, more than {config.max_macs:,}; raise max_macs"
        )
    best = min(point.loss_percent for point in within)
    return min((p for p in within if p.loss_percent <= best + config.tolerance), key=lambda p: p.window_macs)


def prune(body: TCN, data: Supervision, widths: Widths, config: PruneConfig) -> TCN:
    """Cut a body to `widths` and train what is left on all sessions of `data`.

    Args:
        body: trained on those sessions; not changed.
        widths: may be none that `size_curve` saw: layers are cut to them by the worth of channels here.
    """
    end = data.x.shape[1]
    small = _path(body, data, slice(0, end), config.training).cut(body, widths)
    _train_again(small, body, data, end, config)
    return small


def body_of(network: Network, weight: float) -> TCN:
    """The network's body before its weight on top of the skip was multiplied in."""
    widths = tuple(len(bias) for bias in network.conv_bias)
    config = TCNConfig(len(network.body_features), (widths[0], widths[1], widths[2]), len(network.head_bias) // 4)
    body = TCN(config)
    state = {"head.weight": network.head_weight.T / weight, "head.bias": network.head_bias / weight}
    for i, (kernel, bias) in enumerate(zip(network.conv_weight, network.conv_bias, strict=True)):
        state |= {f"convolutions.{i}.weight": kernel, f"convolutions.{i}.bias": bias}
    body.load_state_dict({name: torch.tensor(np.ascontiguousarray(value)) for name, value in state.items()})
    return body


def with_body(network: Network, body: TCN, data: Supervision, weight: float) -> Network:
    """The network with another body, whose mean addition to location and scales over known cells is taken out.

    As of the student itself: the average level belongs to the calibrated skip.
    """
    state = {name: value.numpy() for name, value in body.state_dict().items()}
    mean = _mean_addition(body, data)
    return replace(
        network,
        conv_weight=tuple(state[f"convolutions.{i}.weight"].copy() for i in range(len(network.conv_weight))),
        conv_bias=tuple(state[f"convolutions.{i}.bias"].copy() for i in range(len(network.conv_bias))),
        head_weight=np.ascontiguousarray(weight * state["head.weight"].T, dtype=np.float32),
        head_bias=(weight * (state["head.bias"] - mean.ravel())).astype(np.float32),
    )


@dataclass(frozen=True)
class _Path:
    """Channels by worth, and the widths of each step.

    orders: for each layer, its channels from the most to the least worth. means: (C,) mean activations of each.
    widths: of each step, the whole body first.
    """

    orders: tuple[npt.NDArray[np.int64], ...]
    means: tuple[Tensor, ...]
    widths: tuple[Widths, ...]

    def cut(self, body: TCN, widths: Widths) -> TCN:
        """A new body of the best channels of each layer, in their old order."""
        kept = [torch.tensor(np.sort(order[:width])) for order, width in zip(self.orders, widths, strict=True)]
        rows = [*kept, slice(None)]  # of a layer, and of the head
        held = body.state_dict()
        state: dict[str, Tensor] = {}
        for i, name in enumerate(_LAYERS):
            weight, bias = held[f"{name}.weight"], held[f"{name}.bias"]
            if i:
                gone = torch.tensor(np.sort(self.orders[i - 1][widths[i - 1] :]))
                over_taps = weight[:, gone].flatten(2).sum(-1) if weight.dim() == 3 else weight[:, gone]
                bias = bias + over_taps @ self.means[i - 1][gone]
                weight = weight[:, kept[i - 1]]
            state |= {f"{name}.weight": weight[rows[i]].clone(), f"{name}.bias": bias[rows[i]].clone()}
        small = TCN(replace(body.config, width=widths))
        small.load_state_dict(state)
        return small


def _path(body: TCN, data: Supervision, sessions: slice, config: FitConfig) -> _Path:
    worth, means = _worth(body, data, sessions, config)
    orders = tuple(np.argsort(-each, kind="stable") for each in worth)
    inputs, widths = body.config.body_features, [len(each) for each in worth]
    steps = [(widths[0], widths[1], widths[2])]
    while any(width > LANE for width in widths):
        costs = []
        for i, width in enumerate(widths):
            smaller = [*widths[:i], _fewer(width), *widths[i + 1 :]]
            saved = window_macs(inputs, widths) - window_macs(inputs, smaller)
            lost = float(worth[i][orders[i][smaller[i] : width]].sum())
            costs.append(lost / saved if saved else np.inf)
        at = int(np.argmin(costs))
        widths[at] = _fewer(widths[at])
        steps.append((widths[0], widths[1], widths[2]))
    return _Path(orders, means, tuple(steps))


def _fewer(width: int) -> int:
    """The next smaller multiple of the lane; the last lane stays."""
    return max(min(LANE, width), (width - 1) // LANE * LANE)


def _worth(
    body: TCN, data: Supervision, sessions: slice, config: FitConfig
) -> tuple[tuple[Float64, ...], tuple[Tensor, ...]]:
    """By layer, (C,) worth and (C,) mean activation of each channel over the training sequences."""
    body.eval()
    starts = range(sessions.start + body.context, sessions.stop, config.chunk)
    worth: list[list[Tensor]] = []
    means: list[list[Tensor]] = []
    for start in starts:
        stop = min(start + config.chunk, sessions.stop)
        with torch.enable_grad():
            hidden, known = _with_gradients(body, data, slice(start, stop), config)
        if known:
            moved = [(h.detach() * h.grad).sum(-1).abs() / known for h in hidden if h.grad is not None]  # (N, C)
            worth.append([each.mean(0) for each in moved])
            means.append([h.detach().mean((0, 2)) for h in hidden])
        body.zero_grad(set_to_none=True)
    by_layer = range(len(body.convolutions))
    return (
        tuple(torch.stack([each[i] for each in worth]).mean(0).double().numpy() for i in by_layer),
        tuple(torch.stack([each[i] for each in means]).mean(0) for i in by_layer),
    )


def _with_gradients(body: TCN, data: Supervision, sessions: slice, config: FitConfig) -> tuple[list[Tensor], int]:
    """One pass over all tickers: hidden (N, C, S) with their gradients, the number of known targets."""
    hidden: list[Tensor] = []
    value = data.x[:, sessions.start - body.context : sessions.stop].transpose(1, 2)
    for convolution in body.convolutions:
        value = torch.relu(convolution(value))
        value.retain_grad()
        hidden.append(value)
    added = torch.unflatten(body.head(value.transpose(1, 2)), -1, (body.horizons, 4))
    total, known = loss_terms(added, data.skip[:, sessions], data.z[:, sessions], data.shape, config.location_penalty)
    if known:
        total.backward()  # type: ignore[no-untyped-call]
    return hidden, int(known)


def _tried(path: _Path, inputs: int, config: PruneConfig) -> list[Widths]:
    """The whole body, then the first step of the path within each bound."""
    whole = window_macs(inputs, path.widths[0])
    bounds = [share * whole for share in config.shares] + ([config.max_macs] if config.max_macs else [])
    found = [path.widths[0]]
    for bound in bounds:
        within = (widths for widths in path.widths if window_macs(inputs, widths) <= bound)
        found.append(next(within, path.widths[-1]))
    return sorted(set(found), key=lambda widths: -window_macs(inputs, widths))


def _train_again(small: TCN, whole: TCN, data: Supervision, end: int, config: PruneConfig) -> None:
    """On the labels, and on what the whole body says, which also knows what its own teacher taught it."""
    if not config.epochs:
        return
    teacher = data.skip + torch.from_numpy(body_outputs(whole, data.x.numpy()))
    settings = replace(config.training, epochs=config.epochs, teacher_weight=TAUGHT)
    fit(small, replace(data, teacher=teacher), slice(0, end), None, settings)


def _measured(body: TCN, data: Supervision, fit_end: int, validation: slice, weight: float) -> Float64:
    """(H,) mean pinball over validation of skip and body, the body's mean over the fit slice taken out."""
    seen = Supervision(data.x[:, :fit_end], data.skip[:, :fit_end], data.z[:, :fit_end], data.shape)
    added = body_outputs(body, data.x.numpy())[:, validation] - _mean_addition(body, seen)
    y = data.skip[:, validation].numpy() + weight * added
    losses = session_pinball(data.z[:, validation].double().numpy(), y, data.shape.double().numpy())
    return np.asarray(np.nanmean(losses, axis=0))


def _mean_addition(body: TCN, data: Supervision) -> Float32:
    """(H, 4): mean of what the body adds over known cells, none for the logit."""
    added = body_outputs(body, data.x.numpy())[:, body.context :]
    known = torch.isfinite(data.z[:, body.context :]).any(-1).numpy()
    mean = np.asarray(added[known].mean(0), dtype=np.float32)
    mean[:, 3] = 0.0
    return mean
