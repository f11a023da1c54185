"""The float student as plain arrays: the seam between training and compression, and its NumPy reference."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.receptive_field import DILATIONS, FIELD, KERNEL

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """Three causal convolutions with ReLU, a linear head on the last, and a linear skip on the last session.

    Attributes:
        conv_weight: three (C_out, C_in, 4) float32; tap 0 is the oldest session.
        conv_bias: three (C_out,) float32.
        head_weight: (C, H*4) float32, the body's weight already multiplied in; head_bias: (H*4,).
        skip_weight: (F, H*4) float32; skip_bias: (H*4,).
        body_features: (Fb,) int64 positions of the convolution's inputs among the F features.
    """

    conv_weight: tuple[Float32, ...]
    conv_bias: tuple[Float32, ...]
    head_weight: Float32
    head_bias: Float32
    skip_weight: Float32
    skip_bias: Float32
    body_features: npt.NDArray[np.int64]

    def forward_panel(self, x: Float32) -> Float32:
        """(N, T, F) scaled and finite -> (N, T - 63, H, 4)."""
        hidden = hidden_layers(self, x)[-1]  # (N, T - 63, C)
        y = hidden @ self.head_weight + self.head_bias + x[:, FIELD - 1 :] @ self.skip_weight + self.skip_bias
        return np.asarray(y.reshape(*y.shape[:2], -1, 4))

    def forward_window(self, x: Float32) -> Float32:
        """(B, 64, F) scaled and finite -> (B, H, 4)."""
        return self.forward_panel(x)[:, 0]

    def save(self, path: Path) -> None:
        """Write an NPZ without pickle."""
        arrays: dict[str, np.ndarray] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                arrays |= {f"{field.name}_{i}": part for i, part in enumerate(value)}
            else:
                arrays[field.name] = value
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as held:
            return cls(
                conv_weight=tuple(held[f"conv_weight_{i}"] for i in range(len(DILATIONS))),
                conv_bias=tuple(held[f"conv_bias_{i}"] for i in range(len(DILATIONS))),
                **{
                    name: held[name]
                    for name in ("head_weight", "head_bias", "skip_weight", "skip_bias", "body_features")
                },
            )


def hidden_layers(network: Network, x: Float32) -> list[Float32]:
    """(N, T, F) scaled and finite -> the three layers' outputs, (N, T - 3, C), (N, T - 15, C), (N, T - 63, C)."""
    hidden = x[..., network.body_features]  # (N, T, Fb)
    layers = []
    for weight, bias, dilation in zip(network.conv_weight, network.conv_bias, DILATIONS, strict=True):
        length = hidden.shape[1] - (KERNEL - 1) * dilation
        total = np.broadcast_to(bias, (hidden.shape[0], length, len(bias))).copy()
        for tap in range(KERNEL):
            total += hidden[:, tap * dilation : tap * dilation + length] @ weight[:, :, tap].T
        hidden = np.maximum(total, 0)
        layers.append(hidden)
    return layers
