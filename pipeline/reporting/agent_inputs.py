"""What the report reads of trading agents: their evaluation and their learning curves, where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import npz
from pipeline.errors import StoreError
from pipeline.registry import Registry


@dataclass(frozen=True)
class Curve:
    """How one agent learned. steps: (n,) environment steps. reward: (n,) mean of a step, in hundredths."""

    algorithm: str
    block: str
    seed: int
    steps: NDArray[np.int64]
    reward: NDArray[np.float64]


@dataclass(frozen=True)
class Agents:
    """The agents of a run.

    Attributes:
        training: agent.json. evaluation: agent_evaluation.json; None where these agents have none.
        curves: of every agent.
    """

    training: dict[str, Any]
    evaluation: dict[str, Any] | None
    curves: tuple[Curve, ...]


def load_agents(registry: Registry, run_id: str) -> Agents | None:
    """The agents of a run; None where none have been trained.

    Raises:
        StoreError: a file cannot be read; the command that writes it is named.
    """
    home = registry.root / "runs" / run_id
    if not (home / "agent.json").is_file():
        return None
    training = registry.read_json(run_id, "agent.json")
    evaluation = None
    if (home / "agent_evaluation.json").is_file():
        found = registry.read_json(run_id, "agent_evaluation.json")
        evaluation = found if found["identity"] == training["identity"] else None
    try:
        with np.load(home / "agent_curves.npz", allow_pickle=False) as file:
            ends = np.cumsum(file["length"])[:-1]
            steps, reward = (np.split(file[name], ends) for name in ("steps", "reward"))
            named = zip(file["algorithm"].tolist(), file["block"].tolist(), file["seed"].tolist(), strict=True)
            curves = tuple(Curve(*who, s, r) for who, s, r in zip(named, steps, reward, strict=True))
    except npz.UNREADABLE as error:
        raise StoreError(f"agent_curves.npz cannot be read ({error}); write it with: tradewind agent train") from error
    return Agents(training, evaluation, curves)
