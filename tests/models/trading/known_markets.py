"""Simulated markets of which the best policy is known, by dynamic programming that shares no code with the environment.

A world is a Markov chain x that is seen. The price moves from the open of t+1 to that of t+2 by one of two returns,
whose sizes and chances depend on x_t alone. An observation shows x_t and x_{t-1}; with the agent's weight that is all
there is to know: the position drifts by the return that belongs to x_{t-1} before its order is filled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.trading.env import Markets, Rules
from models.trading.market import Costs, Limits
from models.trading.policy import Policy, value

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

HISTORIES, SESSIONS = 512, 302
STEP = 0.05


@dataclass(frozen=True)
class World:
    """M states x 2 outcomes.

    shown: (M,) what is observed of a state. moves: (M, M) chances from row to column. returns, chances: (M, 2).
    """

    shown: Floats
    moves: Floats
    returns: Floats
    chances: Floats

    @cached_property
    def stationary(self) -> Floats:
        """(M,) share of time in each state."""
        return np.asarray(np.linalg.matrix_power(self.moves, 4096)[0])

    def markets(self, seed: int) -> Markets:
        """512 histories of one asset over 302 sessions.

        They come in pairs of the same states with mirrored draws of the outcomes: whose luck is the other's bad luck.
        """
        generator = np.random.default_rng(seed)
        states = np.zeros((HISTORIES, SESSIONS + 1), np.int64)  # x of the session before the first, then of each
        states[:, 0] = np.tile(generator.choice(len(self.shown), HISTORIES // 2, p=self.stationary), 2)
        limits = np.cumsum(self.moves, axis=1)[:, :-1]
        for t, draw in enumerate(generator.random((SESSIONS, HISTORIES // 2, 1))):
            states[:, t + 1] = (np.tile(draw, (2, 1)) > limits[states[:, t]]).sum(axis=1)
        draw = generator.random((HISTORIES // 2, SESSIONS - 1))
        second = np.concatenate([draw, 1 - draw]) > self.chances[states[:, :-2], 0]
        returns = self.returns[states[:, :-2], second.astype(np.int64)]  # of the open of t to that of t+1: x_{t-1}
        opens = 100 * np.cumprod(np.pad(1 + returns, ((0, 0), (1, 0)), constant_values=1.0), axis=1)
        shown = self.shown[states].astype(np.float32)
        playable = np.ones((HISTORIES, SESSIONS), dtype=bool)
        playable[:, -2:] = False
        return Markets(opens[:, :, None], np.stack([shown[:, 1:], shown[:, :-1]], axis=-1)[:, :, None], playable)


@dataclass(frozen=True)
class Solution:
    """Dynamic programming over (x_{t-1}, x_t, weight), for an episode of finite length without a closing trade.

    An order is for a weight on a grid of .05, or none at all; weights between grid points, which only a position left
    alone can have, are interpolated.
    """

    world: World
    rules: Rules

    @cached_property
    def weights(self) -> Floats:
        """(G,) weights a position can have; one of a short seller can drift beyond the limits."""
        least, most = self.rules.limits.least, self.rules.limits.most
        spare = 0.25 if least < 0 else 0.0
        return np.arange(round((least - spare) / STEP), round((most + spare) / STEP) + 1) * STEP

    @cached_property
    def orders(self) -> Floats:
        """(A,) weights that can be ordered, then NaN: leave alone."""
        limits = self.rules.limits
        inside = (self.weights > limits.least - 1e-9) & (self.weights < limits.most + 1e-9)
        return np.append(self.weights[inside], np.nan)

    @cached_property
    def _drifted(self) -> Floats:
        """(M, G, 2) weights at the open that follows, by x_{t-1}, weight and outcome."""
        r, w = self.world.returns[:, None, :], self.weights[None, :, None]
        return w * (1 + r) / (1 + w * r)

    @cached_property
    def rewards(self) -> Floats:
        """(M, M, G, A) expected reward by x_{t-1}, x_t, weight and order."""
        rules, world = self.rules, self.world
        c = (float(rules.costs.half_spread_bps) + float(rules.costs.commission_bps)) / 1e4
        drifted = self._drifted[..., None]  # (M, G, 2, 1)
        wanted = np.where(np.isnan(self.orders), drifted, self.orders)  # (M, G, 2, A)
        # Wealth w after buying solves w = 1 - c (wanted w - drifted), after selling w = 1 - c (drifted - wanted w).
        side = np.where(wanted >= drifted, c, -c)
        left = (1 + side * drifted) / (1 + side * wanted)
        earned = 1 + wanted[:, None, ..., None] * world.returns[None, :, None, None, None, :]  # (M, M, G, 2, A, 2)
        g = np.log(left[:, None, ..., None] * earned)
        utility = 100 * (g - rules.risk_aversion / 2 * g**2)
        return np.einsum("kmgiaj,ki,mj->kmga", utility, world.chances, world.chances, optimize=True)

    def ahead(self, values: Floats) -> Floats:
        """(M, M, G, A) expected value at the next decision, of (M, M, G) values there."""
        following = np.einsum("mn,mng->mg", self.world.moves, values)  # by x_t and the weight after the trade
        places = np.searchsorted(self.weights, self.orders[:-1] - 1e-9)
        M, G, A = len(following), len(self.weights), len(self.orders)
        found = np.empty((M, M, G, A))
        found[..., :-1] = following[None, :, None, places]
        for m, curve in enumerate(following):
            alone = np.interp(self._drifted, self.weights, curve)  # (M, G, 2)
            found[:, m, :, -1] = (alone * self.world.chances[:, None, :]).sum(axis=-1)
        return found

    def start(self, values: Floats) -> float:
        """The mean over first states and weights of (M, M, G) values."""
        by_weight = np.einsum("k,km,kmg->g", self.world.stationary, self.world.moves, values)
        limits = self.rules.limits
        if not self.rules.random_weight:
            return float(np.interp(0.0, self.weights, by_weight))
        first = np.linspace(limits.least, limits.most, 2001)
        return float(np.interp(first, self.weights, by_weight).mean())

    @cached_property
    def best(self) -> tuple[float, Ints]:
        """The value per step of the best policy, and its first orders (M, M, G), as places in `orders`."""
        values = np.zeros(self.rewards.shape[:3])
        for _ in range(self.rules.length):
            each = self.rewards + self.ahead(values)
            values = each.max(axis=-1)
        return self.start(values) / self.rules.length, each.argmax(axis=-1)

    def worth(self, orders: Ints) -> float:
        """The value per step of always doing these (M, M, G) places in `orders`."""
        values = np.zeros(self.rewards.shape[:3])
        for _ in range(self.rules.length):
            each = self.rewards + self.ahead(values)
            values = np.take_along_axis(each, orders[..., None], axis=-1)[..., 0]
        return self.start(values) / self.rules.length

    def in_cash(self) -> float:
        """The value per step of selling at once what there is and staying out."""
        out = int(np.nanargmin(np.abs(self.orders)))
        return self.worth(np.full(self.rewards.shape[:3], out))


@dataclass(frozen=True)
class Lookup(Policy):
    """Orders (M, M, G) of a solution, at the nearest weight."""

    solution: Solution
    orders: Ints

    def target(self, observation: Float32) -> Floats:
        now, before = (nearest(self.solution.world.shown, observation[:, column]) for column in (0, 1))
        at = self.orders[before, now, nearest(self.solution.weights, observation[:, 2])]
        return self.solution.orders[at][:, None]


@dataclass(frozen=True)
class Known:
    """A market with its best policy.

    markets: to learn on. unseen: more of the same world, to be judged on. rules: of both.
    optimal: value per step of the best policy, that may mind how much of the episode is left. cash: of staying out.
    steady: the best policy's first orders, given whatever is left. steady_value: what they are worth for ever.
    """

    world: World
    rules: Rules
    markets: Markets = field(repr=False)
    unseen: Markets = field(repr=False)
    optimal: float
    cash: float
    steady: Policy = field(repr=False)
    steady_value: float

    def share(self, policy: Policy, environments: int = 2048, seed: int = 1) -> float:
        """The part of what can be gained over cash that a policy gains, in unseen histories.

        The luck of the episodes is measured on the steady policy, whose value is known, and taken off.
        """
        luck = value(self.steady, self.unseen, self.rules, environments, seed) - self.steady_value
        reached = value(policy, self.unseen, self.rules, environments, seed) - luck
        return (reached - self.cash) / (self.optimal - self.cash)


def known(world: World, rules: Rules, seed: int = 0) -> Known:
    """Histories and the solution of a world."""
    solution = Solution(world, rules)
    optimal, orders = solution.best
    markets, unseen = world.markets(seed), world.markets(seed + 1000)
    steady = Lookup(solution, orders)
    return Known(world, rules, markets, unseen, optimal, solution.in_cash(), steady, solution.worth(orders))


def nearest(places: Floats, found: npt.NDArray[np.floating]) -> Ints:
    """Of ascending places the index of the nearest to each."""
    return np.asarray(np.searchsorted((places[1:] + places[:-1]) / 2, found), dtype=np.int64)


def signalled(seed: int = 0) -> Known:
    """A signal of -1, 0 or 1 tells the likelier sign of the next return; at 0 the best is to keep what one has."""
    moves = np.array([[0.7, 0.25, 0.05], [0.2, 0.6, 0.2], [0.05, 0.25, 0.7]])
    up = np.array([0.3, 0.5, 0.7])
    world = World(np.array([-1.0, 0.0, 1.0]), moves, np.tile([0.02, -0.02], (3, 1)), np.stack([up, 1 - up], axis=1))
    return known(world, Rules(Costs(40.0, 10.0), Limits(-1.0, 1.0), length=100, levels=5), seed)


def banded(seed: int = 0) -> Known:
    """A constant premium at one of two volatilities, dear to trade: mean-variance exposure within a no-trade band."""
    sigma = np.array([0.01, 0.02])
    moves = np.array([[0.95, 0.05], [0.10, 0.90]])
    world = World(sigma / 0.01 - 1.5, moves, 0.004 + np.stack([sigma, -sigma], axis=1), np.full((2, 2), 0.5))
    rules = Rules(Costs(40.0, 10.0), Limits(0.0, 1.0), risk_aversion=49.0, length=100, levels=6)
    return known(world, rules, seed)


def random_walk(seed: int = 0) -> Known:
    """No premium, a signal that tells nothing, and costs: from cash the best is never to trade."""
    world = World(np.array([-1.0, 1.0]), np.full((2, 2), 0.5), np.tile([0.03, -0.03], (2, 1)), np.full((2, 2), 0.5))
    rules = Rules(Costs(40.0, 10.0), Limits(-1.0, 1.0), length=100, levels=5, random_weight=False)
    return known(world, rules, seed)
