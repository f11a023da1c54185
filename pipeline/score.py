"""score: a bundle and features in, forecasts and target weights out. NumPy, and ONNX Runtime or not.

Features come from a file (pipeline/feature_files.py) or straight from the lake, a few tickers at a time; forecasts are
written as they come. So neither has to fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compact.bundle import Bundle, load
from models.compact.runtime import Runtime, Scorer, target_weights
from models.decode import Forecast
from models.receptive_field import FIELD
from pipeline import feature_rows, npz
from pipeline.errors import DataError, UsageError
from pipeline.feature_files import Cells, Features, Ints, NpzFeatures, check
from pipeline.forecast_files import Columns, ForecastFile
from pipeline.summary import Summary

if TYPE_CHECKING:
    from pipeline.config import Config

QUANTILE_COLUMNS = ("q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99")
SUFFIXES = (".npz", ".csv", ".parquet", ".arrow")
CELLS = 65_536
"""Most cells (tickers x sessions) read at a time: a forecast of three horizons and its columns take a kilobyte."""
BLOCK_BYTES = 1 << 24
"""Most bytes of features read at a time."""


def run(
    bundle_dir: Path,
    features: Path,
    out: Path,
    every_session: bool = False,
    threads: int = 1,
    runtime: Runtime = "onnxruntime",
) -> Summary:
    """Score a feature file and write one row a ticker, session and horizon.

    Args:
        bundle_dir: the bundle; it is verified and checks itself first.
        features: NPZ, CSV, Parquet or Arrow.
        out: CSV, NPZ, Parquet or Arrow, written whole or not at all.
        every_session: every session from the 64th, else each ticker's newest.
        threads: chunks scored at a time, each in a thread of its own.
        runtime: `onnxruntime`, or `numpy` where ONNX Runtime has no wheel.

    Raises:
        BundleError: the bundle is damaged or does not reproduce its golden outputs.
        DataError: the feature file is missing, malformed or lacks a feature, or holds a volatility that is none.
        UsageError: a suffix that is not known, or `out` cannot be written.
    """
    _check_suffixes(features, out)
    scorer = Scorer(load(bundle_dir), threads, runtime)
    with closing(_opened(features, scorer.bundle, out)) as source:
        return _score(scorer, source, out, every_session)


def run_from_lake(
    config: Config,
    out: Path,
    bundle_dir: Path | None = None,
    every_session: bool = False,
    threads: int = 1,
    runtime: Runtime = "onnxruntime",
) -> Summary:
    """Score the features of the lake; needs the `pipeline` extra.

    Args:
        config: names the lake, and the artifacts whose champion scores if no bundle is named.
        out: CSV, NPZ, Parquet or Arrow, written whole or not at all.
        bundle_dir: another bundle than the champion.
        every_session, threads, runtime: as for `run`.

    Raises:
        StoreError: the lake has no features, or no bundle has been published; and what `run` raises.
    """
    from pipeline.registry import Registry

    _check_suffixes(out)
    scorer = Scorer(load(bundle_dir or Registry(config.data.artifacts).champion()), threads, runtime)
    rows = feature_rows.from_lake(config, scorer.bundle.feature_names)
    with closing(_gathered(f"the lake {config.data.lake}", rows, out)) as source:
        return _score(scorer, source, out, every_session)


def write_codes(bundle_dir: Path, features: Path, out: Path, every_session: bool = False) -> Summary:
    """Write features as the bundle's uint8 codes: a quarter of the bytes, scored faster to the same forecasts.

    Args:
        bundle_dir: the bundle whose scaling makes the codes; no other can score them.
        features: NPZ, CSV, Parquet or Arrow with raw features.
        out: NPZ.
        every_session: to be scored at every session, else at each ticker's newest.

    Raises:
        BundleError: the bundle takes no codes; and what `run` raises.
    """
    _check_suffixes(features)
    if out.suffix != ".npz":
        raise UsageError(f"{out}: codes are written as .npz")
    bundle = load(bundle_dir)
    with closing(_opened(features, bundle, out)) as source:
        if source.is_coded:
            raise DataError(f"{features} holds codes already")
        n, t, _ = _newest(source)
        if every_session:
            n, t = _known(source.vol)
        if not len(n):
            raise _nothing(source)
        partial = out.with_name(f".{out.stem}.partial.npz")
        try:
            _write_codes(bundle, source, n, t, partial)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    size = out.stat().st_size
    line = f"{len(n):,} cells to score, coded for bundle {bundle.version}, {size / 1e6:,.1f} MB, in {out}"
    return Summary("score", (line,), {"cells": len(n), "bundle": bundle.version, "bytes": size, "out": str(out)})


class _Scored(NamedTuple):
    """Some cells: positions of ticker and session, and their forecasts."""

    n: Ints
    t: Ints
    forecast: Forecast


def _check_suffixes(*paths: Path) -> None:
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}")
        if path.suffix in (".parquet", ".arrow"):
            feature_rows.arrow()


def _opened(path: Path, bundle: Bundle, out: Path) -> Features:
    if not path.is_file():
        raise DataError(f"no feature file at {path}; write one with: tradewind features --out {path}")
    if path.suffix != ".npz":
        return _gathered(str(path), feature_rows.from_file(path, bundle.feature_names), out)
    features = NpzFeatures(path, bundle.feature_names, bundle.coding)
    check(features)
    return features


def _gathered(source: str, rows: Iterator[feature_rows.Rows], out: Path) -> Features:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        features = feature_rows.RowFeatures(source, rows, out.parent)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    check(features)
    return features


def _score(scorer: Scorer, source: Features, out: Path, every_session: bool) -> Summary:
    bundle = scorer.bundle
    scorer.self_check([("panel" if every_session else "window") + ("_u8" if source.is_coded else "")])
    n, t, short = _newest(source)
    sessions: list[np.datetime64] = []
    cells = 0
    try:
        with ForecastFile(out) as file:
            for part in _every(scorer, source) if every_session else _last(scorer, source, n, t):
                file.append(_columns(bundle, source, part))
                sessions += [source.sessions[part.t].min(), source.sessions[part.t].max()]
                cells += len(part.n)
            if not cells:
                raise _nothing(source)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    left_out = [] if every_session else short
    lines = [
        f"{cells:,} forecasts x {len(bundle.horizons)} horizons by bundle {bundle.version} "
        f"({bundle.manifest['status']}), sessions {min(sessions)} to {max(sessions)}, in {out}",
        *(f"too short to score: {ticker}" for ticker in left_out),
        *(strange := bundle.other_universe(source.tickers.tolist())),
    ]
    figures = {
        "rows": cells * len(bundle.horizons),
        "bundle": bundle.version,
        "out": str(out),
        "too_short": left_out,
        "warnings": list(strange),
    }
    return Summary("score", tuple(lines), figures)


def _last(scorer: Scorer, source: Features, n: Ints, t: Ints) -> Iterator[_Scored]:
    step = max(1, _cells(source) // FIELD)
    for first in range(0, len(n), step):
        some = slice(first, first + step)
        x, last = source.windows(n[some], t[some], FIELD)
        yield _Scored(n[some], t[some], scorer.window(x, source.vol[n[some], t[some]], last))


def _every(scorer: Scorer, source: Features) -> Iterator[_Scored]:
    for rows, vol, cells in _panels(source):
        n, t = _known(vol)
        if len(n):
            whole = scorer.panel(cells.x, vol, cells.last)
            yield _Scored(n + rows.start, t, Forecast(*(part[n, t] for part in whole)))


def _panels(source: Features) -> Iterator[tuple[slice, npt.NDArray[np.float32], Cells]]:
    """Tickers in turn, a few at a time; none where there are fewer than 64 sessions."""
    tickers, sessions = source.vol.shape
    step = max(1, _cells(source) // max(sessions, 1))
    for first in range(0, tickers if sessions >= FIELD else 0, step):
        rows = slice(first, min(first + step, tickers))
        yield rows, source.vol[rows], source.panel(rows, FIELD)


def _cells(source: Features) -> int:
    return max(1, min(CELLS, BLOCK_BYTES // max(source.cell_bytes, 1)))


def _known(vol: npt.NDArray[np.float32]) -> tuple[Ints, Ints]:
    """(ticker, session) of every cell that can be scored."""
    n, t = np.nonzero(np.isfinite(vol[:, FIELD - 1 :]))
    return n, t + FIELD - 1


def _newest(source: Features) -> tuple[Ints, Ints, list[str]]:
    """(ticker, session) of each ticker's newest session with a volatility; those without 64 sessions by name."""
    known = np.isfinite(source.vol)
    last = np.where(known, np.arange(known.shape[1]), -1).max(axis=1, initial=-1)
    long_enough = last >= FIELD - 1
    n = np.flatnonzero(long_enough)
    return n, last[n], [str(ticker) for ticker in source.tickers[~long_enough]]


def _nothing(source: Features) -> DataError:
    return DataError(f"{source.source}: no ticker has {FIELD} sessions with a volatility, so nothing can be scored")


def _columns(bundle: Bundle, source: Features, part: _Scored) -> Columns:
    horizons, found = len(bundle.horizons), part.forecast
    weight = target_weights(found.sigma, bundle.horizons, bundle.manifest["sizing"])

    def each(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.repeat(values, horizons)

    rows: Columns = {
        "model": np.full(len(part.n) * horizons, str(bundle.manifest["model"])),
        "bundle_version": np.full(len(part.n) * horizons, bundle.version),
        "ticker": each(source.tickers[part.n]),
        "session": each(source.sessions[part.t]),
        "horizon": np.tile(np.asarray(bundle.horizons, dtype=np.int32), len(part.n)),
        "sigma": found.sigma.ravel(),
    }
    rows |= {name: found.quantiles[..., k].ravel() for k, name in enumerate(QUANTILE_COLUMNS)}
    return rows | {"p_up": found.p_up.ravel(), "weight": each(weight)}


def _write_codes(bundle: Bundle, source: Features, n: Ints, t: Ints, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = npz.Writer(path)
    writer.append(
        {
            "ticker": source.tickers,
            "session": source.sessions,
            "vol": source.vol,
            "feature": np.asarray(bundle.feature_names),
            "coding": np.asarray([bundle.coding]),
            "n": n.astype(np.int32),
            "t": t.astype(np.int32),
        }
    )
    for rows, _, cells in _panels(source):
        own = (n >= rows.start) & (n < rows.stop)
        writer.append({"x_u8": bundle.codes(cells.x), "last": cells.x[n[own] - rows.start, t[own]]})
    writer.close()
