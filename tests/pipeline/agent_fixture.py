"""Agents that learn in no time, on the small lake of `trading_fixture`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.trading.env import Markets, Rules
from models.trading.policy import Curve, Learned, Learner
from pipeline import agent
from pipeline.agent_learners import Make, Wanted
from pipeline.config import Config
from pipeline.config_agent import Agent
from pipeline.config_models import Models
from pipeline.summary import Summary
from tests.pipeline.trading_fixture import build, config_at

TRUSTED = ("models.trading", "tests.pipeline")
SETTINGS = {
    "agent.seeds": "4",
    "agent.steps": "2000",
    "agent.episode_sessions": "21",
    "agent.first_test": "2009-07-01",
    "agent.refit_years": "1",
    "agent.features": "[]",
    "models.processes": "1",
    "evidence.resamples": "200",
    "evidence.block_sessions": "20",
}
"""For the command line, the same as `configured`."""


def configured(config: Config, **changes: object) -> Config:
    """The lake's configuration with agents that fit into it: blocks 2009, 2010 and live."""
    settings: dict[str, object] = {
        "algorithms": ("q_table", "genetic"),
        "seeds": 4,
        "steps": 2000,
        "episode_sessions": 21,
        "first_test": "2009-07-01",
        "refit_years": 1,
        "features": (),
    }
    section = Agent.model_validate(settings | changes)
    return config.model_copy(update={"agent": section, "models": Models(processes=1)})


@dataclass(frozen=True)
class Leaning:
    """Weights linear in what is seen. gain: (D,)."""

    gain: npt.NDArray[np.float32]
    base: float

    def target(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return (self.base + observation.astype(np.float64) @ self.gain)[:, None]


@dataclass(frozen=True)
class Quick:
    """A learner whose policy depends on every number it is given, and on the seed.

    log: a line a fit. A file `die_after` beside it says with which line the process is killed.
    """

    log: Path
    strength: float = 0.05

    def learn(
        self, markets: Markets, rules: Rules, budget: int, seed: int, progress: Callable[[float], None] = lambda _: None
    ) -> Learned:
        with self.log.open("a") as file:
            file.write(f"{seed}\n")
        dying = self.log.with_name("die_after")
        if dying.is_file() and len(self.log.read_text().splitlines()) >= int(dying.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)
        seen = markets.observed[markets.playable].astype(np.float64).mean(axis=(0, 1))  # (K,)
        moves = np.nanstd(np.diff(np.log(markets.opens), axis=1))
        noise = np.random.default_rng(seed).standard_normal(len(seen))
        gain = np.concatenate([self.strength * (noise + seen + moves), [0.0, 0.0]])
        curve = Curve(np.array([budget // 2, budget]), np.array([moves, noise[0]]))
        return Learned(Leaning(gain.astype(np.float32), 0.5), curve)


@dataclass(frozen=True)
class Copycat:
    """Learns nothing: its policy is the teacher."""

    teacher: object

    def learn(self, markets: Markets, rules: Rules, budget: int, seed: int, progress: object = None) -> Learned:
        return Learned(self.teacher, Curve(np.array([budget]), np.array([0.0])))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Hopeless:
    """Cannot learn."""

    def learn(self, markets: Markets, rules: Rules, budget: int, seed: int, progress: object = None) -> Learned:
        raise ValueError("nothing to see")


def learners(log: Path) -> Mapping[str, Make]:
    """The stand-ins: the first leans less than the second."""

    def quick(strength: float) -> Callable[[Wanted], Learner]:
        return lambda wanted: Quick(log, strength)

    return {"q_table": quick(0.05), "genetic": quick(0.2)}


def trained(root: Path, **changes: object) -> tuple[Config, Summary]:
    """A lake with agents: its configuration, and what training said."""
    config = configured(build(root)[0], **changes)
    return config, agent.train(config, learners=learners(root / "log"), trusted=TRUSTED)


def again(root: str) -> None:
    """Train on the lake that lies there, for another process."""
    agent.train(configured(config_at(Path(root))), learners=learners(Path(root) / "log"), trusted=TRUSTED)


def evaluated(config: Config) -> Summary:
    """The evaluation of agents by the stand-ins."""
    return agent.evaluate(config, trusted=TRUSTED)
