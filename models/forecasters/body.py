"""What every network on top of the scale skip is: a causal map from features to what is added to the skip."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Body(nn.Module, ABC):
    """(B, T, F) -> (B, T - context, H, 4): added to the skip's location, log-scale down and up, logit of p_up.

    The output of session t reads no session after t. `context` sessions have no output: they fill the window, or warm
    the state, of the first one that has. The head starts at zero: an untrained body adds nothing.
    """

    context: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the sessions from `context` on."""


class Head(nn.Linear):
    """(..., C) -> (..., H, 4), zero at the start."""

    def __init__(self, width: int, horizons: int) -> None:
        super().__init__(width, horizons * 4)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.horizons = horizons

    def forward(self, hidden: Tensor) -> Tensor:
        """One location, two log-scales and a logit for each horizon."""
        return torch.unflatten(super().forward(hidden), -1, (self.horizons, 4))
