"""compress: the latest run's student in int8, proven equal on every test year, sealed into a bundle.

Every fold's network is quantized with its own training data and scored on its own test year through ONNX
Runtime, so that the int8 forecasts in the lake, and the equality table, are out-of-sample. The live network is
then quantized the same way and published; the gate's verdict decides whether it is the student or the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pandas as pd

from features.splits import Fold
from models.compact import bundle as bundles
from models.compact import export, integer
from models.compact.integer import QuantizedLayer, QuantizedNetwork
from models.compact.network import FIELD
from models.compact.onnx_graph import options
from models.compact.quantize import quantize
from models.compact.runtime import Scorer, target_weights
from models.decode import Forecast, decode
from pipeline import trained, walkforward
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.evidence import equality, race
from pipeline.evidence.significance import Resampling
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent
from pipeline.trained import Trained
from pipeline.walkforward import Dataset

Float32 = npt.NDArray[np.float32]
GOLDEN_WINDOWS = 8


@dataclass(frozen=True)
class _Fold:
    """One test year: positions, float and int8 outputs, and the two differences that must be none."""

    fold: Fold
    exact: Float32
    int8: Float32
    forecasts: tuple[Forecast, Forecast]
    window_difference: float
    same_body: bool


def run(config: Config, progress: Progress = silent) -> Summary:
    """Quantize, prove, publish.

    Raises:
        StoreError: nothing has been trained.
        DataError: the lake's features are no longer those of the run, or int8 is not equal to float.
    """
    lake, registry = Lake.of(config.data), Registry(config.data.artifacts)
    run_id = registry.latest_run()
    training = registry.read_json(run_id, "training.json")
    data = walkforward.read(lake, config)
    if list(data.panel.feature_names) != training["features"]:
        raise DataError(f"the lake's features are not those of run {run_id}; run: tradewind train")
    directory = registry.run_dir(run_id) / "networks"
    folds = []
    for done, name in enumerate(training["folds"]):
        progress("int8 walk-forward", done, len(training["folds"]))
        folds.append(_compare_fold(data, trained.read(directory, name), name, config))
    progress("int8 walk-forward", len(folds), len(folds))
    proof = _equality(config, data, folds, training["sessions_per_year"])
    version = run_id
    with registry.publishing(version) as staging:
        sealed = _write_bundle(staging, config, data, trained.read(directory, "live"), training, version)
        golden = Scorer(sealed).self_check()
    proof |= {
        "bundle_version": version,
        "bundle_bytes": sum(f.stat().st_size for f in (registry.root / "bundles" / version).iterdir()),
        "golden_difference": golden,
    }
    registry.write_json(run_id, "equality.json", proof)
    _write_forecasts(lake, data, folds, run_id, version, training["created_at"])
    if not proof["passed"]:
        failed = [f"{r['output']} h={r['horizon']}" for r in proof["outputs"] if not r["passed"]]
        raise DataError(
            f"int8 is not equal to float ({', '.join(failed) or 'graphs differ'}), so bundle {version} is not made "
            "champion; see equality.json of the run, or ship the skip alone: --set models.student.body_weights=[0]"
        )
    registry.set_champion(version)
    return _summary(proof, training, version, registry.root / "bundles" / version)


def _compare_fold(data: Dataset, held: Trained, name: str, config: Config) -> _Fold:
    sessions = data.panel.sessions
    first, last, train_last = (
        int(np.searchsorted(sessions, np.datetime64(held.notes[key])))
        for key in ("test_first", "test_last", "train_last")
    )
    fold = Fold(name, 0, 0, train_last + 1, first, last + 1)
    quantized = _quantize(data, held, fold.train_end, config.compress.calibration_sessions)
    scaled = held.scaler.transform(data.panel.x[:, first - FIELD + 1 : last + 1])
    exact = held.network.forward_panel(scaled)  # (N, S, H, 4)
    int8, body = _run_panel(quantized, scaled)
    windows = np.lib.stride_tricks.sliding_window_view(scaled[:, -FIELD - 20 :], FIELD, axis=1)  # (N, 21, F, 64)
    from_windows, window_body = _run_window(
        quantized, windows.transpose(0, 1, 3, 2).reshape(-1, FIELD, scaled.shape[2])
    )
    newest = int8[:, -21:]
    same_body = bool(
        (body == integer.body_panel(quantized, scaled)).all()
        and (window_body == body[:, -21:].reshape(window_body.shape)).all()
    )
    vol = data.panel.vol[:, first : last + 1]
    forecasts = tuple(decode(y, vol, data.horizons, held.shape, held.factor) for y in (exact, int8))
    difference = float(np.abs(from_windows.reshape(newest.shape) - newest).max())
    return _Fold(fold, exact, int8, (forecasts[0], forecasts[1]), difference, same_body)


def _quantize(data: Dataset, held: Trained, train_end: int, calibration_sessions: int) -> QuantizedNetwork:
    """Ranges from the last training sessions, and never from later ones."""
    first = max(0, train_end - calibration_sessions - FIELD)
    return quantize(held.network, held.scaler.transform(data.panel.x[:, first:train_end]))


def _run_panel(quantized: QuantizedNetwork, scaled: Float32) -> tuple[Float32, npt.NDArray[np.uint8]]:
    x = np.ascontiguousarray(scaled[..., quantized.network.body_features])
    y, body = _session(export.panel_graph(quantized)).run(
        ["y", "hidden_2_q"], {"x": x, "last": np.ascontiguousarray(scaled[:, FIELD - 1 :])}
    )
    return y, body.transpose(0, 2, 1)


def _run_window(quantized: QuantizedNetwork, windows: Float32) -> tuple[Float32, npt.NDArray[np.uint8]]:
    x = np.ascontiguousarray(windows[..., quantized.network.body_features])
    y, body = _session(export.window_graph(quantized)).run(
        ["y", "hidden_2_q"], {"x": x, "last": np.ascontiguousarray(windows[:, -1])}
    )
    return y, body


def _session(model: onnx.ModelProto) -> Any:
    content = export.with_hidden(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options(), providers=["CPUExecutionProvider"])


def _equality(config: Config, data: Dataset, folds: list[_Fold], sessions_per_year: float) -> dict[str, Any]:
    exact, int8 = (_pooled(data, folds, which) for which in ("exact", "int8"))
    rows = equality.outputs(exact, int8, data.horizons, config.compress.min_r2, config.compress.max_difference)
    forecasts = {"float": _whole(data, folds, 0), "int8": _whole(data, folds, 1)}
    vol = data.panel.vol.astype(np.float64)
    losses = race.losses(forecasts, data.log_return, data.rv, vol, data.horizons)
    e = config.evidence
    resampling = Resampling(e.confidence, e.gate_level, e.resamples, e.block_sessions, e.min_blocks, config.models.seed)
    sizing = _sizing(config, sessions_per_year)
    weights = [target_weights(f.sigma, data.horizons, sizing) for f in forecasts.values()]
    change = equality.relative_change(*(w[np.isfinite(weights[0])] for w in weights))
    compared = [
        r for r in race.compare(losses, data.horizons, resampling, "int8", "float") if r["measure"] == "pinball"
    ]
    pinball = [
        {
            "horizon": r["horizon"],
            "float": float(np.nanmean(losses[f"float|pinball|{r['horizon']}"])),
            "int8": float(np.nanmean(losses[f"int8|pinball|{r['horizon']}"])),
            **{key: r[key] for key in ("gain_percent", "low", "high")},
        }
        for r in compared
    ]
    window_difference = max(f.window_difference for f in folds)
    same_body = all(f.same_body for f in folds)
    return {
        "folds": [f.fold.name for f in folds],
        "outputs": rows,
        "window_panel_max_difference": window_difference,
        "integer_body_equal": same_body,
        "pinball": pinball,
        "weight_change_p99": float(np.percentile(change, 99)),
        "n": len(exact),
        "passed": all(r["passed"] for r in rows) and same_body and window_difference <= 1e-5,
    }


def _pooled(data: Dataset, folds: list[_Fold], which: str) -> npt.NDArray[np.float64]:
    """(n, H, 4) outputs of every test cell with a volatility."""
    parts = []
    for f in folds:
        known = np.isfinite(data.panel.vol[:, f.fold.test_start : f.fold.test_end])
        parts.append(getattr(f, which)[known])
    return np.concatenate(parts).astype(np.float64)


def _whole(data: Dataset, folds: list[_Fold], which: int) -> Forecast:
    out = walkforward.blank(data)
    for f in folds:
        for whole, part in zip(out, f.forecasts[which], strict=True):
            whole[:, f.fold.test_start : f.fold.test_end] = part
    return out


def _write_forecasts(lake: Lake, data: Dataset, folds: list[_Fold], run_id: str, version: str, created_at: str) -> None:
    positions = [f.fold for f in folds]
    rows = walkforward.forecast_rows(
        data, positions, run_id, "int8", _whole(data, folds, 1), pd.Timestamp(created_at), version
    )
    lake.replace("forecasts", rows, f"run_id = '{run_id}' AND model = 'int8'")


def _write_bundle(
    staging: Path, config: Config, data: Dataset, live: Trained, training: dict[str, Any], version: str
) -> bundles.Bundle:
    sessions = data.panel.sessions
    train_end = int(np.searchsorted(sessions, np.datetime64(live.notes["train_last"]))) + 1
    quantized = _quantize(data, live, train_end, config.compress.calibration_sessions)
    for coded, twin in ((False, ""), (True, "_u8")):
        export.save(export.window_graph(quantized, coded), staging / f"window{twin}.onnx")
        export.save(export.panel_graph(quantized, coded), staging / f"panel{twin}.onnx")
    x = _golden_windows(data)
    y, _ = _run_window(quantized, live.scaler.transform(x))
    np.savez_compressed(staging / "golden.npz", x=x, y=y)
    return bundles.seal(staging, _manifest(config, live, training, version, quantized.layers[0]))


def _golden_windows(data: Dataset) -> Float32:
    """(8, 64, F) raw windows of the ticker that traded most, spread over its last sessions."""
    n = int(np.isfinite(data.panel.vol).sum(1).argmax())
    last = int(np.flatnonzero(np.isfinite(data.panel.vol[n]))[-1])
    ends = np.linspace(max(FIELD - 1, last - 500), last, GOLDEN_WINDOWS).astype(int)
    return np.stack([data.panel.x[n, end - FIELD + 1 : end + 1] for end in ends])


def _manifest(
    config: Config, live: Trained, training: dict[str, Any], version: str, first: QuantizedLayer
) -> dict[str, Any]:
    names = training["features"]
    center, scale = (values.astype(float).tolist() for values in (live.scaler.center, live.scaler.scale))
    return {
        "version": version,
        "status": training["status"],
        "model": "student" if training["status"] == "promoted" else "ewma",
        "created_at": training["created_at"],
        "features": [{"name": n, "center": c, "scale": s} for n, c, s in zip(names, center, scale, strict=True)],
        "limit": live.scaler.limit,
        "body_features": [names[i] for i in live.network.body_features],
        "codes": {"scale": float(first.input_scale), "zero_point": int(first.input_zero_point)},
        "horizons": training["horizons"],
        "residual_shape": live.shape.tolist(),
        "sigma_factor": live.factor.tolist(),
        "receptive_field": FIELD,
        "target": {
            "interval": training["target_interval"],
            "vol": "EWMA .94 of squared adjusted close-to-close log returns, clipped at 50 %, floored at .003 a day",
        },
        "decision": {"calendar": training["calendar"], "lead_minutes": training["decision_lead_minutes"]},
        "training": {
            "run_id": training["run_id"],
            "first": live.notes["train_first"],
            "last": live.notes["train_last"],
            "tickers": training["tickers"],
            "tables": training["tables"],
        },
        "sizing": _sizing(config, training["sessions_per_year"]),
        "body_weight": live.notes["body_weight"],
    }


def _sizing(config: Config, sessions_per_year: float) -> dict[str, Any]:
    b = config.backtest
    return {
        "target_volatility": b.target_volatility,
        "horizon": b.horizon,
        "max_weight": b.max_weight,
        "band": b.band,
        "sessions_per_year": sessions_per_year,
    }


def _summary(proof: dict[str, Any], training: dict[str, Any], version: str, path: Path) -> Summary:
    judged = [row["r2"] for row in proof["outputs"] if row["r2"] is not None]
    lines = (
        f"bundle {version} ({training['status']}), {proof['bundle_bytes'] / 1000:.0f} KB, in {path}",
        f"int8 equals float on {proof['n']:,} out-of-sample cells: "
        + (f"least centred R2 {min(judged):.6f}, " if judged else "")
        + f"target weights within {100 * proof['weight_change_p99']:.3f} % (99th percentile)",
        f"window equals panel within {proof['window_panel_max_difference']:.1g}; integer body equal bit for bit to the "
        f"NumPy reference: {'yes' if proof['integer_body_equal'] else 'no'}",
    )
    figures = {"version": version, "status": training["status"], "path": str(path), "passed": proof["passed"]}
    return Summary("compress", lines, figures)
