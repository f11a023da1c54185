"""How much is traded, and how far the price moves for it.

V = volume of the session; a session without volume is missing. Only differences of ln V enter, so no unit does.
"""

from __future__ import annotations

import numpy as np

from features import trailing
from features.bars import Bars, once
from features.trailing import Array, log_ratio, quotient


def volume_family(bars: Bars) -> dict[str, Array]:
    """volume_z_n = (ln V - mean_n(ln V)) / std_n(ln V), n = 20, 60; volume_trend = mean_5(ln V) - mean_60(ln V);
    volume_vol_20 = std_20(ln V); standard deviations with ddof 1.

    amihud_20 = ln(mean_20(i) / mean_250(i)) with i = |r| / (close V), the price impact of a unit of money, both as
    reported; the ratio is floored at e^-5. volume_ret_20 = correlation of |r| and ln V over the sessions of the last
    20 with both.
    """
    logs, moves, squares = bars.log_volume, bars.volume_moves, bars.volume_squares
    impact = bars.sums(quotient(np.abs(bars.r), bars.close * bars.volume))
    here = np.isfinite(bars.now(logs))
    return {
        "volume_z_20": volume_z(bars, 20),
        "volume_z_60": volume_z(bars, 60),
        "volume_trend": np.where(here, moves.mean(5) - moves.mean(60), np.nan),
        "volume_vol_20": np.where(here, trailing.deviation(moves, squares, 20, ddof=1), np.nan),
        "amihud_20": log_ratio(impact.mean(20), impact.mean(250)),
        "volume_ret_20": _with_moves(bars, logs),
    }


@once
def volume_z(bars: Bars, n: int) -> Array:
    """(N, keep) how unusual the session's volume is among the last n."""
    spread = trailing.deviation(bars.volume_moves, bars.volume_squares, n, ddof=1)
    return (bars.now(bars.log_volume) - bars.volume_moves.mean(n)) / spread


def _with_moves(bars: Bars, logs: Array) -> Array:
    logs = bars.near(logs)
    size = np.where(np.isfinite(logs), np.abs(bars.near(bars.r)), np.nan)
    logs = np.where(np.isfinite(size), logs, np.nan)
    first = bars.sums(size)
    second = bars.sums(logs, first)
    joint = bars.sums(size * logs, first).mean(20) - first.mean(20) * second.mean(20)
    spreads = [trailing.deviation(s, bars.sums(x**2, first), 20) for s, x in ((first, size), (second, logs))]
    return np.clip(joint / (spreads[0] * spreads[1]), -1.0, 1.0)
