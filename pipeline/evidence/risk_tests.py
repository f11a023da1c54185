"""Is value at risk what it promises? Exceedances counted, tested for their number and for coming in clusters.

One ticker: likelihood ratios of Kupiec (1995) and Christoffersen (1998), asymptotic or by simulation. All tickers
at once: the share of exceedances a session, clustered, because tickers fall together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import chi2

from pipeline.evidence.hac import Mean, clustered_mean

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Exceedances(NamedTuple):
    """How often a return fell below its value at risk, and whether that is as promised.

    kupiec_p: unconditional coverage (Kupiec 1995). christoffersen_p: independence from one session to the next,
    conditional_p: both at once (Christoffersen 1998). None where no exceedance can be tested.
    """

    exceedances: int
    expected: float
    n: int
    kupiec_p: float | None
    christoffersen_p: float | None
    conditional_p: float | None


class Ratios(NamedTuple):
    """Likelihood ratios, (...) each: of the number, of independence, and their sum."""

    number: Array
    independence: Array
    both: Array


def exceedances(breached: list[Bools], level: float) -> Exceedances:
    """The tests over one or several series of consecutive sessions, by their asymptotic chi-squared laws.

    Args:
        breached: one bool array a ticker, in session order.
        level: promised share of exceedances, like .05.

    Pooled series count transitions within each ticker only. Tickers move together, so that pooled p-values are too
    small: `pooled` is the test for them. At a level of 1 % the law of independence is poor even with 1,000 sessions:
    `exact_p` simulates it.
    """
    n = sum(len(series) for series in breached)
    hits = int(sum(series.sum() for series in breached))
    if n == 0:
        return Exceedances(0, 0.0, 0, None, None, None)
    counts = np.zeros((2, 2))
    for series in breached:
        np.add.at(counts, (series[:-1].astype(int), series[1:].astype(int)), 1)
    found = _ratios(np.asarray(hits), n, counts, level)
    kupiec = float(chi2.sf(found.number, 1))
    if hits == 0:
        return Exceedances(hits, level * n, n, kupiec, None, None)
    independence, both = float(chi2.sf(found.independence, 1)), float(chi2.sf(found.both, 2))
    return Exceedances(hits, level * n, n, kupiec, independence, both)


def ratios(breached: Bools, level: float) -> Ratios:
    """The likelihood ratios of many series at once.

    Args:
        breached: (..., T) consecutive sessions. level: promised share of exceedances.
    """
    before, after = breached[..., :-1], breached[..., 1:]
    counts = np.stack(
        [
            np.stack([(~before & ~after).sum(-1), (~before & after).sum(-1)]),
            np.stack([(before & ~after).sum(-1), (before & after).sum(-1)]),
        ]
    )  # (2, 2, ...)
    return _ratios(np.asarray(breached.sum(-1)), breached.shape[-1], counts.astype(np.float64), level)


def exact_p(breached: Bools, level: float, draws: int = 999, seed: int = 0) -> Ratios:
    """p-values of one series against the simulated law of the ratios, exact at any length and level.

    Monte Carlo test with ties broken at random (Dufour 2006; for value at risk Christoffersen and Pelletier 2004):
    under the hypothesis exceedances are independent with chance `level`.

    Args:
        breached: (T,). level: promised share. draws: simulated series. seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    drawn = ratios(generator.random((draws, len(breached))) < level, level)
    found = ratios(breached, level)
    p_values = []
    for one, law in zip(found, drawn, strict=True):
        tied = np.isclose(law, one, rtol=1e-9, atol=1e-12)
        at_least = (law > one) & ~tied
        # This series takes a random place among the simulated ones that equal it.
        above = at_least.sum() + generator.integers(0, tied.sum() + 1)
        p_values.append(np.asarray((above + 1) / (draws + 1)))
    return Ratios(*p_values)


def pooled(breached: Array, horizon: int = 1, confidence: float = 0.95) -> Mean:
    """The share of exceedances over all tickers, clustered by session and robust to dependence in time.

    Args:
        breached: (N, T) of 0 and 1, NaN = no forecast or no outcome. horizon: sessions that an outcome spans.
        confidence: of the interval. `.p_value(level)` of the result tests a promised share.

    Raises:
        ValueError: no cell is known.
    """
    return clustered_mean(breached, horizon, confidence)


def pooled_independence(breached: Array, horizon: int = 1, confidence: float = 0.95) -> Mean | None:
    """Do exceedances follow exceedances of the same ticker? Over all tickers, clustered by session.

    The mean product of a ticker's exceedance and its last one, each less the share of all: zero if they come
    independently (Berkowitz, Christoffersen and Pelletier 2011, the first autocovariance), above zero if in clusters.

    Args:
        breached: (N, T) of 0 and 1, NaN = no forecast or no outcome; a pair is a ticker's cell and its last known one
            at least `horizon` sessions before, so that outcomes do not overlap.
        horizon: sessions that an outcome spans. confidence: of the interval. `.p_value()` of the result is two-sided.

    Returns:
        None where no exceedance, or no pair, can be tested.
    """
    known = np.isfinite(breached)
    if not known.any() or not np.nansum(breached):
        return None
    moves = np.where(known, breached - np.nanmean(breached), np.nan)
    # The last known cell at or before each session.
    last = np.maximum.accumulate(np.where(known, np.arange(known.shape[1]), -1), axis=1)
    before = np.concatenate([np.full((len(known), horizon), -1), last[:, : known.shape[1] - horizon]], axis=1)
    paired = np.where(before >= 0, np.take_along_axis(moves, np.maximum(before, 0), axis=1), np.nan)
    products = moves * paired
    return clustered_mean(products, horizon, confidence) if np.isfinite(products).any() else None


def _ratios(hits: npt.NDArray[np.int64], n: int, counts: Array, level: float) -> Ratios:
    """From hits (...) of n and counts (2, 2, ...) of transitions [before, after]."""
    number = 2 * (_log_likelihood(hits, n - hits, hits / n) - _log_likelihood(hits, n - hits, level))
    (n00, n01), (n10, n11) = counts
    pairs = np.maximum(n00 + n01 + n10 + n11, 1)
    share = (n01 + n11) / pairs
    after_none, after_hit = n01 / np.maximum(n00 + n01, 1), n11 / np.maximum(n10 + n11, 1)
    dependent = _log_likelihood(n01, n00, after_none) + _log_likelihood(n11, n10, after_hit)
    independence = 2 * (dependent - _log_likelihood(n01 + n11, n00 + n10, share))
    number, independence = np.maximum(number, 0.0), np.maximum(independence, 0.0)
    return Ratios(number, independence, number + independence)


def _log_likelihood(
    hits: npt.NDArray[np.int64] | Array, misses: npt.NDArray[np.int64] | Array, rate: Array | float
) -> Array:
    return np.asarray(xlogy(hits, rate) + xlogy(misses, 1 - np.asarray(rate)))
