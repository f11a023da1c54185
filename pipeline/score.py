"""score: a bundle and a feature file in, forecasts and target weights out. NumPy and ONNX Runtime alone.

Feature files are what `tradewind features --out FILE` writes: NPZ (x, vol, ticker, session, feature), or rows of
ticker, session, vol and one column a feature as CSV, or Parquet with the `arrow` extra.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
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
        UsageError: a suffix that is not known, or `out` cannot be written.
    """
    for path in (features, out):
        if path.suffix not in SUFFIXES:
            raise UsageError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}")
    if ".parquet" in (features.suffix, out.suffix):
        _parquet()
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
    try:
        _write(out, rows)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    lines = [
        f"{len(n):,} forecasts x {len(bundle.horizons)} horizons by bundle {bundle.version} "
        f"({bundle.manifest['status']}), sessions {data.sessions[t].min()} to {data.sessions[t].max()}, in {out}",
        *(f"too short to score: {ticker}" for ticker in short),
        *(strange := bundle.other_universe(data.tickers.tolist())),
    ]
    figures = {
        "rows": len(rows["ticker"]),
        "bundle": bundle.version,
        "out": str(out),
        "too_short": short,
        "warnings": list(strange),
    }
    return Summary("score", tuple(lines), figures)


def read_features(path: Path, names: tuple[str, ...]) -> FeatureFile:
    """Read a feature file; columns are matched by name, whatever their order.

    Raises:
        DataError: missing or damaged file, missing column (named), a value that is no number or no date.
    """
    if not path.is_file():
        raise DataError(f"no feature file at {path}; write one with: tradewind features --out {path}")
    if path.suffix == ".npz":
        return _read_npz(path, names)
    try:
        columns = _read_csv(path, names) if path.suffix == ".csv" else _read_parquet(path, names)
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
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
        held = np.load(path, allow_pickle=False)
        if not isinstance(held, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with held:
            missing = [key for key in ("x", "vol", "ticker", "session", "feature") if key not in held]
            if missing:
                raise DataError(f"{path} has no array {missing[0]}; it holds {', '.join(held.files)}")
            features, x, vol = [str(name) for name in held["feature"]], held["x"], held["vol"]
            tickers, sessions = held["ticker"].astype(str), held["session"].astype("datetime64[D]")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable NPZ without pickle: {error}") from None
    if vol.shape != (len(tickers), len(sessions)) or x.shape != (*vol.shape, len(features)):
        raise DataError(f"{path}: x is {x.shape} and vol {vol.shape}, not tickers x sessions x features")
    if not (np.diff(sessions) > np.timedelta64(0, "D")).all():
        raise DataError(f"{path}: sessions must be ascending")
    if len(np.unique(tickers)) != len(tickers):
        raise DataError(f"{path} holds a ticker twice")
    order = _positions(path, features, names)
    if order != list(range(len(features))):
        x = x[..., order]
    return FeatureFile(tickers, sessions, x.astype(np.float32, copy=False), vol.astype(np.float32, copy=False))


def _read_csv(path: Path, names: tuple[str, ...]) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        wanted = ("vol", *names)
        at = _positions(path, header, ("ticker", "session", *wanted))
        rows = []
        for row in reader:
            if row and len(row) != len(header):
                raise DataError(f"{path} line {reader.line_num} has {len(row)} values, the header has {len(header)}")
            rows += [row] if row else []
    columns: Columns = {name: np.array([row[i] for row in rows]) for name, i in (("ticker", at[0]), ("session", at[1]))}
    for name, i in zip(wanted, at[2:], strict=True):
        columns[name] = _figures(path, name, [row[i] or "nan" for row in rows])
    return columns


def _read_parquet(path: Path, names: tuple[str, ...]) -> Columns:
    table = _parquet().read_table(path)
    wanted = ("ticker", "session", "vol", *names)
    _positions(path, table.column_names, wanted)
    columns: Columns = {name: table.column(name).to_numpy() for name in wanted}
    return columns | {name: _figures(path, name, columns[name]) for name in wanted[2:]}


def _figures(path: Path, name: str, values: Any) -> npt.NDArray[np.float32]:
    try:
        return np.asarray(values, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}, column {name}: {error}") from None


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
        dates = np.asarray(values.astype("datetime64[D]"))
    except ValueError as error:
        raise DataError(f"{path}, column session: {error}") from None
    if np.isnat(dates).any():
        raise DataError(f"{path}, column session: a row has no date")
    return dates


def _newest(data: FeatureFile) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """(ticker, session) of each ticker's newest session with a volatility; those without 64 sessions by name."""
    known = np.isfinite(data.vol)
    last = np.where(known, np.arange(known.shape[1]), -1).max(axis=1, initial=-1)
    long_enough = last >= FIELD - 1
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
