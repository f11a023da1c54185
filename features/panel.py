"""The dense panel: (tickers, sessions, features), the seam between tables and models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

KEYS = ("ticker", "session", "vol", "r")


@dataclass(frozen=True)
class Panel:
    """A universe's features on a common axis of sessions.

    Attributes:
        tickers: (N,) str, sorted.
        sessions: (T,) datetime64[D], ascending.
        feature_names: F names.
        x: (N, T, F) float32, raw, NaN = missing.
        vol: (N, T) float32, daily EWMA volatility, NaN = unknown.
        r: (N, T) float32, log total return since the ticker's previous bar, NaN where there is none.
    """

    tickers: npt.NDArray[np.str_]
    sessions: npt.NDArray[np.datetime64]
    feature_names: tuple[str, ...]
    x: Float32
    vol: Float32
    r: Float32


def load(rows: pd.DataFrame, feature_names: tuple[str, ...] | None = None) -> Panel:
    """The panel of a `features` table; `feature_names` selects and orders, default all columns of the table.

    Rows made for scoring need no `r`: the panel's is NaN then.

    Raises:
        KeyError: a named feature is not a column.
    """
    names = feature_names or tuple(name for name in rows.columns if name not in KEYS)
    missing = [name for name in names if name not in rows.columns]
    if missing:
        raise KeyError(f"the feature table has no column {', '.join(missing)}")
    tickers, n = np.unique(rows["ticker"].to_numpy(dtype=str), return_inverse=True)
    sessions, t = np.unique(rows["session"].to_numpy().astype("datetime64[D]"), return_inverse=True)
    x = np.full((len(tickers), len(sessions), len(names)), np.nan, dtype=np.float32)
    vol, r = (np.full(x.shape[:2], np.nan, dtype=np.float32) for _ in range(2))
    x[n, t] = rows[list(names)].to_numpy(dtype=np.float32)
    vol[n, t] = rows["vol"].to_numpy(dtype=np.float32)
    if "r" in rows.columns:
        r[n, t] = rows["r"].to_numpy(dtype=np.float32)
    return Panel(tickers, sessions, tuple(names), x, vol, r)


def align(panel: Panel, rows: pd.DataFrame, value: str, horizons: tuple[int, ...]) -> Float64:
    """One column of a (ticker, session, horizon) table on the panel's axes: (N, T, H) float64, NaN = no row.

    Rows of other tickers, sessions or horizons are dropped.
    """
    out = np.full((len(panel.tickers), len(panel.sessions), len(horizons)), np.nan)
    n = pd.Index(panel.tickers).get_indexer(pd.Index(rows["ticker"].to_numpy(dtype=str)))
    t = pd.Index(panel.sessions).get_indexer(pd.Index(rows["session"].to_numpy().astype("datetime64[D]")))
    h = pd.Index(horizons).get_indexer(pd.Index(rows["horizon"]))
    there = (n >= 0) & (t >= 0) & (h >= 0)
    out[n[there], t[there], h[there]] = rows[value].to_numpy(dtype=np.float64)[there]
    return out


def rows_of(panel: Panel, known: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """The `features` table of a panel: the (N, T) `known` cells as rows, sorted by ticker and session."""
    n, t = np.nonzero(known)
    keys = pd.DataFrame(
        {
            "ticker": pd.Series(panel.tickers[n], dtype="str"),
            "session": pd.DatetimeIndex(panel.sessions[t]).astype("datetime64[us]"),
            "vol": panel.vol[n, t],
            "r": panel.r[n, t],
        }
    )
    return pd.concat([keys, pd.DataFrame(panel.x[n, t], columns=list(panel.feature_names))], axis=1)
