"""What is forecast: the log return over the target interval, in raw units and in units of volatility."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.prices import Wide

Array = npt.NDArray[np.float64]


class Targets(NamedTuple):
    """Per session of decision t, ticker and horizon h; NaN until the whole interval is known.

    log_return: (n_sessions, n_tickers, n_horizons), over the target interval.
    rv: same shape, mean squared one-session log return inside the interval: a variance per session.
    """

    log_return: Array
    rv: Array


def targets(prices: Wide, horizons: tuple[int, ...], interval: str) -> Targets:
    """The targets of every decision session.

    Args:
        prices: adjusted wide prices.
        horizons: sessions ahead.
        interval: `open_to_open` runs from open(t+1), where a decision at the close of t is filled, to
            open(t+1+h); `close_to_close` from close(t) to close(t+h).

    The value at t is known only h (+1) sessions later; it is a label, never a feature.
    """
    path, delay = (prices.open, 1) if interval == "open_to_open" else (prices.close, 0)
    logs = pd.DataFrame(np.log(path))
    daily = logs - logs.shift(1)
    log_return, rv = [], []
    for h in horizons:
        log_return.append((logs.shift(-delay - h) - logs.shift(-delay)).to_numpy())
        rv.append((daily**2).rolling(h, min_periods=h).mean().shift(-delay - h).to_numpy())
    return Targets(np.stack(log_return, axis=-1), np.stack(rv, axis=-1))


def label_rows(labels: Targets, vol: pd.DataFrame, horizons: tuple[int, ...]) -> pd.DataFrame:
    """The `targets` table: ticker, session, horizon, log_return, rv, z = log_return / (vol sqrt h).

    Only rows where the return, its variance and vol are known; sorted by ticker, session, horizon.
    """
    v = vol.to_numpy()[:, :, None]
    z = labels.log_return / (v * np.sqrt(np.asarray(horizons)))  # (T, N, H)
    known = np.isfinite(z) & np.isfinite(labels.rv)
    t, n, h = np.nonzero(known)
    rows = pd.DataFrame(
        {
            "ticker": pd.Series(np.asarray(vol.columns, dtype=str)[n], dtype="str"),
            "session": pd.DatetimeIndex(vol.index)[t].astype("datetime64[us]"),
            "horizon": np.asarray(horizons, dtype=np.int32)[h],
            "log_return": labels.log_return[known],
            "rv": labels.rv[known],
            "z": z[known],
        }
    )
    return rows.sort_values(["ticker", "session", "horizon"], ignore_index=True)
