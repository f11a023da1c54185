"""Everything the report reads, loaded once and checked, so that a missing piece is one clear error."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.errors import StoreError
from pipeline.registry import Registry
from pipeline.reporting.agent_inputs import Agents, load_agents
from pipeline.store import Lake

_REQUIRED = {
    "training.json": (
        "tradewind train",
        (
            "run_id",
            "features",
            "horizons",
            "tables",
            "tickers",
            "left_out",
            "folds",
            "chosen",
            "status",
            "created_at",
            "data_label",
            "exclusions",
        ),
    ),
    "evidence.json": (
        "tradewind train",
        (
            "baseline",
            "confidence",
            "gate_level",
            "block_sessions",
            "n_effective_blocks",
            "first",
            "last",
            "best_baseline",
            "horizons",
            "models",
            "baselines",
            "samples",
            "losses",
            "gains",
            "verdicts",
            "gate",
            "comparisons",
            "confidence_sets",
            "superior",
            "coverage",
            "pit",
            "tails",
            "var",
            "direction",
            "reliability",
            "text_ablation",
            "widths",
            "importance",
        ),
    ),
    "equality.json": ("tradewind compress", ("outputs", "passed")),
    "backtest.json": (
        "tradewind backtest",
        ("first", "last", "costs", "target_volatility", "rolling_sessions", "strategies"),
    ),
}

_INDEX_TICKERS = ("SPX", "^GSPC", "SP500", "SPY", "GSPC")


@dataclass(frozen=True)
class Curves:
    """Wealth and rolling volatility of every (strategy, scope).

    Attributes:
        sessions: (T,) datetime64[D].
        strategy, scope: (C,) names; the scope is `portfolio` or a ticker.
        wealth: (C, T), 1 at the start; NaN outside the scope's life.
        realised_vol: (C, T) annual, trailing; NaN until known.
    """

    sessions: NDArray[np.datetime64]
    strategy: tuple[str, ...]
    scope: tuple[str, ...]
    wealth: NDArray[np.float64]
    realised_vol: NDArray[np.float64]

    def find(self, strategy: str, scope: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """(wealth, realised_vol) of one curve, or None."""
        for at, key in enumerate(zip(self.strategy, self.scope, strict=True)):
            if key == (strategy, scope):
                return self.wealth[at], self.realised_vol[at]
        return None


@dataclass(frozen=True)
class Inputs:
    """What the report is made of.

    Attributes:
        model: the forecaster that ships: the chosen one when promoted, else the baseline.
        quantized: the float model of which `int8` is the quantized form, promoted or not.
        forecasts: out-of-sample rows of `model`, `quantized` and `int8`.
        targets: realised returns of the same (ticker, session, horizon).
        headlines: the latest news, newest first.
        folds: contents of the fold files of the run, by name; empty where a file is absent.
        agents: of the run, if any were trained.
    """

    config: Config
    training: dict[str, Any]
    evidence: dict[str, Any]
    equality: dict[str, Any]
    backtest: dict[str, Any]
    curves: Curves
    model: str
    quantized: str
    forecasts: pd.DataFrame
    targets: pd.DataFrame
    headlines: pd.DataFrame
    folds: dict[str, dict[str, Any]]
    agents: Agents | None = None

    @property
    def promoted(self) -> bool:
        """Whether the gate let the chosen model replace the baseline."""
        return bool(self.training["status"] == "promoted")

    @property
    def universe(self) -> dict[str, Any]:
        """What training recorded of the universe (pipeline/universe.py); an older run named no file of members."""
        found: dict[str, Any] = self.training.get("universe") or {"members": None, "hindsight": True}
        return found

    @property
    def simulated(self) -> bool:
        """Whether headlines were generated rather than published."""
        sources = set(self.headlines["source"])
        return bool(self.training["data_label"] == "sample") or "simulated" in sources

    @property
    def ticker(self) -> str:
        """The ticker shown in detail: a broad index if there is one, else the first."""
        there = set(self.forecasts["ticker"])
        return next((name for name in _INDEX_TICKERS if name in there), min(there))


def load(config: Config) -> Inputs:
    """Read the latest run and the tables it wrote.

    Raises:
        StoreError: a stage has not run, a file lacks a key (the command that writes it is named), or the run
            has no out-of-sample forecasts in the lake.
    """
    registry, lake = Registry(config.data.artifacts), Lake.of(config.data)
    run_id = registry.latest_run()
    parts = {name: _checked(registry, run_id, name) for name in _REQUIRED}
    training, evidence = parts["training.json"], parts["evidence.json"]
    model = str(training["chosen"]) if training["status"] == "promoted" else str(evidence["baseline"])
    quantized = str(evidence["gate"]["model"])
    forecasts = _forecasts(lake, run_id, model, quantized)
    return Inputs(
        config=config,
        training=training,
        evidence=evidence,
        equality=parts["equality.json"],
        backtest=parts["backtest.json"],
        curves=_curves(registry.run_dir(run_id) / "backtest_curves.npz"),
        model=model,
        quantized=quantized,
        forecasts=forecasts,
        targets=lake.read("targets", order_by="ticker, session, horizon"),
        headlines=lake.news().tail(12).iloc[::-1].reset_index(drop=True),
        folds=_folds(registry, run_id, training["folds"]),
        agents=load_agents(registry, run_id),
    )


def _checked(registry: Registry, run_id: str, name: str) -> dict[str, Any]:
    command, keys = _REQUIRED[name]
    path = registry.root / "runs" / run_id / name
    if not path.is_file():
        raise StoreError(f"run {run_id} has no {name}; run: {command}")
    content = registry.read_json(run_id, name)
    missing = _absent(content, keys)
    if missing:
        raise StoreError(f"{name} of run {run_id} lacks {', '.join(missing)}; write it anew with: {command}")
    return content


def _absent(content: dict[str, Any], keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key not in content]


def _forecasts(lake: Lake, run_id: str, model: str, quantized: str) -> pd.DataFrame:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    models = ", ".join(quoted(name) for name in (model, quantized, "int8"))
    where = f"run_id = {quoted(run_id)} AND model IN ({models}) AND fold <> 'live'"
    rows = lake.read("forecasts", where, order_by="model, ticker, session, horizon")
    if rows.empty or not (rows["model"] == model).any():
        raise StoreError(f"the lake has no out-of-sample forecasts of {model} for run {run_id}; run: tradewind train")
    return rows


def _curves(path: Path) -> Curves:
    if not path.is_file():
        raise StoreError(f"the run has no {path.name}; run: tradewind backtest")
    try:
        with np.load(path, allow_pickle=False) as file:
            sessions = file["sessions"].astype("datetime64[D]")
            strategy, scope = (tuple(str(v) for v in file[name]) for name in ("strategy", "scope"))
            wealth, vol = (file[name].astype(np.float64) for name in ("wealth", "realised_vol"))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path.name} cannot be read ({error}); write it anew with: tradewind backtest") from error
    if wealth.shape != (len(strategy), len(sessions)) or vol.shape != wealth.shape or len(scope) != len(strategy):
        raise StoreError(f"{path.name}: curves of shape {wealth.shape} do not fit {len(strategy)} strategies")
    return Curves(sessions, strategy, scope, wealth, vol)


def _folds(registry: Registry, run_id: str, names: list[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for name in names:
        there = (registry.root / "runs" / run_id / "networks" / f"{name}.json").is_file()
        found[name] = registry.read_json(run_id, f"networks/{name}.json") if there else {}
    return found
