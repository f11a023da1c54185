"""compress: the latest run's student made smaller, in int8, proven equal on every test year, sealed into a bundle.

Every fold's network is pruned where its own validation allows, quantized with its own training data and scored on its
own test year through ONNX Runtime, so that the int8 forecasts in the lake, and the equality table, are out-of-sample.
Where quantizing alone does not pass the gate, all networks are trained with rounding in the loop and judged again. The
live network is made the same way and published; the gate's verdict decides whether it is the student or the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.compact import bundle as bundles
from models.compact import export
from models.compact.integer import QuantizedLayer
from models.compact.runtime import Scorer
from models.receptive_field import FIELD
from pipeline import int8, proof, pruned, trained, walkforward
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.int8 import Calibrated, Compared, Method
from pipeline.pruned import Pruned
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent
from pipeline.trained import Trained
from pipeline.walkforward import Dataset

Float32 = npt.NDArray[np.float32]
GOLDEN_WINDOWS = 8
LIVE = "live"


def run(config: Config, progress: Progress = silent) -> Summary:
    """Prune, quantize, prove, publish.

    Raises:
        StoreError: nothing has been trained.
        DataError: the lake's features are no longer those of the run, the walk-forward is not, int8 is not equal to
            float, or what pruning left is not as good as the student.
    """
    lake, registry = Lake.of(config.data), Registry(config.data.artifacts)
    run_id = registry.latest_run()
    training = registry.read_json(run_id, "training.json")
    data = walkforward.read(lake, config)
    if list(data.panel.feature_names) != training["features"]:
        raise DataError(f"the lake's features are not those of run {run_id}; run: tradewind train")
    directory = registry.run_dir(run_id) / "networks"
    held = {name: trained.read(directory, name) for name in (*training["folds"], LIVE)}
    small = _pruned(config, data, held, progress)
    compared, found = _proven(config, data, held, small, progress)
    progress("weighing the evidence", 0, 1)
    found |= proof.claims(config, lake, data, compared, run_id, training)
    found["passed"] = found["passed"] and found["pruned_as_good"]
    progress("weighing the evidence", 1, 1)
    version = run_id
    with registry.publishing(version) as staging:
        sealed = _write_bundle(staging, config, data, held[LIVE], small[LIVE], found["method"], training, version)
        golden = Scorer(sealed).self_check()
    found |= {
        "folds": training["folds"],
        "pruning": {"max_macs": config.compress.max_macs, "folds": [each.record for each in small.values()]},
        "bundle_version": version,
        "bundle_bytes": sum(f.stat().st_size for f in (registry.root / "bundles" / version).iterdir()),
        "golden_difference": golden,
    }
    registry.write_json(run_id, "equality.json", found)
    # Equality is that of the outputs; what is read from the lake has the widths of the student's bands.
    widened = [
        replace(each, forecasts={"int8": trained.banded(held[each.fold.name], each.forecasts["int8"])})
        for each in compared
    ]
    _write_forecasts(lake, data, widened, run_id, version, training["created_at"])
    if not found["passed"]:
        raise DataError(_refusal(found, version))
    registry.set_champion(version)
    return _summary(found, training, version, registry.root / "bundles" / version)


def _pruned(config: Config, data: Dataset, held: Mapping[str, Trained], progress: Progress) -> dict[str, Pruned]:
    """Every fold's network, and the live one, at the size that its validation chose."""
    found = {}
    for done, (name, each) in enumerate(held.items()):
        progress("pruning", done, len(held))
        found[name] = pruned.pruned(data, each, name, config)
    progress("pruning", len(held), len(held))
    return found


def _proven(
    config: Config, data: Dataset, held: Mapping[str, Trained], small: Mapping[str, Pruned], progress: Progress
) -> tuple[list[Compared], dict[str, Any]]:
    """The test slices in int8 and the gate's verdict; trained with rounding where quantizing alone does not pass."""
    names = [name for name in held if name != LIVE]
    tried: list[dict[str, Any]] = []
    methods: tuple[Method, ...] = ("ptq", "qat")
    for method in methods:
        compared = []
        for done, name in enumerate(names):
            progress("int8 walk-forward", done, len(names))
            compared.append(int8.compare(data, held[name], name, small[name].network, config, method))
        progress("int8 walk-forward", len(names), len(names))
        found = proof.gate(config, data, compared, held[LIVE], small[LIVE].network, method)
        tried.append({"method": method, "outputs_equal": found["outputs_equal"], "least_r2": _least_r2(found)})
        if found["outputs_equal"]:
            break
    return compared, found | {"method": method, "ranges": config.compress.ranges, "tried": tried}


def _least_r2(found: dict[str, Any]) -> float | None:
    """Over test slices and the live network; None where no output moves."""
    rows = (*found["outputs"], *found["live_outputs"])
    return min((row["r2"] for row in rows if row["r2"] is not None), default=None)


def _refusal(found: dict[str, Any], version: str) -> str:
    if not found["pruned_as_good"]:
        return (
            f"what pruning left loses too much against the student out of sample, so bundle {version} is not made "
            "champion; see equality.json of the run, or keep every channel: --set compress.prune=[]"
        )
    rows = [*found["outputs"], *({**row, "output": f"live {row['output']}"} for row in found["live_outputs"])]
    failed = [f"{r['output']} h={r['horizon']}" for r in rows if not r["passed"]]
    return (
        f"int8 is not equal to float ({', '.join(failed) or 'graphs differ'}), also trained with rounding in the loop, "
        f"so bundle {version} is not made champion; see equality.json of the run, or ship the skip alone: "
        "--set models.student.body_weights=[0]"
    )


def _write_forecasts(
    lake: Lake, data: Dataset, compared: Sequence[Compared], run_id: str, version: str, created_at: str
) -> None:
    positions, forecast = [each.fold for each in compared], proof.int8_forecast(data, compared)
    rows = walkforward.forecast_rows(data, positions, run_id, "int8", forecast, pd.Timestamp(created_at), version)
    lake.replace("forecasts", rows, f"run_id = '{run_id}' AND model = 'int8'")


def _write_bundle(
    staging: Path,
    config: Config,
    data: Dataset,
    live: Trained,
    small: Pruned,
    method: Method,
    training: dict[str, Any],
    version: str,
) -> bundles.Bundle:
    quantized, _ = int8.quantized(data, live, small.network, config, method)
    for coded, twin in ((False, ""), (True, "_u8")):
        export.save(export.window_graph(quantized, coded), staging / f"window{twin}.onnx")
        export.save(export.panel_graph(quantized, coded), staging / f"panel{twin}.onnx")
    x = _golden_windows(data)
    y, _ = int8.run_window(quantized, live.scaler.transform(x))
    np.savez_compressed(staging / "golden.npz", x=x, y=y)
    calibrated = int8.calibration(data, live, config, lambda scaled: int8.run_panel(quantized, scaled)[0])
    manifest = _manifest(config, live, calibrated, training, version, quantized.layers[0])
    channels = [len(layer.bias) for layer in quantized.layers]
    return bundles.seal(staging, manifest | {"channels": channels, "quantized": method})


def _golden_windows(data: Dataset) -> Float32:
    """(8, 64, F) raw windows of the ticker that traded most, spread over its last sessions."""
    n = int(np.isfinite(data.panel.vol).sum(1).argmax())
    last = int(np.flatnonzero(np.isfinite(data.panel.vol[n]))[-1])
    ends = np.linspace(max(FIELD - 1, last - 500), last, GOLDEN_WINDOWS).astype(int)
    return np.stack([data.panel.x[n, end - FIELD + 1 : end + 1] for end in ends])


def _manifest(
    config: Config,
    live: Trained,
    calibrated: Calibrated,
    training: dict[str, Any],
    version: str,
    first: QuantizedLayer,
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
        "residual_shape": calibrated.shape.tolist(),
        "sigma_factor": calibrated.factor.tolist(),
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


def _summary(found: dict[str, Any], training: dict[str, Any], version: str, path: Path) -> Summary:
    least, bytes_ = _least_r2(found), found["bundle_bytes"]
    weight = next(row for row in found["claims"] if row["claim"] == "weight_change")
    judged = [row for row in found["claims"] if row["floor"] is not None]
    held = sum(bool(row["holds"]) for row in judged)
    lines = (
        f"bundle {version} ({training['status']}), {bytes_ / 1000:.0f} KB, in {path}",
        _pruning_sentence(found["pruning"]["folds"]),
        f"int8 equals float on {found['n']:,} out-of-sample cells"
        + (" after training with rounding in the loop" if found["method"] == "qat" else "")
        + (f": least centred R2 {least:.6f}" if least is not None else "")
        + f", target weights within {weight['figure']:.3f} % (99th percentile)",
        f"window equals panel within {found['window_panel_max_difference']:.1g}; integer body equal bit for bit to the "
        f"NumPy reference: {'yes' if found['integer_body_equal'] else 'no'}",
        f"{held} of {len(judged)} claims of equality hold, {sum(bool(row['certain']) for row in judged)} of them with "
        "their whole interval",
    )
    figures = {"version": version, "status": training["status"], "path": str(path), "passed": found["passed"]}
    return Summary("compress", lines, figures)


def _pruning_sentence(records: Sequence[dict[str, Any]]) -> str:
    bodies = [record for record in records if record["body_weight"]]
    if not bodies:
        return "every network is the skip alone: there is no body to prune"
    smaller = [record for record in bodies if record["chosen"]]
    if not smaller:
        return f"none of {len(bodies)} bodies pruned: {bodies[0]['reason']}"
    shares = [
        record["curve"][record["chosen"]]["window_macs"] / record["curve"][0]["window_macs"] for record in smaller
    ]
    return (
        f"{len(smaller)} of {len(bodies)} bodies pruned, to {100 * min(shares):.0f}-{100 * max(shares):.0f} % of their "
        "multiply-adds"
    )
