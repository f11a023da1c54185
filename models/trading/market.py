"""One market: how a target weight becomes a trade, a cost and a profit. Backtests and agents share it.

A decision taken at the close of session t is filled at the open of t+1 and earns from there. One step from open to
open has two halves: `hold`, in which prices move, dividends and splits are booked and borrowing is paid for; and
`fill`, in which the trades are made and paid for. Cash earns nothing. Every trade pays half the spread, the commission
and its impact on the value traded, out of cash, and leaves exactly the weight aimed for.

With adjusted prices dividends and splits are part of the price; with prices as they were quoted they are given beside
them. Everything is vectorised over E strategies (or environments) and N assets; the only loop is over sessions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.trading.sizing import SESSIONS_PER_YEAR

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAX_GAP = 5
_FILL_ROUNDS = 200


class Costs(NamedTuple):
    """What trading and holding cost; every figure a number, or (E,) to run several at once.

    Attributes:
        half_spread_bps, commission_bps: of the value traded, in basis points.
        impact_bps: on top, for a trade as large as the whole wealth; linear in the trade's share of wealth.
        borrow_bps: a year, of the value of short positions, paid for every session they are held.
        margin_bps: a year, of cash that is owed.
        sessions_per_year: what a year of borrowing is divided into.
    """

    half_spread_bps: float | Floats
    commission_bps: float | Floats
    impact_bps: float | Floats = 0.0
    borrow_bps: float | Floats = 0.0
    margin_bps: float | Floats = 0.0
    sessions_per_year: float = SESSIONS_PER_YEAR

    @property
    def rate(self) -> Floats:
        """Cost per unit of value traded before impact, (1,) or (E,)."""
        return np.atleast_1d(np.asarray(self.half_spread_bps, dtype=np.float64) + self.commission_bps) / 1e4

    @property
    def impact(self) -> Floats:
        """Cost per unit of value traded and share of wealth traded, (1,) or (E,)."""
        return np.atleast_1d(np.asarray(self.impact_bps, dtype=np.float64)) / 1e4

    @property
    def lending(self) -> tuple[Floats, Floats]:
        """Cost a session of a unit short, and of a unit of cash owed, each (1,) or (E,)."""
        borrow, margin = (
            np.atleast_1d(np.asarray(bps, dtype=np.float64)) / 1e4 / self.sessions_per_year
            for bps in (self.borrow_bps, self.margin_bps)
        )
        return borrow, margin


class Limits(NamedTuple):
    """What a target may be: each weight in [least, most], their absolute values at most `gross` together.

    Limits hold for orders: a position that drifts beyond one is brought back by the next order for it.
    """

    least: float = -np.inf
    most: float = np.inf
    gross: float = np.inf

    def clip(self, target: Floats) -> Floats:
        """(E, N) targets within the limits, all of a strategy scaled alike where their sum is too large; NaN stays."""
        held = np.clip(target, self.least, self.most)
        if np.isfinite(self.gross):
            total = np.nansum(np.abs(held), axis=-1, keepdims=True)
            held = held * (self.gross / np.maximum(total, self.gross))
        return held


class Payouts(NamedTuple):
    """What an asset pays between two opens beside its price, where prices are as they were quoted; (N,) or (E, N).

    Attributes:
        dividend: money for each share held at the earlier open; a short position pays it.
        split: shares that one share has become by the later open, 2 for a split of two for one.
    """

    dividend: Floats | float = 0.0
    split: Floats | float = 1.0


NOTHING_PAID = Payouts()
NO_LIMITS = Limits()


class State(NamedTuple):
    """What is owned at an open, after its trades.

    wealth: (E,) money. weights: (E, N) shares of wealth; the rest, 1 - sum, is cash.
    """

    wealth: Floats
    weights: Floats


class Owned(NamedTuple):
    """What is owned at an open, before its trades.

    wealth: (E,) money. held: (E, N) money in each asset; the rest is cash.
    """

    wealth: Floats
    held: Floats


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
    limits: Limits = NO_LIMITS,
    payouts: Payouts = NOTHING_PAID,
    recovery: float = 1.0,
) -> tuple[State, Trades]:
    """From one open to the next: `hold`, then `fill` of the target decided in between.

    Args:
        state: what is owned at the open now.
        target: (E, N) weights decided at the close between the opens; NaN leaves the position alone.
        price_now, price_next: (N,) or (E, N) prices at the two opens; NaN = none.
        costs: charged on the value traded, on shorts and on cash owed.
        band: no trade while the weight is within this of its target; broadcast to (E, N).
        tradable: (N,) or (E, N), False where the next price is only carried and no trade can be made.
        limits: of the target.
        payouts: dividends and splits between the opens; none where prices are adjusted for them.
        recovery: what an asset without a next price is worth, as a share of its price now.

    Raises:
        ValueError: something is held that has no price now.
    """
    gone = ~np.isfinite(price_next)
    owned = hold(state, price_now, price_next, costs, payouts, recovery)
    return fill(owned, limits.clip(target), costs, band, tradable, gone)


def hold(
    state: State,
    price_now: Floats,
    price_next: Floats,
    costs: Costs,
    payouts: Payouts = NOTHING_PAID,
    recovery: float = 1.0,
) -> Owned:
    """What the positions after the trades of one open are worth before those of the next.

    Wealth never falls below zero: a strategy that owes more than it owns ends with nothing.

    Args, raises: as `step`.
    """
    gone = ~np.isfinite(price_next)
    still = state.weights == 0
    growth = np.divide(price_next * payouts.split, price_now)
    growth = np.where(still, 1.0, np.where(gone, recovery, growth))
    now = state.wealth[:, None] * state.weights
    held = now * growth
    if np.isnan(held).any():
        raise ValueError("an asset is held that has no price now")
    wealth = state.wealth * (1.0 - state.weights.sum(axis=1)) + held.sum(axis=1)
    if np.any(payouts.dividend):
        paid = np.where(still, 0.0, now * np.divide(payouts.dividend, price_now))
        wealth = wealth + paid.sum(axis=1)
    borrow, margin = costs.lending
    if borrow.any() or margin.any():
        short = np.maximum(-now, 0.0).sum(axis=1)
        owed = np.maximum(now.sum(axis=1) - state.wealth, 0.0)
        wealth = wealth - borrow * short - margin * owed
    alive = wealth > 0
    return Owned(np.where(alive, wealth, 0.0), np.where(alive[:, None], held, 0.0))


def fill(
    owned: Owned,
    target: Floats,
    costs: Costs,
    band: float | Floats = 0.0,
    tradable: Bools | None = None,
    gone: Bools | None = None,
) -> tuple[State, Trades]:
    """Trade to the target at an open. An asset that is gone is closed at the usual cost.

    Args: as `step`; owned: before the trades. gone: (N,) or (E, N), what has no price any more; None = nothing.
    """
    before, held = owned
    weight = held / np.where(before > 0, before, 1.0)[:, None]
    trade = np.isfinite(target) & (np.abs(target - weight) > band) & (before > 0)[:, None]
    if tradable is not None:
        trade &= tradable
    wanted = np.where(trade, target, 0.0)
    if gone is not None:
        trade = np.where(gone, weight != 0, trade)
        wanted = np.where(gone, 0.0, wanted)
    after = _after_costs(before, held, wanted, trade, costs)
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
    limits: Limits = NO_LIMITS,
    payouts: Payouts = NOTHING_PAID,
    recovery: float = 1.0,
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
        limits, recovery: see `step`.
        payouts: of each open's positions until the next one, each (T, N) or a number.
    """
    E, T, N = targets.shape
    known = np.isfinite(opens)
    bands = np.broadcast_to(np.asarray(band, dtype=np.float64), targets.shape)
    dividend, split = (np.broadcast_to(np.asarray(each, dtype=np.float64), opens.shape) for each in payouts)
    paying = np.any(payouts.dividend) or np.any(np.asarray(payouts.split) != 1)
    # A price is carried over a split as that of as much money.
    pieces = np.cumprod(np.concatenate([np.ones_like(split[..., :1, :]), split[..., :-1, :]], axis=-2), axis=-2)
    carried = carry(opens * pieces, max_gap, own) / pieces
    state = flat(E, N)
    ledger = Ledger(np.ones((E, T)), np.zeros((E, T, N)), np.zeros((E, T)), np.zeros((E, T)))
    for t in range(T - 1):
        state, trades = step(
            state, targets[:, t], carried[..., t, :], carried[..., t + 1, :], costs, bands[:, t],
            known[..., t + 1, :], limits,
            Payouts(dividend[..., t, :], split[..., t, :]) if paying else NOTHING_PAID, recovery,
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


def _after_costs(before: Floats, held: Floats, wanted: Floats, trade: Bools, costs: Costs) -> Floats:
    """(E,) wealth w after trading to `wanted`: the solution of w = before - sum (rate + impact v / before) v over the
    values traded v = |wanted w - held|.

    Each round shrinks the error by rate * sum |wanted|, a thousandth at common costs.
    """
    after = before
    rate, impact = costs.rate, costs.impact
    held = np.where(trade, held, 0.0)
    over = np.where(before > 0, before, 1.0)
    for _ in range(_FILL_ROUNDS):
        traded = np.abs(wanted * after[:, None] - held)
        paid = rate * traded.sum(axis=1)
        if impact.any():
            paid = paid + impact * (traded * traded).sum(axis=1) / over
        last, after = after, np.maximum(before - paid, 0.0)
        if (np.abs(after - last) <= 1e-15 * before).all():
            break
    return after
