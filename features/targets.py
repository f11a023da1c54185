"""What is forecast: the log return over the target interval, in raw units and in units of volatility."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.bars import Bars
from features.trailing import Array


class Targets(NamedTuple):
    """Per ticker, session of decision t and horizon h; NaN until the whole interval is known.

    log_return: (N, S, n_horizons), over the target interval. A difference of sums on the grid of `Bars`: exact,
    wherever the history starts.
    rv: same shape, mean squared one-session log return inside the interval: a variance per session; NaN where a
    session of it has no bar.
    """

    log_return: Array
    rv: Array


def targets(bars: Bars, horizons: tuple[int, ...], interval: str) -> Targets:
    """The targets of every decision session.

    Args:
        bars: N tickers, S sessions.
        horizons: sessions ahead, ascending.
        interval: `open_to_open` runs from open(t+1), where a decision at the close of t is filled, to
            open(t+1+h); `close_to_close` from close(t) to close(t+h).

    The value at t is known only h (+1) sessions later; it is a label, never a feature.
    """
    logs, delay = (bars.path + bars.day, 1) if interval == "open_to_open" else (bars.path, 0)
    squares = (logs - _later(logs, -1)) ** 2
    log_return, rv = (np.empty((*logs.shape, len(horizons))) for _ in range(2))
    total, added = np.zeros(logs.shape), 0  # one by one from the first session on: the same bits from any start
    start = _later(logs, delay)
    for i, h in enumerate(horizons):
        for k in range(added + 1, h + 1):
            total += _later(squares, delay + k)
        added = h
        log_return[..., i] = _later(logs, delay + h) - start
        rv[..., i] = total / h
    return Targets(log_return, rv)


def label_rows(
    labels: Targets, bars: Bars, vol: npt.NDArray[np.float32] | Array, horizons: tuple[int, ...]
) -> pd.DataFrame:
    """The `targets` table: ticker, session, horizon, log_return, rv, z = log_return / (vol sqrt h).

    Only rows where the return, its variance and vol are known; sorted by ticker, session, horizon.

    Args:
        labels: of `bars`.
        vol: (N, S) as the feature table holds it, NaN where there is to be no row.
        horizons: those of `labels`.
    """
    scale = vol.astype(np.float64)[:, :, None] * np.sqrt(np.asarray(horizons))
    z = labels.log_return / scale
    known = np.isfinite(z) & np.isfinite(labels.rv)
    n, t, h = np.nonzero(known)
    return pd.DataFrame(
        {
            "ticker": pd.Series(bars.tickers[n], dtype="str"),
            "session": pd.DatetimeIndex(bars.sessions[t]).astype("datetime64[us]"),
            "horizon": np.asarray(horizons, dtype=np.int32)[h],
            "log_return": labels.log_return[known],
            "rv": labels.rv[known],
            "z": z[known],
        }
    )


def _later(x: Array, sessions: int) -> Array:
    """(N, S) the value so many sessions later (earlier, if negative); NaN beyond the ends."""
    out = np.full(x.shape, np.nan)
    size = max(x.shape[1] - abs(sessions), 0)
    if sessions >= 0:
        out[:, :size] = x[:, sessions : sessions + size]
    else:
        out[:, x.shape[1] - size :] = x[:, :size]
    return out
