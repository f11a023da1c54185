"""Do forecasts mean what they say? Coverage of intervals, uniform PIT, chances that come true, ranks that hold.

Every test clusters by session across tickers and is robust to dependence in time (pipeline/evidence/hac.py): the
textbook chi-squared tests take each cell for an observation of its own and reject forecasts that are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, rankdata
from scipy.stats import f as fisher

from pipeline.evidence.hac import BARTLETT_FREEDOM, Mean, bandwidth, clustered_mean, known_share, long_run_variance

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Uniformity:
    """Whether the outcomes fall between the quantiles as often as these say.

    Attributes:
        shares, expected: (Q + 1,) of the cells below, between and above the quantiles.
        p_value: clustered by session, robust to dependence in time. None where sessions are too few for it.
        independent_p: Pearson's chi-squared over cells, as if all were independent: far too small for a panel.
        n_cells, n_sessions: in the sample.
    """

    shares: Array
    expected: Array
    p_value: float | None
    independent_p: float
    n_cells: int
    n_sessions: int


@dataclass(frozen=True)
class BrierParts:
    """Brier score = reliability - resolution + uncertainty + within (Murphy 1973; Stephenson et al. 2008).

    Attributes:
        score: mean squared difference of chance and event.
        reliability: mean squared difference of a bin's mean chance and its share of events; 0 is best.
        resolution: variance of the bins' shares of events; more is better.
        uncertainty: share x (1 - share) of events: the score of always saying the share.
        within: what binning leaves: 0 where all chances of a bin are equal.
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


@dataclass(frozen=True)
class Bin:
    """One point of a reliability curve: mean chance said, share that came, its clustered interval, cells."""

    said: float
    came: float
    low: float
    high: float
    n: int


def coverage(inside: Array, horizon: int = 1, confidence: float = 0.95) -> Mean:
    """Share of outcomes within their interval, its clustered interval; `.p_value(.8)` tests the promised share.

    Args:
        inside: (N, T) of 0 and 1 (`metrics.inside`), NaN = unknown. horizon: sessions that an outcome spans.
        confidence: of the interval.

    Raises:
        ValueError: no cell is known.
    """
    return clustered_mean(inside, horizon, confidence)


def uniformity(actual: Array, quantiles: Array, levels: tuple[float, ...], horizon: int = 1) -> Uniformity:
    """Test that outcomes fall between the quantiles with the chances that these promise: the PIT in Q + 1 bins.

    A Wald test on the mean of the sessions' bin counts with a long-run covariance, as an F test with the freedom that
    the bandwidth leaves (Lazarus et al. 2018). With nine quantiles it wants about 300 sessions at least.

    Args:
        actual: (N, T), NaN = unknown. quantiles: (N, T, Q) not descending, NaN = no forecast. levels: Q, ascending.
        horizon: sessions that an outcome spans.

    Raises:
        ValueError: no cell is known.
    """
    known = np.isfinite(actual) & np.isfinite(quantiles).all(-1)
    if not known.any():
        raise ValueError(f"no cell of {actual.shape} has both an outcome and quantiles; nothing can be tested")
    expected = np.diff(np.concatenate([[0.0], levels, [1.0]]))
    bins = (actual[..., None] > quantiles).sum(-1)  # (N, T) in 0 .. Q
    counts = np.stack([((bins == k) & known).sum(0) for k in range(len(expected))], axis=1).astype(float)  # (T, Q + 1)
    counts = counts[counts.sum(1) > 0]
    n_sessions, n_cells = len(counts), int(counts.sum())
    moves = (counts - counts.sum(1, keepdims=True) * expected)[:, :-1] / counts.sum(1).mean()
    pearson = float(((counts.sum(0) - n_cells * expected) ** 2 / (n_cells * expected)).sum())
    independent = float(chi2.sf(pearson, len(levels)))
    return Uniformity(counts.sum(0) / n_cells, expected, _wald(moves, horizon), independent, n_cells, n_sessions)


def brier_parts(actual: Array, p_up: Array, bins: int = 10) -> BrierParts:
    """The Brier score of p_up and what it is made of, over bins of equally many cells.

    Args:
        actual: (...) returns, NaN = unknown; the event is a return above zero. p_up: (...) chances, NaN = no forecast.
        bins: how many; equal chances stay in one bin, so there may be fewer.

    Raises:
        ValueError: no cell is known.
    """
    said, came, at = _binned(actual, p_up, bins)
    share = came.mean()
    n = np.bincount(at)
    mean_said, mean_came = np.bincount(at, said) / n, np.bincount(at, came) / n
    weight = n / n.sum()
    score = float(((said - came) ** 2).mean())
    reliability = float(weight @ (mean_said - mean_came) ** 2)
    resolution = float(weight @ (mean_came - share) ** 2)
    uncertainty = float(share * (1 - share))
    # Variance of the chances within bins less twice their covariance with the event.
    spread, off = said - mean_said[at], came - mean_came[at]
    return BrierParts(
        score, reliability, resolution, uncertainty, float((spread**2).mean() - 2 * (spread * off).mean())
    )


def reliability_curve(
    actual: Array, p_up: Array, bins: int = 10, horizon: int = 1, confidence: float = 0.95
) -> list[Bin]:
    """Share of rises by bin of p_up, with intervals clustered by session.

    Args:
        actual: (N, T) returns, NaN = unknown. p_up: (N, T) chances. bins: of equally many cells, at most.
        horizon: sessions that an outcome spans. confidence: of the intervals.

    Raises:
        ValueError: no cell is known.
    """
    said, came, at = _binned(actual, p_up, bins)
    known = np.isfinite(actual) & np.isfinite(p_up)
    bin_of = np.full(actual.shape, -1)
    bin_of[known] = at
    up = np.where(known, actual > 0, np.nan)
    curve = []
    for k in range(at.max() + 1):
        share = clustered_mean(np.where(bin_of == k, up, np.nan), horizon, confidence)
        low, high = max(share.low, 0.0), min(share.high, 1.0)
        curve.append(Bin(float(said[at == k].mean()), float(came[at == k].mean()), low, high, share.n_cells))
    return curve


def rank_correlation(forecast: Array, outcome: Array, min_tickers: int = 5) -> Array:
    """Spearman's correlation over the tickers of each session: does the order of the forecasts hold?

    Args:
        forecast, outcome: (N, T), NaN = unknown; a cell counts where both are known.
        min_tickers: a session with fewer is NaN.

    Returns:
        (T,), NaN also where either is the same for all tickers. Ties get their average rank. For an interval:
        `clustered_mean` or `Resamples`, both with the session as the observation.
    """
    known = np.isfinite(forecast) & np.isfinite(outcome)
    a, b = (
        rankdata(np.where(known, values, np.nan), axis=0, nan_policy="omit").astype(float)
        for values in (forecast, outcome)
    )
    n = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (np.where(known, ranks - (n + 1) / 2, 0.0) for ranks in (a, b))
        found = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where((n >= min_tickers) & np.isfinite(found), found, np.nan)


def _wald(moves: Array, horizon: int) -> float | None:
    """p-value of the (T, K) sessions' moves having mean zero; None where the long-run covariance cannot be trusted."""
    n, k = moves.shape
    lags = bandwidth(n, horizon)
    freedom = BARTLETT_FREEDOM * n / (lags + 1)
    covariance = long_run_variance(moves, lags) / known_share(n, lags)
    if freedom <= k or np.linalg.matrix_rank(covariance) < k:
        return None
    mean = moves.mean(0)
    wald = n * mean @ np.linalg.solve(covariance, mean)
    left = freedom - k + 1
    return float(fisher.sf(wald * left / (freedom * k), k, left))


def _binned(actual: Array, p_up: Array, bins: int) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Known cells, flat: chance said, whether it came, number of its bin (0.. without gaps)."""
    known = np.isfinite(actual) & np.isfinite(p_up)
    if not known.any():
        raise ValueError(f"no cell of {actual.shape} has both an outcome and a chance; nothing can be judged")
    said, came = p_up[known].astype(float), (actual[known] > 0).astype(float)
    inner = np.unique(np.quantile(said, np.arange(1, bins) / bins))
    at = np.searchsorted(inner, said, side="right")
    return said, came, np.unique(at, return_inverse=True)[1].astype(np.int64)
