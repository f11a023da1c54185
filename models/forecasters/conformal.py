"""Calibration: the shape of the standardised residuals turns a scale into quantiles and a sigma.

The residual e = z / s of the scale skip has few fitted parameters against thousands of sessions, so its
recency-weighted quantiles over the whole purged training slice are used: the tails need every crisis there is.
On top, for any forecast: widths by volatility group from a purged slice (`GroupWidths`), and widths that follow
the coverage seen so far (`adaptive`), whose cost in pinball is told. Factors that are the same in every session can be
written into the residual shape itself (`in_shape`): whatever decodes it then needs to know nothing of widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES, Forecast

Float64 = npt.NDArray[np.float64]

LOW, MEDIAN, HIGH = (QUANTILES.index(q) for q in (0.10, 0.50, 0.90))

PRIOR_BLOCKS = 100.0
"""Few years hold few independent blocks of volatile sessions: on simulated panels and on years before 2013, factors by
group that rest on them cost up to 5.6 % of pinball in volatile sessions with a tenth of this, 1.2 % with it."""


def residual_shape(z: Float64, log_scale: Float64, weight: Float64) -> Float64:
    """Weighted quantiles of z / exp(log_scale) by horizon.

    Args:
        z: (n, H), NaN = not known. log_scale: (n, H). weight: (n,) not negative.

    Returns:
        (H, 9) float64, ascending along the last axis: the shape at `models.decode.QUANTILES`.
    """
    shapes = []
    for h in range(z.shape[1]):
        known = np.isfinite(z[:, h])
        shapes.append(weighted_quantiles(z[known, h] / np.exp(log_scale[known, h]), weight[known]))
    return np.stack(shapes)


def sigma_factor(relative_variance: Float64, log_scale: Float64, weight: Float64) -> Float64:
    """What turns exp(log_scale) into a standard deviation: the root of the mean of v / s^2, by horizon.

    Args:
        relative_variance: (n, H), realised variance over squared volatility, NaN = not known.
        log_scale: (n, H). weight: (n,).

    Returns:
        (H,) float64.
    """
    known = np.isfinite(relative_variance)
    w = np.where(known, weight[:, None], 0.0)
    ratio = np.where(known, relative_variance, 0.0) / np.exp(2 * log_scale)
    return np.asarray(np.sqrt((w * ratio).sum(0) / w.sum(0)))


def weighted_quantiles(values: Float64, weight: Float64) -> Float64:
    """The quantiles at `QUANTILES` of weighted values, linear between the centres of the weights."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    at = np.asarray(QUANTILES) * cumulative[-1]
    return np.asarray(np.interp(at, cumulative - weight[order] / 2, values[order]), dtype=np.float64)


class Groups(NamedTuple):
    """edges: (G - 1,) ascending. Group g holds values in [edges[g - 1], edges[g])."""

    edges: Float64

    @classmethod
    def of(cls, values: Float64, groups: int = 3) -> Groups:
        """Equal shares of the finite values of a calibration slice."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            raise ValueError("no finite value to form groups of; calibrate on sessions with a volatility")
        return cls(np.quantile(finite, np.arange(1, groups) / groups))

    def __call__(self, values: Float64) -> npt.NDArray[np.int64]:
        """The group of each value, 0 .. G - 1, -1 where it is not finite."""
        return np.where(np.isfinite(values), np.searchsorted(self.edges, values, side="right"), -1)


def session_volatility(vol: Float64) -> Float64:
    """(T,) mean over tickers of the log volatility known at each session, NaN where none is: what sessions are grouped
    by."""
    held = np.isfinite(vol)
    logs = np.where(held, np.log(np.where(held, vol, 1.0)), 0.0).sum(0)
    return np.asarray(np.where(held.any(0), logs / np.maximum(held.sum(0), 1), np.nan))


@dataclass(frozen=True)
class GroupWidths:
    """Split conformal calibration by group (Vovk 2012, Mondrian; Romano, Patterson, Candes 2019): both sides of every
    forecast are widened so that q10 and q90 cover what they say in each group of a purged slice.

    Attributes:
        groups: of the volatility known beforehand. down, up: (G, H) factors of the distance to the median.
        cells: (G, H) outcomes that each rests on.
    """

    groups: Groups
    down: Float64
    up: Float64
    cells: npt.NDArray[np.int64]

    @classmethod
    def fit(
        cls,
        forecast: Forecast,
        log_return: Float64,
        volatility: Float64,
        horizons: tuple[int, ...],
        groups: int = 3,
        prior_blocks: float = PRIOR_BLOCKS,
    ) -> GroupWidths:
        """From forecasts of a model fitted before the slice.

        Args:
            forecast: (N, V, H) axes, on the purged slice. log_return: (N, V, H) outcomes, NaN = not known.
            volatility: (V,) known at each session: see `session_volatility`.
            prior_blocks: a factor is drawn towards one as if by so many independent blocks of h sessions: neighbouring
                outcomes overlap and tickers move together, so that sessions / h count, not cells.

        Raises:
            ValueError: no session has a volatility.
        """
        edges = Groups.of(volatility, groups)
        group = edges(volatility)
        down, up = np.ones((groups, len(horizons))), np.ones((groups, len(horizons)))
        cells = np.zeros((groups, len(horizons)), dtype=np.int64)
        median = forecast.quantiles[..., MEDIAN]
        below = (median - log_return) / (median - forecast.quantiles[..., LOW])
        above = (log_return - median) / (forecast.quantiles[..., HIGH] - median)
        for g in range(groups):
            for h, horizon in enumerate(horizons):
                known = np.isfinite(below[:, group == g, h])
                cells[g, h] = known.sum()
                if not known.any():
                    continue
                blocks = known.any(0).sum() / horizon
                share = blocks / (blocks + prior_blocks)
                for side, score in ((down, below), (up, above)):
                    factor = np.quantile(score[:, group == g, h][known], QUANTILES[HIGH])
                    side[g, h] = np.exp(share * np.log(max(factor, 0.1)))
        return cls(edges, down, up, cells)

    def apply(self, forecast: Forecast, volatility: Float64) -> Forecast:
        """The forecast with its sides widened by (T,) volatility; as it was where that is not finite."""
        down, up = self.factors(volatility)
        return widened(forecast, down[None], up[None])

    def factors(self, volatility: Float64) -> tuple[Float64, Float64]:
        """(T, H) down and up of each session, by its (T,) volatility; one where that is not finite."""
        group = self.groups(volatility)
        held = (group >= 0)[:, None]
        down, up = (np.where(held, side[np.maximum(group, 0)], 1.0) for side in (self.down, self.up))
        return down, up


def widened(forecast: Forecast, down: Float64, up: Float64) -> Forecast:
    """Both sides of the median stretched by factors that broadcast to (N, T, H), sigma by their root mean square."""
    median = forecast.quantiles[..., MEDIAN, None]
    distance = forecast.quantiles - median
    stretch = np.where(distance < 0, down[..., None], up[..., None])
    # What is not stretched keeps its bits.
    quantiles = np.where(stretch == 1, forecast.quantiles, median + distance * stretch)
    return Forecast(forecast.sigma * np.sqrt((down**2 + up**2) / 2), quantiles, forecast.p_up)


def in_shape(shape: Float64, factor: Float64, down: Float64, up: Float64) -> tuple[Float64, Float64]:
    """A residual shape and a sigma factor that decode to what `widened` makes of the forecast.

    Exact where both log-scales of a network's output are the same; else off by their difference times the distance of
    the shape's median from zero times what the factors differ from one.

    Args:
        shape: (H, 9), factor: (H,): see `models.decode.decode`. down, up: (H,) as `widened` takes them.
    """
    median = shape[:, MEDIAN, None]
    distance = shape - median
    stretched = median + distance * np.where(distance < 0, down[:, None], up[:, None])
    return stretched, np.asarray(factor * np.sqrt((down**2 + up**2) / 2))


class Adapted(NamedTuple):
    """forecast: with widths as adapted. factor: (T, H). cost: (H,) mean pinball over q10, q50, q90 after, over that
    before, less one, in percent: above zero is what the adaptation costs."""

    forecast: Forecast
    factor: Float64
    cost: Float64


def adaptive(
    forecast: Forecast,
    log_return: Float64,
    vol: Float64,
    known_after: tuple[int, ...],
    rate: float = 0.02,
    coverage: float = QUANTILES[HIGH] - QUANTILES[LOW],
) -> Adapted:
    """Adaptive conformal inference on widths (Gibbs, Candes 2021): after each session whose outcomes become known, the
    widths grow by `rate` times the share outside the interval above what it should be.

    Args:
        forecast: (N, T, H) axes, NaN = none. log_return: (N, T, H), NaN = not known. vol: (N, T), unit of the cost.
        known_after: by horizon, sessions after which an outcome is known; nothing sooner is read.
        rate: of the logarithm of the width, a session, divided by `known_after`: outcomes overlap.
    """
    sessions, horizons = forecast.sigma.shape[1:]
    low, high, median = (forecast.quantiles[..., at] for at in (LOW, HIGH, MEDIAN))
    log_factor = np.zeros((sessions, horizons))
    for h, delay in enumerate(known_after):
        # By how much its own side must be stretched to hold an outcome; a session's lie side by side in memory.
        actual, centre = log_return[..., h].T, median[..., h].T
        with np.errstate(divide="ignore", invalid="ignore"):
            below, above = (centre - actual) / (centre - low[..., h].T), (actual - centre) / (high[..., h].T - centre)
        needed = np.ascontiguousarray(np.maximum(below, above))  # (T, N)
        count = (~np.isnan(needed)).sum(1)
        step, now = rate / max(1, delay), 0.0
        for t in range(sessions):
            seen = t - delay
            if seen >= 0 and count[seen]:
                outside = (needed[seen] > np.exp(log_factor[seen, h])).sum() / count[seen]
                now += step * (outside - (1 - coverage))
            log_factor[t, h] = now
    factor = np.exp(log_factor)
    found = widened(forecast, factor[None], factor[None])
    before, after = (_mean_pinball(each, log_return, vol) for each in (forecast, found))
    return Adapted(found, factor, 100 * (after / before - 1))


def _mean_pinball(forecast: Forecast, log_return: Float64, vol: Float64) -> Float64:
    """(H,) mean over q10, q50, q90 and known cells, in units of volatility."""
    total = np.zeros(log_return.shape)
    for at in (LOW, MEDIAN, HIGH):
        error = (log_return - forecast.quantiles[..., at]) / vol[..., None]
        total += np.maximum(QUANTILES[at] * error, (QUANTILES[at] - 1) * error) / 3
    return np.asarray(np.nanmean(total, axis=(0, 1)))
