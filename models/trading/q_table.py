"""Tabular Q-learning (Watkins 1989; Sutton and Barto 2018, section 6.5) of one asset's weight.

The state is the cell that the observation falls into: a bin for each chosen column x the grid weight nearest to the
agent's own. A column is cut at its quantiles in training, so that each bin is as likely as the next; one with no more
values than bins has a bin for each value. The action is a weight of the grid. To order the weight of the cell one is in
is to order nothing: rebalancing within a cell would pay for what the table cannot see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.trading.env import Batch, Markets, Rules, Step
from models.trading.policy import Learned, Progress, curve, unwatched

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

UNSEEN = -1
"""The action of a state that training never met: leave the position alone."""


@dataclass(frozen=True)
class Cells:
    """How an observation becomes a state.

    Attributes:
        columns: which of the observation's columns count.
        edges: of each column, its ascending inner edges; a value on an edge falls below it.
        own: the observation's column with the agent's weight. grid: (levels,) weights.
    """

    columns: tuple[int, ...]
    edges: tuple[Float32, ...]
    own: int
    grid: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        """Bins of each column, then levels."""
        return (*(len(edges) + 1 for edges in self.edges), len(self.grid))

    def levels(self, observation: Float32) -> Ints:
        """(E,) places of the grid weights nearest to one's own, for (E, D) observations."""
        middles = (self.grid[1:] + self.grid[:-1]) / 2
        return np.asarray(np.searchsorted(middles, observation[:, self.own]), dtype=np.int64)

    def states(self, observation: Float32) -> Ints:
        """(E,) states of (E, D) observations, levels innermost."""
        state = np.zeros(len(observation), np.int64)
        for column, edges in zip(self.columns, self.edges, strict=True):
            state = state * (len(edges) + 1) + np.searchsorted(edges, observation[:, column])
        return state * len(self.grid) + self.levels(observation)

    def orders(self, actions: Ints, observation: Float32) -> Floats:
        """(E, 1) target weights of (E,) actions: NaN for the cell one is in, and for `UNSEEN`."""
        alone = (actions == self.levels(observation)) | (actions == UNSEEN)
        return np.where(alone, np.nan, self.grid[actions])[:, None]


@dataclass(frozen=True)
class QTablePolicy:
    """A table looked up.

    Attributes:
        cells: of the observation. actions: (states,) the best action of each, or `UNSEEN`.
    """

    cells: Cells
    actions: Ints

    def target(self, observation: Float32) -> Floats:
        """(E, 1) weights of the grid for (E, D) observations; NaN where the position stays."""
        return self.cells.orders(self.actions[self.cells.states(observation)], observation)


class Table(NamedTuple):
    """What is known of each action in each state.

    value: (states, levels) expected discounted rewards, 0 before the first visit. visits: (states, levels).
    """

    value: Floats
    visits: Ints

    def update(self, states: Ints, actions: Ints, goals: Floats, exponent: float) -> None:
        """Move the cells of (E,) states and actions towards their (E,) goals.

        The n environments that meet in a cell average their errors and count as n visits at rate visits^-exponent.
        """
        cell = states * self.value.shape[1] + actions
        met, place, n = np.unique(cell, return_inverse=True, return_counts=True)
        value, visits = self.value.ravel(), self.visits.ravel()  # views
        error = np.zeros(len(met))
        np.add.at(error, place, goals - value[cell])
        visits[met] += n
        value[met] += np.minimum(n * visits[met] ** -exponent, 1.0) * error / n

    def best(self) -> Ints:
        """(states,) the best of the actions that were tried, `UNSEEN` where none was."""
        tried = self.visits > 0
        best = np.where(tried, self.value, -np.inf).argmax(axis=1)
        return np.where(tried.any(axis=1), best, UNSEEN)


@dataclass(frozen=True)
class QTableConfig:
    """Settings of Q-learning.

    Attributes:
        columns: of the observed columns, those that make the state. bins: of each.
        discount: of the reward a step later; 0.97 looks some 30 sessions ahead.
        exponent: the rate of learning at the n-th visit of a cell is n^-exponent (Even-Dar and Mansour 2003: above a
            half, and the lower the faster the first guesses are forgotten).
        explore, least_explore: share of random actions at first, and from `decay` of the budget on; linear between.
        environments: stepped together.
    """

    columns: tuple[int, ...] = (0,)
    bins: int = 6
    discount: float = 0.97
    exponent: float = 0.75
    explore: float = 1.0
    least_explore: float = 0.5
    decay: float = 0.7
    environments: int = 128

    def cells(self, markets: Markets, rules: Rules) -> Cells:
        """Bins by the quantiles of what is observed in training.

        Raises:
            ValueError: there is more than one asset, or a column that is not observed.
        """
        assets, observed = markets.observed.shape[2:]
        if assets != 1:
            raise ValueError(f"a table holds the weight of one asset, got {assets}")
        if not all(0 <= column < observed for column in self.columns):
            raise ValueError(f"columns {self.columns} are not all among the {observed} observed")
        seen = markets.observed[markets.playable][:, 0]  # (M, K)
        edges = tuple(_edges(seen[:, column], self.bins) for column in self.columns)
        return Cells(self.columns, edges, observed, rules.grid)

    def learn(self, markets: Markets, rules: Rules, budget: int, seed: int, progress: Progress = unwatched) -> Learned:
        """Learn the table: see `Learner.learn`.

        Raises:
            ValueError: as `cells`, or the budget is not enough for one step of each environment.
        """
        cells, E = self.cells(markets, rules), self.environments
        if budget < E:
            raise ValueError(f"a budget of {budget} steps is too small for {E} environments")
        size = (int(np.prod(cells.shape)), rules.levels)
        table = Table(np.zeros(size), np.zeros(size, np.int64))
        batch, generator = Batch(markets, rules, E, seed), np.random.default_rng((seed, 1))
        seen, rewards = batch.reset(), np.zeros(budget // E)
        for k in range(len(rewards)):
            done = k / len(rewards)
            states = cells.states(seen)
            random = generator.random(E) < self._exploring(done)
            actions = np.where(random, generator.integers(rules.levels, size=E), table.value[states].argmax(axis=1))
            step = batch.step(cells.orders(actions, seen))
            table.update(states, actions, goals(table, cells, step, self.discount), self.exponent)
            seen, rewards[k] = step.observation, step.reward.mean()
            progress(done)
        progress(1.0)
        return Learned(QTablePolicy(cells, table.best()), curve(rewards, E))

    def _exploring(self, done: float) -> float:
        return self.explore + (self.least_explore - self.explore) * min(done / self.decay, 1.0)


def goals(table: Table, cells: Cells, step: Step, discount: float) -> Floats:
    """(E,) rewards and the discounted best of what follows.

    Nothing follows a ruin; an episode that was only cut off goes on from its last observation, not from the next one's
    first.
    """
    after = step.observation.copy()
    after[step.terminated | step.truncated] = step.final
    ahead = table.value[cells.states(after)].max(axis=1)
    return np.asarray(step.reward + discount * np.where(step.terminated, 0.0, ahead))


def _edges(values: Float32, bins: int) -> Float32:
    """Ascending inner edges (at most bins - 1,) of a column's values in training."""
    kinds = np.unique(values)
    if len(kinds) <= bins:
        return np.asarray((kinds[1:] + kinds[:-1]) / 2, dtype=np.float32)
    return np.unique(np.quantile(values, np.arange(1, bins) / bins).astype(np.float32))
