"""A small float policy with random weights, observations for it, and its int8 form in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.compact.bundle import POLICY, Bundle, seal
from models.compact.export import save
from models.compact.policy_graph import policy_graph
from models.compact.policy_quantize import quantize_policy
from models.compact.small_policy import HIDDEN, FloatPolicy, Frame, IntegerPolicy
from models.scaling import Scaler
from models.trading.observation import Scaling, names
from tests.models.compact import bundle_fixture as small

FEATURES = ("gap", "tone")
NAMES = names(small.HORIZONS, FEATURES)
K = len(NAMES)
LEAST, MOST = -0.5, 1.0


def policy(seed: int = 0, steep: float = 1.0) -> FloatPolicy:
    """Between the limits most of the time; the cost, always the same, has no rate and no weight."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(0, steep / np.sqrt(shape[-1]), shape).astype(np.float32)

    rate = np.append(generator.uniform(0.8, 1.5, K), [5 / 0.75, 0]).astype(np.float32)
    first = normal(HIDDEN, K + 2)
    first[:, -1] = 0
    skip = normal(K + 2) * np.float32(0.1)
    skip[-1] = 0
    center = np.append(generator.normal(0, 0.1, K), [(LEAST + MOST) / 2, 0.5]).astype(np.float32)
    frame = Frame(
        center, rate, normal(HIDDEN) * np.float32(0.2), skip, np.float32(0.2), np.float32(LEAST), np.float32(MOST)
    )
    biases = [generator.normal(0, 0.1, HIDDEN).astype(np.float32) for _ in range(2)]
    return FloatPolicy(((first, biases[0]), (normal(HIDDEN, HIDDEN), biases[1])), frame)


def seen(seed: int, rows: int) -> np.ndarray:
    """(rows, D) finite observations as the environment makes them."""
    generator = np.random.default_rng(seed)
    observed = np.clip(generator.standard_t(5, (rows, K)), -5, 5)
    own = generator.uniform(LEAST, MOST, (rows, 1))
    return np.hstack([observed, own, np.full((rows, 1), 0.5)]).astype(np.float32)


def integers(seed: int = 0) -> IntegerPolicy:
    return quantize_policy(policy(seed), seen(seed + 100, 4000))


def scaling() -> Scaling:
    generator = np.random.default_rng(7)
    center, scale = generator.normal(0, 1, K), generator.uniform(0.5, 2, K)
    return Scaling(tuple(NAMES), Scaler(center.astype(np.float32), scale.astype(np.float32)))


def raw(seed: int, rows: int, missing: float = 0.0) -> np.ndarray:
    """(rows, D) observations before scaling, a share of the features missing."""
    found, held = seen(seed, rows), scaling().scaler
    found[:, :K] = found[:, :K] * held.scale + held.center
    gone = np.random.default_rng(seed).random((rows, len(FEATURES))) < missing
    found[:, K - len(FEATURES) : K][gone] = np.nan
    return found


def section(**changes: Any) -> dict[str, Any]:
    """What `seal` is given as `policy`."""
    made = {
        "observation": scaling().to_json(),
        "horizons": list(small.HORIZONS),
        "horizon": 5,
        "target_volatility": 0.1,
        "max_weight": 0.8,
        "features": list(FEATURES),
        "limits": {"least": LEAST, "most": MOST},
        "cost_bps": [5.0],
        "risk_aversion": 2.0,
        "trained": {
            "run_id": "r1",
            "algorithm": "ppo",
            "seeds": [0, 1],
            "steps": 1000,
            "last": "2013-01-02",
            "rules": 6,
            "beaten": [],
        },
    }
    return made | changes


def write_files(directory: Path, shipped: IntegerPolicy | None = None) -> None:
    """policy.onnx and policy_golden.npz; one golden row has no forecast."""
    shipped = shipped or integers()
    save(policy_graph(shipped), directory / POLICY[0])
    observation = raw(3, 16, missing=0.2)
    observation[5, 0] = np.nan
    scaled = np.hstack([scaling().transform(observation[:, :K]), observation[:, K:]])
    weights = shipped.target(scaled)[:, 0]
    weights[5] = np.nan
    np.savez_compressed(directory / POLICY[1], observation=observation, weights=weights)


def write(directory: Path, shipped: IntegerPolicy | None = None, **changes: Any) -> Bundle:
    """A bundle with a policy; `changes` replaces keys of the section."""
    plain = small.write(directory)
    write_files(directory, shipped)
    return seal(directory, {**plain.manifest, "policy": section(**changes)})
