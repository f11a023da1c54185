"""A small int8 bundle with random weights, sealed the way `compress` seals one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.compact import bundle as bundles
from models.compact import export
from models.compact.bundle import Bundle
from models.compact.network import Network
from models.compact.onnx_graph import OnnxGraph
from models.compact.quantize import quantize
from models.receptive_field import FIELD

FEATURES = ("observed", "abs_1", "log_vol", "gap", "tone")
BODY = ("gap", "abs_1", "log_vol")
HORIZONS = (1, 5)
WIDTH = 8
SHAPE = (-2.6, -1.7, -1.3, -0.6, 0.0, 0.6, 1.3, 1.7, 2.6)
CENTER, SCALE = (0.0, 0.5, -4.0, 0.0, 0.1), (1.0, 2.0, 0.5, 0.01, 1.0)


def network(seed: int = 0) -> Network:
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.3 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    return Network(
        conv_weight=(normal(WIDTH, len(BODY), 4), normal(WIDTH, WIDTH, 4), normal(WIDTH, WIDTH, 4)),
        conv_bias=(normal(WIDTH), normal(WIDTH), normal(WIDTH)),
        head_weight=normal(WIDTH, len(HORIZONS) * 4),
        head_bias=normal(len(HORIZONS) * 4),
        skip_weight=normal(len(FEATURES), len(HORIZONS) * 4),
        skip_bias=normal(len(HORIZONS) * 4),
        body_features=np.array([FEATURES.index(name) for name in BODY], dtype=np.int64),
    )


def raw(seed: int, n: int, t: int, missing: float = 0.0) -> np.ndarray:
    """(n, t, F) raw features around the scaler's centres, with a share of them missing."""
    generator = np.random.default_rng(seed)
    x = np.asarray(CENTER) + np.asarray(SCALE) * generator.standard_t(4, (n, t, len(FEATURES)))
    x[generator.random(x.shape) < missing] = np.nan
    return x.astype(np.float32)


def manifest() -> dict[str, Any]:
    """What `seal` is given: everything but the schema and the checksums."""
    return {
        "version": "v1",
        "status": "promoted",
        "model": "student",
        "created_at": "2013-01-01T00:00:00Z",
        "features": [{"name": n, "center": c, "scale": s} for n, c, s in zip(FEATURES, CENTER, SCALE, strict=True)],
        "limit": 5.0,
        "body_features": list(BODY),
        "horizons": list(HORIZONS),
        "residual_shape": [list(SHAPE)] * len(HORIZONS),
        "sigma_factor": [1.1, 0.9],
        "receptive_field": FIELD,
        "target": {"interval": "open_to_open"},
        "decision": {"calendar": "XNYS", "lead_minutes": 0},
        "training": {"run_id": "r1"},
        "sizing": {"target_volatility": 0.1, "horizon": 5, "max_weight": 1.0, "band": 0.05},
    }


def write(directory: Path, student: Network | None = None, **changes: Any) -> Bundle:
    """Write the files and seal them; `changes` replaces keys of the manifest."""
    directory.mkdir(parents=True)
    sealed = manifest() | changes
    scaler = bundles.Bundle(directory, sealed).scaler
    quantized = quantize(student or network(), scaler.transform(raw(1, 4, 300)))
    for coded, twin in ((False, ""), (True, "_u8")):
        export.save(export.window_graph(quantized, coded), directory / f"window{twin}.onnx")
        export.save(export.panel_graph(quantized, coded), directory / f"panel{twin}.onnx")
    x = raw(2, 8, FIELD, missing=0.05)
    scaled = scaler.transform(x)
    y = OnnxGraph(directory / "window.onnx")(scaled[..., quantized.network.body_features], scaled[:, -1])
    first = quantized.layers[0]
    sealed |= {"codes": {"scale": float(first.input_scale), "zero_point": int(first.input_zero_point)}}
    np.savez_compressed(directory / "golden.npz", x=x, y=y)
    return bundles.seal(directory, sealed)
