"""Trading as a task to learn: one batched core, and two thin adapters, for Gymnasium and for Stable-Baselines3.

An episode is a run of sessions of one market. At the close of session t the agent sees what is known then and names
target weights; they are filled at the open of t+1 by `market.fill`, held to the open of t+2 by `market.hold`, and the
reward is the growth from before the trade to there, net of everything it cost:

    reward = 100 (g - risk_aversion / 2 g^2),  g = log(wealth before the trades of t+2 / wealth before those of t+1)

so that the g of an episode add up to the log growth of its wealth. Nothing is read or written in a step; a step of E
environments is one pass of NumPy over (E, N).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from models.trading import market
from models.trading.market import Costs, Limits, Owned, State
from models.trading.observation import COST_UNIT_BPS

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RUIN = 1e-3
"""An episode ends where a step leaves less than this share of wealth; its growth is counted as log of it."""
REWARD_SCALE = 100.0


@dataclass(frozen=True)
class Markets:
    """S histories of N assets over T sessions, from which episodes are cut.

    Attributes:
        opens: (S, T, N) prices at the open, NaN = none: what is held then is closed at its last price.
        observed: (S, T, N, K) float32, known at the close of t; finite wherever `playable`.
        playable: (S, T), where a decision may be taken: its fill and the open after it lie within the history too.
    """

    opens: Floats
    observed: Float32
    playable: Bools

    def __post_init__(self) -> None:
        S, T, N = self.opens.shape
        if self.observed.shape[:3] != (S, T, N) or self.playable.shape != (S, T):
            raise ValueError(
                f"opens are {self.opens.shape}, observed {self.observed.shape}, playable {self.playable.shape}"
            )
        if self.playable[:, -2:].any():
            raise ValueError("a decision needs the two opens after it: the last two sessions cannot be playable")
        if not np.isfinite(self.observed[self.playable]).all():
            raise ValueError("what is observed must be finite where a decision may be taken")

    def starts(self, length: int) -> Ints:
        """(M,) flat positions s * T + t from which `length` decisions in a row may be taken.

        Raises:
            ValueError: there is none.
        """
        count = np.cumsum(np.pad(self.playable, ((0, 0), (1, 0))), axis=1)
        whole: Bools = np.asarray(count[:, length:] - count[:, :-length] == length)  # (S, T - length + 1)
        s, t = np.nonzero(whole)
        if not len(s):
            raise ValueError(f"no market has {length} sessions in a row in which decisions can be taken")
        return np.asarray(s * self.opens.shape[1] + t, dtype=np.int64)


@dataclass(frozen=True)
class Rules:
    """What the agent may do and what it is paid for.

    Attributes:
        costs: of every trade and position, one number each.
        limits: of its targets; `least` and `most` must be finite, actions span them.
        risk_aversion: of the reward; 1 adds to log utility as much again as it has.
        length: decisions in an episode.
        levels: weights of the discrete grid, `least` and `most` among them.
        random_weight: whether an episode starts at any weight within the limits, or in cash.
    """

    costs: Costs
    limits: Limits = field(default_factory=lambda: Limits(0.0, 1.0))
    risk_aversion: float = 0.0
    length: int = 252
    levels: int = 11
    random_weight: bool = True

    @property
    def grid(self) -> Floats:
        """(levels,) weights."""
        return np.linspace(self.limits.least, self.limits.most, self.levels)

    def weights(self, actions: Floats) -> Floats:
        """Target weights of continuous actions in [-1, 1], of any shape."""
        least, most = self.limits.least, self.limits.most
        return least + (np.clip(actions, -1.0, 1.0) + 1.0) * ((most - least) / 2)

    def actions(self, weights: Floats) -> Floats:
        """The inverse of `weights`."""
        least, most = self.limits.least, self.limits.most
        return (np.clip(weights, least, most) - least) * (2 / (most - least)) - 1.0


class Step(NamedTuple):
    """What a step of E environments gives; where one is done, its next episode has begun.

    Attributes:
        observation: (E, D) float32, of the new episode where one has begun.
        reward: (E,). terminated: (E,) ruined. truncated: (E,) out of sessions.
        final: (D,)-rows of the observations that ended episodes, as many as are done, in their order.
        growth: (E,) log growth net of costs. turnover: (E,) value traded over wealth before.
    """

    observation: Float32
    reward: Floats
    terminated: Bools
    truncated: Bools
    final: Float32
    growth: Floats
    turnover: Floats


class Batch:
    """E environments stepped together.

    An observation is what is observed of the N assets (N x K), their weights after the trades of the session's open
    (N), and the rate of cost in units of 10 bps (1).

    Args:
        markets: where episodes come from. rules: of the task. environments: E. seed: of starts and first weights.

    Raises:
        ValueError: no market is long enough for an episode, or the limits are not finite.
    """

    def __init__(self, markets: Markets, rules: Rules, environments: int, seed: int = 0) -> None:
        if not np.isfinite([rules.limits.least, rules.limits.most]).all():
            raise ValueError(f"an agent needs finite limits of its weights, got {rules.limits}")
        S, T, N, K = markets.observed.shape
        self.rules, self.environments, self.assets = rules, environments, N
        self.width = N * K + N + 1
        self._starts = markets.starts(rules.length)
        self._opens = markets.opens.reshape(S * T, N)
        self._observed = np.nan_to_num(markets.observed).reshape(S * T, N * K)
        self._rate = float(rules.costs.rate[0]) * 1e4 / COST_UNIT_BPS
        self._generator = np.random.default_rng(seed)
        self.at = np.zeros(environments, np.int64)
        self._left = np.zeros(environments, np.int64)
        self._weights = np.zeros((environments, N))
        self._open = np.ones((environments, N))
        self._owned = Owned(np.ones(environments), np.zeros((environments, N)))

    def seed(self, seed: int) -> None:
        """Starts and first weights from here on are those of this seed."""
        self._generator = np.random.default_rng(seed)

    def reset(self) -> Float32:
        """Begin an episode everywhere; the observation (E, D)."""
        self._begin(np.arange(self.environments))
        return self._observe()

    def begin(self, at: Ints, weights: Floats) -> Float32:
        """Begin at given flat positions (E,) and weights (E, N); the observation."""
        self._place(np.arange(self.environments), at, weights)
        return self._observe()

    def step(self, target: Floats) -> Step:
        """Fill (E, N) target weights, NaN = leave alone, and go on to the next session."""
        costs, before = self.rules.costs, self._owned
        gone = ~np.isfinite(self._open)
        state, trades = market.fill(before, self.rules.limits.clip(target), costs, gone=gone if gone.any() else None)
        self.at += 1
        self._left -= 1
        after = self._opens.take(self.at + 1, axis=0)
        self._owned = market.hold(state, self._open, after, costs)
        self._open, self._weights = after, state.weights
        share = self._owned.wealth / np.where(before.wealth > 0, before.wealth, 1.0)
        growth = np.log(np.maximum(share, RUIN))
        reward = REWARD_SCALE * (growth - self.rules.risk_aversion / 2 * growth * growth)
        turnover = np.abs(trades.value).sum(axis=1) / np.where(before.wealth > 0, before.wealth, 1.0)
        terminated = share <= RUIN
        truncated = (self._left == 0) & ~terminated
        observation = self._observe()
        done = np.flatnonzero(terminated | truncated)
        final = observation[done]
        if len(done):
            self._begin(done)
            observation[done] = self._observe(done)
        return Step(observation, reward, terminated, truncated, final, growth, turnover)

    def _begin(self, where: Ints) -> None:
        at = self._starts[self._generator.integers(len(self._starts), size=len(where))]
        weights = np.zeros((len(where), self.assets))
        if self.rules.random_weight:
            limits = self.rules.limits
            weights = limits.clip(self._generator.uniform(limits.least, limits.most, weights.shape))
        self._place(where, at, weights)

    def _place(self, where: Ints, at: Ints, weights: Floats) -> None:
        now, after = self._opens[at], self._opens[at + 1]
        weights = np.where(np.isfinite(now), weights, 0.0)
        owned = market.hold(State(np.ones(len(where)), weights), now, after, self.rules.costs)
        self.at[where], self._left[where], self._weights[where] = at, self.rules.length, weights
        self._open[where] = after
        self._owned.wealth[where], self._owned.held[where] = owned

    def _observe(self, where: Ints | slice = slice(None)) -> Float32:
        at = self.at[where]
        seen = np.empty((len(at), self.width), np.float32)
        k = self._observed.shape[1]
        seen[:, :k] = self._observed.take(at, axis=0)
        seen[:, k:-1] = self._weights[where]
        seen[:, -1] = self._rate
        return seen


def _action_space(batch: Batch, discrete: bool) -> spaces.Space[Any]:
    levels, assets = batch.rules.levels, batch.assets
    if not discrete:
        return spaces.Box(-1.0, 1.0, (assets,), np.float32)
    return spaces.Discrete(levels) if assets == 1 else spaces.MultiDiscrete([levels] * assets)


def _targets(batch: Batch, actions: npt.NDArray[Any], discrete: bool) -> Floats:
    actions = np.asarray(actions).reshape(-1, batch.assets)
    return batch.rules.grid[actions] if discrete else batch.rules.weights(actions.astype(np.float64))


class TradingEnv(gymnasium.Env[Float32, Any]):
    """One environment for Gymnasium.

    Args:
        markets, rules: of the task. discrete: whether an action is a position on the grid of each asset, or numbers in
            [-1, 1] that span the limits.
    """

    def __init__(self, markets: Markets, rules: Rules, discrete: bool = False) -> None:
        self._batch = Batch(markets, rules, 1)
        self._discrete = discrete
        self.observation_space = spaces.Box(-np.inf, np.inf, (self._batch.width,), np.float32)
        self.action_space = _action_space(self._batch, discrete)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """Begin an episode; with a seed, the same one for the same seed."""
        super().reset(seed=seed)
        if seed is not None:
            self._batch.seed(seed)
        return self._batch.reset()[0], {}

    def step(self, action: Any) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """Take a decision. The info holds the step's log growth and turnover."""
        found = self._batch.step(_targets(self._batch, action, self._discrete))
        terminated, truncated = bool(found.terminated[0]), bool(found.truncated[0])
        seen = found.final[0] if terminated or truncated else found.observation[0]
        info = {"growth": float(found.growth[0]), "turnover": float(found.turnover[0])}
        return seen, float(found.reward[0]), terminated, truncated, info


class TradingVecEnv(VecEnv):
    """A batch for Stable-Baselines3, without a copy of an environment each.

    Args:
        batch: the environments. discrete: as for `TradingEnv`.
    """

    def __init__(self, batch: Batch, discrete: bool = False) -> None:
        self.batch = batch
        self._discrete = discrete
        self._targets = np.zeros((batch.environments, batch.assets))
        self.render_mode = None
        box = spaces.Box(-np.inf, np.inf, (batch.width,), np.float32)
        super().__init__(batch.environments, box, _action_space(batch, discrete))

    def reset(self) -> Float32:
        """Begin an episode everywhere; with the seeds that `seed` was given, if it was."""
        if self._seeds[0] is not None:
            self.batch.seed(self._seeds[0])
        self._reset_seeds()
        return self.batch.reset()

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Remember what to do."""
        self._targets = _targets(self.batch, actions, self._discrete)

    def step_wait(self) -> tuple[Float32, Float32, Bools, list[dict[str, Any]]]:
        """Do it."""
        found = self.batch.step(self._targets)
        done = found.terminated | found.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for place, seen in zip(np.flatnonzero(done), found.final, strict=True):
            infos[place] = {"terminal_observation": seen, "TimeLimit.truncated": bool(found.truncated[place])}
        return found.observation, found.reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The batch's attribute, once for every environment asked for."""
        value = getattr(self, attr_name) if attr_name == "render_mode" else getattr(self.batch, attr_name)
        return [value] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: environments of a batch cannot differ."""
        raise AttributeError(f"{attr_name} cannot be set: the environments of a batch are alike")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refused: a batch has no environments of their own."""
        raise AttributeError(f"{method_name}: the environments of a batch have no methods of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """None of them is."""
        return [False] * len(list(self._get_indices(indices)))
