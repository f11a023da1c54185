"""Genetic search over the weights of the policy network (Such et al. 2017, section 3, with crossover).

Every member of a generation plays the same stretches of the same markets from the same first weights (common random
numbers: what differs between members is the members), all of them at once in one batch. The best few live on as they
are and are judged anew, so that no luck is inherited; the rest are children of parents that won tournaments, each
weight from either parent, with a Gaussian mutation that shrinks over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.trading.env import Batch, Markets, Rules
from models.trading.policy import Learned, Progress, curve, unwatched
from models.trading.policy_network import PolicyNetwork, forward, fresh, spread, unflatten

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GeneticConfig:
    """Settings of the search.

    Attributes:
        members: of the population. elite: of them, how many live on unchanged.
        generations: as many as the budget allows, and no more: with more of it a generation plays longer instead.
        least_episodes: stretches that every member plays in a generation, at least. sessions: of each, at most an
            episode's.
        tournament: members drawn at random, of which the best becomes a parent.
        crossover: share of children with two parents.
        mutation, least_mutation: standard deviation of a mutation in the first and the last generation, in units of
            the deviation that the weight was drawn with.
        final: share of the budget in which the last elite plays on, for the best of it to be known from the lucky.
    """

    members: int = 32
    elite: int = 8
    generations: int = 48
    least_episodes: int = 4
    sessions: int = 32
    tournament: int = 4
    crossover: float = 0.5
    mutation: float = 0.2
    least_mutation: float = 0.05
    final: float = 0.2

    def learn(self, markets: Markets, rules: Rules, budget: int, seed: int, progress: Progress = unwatched) -> Learned:
        """Search: see `Learner.learn`.

        Raises:
            ValueError: the elite or the tournament is larger than the population, no market is long enough, or the
                budget is not enough for a generation and the final.
        """
        if not (0 < self.elite < self.members and 0 < self.tournament <= self.members):
            raise ValueError(f"elite {self.elite} and tournament {self.tournament} must fit {self.members} members")
        spent = int((1 - self.final) * budget)
        arena, generations = self._arena(markets, rules, spent, seed)
        generator = np.random.default_rng((seed, 1))
        network = fresh(markets, rules, seed)
        unit = _deviations(network)
        population = (unit * generator.standard_normal((self.members, len(unit)))).astype(np.float32)
        rewards = np.zeros(generations)
        fitness = np.zeros(self.members)
        for g in range(generations):
            fitness = arena.play(network, population)
            rewards[g] = fitness.mean()
            if g + 1 < generations:
                size = self.mutation * (self.least_mutation / self.mutation) ** (g / max(generations - 1, 1))
                population = self.breed(population, fitness, size * unit, generator)
            progress((1 - self.final) * (g + 1) / generations)
        best = self._best(arena, network, population[_ranked(fitness)[: self.elite]], budget - spent)
        progress(1.0)
        return Learned(network.from_flat(best), curve(rewards, self.members * arena.steps))

    def _arena(self, markets: Markets, rules: Rules, budget: int, seed: int) -> tuple[Arena, int]:
        """Where the generations play, and how many of them the budget pays for."""
        sessions = min(self.sessions, rules.length)
        episodes = max(budget // (self.generations * self.members * sessions), self.least_episodes)
        arena = Arena(markets, rules, episodes, sessions, seed)
        each = self.members * arena.steps
        if budget < each:
            raise ValueError(f"a budget of {budget} steps is too small: a generation takes {each}")
        return arena, min(budget // each, self.generations)

    def _best(self, arena: Arena, network: PolicyNetwork, elite: Float32, budget: int) -> Float32:
        """Of the (elite, W) ranked members the one that earns most in what the budget gives; else the first."""
        rounds = budget // (self.elite * arena.steps)
        earned = [arena.play(network, elite) for _ in range(rounds)] or [np.zeros(self.elite)]
        return np.asarray(elite[_ranked(np.mean(earned, axis=0))[0]])

    def breed(self, population: Float32, fitness: Floats, size: Float32, generator: np.random.Generator) -> Float32:
        """The next generation of (P, W) weights with (P,) fitness, mutated by (W,) deviations; the elite first."""
        children = self.members - self.elite
        drawn = generator.random((2, children, self.members)).argpartition(self.tournament - 1, axis=-1)
        contest = drawn[..., : self.tournament]  # (2, C, tournament), different members
        winners = np.take_along_axis(contest, fitness[contest].argmax(axis=-1)[..., None], axis=-1)[..., 0]
        mother, father = population[winners]
        mixed = generator.random((children, 1)) < self.crossover
        child = np.where(mixed & (generator.random(mother.shape) < 0.5), father, mother)
        child = child + size * generator.standard_normal(child.shape, dtype=np.float32)
        return np.concatenate([population[_ranked(fitness)[: self.elite]], child.astype(np.float32)])


class Arena:
    """Where populations play: some stretches for each member, the same for all, new in every round.

    Args:
        markets, rules: of the task. episodes: B, stretches of each member. sessions: L, of each stretch.
        seed: of starts and first weights.

    Raises:
        ValueError: no market is long enough for an episode.
    """

    def __init__(self, markets: Markets, rules: Rules, episodes: int, sessions: int, seed: int) -> None:
        self._markets, self._rules, self._seed = markets, rules, seed
        self._starts = markets.starts(sessions)
        self._generator = np.random.default_rng((seed, 2))
        self._episodes, self._sessions = episodes, sessions
        self._batches: dict[int, Batch] = {}

    @property
    def steps(self) -> int:
        """Environment steps of a member in a round."""
        return self._episodes * self._sessions

    def play(self, network: PolicyNetwork, population: Float32) -> Floats:
        """(P,) mean reward of a step, for (P, W) weights; after a ruin nothing is earned any more."""
        P, B = len(population), self._episodes
        if P not in self._batches:
            self._batches[P] = Batch(self._markets, self._rules, P * B, self._seed)
        batch = self._batches[P]
        layers = [
            layer if layer.ndim == 3 else layer[:, None, :]
            for layer in unflatten(population, [layer.shape for layer in network.layers])
        ]
        at, weights = self._first(batch.assets)
        seen = batch.begin(np.tile(at, P), np.tile(weights, (P, 1)))
        total, alive = np.zeros(P * B), np.ones(P * B, dtype=bool)
        for _ in range(self._sessions):
            x = ((seen - network.center) / network.scale).reshape(P, B, -1)
            head = forward(tuple(layers), x).reshape(P * B, -1)
            step = batch.step(spread(head, network.least, network.most))
            total += np.where(alive, step.reward, 0.0)
            alive &= ~step.terminated
            seen = step.observation
        return np.asarray(total.reshape(P, B).mean(axis=1) / self._sessions)

    def _first(self, assets: int) -> tuple[Ints, Floats]:
        """(B,) positions and (B, N) weights to begin with."""
        at = self._starts[self._generator.integers(len(self._starts), size=self._episodes)]
        weights = np.zeros((self._episodes, assets))
        if self._rules.random_weight:
            limits = self._rules.limits
            weights = limits.clip(self._generator.uniform(limits.least, limits.most, weights.shape))
        return at, weights


def _deviations(network: PolicyNetwork) -> Float32:
    """(W,) the deviation each weight is drawn with: that of He et al. 2015 for matrices, a tenth for biases."""
    shapes = [layer.shape for layer in network.layers]
    each = [np.sqrt(2.0 / shape[0]) if len(shape) == 2 else 0.1 for shape in shapes]
    return np.repeat(each, [int(np.prod(shape)) for shape in shapes]).astype(np.float32)


def _ranked(fitness: Floats) -> Ints:
    """Places from the fittest down, the earlier first among equals."""
    return np.argsort(-fitness, kind="stable")
