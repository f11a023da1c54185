"""Is one forecast better than another, or than many? Diebold-Mariano, Model Confidence Set, superior ability.

All work on losses by session: what the tickers of a session lose is one observation. Many models at once are compared
by resampling blocks of sessions through `arch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from arch.bootstrap import MCS, SPA
from scipy.stats import t as student

from pipeline.evidence import hac
from pipeline.evidence.significance import TOO_FEW, Resampling

Array = npt.NDArray[np.float64]
Kernel = Literal["newey_west", "truncated"]


@dataclass(frozen=True)
class DieboldMariano:
    """Equal predictive accuracy of two forecasts (Diebold and Mariano 1995).

    Attributes:
        difference: mean loss of the model less that of the other; below zero is for the model.
        statistic: difference over its standard error, corrected. p_value: two-sided. p_better: one-sided, small where
            the model is better. All None where nothing differs.
        kernel: what was used. lags: autocovariances counted. n_sessions, n_effective: in the sample.
        verdict: better, worse, not distinguishable, or too few sessions to say.
    """

    difference: float
    statistic: float | None
    p_value: float | None
    p_better: float | None
    kernel: str
    lags: int
    n_sessions: int
    n_effective: float
    verdict: str


@dataclass(frozen=True)
class ConfidenceSet:
    """The models that cannot be told from the best (Hansen, Lunde and Nason 2011).

    Attributes:
        included: names, in the order given; empty where there is no verdict.
        p_values: by name; a model is in the set at confidence 1 - a if its p-value exceeds a.
        size: a. n_blocks, n_effective: independent blocks and sessions, the latter of the pair with the fewest.
        verdict: a plain sentence.
    """

    included: tuple[str, ...]
    p_values: dict[str, float]
    size: float
    n_blocks: float
    n_effective: float
    verdict: str


@dataclass(frozen=True)
class Superiority:
    """Does any model beat the benchmark, counted that many were tried? (Hansen 2005, on White's reality check 2000).

    Attributes:
        p_lower, p_consistent, p_upper: bounds of the p-value and the one to use; p_upper is White's reality check.
        n_models: compared. n_blocks, n_effective: as in `ConfidenceSet`. verdict: a plain sentence.
    """

    p_lower: float
    p_consistent: float
    p_upper: float
    n_models: int
    n_blocks: float
    n_effective: float
    verdict: str


def diebold_mariano(
    model: Array,
    against: Array,
    horizon: int = 1,
    kernel: Kernel = "newey_west",
    level: float = 0.05,
    min_effective: float = 10,
) -> DieboldMariano:
    """Test that two forecasts lose the same on average.

    Args:
        model, against: (N, T) or (T,) losses, NaN = none; a cell counts where both are known.
        horizon: sessions that an outcome spans; neighbouring ones share horizon - 1 of them.
        kernel: `newey_west` counts at least 1.3 sqrt(T) autocovariances with falling weights and takes a t law with the
            freedom that leaves (Lazarus et al. 2018): use it. `truncated` is Harvey, Leybourne and Newbold (1997):
            horizon - 1 equal weights, their small-sample factor, t with T - 1: it trusts that an optimal forecast errs
            without memory beyond its horizon, and falls back to newey_west where its variance is not above zero.
        level: of the verdict, two-sided. min_effective: with fewer independent sessions, or outcomes side by side
            without overlap, there is none.

    Raises:
        ValueError: no cell has both losses.
    """
    _, moves = hac.session_influence(difference := model - against)
    mean, n = float(np.nanmean(difference)), len(moves)
    effective = hac.effective_sessions(moves, horizon)
    if not np.any(moves) and mean == 0:
        return DieboldMariano(0.0, None, None, None, kernel, 0, n, effective, "not distinguishable")
    variance = _truncated(moves, horizon) if kernel == "truncated" else 0.0
    if variance > 0:
        lags, freedom = horizon - 1, float(n - 1)
        factor = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    else:
        kernel, lags, factor = "newey_west", hac.bandwidth(n, horizon), 1.0
        variance = float(hac.long_run_variance(moves, lags)) / hac.known_share(n, lags)
        freedom = max(hac.BARTLETT_FREEDOM * n / (lags + 1), 1.0)
    with np.errstate(divide="ignore"):
        statistic = float(factor * np.float64(mean) / np.sqrt(variance / n))
    p_value, p_better = float(2 * student.sf(abs(statistic), freedom)), float(student.cdf(statistic, freedom))
    verdict = "not distinguishable" if p_value >= level else ("better" if mean < 0 else "worse")
    verdict = "too few independent sessions" if min(effective, n / horizon) < min_effective else verdict
    return DieboldMariano(mean, statistic, p_value, p_better, kernel, lags, n, effective, verdict)


def session_losses(losses: Mapping[str, Array]) -> Array:
    """Losses by session of several models on the cells that all of them have.

    Args:
        losses: name -> (N, T) or (T,), NaN = none.

    Returns:
        (T', K) of the sessions with any common cell: sums over tickers over the mean number of cells a session, so that
        the mean over sessions is that over cells.

    Raises:
        ValueError: no cell is common to all.
    """
    panels = np.stack([np.atleast_2d(loss) for loss in losses.values()])  # (K, N, T)
    common = np.isfinite(panels).all(0)
    counts = common.sum(0)
    there = counts > 0
    if not there.any():
        raise ValueError(f"no cell has a loss of each of {', '.join(losses)}; they cannot be compared")
    sums = np.where(common, panels, 0.0).sum(1)[:, there]  # (K, T')
    return np.asarray((sums / counts[there].mean()).T)


def model_confidence_set(
    losses: Mapping[str, Array], resampling: Resampling, size: float = 0.05, horizon: int = 1
) -> ConfidenceSet:
    """The set that holds the best model with confidence 1 - `size`: nothing is known against its members.

    Stationary bootstrap of sessions, range statistic. Models with the same losses up to rounding share one
    fate.

    Args:
        losses: name -> (N, T) or (T,), NaN = none. resampling: blocks, resamples, fewest blocks, seed.
        size: chance of leaving out the best. horizon: sessions that an outcome spans.

    Raises:
        ValueError: no cell is common to all.
    """
    by_session = session_losses(losses)
    names = list(losses)
    unique, at = _distinct(by_session)
    blocks, effective = len(by_session) / resampling.block_sessions, _fewest_effective(unique, horizon)
    if unique.shape[1] == 1:
        one = dict.fromkeys(names, 1.0)
        return ConfidenceSet(tuple(names), one, size, blocks, effective, "All models lose the same.")
    test = MCS(unique, size, resampling.resamples, resampling.block_sessions, seed=resampling.seed)
    test.compute()
    found = {int(row): float(p) for row, p in test.pvalues["Pvalue"].items()}
    p_values = {name: found[int(k)] for name, k in zip(names, at, strict=True)}
    if min(blocks, effective, len(by_session) / horizon) < resampling.min_blocks:
        return ConfidenceSet((), p_values, size, blocks, effective, f"No verdict: {TOO_FEW}.")
    included = tuple(name for name in names if p_values[name] > size)
    sentence = f"At {1 - size:.0%} confidence the best is among: {', '.join(included)}."
    return ConfidenceSet(included, p_values, size, blocks, effective, sentence)


def superior_ability(
    losses: Mapping[str, Array], benchmark: str, resampling: Resampling, level: float = 0.05, horizon: int = 1
) -> Superiority:
    """Test that no model loses less than the benchmark on average.

    Stationary bootstrap of sessions, studentised. A model with the benchmark's own losses is no competitor.

    Args:
        losses: name -> (N, T) or (T,), NaN = none. benchmark: one of the names.
        resampling: blocks, resamples, fewest blocks, seed. level: of the verdict. horizon: sessions of an outcome.

    Raises:
        ValueError: no cell is common to all, or the benchmark is not among them.
    """
    if benchmark not in losses:
        raise ValueError(f"the benchmark {benchmark} is not among the models {', '.join(losses)}")
    by_session = session_losses(losses)
    base = by_session[:, list(losses).index(benchmark)]
    others = by_session[:, (by_session != base[:, None]).any(0)]
    blocks = len(base) / resampling.block_sessions
    effective = _fewest_effective(np.column_stack([base, others]), horizon)
    if not others.shape[1]:
        return Superiority(1.0, 1.0, 1.0, 0, blocks, effective, f"Nothing differs from {benchmark}.")
    test = SPA(base, others, resampling.block_sessions, resampling.resamples, seed=resampling.seed)
    test.compute()
    lower, consistent, upper = (float(test.pvalues[key]) for key in ("lower", "consistent", "upper"))
    sentence = (
        f"No verdict: {TOO_FEW}."
        if min(blocks, effective, len(base) / horizon) < resampling.min_blocks
        else f"{'At least one' if consistent < level else 'None'} of {others.shape[1]} models is shown to beat "
        f"{benchmark} (p = {consistent:.3f})."
    )
    return Superiority(lower, consistent, upper, others.shape[1], blocks, effective, sentence)


def _distinct(by_session: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """(T', U) the columns that differ by more than rounding, and (K,) which of them each column is."""
    _, first, at = np.unique(
        np.round(by_session / np.abs(by_session).mean(), 9), axis=1, return_index=True, return_inverse=True
    )
    return by_session[:, first], at.ravel()


def _truncated(moves: Array, horizon: int) -> float:
    """Autocovariances up to horizon - 1, equally weighted; may be below zero."""
    n = len(moves)
    total = moves @ moves + 2 * sum(moves[j:] @ moves[:-j] for j in range(1, min(horizon, n)))
    return float(total / n)


def _fewest_effective(by_session: Array, horizon: int) -> float:
    """Independent sessions of the loss difference, from the first column, that has the fewest."""
    found = [
        hac.effective_sessions(by_session[:, k] - by_session[:, 0], horizon) for k in range(1, by_session.shape[1])
    ]
    return min(found, default=float(len(by_session)))
