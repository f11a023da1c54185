"""Forecasts a second of the shipped graphs and of what else could forecast, on one core and the same panel.

Every contestant makes all outputs of a cell: location, two log-scales and p_up at each horizon. The graphs are those
of a bundle, with head, residual and skip: of --bundle, or of a bundle of the default shape and random weights, whose
arithmetic is the same. Measures alternate within a round, each at the best of several batch sizes; figures are medians
over rounds, a ratio is taken within its round.

    python benchmarks/scoring.py                 the claims, some five minutes
    python benchmarks/scoring.py --bundle DIR    a real bundle's graphs
    python benchmarks/scoring.py --quick         the same code, small, no floor judged
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.lake import cpu
from features import table
from models.compact import bundle as bundles
from models.compact import export
from models.compact.bundle import Bundle
from models.compact.network import Network
from models.compact.numpy_graph import NumpyGraph
from models.compact.onnx_graph import OnnxGraph, session
from models.compact.quantize import quantize
from models.compact.runtime import Scorer
from models.decode import QUANTILES
from models.forecasters.boosting import BoostingConfig
from models.forecasters.lstm import LSTM
from models.receptive_field import DILATIONS, FIELD, KERNEL
from pipeline.config import Config

RESULTS = Path(__file__).resolve().parent / "results" / "scoring.json"
PACKAGES = ("numpy", "onnxruntime", "torch", "scikit-learn")
SESSIONS = 512
WINDOWS = (128, 512)
PANELS = (4, 8, 16)
TEACHER_NAME = "teacher LSTM 2x128, window"
TEACHER = {"width": 128, "layers": 2, "dropout": 0.0, "warm_up": FIELD - 1}


class Contestant(NamedTuple):
    """A name, whether it is one window a row, what runs it on so many rows or tickers, and the best such number."""

    name: str
    run: Callable[[int], object]
    batches: tuple[int, ...]
    rows_each: int


class Data(NamedTuple):
    """Scaled features, and what is cut out of them once. N tickers, 512 sessions, B windows."""

    x: np.ndarray
    body: np.ndarray
    last: np.ndarray
    windows: np.ndarray
    window_last: np.ndarray
    body_codes: np.ndarray
    window_codes: np.ndarray


def random_network(features: int) -> Network:
    """A student of the default shape."""
    config, generator = Config(), np.random.default_rng(0)
    width, body, outputs = config.models.student.width, config.compress.body_features, 12

    def normal(*shape: int) -> np.ndarray:
        return (generator.normal(0, 0.5 / np.sqrt(np.prod(shape[1:])), shape)).astype(np.float32)

    return Network(
        conv_weight=(normal(width, body, KERNEL), normal(width, width, KERNEL), normal(width, width, KERNEL)),
        conv_bias=(normal(width), normal(width), normal(width)),
        head_weight=normal(width, outputs),
        head_bias=normal(outputs).ravel(),
        skip_weight=normal(features, outputs) * np.float32(0.1),
        skip_bias=normal(outputs).ravel(),
        body_features=np.linspace(0, features - 1, body).astype(np.int64),
    )


def make_bundle(directory: Path) -> Bundle:
    """A sealed bundle of the default shape: every shipped feature, random weights."""
    names = table.names(Config().features.families)
    network = random_network(len(names))
    quantized = quantize(network, np.random.default_rng(1).standard_normal((4, 300, len(names)), dtype=np.float32))
    directory.mkdir(parents=True)
    for coded, twin in ((False, ""), (True, "_u8")):
        export.save(export.window_graph(quantized, coded), directory / f"window{twin}.onnx")
        export.save(export.panel_graph(quantized, coded), directory / f"panel{twin}.onnx")
    x = np.random.default_rng(2).standard_normal((8, FIELD, len(names)), dtype=np.float32)
    y = OnnxGraph(directory / "window.onnx")(np.clip(x, -5, 5)[..., network.body_features], np.clip(x, -5, 5)[:, -1])
    np.savez_compressed(directory / "golden.npz", x=x, y=y)
    first = quantized.layers[0]
    return bundles.seal(
        directory,
        {
            "version": "random", "status": "baseline", "model": "student", "created_at": "2000-01-01T00:00:00Z",
            "features": [{"name": name, "center": 0.0, "scale": 1.0} for name in names], "limit": 5.0,
            "body_features": [names[i] for i in network.body_features],
            "codes": {"scale": float(first.input_scale), "zero_point": int(first.input_zero_point)},
            "horizons": [1, 5, 20], "residual_shape": [np.linspace(-2.5, 2.5, len(QUANTILES)).tolist()] * 3,
            "sigma_factor": [1.0] * 3, "receptive_field": FIELD, "target": {}, "decision": {},
            "training": {"run_id": "none"}, "sizing": {"target_volatility": 0.1, "horizon": 5, "max_weight": 1.0},
        },
    )  # fmt: skip


def make_data(bundle: Bundle, tickers: int) -> Data:
    """Random features within the limits."""
    shape = (tickers, SESSIONS, len(bundle.feature_names))
    x = np.clip(np.random.default_rng(3).standard_normal(shape, dtype=np.float32), -5, 5)
    held = bundle.manifest["codes"]
    body = np.take(x, bundle.body_features, axis=-1)
    codes = np.clip(np.rint(body / np.float32(held["scale"])) + held["zero_point"], 0, 255).astype(np.uint8)
    starts = np.arange(max(WINDOWS)) % (SESSIONS - FIELD)
    at = (np.arange(max(WINDOWS)) % tickers)[:, None], starts[:, None] + np.arange(FIELD)
    last = np.ascontiguousarray(x[:, FIELD - 1 :])
    return Data(x, body, last, body[at], x[at][:, -1], codes, codes[at])


def float_network(bundle: Bundle) -> Network:
    """The bundle's student before quantization, as far as its graph tells: what rounding took does not cost time."""
    graph = NumpyGraph(bundle.directory / "panel.onnx")
    constants = graph.constants
    weights = tuple(layer.weight * layer.weight_scale[:, None, None] for layer in graph.layers)
    biases = tuple(layer.bias * layer.input_scale * layer.weight_scale for layer in graph.layers)
    return Network(
        tuple(w.astype(np.float32) for w in weights), tuple(b.astype(np.float32) for b in biases),
        constants["head_weight"], constants["head_bias"], constants["skip_weight"],
        np.zeros_like(constants["head_bias"]), bundle.body_features,
    )  # fmt: skip


class TorchStudent(torch.nn.Module):
    """The student in torch, window or panel."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.weights = [torch.from_numpy(w) for w in network.conv_weight]
        self.biases = [torch.from_numpy(b) for b in network.conv_bias]
        self.rows = [w.permute(2, 1, 0).reshape(-1, w.shape[0]).contiguous() for w in self.weights]
        named = (network.head_weight, network.head_bias + network.skip_bias, network.skip_weight)
        self.head, self.bias, self.skip = (torch.from_numpy(value) for value in named)

    def window(self, x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        for rows, bias in zip(self.rows, self.biases, strict=True):
            x = torch.relu(torch.addmm(bias, x.reshape(-1, rows.shape[0]), rows))
        return torch.addmm(torch.addmm(self.bias, last, self.skip), x, self.head)

    def panel(self, x: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2)
        for weight, bias, dilation in zip(self.weights, self.biases, DILATIONS, strict=True):
            x = torch.relu(torch.nn.functional.conv1d(x, weight, bias, dilation=dilation))
        body = x.transpose(1, 2).reshape(-1, len(self.head))
        return torch.addmm(torch.addmm(self.bias, last.reshape(-1, len(self.skip)), self.skip), body, self.head)


def contestants(bundle: Bundle, data: Data, root: Path, quick: bool) -> list[Contestant]:
    """Everything that forecasts, the teacher first."""
    network = float_network(bundle)
    export.save(export.window_graph(network), root / "window_fp32.onnx")
    export.save(export.panel_graph(network), root / "panel_fp32.onnx")
    student, teacher = TorchStudent(network), LSTM(data.body.shape[2], horizons=3, **TEACHER).eval()
    body, last, windows, window_last = (
        torch.from_numpy(a) for a in (data.body, data.last, data.windows, data.window_last)
    )
    graphs = {
        name: OnnxGraph(bundle.directory / f"{name}.onnx") for name in ("window", "panel", "window_u8", "panel_u8")
    }
    graphs |= {name: OnnxGraph(root / f"{name}.onnx") for name in ("window_fp32", "panel_fp32")}
    skip, trees = network.skip_weight, boosted(data, quick)

    def window(name: str, x: np.ndarray) -> Contestant:
        return Contestant(name, lambda k: graphs[name](x[:k], data.window_last[:k]), WINDOWS, 1)

    def panel(name: str, x: np.ndarray) -> Contestant:
        return Contestant(name, lambda k: graphs[name](x[:k], data.last[:k]), PANELS, SESSIONS - FIELD + 1)

    each, rows = SESSIONS - FIELD + 1, (-1, len(skip))
    return [
        Contestant(TEACHER_NAME, lambda k: teacher(windows[:k]), (64, 256), 1),
        Contestant("teacher LSTM 2x128, panel", lambda k: teacher(body[:k]), PANELS, each),
        Contestant("student fp32 window, torch", lambda k: student.window(windows[:k], window_last[:k]), WINDOWS, 1),
        window("window_fp32", data.windows),
        window("window", data.windows),
        window("window_u8", data.window_codes),
        Contestant("student fp32 panel, torch", lambda k: student.panel(body[:k], last[:k]), PANELS, each),
        panel("panel_fp32", data.body),
        panel("panel", data.body),
        panel("panel_u8", data.body_codes),
        Contestant("ridge skip", lambda k: data.last[:k] @ skip, PANELS, each),
        Contestant("gradient boosting", lambda k: [m.predict(data.last[:k].reshape(rows)) for m in trees], (4,), each),
    ]  # fmt: skip


def boosted(data: Data, quick: bool) -> list[HistGradientBoostingRegressor]:
    """Three horizons' trees on |z|, in number and size those of the race."""
    shape = BoostingConfig()
    x = data.last[:, :: 7 if quick else 1].reshape(-1, data.last.shape[-1])[:20_000]
    generator = np.random.default_rng(4)
    return [
        HistGradientBoostingRegressor(
            max_iter=10 if quick else shape.iterations, max_leaf_nodes=shape.leaves, max_bins=shape.bins,
            min_samples_leaf=min(shape.leaf_rows, len(x) // 20), early_stopping=False,
        ).fit(x, x[:, 0] * generator.standard_normal(len(x)))
        for _ in range(3)
    ]  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def nanoseconds(entries: list[Contestant], rounds: int, patience: float) -> dict[str, list[float]]:
    """Of a row, by contestant and round, at the batch size that was best before the first round."""
    took: dict[str, list[float]] = {entry.name: [] for entry in entries}
    best = {}
    for entry in entries:
        tried = {k: min(seconds(partial(entry.run, k)) for _ in range(3)) / k for k in entry.batches}
        best[entry.name] = min(tried, key=tried.__getitem__)
    for _ in range(rounds):
        for entry in entries:
            work = partial(entry.run, best[entry.name])
            repeats = max(1, int(patience / max(seconds(work), 1e-6)))
            spent = statistics.median(seconds(work) for _ in range(repeats))
            took[entry.name].append(spent / (best[entry.name] * entry.rows_each) * 1e9)
    return took


def threads(bundle: Bundle, rounds: int, tickers: int) -> tuple[list[float], list[float], float]:
    """How many times as fast as one two threads are, round by round: from features to forecasts; and sines of NumPy's.

    With it the nanoseconds a cell that one thread takes for the first: scaling, graph, quantiles. The second is what
    the machine's two cores give to anyone at that moment. Both work for some hundred milliseconds: a virtual machine's
    idle core takes several to wake.
    """
    x = np.random.default_rng(5).standard_normal((tickers, SESSIONS, len(bundle.feature_names)), dtype=np.float32)
    vol = np.full(x.shape[:2], 0.01, np.float32)
    one, two = Scorer(bundle), Scorer(bundle, threads=2)
    pieces = [piece.copy() for piece in np.array_split(x[: tickers // 2].ravel(), 2)]
    with ThreadPoolExecutor(2) as pool:
        pairs = (
            (partial(one.panel, x, vol), partial(two.panel, x, vol)),
            (lambda: [_sines(piece) for piece in pieces], lambda: list(pool.map(_sines, pieces))),
        )
        for pair in pairs:
            for work in pair:
                work()
        found = [[(seconds(alone), seconds(both)) for alone, both in pairs] for _ in range(rounds)]
    ours, machines = ([alone / both for alone, both in each] for each in zip(*found, strict=True))
    return ours, machines, statistics.median(alone for (alone, _), _ in found) / vol.size * 1e9


def _sines(values: np.ndarray) -> None:
    for piece in np.array_split(values, max(1, values.size >> 15)):  # 128 KB: within a core's cache
        np.sin(piece, out=piece)


def limits(quick: bool) -> tuple[float, float]:
    """(u8 x s8 multiply-adds a second of ONNX Runtime on a large matrix product, bytes a second read from memory)."""
    size = 256 if quick else 1536
    weight = np.random.default_rng(6).integers(-127, 128, (size, size)).astype(np.int8)
    node = helper.make_node("MatMulInteger", ["a", "w"], ["y"])
    ends = (helper.make_tensor_value_info("a", TensorProto.UINT8, [size, size]),
            helper.make_tensor_value_info("y", TensorProto.INT32, [size, size]))  # fmt: skip
    graph = helper.make_graph([node], "g", [ends[0]], [ends[1]], [onnx.numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    held = session(model.SerializeToString())
    a = np.full((size, size), 100, np.uint8)
    products = size**3 / min(seconds(lambda: held.run(None, {"a": a})) for _ in range(5))
    large = np.ones((1 << 20) if quick else (1 << 26), np.float32)
    return products, large.nbytes / min(seconds(large.sum) for _ in range(5))


def claims(took: dict[str, list[float]], speed_up: list[float]) -> list[dict[str, Any]]:
    """Medians over the rounds against the floors."""

    def row(claim: str, figures: list[float], floor: float) -> dict[str, Any]:
        figure = statistics.median(figures)
        return {
            "claim": claim, "figure": round(figure, 3), "unit": "x", "floor": floor, "holds": figure >= floor,
            "interval": [round(min(figures), 3), round(max(figures), 3)],
            "versions": {name: version(name) for name in PACKAGES}, "cpu": cpu(),
        }  # fmt: skip

    def ratio(slow: str, fast: str) -> list[float]:
        return [a / b for a, b in zip(took[slow], took[fast], strict=True)]

    own = [min(pair) for pair in zip(took["student fp32 panel, torch"], took["panel_fp32"], strict=True)]
    return [
        row("int8 window graph against the teacher, one window a forecast", ratio(TEACHER_NAME, "window"), 150),
        row("int8 panel graph against the same", ratio(TEACHER_NAME, "panel"), 1500),
        row("int8 panel graph against its own best fp32", [a / b for a, b in zip(own, took["panel"], strict=True)], 3),
        row("two threads against one, features to forecasts", speed_up, 1.6),
    ]  # fmt: skip


def main() -> None:
    """Measure, print the table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, to see that it runs")
    parser.add_argument("--bundle", type=Path, default=None, help="a bundle with graphs for uint8")
    parser.add_argument("--rounds", type=int, default=None)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    rounds = wanted.rounds or (1 if wanted.quick else 9)
    with tempfile.TemporaryDirectory() as root, torch.inference_mode():
        bundle = bundles.load(wanted.bundle) if wanted.bundle else make_bundle(Path(root) / "bundle")
        data = make_data(bundle, max(PANELS))
        took = nanoseconds(contestants(bundle, data, Path(root), wanted.quick), rounds, 0.01 if wanted.quick else 0.2)
        speed_up, possible, whole = threads(bundle, 3 * rounds, 16 if wanted.quick else 2000)
        width = len(float_network(bundle).conv_bias[0])
    print_table(took, data, width, limits(wanted.quick))
    found = claims(took, speed_up)
    for each in found:
        verdict = "" if wanted.quick else ("holds" if each["holds"] else "FAILS")
        print(f"{each['claim']:<62}{each['figure']:9.1f} {each['unit']} floor {each['floor']:<5} {verdict}")
    print(f"features to forecasts on one core, scaling and quantiles included: {whole:.0f} ns a row")
    print(f"two threads against one, of sines at the same time: {statistics.median(possible):.2f} x")
    if not wanted.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def print_table(took: dict[str, list[float]], data: Data, width: int, machine: tuple[float, float]) -> None:
    """Nanoseconds a row, rows a second, and the share of the machine's limits that the panel graphs reach."""
    products, bandwidth = machine
    print(f"{data.x.shape[2]} features, {data.body.shape[2]} of them in the convolution; one core\n")
    print(f"{'':<30}{'ns a row':>12}{'rows a second':>16}")
    for name, values in took.items():
        middle = statistics.median(values)
        print(f"{name:<30}{middle:12,.1f}{1e9 / middle:16,.0f}     [{min(values):,.1f}, {max(values):,.1f}]")
    body, features = data.body.shape[2], data.x.shape[2]
    multiply_adds = KERNEL * width * (body + 2 * width)
    print(f"\n{products / 1e9:,.0f} G u8 x s8 multiply-adds a second and {bandwidth / 1e9:,.1f} GB a second at most")
    for name, size in (("panel", 4), ("panel_u8", 1)):
        rows = 1e9 / statistics.median(took[name])
        read = size * body + 4 * features
        print(
            f"{name}: {rows * multiply_adds / products:.0%} of the first, {rows * read / bandwidth:.0%} of the second"
        )
    print()


if __name__ == "__main__":
    main()
