"""Measures of a forecast, element by element: pure functions of arrays, NaN where an input is NaN."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RV_FLOOR = 1e-8
"""Realised variance per session below it (a move under a basis point) counts as this much: QLIKE takes its log."""


def pinball(actual: Array, quantiles: Array, levels: tuple[float, ...]) -> Array:
    """Quantile (pinball) loss averaged over the levels (Koenker and Bassett 1978).

    Args:
        actual: (...). quantiles: (..., Q). levels: Q levels in (0, 1).
    """
    error = actual[..., None] - quantiles
    tau = np.asarray(levels)
    return np.asarray(np.maximum(tau * error, (tau - 1) * error).mean(-1))


def crps(actual: Array, quantiles: Array, levels: tuple[float, ...]) -> Array:
    """Continuous ranked probability score of a distribution that is known by its quantiles.

    CRPS = 2 x the integral of the pinball loss over all levels (Laio and Tamea 2007; Gneiting and Ranjan 2011), by the
    midpoint rule: each quantile stands for the levels nearer to it than to its neighbours, the outer two up to 0 and 1.
    A sum of pinball losses with weights above zero, so it is proper. With the nine levels of `models.decode` and exact
    normal quantiles it is 3.4 % below the exact expected score.

    Args:
        actual: (...). quantiles: (..., Q), in the unit of `actual`, which is that of the score. levels: Q, ascending.
    """
    tau = np.asarray(levels)
    edges = np.concatenate([[0.0], (tau[1:] + tau[:-1]) / 2, [1.0]])
    error = actual[..., None] - quantiles
    return np.asarray(2 * np.maximum(tau * error, (tau - 1) * error) @ np.diff(edges))


def expected_shortfall(quantiles: Array, levels: tuple[float, ...], level: float) -> Array:
    """Mean return of the worst `level` of cases, from quantiles: an exponential tail through the lowest two.

    With s = (q05 - q01) / ln 5 the tail's quantile is q01 + s ln(tau / .01), and its mean below any of its quantiles q
    is q - s. For exact quantiles: .2 % (95) and 3 % (99) too deep if returns are normal, 2 % and 9 % too shallow if
    they are Student's t with four degrees of freedom.

    Args:
        quantiles: (..., Q) ascending, log returns. levels: Q, ascending. level: one of the lowest two, like .05.

    Raises:
        ValueError: `level` is not one of the lowest two levels.
    """
    if level not in levels[:2]:
        raise ValueError(f"the tail is known at levels {levels[0]} and {levels[1]} only, not at {level}")
    decay = (quantiles[..., 1] - quantiles[..., 0]) / np.log(levels[1] / levels[0])
    return np.asarray(quantiles[..., levels.index(level)] - decay)


def fz0(actual: Array, value_at_risk: Array, shortfall: Array, level: float) -> Array:
    """Joint loss of value at risk and expected shortfall, least in expectation at the true pair.

    FZ0 of Patton, Ziegel and Chen (2019, equation 6), the homogeneous one of Fissler and Ziegel's (2016) family:
    differences of two forecasters' losses do not depend on the unit of the return.
    (q - y) 1{y <= q} / (-level e) + q / e + ln(-e) - 1.

    Args:
        actual: (...) returns. value_at_risk, shortfall: (...) as returns, so below zero, shortfall <= value at risk.
        level: like .05.

    Raises:
        ValueError: a shortfall is not below zero: the loss is not defined there.
    """
    if (shortfall >= 0).any():
        raise ValueError(f"expected shortfall {np.nanmax(shortfall):.4g} is not below zero; this loss needs a loss")
    breached = np.maximum(value_at_risk - actual, 0.0)
    return np.asarray(-breached / (level * shortfall) + value_at_risk / shortfall + np.log(-shortfall) - 1)


def pit(actual: Array, quantiles: Array, levels: tuple[float, ...]) -> Array:
    """The forecast's chance of a smaller return than came: uniform if forecasts are right (Diebold, Gunther, Tay 1998).

    Linear between quantiles; below the lowest and above the highest, where nine quantiles say nothing, half way to 0
    and to 1. Equal quantiles: the middle of their levels.

    Args:
        actual: (...). quantiles: (..., Q) not descending. levels: Q, ascending.
    """
    tau, y = np.asarray(levels), actual[..., None]
    below, at_most = (quantiles < y).sum(-1), (quantiles <= y).sum(-1)
    low, high = np.clip(below - 1, 0, None), np.clip(at_most, None, len(tau) - 1)
    q_low, q_high = (np.take_along_axis(quantiles, at[..., None], -1)[..., 0] for at in (low, high))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(q_high > q_low, (actual - q_low) / (q_high - q_low), 0.5)
    value = tau[low] + share * (tau[high] - tau[low])
    on_one = (below < at_most) & (at_most - below >= 1)  # the value is a quantile, or several
    value = np.where(on_one, (tau[np.minimum(below, len(tau) - 1)] + tau[np.maximum(at_most - 1, 0)]) / 2, value)
    value = np.where(at_most == 0, tau[0] / 2, np.where(below == len(tau), (1 + tau[-1]) / 2, value))
    return np.where(np.isnan(actual) | np.isnan(quantiles).any(-1), np.nan, value)


def qlike(realised_variance: Array, forecast_variance: Array) -> Array:
    """v / f - ln(v / f) - 1 (Patton 2011, equation 24): zero at f = v, robust to noise in v."""
    ratio = np.maximum(realised_variance, RV_FLOOR) / forecast_variance
    return np.asarray(ratio - np.log(ratio) - 1)


def brier(actual: Array, p_up: Array) -> Array:
    """Squared difference of p_up and whether the return was above zero."""
    return np.where(np.isnan(actual), np.nan, (p_up - (actual > 0)) ** 2)


def log_loss(actual: Array, p_up: Array) -> Array:
    """-ln of the chance that was given to what happened; p_up is kept 1e-6 from 0 and 1."""
    chance = np.clip(np.where(actual > 0, p_up, 1 - p_up), 1e-6, 1.0)
    return np.where(np.isnan(actual), np.nan, -np.log(chance))


def hit(actual: Array, p_up: Array) -> Array:
    """1 where the side of p_up (above .5 is up) is the side of the return, else 0."""
    return np.where(np.isnan(actual) | np.isnan(p_up), np.nan, ((p_up > 0.5) == (actual > 0)).astype(np.float64))


def inside(actual: Array, low: Array, high: Array) -> Array:
    """1 where the value lies within the interval, else 0."""
    unknown = np.isnan(actual) | np.isnan(low)
    return np.where(unknown, np.nan, ((actual >= low) & (actual <= high)).astype(np.float64))
