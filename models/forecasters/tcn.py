"""The student: three causal convolutions whose field is exactly 64 sessions.

WaveNet's dilated causal convolution (van den Oord et al. 2016, section 2.1) with kernel 4 and dilations 1, 4, 16:
without overlap inside one field, so that a single window is three matrix products and a panel three dilated
convolutions of the same weights. No padding: the first output belongs to the 64th session.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.forecasters.body import Body
from models.receptive_field import DILATIONS, FIELD, KERNEL


@dataclass(frozen=True)
class TCNConfig:
    """Sizes of the student: body features in, channels (of all three convolutions, or of each), horizons out."""

    body_features: int
    width: int | tuple[int, int, int]
    horizons: int


class TCN(Body):
    """(B, T, Fb) -> (B, T - 63, H, 4): what the body adds to the skip's location, log-scales and logit.

    The head starts at zero: an untrained student is the skip.
    """

    context = FIELD - 1

    def __init__(self, config: TCNConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.width,) * len(DILATIONS) if isinstance(config.width, int) else config.width
        channels = (config.body_features, *widths)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels[i], channels[i + 1], KERNEL, dilation=d) for i, d in enumerate(DILATIONS)
        )
        self.head = nn.Linear(channels[-1], config.horizons * 4)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.horizons = config.horizons

    def forward(self, x: Tensor) -> Tensor:
        """Outputs at t read sessions t - 63 to t only."""
        hidden = x.transpose(1, 2)  # (B, Fb, T)
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden))  # (B, C, T - ...)
        y = self.head(hidden.transpose(1, 2))  # (B, T - 63, H * 4)
        return torch.unflatten(y, -1, (self.horizons, 4))
