"""Supervised pre-training: a network learns to do what a rule does, before it learns to do better.

The states are those the rule itself visits, and those that random weights visit, so that the imitation also knows what
the rule does where it would not have gone (the first mistakes of an imitation lead there: Ross, Gordon and Bagnell
2011, section 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.trading.env import Batch, Markets, Rules
from models.trading.policy import Float32, Floats, Policy
from models.trading.residual_policy import nearest

_ENVIRONMENTS = 64
_ROWS = 512
_EPOCHS = 30


class Lessons(NamedTuple):
    """What the teacher wanted where.

    Attributes:
        observation: (M, D) float32. weight: (M, N) the teacher's targets; where it left alone, the weight held.
        reward: mean of a step on the way, in the environment's units; of M steps.
    """

    observation: Float32
    weight: Floats
    reward: float


def watch(teacher: Policy, markets: Markets, rules: Rules, steps: int, seed: int) -> Lessons:
    """Take environment steps, half of them by the teacher, half to weights drawn uniformly from the limits.

    Args:
        teacher: to be imitated. markets, rules: of the task. steps: how many, rounded down to a multiple of 64.
        seed: of episodes and random weights.

    Raises:
        ValueError: fewer than 64 steps.
    """
    if steps < _ENVIRONMENTS:
        raise ValueError(f"pre-training takes at least {_ENVIRONMENTS} steps, got {steps}")
    batch, generator = Batch(markets, rules, _ENVIRONMENTS, seed), np.random.default_rng([seed, 1])
    N, half = batch.assets, _ENVIRONMENTS // 2
    observation, reward = batch.reset(), 0.0
    rounds = steps // _ENVIRONMENTS
    seen = np.empty((rounds, _ENVIRONMENTS, batch.width), np.float32)
    wanted = np.empty((rounds, _ENVIRONMENTS, N))
    for at in range(rounds):
        target = teacher.target(observation)
        seen[at], own = observation, observation[:, -1 - N : -1]
        wanted[at] = rules.limits.clip(np.where(np.isnan(target), own, target))
        drawn = generator.uniform(rules.limits.least, rules.limits.most, (half, N))
        step = batch.step(np.concatenate([target[:half], drawn]))
        observation, reward = step.observation, reward + float(step.reward.mean()) / rounds
    return Lessons(seen.reshape(-1, batch.width), wanted.reshape(-1, N), reward)


def imitate_weights(actions: Callable[[Tensor], Tensor], body: nn.Module, lessons: Lessons, rules: Rules) -> None:
    """Fit mean actions (B, N) in [-1, 1] to the teacher's by squared error (behaviour cloning, Pomerleau 1989)."""
    wanted = torch.from_numpy(rules.actions(lessons.weight).astype(np.float32))
    seen = torch.from_numpy(lessons.observation)
    _fit(lambda rows: (actions(seen[rows]) - wanted[rows]).square().mean(), body, len(seen))


def imitate_choices(
    values: Callable[[Tensor], Tensor], body: nn.Module, lessons: Lessons, rules: Rules, margin: float
) -> None:
    """Fit values (B, G) so that the grid weight nearest to the teacher's exceeds every other one by a margin.

    The large-margin loss of deep Q-learning from demonstrations (Hester et al. 2018, section 4), squared:
    max(0, Q(a) + margin - Q(teacher's))^2 over the other a. It fixes an order and a small distance and leaves the
    level of the values to what follows; cross-entropy would drive them apart without end.
    """
    choice = torch.from_numpy(nearest(lessons.weight[:, 0], rules.grid))
    seen = torch.from_numpy(lessons.observation)

    def loss(rows: Tensor) -> Tensor:
        value, chosen = values(seen[rows]), choice[rows, None]  # (B, G), (B, 1)
        short = torch.relu(value + margin - value.gather(1, chosen))  # the margin itself at the chosen one
        return (short.square().sum(dim=1) - margin * margin).mean()

    _fit(loss, body, len(seen))


def _fit(loss: Callable[[Tensor], Tensor], body: nn.Module, rows: int) -> None:
    """Adam over shuffled batches, its rate falling linearly to zero; order by torch's generator."""
    optimizer = torch.optim.Adam(body.parameters(), 2e-3)
    batches = -(-rows // _ROWS)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, _EPOCHS * batches)
    for _ in range(_EPOCHS):
        for part in torch.split(torch.randperm(rows), _ROWS):
            optimizer.zero_grad(set_to_none=True)
            loss(part).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            decay.step()
