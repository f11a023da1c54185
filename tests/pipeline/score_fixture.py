"""A `features` table of four tickers with different lives, and every kind of feature and forecast file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.panel import KEYS
from models.compact.bundle import Bundle
from pipeline import score
from tests.models.compact import bundle_fixture as small

LIVES = {"AAA": (0, 90), "BBB": (10, 90), "OLD": (0, 80), "NEW": (60, 90)}  # rows from, to, on the common sessions
KINDS = (".npz", ".csv", ".parquet", ".arrow")


def feature_rows() -> pd.DataFrame:
    """Missing values, and a gap of a week; volatility is unknown for each ticker's first ten sessions."""
    sessions = pd.bdate_range("2012-01-02", periods=90).astype("datetime64[us]")
    parts = []
    for seed, (ticker, (first, last)) in enumerate(LIVES.items()):
        x = small.raw(seed, 1, 90, missing=0.05)[0]
        vol = np.random.default_rng(seed).uniform(0.005, 0.03, 90).astype(np.float32)
        vol[: first + 10] = np.nan
        keys = pd.DataFrame({"ticker": ticker, "session": sessions, "vol": vol})
        parts.append(pd.concat([keys, pd.DataFrame(x, columns=list(small.FEATURES))], axis=1).iloc[first:last])
    rows = pd.concat(parts, ignore_index=True)
    halted = (rows["ticker"] == "BBB") & rows["session"].isin(sessions[70:75])
    return rows[~halted].reset_index(drop=True)


def arrays(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """The arrays of an NPZ feature file."""
    names = [name for name in rows.columns if name not in KEYS]
    tickers, n = np.unique(rows["ticker"].to_numpy(dtype=str), return_inverse=True)
    sessions, t = np.unique(rows["session"].to_numpy().astype("datetime64[D]"), return_inverse=True)
    x = np.full((len(tickers), len(sessions), len(names)), np.nan, np.float32)
    vol = np.full(x.shape[:2], np.nan, np.float32)
    x[n, t], vol[n, t] = rows[names].to_numpy(np.float32), rows["vol"].to_numpy(np.float32)
    return {"x": x, "vol": vol, "ticker": tickers, "session": sessions, "feature": np.asarray(names)}


def write(path: Path, rows: pd.DataFrame, piece: int = 64_000) -> Path:
    """The same rows as any kind of feature file; Parquet and Arrow in pieces of so many rows."""
    if path.suffix == ".csv":
        rows.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        rows.to_parquet(path, index=False, row_group_size=piece)
    elif path.suffix == ".arrow":
        rows.reset_index(drop=True).to_feather(path, chunksize=piece)
    else:
        np.savez(path, **arrays(rows))
    return path


def forecasts(path: Path) -> pd.DataFrame:
    """Any kind of forecast file."""
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    elif path.suffix == ".arrow":
        frame = pd.read_feather(path)
    elif path.suffix == ".csv":
        frame = pd.read_csv(path)
    else:
        with np.load(path, allow_pickle=False) as held:
            frame = pd.DataFrame(dict(held))
    frame["session"] = pd.to_datetime(frame["session"]).astype("datetime64[us]")
    return frame


def run(bundle: Bundle, features: Path, **options: Any) -> pd.DataFrame:
    out = features.with_name("out.csv")
    score.run(bundle.directory, features, out, **options)
    return forecasts(out)
