"""Sequence to sequence: an LSTM reads the sessions, a second one writes the horizons, nearest first.

Sutskever et al. 2014, in panel mode: from the state of every session after the warm-up the decoder is unrolled over
all horizons at once, and what is far ahead is built on what is near. It pays where there are many horizons; with one
it is an LSTM with a deeper head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.forecasters.body import Body, Head
from models.forecasters.lstm import recurrent
from models.forecasters.network_forecaster import NetworkConfig


@dataclass(frozen=True)
class Seq2SeqConfig(NetworkConfig):
    """Encoder and decoder as a forecaster: their widths, dropout, sessions that warm the state up."""

    learning_rate: float = 4e-4
    width: int = 48
    decoder_width: int = 24
    dropout: float = 0.2
    warm_up: int = 63

    def network(self, features: int, horizons: tuple[int, ...]) -> Seq2Seq:
        """A new body for so many features, with random first weights."""
        return Seq2Seq(features, self.width, self.decoder_width, self.dropout, self.warm_up, horizons)


class Seq2Seq(Body):
    """(B, T, F) -> (B, T - warm_up, H, 4). horizons: ascending numbers of sessions ahead."""

    def __init__(
        self, features: int, width: int, decoder_width: int, dropout: float, warm_up: int, horizons: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.context = warm_up
        self.encoder = recurrent(features, width, 1, 0.0)
        self.drop = nn.Dropout(dropout)
        self.start = nn.Linear(width, 2 * decoder_width)
        self.decoder = recurrent(1, decoder_width, 1, 0.0)
        self.head = Head(decoder_width, 1)
        self.register_buffer("ahead", torch.log(torch.tensor(horizons, dtype=torch.float32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The decoder of session t starts from the encoder's state at t, and reads only how far each horizon is."""
        hidden = self.drop(self.encoder(x)[0][:, self.context :])  # (B, S, C)
        batch, sessions, _ = hidden.shape
        state = torch.tanh(self.start(hidden)).reshape(1, batch * sessions, -1)
        first, cell = (part.contiguous() for part in state.chunk(2, dim=-1))
        ahead = self.get_buffer("ahead").view(1, -1, 1).expand(batch * sessions, -1, 1)
        decoded, _ = self.decoder(ahead, (first, cell))  # (B * S, H, D)
        out: Tensor = self.head(decoded)  # (B * S, H, 1, 4)
        return out.reshape(batch, sessions, -1, 4)
