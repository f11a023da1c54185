"""Quantization-aware training of the student's body, for networks that cannot be quantized as they are.

Rounding is put into the forward pass and left out of the backward pass (the straight-through estimator; Jacob et al.
2018, arXiv 1712.05877, section 3). Channels out of proportion, which leave the others no resolution, are brought into
proportion before. What is taught is the float network's own outputs, each in units of its variance: the loss is one
less the centred R2 that equality is judged by. No label is read. Ranges stay where calibration put them: trained, they
closed in on the training data and saturated after it (on the sample, two of five folds lost by it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.compact.integer import QuantizedNetwork
from models.compact.network import Network, hidden_layers
from models.compact.quantize import TOP, Ranges, assemble, input_range, output_scale
from models.receptive_field import DILATIONS, FIELD

Float32 = npt.NDArray[np.float32]

TINY = 1e-12
"""The scale of a channel of zeros."""
LEAST_VARIANCE = 1e-8
"""An output that hardly moves is not blown up: its error counts in units of this."""

UNREAD = 1e-6
"""A channel whose readers are below this share of the largest counts as read with that much."""


@dataclass(frozen=True)
class QATConfig:
    """How to train: steps of `batch` sequences with `chunk` outputs each, peak learning rate, seed."""

    steps: int = 400
    batch: int = 16
    chunk: int = 64
    learning_rate: float = 3e-5
    seed: int = 7


def train_quantized(
    network: Network, calibration: Float32, ranges: Ranges = "minmax", config: QATConfig | None = None
) -> QuantizedNetwork:
    """Train with rounding in the loop, then quantize what was found.

    Args:
        network: the float student. calibration: (N, T, F) scaled, finite training features, T at least 64.
        ranges: where the range of each hidden layer ends. config: how to train; the same gives the same bytes.

    Raises:
        ValueError: fewer than 64 calibration sessions.
    """
    if calibration.shape[1] < FIELD:
        raise ValueError(f"int8 training needs at least {FIELD} calibration sessions, got {calibration.shape[1]}")
    config = config or QATConfig()
    begin = equalized(network, calibration)
    hidden = hidden_layers(begin, calibration)
    scales = [output_scale(each, ranges) for each in hidden]
    body = FakeQuantBody(begin, scales)
    total = network.forward_panel(calibration)  # (N, T - 63, H, 4)
    wanted = hidden[-1] @ begin.head_weight  # (N, T - 63, H * 4)
    unit = np.maximum(total.reshape(-1, wanted.shape[-1]).var(0), LEAST_VARIANCE)
    _train(body, calibration[..., network.body_features], wanted, unit, config)
    found = replace(
        network,
        conv_weight=tuple(_array(weight) for weight in body.weights),
        conv_bias=tuple(_array(bias) for bias in body.biases),
        head_weight=_array(body.head.weight.T),
    )
    return assemble(found, scales, calibration, network)


def equalized(network: Network, calibration: Float32) -> Network:
    """The same function with its hidden channels in proportion: each is divided by a factor that brings its largest
    activation and the largest weight that reads it to one height, and those weights are multiplied by it; ReLU lets
    positive factors through (Nagel et al. 2019, arXiv 1906.04721, section 4.1, with activations on the one side).

    Args:
        network: any. calibration: (N, T, F) scaled, finite training features.
    """
    weights, biases, head = list(network.conv_weight), list(network.conv_bias), network.head_weight
    for i, hidden in enumerate(hidden_layers(network, calibration)):
        reader = np.abs(weights[i + 1]).max((0, 2)) if i + 1 < len(weights) else np.abs(head).max(1)  # (C,)
        largest = hidden.max((0, 1))
        moving = largest > 0
        if not moving.any() or not reader.any():
            continue
        factor = np.sqrt(largest / np.maximum(reader, UNREAD * reader.max()))
        factor = np.where(moving, factor / np.median(factor[moving]), 1).astype(np.float32)
        weights[i], biases[i] = weights[i] / factor[:, None, None], biases[i] / factor
        if i + 1 < len(weights):
            weights[i + 1] = weights[i + 1] * factor[:, None]
        else:
            head = head * factor[:, None]
    return replace(network, conv_weight=tuple(weights), conv_bias=tuple(biases), head_weight=head)


class FakeQuantBody(nn.Module):
    """(B, T, Fb) -> (B, T - 63, H * 4): the body with the rounding of its integer twin, straight through.

    Args:
        network: where its weights begin. scales: of the hidden layers' outputs.
    """

    def __init__(self, network: Network, scales: list[np.float32]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.tensor(each) for each in network.conv_weight)
        self.biases = nn.ParameterList(torch.tensor(each) for each in network.conv_bias)
        self.head = nn.Linear(*network.head_weight.shape)
        self.head.weight.data = torch.tensor(network.head_weight.T.copy())
        nn.init.zeros_(self.head.bias)
        self.scales = [float(scale) for scale in scales]

    def forward(self, x: Tensor) -> Tensor:
        """x is scaled float32."""
        scale, zero_point = (float(each) for each in input_range())
        hidden = fake_quantized(x.transpose(1, 2), torch.tensor(scale), -zero_point, TOP - zero_point)
        for weight, bias, end, dilation in zip(self.weights, self.biases, self.scales, DILATIONS, strict=True):
            weight_scale = weight.detach().abs().amax((1, 2)).clamp(min=TINY) / 127
            weight = fake_quantized(weight, weight_scale[:, None, None], -127, 127)
            bias = fake_quantized(bias, scale * weight_scale, -(2.0**30), 2.0**30)
            total = nn.functional.conv1d(hidden, weight, bias, dilation=dilation)
            hidden, scale = fake_quantized(total, torch.tensor(end), 0, TOP), end
        return torch.as_tensor(self.head(hidden.transpose(1, 2)))


def fake_quantized(value: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
    """`value` on the grid of whole multiples of `scale`, from `low` to `high` of them.

    The gradient passes rounding as if it were not there, and stops at saturation.
    """
    steps = (value / scale).clamp(low, high)
    return (steps + (steps.round() - steps).detach()) * scale


def _train(body: FakeQuantBody, x: Float32, wanted: Float32, unit: Float32, config: QATConfig) -> None:
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(body.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    inputs, targets, weight = torch.tensor(x), torch.tensor(wanted), torch.tensor(1 / unit, dtype=torch.float32)
    chunk = min(config.chunk, wanted.shape[1])
    for _ in range(config.steps):
        tickers = generator.integers(0, len(x), config.batch)
        starts = generator.integers(0, wanted.shape[1] - chunk + 1, config.batch)
        pairs = list(zip(tickers.tolist(), starts.tolist(), strict=True))
        given = torch.stack([inputs[n, s : s + chunk + FIELD - 1] for n, s in pairs])
        expected = torch.stack([targets[n, s : s + chunk] for n, s in pairs])
        optimizer.zero_grad(set_to_none=True)
        error = body(given) - expected
        # A constant difference is what the head's refit takes out.
        loss = ((error - error.mean((0, 1))) ** 2 * weight).mean()
        loss.backward()
        optimizer.step()
        schedule.step()


def _array(tensor: Tensor) -> Float32:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
