"""score: a bundle and a feature file in, forecasts and target weights out. NumPy and ONNX Runtime alone.

Feature files are what `tradewind features --out FILE` writes: NPZ (x, vol, ticker, session, feature), or rows of
ticker, session, vol and one column a feature as CSV, or Parquet with the `arrow` extra.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compact.bundle import Bundle, load
from models.compact.runtime import FIELD, Scorer, target_weights
from models.decode import Forecast
from pipeline.errors import DataError, UsageError
from pipeline.summary import Summary

QUANTILE_COLUMNS = ("q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99")
SUFFIXES = (".npz", ".csv", ".parquet")
Columns = dict[str, npt.NDArray[Any]]


class FeatureFile(NamedTuple):
    """Features on dense axes: x (N, T, F) float32 in the bundle's order, vol (N, T), NaN = missing."""

    tickers: npt.NDArray[np.str_]
    sessions: npt.NDArray[np.datetime64]
    x: npt.NDArray[np.float32]
    vol: npt.NDArray[np.float32]


def run(bundle_dir: Path, features: Path, out: Path, every_session: bool = False, threads: int = 1) -> Summary:
    """Score a feature file and write one row a ticker, session and horizon.

    Args:
        bundle_dir: the bundle; it is verified and checks itself first.
        features: NPZ, CSV or Parquet.
        out: CSV, NPZ or Parquet, written atomically.
        every_session: every session from the 64th, else each ticker's newest.
        threads: threads of one scoring call.

    Raises:
        BundleError: the bundle is damaged or does not reproduce its golden outputs.
        DataError: the feature file is missing, malformed or lacks a feature.
        UsageError: a suffix that is not known.
    """
    for path in (features, out):
        if path.suffix not in SUFFIXES:
            raise UsageError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}")
    bundle = load(bundle_dir)
    scorer = Scorer(bundle, threads)
    scorer.self_check()
    data = read_features(features, bundle.feature_names)
    if every_session:
        n, t = np.nonzero(np.isfinite(data.vol[:, FIELD - 1 :]))
        t = t + FIELD - 1
        whole = scorer.panel(data.x, data.vol) if len(t) else None
        found = Forecast(*(part[n, t] for part in whole)) if whole else None
        short: list[str] = []
    else:
        n, t, short = _newest(data)
        windows = np.stack([data.x[i, j - FIELD + 1 : j + 1] for i, j in zip(n, t, strict=True)]) if len(n) else None
        found = scorer.window(windows, data.vol[n, t]) if windows is not None else None
    if found is None:
        raise DataError(f"{features}: no ticker has {FIELD} sessions with a volatility, so nothing can be scored")
    rows = _columns(bundle, data, n, t, found)
    _write(out, rows)
    lines = [
        f"{len(n):,} forecasts x {len(bundle.horizons)} horizons by bundle {bundle.version} "
        f"({bundle.manifest['status']}), sessions {data.sessions[t].min()} to {data.sessions[t].max()}, in {out}",
        *(f"too short to score: {ticker}" for ticker in short),
    ]
    figures = {"rows": len(rows["ticker"]), "bundle": bundle.version, "out": str(out), "too_short": short}
    return Summary("score", tuple(lines), figures)


def read_features(path: Path, names: tuple[str, ...]) -> FeatureFile:
    """Read a feature file; columns are matched by name, whatever their order.

    Raises:
        DataError: missing file, missing column (named), a value that is no number or no date.
    """
    if not path.is_file():
        raise DataError(f"no feature file at {path}; write one with: tradewind features --out {path}")
    if path.suffix == ".npz":
        return _read_npz(path, names)
    columns = _read_csv(path, names) if path.suffix == ".csv" else _read_parquet(path, names)
    tickers, n = np.unique(columns["ticker"].astype(str), return_inverse=True)
    sessions, t = np.unique(_dates(path, columns["session"]), return_inverse=True)
    if len(np.unique(n * len(sessions) + t)) != len(n):
        raise DataError(f"{path} holds a (ticker, session) twice")
    x = np.full((len(tickers), len(sessions), len(names)), np.nan, dtype=np.float32)
    vol = np.full(x.shape[:2], np.nan, dtype=np.float32)
    x[n, t] = np.stack([columns[name] for name in names], axis=-1)
    vol[n, t] = columns["vol"]
    return FeatureFile(tickers, sessions, x, vol)


def _read_npz(path: Path, names: tuple[str, ...]) -> FeatureFile:
    try:
        with np.load(path, allow_pickle=False) as held:
            missing = [key for key in ("x", "vol", "ticker", "session", "feature") if key not in held]
            if missing:
                raise DataError(f"{path} has no array {missing[0]}; it holds {', '.join(held.files)}")
            order = _positions(path, [str(name) for name in held["feature"]], names)
            x, vol = held["x"], held["vol"]
            tickers, sessions = held["ticker"], held["session"].astype("datetime64[D]")
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable NPZ without pickle: {error}") from None
    if x.shape[:2] != vol.shape or x.shape[:2] != (len(tickers), len(sessions)):
        raise DataError(f"{path}: x is {x.shape} and vol {vol.shape}, not tickers x sessions")
    if order != list(range(x.shape[2])):
        x = x[..., order]
    return FeatureFile(tickers, sessions, x.astype(np.float32, copy=False), vol.astype(np.float32, copy=False))


def _read_csv(path: Path, names: tuple[str, ...]) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        wanted = ("vol", *names)
        at = _positions(path, header, ("ticker", "session", *wanted))
        rows = [row for row in reader if row]
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if ragged is not None:
        raise DataError(f"{path} line {ragged + 2} has {len(rows[ragged])} values, the header has {len(header)}")
    columns: Columns = {name: np.array([row[i] for row in rows]) for name, i in (("ticker", at[0]), ("session", at[1]))}
    for name, i in zip(wanted, at[2:], strict=True):
        values = [row[i] or "nan" for row in rows]
        try:
            columns[name] = np.array(values, dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{path}, column {name}: {error}") from None
    return columns


def _read_parquet(path: Path, names: tuple[str, ...]) -> Columns:
    parquet = _parquet()
    table = parquet.read_table(path)
    wanted = ("ticker", "session", "vol", *names)
    _positions(path, table.column_names, wanted)
    return {name: table.column(name).to_numpy() for name in wanted}


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError("Parquet needs pyarrow: pip install 'tradewind[arrow]'") from None
    return pyarrow.parquet


def _positions(path: Path, header: list[str], names: tuple[str, ...]) -> list[int]:
    missing = [name for name in names if name not in header]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}, which the bundle needs"
        )
    return [header.index(name) for name in names]


def _dates(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[np.datetime64]:
    try:
        return np.asarray(values.astype("datetime64[D]"))
    except ValueError as error:
        raise DataError(f"{path}, column session: {error}") from None


def _newest(data: FeatureFile) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """(ticker, session) of each ticker's newest session with a volatility; those without 64 sessions by name."""
    known = np.isfinite(data.vol)
    last = known.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    long_enough = known.any(1) & (last >= FIELD - 1)
    n = np.flatnonzero(long_enough)
    return n, last[n], [str(ticker) for ticker in data.tickers[~long_enough]]


def _columns(
    bundle: Bundle, data: FeatureFile, n: npt.NDArray[np.int64], t: npt.NDArray[np.int64], found: Forecast
) -> Columns:
    horizons = len(bundle.horizons)
    weight = target_weights(found.sigma, bundle.horizons, bundle.manifest["sizing"])

    def each(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.repeat(values, horizons)

    rows: Columns = {
        "model": np.full(len(n) * horizons, str(bundle.manifest["model"])),
        "bundle_version": np.full(len(n) * horizons, bundle.version),
        "ticker": each(data.tickers[n]),
        "session": each(data.sessions[t]),
        "horizon": np.tile(np.asarray(bundle.horizons, dtype=np.int32), len(n)),
        "sigma": found.sigma.ravel(),
    }
    rows |= {name: found.quantiles[..., k].ravel() for k, name in enumerate(QUANTILE_COLUMNS)}
    rows |= {"p_up": found.p_up.ravel(), "weight": each(weight)}
    return rows


def _write(out: Path, rows: Columns) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    if out.suffix == ".npz":
        np.savez(partial, allow_pickle=False, **rows)
    elif out.suffix == ".parquet":
        import pyarrow

        _parquet().write_table(pyarrow.table(rows), partial)
    else:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(rows)
            writer.writerows(zip(*(column.tolist() for column in rows.values()), strict=True))
    partial.replace(out)
