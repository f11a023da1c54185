"""Random students of the shipped shape, and features for them."""

from __future__ import annotations

import numpy as np

from models.compact.network import Network


def random_network(seed: int = 0, width: int = 8, body: int = 6, features: int = 9, horizons: int = 3) -> Network:
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    return Network(
        conv_weight=(normal(width, body, 4), normal(width, width, 4), normal(width, width, 4)),
        conv_bias=tuple(generator.normal(0, 0.1, width).astype(np.float32) for _ in range(3)),
        head_weight=normal(width, horizons * 4),
        head_bias=normal(horizons * 4).ravel(),
        skip_weight=normal(features, horizons * 4),
        skip_bias=normal(horizons * 4).ravel(),
        body_features=np.sort(generator.choice(features, body, replace=False)),
    )


def scaled(seed: int, n: int, t: int, features: int = 9) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).standard_t(4, (n, t, features)), -5, 5).astype(np.float32)
