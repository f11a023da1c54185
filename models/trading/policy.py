"""What a trading policy is, what learns one, and what one is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.trading.env import Batch, Markets, Rules

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Progress = Callable[[float], None]


def unwatched(share: float) -> None:
    """The progress that nobody follows."""


class Policy(Protocol):
    """A rule from what is seen to what is wanted, the same for the same observation every time."""

    def target(self, observation: Float32) -> Floats:
        """(E, N) target weights for (E, D) observations of `env.Batch`; NaN leaves the position alone."""
        ...


class Curve(NamedTuple):
    """How training went.

    Attributes:
        steps: (n,) environment steps done so far, ascending.
        reward: (n,) mean reward of a step since the entry before, in the environment's units, exploration included.
    """

    steps: Ints
    reward: Floats


def curve(rewards: Floats, each: int, entries: int = 100) -> Curve:
    """The curve of (R,) mean rewards of rounds of `each` environment steps, cut into at most so many stretches."""
    ends = np.unique(np.linspace(0, len(rewards), min(entries, len(rewards)) + 1).astype(np.int64))
    total = np.concatenate([[0.0], np.cumsum(rewards)])[ends]
    return Curve(ends[1:] * each, np.diff(total) / np.diff(ends))


class Learned(NamedTuple):
    """A policy and how it came about."""

    policy: Policy
    curve: Curve


class Learner(Protocol):
    """An algorithm with its settings; it reads nothing but the arguments of `learn`."""

    def learn(self, markets: Markets, rules: Rules, budget: int, seed: int, progress: Progress = unwatched) -> Learned:
        """Learn a policy; the same arguments give the same policy, bit for bit.

        Args:
            markets: to learn on. rules: of the task.
            budget: environment steps that may be taken, every one counted, in whichever episode or for whomever.
            seed: of everything random.
            progress: called with the share done, from 0 to 1.
        """
        ...


class Play(NamedTuple):
    """E episodes, one each, of L decisions; where ruin ended one early, zeros follow.

    reward, growth, turnover: (E, L), as in `env.Step`. wanted: (E, L, N) the targets named. at: (E,) flat positions
    s * T + t of the first decisions.
    """

    reward: Floats
    growth: Floats
    turnover: Floats
    wanted: Floats
    at: Ints


def play(policy: Policy, markets: Markets, rules: Rules, environments: int, seed: int) -> Play:
    """One whole episode in each of E environments, the same starts and first weights for every policy.

    Raises:
        ValueError: no market is long enough for an episode.
    """
    batch = Batch(markets, rules, environments, seed)
    seen, at = batch.reset(), batch.at.copy()
    reward, growth, turnover = (np.zeros((environments, rules.length)) for _ in range(3))
    wanted = np.zeros((environments, rules.length, batch.assets))
    alive = np.ones(environments, dtype=bool)
    for t in range(rules.length):
        target = policy.target(seen)
        step = batch.step(target)
        reward[alive, t], growth[alive, t] = step.reward[alive], step.growth[alive]
        turnover[alive, t], wanted[alive, t] = step.turnover[alive], target[alive]
        alive &= ~step.terminated
        seen = step.observation
    return Play(reward, growth, turnover, wanted, at)


def value(policy: Policy, markets: Markets, rules: Rules, environments: int, seed: int) -> float:
    """Mean reward of a step over one whole episode in each environment; the steps after a ruin count as zero.

    Args, raises: as `play`.
    """
    return float(play(policy, markets, rules, environments, seed).reward.mean())
