"""Planted lagged patterns on 50 tickers x 2,500 sessions: how much of what is attainable each network recovers.

The pattern is a weighted sum of a feature's values two to nine sessions ago, once in the log-scale of z and once in
its location, at an attainable R2 of 6 %: the scale skip, which reads one session, sees nothing of it. Every choice
(epoch, weight on the skip, shrinkage of the location) is made on the purged validation slice; the figure is the
out-of-sample R2 of the last 500 sessions over that of the planted signal itself.

    python benchmarks/planted_sequences.py            the claims, about half an hour
    python benchmarks/planted_sequences.py --only LSTM     one network; the rows of the others stay
    python benchmarks/planted_sequences.py --quick    the same code on 6 x 900, no floor judged
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.lake import cpu
from models.forecasters.convolution import ConvolutionConfig
from models.forecasters.interface import Inputs, Slices, Training
from models.forecasters.lstm import LSTMConfig
from models.forecasters.network_forecaster import NetworkConfig
from models.forecasters.scale import Z_FLOOR
from models.forecasters.seq2seq import Seq2SeqConfig
from models.forecasters.transformer import TransformerConfig

RESULTS = Path(__file__).resolve().parent / "results" / "planted_sequences.json"
R2 = 0.06
LOG_E_VARIANCE = 0.89
"""Variance of ln max(|e|, .15) of a standard normal e: what a log-scale has to be seen through."""
LAGS = np.arange(2, 10)
PATTERN = np.array([1.0, 0.8, 0.5, 0.0, -0.4, -0.6, 0.4, 0.2])
NETWORKS: dict[str, NetworkConfig] = {
    "LSTM": LSTMConfig(dropout=0.0, epochs=40, patience=8, batch=4),
    "Transformer": TransformerConfig(dropout=0.0, epochs=40),
    "convolution": ConvolutionConfig(dropout=0.0, epochs=10),
    "sequence to sequence": Seq2SeqConfig(dropout=0.0, epochs=40, patience=8, batch=4),
}


def planted(where: str, tickers: int, sessions: int, seed: int) -> tuple[Inputs, np.ndarray, np.ndarray]:
    """Inputs, z (N, T, 1) and the planted signal (N, T) in `where`: "scale" or "location"."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (tickers, sessions, 4)).astype(np.float32)
    signal = np.zeros((tickers, sessions))
    for lag, weight in zip(LAGS, PATTERN / np.linalg.norm(PATTERN), strict=True):
        signal[:, lag:] += weight * x[:, :-lag, 1]
    noise = generator.normal(0, 1, (tickers, sessions))
    if where == "scale":
        signal *= np.sqrt(R2 / (1 - R2) * LOG_E_VARIANCE)
        z = np.exp(signal) * noise
    else:
        signal *= np.sqrt(R2)
        z = signal + np.sqrt(1 - R2) * noise
    vol = np.full((tickers, sessions), 0.01)
    return Inputs(x, vol, 0.01 * np.roll(z, 1, axis=1)), z[..., None], signal


def recovered(config: NetworkConfig, where: str, tickers: int, sessions: int, seed: int) -> dict[str, float]:
    """R2 out of sample of the network and of the planted signal, and their ratio."""
    inputs, z, signal = planted(where, tickers, sessions, seed)
    end = sessions * 4 // 5
    slices = Slices(fit_end=end * 4 // 5, validation_start=end * 4 // 5 + 1, train_end=end)
    past = Inputs(inputs.x[:, :end], inputs.vol[:, :end], inputs.returns[:, :end])
    known = np.where(np.arange(end)[:, None] < end - 1, z[:, :end], np.nan)
    names = tuple(f"x{n}" for n in range(inputs.x.shape[2]))
    start = time.process_time()
    fitted = config.fit(Training(past, known, known**2, (1,), names, slices, 2500.0, seed))
    took = time.process_time() - start
    y = fitted.outputs(inputs)[:, end:, 0]
    target = np.log(np.maximum(np.abs(z), Z_FLOOR))[:, end:, 0] if where == "scale" else z[:, end:, 0]
    found = y[..., 1] if where == "scale" else y[..., 0]

    def r2(forecast: np.ndarray) -> float:
        error, total = target - forecast, target - target.mean()
        return float(1 - (error - error.mean()).var() / total.var())

    attainable = r2(signal[:, end:])
    return {"r2": r2(found), "attainable": attainable, "share": r2(found) / attainable, "seconds": took} | {
        key: value for key, value in fitted.choices.items() if isinstance(value, float | int)
    }


def claim(name: str, where: str, shares: list[float]) -> dict[str, Any]:
    figure = statistics.median(shares)
    return {
        "claim": f"{name}: share of a lagged pattern in {where}",
        "figure": round(figure, 3),
        "unit": "of attainable R2",
        "floor": 0.8,
        "holds": figure >= 0.8,
        "interval": [round(min(shares), 3), round(max(shares), 3)],
        "seeds": len(shares),
        "versions": {package: version(package) for package in ("torch", "numpy", "scikit-learn")},
        "cpu": cpu(),
    }


def main() -> None:
    """Measure, print a table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small panel and one epoch, to see that it runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=NETWORKS, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name, config in NETWORKS.items():
        if options.only not in (None, name):
            continue
        for where in ("scale", "location"):
            size = (6, 900) if options.quick else (50, 2500)
            runs = [
                recovered(replace(config, epochs=1) if options.quick else config, where, *size, seed)
                for seed in range(1 if options.quick else options.seeds)
            ]
            found.append(claim(name, where, [run["share"] for run in runs]))
            verdict = "" if options.quick else ("holds" if found[-1]["holds"] else "FAILS")
            print(f"{found[-1]['claim']:<62}{found[-1]['figure']:7.3f} floor 0.8 {verdict}   {runs[0]}", flush=True)
    if not options.quick:
        claimed = {each["claim"] for each in found}
        kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps([row for row in kept if row["claim"] not in claimed] + found, indent=1) + "\n")


if __name__ == "__main__":
    main()
