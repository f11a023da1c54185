"""The scorer: a bundle and raw features in, forecasts out. NumPy and ONNX Runtime only.

bundle = load(Path("artifacts/bundles/VERSION"))
scorer = Scorer(bundle)
forecast = scorer.panel(x, vol)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from models.compact.bundle import Bundle, BundleError
from models.decode import QUANTILES, Forecast, decode
from models.trading.sizing import SESSIONS_PER_YEAR, sizing_horizon, target_weight

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

FIELD = 64
WINDOW_CHUNK = 1024
PANEL_CELLS = 200_000
"""Cells (tickers x sessions) scored at a time, so that memory does not grow with the universe."""
GOLDEN_TOLERANCE = 1e-5
_GRAPH_ERRORS = (
    failures.Fail, failures.InvalidArgument, failures.InvalidGraph, failures.InvalidProtobuf, failures.NotImplemented,
    failures.RuntimeException,
)  # fmt: skip


class Scorer:
    """Forecasts of one bundle.

    Args:
        bundle: a verified bundle.
        threads: threads of ONNX Runtime inside one call.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.bundle = bundle
        self._threads = threads

    def window(self, x: Float32, vol: Float32) -> Forecast:
        """Forecast the last session of each window.

        Args:
            x: (B, 64, F) raw features in the bundle's order, NaN = missing.
            vol: (B,) volatility of the last session; NaN gives NaN forecasts.

        Raises:
            BundleError: x does not have the bundle's shape, or vol not that of x.
        """
        self._check(x)
        if x.shape[1] != FIELD:
            raise BundleError(f"a window holds {FIELD} sessions, got {x.shape[1]}")
        _check_vol(vol, x.shape[:1])
        return self._decode(self.window_outputs(self.bundle.scaler.transform(x)), vol)

    def panel(self, x: Float32, vol: Float32) -> Forecast:
        """Forecast every session from the 64th; earlier ones, and those without vol, are NaN.

        Args:
            x: (N, T, F) raw features in the bundle's order, NaN = missing. vol: (N, T).

        Raises:
            BundleError: x does not have the bundle's shape or holds fewer than 64 sessions, or vol is not (N, T).
        """
        self._check(x)
        n, t, _ = x.shape
        if t < FIELD:
            raise BundleError(f"a forecast needs {FIELD} sessions of features, got {t}")
        _check_vol(vol, (n, t))
        horizons = len(self.bundle.horizons)
        out = Forecast(
            np.full((n, t, horizons), np.nan),
            np.full((n, t, horizons, len(QUANTILES)), np.nan),
            np.full((n, t, horizons), np.nan),
        )
        step = max(1, PANEL_CELLS // t)
        for first in range(0, n, step):
            rows = slice(first, first + step)
            y = self.panel_outputs(self.bundle.scaler.transform(x[rows]))
            found = self._decode(y, vol[rows, FIELD - 1 :])
            for whole, part in zip(out, found, strict=True):
                whole[rows, FIELD - 1 :] = part
        return out

    def window_outputs(self, scaled: Float32) -> Float32:
        """(B, 64, F) scaled and finite -> y (B, H, 4), in chunks."""
        parts = [
            self._run(self._window, chunk[..., self.bundle.body_features], chunk[:, -1])
            for chunk in (scaled[at : at + WINDOW_CHUNK] for at in range(0, len(scaled), WINDOW_CHUNK))
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.bundle.horizons), 4), np.float32)

    def panel_outputs(self, scaled: Float32) -> Float32:
        """(N, T, F) scaled and finite -> y (N, T - 63, H, 4)."""
        body = scaled[..., self.bundle.body_features].transpose(0, 2, 1)  # (N, Fb, T)
        return self._run(self._panel, body, scaled[:, FIELD - 1 :])

    def self_check(self) -> float:
        """Score the bundle's golden windows through both graphs; return the largest difference found.

        Raises:
            BundleError: a graph cannot be run here, or an output differs by more than 1e-5 from what the bundle was
                written with.
        """
        with np.load(self.bundle.directory / "golden.npz", allow_pickle=False) as golden:
            x, expected = golden["x"], golden["y"]  # (B, 64, F) raw, (B, H, 4)
        self._check(x)
        scaled = self.bundle.scaler.transform(x)
        worst = 0.0
        for name, score in (("window", self.window_outputs), ("panel", self.panel_outputs)):
            try:
                y = score(scaled).reshape(len(x), -1, 4)
            except _GRAPH_ERRORS as error:
                raise BundleError(f"{self.bundle.directory}: {name}.onnx cannot be run: {error}") from None
            if y.shape != expected.shape:
                raise BundleError(
                    f"{self.bundle.directory}: golden.npz holds {x.shape} inputs and {expected.shape} outputs, "
                    f"{name}.onnx gives {y.shape}"
                )
            difference = float(np.abs(y - expected).max())
            if not difference <= GOLDEN_TOLERANCE:
                raise BundleError(
                    f"{self.bundle.directory}: {name}.onnx differs from golden.npz by {difference:.2g}, more than "
                    f"{GOLDEN_TOLERANCE:g}, on this machine"
                )
            worst = max(worst, difference)
        return worst

    def _decode(self, y: Float32, vol: Float32) -> Forecast:
        b = self.bundle
        return decode(y, vol, b.horizons, b.residual_shape, b.sigma_factor)

    def _check(self, x: Float32) -> None:
        wanted = len(self.bundle.feature_names)
        if x.ndim != 3 or x.shape[-1] != wanted:
            raise BundleError(f"features must be (rows, sessions, {wanted}), got {x.shape}")

    def _run(self, session: Any, x: Float32, last: Float32) -> Float32:
        inputs = {"x": np.ascontiguousarray(x), "last": np.ascontiguousarray(last)}
        return np.asarray(session.run(None, inputs)[0])

    @cached_property
    def _window(self) -> Any:
        return self._session("window.onnx")

    @cached_property
    def _panel(self) -> Any:
        return self._session("panel.onnx")

    def _session(self, name: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(
            str(self.bundle.directory / name), options, providers=["CPUExecutionProvider"]
        )


def _check_vol(vol: Float32, wanted: tuple[int, ...]) -> None:
    if vol.shape != wanted:
        raise BundleError(f"volatilities must be {wanted}, got {vol.shape}")


def target_weights(sigma: Float64, horizons: tuple[int, ...], sizing: Mapping[str, Any]) -> Float64:
    """The bundle's sizing rule, `models.trading.sizing.target_weight`, on forecasts of every horizon.

    Args:
        sigma: (..., H) standard deviation over each horizon; NaN gives NaN.
        horizons: H sessions ahead.
        sizing: of the manifest: target_volatility (annual), horizon (the nearest one not above it), max_weight,
            sessions_per_year (252 where an older bundle names none).
    """
    horizon = sizing_horizon(horizons, int(sizing["horizon"]))
    at = horizons.index(horizon)
    year = float(sizing.get("sessions_per_year", SESSIONS_PER_YEAR))
    return target_weight(sigma[..., at], horizon, float(sizing["target_volatility"]), float(sizing["max_weight"]), year)
