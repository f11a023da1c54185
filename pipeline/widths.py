"""Widths of a forecast's bands over the walk-forward: three methods, each fold calibrated on what was known before it.

    pooled             as forecast: the residual shape of the whole training slice, the same for all sessions
    volatility_group   sides widened by group of the volatility known beforehand, from forecasts of earlier folds
    adaptive           one factor a horizon that follows the coverage seen so far, session by session

The default is adaptive. On years before 2013 (50 stocks 2010 to 2012; six tickers 2003 to 2012) and on 40 simulated
panels it came nearest to the coverage promised over all sessions, at every horizon, and cost at most .04 % of pinball
loss. In the most volatile third of sessions no method was nearer throughout; there factors by group, shrunk as they
are, cost up to 1.2 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from features.splits import Fold
from models.decode import QUANTILES, Forecast
from models.forecasters.conformal import (
    HIGH,
    LOW,
    PRIOR_BLOCKS,
    GroupWidths,
    adaptive,
    session_volatility,
    widened,
)
from pipeline.evidence import losses, metrics
from pipeline.evidence.significance import Interval, Resamples, Resampling
from pipeline.walkforward import Dataset

Array = npt.NDArray[np.float64]
Method = Literal["pooled", "volatility_group", "adaptive"]

METHODS: Final[tuple[Method, ...]] = ("pooled", "volatility_group", "adaptive")
NOMINAL = QUANTILES[HIGH] - QUANTILES[LOW]


class Widths(NamedTuple):
    """Factors of the distances of the quantiles from the median, by group g and horizon h.

    Attributes:
        edges: (G - 1,) ascending, log volatility of a session (`conformal.session_volatility`); group g lies in
            [edges[g - 1], edges[g]). None of it: one group, all sessions.
        down, up: (G, H).
    """

    edges: Array
    down: Array
    up: Array

    @classmethod
    def same(cls, factor: Array) -> Widths:
        """(H,) factors of both sides in all sessions."""
        return cls(np.empty(0), factor[None], factor[None])

    def figures(self) -> dict[str, Any]:
        """JSON values."""
        return {"edges": self.edges.tolist(), "down": self.down.tolist(), "up": self.up.tolist()}


class Calibrated(NamedTuple):
    """A forecast with other widths, and what made it.

    Attributes:
        forecast: on the panel's axes. down, up: (T, H) by which each session's sides were stretched (`widened`).
        by_fold: the widths at the first session of each. live: those of a fit on every outcome that is known at the
            last session.
    """

    forecast: Forecast
    down: Array
    up: Array
    by_fold: dict[str, Widths]
    live: Widths


def calibrated(
    forecast: Forecast,
    data: Dataset,
    folds: Sequence[Fold],
    method: Method,
    resampling: Resampling,
    prior_blocks: float = PRIOR_BLOCKS,
) -> tuple[Calibrated, dict[str, Any]]:
    """The out-of-sample forecasts with the widths of a method, and what all three would have done.

    Args:
        forecast: (N, T, H) axes of the panel, NaN outside the test slices. data: outcomes, and when they are known.
        folds: the walk-forward, in order of time. method: whose forecast is returned.
        resampling: of the intervals. prior_blocks: see `GroupWidths.fit`.

    Groups are fitted for each fold on forecasts of earlier test slices whose outcomes were known when its training
    ended; the first fold stays as it was. Adaptive widths read each outcome when it becomes known, also inside a fold.

    Returns:
        The forecast and what made it; as JSON values: method, nominal coverage, rows by method and horizon (coverage
        over all sessions and over the highest third by volatility known beforehand, pinball, its cost in percent
        against pooled), the widths of the method at the start of each fold and of a live fit, and a sentence.

    Raises:
        ValueError: at some horizon no forecast has a known outcome.
    """
    found = {each: calibrate(forecast, data, folds, each, prior_blocks) for each in METHODS}
    chosen = found[method]
    rows = _rows({each: made.forecast for each, made in found.items()}, data, resampling)
    record = {
        "method": method,
        "nominal": round(NOMINAL, 6),
        "prior_blocks": prior_blocks,
        "rows": rows,
        "folds": {name: widths.figures() for name, widths in chosen.by_fold.items()},
        "live": chosen.live.figures(),
        "sentence": _sentence(method, rows),
    }
    return chosen, record


def calibrate(
    forecast: Forecast, data: Dataset, folds: Sequence[Fold], method: Method, prior_blocks: float = PRIOR_BLOCKS
) -> Calibrated:
    """One method; see `calibrated`."""
    if method == "volatility_group":
        return _by_group(forecast, data, folds, prior_blocks)
    factor = np.ones((len(data.panel.sessions), len(data.horizons)))
    made = forecast
    if method == "adaptive":
        made, factor, _ = adaptive(forecast, data.log_return, _volatility(data), data.known_after)
    by_fold = {fold.name: Widths.same(factor[fold.test_start]) for fold in folds}
    return Calibrated(made, factor, factor, by_fold, Widths.same(factor[-1]))


def _by_group(forecast: Forecast, data: Dataset, folds: Sequence[Fold], prior_blocks: float) -> Calibrated:
    volatility, horizons = session_volatility(_volatility(data)), len(data.horizons)
    down, up = np.ones((len(volatility), horizons)), np.ones((len(volatility), horizons))
    by_fold = {}
    for fold in folds:
        widths = _fit(forecast, data, volatility, folds[0].test_start, fold.train_end, prior_blocks)
        by_fold[fold.name] = _plain(widths, horizons)
        if widths is not None:
            test = slice(fold.test_start, fold.test_end)
            down[test], up[test] = widths.factors(volatility[test])
    live = _fit(forecast, data, volatility, folds[0].test_start, len(volatility), prior_blocks)
    return Calibrated(widened(forecast, down[None], up[None]), down, up, by_fold, _plain(live, horizons))


def _fit(
    forecast: Forecast, data: Dataset, volatility: Array, start: int, end: int, prior_blocks: float
) -> GroupWidths | None:
    """From the forecasts of sessions [start, end) whose outcomes are known by the last of them; None of none."""
    if end <= start:
        return None
    past = slice(start, end)
    outcomes = data.log_return[:, past].copy()
    for h, delay in enumerate(data.known_after):
        outcomes[:, max(0, end - start - delay) :, h] = np.nan
    earlier = Forecast(*(values[:, past] for values in forecast))
    if not (np.isfinite(outcomes) & np.isfinite(earlier.sigma)).any():
        return None
    return GroupWidths.fit(earlier, outcomes, volatility[past], data.horizons, prior_blocks=prior_blocks)


def _plain(widths: GroupWidths | None, horizons: int) -> Widths:
    return Widths.same(np.ones(horizons)) if widths is None else Widths(widths.groups.edges, widths.down, widths.up)


def _volatility(data: Dataset) -> Array:
    return data.panel.vol.astype(np.float64)


def _rows(forecasts: Mapping[str, Forecast], data: Dataset, resampling: Resampling) -> list[dict[str, Any]]:
    series: dict[str, Array] = {}
    for outcome in losses.outcomes(forecasts, data.log_return, data.rv, _volatility(data), data.horizons):
        for method, forecast in forecasts.items():
            low, high = (forecast.quantiles[:, :, outcome.at, at] for at in (LOW, HIGH))
            inside = metrics.inside(outcome.actual, low, high)
            series[f"{method}|coverage|{outcome.horizon}"] = inside
            series[f"{method}|volatile|{outcome.horizon}"] = np.where(outcome.volatile, inside, np.nan)
            series[f"{method}|pinball|{outcome.horizon}"] = losses.pinball(forecast, outcome)
    draws = Resamples(series, resampling)
    return [_row(draws, method, horizon) for method in METHODS for horizon in data.horizons]


def _row(draws: Resamples, method: Method, horizon: int) -> dict[str, Any]:
    loss, before = f"{method}|pinball|{horizon}", f"pooled|pinball|{horizon}"
    cost = Interval(0.0, 0.0, 0.0)
    if method != "pooled":
        cost = draws.statistic(lambda means: 100 * (means[loss] / means[before] - 1))
    return {
        "method": method,
        "horizon": horizon,
        **_figures("coverage", draws.mean(f"{method}|coverage|{horizon}")),
        **_figures("volatile", draws.mean(f"{method}|volatile|{horizon}")),
        "pinball": draws.point(loss),
        **_figures("cost_percent", cost),
    }


def _figures(name: str, found: Interval) -> dict[str, float | None]:
    """The figure and its bounds; None where too little is known for any."""
    keys = (name, f"{name}_low", f"{name}_high")
    return {key: value if math.isfinite(value) else None for key, value in zip(keys, found, strict=True)}


def _sentence(method: Method, rows: list[dict[str, Any]]) -> str:
    def of(each: Method, figure: str, pattern: str = "{:.1%}") -> str:
        return " / ".join(pattern.format(row[figure]) for row in rows if row["method"] == each)

    horizons = " / ".join(str(row["horizon"]) for row in rows if row["method"] == method)
    text = (
        f"The {NOMINAL:.0%} interval held {of(method, 'coverage')} of outcomes at horizons {horizons}, "
        f"{of(method, 'volatile')} in the most volatile third of sessions"
    )
    if method == "pooled":
        return text + ", with widths as forecast."
    return text + (
        f", with widths by {'coverage so far' if method == 'adaptive' else 'volatility group'}; as forecast "
        f"{of('pooled', 'coverage')} and {of('pooled', 'volatile')}. Cost in pinball loss: "
        f"{of(method, 'cost_percent', '{:+.2f} %')}."
    )
