"""Tickers as sleeves of equal capital: together in one portfolio, or each on its own.

A sleeve weight is the share of the ticker's own sleeve that is invested. In the portfolio a sleeve is 1 / n
of the capital while n tickers are listed. NaN leaves the position alone; a ticker that is not listed is sold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.trading.market import Costs, simulate
from models.trading.sizing import SESSIONS_PER_YEAR

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MATCHING_ROUNDS = 8
COST_GRID_BPS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0)


@dataclass(frozen=True)
class Curves:
    """S strategies in G scopes; figures are of the opens of T sessions, NaN outside the scope's life.

    wealth: (S, G, T), 1 at the start. turnover, costs: (S, G, T), value traded and costs over wealth.
    """

    wealth: Floats
    turnover: Floats
    costs: Floats


@dataclass(frozen=True)
class Sleeves:
    """What is traded, and how.

    Attributes:
        opens: (T, N) adjusted opens, NaN = none.
        listed: (T, N), whether the ticker is part of the universe.
        costs: of every trade.
        band: no trade while a sleeve's weight is within this of its target.
        pooled: True for one portfolio (G = 1), False for each ticker on its own (G = N).
        own: (T, N), where a date is a session of the ticker's exchange; None = everywhere.
    """

    opens: Floats
    listed: Bools
    costs: Costs
    band: float
    pooled: bool
    own: Bools | None = None

    @property
    def life(self) -> Bools:
        """(G, T): from the first session with a listed ticker to the last session with one."""
        listed: Bools = np.asarray(self.listed.any(axis=1))[None, :] if self.pooled else self.listed.T
        since = np.asarray(np.logical_or.accumulate(listed, axis=1))
        until = np.asarray(np.logical_or.accumulate(listed[:, ::-1], axis=1))[:, ::-1]
        # The position of the last listed session is closed at the open after it.
        life: Bools = since & (until | np.pad(until, ((0, 0), (1, 0)))[:, :-1])
        return life

    def run(self, weights: Floats, bands: Floats | None = None, costs: Costs | None = None) -> Curves:
        """Trade S strategies in every scope.

        Args:
            weights: (S, T, N) sleeve weights decided at each close.
            bands: (S,) no-trade bands; default the sleeves' band for all.
            costs: with (S,) rates; default the sleeves' costs for all.
        """
        S, (T, N) = len(weights), self.opens.shape
        # What is no longer listed is sold whole, whatever the band.
        weights = np.where(self.listed, weights, 0.0)
        band = np.full(S, self.band) if bands is None else bands
        band = np.where(self.listed, band[:, None, None], 0.0)
        if self.pooled:
            share = self.listed / np.maximum(self.listed.sum(axis=1, keepdims=True), 1)  # (T, N)
            ledger = simulate(weights * share, self.opens, costs or self.costs, band * share, own=self.own)
            G = 1
        else:
            # E = S * N runs of one asset each, strategies outermost.
            flat, each_band = (part.transpose(0, 2, 1).reshape(S * N, T, 1) for part in (weights, band))
            opens = np.tile(self.opens.T[:, :, None], (S, 1, 1))
            own = None if self.own is None else np.tile(self.own.T[:, :, None], (S, 1, 1))
            rates = costs or self.costs
            each = Costs(np.repeat(np.broadcast_to(rates.rate * 1e4, S), N), 0.0)
            ledger = simulate(flat, opens, each, each_band, own=own)
            G = N
        outside = ~self.life
        found = []
        for figures in (ledger.wealth, ledger.turnover, ledger.costs):
            shaped = figures.reshape(S, G, T).copy()
            shaped[:, outside] = np.nan
            found.append(shaped)
        return Curves(*found)

    def constant(self, exposure: Floats) -> Floats:
        """(T, N) sleeve weights at (G,) constant exposures."""
        return np.where(self.listed, exposure if not self.pooled else exposure[0], np.nan)

    def buy_and_hold(self) -> Floats:
        """(T, N) sleeve weights that buy once, and again only when the portfolio's tickers change.

        An order that meets no price stands until it does.
        """
        weights = np.full(self.listed.shape, np.nan)
        waiting = np.zeros(self.listed.shape[1], dtype=bool)
        before = np.zeros_like(waiting)
        for t, listed in enumerate(self.listed):
            changed = listed != before
            waiting = (waiting | (changed.any() if self.pooled else changed)) & listed
            weights[t, waiting] = 1.0
            if t + 1 < len(self.opens):
                waiting = waiting & ~np.isfinite(self.opens[t + 1])
            before = listed
        return weights

    def matched_exposure(self, wealth: Floats) -> Floats:
        """(G,) constant exposures whose volatility over the whole life equals that of (G, T) wealth.

        This looks back over the whole life: a yardstick, not a strategy.
        """
        goal = volatility(wealth)
        exposure = np.ones(len(wealth))
        for _ in range(MATCHING_ROUNDS):
            reached = volatility(self.run(self.constant(exposure)[None]).wealth[0])
            moves = (reached > 0) & np.isfinite(goal)
            exposure = np.where(moves, exposure * goal / np.where(moves, reached, 1.0), 0.0)
        return exposure

    def breakeven_bps(self, weights: Floats, exposure: Floats) -> Floats:
        """(S, G) cost a side, in bps, at which each strategy grows no more than constant exposure.

        Both pay that cost on every trade. NaN where the strategy is behind even without costs, or still ahead
        at 300 bps.

        Args:
            weights: (S, T, N) sleeve weights.
            exposure: (G,) constant exposures of the yardstick.
        """
        runs = np.concatenate([weights, self.constant(exposure)[None]])
        S, K = len(runs), len(COST_GRID_BPS)
        rates = Costs(np.repeat(COST_GRID_BPS, S), 0.0)
        wealth = self.run(np.tile(runs, (K, 1, 1)), costs=rates).wealth  # (K * S, G, T)
        ends = np.nanmin(np.where(_last(wealth), wealth, np.nan), axis=-1).reshape(K, S, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = np.log(ends)
            return _crossing(growth[:, :-1] - growth[:, -1:])


def volatility(wealth: Floats) -> Floats:
    """(...) annual volatility of (..., T) wealth, NaN outside its life left aside."""
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.diff(np.log(wealth), axis=-1)
    annual: Floats = np.nanstd(r, axis=-1) * np.sqrt(SESSIONS_PER_YEAR)
    return annual


def _last(wealth: Floats) -> Bools:
    """True at the last known entry of the last axis."""
    known: Bools = np.isfinite(wealth)
    after = np.asarray(np.logical_or.accumulate(known[..., ::-1], axis=-1))[..., ::-1]
    last: Bools = known & ~np.pad(after[..., 1:], [(0, 0)] * (wealth.ndim - 1) + [(0, 1)])
    return last


def _crossing(excess: Floats) -> Floats:
    """Where (K, S, G) excess growth over COST_GRID_BPS first falls to zero, by linear interpolation."""
    grid = np.asarray(COST_GRID_BPS)
    below = excess <= 0
    k = np.maximum(below.argmax(axis=0), 1)
    high, low = (np.take_along_axis(excess, at[None], axis=0)[0] for at in (k - 1, k))
    crossing = grid[k - 1] + (grid[k] - grid[k - 1]) * high / np.where(high > low, high - low, 1.0)
    return np.where((excess[0] > 0) & below.any(axis=0), crossing, np.nan)
