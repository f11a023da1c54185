"""Means of dependent series: long-run variance, effective sample size, and a t test that knows both.

A panel of (N tickers, T sessions) is first clustered: what the tickers of one session add up to is one observation.
Then the variance of the mean over sessions is the Bartlett-weighted sum of autocovariances (Newey and West 1987)
with the long bandwidth and the fatter critical values that keep the level in samples of our size (Lazarus, Lewis,
Stock and Watson 2018): S = 1.3 sqrt(T) sessions, more for long horizons, Student's t with 1.5 T / S degrees of freedom.
That weights miss what the sample mean took out is made up for by 1 - b + b^2 / 3, b = S / T: the mean of the estimate
of a series without memory (Kiefer and Vogelsang 2005). Simulated, a 5 % test of 1,000 sessions rejects 5.4 % of
the time for outcomes of 1 and 5 sessions, 6.5 % for 20 (of 500: 4.6, 5.2, 7.3 %).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Array = npt.NDArray[np.float64]

BARTLETT_FREEDOM = 1.5
"""Equivalent degrees of freedom of a Bartlett estimate: 1.5 T / S."""
OVERLAPS = 4
"""Falling weights miss a share of the memory of overlapping outcomes: with S of four overlaps, a twelfth."""


@dataclass(frozen=True)
class Mean:
    """A mean over all cells of a panel and what its dependence leaves of it.

    Attributes:
        mean: over all cells. se: its standard error. low, high: its interval at `confidence`.
        freedom: degrees of freedom of the t distribution. lags: autocovariances counted.
        n_cells, n_sessions: in the sample. n_effective: independent sessions.
    """

    mean: float
    se: float
    low: float
    high: float
    freedom: float
    lags: int
    n_cells: int
    n_sessions: int
    n_effective: float

    def p_value(self, against: float = 0.0) -> float:
        """Two-sided p-value of the mean being `against`; 1 if it is so exactly, 0 if it differs without any noise."""
        if self.se == 0:
            return 1.0 if self.mean == against else 0.0
        return float(2 * student.sf(abs(self.mean - against) / self.se, self.freedom))


def bandwidth(n: int, horizon: int = 1) -> int:
    """Autocovariances to count: S - 1, where S is 1.3 sqrt(n), or OVERLAPS times an overlap of more than that."""
    return int(min(max(np.ceil(1.3 * np.sqrt(n)), OVERLAPS * (horizon - 1)) - 1, n - 1))


def long_run_variance(values: Array, lags: int) -> Array:
    """Bartlett-weighted autocovariances (Newey and West 1987).

    Args:
        values: (T,) or (T, K), finite; their mean is taken out.
        lags: autocovariances on each side; 0 is the plain variance (ddof 0).

    Returns:
        () or (K, K): T times the variance of the mean, for large T; never negative (definite).
    """
    moves = values - values.mean(0)
    wide = moves[:, None] if moves.ndim == 1 else moves
    total = wide.T @ wide
    for j in range(1, min(lags, len(wide) - 1) + 1):
        cross = wide[j:].T @ wide[:-j]
        total += (1 - j / (lags + 1)) * (cross + cross.T)
    return np.asarray(total[0, 0] if moves.ndim == 1 else total) / len(wide)


def known_share(n: int, lags: int) -> float:
    """Share of a long-run variance that its estimate has in the mean, as n sessions have lost their own mean."""
    b = (lags + 1) / n
    return 1 - b + b**2 / 3


def effective_sessions(values: Array, horizon: int = 1) -> float:
    """How many independent observations know the mean as well: T x variance / long-run variance.

    Args:
        values: (T,) finite. horizon: sessions that an outcome spans.

    At most T: negative autocorrelation is not taken for information. A series that does not move has T
    (Thiebaux and Zwiers 1984).
    """
    n = len(values)
    variance = float(values.var()) if n else 0.0
    if variance <= 1e-30 * max(1.0, float(np.abs(values).max(initial=0.0)) ** 2):
        return float(n)
    lags = bandwidth(n, horizon)
    long_run = float(long_run_variance(values, lags)) / known_share(n, lags)
    return float(min(n, n * variance / max(long_run, variance / n)))


def error_of_mean(moves: Array, lags: int) -> tuple[float, float]:
    """Standard error of the mean of (T,) finite values, and the degrees of freedom of Student's t for it."""
    n = len(moves)
    se = float(np.sqrt(long_run_variance(moves, lags) / known_share(n, lags) / n))
    return se, max(BARTLETT_FREEDOM * n / (lags + 1), 1.0)


def session_influence(values: Array) -> tuple[float, Array]:
    """The mean over all cells of a panel, and how each session moves it.

    Args:
        values: (N, T) or (T,), NaN = no cell.

    Returns:
        The mean, and (T',) influences of the sessions that have cells: sum over tickers of (value - mean) over the
        mean number of cells a session. Their average is zero and the variance of their mean is that of the mean.

    Raises:
        ValueError: there is no cell.
    """
    panel = np.atleast_2d(values)
    counts = np.isfinite(panel).sum(0)
    there = counts > 0
    if not there.any():
        raise ValueError(f"no finite value in a panel of {panel.shape[0]} x {panel.shape[1]}; nothing can be tested")
    sums, counts = np.nansum(panel[:, there], axis=0), counts[there]
    mean = float(sums.sum() / counts.sum())
    return mean, np.asarray((sums - mean * counts) / counts.mean())


def clustered_mean(values: Array, horizon: int = 1, confidence: float = 0.95, lags: int | None = None) -> Mean:
    """The mean over all cells, with a standard error clustered by session and robust to dependence in time.

    Args:
        values: (N, T) or (T,), NaN = no cell; sessions without any are left out.
        horizon: sessions that an outcome spans: their overlap makes horizon - 1 autocorrelations.
        confidence: level of the interval. lags: autocovariances to count; None = `bandwidth`.

    Raises:
        ValueError: there is no finite value.
    """
    mean, moves = session_influence(values)
    n = len(moves)
    lags = bandwidth(n, horizon) if lags is None else lags
    se, freedom = error_of_mean(moves, lags)
    reach = float(student.ppf((1 + confidence) / 2, freedom)) * se
    cells = int(np.isfinite(values).sum())
    return Mean(mean, se, mean - reach, mean + reach, freedom, lags, cells, n, effective_sessions(moves, horizon))
