"""Intervals that know their dependence: clustered by session across tickers, bootstrapped in blocks of time.

Losses of one session are summed over tickers first, so that stocks that move together count once; whole blocks
of sessions are then resampled (stationary bootstrap, Politis and Romano 1994, through `arch`), so that
overlapping horizons and clustered volatility do not pretend to be independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from arch.bootstrap import StationaryBootstrap
from scipy.stats import norm
from scipy.stats import t as student

from pipeline.evidence import hac

Array = npt.NDArray[np.float64]

POWER = 0.8
TOO_FEW = "too few blocks"


@dataclass(frozen=True)
class Resampling:
    """How to resample: level of the intervals, one-sided level of the gate, resamples, mean block, seed."""

    confidence: float
    gate_level: float
    resamples: int
    block_sessions: int
    min_blocks: int
    seed: int


@dataclass(frozen=True)
class Gain:
    """What one loss saves against another: (against - model) / |against|, in percent, with its interval.

    p_value is one-sided: the share of resamples without a gain. gate_low is the lower bound at the gate's level: the
    lowest of the resamples' and of two t laws (pipeline/evidence/hac.py), with autocovariances over one block and over
    two. Of simulated forecasters without any gain, at a nominal 1 %, resamples alone promoted 11 of 180; the lowest of
    the three 5 of 200 others (.8 to 5.7 %; benchmarks/gate.py): the gate's true level is nearer 2 %.
    smallest_detectable is the gain that would pass the gate four times in five by the same three. n_blocks
    is the number of independent blocks that the sessions hold, n_effective that of independent sessions by the
    autocorrelation of what is gained in each (`hac.effective_sessions`); with fewer than `min_blocks` of either there
    is no verdict.
    """

    gain_percent: float
    low: float
    high: float
    p_value: float
    gate_low: float
    smallest_detectable: float
    n_blocks: float
    verdict: str
    n_effective: float


class Resamples:
    """Bootstrap means of many loss series at once, all under the same resampled sessions.

    Args:
        losses: name -> (N tickers, T sessions), NaN = no loss. All must share T.
        resampling: how to resample.
    """

    def __init__(self, losses: Mapping[str, Array], resampling: Resampling) -> None:
        self.resampling = resampling
        self._at = {name: position for position, name in enumerate(losses)}
        sums = np.stack([np.nansum(loss, axis=0) for loss in losses.values()], axis=1)  # (T, K)
        counts = np.stack([np.isfinite(loss).sum(0) for loss in losses.values()], axis=1)  # (T, K)
        seen = counts.any(1)
        self._both = np.hstack([sums, counts])[seen]  # (T', 2K)
        self.n_sessions = len(self._both)
        bootstrap = StationaryBootstrap(resampling.block_sessions, self._both, seed=resampling.seed)
        totals = bootstrap.apply(lambda rows: rows.sum(0), resampling.resamples)  # (R, 2K)
        with np.errstate(invalid="ignore", divide="ignore"):
            self._means = totals[:, : len(losses)] / totals[:, len(losses) :]  # (R, K)
            self._point = self._both.sum(0)[: len(losses)] / self._both.sum(0)[len(losses) :]

    @property
    def n_blocks(self) -> float:
        """Independent blocks in the sample: sessions over the mean block length."""
        return self.n_sessions / self.resampling.block_sessions

    def mean(self, name: str) -> tuple[float, float, float]:
        """The mean of one series over all cells, and its interval."""
        low, high = np.quantile(self._means[:, self._at[name]], self._tails())
        return float(self._point[self._at[name]]), float(low), float(high)

    def statistic(self, of: Callable[[Mapping[str, Array]], Array]) -> tuple[float, float, float]:
        """A function of the series' means, and its interval.

        Args:
            of: name -> (R,) means to (R,) values, element by element.
        """
        drawn, point = (
            {name: means[:, at] for name, at in self._at.items()} for means in (self._means, self._point[None])
        )
        low, high = np.quantile(of(drawn), self._tails())
        return float(of(point)[0]), float(low), float(high)

    def gain(self, pairs: list[tuple[str, str]]) -> Gain:
        """The gain of (model, against), in percent; of several pairs, the mean of their gains."""
        relative = np.mean([self._relative(self._means, *pair) for pair in pairs], axis=0)  # (R,)
        point = float(np.mean([self._relative(self._point[None], *pair)[0] for pair in pairs]))
        low, high = np.quantile(relative, self._tails())
        level, moves = self.resampling.gate_level, self._moves(pairs)
        errors = [hac.error_of_mean(moves, self._lags(blocks)) for blocks in (1, 2)]
        law_low = point - max(student.ppf(1 - level, freedom) * error for error, freedom in errors)
        by_law = max((student.ppf(1 - level, freedom) + student.ppf(POWER, freedom)) * e for e, freedom in errors)
        by_draws = (norm.ppf(1 - level) + norm.ppf(POWER)) * relative.std(ddof=1)
        effective = hac.effective_sessions(moves)
        return Gain(
            gain_percent=point,
            low=float(low),
            high=float(high),
            p_value=float((1 + (relative <= 0).sum()) / (1 + len(relative))),
            gate_low=float(min(np.quantile(relative, level), law_low)),
            smallest_detectable=float(max(by_draws, by_law)),
            n_blocks=self.n_blocks,
            verdict=self._verdict(low, high, effective),
            n_effective=effective,
        )

    def _relative(self, means: Array, model: str, against: str) -> Array:
        base = means[:, self._at[against]]
        return np.asarray(100 * (base - means[:, self._at[model]]) / np.abs(base))

    def _moves(self, pairs: list[tuple[str, str]]) -> Array:
        """(T',) how each session moves the mean of the pairs' gains, in percent: a ratio of means, linearised."""
        k = len(self._at)
        sums, counts = self._both[:, :k], self._both[:, k:]
        influence = (sums - counts * self._point) / counts.mean(0)  # (T', K) of each mean
        moves = np.zeros(self.n_sessions)
        for model, against in pairs:
            m, a = self._at[model], self._at[against]
            share = self._point[m] / self._point[a]
            moves += 100 / len(pairs) * (share * influence[:, a] - influence[:, m]) / np.abs(self._point[a])
        return moves

    def _lags(self, blocks: int) -> int:
        """Autocovariances within so many blocks, no fewer than the sample calls for."""
        wanted = max(hac.bandwidth(self.n_sessions), blocks * self.resampling.block_sessions - 1)
        return min(wanted, self.n_sessions - 1)

    def _tails(self) -> tuple[float, float]:
        tail = (1 - self.resampling.confidence) / 2
        return tail, 1 - tail

    def _verdict(self, low: float, high: float, effective: float) -> str:
        if min(self.n_blocks, effective) < self.resampling.min_blocks:
            return TOO_FEW
        if low > 0:
            return "better"
        return "worse" if high < 0 else "not distinguishable"
