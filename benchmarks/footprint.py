"""What the scorer needs: room, time to a first forecast, memory; and 5,000 tickers scored from a file.

In an environment of its own (--environment, made by this script as the Dockerfile makes the image) with the base
install alone, on a bundle of the default shape with random weights. Starts are processes, timed from their beginning in
turns with a bare `import numpy, onnxruntime`; figures are medians over rounds, a ratio is taken within its round. A
first forecast comes after the bundle's checksums and the check of the graph that makes it. The scorer turns ONNX
Runtime's telemetry off, which a bare import starts: the ratio to a bare import without it is shown beside, as `silent`.

    python benchmarks/footprint.py            the claims, some two minutes and 200 MB
    python benchmarks/footprint.py --quick    the same code in this environment, no floor judged
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.lake import cpu
from benchmarks.scoring import make_bundle
from models.receptive_field import FIELD

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "footprint.json"
BARE = "import numpy, onnxruntime"
SILENT = f"import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; {BARE}"
API = """
from pathlib import Path
import numpy as np
from models.compact.bundle import load
from models.compact.runtime import Scorer
scorer = Scorer(load(Path({bundle!r})))
scorer.self_check(["window"])
print(open('/proc/self/status').read())
scorer.window(np.zeros((1, 64, {features}), np.float32), np.full(1, 0.01, np.float32))
"""
FILE = """
import time
from pathlib import Path
import onnxruntime
from pipeline import score
start = time.perf_counter()
score.run(Path({bundle!r}), Path({features!r}), Path({out!r}))
print("SECONDS", time.perf_counter() - start)
"""


def install(directory: Path) -> Path:
    """The base install of this tree, as the Dockerfile makes it; in an environment that is there, anew."""
    python = directory / "bin" / "python"
    if not python.is_file():
        venv.create(directory, with_pip=True)
    copies = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as sources:
        for name in (name for names in copies for name in names.split()):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(sources) / name)
        command = [str(python), "-m", "pip", "install", "--quiet", "-c", f"{sources}/constraints.txt", sources]
        subprocess.run(command, check=True)
    return python


def write_features(path: Path, tickers: int, names: list[str]) -> Path:
    """Random features of 64 sessions."""
    x = np.random.default_rng(0).standard_normal((tickers, FIELD, len(names)), dtype=np.float32)
    np.savez(
        path, x=x, vol=np.full(x.shape[:2], 0.01, np.float32), ticker=np.array([f"T{n:05d}" for n in range(tickers)]),
        session=np.datetime64("2020-01-01") + np.arange(FIELD), feature=np.array(names),
    )  # fmt: skip
    return path


def started(command: list[str], at: Path) -> tuple[float, str]:
    """Seconds from start to end of a process, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=True, env=environment())
    return time.perf_counter() - start, done.stdout


def environment() -> dict[str, str]:
    """One thread, and nothing of this process's packages and settings."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    own = ("PYTHONPATH", "VIRTUAL_ENV", "ORT_DISABLE_TELEMETRY")
    return {k: v for k, v in os.environ.items() if k not in own} | threads


def megabytes(directory: Path) -> float:
    """Of all files, a hard link once."""
    files = {(s.st_dev, s.st_ino): s.st_size for s in (p.lstat() for p in directory.rglob("*")) if s.st_nlink}
    return sum(files.values()) / 1e6


def measure(python: Path, root: Path, tickers: int, rounds: int) -> dict[str, list[float]]:
    """Every figure, round by round: seconds, and megabytes of memory and of the bundle."""
    bundle = make_bundle(root / "bundle")
    names = list(bundle.feature_names)
    one, many = write_features(root / "one.npz", 1, names), write_features(root / "many.npz", tickers, names)
    place, out = str(bundle.directory), str(root / "out.csv")
    commands = {
        "bare": [str(python), "-c", BARE],
        "silent": [str(python), "-c", SILENT],
        "api": [str(python), "-c", API.format(bundle=place, features=len(names))],
        "cli": [str(python.parent / "tradewind"), "score", "--bundle", place, "--features", str(one), "--out", out],
        "file": [str(python), "-c", FILE.format(bundle=place, features=str(many), out=out)],
    }
    took: dict[str, list[float]] = {name: [] for name in (*commands, "memory")}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds, said = started(command, root)
            took[name].append(float(said.split("SECONDS")[1]) if name == "file" else seconds)
            if name == "api":
                took["memory"].append(int(re.findall(r"VmHWM:\s+(\d+) kB", said)[0]) * 1024 / 1e6)
    return took | {"bundle": [megabytes(bundle.directory) * 1000]}


def claims(took: dict[str, list[float]], installed: float) -> list[dict[str, Any]]:
    """Medians over the rounds against the floors."""

    def row(claim: str, figures: list[float], unit: str, floor: float, **beside: float) -> dict[str, Any]:
        figure = statistics.median(figures)
        return {
            "claim": claim, "figure": round(figure, 3), "unit": unit, "floor": floor, "holds": figure <= floor,
            "interval": [round(min(figures), 3), round(max(figures), 3)], **beside,
            "versions": {"python": sys.version.split()[0]}, "cpu": cpu(),
        }  # fmt: skip

    def start(claim: str, name: str, floor: float) -> dict[str, Any]:
        over = {bare: [a / b for a, b in zip(took[name], took[bare], strict=True)] for bare in ("bare", "silent")}
        return row(claim, over["bare"], "x", floor, silent=round(statistics.median(over["silent"]), 3))

    return [
        row("base install", [installed], "MB", 220),
        start("start to first forecast, Python API", "api", 1.3),
        start("start to first forecast, command line", "cli", 2),
        row("largest memory before data", took["memory"], "MB", 70),
        row("bundle", took["bundle"], "KB", 500),
        row("5,000 tickers x 64 sessions from a file", took["file"], "s", 1),
    ]


def main() -> None:
    """Measure, print a table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few tickers in this environment, to see that it runs")
    parser.add_argument("--environment", type=Path, default=ROOT / ".venv-scorer")
    parser.add_argument("--rounds", type=int, default=None)
    wanted = parser.parse_args()
    python = Path(sys.executable) if wanted.quick else install(wanted.environment)
    with tempfile.TemporaryDirectory() as root:
        took = measure(python, Path(root), 50 if wanted.quick else 5000, wanted.rounds or (1 if wanted.quick else 25))
    found = claims(took, 0.0 if wanted.quick else megabytes(wanted.environment))
    for each in found:
        verdict = "" if wanted.quick else ("holds" if each["holds"] else "FAILS")
        beside = f"  (silent {each['silent']:.2f})" if "silent" in each else ""
        print(f"{each['claim']:<44}{each['figure']:9.2f} {each['unit']:<3} floor {each['floor']:<5} {verdict}{beside}")
    if not wanted.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
