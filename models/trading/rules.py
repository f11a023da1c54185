"""The rules that an agent has to beat, and what they are measured by.

    volatility target            `sizing.target_weight`, with the no-trade band of the backtest
    volatility target, banded    `Banded`, its band tuned on the past
    buy and hold                 `Sleeves.buy_and_hold`
    equal weight                 everything invested, brought back to equal sleeves every session
    constant exposure            likewise, the exposure tuned on the past
    momentum                     `momentum`

All are decided at the close, by what is known then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.trading.market import carry

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

MOMENTUM_SESSIONS = 252
RUIN = 1e-3
"""The smallest share of wealth that a session leaves, as in `env.Batch`."""


@dataclass(frozen=True)
class Banded:
    """Hold the weight that is seen in one column of the observation; trade only when further from it than the band.

    With proportional costs the best policy has such a band round its target (Davis and Norman 1990; Garleanu and
    Pedersen 2013 for the linear-quadratic case). A policy as in models/trading/policy.py, of one asset.

    Attributes:
        column: of the observation that holds the target, scaled.
        center, scale: of that column: the target is center + scale x what is seen.
        band: largest distance of the own weight from its target, both at the close of the decision.
    """

    column: int
    center: float
    scale: float
    band: float

    def target(self, observation: Float32) -> Floats:
        """(E, 1) weights for (E, D) observations, NaN within the band."""
        wanted = self.center + self.scale * observation[:, self.column].astype(np.float64)  # (E,)
        own = observation[:, -2].astype(np.float64)  # (E,)
        return np.where(np.abs(wanted - own) > self.band, wanted, np.nan)[:, None]


def momentum(closes: Floats, least: float, most: float, sessions: int = MOMENTUM_SESSIONS) -> Floats:
    """(T, N) weights by the sign of the trailing return (Moskowitz, Ooi and Pedersen 2012, section 3): `most` after a
    rise, `least` otherwise; NaN, which leaves the position alone, where either close is missing.

    Args:
        closes: (T, N) adjusted closes on the assets' own sessions, NaN = none; a gap is carried by `market.carry`.
        least, most: limits of a weight.
        sessions: over which the return is taken.
    """
    known = carry(closes)
    weights = np.full(closes.shape, np.nan)
    now, before = known[sessions:], known[:-sessions]
    sized = np.where(now > before, most, least)
    weights[sessions:] = np.where(np.isfinite(now) & np.isfinite(before), sized, np.nan)
    return weights


def rewards(wealth: Floats, risk_aversion: float) -> Floats:
    """(..., T) reward of each session, g - risk_aversion / 2 g^2 with g the log growth since the session before.

    The mean of a year of them is the certainty-equivalent growth: what a sure growth would have to be to count as much.

    Args:
        wealth: (..., T), NaN outside its life; the reward of a life's first session is NaN.
        risk_aversion: beyond that of log utility.
    """
    now, before = wealth[..., 1:], wealth[..., :-1]
    found = np.full(wealth.shape, np.nan)
    growth = np.log(np.maximum(now / np.where(before > 0, before, np.nan), RUIN))
    found[..., 1:] = growth - risk_aversion / 2 * growth * growth
    return found
