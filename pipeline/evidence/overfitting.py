"""How much of a Sharpe ratio is the luck of having tried much: deflated Sharpe ratio, probability of overfitting.

Sharpe ratios here are per observation (one session), not annual: divide an annual one by sqrt(252).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.stats import kurtosis, norm, skew

Array = npt.NDArray[np.float64]

MAX_BLOCKS = 20
"""184,756 ways to halve 20 blocks: beyond it CSCV needs more memory than it is worth."""


@dataclass(frozen=True)
class Deflated:
    """A Sharpe ratio beside what luck alone would show.

    Attributes:
        sharpe: of the chosen strategy, a session. trials: how many were tried.
        deviation: taken among the trials' Sharpe ratios.
        benchmark: the largest Sharpe ratio to be expected of that many without any skill.
        probability: that the true one exceeds the benchmark (deflated Sharpe ratio).
        probabilistic: that it exceeds zero, as if nothing else had been tried.
        verdict: whether the former reaches the confidence asked for, or that observations are too few.
    """

    sharpe: float
    trials: int
    deviation: float
    benchmark: float
    probability: float
    probabilistic: float
    verdict: str


@dataclass(frozen=True)
class Overfitting:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    Attributes:
        probability: share of splits whose winner in sample is below the median out of sample; .5 is pure luck.
        logits: (splits,) logit of the winner's relative rank out of sample.
        loss_probability: share of splits whose winner loses out of sample.
        splits, strategies: how many.
    """

    probability: float
    logits: Array
    loss_probability: float
    splits: int
    strategies: int


def probabilistic_sharpe(sharpe: float, benchmark: float, n: int, skewness: float, kurtosis: float) -> float:
    """Chance that the true Sharpe ratio exceeds `benchmark` (Bailey and Lopez de Prado 2012).

    Args:
        sharpe, benchmark: per observation. n: observations. skewness: of the returns. kurtosis: of the returns, 3 if
            normal.

    Raises:
        ValueError: fewer than two observations, or moments that no distribution near this Sharpe ratio has.
    """
    spread = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if n < 2 or spread <= 0:
        raise ValueError(
            f"{n} observations with Sharpe {sharpe:.3g}, skewness {skewness:.3g}, kurtosis {kurtosis:.3g} do not give "
            "the Sharpe ratio a standard error; use more observations"
        )
    return float(norm.cdf((sharpe - benchmark) * np.sqrt((n - 1) / spread)))


def expected_maximum(trials: int, deviation: float) -> float:
    """The largest of `trials` Sharpe ratios without skill, in expectation (Bailey and Lopez de Prado 2014, equation 1).

    Args:
        trials: independent ones, at least 1; one is expected to show zero. deviation: standard deviation among them.

    Raises:
        ValueError: there is no trial.
    """
    if trials < 1:
        raise ValueError(f"{trials} trials: at least the strategy itself was tried; append it to the ledger")
    if trials == 1:
        return 0.0
    euler = np.euler_gamma
    return float(deviation * ((1 - euler) * norm.ppf(1 - 1 / trials) + euler * norm.ppf(1 - 1 / (trials * np.e))))


def deflated_sharpe(
    returns: Array,
    trials: int,
    sharpes: Array | None = None,
    confidence: float = 0.95,
    min_sessions: int = 60,
) -> Deflated:
    """The deflated Sharpe ratio of the strategy that was chosen (Bailey and Lopez de Prado 2014).

    Args:
        returns: (T,) simple returns a session, NaN = none.
        trials: how many were tried, by the ledger (`ledger.count(lake).trials`). Correlated trials count in full: the
            result errs to the safe side.
        sharpes: (n,) Sharpe ratios a session of the trials, if they were recorded. Their variance counts where it is
            above that of independent trials without skill, 1 / (T - 1): trials that are nearly the same strategy hardly
            differ, and with so small a variance their number would count for nothing.
        confidence: of the verdict. min_sessions: with fewer returns there is none.

    Raises:
        ValueError: no trial, fewer than two returns, or returns that do not move.
    """
    r = returns[np.isfinite(returns)]
    if len(r) < 2 or r.std() <= 1e-15:
        raise ValueError(f"{len(r)} returns that do not move have no Sharpe ratio")
    sharpe = float(r.mean() / r.std(ddof=1))
    known = np.array([]) if sharpes is None else sharpes[np.isfinite(sharpes)]
    without_skill = 1 / np.sqrt(len(r) - 1)
    deviation = float(max(known.std(ddof=1), without_skill) if len(known) > 1 else without_skill)
    benchmark = expected_maximum(trials, deviation)
    moments = len(r), float(skew(r)), float(kurtosis(r, fisher=False))
    probability = probabilistic_sharpe(sharpe, benchmark, *moments)
    verdict = "shown" if probability >= confidence else "not shown"
    verdict = "too few sessions" if len(r) < min_sessions else verdict
    alone = probabilistic_sharpe(sharpe, 0.0, *moments)
    return Deflated(sharpe, trials, deviation, benchmark, probability, alone, verdict)


def backtest_overfitting(returns: Array, blocks: int = 16) -> Overfitting:
    """Probability that the best of several strategies was best by luck (Bailey, Borwein, Lopez de Prado and Zhu 2017).

    The sessions are cut into `blocks`; in each way to take half of them as the sample, the strategy with the best
    Sharpe ratio there is ranked among all on the other half. Ties take the average rank.

    Args:
        returns: (T, K) simple returns a session of all K strategies that were tried, finite.
        blocks: even, at most 20; T should hold many sessions a block.

    Raises:
        ValueError: an odd or too large number of blocks, fewer than two strategies, too few sessions, a NaN.
    """
    T, K = returns.shape
    if blocks % 2 or not 2 <= blocks <= MAX_BLOCKS:
        raise ValueError(f"blocks = {blocks}: take an even number from 2 to {MAX_BLOCKS}")
    if K < 2 or 2 * blocks > T or not np.isfinite(returns).all():
        raise ValueError(
            f"{T} sessions of {K} strategies in {blocks} blocks: give at least 2 strategies and {2 * blocks} sessions, "
            "without NaN"
        )
    parts = np.array_split(returns, blocks)
    totals = np.stack([np.vstack([p.sum(0), (p**2).sum(0), np.full(K, len(p))]) for p in parts])  # (S, 3, K)
    chosen = np.zeros((len(halves := list(combinations(range(blocks), blocks // 2))), blocks))
    np.put_along_axis(chosen, np.array(halves), 1.0, axis=1)
    inside, outside = (_sharpe(np.tensordot(take, totals, 1)) for take in (chosen, 1 - chosen))  # (splits, K)
    best = inside.argmax(1)[:, None]
    won = np.take_along_axis(outside, best, 1)
    rank = (outside < won).sum(1) + ((outside == won).sum(1) + 1) / 2
    share = rank / (K + 1)
    logits = np.log(share / (1 - share))
    return Overfitting(float((logits <= 0).mean()), logits, float((won < 0).mean()), len(halves), K)


def _sharpe(totals: Array) -> Array:
    """(splits, 3, K) sums of r, of r squared, counts -> (splits, K); 0 where nothing moves."""
    sums, squares, n = totals[:, 0], totals[:, 1], totals[:, 2]
    variance = (squares - sums**2 / n) / (n - 1)
    moves = variance > 1e-18
    return np.where(moves, sums / n / np.sqrt(np.where(moves, variance, 1.0)), 0.0)
