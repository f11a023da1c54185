"""What training leaves on disk for compression: a network, its scaler and its calibration for every fold."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compact.network import Network
from models.decode import Forecast
from models.forecasters.baselines import Distribution
from models.forecasters.conformal import in_shape, widened
from models.scaling import Scaler
from pipeline.errors import StoreError
from pipeline.walkforward import Dataset, FittedFold
from pipeline.widths import Calibrated


@dataclass(frozen=True)
class Trained:
    """One fold as read back; `notes` holds the dates, the choices and the baseline's calibration."""

    network: Network
    scaler: Scaler
    shape: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]
    notes: dict[str, Any]


def read(directory: Path, name: str) -> Trained:
    """Read one fold of a run.

    Raises:
        StoreError: training has not written it.
    """
    try:
        notes = json.loads((directory / f"{name}.json").read_text())
        network = Network.load(directory / f"{name}.npz")
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename} is missing; run: tradewind train") from None
    held = notes["scaler"]
    scaler = Scaler(np.array(held["center"], np.float32), np.array(held["scale"], np.float32), float(held["limit"]))
    return Trained(network, scaler, np.array(notes["residual_shape"]), np.array(notes["sigma_factor"]), notes)


def banded(held: Trained, forecast: Forecast) -> Forecast:
    """A forecast of the fold's test sessions with the widths that the student's bands had in training.

    Args:
        held: the fold, not `live`. forecast: (N, S, H) axes, S its test sessions.

    Raises:
        StoreError: training wrote the fold before it kept widths.
    """
    if "widths" not in held.notes:
        raise StoreError("the run's networks hold no widths of bands yet; run: tradewind train")
    down, up = (np.asarray(held.notes["widths"][side]) for side in ("down", "up"))
    return widened(forecast, down[None], up[None])


def write(
    directory: Path, data: Dataset, fitted: list[FittedFold], ewma: Distribution, status: str, bands: Calibrated
) -> None:
    """Write `<fold>.npz` and `<fold>.json` of every fold, `live` last.

    `live` has the widths of the last session in its residual shape and sigma factor; widths by group of the volatility
    of all tickers cannot be carried so, and are left out of it.

    Where the gate kept the baseline, `live` holds the baseline in the student's form and `candidate_live` the
    student that was not promoted.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for each in fitted:
        name = each.fold.name
        is_live = name == "live"
        baseline = _baseline(ewma, each.fold.test_end - 1 if is_live else each.fold.test_start)
        notes = _notes(data, each, baseline, is_live) | _widths(each, bands, is_live)
        network = each.student.network
        if is_live and status == "baseline":
            network.save(directory / "candidate_live.npz")
            _write_json(directory / "candidate_live.json", notes)
            network = _baseline_network(network, baseline["p_up"])
            notes |= {k: baseline[k] for k in ("residual_shape", "sigma_factor")} | {"body_weight": 0.0}
        network.save(directory / f"{name}.npz")
        _write_json(directory / f"{name}.json", notes)


def _notes(data: Dataset, each: FittedFold, baseline: dict[str, Any], is_live: bool) -> dict[str, Any]:
    fold, student, sessions = each.fold, each.student, data.panel.sessions
    return {
        "scaler": {
            "center": each.scaler.center.tolist(),
            "scale": each.scaler.scale.tolist(),
            "limit": each.scaler.limit,
        },
        "residual_shape": student.shape.tolist(),
        "sigma_factor": student.factor.tolist(),
        "baseline": baseline,
        "train_first": str(sessions[0]),
        "train_last": str(sessions[fold.train_end - 1]),
        "test_first": None if is_live else str(sessions[fold.test_start]),
        "test_last": None if is_live else str(sessions[fold.test_end - 1]),
        "body_weight": student.body_weight,
        "alpha": student.alpha,
        "epochs": student.epochs,
        "teacher_weight": student.teacher_weight,
        "taught_share": student.taught_share,
        "teachers": each.teachers,
        "muted": [data.panel.feature_names[i] for i in each.muted],
    }


def _widths(each: FittedFold, bands: Calibrated, is_live: bool) -> dict[str, Any]:
    if not is_live:
        test = slice(each.fold.test_start, each.fold.test_end)
        return {"widths": {"down": bands.down[test].tolist(), "up": bands.up[test].tolist()}}
    if len(bands.live.down) > 1:
        return {}
    shape, factor = in_shape(each.student.shape, each.student.factor, bands.live.down[0], bands.live.up[0])
    return {"residual_shape": shape.tolist(), "sigma_factor": factor.tolist()}


def _baseline(ewma: Distribution, at: int) -> dict[str, Any]:
    return {
        "residual_shape": ewma.quantiles[at].tolist(),
        "sigma_factor": ewma.sigma[at].tolist(),
        "p_up": ewma.p_up[at].tolist(),
    }


def _baseline_network(like: Network, p_up: list[float]) -> Network:
    """The EWMA baseline in the student's form: all weights zero, log-scale zero, a constant p_up."""
    zero = {
        name: tuple(np.zeros_like(part) for part in getattr(like, name)) for name in ("conv_weight", "conv_bias")
    } | {name: np.zeros_like(getattr(like, name)) for name in ("head_weight", "head_bias", "skip_weight")}
    bias = np.zeros((len(p_up), 4), dtype=np.float32)
    share = np.clip(p_up, 0.01, 0.99)
    bias[:, 3] = np.log(share / (1 - share))
    return replace(like, **zero, skip_bias=bias.ravel())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False))
    partial.replace(path)
