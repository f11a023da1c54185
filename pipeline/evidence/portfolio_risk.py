"""Whether forecast scales and correlations add up to the risk of a portfolio: all tickers held alike, out of sample.

A portfolio's variance is w' S w with S the correlation forecast of models/forecasters/correlation.py between the sigmas
of a horizon. Beside it: the same sigmas as if nothing moved together, and the EWMA covariance of daily returns
(RiskMetrics 1996), one matrix for all horizons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.forecasters.correlation import CorrelationConfig, correlations, covariance, portfolio_sigma
from pipeline.evidence import metrics
from pipeline.evidence.significance import Interval, Resamples, Resampling

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

UNCORRELATED: Final = "uncorrelated"
EWMA_COVARIANCE: Final = "ewma_covariance"
DECAY = 0.94
REFRESH = 5
"""Sessions that a correlation forecast is kept: at a half-life of 120 it hardly moves."""
CLIP = 0.5
"""Log returns beyond it count as much, as in the EWMA volatility."""


class Portfolio(NamedTuple):
    """Forecasts of the equal-weight portfolio of each session.

    held: (N, T) who is in it: tickers with all sigmas, a correlation and a return. variance: forecast -> (T, H)
    variance a session, NaN where nobody is held.
    """

    held: Bools
    variance: dict[str, Array]


def judge(
    sigmas: Mapping[str, Array],
    steps: Array,
    returns: Array,
    vol: Array,
    horizons: tuple[int, ...],
    resampling: Resampling,
    config: CorrelationConfig | None = None,
) -> dict[str, Any]:
    """The portfolio's forecast variance against the realised one, in QLIKE, as JSON values.

    Args:
        sigmas: model -> (N, T, H) forecast standard deviation over each horizon, NaN outside the test slices; the first
            model is the candidate, whose gains over the others are given, and whose sigmas the uncorrelated one has.
        steps: (N, T) log return of the first session of the target interval of a decision at t: what horizon 1 has as
            its outcome. NaN = not known.
        returns: (N, T) log return since the session before. vol: (N, T) volatility. Both known at the close of t.
        horizons: H. resampling: of the intervals.

    Returns:
        model, tickers (held on average), rows by forecast and horizon (QLIKE; realised over forecast volatility, one if
        right, with its interval), gains of the candidate in QLIKE, and a sentence. Rows are empty where no session has
        a portfolio with a known outcome.

    Raises:
        ValueError: no model.
    """
    if not sigmas:
        raise ValueError("no model's sigmas to judge; hand in at least one")
    candidate = next(iter(sigmas))
    found = forecast(sigmas, returns, vol, horizons, config)
    realised = realised_variance(steps, found.held, horizons)
    series: dict[str, Array] = {}
    for at, h in enumerate(horizons):
        for name, variance in found.variance.items():
            actual = np.where(np.isfinite(variance[:, at]), realised[:, at], np.nan)
            series[f"{name}|qlike|{h}"] = metrics.qlike(actual, variance[:, at])
            series[f"{name}|forecast|{h}"] = np.where(np.isfinite(actual), variance[:, at], np.nan)
        series[f"realised|{h}"] = np.where(np.isfinite(series[f"{candidate}|qlike|{h}"]), realised[:, at], np.nan)
    size = found.held.sum(0)
    about = {"model": candidate, "tickers": round(float(size[size > 0].mean()), 1) if size.any() else 0.0}
    judged = tuple(h for h in horizons if np.isfinite(series[f"realised|{h}"]).any())
    if not judged:
        return {**about, "rows": [], "gains": [], "sentence": "No portfolio's outcome is known."}
    draws = Resamples(series, resampling)
    gains = [_gain(draws, candidate, name, h) for name in found.variance if name != candidate for h in judged]
    rows = [_row(draws, name, h) for name in found.variance for h in judged]
    return {**about, "rows": rows, "gains": gains, "sentence": _sentence(rows, gains, candidate)}


def forecast(
    sigmas: Mapping[str, Array],
    returns: Array,
    vol: Array,
    horizons: tuple[int, ...],
    config: CorrelationConfig | None = None,
) -> Portfolio:
    """Every forecast of the portfolio's variance; arguments as of `judge`. Nothing later than a session is read."""
    config = config or CorrelationConfig()
    scaled = np.sqrt(np.asarray(horizons, dtype=np.float64))
    candidate = next(iter(sigmas))
    known = np.logical_and.reduce([np.isfinite(sigma).all(-1) for sigma in sigmas.values()]) & np.isfinite(returns)
    names = (*sigmas, UNCORRELATED, EWMA_COVARIANCE)
    variance = {name: np.full((returns.shape[1], len(horizons)), np.nan) for name in names}
    held = np.zeros_like(known)
    products, weights = (np.zeros((len(returns), len(returns))) for _ in range(2))
    matrix, made = np.full_like(products, np.nan), -REFRESH
    for t in range(returns.shape[1]):
        _follow(products, weights, returns[:, t])
        if not known[:, t].any():
            continue
        if t - made >= REFRESH:
            matrix, made = correlations(returns[:, : t + 1], vol[:, : t + 1], [t], config)[0], t
        held[:, t] = known[:, t] & np.isfinite(np.diag(matrix))
        inside = np.flatnonzero(held[:, t])
        if not len(inside):
            continue
        share, block = np.full(len(inside), 1 / len(inside)), np.ix_(inside, inside)
        for name, sigma in sigmas.items():
            daily = (sigma[inside, t] / scaled).T  # (H, n)
            variance[name][t] = portfolio_sigma(share, covariance(matrix[block], daily)) ** 2
        variance[UNCORRELATED][t] = ((share[:, None] * sigmas[candidate][inside, t] / scaled) ** 2).sum(0)
        ewma = products[block] / np.where(weights[block] > 0, weights[block], np.nan)
        total = float(share @ np.nan_to_num(ewma) @ share)  # a pair that never traded together counts as uncorrelated
        variance[EWMA_COVARIANCE][t] = total if total > 0 else np.nan
    return Portfolio(held, variance)


def realised_variance(steps: Array, held: Bools, horizons: tuple[int, ...]) -> Array:
    """(T, H) mean square a session of what those held at t return together, NaN until the whole horizon is known.

    A ticker without a return on one of the sessions is left out of that session.
    """
    out = np.full((steps.shape[1], len(horizons)), np.nan)
    longest = max(horizons)
    for t in np.flatnonzero(held.any(0)):
        path = steps[held[:, t], t : t + longest]
        count = np.isfinite(path).sum(0)
        squares = np.where(count > 0, np.nansum(path, axis=0) / np.maximum(count, 1), np.nan) ** 2
        for at, h in enumerate(horizons):
            out[t, at] = squares[:h].mean() if len(squares) >= h else np.nan
    return out


def _follow(products: Array, weights: Array, today: Array) -> None:
    """One session more in the pairs that traded: sums of products and of weights decay, in place."""
    there = np.isfinite(today)
    clipped = np.clip(np.where(there, today, 0.0), -CLIP, CLIP)
    both = np.outer(there, there)
    for target, new in ((products, np.outer(clipped, clipped)), (weights, 1.0)):
        target[:] = np.where(both, DECAY * target + (1 - DECAY) * new, target)


def _row(draws: Resamples, name: str, horizon: int) -> dict[str, Any]:
    ratio = draws.statistic(lambda means: np.sqrt(means[f"realised|{horizon}"] / means[f"{name}|forecast|{horizon}"]))
    qlike = draws.mean(f"{name}|qlike|{horizon}")
    return {"forecast": name, "horizon": horizon, **_figures("qlike", qlike), **_figures("realised", ratio)}


def _gain(draws: Resamples, model: str, against: str, horizon: int) -> dict[str, Any]:
    gain = draws.gain([(f"{model}|qlike|{horizon}", f"{against}|qlike|{horizon}")])
    figures = _figures("gain_percent", Interval(gain.gain_percent, gain.low, gain.high))
    return {"model": model, "against": against, "horizon": horizon, **figures, "verdict": gain.verdict}


def _figures(name: str, found: Interval) -> dict[str, float | None]:
    """The figure and its bounds; None where too little is known for any."""
    keys = (name, f"{name}_low", f"{name}_high")
    return {key: value if math.isfinite(value) else None for key, value in zip(keys, found, strict=True)}


def _sentence(rows: list[dict[str, Any]], gains: list[dict[str, Any]], candidate: str) -> str:
    realised = " / ".join(f"{row['realised']:.2f}" for row in rows if row["forecast"] == candidate)
    horizons = " / ".join(str(row["horizon"]) for row in rows if row["forecast"] == candidate)
    saved = " / ".join(
        f"{g['gain_percent']:+.1f} % [{g['gain_percent_low']:+.1f}, {g['gain_percent_high']:+.1f}]"
        for g in gains
        if g["against"] == EWMA_COVARIANCE and g["gain_percent_low"] is not None
    )
    text = f"The equal-weight portfolio moved {realised} times what was forecast at horizons {horizons}"
    return text + (f"; of the QLIKE of EWMA covariance that saves {saved}." if saved else ".")
