"""What every forecast of a race loses, on the cells that all of them forecast and whose outcome is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES, Forecast
from models.forecasters.conformal import session_volatility
from pipeline.config_models import NAIVE_DIRECTIONS
from pipeline.evidence import metrics
from pipeline.evidence.calibration import rank_correlation
from pipeline.evidence.significance import BySession, by_session

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PRIMARY_LEVELS = (0.10, 0.50, 0.90)
TAILS = (0.95, 0.99)
"""Levels of value at risk and expected shortfall."""


class Outcome(NamedTuple):
    """What came after each forecast of one horizon, NaN outside the cells that are judged.

    horizon: sessions. at: its place on the horizon axis. actual: (N, T) log return. rv: (N, T) variance a session.
    unit: (N, T) volatility times the root of the horizon, that of z. volatile: (T,) the highest third of the judged
    sessions by `session_volatility`, which is known beforehand.
    """

    horizon: int
    at: int
    actual: Array
    rv: Array
    unit: Array
    volatile: Bools

    @property
    def cells(self) -> Bools:
        """(N, T) whether a cell is judged."""
        return np.isfinite(self.actual)


def outcomes(
    forecasts: Mapping[str, Forecast], log_return: Array, rv: Array, vol: Array, horizons: tuple[int, ...]
) -> list[Outcome]:
    """The outcomes of each horizon on the cells that all models forecast.

    Args:
        forecasts: model -> forecast with (N, T, H) axes, in log return.
        log_return, rv: (N, T, H), NaN = not known. vol: (N, T), the unit of z.

    Raises:
        ValueError: a horizon has no common cell; the model with the fewest of its own is named.
    """
    found = []
    for at, h in enumerate(horizons):
        known = np.isfinite(log_return[:, :, at]) & np.isfinite(rv[:, :, at]) & (vol > 0)
        own = {name: known & _forecast_cells(name, forecast, at) for name, forecast in forecasts.items()}
        common = np.logical_and.reduce(list(own.values()))
        if not common.any():
            least = min(own, key=lambda name: int(own[name].sum()))
            raise ValueError(
                f"at horizon {h} no cell is forecast by all of {', '.join(own)}; {least} has the fewest, "
                f"{own[least].sum()} of {known.sum()} whose outcome is known; see that it forecasts every test session"
            )
        judged = np.where(common, 1.0, np.nan)
        found.append(
            Outcome(
                h,
                at,
                judged * log_return[:, :, at],
                judged * rv[:, :, at],
                judged * vol * np.sqrt(h),
                _third(vol, common),
            )
        )
    return found


def cell_losses(name: str, forecast: Forecast, outcome: Outcome) -> dict[str, Array]:
    """Measure -> (N, T) losses of one model at one horizon, NaN outside the judged cells.

    pinball (mean over q10, q50, q90) and crps in z units; qlike; brier; error is 1 - hit; fz95 and fz99 the joint loss
    of value at risk and expected shortfall. cover80 and volatile80 are no losses but coverage, the latter of volatile
    sessions. Naive directions have brier and error alone. A model with an expected shortfall that is no loss has no fz.
    """
    actual, p_up = outcome.actual, forecast.p_up[:, :, outcome.at]
    found = {"brier": metrics.brier(actual, p_up), "error": 1 - metrics.hit(actual, p_up)}
    if name in NAIVE_DIRECTIONS:
        return found
    quantiles = forecast.quantiles[:, :, outcome.at]
    at = [QUANTILES.index(level) for level in PRIMARY_LEVELS]
    inside = metrics.inside(actual, quantiles[..., at[0]], quantiles[..., at[2]])
    variance = forecast.sigma[:, :, outcome.at] ** 2 / outcome.horizon
    return {
        "pinball": pinball(forecast, outcome),
        "crps": metrics.crps(actual, quantiles, QUANTILES) / outcome.unit,
        "qlike": metrics.qlike(outcome.rv, variance),
        **found,
        "cover80": inside,
        "volatile80": np.where(outcome.volatile, inside, np.nan),
        **_tails(quantiles, outcome),
    }


def pinball(forecast: Forecast, outcome: Outcome) -> Array:
    """(N, T) the primary measure: mean pinball loss over q10, q50 and q90 in z units, NaN outside the judged cells."""
    at = [QUANTILES.index(level) for level in PRIMARY_LEVELS]
    quantiles = forecast.quantiles[:, :, outcome.at][..., at]
    return np.asarray(metrics.pinball(outcome.actual, quantiles, PRIMARY_LEVELS) / outcome.unit)


def series(forecasts: Mapping[str, Forecast], found: list[Outcome]) -> dict[str, BySession]:
    """All losses of all models, added up by session, keyed `model|measure|horizon`.

    Besides the measures of `cell_losses`, `rank` is Spearman's correlation over the tickers of a session of p_up with
    the return, where p_up orders them at all.
    """
    kept: dict[str, BySession] = {}
    for outcome in found:
        for name, forecast in forecasts.items():
            each = cell_losses(name, forecast, outcome)
            each["rank"] = rank_correlation(forecast.p_up[:, :, outcome.at], outcome.actual)
            kept |= {f"{name}|{measure}|{outcome.horizon}": by_session(loss) for measure, loss in each.items()}
    return kept


def _forecast_cells(name: str, forecast: Forecast, at: int) -> Bools:
    there = np.isfinite(forecast.p_up[:, :, at])
    if name not in NAIVE_DIRECTIONS:
        sigma = forecast.sigma[:, :, at]
        there &= np.isfinite(sigma) & (sigma > 0) & np.isfinite(forecast.quantiles[:, :, at]).all(-1)
    return np.asarray(there)


def _third(vol: Array, common: Bools) -> Bools:
    """(T,) the judged sessions whose volatility, over all tickers, is in the highest third."""
    volatility = np.where(common.any(0), session_volatility(np.where(vol > 0, vol, np.nan)), np.nan)
    return np.asarray(volatility >= np.nanquantile(volatility, 2 / 3))


def _tails(quantiles: Array, outcome: Outcome) -> dict[str, Array]:
    found = {}
    for level in TAILS:
        share = round(1 - level, 2)
        shortfall = metrics.expected_shortfall(quantiles, QUANTILES, share)
        if (shortfall[outcome.cells] < 0).all():
            value_at_risk = quantiles[..., QUANTILES.index(share)]
            deepest = np.where(outcome.cells, shortfall, np.nan)
            found[f"fz{level * 100:.0f}"] = metrics.fz0(outcome.actual, value_at_risk, deepest, share)
    return found
