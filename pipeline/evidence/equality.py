"""Is the int8 model the float model? Judged output by output, centred, and on the decisions that follow.

A claim is a figure, its interval under resampled blocks of sessions, and the floor that it is held to:

    {claim, model, against, horizon, figure, low, high, floor, at_least, unit, holds, certain}

It `holds` where the figure is on the right side of the floor, and is `certain` where the whole interval is. A claim
without a floor is told for its own sake. `horizon` is None for what belongs to none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES, Forecast
from pipeline.evidence.significance import Interval, Resamples, Resampling

Array = npt.NDArray[np.float64]

OUTPUTS = ("location", "scale_down", "scale_up", "logit")
HARDLY_MOVES = 1e-4
"""An output with less standard deviation than this is judged by its largest difference: R2 would divide by it."""

LOSS_FLOORS = ((1, 0.15), (5, 0.20), (20, 0.25))
"""Percent of pinball that a smaller model may be worse, by horizon; between them on a straight line."""
ROUNDING_FLOOR = 0.02
"""Percent of pinball that int8 may be worse than the float network it was made from."""
WEIGHT_FLOOR = 1.0
"""Percent: the 99th percentile of the relative change of a target weight."""
AGREEMENT_FLOOR = 99.9
"""Percent of value-at-risk breaches on which both agree."""
FLIP_FLOOR = 1.0
"""Percent of forecasts on the other side of their session's median over tickers."""
PROFIT_FLOOR = 2.0
"""Basis points a year of net profit, either way."""
VAR_LEVELS = (0.05, 0.01)


def outputs(
    exact: Array,
    found: Array,
    horizons: tuple[int, ...],
    min_r2: float,
    max_difference: float,
) -> list[dict[str, Any]]:
    """One row an output and horizon.

    Args:
        exact, found: (n, H, 4) float and int8 outputs on the same cells.
        horizons: H sessions ahead.
        min_r2: least centred R2, 1 - mean((found - exact)^2) / var(exact).
        max_difference: largest difference of an output that hardly moves.
    """
    rows = []
    for k, name in enumerate(OUTPUTS):
        for i, h in enumerate(horizons):
            a, b = exact[:, i, k].astype(np.float64), found[:, i, k].astype(np.float64)
            difference = float(np.abs(b - a).max())
            moves = float(a.std()) >= HARDLY_MOVES
            r2 = float(1 - ((b - a) ** 2).mean() / a.var()) if moves else None
            rows.append(
                {
                    "output": name,
                    "horizon": h,
                    "r2": r2,
                    "max_difference": difference,
                    "rule": "r2" if moves else "max_difference",
                    "passed": bool(r2 >= min_r2 if r2 is not None else difference <= max_difference),
                }
            )
    return rows


def loss_floor(horizon: int) -> float:
    """Percent of pinball that a smaller model may be worse at a horizon."""
    at, floors = zip(*LOSS_FLOORS, strict=True)
    return float(np.interp(horizon, at, floors))


def loss_claims(
    losses: Mapping[str, Array], horizons: tuple[int, ...], pairs: Mapping[tuple[str, str], float | None],
    resampling: Resampling,
) -> list[dict[str, Any]]:  # fmt: skip
    """How much worse each model of a pair is than the other, in percent of pinball and of QLIKE.

    Args:
        losses: `model|measure|horizon` -> (N, T), NaN = none. horizons: H.
        pairs: (model, against) -> floor in percent of pinball, None for that of each horizon.
        resampling: of the paired intervals.
    """
    held = {name: loss for name, loss in losses.items() if name.split("|")[1] in ("pinball", "qlike")}
    draws = Resamples(held, resampling)
    rows = []
    for (model, against), floor in pairs.items():
        for measure in ("pinball", "qlike"):
            for h in horizons:
                gain = draws.gain([(f"{model}|{measure}|{h}", f"{against}|{measure}|{h}")])
                worse = Interval(0.0 - gain.gain_percent, 0.0 - gain.high, 0.0 - gain.low)
                bound = None if measure == "qlike" else loss_floor(h) if floor is None else floor
                rows.append(_claim(measure, worse, bound, "%", horizon=h, model=model, against=against))
    return rows


def output_claims(
    exact: Array, found: Array, horizons: tuple[int, ...], min_r2: float, resampling: Resampling
) -> list[dict[str, Any]]:
    """By horizon, the least centred R2 of the outputs that move.

    Args:
        exact, found: (N, T, H, 4), NaN = none.
    """
    series: dict[str, Array] = {}
    moving: dict[int, list[str]] = {h: [] for h in horizons}
    for i, h in enumerate(horizons):
        for k, name in enumerate(OUTPUTS):
            a, b = exact[:, :, i, k], found[:, :, i, k]
            if np.nanstd(a) >= HARDLY_MOVES:
                centred, key = a - np.nanmean(a), f"{name}|{h}"
                series |= {f"{key}|value": centred, f"{key}|square": centred**2, f"{key}|error": (b - a) ** 2}
                moving[h].append(key)
    if not series:
        return []
    draws = Resamples(series, resampling)
    rows = []
    for h, keys in moving.items():
        if keys:
            least = min((_centred_r2(draws, key) for key in keys), key=lambda each: each.value)
            rows.append(_claim("centred_r2", least, min_r2, "", horizon=h, at_least=True))
    return rows


def decision_claims(
    exact: Forecast, found: Forecast, log_return: Array, horizons: tuple[int, ...], resampling: Resampling
) -> list[dict[str, Any]]:
    """By horizon, whether value at risk is breached alike, and whether sigma stays on its side of the session's median.

    Args:
        exact, found: float and int8, on (N, T, H) axes, NaN = none. log_return: (N, T, H), NaN = not known.
    """
    series: dict[str, Array] = {}
    for i, h in enumerate(horizons):
        known = np.isfinite(log_return[..., i]) & np.isfinite(exact.sigma[..., i])
        for level in VAR_LEVELS:
            at = QUANTILES.index(level)
            breached = [log_return[..., i] < each.quantiles[..., i, at] for each in (exact, found)]
            series[f"var_{round(100 * (1 - level))}|{h}"] = np.where(
                known, 100.0 * (breached[0] == breached[1]), np.nan
            )
        flips = median_flips(exact.sigma[..., i], found.sigma[..., i])
        if np.isfinite(flips).any():
            series[f"median_flips|{h}"] = 100.0 * flips
    draws = Resamples(series, resampling)
    rows = []
    for key in series:
        claim, _, horizon = key.partition("|")
        agree = claim.startswith("var_")
        floor = AGREEMENT_FLOOR if agree else FLIP_FLOOR
        rows.append(_claim(claim, draws.mean(key), floor, "%", horizon=int(horizon), at_least=agree))
    return rows


def median_flips(exact: Array, found: Array) -> Array:
    """(N, T) one where a value is above its session's median over tickers in one and not in the other, else zero.

    NaN where a value is not known, and in sessions with fewer than two.
    """
    known = np.isfinite(exact) & np.isfinite(found)
    enough = known & (known.sum(0) > 1)
    above = []
    for values in (exact, found):
        held = np.where(enough, values, np.nan)[:, enough.any(0)]
        side = np.zeros(exact.shape, dtype=bool)
        side[:, enough.any(0)] = held > np.nanmedian(held, axis=0) if held.size else False
        above.append(side)
    return np.where(enough, above[0] != above[1], np.nan)


def weight_claim(exact: Array, found: Array, resampling: Resampling) -> dict[str, Any]:
    """The 99th percentile of the relative change of target weights, in percent.

    Args:
        exact, found: (N, T) weights, NaN = none.
    """
    known = np.isfinite(exact) & np.isfinite(found)
    change = np.full(exact.shape, np.nan)
    change[known] = 100 * relative_change(exact[known], found[known])
    return _percentile_claim("weight_change", change, WEIGHT_FLOOR, resampling)


def target_claim(
    exact: Array,
    found: Array,
    width: float,
    resampling: Resampling,
    against: str = "",
    floor: float | None = WEIGHT_FLOOR,
) -> dict[str, Any]:
    """The 99th percentile of the change of a policy's target weights, in percent of the width of its limits.

    Args:
        exact, found: (N, T) weights, NaN = none. width: most less least.
    """
    claim = "target_change"
    return _percentile_claim(claim, 100 * np.abs(found - exact) / width, floor, resampling, against)


def _percentile_claim(
    claim: str, change: Array, floor: float | None, resampling: Resampling, against: str = ""
) -> dict[str, Any]:
    """The 99th percentile of (N, T) changes, NaN = none.

    The interval is Woodruff's (1952): that of the share of cells above the percentile, carried over to the values.
    """
    known = np.isfinite(change)
    value = float(np.percentile(change[known], 99))
    share = _mean(np.where(known, change > value, np.nan), resampling)
    at = [1 - share.high, 1 - share.low] if math.isfinite(share.low) else [0.99, 0.99]
    low, high = np.quantile(change[known], np.clip(at, 0, 1))
    interval = Interval(value, float(min(low, value)), float(max(high, value)))
    return _claim(claim, interval, floor, "%", against=against)


def profit_claim(
    exact: Array, found: Array, sessions_per_year: float, resampling: Resampling, against: str = "",
    floor: float | None = PROFIT_FLOOR,
) -> dict[str, Any]:  # fmt: skip
    """The difference of net growth, int8 less float, in basis points a year; the floor holds either way.

    Args:
        exact, found: (T,) wealth after costs, NaN outside its life.
    """
    wealth = np.stack([exact, found])
    r = np.diff(np.log(np.where(wealth > 0, wealth, np.nan)), axis=1)
    difference = 1e4 * sessions_per_year * (r[1] - r[0])
    return _claim("net_profit", _mean(difference, resampling), floor, "bp", against=against, either_way=True)


def relative_change(exact: Array, found: Array) -> Array:
    """|found - exact| / exact where exact is above zero, else 0: the change of a target weight."""
    return np.divide(np.abs(found - exact), exact, out=np.zeros_like(exact), where=exact > 0)


def _centred_r2(draws: Resamples, key: str) -> Interval:
    return draws.statistic(
        lambda means: 1 - means[f"{key}|error"] / (means[f"{key}|square"] - means[f"{key}|value"] ** 2)
    )


def _mean(values: Array, resampling: Resampling) -> Interval:
    return Resamples({"values": values}, resampling).mean("values")


def _claim(
    claim: str,
    found: Interval,
    floor: float | None,
    unit: str,
    horizon: int | None = None,
    model: str = "int8",
    against: str = "",
    at_least: bool = False,
    either_way: bool = False,
) -> dict[str, Any]:
    def within(*values: float) -> bool | None:
        if floor is None or not all(math.isfinite(value) for value in values):
            return None
        if either_way:
            return max(abs(value) for value in values) <= floor
        return min(values) >= floor if at_least else max(values) <= floor

    return {
        "claim": claim,
        "model": model,
        "against": against,
        "horizon": horizon,
        **{
            key: value if math.isfinite(value) else None
            for key, value in zip(("figure", "low", "high"), found, strict=True)
        },
        "floor": floor,
        "at_least": at_least,
        "unit": unit,
        "holds": within(found.value),
        "certain": within(found.low, found.high),
    }
