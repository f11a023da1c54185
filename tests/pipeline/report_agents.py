"""What the agent stage leaves for the report: an evaluation of synthetic figures, and learning curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.agent_data import Block
from pipeline.agent_evidence import FEES_BPS, Field, Panel, judged
from pipeline.agent_trades import RULES
from pipeline.evidence.significance import Resampling
from pipeline.registry import Registry
from tests.pipeline.report_pieces import RUN

ALGORITHMS = {"ppo": 2e-4, "q_table": -1e-4}
SEEDS, T = 10, 900
BLOCKS = (Block("2010-2011", 470, 500, 1000), Block("2012-2013", 970, 1000, 1400))


def evaluation() -> dict[str, Any]:
    """Two algorithms beside six rules: PPO earns two basis points a session more, the table one less."""
    rng = np.random.default_rng(5)
    field = Field(
        {name: at for at, name in enumerate(RULES)},
        {name: range(6 + at * SEEDS, 6 + (at + 1) * SEEDS) for at, name in enumerate(ALGORITHMS)},
    )
    gains = np.repeat([0.0, *ALGORITHMS.values()], [6, SEEDS, SEEDS]) + 2e-5 * rng.standard_normal(6 + 2 * SEEDS)
    common = 4e-3 * rng.standard_normal((3, T))
    reward = gains[:, None, None] + common + 1e-3 * rng.standard_normal((len(gains), 3, T))
    wealth = np.exp(np.cumsum(reward.mean(axis=1), axis=-1))
    panel = Panel(reward, wealth, np.full(wealth.shape, 0.02), np.full(wealth.shape, 1e-5))
    fees = 252 * reward.mean(axis=(1, 2)) - 2e-3 * np.array(FEES_BPS)[:, None]
    resampling = Resampling(0.95, 0.01, 200, 20, 10, 7)
    found = judged(panel, field, BLOCKS, 252.0, fees, resampling)
    deflated = [
        {"strategy": name, "sharpe": {"probability": 0.4 + 0.1 * at}, "gain": None}
        for at, name in enumerate(ALGORITHMS)
    ]
    heading = {
        "identity": "one", "model": "int8", "first": "2010-01-04", "last": "2013-03-28", "tickers": 3, "blocks": 2,
        "n_seeds": SEEDS, "steps": 100_000, "cost_bps": 5.0, "risk_aversion": 3.0,
        "universe_note": "Chosen <b>late</b>.",
    }  # fmt: skip
    return heading | found | {"deflated": {"trials": 23, "agents": 20, "strategies": deflated}}


def training() -> dict[str, Any]:
    return {
        "identity": "one",
        "model": "int8",
        "algorithms": list(ALGORITHMS),
        "seeds": list(range(SEEDS)),
        "settings": {"steps": 100_000, "cost_bps": 5.0},
        "blocks": [{"name": "2010-2011", "test_first": "2010-01-04"}, {"name": "live"}],
    }


def add_agents(root: Path, evaluated: bool = True) -> None:
    """Write agents into the run under `root`, an artifacts directory."""
    registry = Registry(root)
    registry.write_json(RUN, "agent.json", training())
    if evaluated:
        registry.write_json(RUN, "agent_evaluation.json", evaluation())
    rng = np.random.default_rng(0)
    each = [(name, block, seed) for name in ALGORITHMS for block in ("2010-2011", "live") for seed in range(SEEDS)]
    steps = np.arange(5_000, 100_001, 5_000)
    reward = 0.05 * steps / steps[-1] + 0.01 * rng.standard_normal((len(each), len(steps)))
    np.savez_compressed(
        registry.run_dir(RUN) / "agent_curves.npz",
        algorithm=np.array([name for name, _, _ in each]),
        block=np.array([block for _, block, _ in each]),
        seed=np.array([seed for _, _, seed in each]),
        length=np.full(len(each), len(steps)),
        steps=np.tile(steps, len(each)),
        reward=reward.ravel(),
    )
