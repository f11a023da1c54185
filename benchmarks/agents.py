"""Environment steps a CPU second: of the batched market, and of learning in it by PPO. One thread.

1. The batched environment with targets drawn beforehand, every cost charged: one stock, and a portfolio of thirty.
2. The same against the DummyVecEnv of Stable-Baselines3 over gym-anytrading's stocks, which knows one asset, all or
   nothing, and whose fee does not reach the reward; its environments are stepped without Gymnasium's wrappers, in the
   number of copies that is fastest.
3. PPO from first to last, networks and updates included, with 256 environments. Beside it the PPO of
   Stable-Baselines3 on eight environments of gym-anytrading, by its defaults and with our rows, epochs and rollouts;
   the faster of the two counts.

gym-anytrading runs in a virtual environment of its own that this script makes under --environment, as a subprocess in
turns with ours. Everything in CPU seconds of the process, without its start. Figures are medians over rounds, a ratio
is taken within its round.

    python benchmarks/agents.py            the claims, CPU time of some two minutes; 1 GB of environment
    python benchmarks/agents.py --quick    the same code, small, without gym-anytrading; no floor judged
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

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.lake import cpu
from benchmarks.planted import write
from models.trading.deep import PPOConfig
from models.trading.env import Batch, Markets, Rules
from models.trading.market import Costs, Limits

RESULTS = Path(__file__).resolve().parent / "results" / "agents.json"
ENVIRONMENT = ("torch==2.13.0", "stable-baselines3==2.9.2", "gym-anytrading==2.0.0")
PACKAGES = ("numpy", "torch", "stable-baselines3")
COSTS = Costs(half_spread_bps=2.5, commission_bps=2.5)
OBSERVED, SESSIONS, STOCKS = 8, 2500, 30
SINGLE, PORTFOLIO = (256, 4096), (256, 1024)
"""Environments stepped together; the claims are about the larger number."""

THEIRS = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch
torch.set_num_threads(1)
from gym_anytrading.datasets import STOCKS_GOOGL
from gym_anytrading.envs import StocksEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
a = json.loads(sys.argv[1])

def envs(copies):
    return DummyVecEnv([lambda: StocksEnv(STOCKS_GOOGL, 30, (30, len(STOCKS_GOOGL)))] * copies)

def stepped(copies):
    env = envs(copies)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 2, (64, copies))
    rounds = max(1, a["steps"] // copies)
    for at in range(max(1, rounds // 10)):
        env.step(actions[at % 64])
    start = time.process_time()
    for at in range(rounds):
        env.step(actions[at % 64])
    return rounds * copies / (time.process_time() - start)

def learned(**settings):
    start = time.process_time()
    model = PPO("MlpPolicy", envs(8), seed=a["seed"], device="cpu", **settings)
    model.learn(a["learn"])
    return model.num_timesteps / (time.process_time() - start)

found = {"steps": {str(copies): stepped(copies) for copies in (1, 8, 256)}}
found["defaults"] = learned()
found["ours"] = learned(**a["settings"])
print("FOUND", json.dumps(found))
"""


def histories(number: int, assets: int, seed: int) -> Markets:
    """Random walks of one per cent a session and as many columns of noise; the speed does not depend on them."""
    generator = np.random.default_rng(seed)
    opens = 100 * np.exp(np.cumsum(0.01 * generator.standard_normal((number, SESSIONS, assets)), axis=1))
    observed = generator.standard_normal((number, SESSIONS, assets, OBSERVED), dtype=np.float32)
    playable = np.ones((number, SESSIONS), dtype=bool)
    playable[:, -2:] = False
    return Markets(opens, observed, playable)


def steps_a_second(markets: Markets, rules: Rules, environments: int, steps: int) -> float:
    """Of the batched environment, to targets anywhere within the limits."""
    batch, generator = Batch(markets, rules, environments), np.random.default_rng(1)
    batch.reset()
    shape = (32, environments, batch.assets)
    targets = rules.limits.clip(generator.uniform(rules.limits.least, rules.limits.most, shape))
    rounds = max(1, steps // environments)
    for at in range(max(1, rounds // 10)):
        batch.step(targets[at % 32])
    start = time.process_time()
    for at in range(rounds):
        batch.step(targets[at % 32])
    return rounds * environments / (time.process_time() - start)


def learning_a_second(markets: Markets, rules: Rules, steps: int, seed: int) -> float:
    """Environment steps of PPO, everything included."""
    config = PPOConfig(environments=256)
    budget = max(1, steps // (config.environments * config.steps)) * config.environments * config.steps
    start = time.process_time()
    config.learn(markets, rules, budget, seed)
    return budget / (time.process_time() - start)


def theirs(python: Path, seed: int) -> dict[str, Any]:
    """What the subprocess measured: steps by copies, learning by settings, all a CPU second."""
    config = PPOConfig()
    rollout = config.environments * config.steps
    settings = {
        "n_steps": rollout // 8, "batch_size": config.rows, "n_epochs": config.epochs,
        "policy_kwargs": {"net_arch": [config.width] * (1 + config.blocks)},
    }  # fmt: skip
    asked = {"steps": 100_000, "learn": 2 * 8 * 2048, "seed": seed, "settings": settings}
    done = subprocess.run([str(python), "-c", THEIRS, json.dumps(asked)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gym-anytrading failed:\n{done.stderr[-2000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    found: dict[str, Any] = json.loads(line.removeprefix("FOUND"))
    return found


def make_environment(directory: Path) -> Path:
    """A virtual environment with gym-anytrading; one that is there is used again."""
    python = directory / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENT], check=True)
    return python


def measure(python: Path | None, rounds: int, scale: int) -> list[dict[str, Any]]:
    """Everything once a round, in turns; theirs where there is an environment for it."""
    one, single = histories(50, 1, 0), Rules(COSTS)
    many, portfolio = histories(1, STOCKS, 0), Rules(COSTS, Limits(0.0, 0.1, 1.0))
    found = []
    for seed in range(rounds):
        row: dict[str, Any] = {
            "single": {str(E): steps_a_second(one, single, E, 20 * scale) for E in SINGLE},
            "portfolio": {str(E): steps_a_second(many, portfolio, E, 4 * scale) for E in PORTFOLIO},
            "ppo": learning_a_second(one, single, scale, seed),
        }
        if python is not None:
            row["theirs"] = theirs(python, seed)
        found.append(row)
        print(f"{seed + 1} of {rounds}: {_line(row)}", flush=True)
    return found


def _line(row: dict[str, Any]) -> str:
    """A round in a line; environments' steps at the largest number of them."""
    figures = [f"{name} {max(row[name].values()):,.0f}" for name in ("single", "portfolio")] + [
        f"PPO {row['ppo']:,.0f}"
    ]
    if "theirs" in row:
        peer = row["theirs"]
        figures += [f"gym-anytrading {max(peer['steps'].values()):,.0f}", f"PPO on it {peer['defaults']:,.0f}"]
        figures += [f"with our settings {peer['ours']:,.0f}"]
    return ", ".join(figures) + " steps a second"


def claims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds against the floors."""
    most = str(SINGLE[1])
    made = [
        claim(f"batched environment, {name}, {E[1]} at once", [row[key][str(E[1])] for row in rows], "/s", floor)
        | {"at_256": middle([row[key]["256"] for row in rows])}
        for key, name, E, floor in (
            ("single", "one stock", SINGLE, 2e6), ("portfolio", f"portfolio of {STOCKS}", PORTFOLIO, 3e5),
        )
    ]  # fmt: skip
    made.append(claim("PPO from first to last, 256 environments", [row["ppo"] for row in rows], "/s", 25e3))
    if "theirs" not in rows[0]:
        return made
    dummy = [max(row["theirs"]["steps"].values()) for row in rows]
    ratios = [row["single"][most] / slow for row, slow in zip(rows, dummy, strict=True)]
    small = [row["single"]["256"] / slow for row, slow in zip(rows, dummy, strict=True)]
    against = claim("batched environment against DummyVecEnv over gym-anytrading", ratios, "x", 30)
    against |= {"at_256": middle(small), "theirs": middle(dummy)}
    peers = {key: [row["theirs"][key] for row in rows] for key in ("defaults", "ours")}
    faster = [row["ppo"] / max(row["theirs"]["defaults"], row["theirs"]["ours"]) for row in rows]
    made[2] |= {
        "gym-anytrading, 8 environments": {key: middle(figures) for key, figures in peers.items()},
        "times the faster of them": middle(faster),
    }
    return [*made[:2], against, made[2]]


def middle(figures: list[float]) -> float:
    found = statistics.median(figures)
    return round(found, 2 if found < 1000 else None)


def claim(text: str, figures: list[float], unit: str, floor: float) -> dict[str, Any]:
    """One row of the results: the median, with the least and the largest of the rounds as its interval."""
    return {
        "claim": text, "figure": middle(figures), "unit": unit, "floor": floor,
        "holds": statistics.median(figures) >= floor, "interval": [middle([min(figures)]), middle([max(figures)])],
        "versions": {name: version(name) for name in PACKAGES} | dict([ENVIRONMENT[-1].split("==")]), "cpu": cpu(),
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, and without gym-anytrading")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--environment", type=Path, default=Path(tempfile.gettempdir()) / "tradewind-gym-anytrading")
    options = parser.parse_args()
    python = None if options.quick else make_environment(options.environment)
    found = claims(measure(python, 1 if options.quick else options.rounds, 4096 if options.quick else 100_000))
    for each in found:
        verdict = "" if options.quick else ("holds" if each["holds"] else "FAILS")
        print(f"{each['claim']:<62}{each['figure']:14,.1f} {each['unit']:<3} floor {each['floor']:<12,.0f} {verdict}")
    if not options.quick:
        write(found, RESULTS)


if __name__ == "__main__":
    main()
