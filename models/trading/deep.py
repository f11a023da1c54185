"""DQN and PPO, by Stable-Baselines3 on the batched environment, with one residual network.

DQN (Mnih et al. 2015) values each weight of the grid, from a replay of what was seen and a target network. PPO
(Schulman et al. 2017) draws weights from a normal law whose mean, with the value of the state, is read off one shared
trunk. Both may first imitate a rule (`pretraining`). What they leave behind is plain NumPy (`residual_policy`).

Observations are normalised by the moments of the training sessions, rewards by the standard deviation of the open to
open log return there; both are fixed before the first step. One thread, on the CPU.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from models.trading.env import REWARD_SCALE, Batch, Markets, Rules, TradingVecEnv
from models.trading.observation import COST_UNIT_BPS
from models.trading.policy import Curve, Float32, Learned, Policy, Progress, unwatched
from models.trading.policy_network import moments
from models.trading.pretraining import Lessons, imitate_choices, imitate_weights, watch
from models.trading.residual_policy import GridPolicy, ResidualNetwork, WeightPolicy, grid_targets, idle_targets

POINTS = 40
"""Of a learning curve."""


@dataclass(frozen=True)
class DeepConfig:
    """What both have in common.

    Attributes:
        teacher: imitated first; None = nobody. lessons: environment steps of the budget that imitation may take.
        width: of the trunk. blocks: residual ones. environments: stepped together.
        discount: of a reward one session later. learning_rate: at the start, falling linearly to zero.
    """

    teacher: Policy | None = None
    lessons: int = 20_000
    width: int = 32
    blocks: int = 2
    environments: int = 256
    discount: float = 0.97
    learning_rate: float = 1e-3

    def _lessons(self, markets: Markets, rules: Rules, budget: int, seed: int) -> Lessons | None:
        return None if self.teacher is None else watch(self.teacher, markets, rules, min(self.lessons, budget), seed)

    def _trunk(self, markets: Markets, rules: Rules) -> dict[str, Any]:
        """Arguments of a Stable-Baselines3 policy: heads are linear on the residual trunk."""
        center, scale = moments(markets, rules)
        # The rate of cost is the same in every step: it would only be a second bias.
        center[-1] = rules.costs.rate[0] * 1e4 / COST_UNIT_BPS
        settings = {"center": center, "scale": scale, "width": self.width, "blocks": self.blocks}
        return {
            "features_extractor_class": ResidualTrunk,
            "features_extractor_kwargs": settings,
            "net_arch": [],
            "optimizer_kwargs": {"fused": True},
        }


@dataclass(frozen=True)
class DQNConfig(DeepConfig):
    """Deep Q-learning on the grid of one asset.

    Attributes:
        replay: transitions remembered. first: taken at random before learning begins.
        rows, updates: transitions of a gradient step, and gradient steps after each step of all environments.
        tau: share of the network that the target network takes over after each step of all environments.
        explore, explored: least share of random actions, and share of the budget over which it falls there from 1,
            lessons or not: values are learned from what was tried.
        margin: of the imitated choice over the others, in normalised rewards.
    """

    replay: int = 100_000
    first: int = 5_000
    rows: int = 512
    updates: int = 4
    tau: float = 0.05
    explore: float = 0.1
    explored: float = 0.3
    margin: float = 0.1

    def learn(self, markets: Markets, rules: Rules, budget: int, seed: int, progress: Progress = unwatched) -> Learned:
        """See `policy.Learner`. What is left of the budget below a step of all environments is not taken.

        Raises:
            ValueError: more than one asset (a grid of all their weights would be too large), or a budget too small.
        """
        if markets.opens.shape[2] != 1:
            raise ValueError(f"DQN chooses from a grid of one asset's weights, got {markets.opens.shape[2]} assets")
        rest = _whole(budget, self.environments)
        with _repeatable(seed):
            env = _ScaledRewards(markets, rules, self.environments)
            model = _EachExplores(
                "MlpPolicy", env, learning_rate=lambda left: self.learning_rate * left,
                buffer_size=self.replay, learning_starts=self.first, batch_size=self.rows, tau=self.tau,
                gamma=self.discount, train_freq=1, gradient_steps=self.updates,
                target_update_interval=self.environments, exploration_fraction=self.explored,
                exploration_final_eps=self.explore, policy_kwargs=self._trunk(markets, rules), seed=seed, device="cpu",
            )  # fmt: skip
            lessons = self._lessons(markets, rules, budget, seed)
            if lessons is not None:
                imitate_choices(model.q_net, model.q_net, lessons, rules, self.margin)
                model.q_net_target.load_state_dict(model.q_net.state_dict())
                rest = _after(budget, lessons, self.environments)
            course = _Course(rest, env.unit, lessons, progress)
            if rest:
                model.set_logger(Logger(folder=None, output_formats=[]))  # the default one leaves a folder in /tmp
                model.learn(rest, callback=course)
        # The target network is a running mean of the learning one: less of the last batches' noise.
        trunk, head = model.q_net_target.features_extractor, model.q_net_target.q_net[-1]
        return Learned(GridPolicy(_network(trunk, head), rules.grid), course.curve())


@dataclass(frozen=True)
class PPOConfig(DeepConfig):
    """Proximal policy optimisation with continuous weights of any number of assets.

    Attributes:
        steps: of each environment between updates. rows, epochs: of a gradient step, and passes over what was seen.
        trace: lambda of the generalised advantage (Schulman et al. 2016). clip: of the ratio of probabilities.
        value_share: weight of the value's squared error in the loss; the trunk is shared, and noise in returns large.
        deviation: of the first actions around their mean, of limits that span [-1, 1].
        idle: a target nearer to the weight held than this share of the limits' distance leaves it alone.
    """

    learning_rate: float = 2e-3
    steps: int = 16
    rows: int = 1024
    epochs: int = 8
    trace: float = 0.87
    clip: float = 0.3
    value_share: float = 0.15
    deviation: float = 0.45
    idle: float = 0.05

    def learn(self, markets: Markets, rules: Rules, budget: int, seed: int, progress: Progress = unwatched) -> Learned:
        """See `policy.Learner`. What is left of the budget below one rollout of all environments is not taken.

        Raises:
            ValueError: a budget below one rollout.
        """
        limits, rollout = rules.limits, self.steps * self.environments
        idle = self.idle * (limits.most - limits.least)
        rest = _whole(budget, rollout)
        with _repeatable(seed):
            env = _ScaledRewards(markets, rules, self.environments, idle)
            first = {"log_std_init": float(np.log(self.deviation))}
            model = PPO(
                "MlpPolicy", env, learning_rate=lambda left: self.learning_rate * left, n_steps=self.steps,
                batch_size=min(self.rows, rollout), n_epochs=self.epochs, gamma=self.discount, gae_lambda=self.trace,
                clip_range=self.clip, vf_coef=self.value_share, policy_kwargs=self._trunk(markets, rules) | first,
                seed=seed, device="cpu",
            )  # fmt: skip
            trunk, head = model.policy.features_extractor, model.policy.action_net
            lessons = self._lessons(markets, rules, budget, seed)
            if lessons is not None:
                imitate_weights(lambda seen: head(trunk(seen)), model.policy, lessons, rules)
                rest = _after(budget, lessons, rollout)
            course = _Course(rest, env.unit, lessons, progress)
            if rest:
                model.set_logger(Logger(folder=None, output_formats=[]))  # the default one leaves a folder in /tmp
                model.learn(rest, callback=course)
        return Learned(WeightPolicy(_network(trunk, head), limits.least, limits.most, idle), course.curve())


class ResidualTrunk(BaseFeaturesExtractor):
    """(B, D) observations -> (B, H): normalised, one layer, residual blocks; see `residual_policy`."""

    center: Tensor
    scale: Tensor

    def __init__(self, space: spaces.Box, center: Float32, scale: Float32, width: int, blocks: int) -> None:
        super().__init__(space, width)
        self.register_buffer("center", torch.from_numpy(center))
        self.register_buffer("scale", torch.from_numpy(scale))
        self.inlet = nn.Linear(len(center), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(blocks)
        )

    def forward(self, seen: Tensor) -> Tensor:
        """The features that all heads share."""
        h = torch.relu(self.inlet((seen - self.center) / self.scale))
        for block in self.blocks:
            h = h + block(h)
        return h


class _ScaledRewards(TradingVecEnv):
    """A position is left alone as the learned policy will leave it: on the grid (no `idle`), or within `idle`.

    Rewards are in units of the standard deviation of a full position's growth over one session, before costs.
    """

    def __init__(self, markets: Markets, rules: Rules, environments: int, idle: float | None = None) -> None:
        super().__init__(Batch(markets, rules, environments), discrete=idle is None)
        self._idle = idle or 0.0
        s, t = np.nonzero(markets.playable)
        growth = np.log(markets.opens[s, t + 2] / markets.opens[s, t + 1])
        growth = growth[np.isfinite(growth)]
        deviation = float(growth.std()) if len(growth) else 0.0
        self.unit = REWARD_SCALE * deviation if deviation > 1e-9 else 1.0  # below: rounding, of prices that do not move

    def reset(self) -> Float32:
        """As in `TradingVecEnv`."""
        self._seen = super().reset()
        return self._seen

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """As in `TradingVecEnv`, but that a position may be left alone, as the learned policy will."""
        own = self._seen[:, -1 - self.batch.assets : -1]  # (E, N)
        if self._discrete:
            self._targets = grid_targets(actions, own[:, 0], self.batch.rules.grid)
        else:
            super().step_async(actions)
            self._targets = idle_targets(self._targets, own, self._idle)

    def step_wait(self) -> tuple[Float32, Float32, npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """As in `TradingVecEnv`."""
        self._seen, reward, done, infos = super().step_wait()
        return self._seen, reward / np.float32(self.unit), done, infos


class _EachExplores(DQN):
    """DQN in which every environment draws for itself whether to explore; the original draws once for all."""

    def _setup_model(self) -> None:
        super()._setup_model()
        assert isinstance(self.action_space, spaces.Discrete)
        self._draws, self._choices = np.random.default_rng(self.seed), int(self.action_space.n)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions (E,), some of them random unless deterministic."""
        action, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic:
            explores = self._draws.random(len(action)) < self.exploration_rate
            action = np.where(explores, self._draws.integers(self._choices, size=len(action)), action)
        return action, state


class _Course(BaseCallback):
    """Writes the learning curve and reports progress."""

    def __init__(self, steps: int, unit: float, lessons: Lessons | None, progress: Progress) -> None:
        super().__init__()
        self._unit, self._progress = unit, progress
        self._first = 0 if lessons is None else len(lessons.weight)
        self._all = self._first + steps
        self._every = max(1, steps // POINTS)
        self._sum, self._count = 0.0, 0
        self._found = [] if lessons is None else [(self._first, lessons.reward)]
        progress(self._first / self._all)

    def _on_step(self) -> bool:
        rewards = self.locals["rewards"]
        self._sum += float(rewards.sum()) * self._unit
        self._count += len(rewards)
        if self._count >= self._every or self.num_timesteps + self._first >= self._all:
            self._found.append((self._first + self.num_timesteps, self._sum / self._count))
            self._sum, self._count = 0.0, 0
            self._progress((self._first + self.num_timesteps) / self._all)
        return True

    def curve(self) -> Curve:
        """What was written so far."""
        steps, reward = zip(*self._found, strict=True)
        return Curve(np.array(steps, dtype=np.int64), np.array(reward))


def _network(trunk: nn.Module, head: nn.Module) -> ResidualNetwork:
    """The same arithmetic in NumPy, matrices transposed to act from the right."""
    assert isinstance(trunk, ResidualTrunk)
    linear = [layer for layer in (*trunk.modules(), head) if isinstance(layer, nn.Linear)]
    layers = tuple(each.detach().numpy().T.copy() for layer in linear for each in (layer.weight, layer.bias))
    layers[0][-1] = 0.0  # what the rate of cost would do was never learned, as it never moved
    return ResidualNetwork(layers, trunk.center.numpy().copy(), trunk.scale.numpy().copy())


def _whole(budget: int, unit: int) -> int:
    """The most of a budget that is a multiple of the unit."""
    if budget < unit:
        raise ValueError(f"a budget of {budget} environment steps is below the {unit} taken between two updates")
    return budget // unit * unit


def _after(budget: int, lessons: Lessons, unit: int) -> int:
    """What a budget has left after the lessons, in multiples of the unit."""
    return (budget - len(lessons.weight)) // unit * unit


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """One thread, and global generators of this seed, all as before in the end: Stable-Baselines3 draws from them."""
    threads, legacy, plain = torch.get_num_threads(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(plain)
