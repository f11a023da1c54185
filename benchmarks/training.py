"""Training in panel mode: supervised targets a CPU second, and CPU seconds to a validation loss. One thread.

1. The LSTM of neuralforecast (its own virtual environment under --environment, made by this script, run as a
   subprocess in turns with ours) at equal data, features, state, layers and window: it trains on windows of 64
   sessions with one target each. Both in CPU seconds of the training loop alone, from the difference of a longer and
   a shorter run, so that start-up and data preparation weigh on neither.
2. The same network, data and optimizer, once in panel mode and once with one window a sample (the loss on its last
   session only), until the validation loss of a planted low-signal series reaches the same level.

    python benchmarks/training.py            the claims, about twenty minutes and 1.5 GB of environment
    python benchmarks/training.py --quick    the same code, small, without the environment; no floor judged
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from benchmarks.lake import cpu
from models.forecasters.fit import FitConfig, Supervision, evaluate, fit, loss
from models.forecasters.lstm import LSTM

RESULTS = Path(__file__).resolve().parent / "results" / "training.json"
WINDOW, WIDTH, LAYERS, FEATURES = 64, 64, 2, 8
STRENGTH = 0.25
SHAPE = np.array([[-2.33, -1.64, -1.28, -0.67, 0.0, 0.67, 1.28, 1.64, 2.33]], dtype=np.float32)
ENVIRONMENT = ("torch==2.13.0", "neuralforecast==3.3.0")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

THEIRS = """
import json, logging, sys, time, warnings
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np, pandas as pd, torch
torch.set_num_threads(1)
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import LSTM
a = json.loads(sys.argv[1])
data = np.load(a["data"])
x, z = data["x"], data["z"][..., 0]
N, T, F = x.shape
frame = pd.DataFrame({"unique_id": np.repeat(np.arange(N), T), "ds": np.tile(np.arange(T), N), "y": z.ravel()})
names = [f"x{i}" for i in range(F)]
frame[names] = x.reshape(-1, F)
took = {}
for steps in (a["short"], a["long"]):
    model = LSTM(h=1, input_size=a["window"], encoder_n_layers=a["layers"], encoder_hidden_size=a["width"],
        decoder_layers=1, decoder_hidden_size=a["width"], hist_exog_list=names, loss=MQLoss(quantiles=a["levels"]),
        max_steps=steps, learning_rate=4e-4, batch_size=8, windows_batch_size=a["windows"], scaler_type="identity",
        random_seed=a["seed"], accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False)
    start = time.process_time()
    NeuralForecast([model], freq=1).fit(frame)
    took[steps] = time.process_time() - start
print("SECONDS", (a["long"] - a["short"]) * a["windows"] / (took[a["long"]] - took[a["short"]]))
"""


def planted(tickers: int, sessions: int, seed: int) -> Supervision:
    """The scale of z follows a feature of three sessions ago, weakly: seven per cent of the variance of its log."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (tickers, sessions, FEATURES)).astype(np.float32)
    log_scale = np.zeros((tickers, sessions))
    log_scale[:, 3:] = STRENGTH * x[:, :-3, 0]
    z = np.exp(log_scale) * generator.normal(0, 1, log_scale.shape)
    arrays = (x, np.zeros((tickers, sessions, 1, 4), np.float32), z[..., None].astype(np.float32), SHAPE)
    return Supervision(*(torch.from_numpy(array) for array in arrays))


def network(seed: int) -> LSTM:
    torch.manual_seed(seed)
    return LSTM(FEATURES, WIDTH, LAYERS, 0.0, WINDOW - 1, 1)


class Counted(LSTM):
    """Counts the outputs it was trained on."""

    targets = 0

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.targets += y.shape[0] * y.shape[1] if self.training else 0
        return y


def ours_a_second(data: Supervision, epochs: tuple[int, int], seed: int) -> float:
    """Supervised targets a CPU second of the panel loop, from a longer and a shorter refit, after one to warm up."""
    took, targets = [], []
    for number in (epochs[0], *epochs):
        body = Counted(FEATURES, WIDTH, LAYERS, 0.0, WINDOW - 1, 1)
        start = time.process_time()
        fit(body, data, slice(0, data.x.shape[1]), None, FitConfig(number, number, 4e-4, 0.1, seed))
        took.append(time.process_time() - start)
        targets.append(body.targets)
    return (targets[2] - targets[1]) / (took[2] - took[1])


def theirs_a_second(python: Path, file: Path, seed: int) -> float:
    settings = {
        "data": str(file), "window": WINDOW, "layers": LAYERS, "width": WIDTH, "windows": 128, "seed": seed,
        "short": 10, "long": 50, "levels": [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99],
    }  # fmt: skip
    command = [str(python), "-c", THEIRS, json.dumps(settings)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=file.parent, env=os.environ | ONE_THREAD
    )
    return float(next(line for line in done.stdout.splitlines() if line.startswith("SECONDS")).split()[1])


def make_environment(directory: Path) -> Path:
    """A virtual environment with neuralforecast; one that is there is used again."""
    python = directory / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENT], check=True)
    return python


def seconds_to(goal: float, data: Supervision, split: tuple[int, int], seed: int, panel: bool, budget: int) -> float:
    """CPU seconds of training steps until the validation loss is at most `goal`; validation itself is not counted.

    Both look at validation after every 8 x 256 targets in panel mode's terms of sequences: every 5 steps in panel mode
    and every 20 steps of 128 windows, at the same constant learning rate and decay. Infinite past the budget of steps.
    """
    body, generator, shape = network(seed), np.random.default_rng(seed), data.shape
    optimizer = torch.optim.AdamW(body.parameters(), 4e-4, weight_decay=0.1)
    context, held_out = WINDOW - 1, slice(*split)
    size, count, every = (256, 8, 5) if panel else (1, 128, 20)
    took = 0.0
    for step in range(1, budget + 1):
        start = time.process_time()
        tickers = generator.integers(0, len(data.x), count)
        firsts = generator.integers(context, split[0] - size + 1, count)
        pairs = list(zip(tickers.tolist(), firsts.tolist(), strict=True))

        def cut(array: Tensor, before: int, pairs: list[tuple[int, int]] = pairs) -> Tensor:
            return torch.stack([array[n, s - before : s + size] for n, s in pairs])

        body.train()
        optimizer.zero_grad(set_to_none=True)
        loss(body(cut(data.x, context)), cut(data.skip, 0), cut(data.z, 0), shape).backward()
        torch.nn.utils.clip_grad_norm_(body.parameters(), 1.0)
        optimizer.step()
        took += time.process_time() - start
        if step % every == 0 and evaluate(body, data, held_out) <= goal:
            return took
    return float("inf")


def goal_of(data: Supervision, split: tuple[int, int], seed: int) -> float:
    """Three tenths of what the planted scale gains over the untrained network on validation."""
    held_out = slice(*split)
    before = evaluate(network(seed), data, held_out)
    truth = torch.zeros(len(data.x), split[1] - split[0], 1, 4)
    truth[:, :, 0, 1] = truth[:, :, 0, 2] = STRENGTH * data.x[:, split[0] - 3 : split[1] - 3, 0]
    return before - 0.3 * (before - float(loss(truth, data.skip[:, held_out], data.z[:, held_out], data.shape)))


def claim(text: str, figures: list[float], floor: float) -> dict[str, Any]:
    figure = statistics.median(figures)
    return {
        "claim": text,
        "figure": round(figure, 2),
        "unit": "x",
        "floor": floor,
        "holds": figure >= floor,
        "interval": [round(min(figures), 2), round(max(figures), 2)],
        "versions": {name: version(name) for name in ("torch", "numpy")} | dict([ENVIRONMENT[1].split("==")]),
        "cpu": cpu(),
    }


def main() -> None:
    """Measure, print a table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, and without the other library")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "tradewind-neuralforecast")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(1 if options.quick else options.seeds)
    size = (4, 600) if options.quick else (50, 1500)
    found = []
    with tempfile.TemporaryDirectory() as directory:
        python = None if options.quick else make_environment(options.environment)
        ours, ratios = [], []
        for seed in seeds:
            data, file = planted(*size, seed), Path(directory) / "data.npz"
            np.savez(file, x=data.x.numpy(), z=data.z.numpy())
            ours.append(ours_a_second(data, (1, 3), seed))
            if python is not None:
                theirs = theirs_a_second(python, file, seed)
                ratios.append(ours[-1] / theirs)
                print(f"seed {seed}: {ours[-1]:,.0f} targets a CPU second, neuralforecast {theirs:,.0f}", flush=True)
    print(f"panel mode: {statistics.median(ours):,.0f} supervised targets a CPU second")
    if ratios:
        found.append(claim("panel mode against neuralforecast's LSTM, targets a CPU second", ratios, 40))
    series = (4, 600) if options.quick else (50, 1500)
    split = (series[1] * 4 // 5, series[1])
    saved = []
    for seed in seeds:
        data = planted(*series, seed)
        goal = float("inf") if options.quick else goal_of(data, split, seed)
        took = [seconds_to(goal, data, split, seed, panel, 20_000) for panel in (True, False)]
        saved.append(took[1] / took[0])
        print(
            f"seed {seed}: to the loss {goal:.5f} {took[0]:.1f} s in panel mode, {took[1]:.1f} s by windows", flush=True
        )
    found.append(claim("one window a sample against panel mode, CPU to the same validation loss", saved, 2.5))
    for each in found:
        verdict = "" if options.quick else ("holds" if each["holds"] else "FAILS")
        print(f"{each['claim']:<72}{each['figure']:8.2f} {each['unit']:<3} floor {each['floor']:<4} {verdict}")
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
