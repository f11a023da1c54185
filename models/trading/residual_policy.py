"""Policies of deep learning as plain NumPy: a residual network, and a head that is a weight or a grid of values.

    h = relu(x W + b);  h = h + relu(h W1 + b1) W2 + b2  for each block;  head = h W + b

with x the normalised observation (He et al. 2016, section 3.1, without batch normalisation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ResidualNetwork:
    """The trunk and one head, in float32.

    Attributes:
        layers: matrix and bias in turn: (D, H), (H,); two of (H, H), (H,) for each block; (H, O), (O,).
        center, scale: (D,) of the observation, frozen when training began.

    Raises:
        ValueError: the layers do not fit one another or the normalisation.
    """

    layers: tuple[Float32, ...]
    center: Float32
    scale: Float32

    def __post_init__(self) -> None:
        if len(self.layers) < 4 or len(self.layers) % 4:
            raise ValueError(f"a residual network has 4 arrays and 4 more a block, got {len(self.layers)}")
        rows, width = len(self.center), self.layers[0].shape[-1]
        for matrix, bias in zip(self.layers[::2], self.layers[1::2], strict=True):
            columns = bias.shape[-1] if matrix is self.layers[-2] else width
            if matrix.shape != (rows, columns) or bias.shape != (columns,):
                raise ValueError(f"layers do not fit: {matrix.shape} and {bias.shape} where {rows} are read")
            rows = width
        if self.scale.shape != self.center.shape:
            raise ValueError(f"center is {self.center.shape}, scale {self.scale.shape}")

    def __call__(self, observation: Float32) -> Float32:
        """(E, D) observations -> (E, O) outputs of the head."""
        first, bias, *blocks, head, last = self.layers
        h = np.maximum((observation - self.center) / self.scale @ first + bias, 0)  # (E, H)
        for at in range(0, len(blocks), 4):
            into, into_bias, out, out_bias = blocks[at : at + 4]
            h = h + (np.maximum(h @ into + into_bias, 0) @ out + out_bias)
        outputs: Float32 = h @ head + last
        return outputs


@dataclass(frozen=True)
class WeightPolicy:
    """What PPO learns: the head is the mean action of each asset, -1 the least weight and 1 the most.

    Attributes:
        network: D -> N. least, most: limits of a weight. idle: see `idle_targets`.
    """

    network: ResidualNetwork
    least: float
    most: float
    idle: float

    def target(self, observation: Float32) -> Floats:
        """(E, N) target weights for (E, D) observations, NaN where left alone."""
        action = np.clip(self.network(observation).astype(np.float64), -1.0, 1.0)
        weights = self.least + (action + 1.0) * ((self.most - self.least) / 2)
        return idle_targets(weights, observation[:, -1 - weights.shape[1] : -1], self.idle)


@dataclass(frozen=True)
class GridPolicy:
    """What DQN learns: the head values each weight of a grid, and the most valued is the target (`grid_targets`).

    Attributes:
        network: D -> G. grid: (G,) weights.
    """

    network: ResidualNetwork
    grid: Floats

    def __post_init__(self) -> None:
        if self.grid.shape != self.network.layers[-1].shape:
            raise ValueError(f"a grid of {self.grid.shape} needs as many values, not {self.network.layers[-1].shape}")

    def target(self, observation: Float32) -> Floats:
        """(E, 1) target weights for (E, D) observations, NaN where left alone; of equal values the least weight."""
        return grid_targets(self.network(observation).argmax(axis=1), observation[:, -2], self.grid)


def nearest(weights: npt.NDArray[np.floating], grid: Floats) -> Ints:
    """(M,) positions on the ascending grid (G,) nearest to (M,) weights; halfway, the lower one."""
    return np.asarray(np.searchsorted((grid[1:] + grid[:-1]) / 2, weights), dtype=np.int64)


def grid_targets(choice: Ints, own: npt.NDArray[np.floating], grid: Floats) -> Floats:
    """(E, 1) target weights of choices (E,) from a grid (G,), by an agent that holds the weights (E,).

    The grid weight nearest to one's own stands for leaving the position alone, NaN: what has drifted by less than half
    a step of the grid is not worth its cost, and never to trade can be chosen.
    """
    return np.where(choice == nearest(own, grid), np.nan, grid[choice])[:, None]


def idle_targets(weights: Floats, own: npt.NDArray[np.floating], idle: float) -> Floats:
    """(E, N) target weights, NaN where one's own (E, N) is within `idle`: a mean never says exactly what one holds."""
    return np.where(np.abs(weights - own) <= idle, np.nan, weights)
