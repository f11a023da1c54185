"""The small network that genetic search breeds and that is shipped: observation -> target weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.trading.env import Markets, Rules

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Layers = tuple[Float32, ...]

HIDDEN = (32, 32)


@dataclass(frozen=True)
class PolicyNetwork:
    """A multilayer perceptron, D -> 32 -> 32 -> N with ReLU, in float32; tanh of its head spans the limits.

    Attributes:
        layers: matrix and bias of each layer in turn: (D, 32), (32,), (32, 32), (32,), (32, N), (N,).
        center, scale: (D,) float32; the network reads (observation - center) / scale.
        least, most: weights at a head of -1 and of 1.
    """

    layers: Layers
    center: Float32
    scale: Float32
    least: float
    most: float

    def target(self, observation: Float32) -> Floats:
        """(E, N) target weights for (E, D) observations, never NaN."""
        head = forward(self.layers, (observation - self.center) / self.scale)
        return spread(head, self.least, self.most)

    def flat(self) -> Float32:
        """(W,) every weight of the layers in one row."""
        return np.concatenate([layer.ravel() for layer in self.layers])

    def from_flat(self, flat: Float32) -> PolicyNetwork:
        """The network of the same shape with these (W,) weights.

        Raises:
            ValueError: there are too many or too few.
        """
        layers = unflatten(flat, [layer.shape for layer in self.layers])
        return PolicyNetwork(layers, self.center, self.scale, self.least, self.most)


def fresh(markets: Markets, rules: Rules, seed: int, hidden: tuple[int, ...] = HIDDEN) -> PolicyNetwork:
    """An untrained network for a task: matrices by He et al. 2015 (section 2.2), a head ten times smaller, biases 0."""
    generator = np.random.default_rng(seed)
    center, scale = moments(markets, rules)
    widths = (len(center), *hidden, markets.opens.shape[2])
    layers: list[Float32] = []
    for at, (rows, columns) in enumerate(pairwise(widths)):
        deviation = np.sqrt(2.0 / rows) * (0.1 if at == len(hidden) else 1.0)
        matrix = deviation * generator.standard_normal((rows, columns))
        layers += [matrix.astype(np.float32), np.zeros(columns, np.float32)]
    return PolicyNetwork(tuple(layers), center, scale, rules.limits.least, rules.limits.most)


def moments(markets: Markets, rules: Rules) -> tuple[Float32, Float32]:
    """Center and scale (D,) of an observation, of the sessions where decisions may be taken.

    What is observed has its mean and standard deviation (1 where it never moves), a weight the middle of its limits
    and half their distance, the rate of cost 0 and 1.
    """
    N, limits = markets.opens.shape[2], rules.limits
    seen = markets.observed[markets.playable].reshape(-1, N * markets.observed.shape[3]).astype(np.float64)
    deviation = seen.std(axis=0)
    middle, half = (limits.least + limits.most) / 2, (limits.most - limits.least) / 2
    center = np.concatenate([seen.mean(axis=0), np.full(N, middle), [0.0]])
    # The deviation of a column that never moves is rounding: 1e-12 of its size, not zero.
    moves = deviation > 1e-9 * np.abs(center[: len(deviation)])
    scale = np.concatenate([np.where(moves, deviation, 1.0), np.full(N, half or 1.0), [1.0]])
    return center.astype(np.float32), scale.astype(np.float32)


def forward(layers: Layers, x: Float32) -> Float32:
    """The head (..., B, N) in (-1, 1) for (..., B, D) inputs.

    Layers may be stacked over networks: matrices (P, I, O) with biases (P, 1, O), for x of (P, B, D).
    """
    last = len(layers) - 2
    for at in range(0, len(layers), 2):
        x = x @ layers[at] + layers[at + 1]  # (..., B, O)
        if at < last:
            np.maximum(x, 0, out=x)
    return np.tanh(x)


def spread(head: Float32, least: float, most: float) -> Floats:
    """Weights of a head: -1 is the least and 1 the most."""
    return least + (head.astype(np.float64) + 1.0) * ((most - least) / 2)


def unflatten(flat: Float32, shapes: list[tuple[int, ...]]) -> Layers:
    """Cut (..., W) rows of weights into layers (..., *shape).

    Raises:
        ValueError: there are too many or too few.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    if flat.shape[-1] != sum(sizes):
        raise ValueError(f"layers of {shapes} hold {sum(sizes)} weights, got {flat.shape[-1]}")
    parts = np.split(flat, np.cumsum(sizes)[:-1], axis=-1)
    return tuple(part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True))
