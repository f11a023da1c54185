"""One market: how a target weight becomes a trade, a cost and a profit. Backtests and agents share it.

A decision taken at the close of session t is filled at the open of t+1 and earns from there. Between two
opens weights drift with prices; cash earns nothing and borrowing costs nothing. Every trade pays half the
spread and the commission on the value traded, out of cash, and leaves exactly the weight aimed for.

Everything is vectorised over E strategies (or environments) and N assets; the only loop is over sessions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAX_GAP = 5
_FILL_ROUNDS = 200


class Costs(NamedTuple):
    """Cost of a trade in basis points of the value traded; a number, or (E,) to run several at once."""

    half_spread_bps: float | Floats
    commission_bps: float | Floats

    @property
    def rate(self) -> Floats:
        """Cost per unit of value traded, (1,) or (E,)."""
        return np.atleast_1d(np.asarray(self.half_spread_bps, dtype=np.float64) + self.commission_bps) / 1e4


class State(NamedTuple):
    """What is owned at an open, after its trades.

    wealth: (E,) money. weights: (E, N) shares of wealth; the rest, 1 - sum, is cash.
    """

    wealth: Floats
    weights: Floats


class Trades(NamedTuple):
    """What was done at an open.

    value: (E, N) money bought (+) or sold (-). cost: (E,) money paid for it.
    """

    value: Floats
    cost: Floats


class Ledger(NamedTuple):
    """A whole history; entry t is at the open of session t, after its trades.

    wealth: (E, T), the first 1. weights: (E, T, N).
    turnover, costs: (E, T), value traded and costs, over wealth before the trade.
    """

    wealth: Floats
    weights: Floats
    turnover: Floats
    costs: Floats


def flat(strategies: int, assets: int) -> State:
    """All in cash, one unit of it."""
    return State(np.ones(strategies), np.zeros((strategies, assets)))


def step(
    state: State,
    target: Floats,
    price_now: Floats,
    price_next: Floats,
    costs: Costs,
    band: float | Floats = 0.0,
    tradable: Bools | None = None,
) -> tuple[State, Trades]:
    """From one open to the next: positions drift, then the target decided in between is filled.

    An asset without a next price is closed at its price now, at the usual cost. Wealth never falls below
    zero: a strategy that owes more than it owns ends with nothing.

    Args:
        state: what is owned at the open now.
        target: (E, N) weights decided at the close between the opens; NaN leaves the position alone.
        price_now, price_next: (N,) or (E, N) adjusted prices at the two opens; NaN = none.
        costs: charged on the value traded.
        band: no trade while the weight is within this of its target; broadcast to (E, N).
        tradable: (N,) or (E, N), False where the next price is only carried and no trade can be made.

    Raises:
        ValueError: something is held that has no price now.
    """
    gone = ~np.isfinite(price_next)
    growth = np.where(gone | (state.weights == 0), 1.0, np.divide(price_next, price_now))
    before, held = _drifted(state, growth)
    weight = held / np.where(before > 0, before, 1.0)[:, None]
    trade = np.isfinite(target) & (np.abs(target - weight) > band) & (before > 0)[:, None]
    if tradable is not None:
        trade &= tradable
    trade = np.where(gone, weight != 0, trade)
    wanted = np.where(trade & ~gone, target, 0.0)
    after = _after_costs(before, held, wanted, trade, costs.rate)
    value = np.where(trade, wanted * after[:, None], held)
    weights = value / np.where(after > 0, after, 1.0)[:, None]
    return State(after, weights), Trades(value - held, before - after)


def simulate(
    targets: Floats,
    opens: Floats,
    costs: Costs,
    band: float | Floats = 0.0,
    max_gap: int = MAX_GAP,
    own: Bools | None = None,
) -> Ledger:
    """Trade a history of targets.

    A price missing for at most `max_gap` of the asset's own sessions is carried and cannot be traded meanwhile; after
    that the asset counts as delisted and is closed at its last known price.

    Args:
        targets: (E, T, N) weights, each decided at the close of its session; NaN leaves the position alone.
        opens: (T, N) or (E, T, N) adjusted opens, NaN = none.
        costs: charged on the value traded.
        band: no trade while the weight is within this of its target; broadcast to (E, T, N).
        max_gap: sessions a missing price is carried.
        own: as `opens`, where an entry is a session of the asset's exchange; None = everywhere.
    """
    E, T, N = targets.shape
    carried, known = carry(opens, max_gap, own), np.isfinite(opens)
    bands = np.broadcast_to(np.asarray(band, dtype=np.float64), targets.shape)
    state = flat(E, N)
    ledger = Ledger(np.ones((E, T)), np.zeros((E, T, N)), np.zeros((E, T)), np.zeros((E, T)))
    for t in range(T - 1):
        state, trades = step(
            state, targets[:, t], carried[..., t, :], carried[..., t + 1, :], costs, bands[:, t],
            known[..., t + 1, :],
        )  # fmt: skip
        before = state.wealth + trades.cost
        owned = np.where(before > 0, before, 1.0)
        ledger.wealth[:, t + 1] = state.wealth
        ledger.weights[:, t + 1] = state.weights
        ledger.turnover[:, t + 1] = np.abs(trades.value).sum(axis=1) / owned
        ledger.costs[:, t + 1] = trades.cost / owned
    return ledger


def carry(prices: Floats, max_gap: int = MAX_GAP, own: Bools | None = None) -> Floats:
    """Prices (..., T, N) with each gap filled by the last known price, for at most `max_gap` sessions of the asset's
    `own` (..., T, N); None = all are."""
    known = np.isfinite(prices)
    at = np.arange(prices.shape[-2])[:, None]
    last = np.maximum.accumulate(np.where(known, at, -1), axis=-2)
    since = np.maximum(last, 0)
    filled = np.take_along_axis(prices, since, axis=-2)
    clock = np.broadcast_to(at, prices.shape) if own is None else np.cumsum(own, axis=-2)
    gap = clock - np.take_along_axis(clock, since, axis=-2)
    return np.where((last >= 0) & (gap <= max_gap), filled, np.nan)


def _drifted(state: State, growth: Floats) -> tuple[Floats, Floats]:
    """(E,) wealth and (E, N) values held, before trading; nothing at all once wealth is gone."""
    held = state.wealth[:, None] * state.weights * growth
    if np.isnan(held).any():
        raise ValueError("an asset is held that has no price now")
    wealth = state.wealth * (1.0 - state.weights.sum(axis=1)) + held.sum(axis=1)
    alive = wealth > 0
    return np.where(alive, wealth, 0.0), np.where(alive[:, None], held, 0.0)


def _after_costs(before: Floats, held: Floats, wanted: Floats, trade: Bools, rate: Floats) -> Floats:
    """(E,) wealth w after trading to `wanted`: the solution of w = before - rate * sum |wanted w - held|.

    Each round shrinks the error by rate * sum |wanted|, a thousandth at common costs.
    """
    after = before
    for _ in range(_FILL_ROUNDS):
        traded = np.where(trade, np.abs(wanted * after[:, None] - held), 0.0).sum(axis=1)
        last, after = after, np.maximum(before - rate * traded, 0.0)
        if (np.abs(after - last) <= 1e-15 * before).all():
            break
    return after
