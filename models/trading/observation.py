"""What a policy sees of one asset: a forecast, a few features, then its own weight and the cost of trading.

One function for training and for scoring, so that both see the same numbers; NumPy only. A row is, in this order,

    log_vol_hH     log(annual volatility forecast over H sessions / target volatility), one a horizon
    q10, q90       forecast quantiles of the sizing horizon, in units of its sigma
    p_up_hH        chance of a rise over H sessions less one half, one a horizon
    rule_weight    weight by the volatility target, `models.trading.sizing.target_weight`
    features       those that were asked for, raw

The environment appends the asset's own weight and the rate of cost (`OWN`); these two are not scaled. All of it is
known at the close of the decision's session: the forecast and the features are those of that session, the weight is
the one after the trades of its open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES, Forecast
from models.scaling import WINSOR_LIMIT, Scaler
from models.trading.sizing import SESSIONS_PER_YEAR, sizing_horizon

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OWN = ("weight", "cost")
"""What the environment appends: the asset's own weight, and the rate of cost in units of COST_UNIT_BPS."""
COST_UNIT_BPS = 10.0
_LOW, _HIGH = QUANTILES.index(0.10), QUANTILES.index(0.90)


def names(horizons: Sequence[int], features: Sequence[str] = ()) -> list[str]:
    """The K columns of `observe`, in order."""
    volatilities, chances = ([f"{what}_h{h}" for h in horizons] for what in ("log_vol", "p_up"))
    return [*volatilities, "q10", "q90", *chances, "rule_weight", *features]


def observe(
    forecast: Forecast,
    rule_weight: Floats,
    features: Floats,
    horizons: tuple[int, ...],
    horizon: int,
    target_volatility: float,
    sessions_per_year: float | Floats = SESSIONS_PER_YEAR,
) -> Float32:
    """(..., K) float32, the columns `names`, unscaled; what is NaN in the arguments is NaN here.

    Args:
        forecast: of log returns, sigma (..., H).
        rule_weight: (...) weight by the volatility target.
        features: (..., F) raw, in the order given to `names`.
        horizons: H sessions ahead.
        horizon: wanted for sizing; the nearest one not above it is taken.
        target_volatility: annual, as a fraction.
        sessions_per_year: broadcast to (...).
    """
    at = horizons.index(sizing_horizon(horizons, horizon))
    year = np.asarray(sessions_per_year, dtype=np.float64)[..., None]  # (..., 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        volatility = np.log(forecast.sigma * np.sqrt(year / np.asarray(horizons)) / target_volatility)  # (..., H)
        spread = forecast.quantiles[..., at, (_LOW, _HIGH)] / forecast.sigma[..., at, None]  # (..., 2)
    chance = forecast.p_up - 0.5  # (..., H)
    weight = np.asarray(rule_weight)[..., None]  # (..., 1)
    return np.concatenate([volatility, spread, chance, weight, features], axis=-1, dtype=np.float32)


def complete(observed: Floats, horizons: Sequence[int]) -> Bools:
    """(..., K) -> (...): whether there is a forecast to decide by; features alone may be missing."""
    forecast = observed[..., : len(names(horizons))]
    return np.asarray(np.isfinite(forecast).all(axis=-1))


@dataclass(frozen=True)
class Scaling:
    """Centre and scale of the observed columns, from the training slice; the own weight and the cost have none.

    names: (K,) as given by `names`. scaler: over those columns.
    """

    names: tuple[str, ...]
    scaler: Scaler

    def __post_init__(self) -> None:
        shapes = self.scaler.center.shape, self.scaler.scale.shape
        if shapes != ((len(self.names),), (len(self.names),)):
            raise ValueError(f"{len(self.names)} columns, but centre and scale are {shapes[0]} and {shapes[1]}")

    @classmethod
    def fit(cls, observed: Float32, names: Sequence[str]) -> Scaling:
        """Of (rows, K) of the training slice, NaN ignored; see `models.scaling.Scaler.fit`."""
        return cls(tuple(names), Scaler.fit(observed))

    def transform(self, observed: Float32) -> Float32:
        """(..., K) raw -> scaled, winsorised and finite; a missing value becomes 0, its centre."""
        return self.scaler.transform(observed)

    def to_json(self) -> dict[str, Any]:
        """For a manifest: `limit`, and `columns` with name, center and scale in order."""
        rows = zip(self.names, self.scaler.center.tolist(), self.scaler.scale.tolist(), strict=True)
        return {
            "limit": self.scaler.limit,
            "columns": [{"name": name, "center": center, "scale": scale} for name, center, scale in rows],
        }

    @classmethod
    def from_json(cls, held: dict[str, Any]) -> Scaling:
        """What `to_json` gave, the same float32 to the bit.

        Raises:
            KeyError: a column lacks name, center or scale.
            ValueError: a column is there twice, or its scale is not above zero.
        """
        columns = held["columns"]
        found = tuple(str(column["name"]) for column in columns)
        center, scale = (np.array([column[key] for column in columns], dtype=np.float32) for key in ("center", "scale"))
        if len(set(found)) != len(found):
            raise ValueError("a column is there twice")
        if not (np.isfinite(center).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("every centre must be finite and every scale above zero")
        return cls(found, Scaler(center, scale, float(held.get("limit", WINSOR_LIMIT))))
