"""What every model of a race is worth, and what a forecast of it costs: skill against nanoseconds a row, drawn.

Skill is the gain over the trailing EWMA of a finished run's own evidence, out of sample, as its gate judged it; of the
int8 student it is the gain of `equality.json`. The cost is taken here, on one core, of the same interface that the race
uses: all outputs of a row from features to forecast, a panel at a time, measures alternating, median over rounds.
Networks have random weights, since a forward pass costs the same with any, and a fit may have chosen none; the rest is
fitted as in the race, on the first fold.

    make demo && python benchmarks/skill.py --project build/demo     some minutes: a table and results/skill.svg
    python benchmarks/skill.py --project build/demo --quick          the same code, small, nothing written
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from benchmarks.lake import cpu
from benchmarks.scoring import TorchStudent, seconds
from features.splits import Fold
from models.compact import bundle as bundles
from models.compact.runtime import Scorer
from models.decode import decode
from models.forecasters.foundation import fit_foundation
from models.forecasters.interface import Training
from models.forecasters.network_forecaster import FittedNetwork, NetworkConfig
from models.receptive_field import FIELD
from pipeline import config as configs
from pipeline import contenders, walkforward
from pipeline.config import Config
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.walkforward import Dataset

RESULTS = Path(__file__).resolve().parent / "results" / "skill.json"
PICTURE = RESULTS.with_suffix(".svg")
SESSIONS = 512
PANEL, WINDOW = "student, int8 panel", "student, int8 window"


class Work(NamedTuple):
    """What forecasts so many rows."""

    forecast: Callable[[], object]
    rows: int


class Gain(NamedTuple):
    """Over EWMA, in percent of pinball loss, with its interval."""

    gain: float
    low: float
    high: float


class Point(NamedTuple):
    """A model: nanoseconds of a row's forecast, gain over EWMA in percent of pinball loss with its interval."""

    model: str
    nanoseconds: float
    gain: float
    low: float
    high: float


def skills(evidence: Mapping[str, Any], equality: Mapping[str, Any], horizon: int) -> dict[str, Gain]:
    """model -> its gain over EWMA at the horizon, as the run's evidence has it.

    A baseline has no interval. The int8 student's is the student's, less what pruning and int8 take of the loss by
    `equality.json`.
    """
    found = {
        row["model"]: Gain(row["gain_percent"], row["low"], row["high"])
        for row in evidence["gains"]
        if (row["against"], row["measure"], row["horizon"]) == ("ewma", "pinball", horizon)
    }

    def loss(rows: list[dict[str, Any]], model: str) -> float:
        return next(float(row["pinball"]) for row in rows if (row["model"], row["horizon"]) == (model, horizon))

    for name in ("har", "garch"):
        gain = 100 * (1 - loss(evidence["losses"], name) / loss(evidence["losses"], "ewma"))
        found[name] = Gain(gain, gain, gain)
    taken = loss(equality["losses"], "int8") - loss(equality["losses"], "student")
    percent = 100 * taken / loss(evidence["losses"], "ewma")
    for name in (PANEL, WINDOW):
        found[name] = Gain(*(value - percent for value in found["student"]))
    return found


def forecasts(data: Dataset, fold: Fold, config: Config, bundle: Path, sessions: int) -> dict[str, Work]:
    """model -> (what forecasts the last sessions of every ticker, how many rows that is). Fits what must be fitted."""
    training, scaler = contenders.training_of(data, fold, config)
    at = slice(data.panel.x.shape[1] - sessions, None)
    inputs = walkforward.inputs_of(data, scaler, at)
    raw, vol = data.panel.x[:, at], data.panel.vol[:, at].astype(np.float32)
    rows = len(raw) * (sessions - FIELD + 1)
    run: dict[str, Work] = {}
    for name in (*contenders.ALWAYS, *contenders.learners(config)):
        print(f"  fitting {name} ...", flush=True)
        model = contenders.forecaster(config, name)
        fitted = untrained(training, model) if isinstance(model, NetworkConfig) else model.fit(training)
        run[name] = Work(partial(fitted.forecast, inputs), rows)
    print("  fitting student ...", flush=True)
    student = walkforward.fit_folds(data, [fold], walkforward.student_config(config))[0].student
    network, skip = student.network, student.skip_network
    ends = np.ascontiguousarray(inputs.x[:, FIELD - 1 :])
    body, last = torch.from_numpy(np.ascontiguousarray(inputs.x[..., network.body_features])), torch.from_numpy(ends)
    panel = TorchStudent(network).panel

    def decoded(y: npt.NDArray[np.float32]) -> object:
        y = y.reshape(*ends.shape[:2], -1, 4)
        return decode(y, inputs.vol[:, FIELD - 1 :], data.horizons, student.shape, student.factor)

    run["student"] = Work(lambda: decoded(panel(body, last).numpy()), rows)
    run["scale_skip"] = Work(lambda: decoded(ends @ skip.skip_weight + skip.skip_bias), rows)
    scorer = Scorer(bundles.load(bundle))
    run[PANEL] = Work(partial(scorer.panel, raw, vol), rows)
    starts = range(0, sessions - FIELD + 1, 8)
    windows = np.concatenate([raw[:, start : start + FIELD] for start in starts])
    ends_vol = np.concatenate([vol[:, start + FIELD - 1] for start in starts])
    run[WINDOW] = Work(partial(scorer.window, windows, ends_vol), len(windows))
    return run


def untrained(training: Training, config: NetworkConfig) -> FittedNetwork:
    """A network with random weights on its fitted skip."""
    foundation = fit_foundation(training, training.slices.train_end, config.alphas[0])
    body_at = foundation.strongest(np.arange(training.inputs.x.shape[2]), config.body_features)
    body = config.network(len(body_at), training.horizons).eval()
    centre = np.zeros((len(training.horizons), 4), np.float32)
    return FittedNetwork(foundation, body, body_at, 1.0, centre, body.context, training.horizons, {})


def nanoseconds(run: Mapping[str, Work], rounds: int, patience: float) -> dict[str, float]:
    """Of a row, median over rounds in which every model has its turn."""
    took: dict[str, list[float]] = {name: [] for name in run}
    for _ in range(rounds):
        for name, work in run.items():
            repeats = max(1, int(patience / max(seconds(work.forecast), 1e-6)))
            spent = statistics.median(seconds(work.forecast) for _ in range(repeats))
            took[name].append(spent / work.rows * 1e9)
    return {name: statistics.median(values) for name, values in took.items()}


def points(run: Mapping[str, Work], found: Mapping[str, Gain], rounds: int, patience: float) -> list[Point]:
    """Every model of which both are known, cheapest first; the stack costs what its members cost together."""
    took = nanoseconds(run, rounds, patience)
    members = [name for name in took if name not in (*contenders.ALWAYS, "student", PANEL, WINDOW)]
    if "stack" in found:
        took["stack"] = sum(took[name] for name in members)
    named = [Point(name, took[name], *found[name]) for name in took if name in found]
    return sorted(named, key=lambda point: point.nanoseconds)


def draw(found: list[Point], horizon: int, path: Path) -> None:
    """Skill against cost, with the intervals of the skill; the trailing EWMA is the line at nought."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for point in found:
        color = "#b03a2e" if point.model in (PANEL, WINDOW) else "#1f5f8b"
        reach = [[point.gain - point.low], [point.high - point.gain]]
        axes.errorbar(point.nanoseconds, point.gain, yerr=reach, fmt="o", color=color, capsize=2, elinewidth=0.7)
        at, away = (point.nanoseconds, point.high), (0, 4)
        axes.annotate(
            point.model, at, away, textcoords="offset points", color=color, rotation=40, rotation_mode="anchor"
        )
    axes.axhline(0, color="#888888", linewidth=0.8, linestyle="--")
    axes.margins(x=0.12, y=0.25)
    axes.set(xscale="log", xlabel="nanoseconds a row, one core", ylabel=f"gain over EWMA at {horizon} sessions, %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Read a run, fit, measure, print the table; write results and picture of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True, help="directory of a tradewind.toml that was compressed")
    parser.add_argument("--quick", action="store_true", help="one short round, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.chdir(options.project)
    config = configs.load()
    registry = Registry(Path(config.data.artifacts))
    run_id = registry.latest_run()
    evidence, equality = (registry.read_json(run_id, f"{name}.json") for name in ("evidence", "equality"))
    horizon = config.backtest.horizon
    data = walkforward.read(Lake.of(config.data), config)
    bundle = Path(config.data.artifacts) / "bundles" / equality["bundle_version"]
    with threadpool_limits(1):
        run = forecasts(data, walkforward.folds(data, config)[0], config, bundle, SESSIONS)
        found = points(run, skills(evidence, equality, horizon), *((1, 0.0) if options.quick else (7, 0.3)))
    print(
        f"\n{run_id}, {len(data.panel.x)} tickers; one core; gain over EWMA at {horizon} sessions, % of pinball loss\n"
    )
    print(f"{'':<22}{'ns a row':>12}{'gain %':>9}  interval")
    for point in found:
        print(f"{point.model:<22}{point.nanoseconds:12,.0f}{point.gain:9.2f}  [{point.low:.2f}, {point.high:.2f}]")
    if not options.quick:
        rows = [point._asdict() for point in found]
        RESULTS.write_text(
            json.dumps({"run": run_id, "cpu": cpu(), "horizon": horizon, "points": rows}, indent=1) + "\n"
        )
        draw(found, horizon, PICTURE)


if __name__ == "__main__":
    main()
