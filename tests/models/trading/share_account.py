"""The market once more, by share and by cent: a plain loop over one account, slow and without weights or vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from models.trading.market import NO_LIMITS, Costs, Limits

Floats = np.ndarray


@dataclass
class Account:
    """Cash and shares of one strategy, with the money that moved since it was opened.

    earned: by prices. dividends: received less paid. fees: for borrowing shares and cash. costs: of trading.
    """

    cash: float
    shares: list[float]
    earned: float = 0.0
    dividends: float = 0.0
    fees: float = 0.0
    costs: float = 0.0
    ruined: bool = False
    last: list[float] = field(default_factory=list)

    def worth(self) -> float:
        return self.cash + sum(n * p for n, p in zip(self.shares, self.last, strict=True) if n)

    def weights(self) -> list[float]:
        worth = self.worth()
        return [n * p / worth if n else 0.0 for n, p in zip(self.shares, self.last, strict=True)]


@dataclass(frozen=True)
class Terms:
    """Costs as plain shares, and what a target and a delisted asset are worth."""

    costs: Costs
    limits: Limits = NO_LIMITS
    recovery: float = 1.0
    band: float = 0.0

    @property
    def rate(self) -> float:
        return (float(self.costs.half_spread_bps) + float(self.costs.commission_bps)) / 10_000

    @property
    def impact(self) -> float:
        return float(self.costs.impact_bps) / 10_000

    def a_session(self, bps: float) -> float:
        return bps / 10_000 / self.costs.sessions_per_year


def run(
    targets: Floats, opens: Floats, dividends: Floats, splits: Floats, terms: Terms, max_gap: int
) -> tuple[Account, Floats, Floats]:
    """The account after (T, N) targets at (T, N) opens, its (T,) wealth and (T, N) weights."""
    T, N = opens.shape
    account = Account(1.0, [0.0] * N, last=[math.nan] * N)
    silent = [10**6] * N
    wealth, weights = np.ones(T), np.zeros((T, N))
    for i in range(N):
        if math.isfinite(opens[0, i]):
            account.last[i], silent[i] = float(opens[0, i]), 0
    for t in range(T - 1):
        _between(account, terms)
        closed = []
        for i in range(N):
            quoted = math.isfinite(opens[t + 1, i])
            silent[i] = 0 if quoted else silent[i] + 1
            gone = silent[i] > max_gap
            account.cash += account.shares[i] * dividends[t, i] if account.shares[i] else 0.0
            account.dividends += account.shares[i] * dividends[t, i] if account.shares[i] else 0.0
            before = account.last[i]
            account.shares[i] *= splits[t, i]
            # Carried, the same share in smaller pieces, or what is recovered of it.
            left = before / splits[t, i] * (terms.recovery if gone else 1.0)
            price = float(opens[t + 1, i]) if quoted else left
            if account.shares[i]:
                account.earned += account.shares[i] * (price - before / splits[t, i])
            account.last[i] = price
            if gone:
                closed.append(i)
        if account.worth() <= 0:
            account.ruined = True
            account.cash, account.shares = 0.0, [0.0] * N
        if not account.ruined:
            trading = [math.isfinite(opens[t + 1, i]) for i in range(N)]
            _trade(account, list(targets[t]), closed, trading, terms)
        for i in closed:
            account.last[i] = math.nan
        wealth[t + 1] = account.worth()
        weights[t + 1] = account.weights() if wealth[t + 1] > 0 else 0.0
    return account, wealth, weights


def _between(account: Account, terms: Terms) -> None:
    """The fees of holding what is held now until the next open."""
    short = sum(-n * p for n, p in zip(account.shares, account.last, strict=True) if n < 0)
    owed = max(-account.cash, 0.0)
    fee = short * terms.a_session(float(terms.costs.borrow_bps)) + owed * terms.a_session(float(terms.costs.margin_bps))
    account.cash -= fee
    account.fees += fee


def _trade(account: Account, target: list[float], closed: list[int], trading: list[bool], terms: Terms) -> None:
    """Sell what is gone, and fill the orders for what can be traded."""
    before = account.worth()
    limits = terms.limits
    target = [min(max(w, limits.least), limits.most) if math.isfinite(w) else math.nan for w in target]
    total = sum(abs(w) for w in target if math.isfinite(w))
    if total > limits.gross:
        target = [w * limits.gross / total for w in target]
    wanted: dict[int, float] = {i: 0.0 for i in closed if account.shares[i]}
    for i, w in enumerate(target):
        held = account.shares[i] * account.last[i] / before if account.shares[i] else 0.0
        if trading[i] and math.isfinite(w) and abs(w - held) > terms.band:
            wanted[i] = w

    def paid(after: float) -> float:
        traded = [abs(w * after - account.shares[i] * account.last[i]) for i, w in wanted.items()]
        return sum(terms.rate * v + terms.impact * v * v / before for v in traded)

    low, high = 0.0, before
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if middle + paid(middle) > before else (middle, high)
    after = (low + high) / 2
    account.costs += before - after
    account.cash -= before - after
    for i, w in wanted.items():
        new = w * after / account.last[i] if w else 0.0  # what is gone may be worth nothing
        account.cash -= (new - account.shares[i]) * account.last[i]
        account.shares[i] = new
