"""The causal convolution of teacher size: residual, dilated, wider and longer than the student it may teach.

WaveNet (van den Oord et al. 2016, section 2.1) with the pre-normalised residual blocks of Bai et al. 2018. No
padding: a block drops the sessions whose window it cannot fill, so that every output has read a whole field.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.forecasters.body import Body, Head
from models.forecasters.network_forecaster import NetworkConfig


@dataclass(frozen=True)
class ConvolutionConfig(NetworkConfig):
    """The convolution as a forecaster: channels, kernel, a dilation for each block, dropout.

    Its field is 1 + (kernel - 1) * sum(dilations) sessions: 127 by default.
    """

    learning_rate: float = 3e-4
    width: int = 64
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    dropout: float = 0.2

    def network(self, features: int, horizons: tuple[int, ...]) -> Convolution:
        """A new body for so many features, with random first weights."""
        return Convolution(features, self.width, self.kernel, self.dilations, self.dropout, len(horizons))


class Convolution(Body):
    """(B, T, F) -> (B, T - context, H, 4)."""

    def __init__(
        self, features: int, width: int, kernel: int, dilations: tuple[int, ...], dropout: float, horizons: int
    ) -> None:
        super().__init__()
        self.context = (kernel - 1) * sum(dilations)
        self.embed = nn.Linear(features, width)
        self.blocks = nn.ModuleList(Block(width, kernel, dilation, dropout) for dilation in dilations)
        self.norm = nn.LayerNorm(width)
        self.head = Head(width, horizons)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs at t read sessions t - context to t only."""
        hidden = self.embed(x)  # (B, T, C)
        for block in self.blocks:
            hidden = block(hidden)
        out: Tensor = self.head(self.norm(hidden))
        return out


class Block(nn.Module):
    """(B, T, C) -> (B, T - (kernel - 1) * dilation, C): what came in, plus a gated convolution of it."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.lost = (kernel - 1) * dilation
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, 2 * width, kernel, dilation=dilation)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise, convolve, gate, mix the channels, add."""
        convolved = self.convolution(self.norm(hidden).transpose(1, 2)).transpose(1, 2)  # (B, T', 2C)
        value, gate = convolved.chunk(2, dim=-1)
        out: Tensor = hidden[:, self.lost :] + self.drop(self.out(value * torch.sigmoid(gate)))
        return out
