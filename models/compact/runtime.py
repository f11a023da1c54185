"""The scorer: a bundle and raw features in, forecasts out. NumPy, and ONNX Runtime or not.

scorer = Scorer(load(Path("artifacts/bundles/VERSION")))
scorer.self_check()
forecast = scorer.panel(x, vol)

Window and panel are one function: a forecast depends on the 64 sessions before it and on nothing else, so the panel's
cell is the window that ends there, its integer layers bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.compact.bundle import Bundle, BundleError
from models.decode import Forecast, decode, empty
from models.receptive_field import FIELD
from models.trading.sizing import SESSIONS_PER_YEAR, sizing_horizon, target_weight

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Graph = Callable[[npt.NDArray[Any], Float32], Float32]
Runtime = Literal["onnxruntime", "numpy"]

WINDOW_CHUNK = 512
PANEL_CELLS = 8_192
"""Cells (tickers x sessions) a thread scores at a time: about as much as a CPU's caches hold."""
GOLDEN_TOLERANCE = 1e-5


class Scorer:
    """Forecasts of one bundle. May be called from several threads.

    Args:
        bundle: a verified bundle.
        threads: chunks scored at a time, each in a thread of its own.
        runtime: `onnxruntime`, or `numpy` where ONNX Runtime is not to be had: the same forecasts, slower.

    Raises:
        BundleError: from any method, if ONNX Runtime is asked for and cannot be imported, or a graph cannot be run.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, runtime: Runtime = "onnxruntime") -> None:
        self.bundle = bundle
        self._threads = threads
        self._runtime = runtime
        self._graphs: dict[str, Graph] = {}

    def window(self, x: npt.NDArray[Any], vol: Float32, last: Float32 | None = None) -> Forecast:
        """Forecast the last session of each window.

        Args:
            x: (B, 64, F) raw features in the bundle's order, NaN = missing; or (B, 64, Fb) uint8 from `Bundle.codes`.
            vol: (B,) volatility of the last session; NaN gives NaN forecasts.
            last: (B, F) raw features of the last session; with uint8 only.

        Raises:
            BundleError: x does not have the bundle's shape, vol or last not that of x.
        """
        self._check(x, last)
        if x.shape[1] != FIELD:
            raise BundleError(f"a window holds {FIELD} sessions, got {x.shape[1]}")
        _check_shape("volatilities", vol, x.shape[:1])
        if last is None:
            last = x[:, -1]
        _check_shape("last sessions", last, (len(x), len(self.bundle.feature_names)))
        out = empty(x.shape[:1], len(self.bundle.horizons))

        def score(rows: slice) -> None:
            self._decode(self._outputs("window", x[rows], last[rows]), vol[rows], out, rows)

        self._open("window", x)
        self._each(score, _slices(len(x), WINDOW_CHUNK))
        return out

    def panel(self, x: npt.NDArray[Any], vol: Float32, last: Float32 | None = None) -> Forecast:
        """Forecast every session from the 64th; earlier ones, and those without vol, are NaN.

        Args:
            x: (N, T, F) raw features in the bundle's order, NaN = missing; or (N, T, Fb) uint8 from `Bundle.codes`.
            vol: (N, T).
            last: (N, T - 63, F) raw features of the sessions from the 64th; with uint8 only.

        Raises:
            BundleError: x does not have the bundle's shape or holds fewer than 64 sessions, or vol is not (N, T).
        """
        self._check(x, last)
        n, t, _ = x.shape
        if t < FIELD:
            raise BundleError(f"a forecast needs {FIELD} sessions of features, got {t}")
        _check_shape("volatilities", vol, (n, t))
        if last is None:
            last = x[:, FIELD - 1 :]
        _check_shape("last sessions", last, (n, t - FIELD + 1, len(self.bundle.feature_names)))
        out = empty((n, t), len(self.bundle.horizons))

        def score(rows: slice) -> None:
            for values in out:
                values[rows, : FIELD - 1] = np.nan
            y = self._outputs("panel", x[rows], last[rows])
            self._decode(y, vol[rows, FIELD - 1 :], out, (rows, slice(FIELD - 1, None)))

        self._open("panel", x)
        self._each(score, _slices(n, max(1, PANEL_CELLS // t)))
        return out

    def self_check(self, graphs: Sequence[str] = ()) -> float:
        """Score the bundle's golden windows; return the largest difference found.

        Args:
            graphs: of window, panel, window_u8, panel_u8; all that the bundle has if empty.

        Raises:
            BundleError: a graph cannot be run here, or an output differs by more than 1e-5 from what the bundle was
                written with.
        """
        with np.load(self.bundle.directory / "golden.npz", allow_pickle=False) as golden:
            x, expected = golden["x"], golden["y"]  # (B, 64, F) raw, (B, H, 4)
        self._check(x, None)
        worst = 0.0
        for name in graphs or ("window", "panel", *(("window_u8", "panel_u8") if self.bundle.has_twins else ())):
            shape, _, coded = name.partition("_")
            last = x[:, -1] if shape == "window" else x[:, FIELD - 1 :]
            y = self._outputs(shape, self.bundle.codes(x) if coded else x, last)
            worst = max(worst, self._difference(f"{name}.onnx", y, x, expected))
        return worst

    def _difference(self, name: str, y: Float32, x: Float32, expected: Float32) -> float:
        y = y.reshape(len(x), -1, 4)
        if y.shape != expected.shape:
            raise BundleError(
                f"{self.bundle.directory}: golden.npz holds {x.shape} inputs and {expected.shape} outputs, "
                f"{name} gives {y.shape}"
            )
        difference = float(np.abs(y - expected).max())
        if not difference <= GOLDEN_TOLERANCE:
            raise BundleError(
                f"{self.bundle.directory}: {name} differs from golden.npz by {difference:.2g}, more than "
                f"{GOLDEN_TOLERANCE:g}, on this machine with {self._runtime}"
            )
        return difference

    def _decode(self, y: Float32, vol: Float32, out: Forecast, at: Any) -> None:
        b = self.bundle
        decode(y, vol, b.horizons, b.residual_shape, b.sigma_factor, Forecast(*(part[at] for part in out)))

    def _outputs(self, shape: str, x: npt.NDArray[Any], last: Float32) -> Float32:
        """Raw features or codes through the graph for them."""
        given = x if x.dtype == np.uint8 else self.bundle.scaled_body(x)
        return self._open(shape, x)(given, self.bundle.scaler.transform(last))

    def _open(self, shape: str, x: npt.NDArray[Any]) -> Graph:
        """The graph, `window` or `panel`, for features of that dtype; opened once, before threads use it."""
        name = f"{shape}_u8" if x.dtype == np.uint8 else shape
        if name not in self._graphs:
            self._graphs[name] = _opened(self.bundle, name, self._runtime)
        return self._graphs[name]

    def _check(self, x: npt.NDArray[Any], last: Float32 | None) -> None:
        coded = x.dtype == np.uint8
        wanted = len(self.bundle.body_features if coded else self.bundle.feature_names)
        if x.ndim != 3 or x.shape[-1] != wanted:
            raise BundleError(f"features must be (rows, sessions, {wanted}), got {x.shape}")
        if coded and not self.bundle.has_twins:
            raise BundleError(f"{self.bundle.directory} has no graphs for uint8 features")
        if coded != (last is not None):
            raise BundleError(f"uint8 features need the last sessions beside them, and they alone; x is {x.dtype}")

    def _each(self, score: Callable[[slice], None], chunks: Sequence[slice]) -> None:
        if self._threads == 1 or len(chunks) < 2:
            for rows in chunks:
                score(rows)
            return
        from concurrent.futures import ThreadPoolExecutor  # which a first forecast need not wait for

        left = iter(chunks)

        def score_what_is_left(_: int) -> None:
            for rows in left:
                score(rows)

        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(score_what_is_left, range(self._threads)))


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


def _opened(bundle: Bundle, name: str, runtime: Runtime) -> Graph:
    """A graph that takes x with sessions before features, whatever its file's schema."""
    path = bundle.directory / f"{name}.onnx"
    if runtime == "numpy":
        from models.compact.numpy_graph import NumpyGraph

        return NumpyGraph(path)
    try:
        from models.compact.onnx_graph import OnnxGraph
    except ImportError as error:
        raise BundleError(
            f"ONNX Runtime cannot be imported here ({error}); score without it: --runtime numpy"
        ) from None
    graph = OnnxGraph(path)
    if name == "panel" and not bundle.takes_time_first:
        return lambda x, last: graph(x.transpose(0, 2, 1), last)
    return graph


def _slices(count: int, step: int) -> list[slice]:
    return [slice(at, at + step) for at in range(0, count, step)]


def _check_shape(what: str, values: Float32, wanted: tuple[int, ...]) -> None:
    if values.shape != wanted:
        raise BundleError(f"{what} must be {wanted}, got {values.shape}")
