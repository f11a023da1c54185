"""The LSTM in panel mode: one pass over a sequence of sessions supervises every session after the warm-up.

Hochreiter and Schmidhuber 1997, with the forget gate open at the start (Jozefowicz et al. 2015, section 3.1) so that
a memory of weeks is there to be trained at small learning rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.forecasters.body import Body, Head
from models.forecasters.network_forecaster import NetworkConfig

State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class LSTMConfig(NetworkConfig):
    """The LSTM as a forecaster: width of the state, layers, dropout, sessions that warm the state up."""

    learning_rate: float = 4e-4
    width: int = 48
    layers: int = 1
    dropout: float = 0.2
    warm_up: int = 63

    def network(self, features: int, horizons: tuple[int, ...]) -> LSTM:
        """A new body for so many features, with random first weights."""
        return LSTM(features, self.width, self.layers, self.dropout, self.warm_up, len(horizons))


class LSTM(Body):
    """(B, T, F) -> (B, T - warm_up, H, 4), from a zero state at the first session."""

    def __init__(self, features: int, width: int, layers: int, dropout: float, warm_up: int, horizons: int) -> None:
        super().__init__()
        self.context = warm_up
        self.recurrent = recurrent(features, width, layers, dropout)
        self.drop = nn.Dropout(dropout)
        self.head = Head(width, horizons)

    def forward(self, x: Tensor) -> Tensor:
        """The state of session t has read sessions up to t."""
        hidden, _ = self.recurrent(x)
        return self.outputs(hidden[:, self.context :])

    def resume(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Go on from a state: (B, T, F) -> outputs of all T sessions and the state after them."""
        hidden, state = self.recurrent(x, state)
        return self.outputs(hidden), state

    def outputs(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, H, 4)."""
        out: Tensor = self.head(self.drop(hidden))
        return out


def recurrent(features: int, width: int, layers: int, dropout: float) -> nn.LSTM:
    """Layers of LSTM, batch first, forget gates open, recurrent weights orthogonal."""
    made = nn.LSTM(features, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
    with torch.no_grad():
        for layer in range(layers):
            gates = getattr(made, f"weight_hh_l{layer}").view(4, width, width)  # input, forget, cell, output
            for gate in gates:
                nn.init.orthogonal_(gate)
            getattr(made, f"bias_ih_l{layer}").zero_()
            bias = getattr(made, f"bias_hh_l{layer}").zero_()
            bias[width : 2 * width] = 1.0
    return made
