"""One fold in int8: quantized with its own training data, scored on its own test slice by the shipped graphs.

The residual shape and the sigma factor are made anew for a network that is not the one they were fitted with: by what
quantiles and variance of its own training residuals differ from those of the fold's student.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from features.splits import Fold
from models.compact import export, integer
from models.compact.integer import QuantizedNetwork
from models.compact.network import Network
from models.compact.onnx_graph import session
from models.compact.qat import QATConfig, train_quantized
from models.compact.quantize import quantize
from models.decode import Forecast, decode
from models.forecasters.conformal import residual_shape, sigma_factor
from models.receptive_field import FIELD
from pipeline.config import Config
from pipeline.trained import Trained
from pipeline.walkforward import Dataset

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Method = Literal["ptq", "qat"]

WINDOWS = 21
"""The last so many sessions of a test slice are also scored window by window."""


@dataclass(frozen=True)
class Compared:
    """One test slice.

    Attributes:
        fold: positions of its slices.
        exact, int8: (N, S, H, 4) outputs of the float network that was quantized, and of the integer graph.
        forecasts: student, int8, and pruned where the network is not the student's.
        window_difference: largest difference of window and panel graph. same_body: whether both and the NumPy
            reference agree bit for bit.
    """

    fold: Fold
    exact: Float32
    int8: Float32
    forecasts: dict[str, Forecast]
    window_difference: float
    same_body: bool


@dataclass(frozen=True)
class Calibrated:
    """shape: (H, 9), factor: (H,): see `models.decode.decode`."""

    shape: Float64
    factor: Float64


def quantized(
    data: Dataset, held: Trained, network: Network, config: Config, method: Method
) -> tuple[QuantizedNetwork, Float32]:
    """The integer network, and the (N, C, F) scaled sessions that its ranges come from: the last of training.

    Args:
        data: features. held: the fold's scaler and dates. network: the float one.
        config: ranges, calibration sessions, seed. method: quantized as it is, or trained with rounding in the loop.
    """
    end = _train_end(data, held)
    first = max(0, end - config.compress.calibration_sessions - FIELD)
    calibration = held.scaler.transform(data.panel.x[:, first:end])
    ranges = config.compress.ranges
    if method == "qat":
        return train_quantized(network, calibration, ranges, QATConfig(seed=config.models.seed)), calibration
    return quantize(network, calibration, ranges), calibration


def compare(data: Dataset, held: Trained, name: str, network: Network, config: Config, method: Method) -> Compared:
    """Quantize the network of one fold and score its test slice.

    Args:
        held: the fold as training left it. name: of the fold. network: to quantize: the student's, or a pruned one.
    """
    sessions = data.panel.sessions
    first, last = (
        int(np.searchsorted(sessions, np.datetime64(held.notes[key]))) for key in ("test_first", "test_last")
    )
    fold = Fold(name, 0, 0, _train_end(data, held), first, last + 1)
    integers, _ = quantized(data, held, network, config, method)
    scaled = held.scaler.transform(data.panel.x[:, first - FIELD + 1 : last + 1])
    exact = network.forward_panel(scaled)  # (N, S, H, 4)
    int8, body = run_panel(integers, scaled)
    windows = np.lib.stride_tricks.sliding_window_view(scaled[:, -FIELD - WINDOWS + 1 :], FIELD, axis=1)
    from_windows, window_body = run_window(integers, windows.transpose(0, 1, 3, 2).reshape(-1, FIELD, scaled.shape[2]))
    newest = int8[:, -WINDOWS:]
    same_body = (body == integer.body_panel(integers, scaled)).all() and (
        window_body == body[:, -WINDOWS:].reshape(window_body.shape)
    ).all()
    made = {
        "student": (held.network.forward_panel(scaled), Calibrated(held.shape, held.factor)),
        "int8": (int8, calibration(data, held, config, lambda x: run_panel(integers, x)[0])),
    }
    if network is not held.network:
        made["pruned"] = (exact, calibration(data, held, config, network.forward_panel))
    vol = data.panel.vol[:, first : last + 1]
    return Compared(
        fold,
        exact,
        int8,
        {model: decode(y, vol, data.horizons, by.shape, by.factor) for model, (y, by) in made.items()},
        float(np.abs(from_windows.reshape(newest.shape) - newest).max()),
        bool(same_body),
    )


def calibration(
    data: Dataset, held: Trained, config: Config, outputs: Callable[[Float32], Float32]
) -> Calibrated:  # fmt: skip
    """Residual shape and sigma factor of other outputs than those they were fitted with.

    Args:
        data: targets of the training slice. held: the fold's student and its calibration.
        outputs: (N, T, F) scaled -> (N, T - 63, H, 4).

    Quantiles of the standardised residuals of training, of the one less those of the other, are added to the shape;
    the factor is multiplied by the ratio of the root mean squares. The same outputs give the same calibration.
    """
    if not held.network.head_weight.any():
        return Calibrated(held.shape, held.factor)
    end = _train_end(data, held)
    scaled = held.scaler.transform(data.panel.x[:, :end])
    z = data.z[:, FIELD - 1 : end].reshape(-1, len(data.horizons))
    variance = data.relative_variance[:, FIELD - 1 : end].reshape(z.shape)
    known = np.isfinite(z).any(-1)
    age = np.tile(np.arange(end - FIELD, -1, -1, dtype=np.float64), len(scaled))
    weight = 0.5 ** (age[known] / config.models.scale.half_life_sessions)
    shapes, factors = [], []
    for y in (held.network.forward_panel(scaled), outputs(scaled)):
        location, down, up = (y.reshape(*z.shape, 4)[known, :, at].astype(np.float64) for at in range(3))
        residual = z[known] - location
        shapes.append(residual_shape(residual, np.where(residual < 0, down, up), weight))
        both = np.log((np.exp(2 * down) + np.exp(2 * up)) / 2) / 2
        factors.append(sigma_factor(variance[known], both, weight))
    shape = np.maximum.accumulate(held.shape + (shapes[1] - shapes[0]), axis=-1)
    return Calibrated(shape, held.factor * (factors[1] / factors[0]))


def run_panel(integers: QuantizedNetwork, scaled: Float32) -> tuple[Float32, npt.NDArray[np.uint8]]:
    """(N, T, F) scaled -> (N, T - 63, H, 4) and the last integer layer, (N, T - 63, C), by ONNX Runtime."""
    x = np.ascontiguousarray(scaled[..., integers.network.body_features])
    y, body = _session(export.panel_graph(integers)).run(
        ["y", "hidden_2_q"], {"x": x, "last": np.ascontiguousarray(scaled[:, FIELD - 1 :])}
    )
    return y, body.transpose(0, 2, 1)


def run_window(integers: QuantizedNetwork, windows: Float32) -> tuple[Float32, npt.NDArray[np.uint8]]:
    """(B, 64, F) scaled -> (B, H, 4) and the last integer layer, (B, C), by ONNX Runtime."""
    x = np.ascontiguousarray(windows[..., integers.network.body_features])
    y, body = _session(export.window_graph(integers)).run(
        ["y", "hidden_2_q"], {"x": x, "last": np.ascontiguousarray(windows[:, -1])}
    )
    return y, body


def _session(model: onnx.ModelProto) -> Any:
    return session(export.with_hidden(model).SerializeToString())


def _train_end(data: Dataset, held: Trained) -> int:
    return int(np.searchsorted(data.panel.sessions, np.datetime64(held.notes["train_last"]))) + 1
