"""The causal Transformer with a sliding window: each session attends to itself and the `window - 1` before it.

Vaswani et al. 2017, pre-normalised (Xiong et al. 2020), rotary positions (Su et al. 2021), the window of Beltagy et
al. 2020. Attention runs block by block: the queries of `window` sessions against the keys of their own block and of
the one before, so that cost grows with the sessions and not with their square.

Positions are counted inside the two blocks, so a pass over a chunk that starts at a multiple of `window` repeats the
arithmetic of the whole pass, and its outputs after `context` sessions equal the whole pass's bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.forecasters.body import Body, Head
from models.forecasters.network_forecaster import NetworkConfig


@dataclass(frozen=True)
class TransformerConfig(NetworkConfig):
    """The Transformer as a forecaster: width, heads (width / heads even), layers, window of sessions, dropout.

    Its field is 1 + layers * (window - 1) sessions: 63 by default.
    """

    learning_rate: float = 1e-4
    width: int = 64
    heads: int = 4
    layers: int = 2
    window: int = 32
    dropout: float = 0.2

    def network(self, features: int, horizons: tuple[int, ...]) -> Transformer:
        """A new body for so many features, with random first weights."""
        return Transformer(features, self.width, self.heads, self.layers, self.window, self.dropout, len(horizons))


class Transformer(Body):
    """(B, T, F) -> (B, T - context, H, 4), context = layers * (window - 1)."""

    def __init__(
        self, features: int, width: int, heads: int, layers: int, window: int, dropout: float, horizons: int
    ) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} over {heads} heads is not an even number: rotary positions turn pairs")
        self.context = layers * (window - 1)
        self.embed = nn.Linear(features, width)
        self.blocks = nn.ModuleList(Block(width, heads, window, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = Head(width, horizons)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs at t read sessions t - context to t only."""
        hidden = self.embed(x)  # (B, T, C)
        for block in self.blocks:
            hidden = block(hidden)
        out: Tensor = self.head(self.norm(hidden[:, self.context :]))
        return out


class Block(nn.Module):
    """(B, T, C) -> (B, T, C): attention, then two dense layers, each added to what came in."""

    def __init__(self, width: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.dense_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, window)
        self.dense = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise before each part, not after."""
        hidden = hidden + self.drop(self.attention(self.attention_norm(hidden)))
        out: Tensor = hidden + self.drop(self.dense(self.dense_norm(hidden)))
        return out


class Attention(nn.Module):
    """(B, T, C) -> (B, T, C): sliding causal attention, block by block."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        size = width // heads
        angle = torch.arange(2 * window)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)  # (2W, size / 2)
        lag = torch.arange(window, 2 * window)[:, None] - torch.arange(2 * window)
        self.register_buffer("cosine", angle.cos(), persistent=False)
        self.register_buffer("sine", angle.sin(), persistent=False)
        self.register_buffer("within", (lag >= 0) & (lag < window), persistent=False)  # (W, 2W)

    def forward(self, hidden: Tensor) -> Tensor:
        """Blocks of `window` queries; the last one is filled up with sessions nobody reads."""
        batch, sessions, width = hidden.shape
        window, blocks = self.window, -(-sessions // self.window)
        qkv = nn.functional.pad(
            self.qkv(hidden), (0, 0, window, blocks * window - sessions)
        )  # a block before the first
        qkv = qkv.view(batch, blocks + 1, window, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.unbind(0)  # (B, 1 + blocks, heads, W, size)
        q = self._turned(q[:, 1:], window)
        k = self._turned(torch.cat([k[:, :-1], k[:, 1:]], dim=-2), 0)  # (B, blocks, heads, 2W, size)
        v = torch.cat([v[:, :-1], v[:, 1:]], dim=-2)
        within = self.get_buffer("within").expand(blocks, 1, -1, -1).clone()  # (blocks, 1, W, 2W)
        within[0, :, :, :window] = False  # there is nothing before the first session
        read = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=within)
        out: Tensor = self.out(read.transpose(2, 3).reshape(batch, blocks * window, width)[:, :sessions])
        return out

    def _turned(self, part: Tensor, first: int) -> Tensor:
        """Rotate pairs of channels by an angle for each position, counted from the first key of the two blocks."""
        where = slice(first, first + part.shape[-2])
        cosine, sine = self.get_buffer("cosine")[where], self.get_buffer("sine")[where]
        left, right = part.chunk(2, dim=-1)
        return torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=-1)
