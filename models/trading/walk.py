"""Policies walked through a history they have not learned from, several at once, each asset on its own.

The loop is that of `market.simulate`, with each target asked for at the close of its session, since a policy sees its
own weight. What it gives are targets; they are traded again by `Sleeves`, as every other strategy is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.trading.market import Costs, Limits, carry, fill, flat, hold
from models.trading.observation import COST_UNIT_BPS
from models.trading.policy import Policy

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Walk:
    """S strategies in N assets, each pair with wealth of its own, from cash at the first session on.

    Args:
        opens: (T, N) adjusted opens, NaN = none.
        listed: (T, N), whether the asset is part of the universe; one that is not is sold.
        own: (T, N), where a date is a session of the asset's exchange. A decision stands on the others.
        costs: of every trade. limits: of a target. strategies: S. start: first session of a decision.

    Attributes:
        targets: (S, T, N) decided so far; NaN leaves the position alone, and stands before the start.
        at: the next session to decide.
    """

    def __init__(
        self, opens: Floats, listed: Bools, own: Bools, costs: Costs, limits: Limits, strategies: int, start: int = 0
    ) -> None:
        T, N = opens.shape
        self.targets = np.full((strategies, T, N), np.nan)
        self.at = start
        self._known, self._listed, self._own = np.isfinite(opens), listed, own
        self._prices = carry(opens, own=own)
        self._costs, self._limits = costs, limits
        self._rate = float(costs.rate[0]) * 1e4 / COST_UNIT_BPS
        self._state = flat(strategies * N, 1)  # E = S * N, strategies outermost

    def go(self, policies: Sequence[Policy], observed: Float32, ready: Bools, end: int) -> None:
        """Decide every session before `end`.

        Args:
            policies: S, of one asset each. observed: (T, N, K), finite where ready.
            ready: (T, N), where there is something to decide by; elsewhere the position is left alone.
            end: at most T.
        """
        T, N = self._known.shape
        S = len(policies)
        for t in range(self.at, end):
            weights = self._state.weights.reshape(S, N)
            seen = np.empty((N, observed.shape[2] + 2), np.float32)
            seen[:, :-2], seen[:, -1] = observed[t], self._rate
            asked = np.flatnonzero(ready[t] & self._own[t] & self._listed[t])
            # On a date that is no session of the asset its last decision stands.
            target = np.where(self._own[t], np.nan, self.targets[:, t - 1])  # (S, N)
            for s, policy in enumerate(policies):
                seen[:, -2] = weights[s]
                if len(asked):
                    target[s, asked] = policy.target(seen[asked])[:, 0]
            self.targets[:, t] = np.where(self._listed[t], self._limits.clip(target[..., None])[..., 0], 0.0)
            if t + 1 < T:
                self._step(t)
        self.at = max(self.at, end)

    def _step(self, t: int) -> None:
        """From the open of t to that of t+1 and its trades."""
        S = len(self.targets)
        now, after = (np.tile(self._prices[at], S)[:, None] for at in (t, t + 1))  # (E, 1)
        tradable = np.tile(self._known[t + 1], S)[:, None]
        owned = hold(self._state, now, after, self._costs)
        self._state, _ = fill(owned, self.targets[:, t].reshape(-1, 1), self._costs, 0.0, tradable, ~np.isfinite(after))
