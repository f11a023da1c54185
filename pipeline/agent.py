"""agent: trading agents on the forecasts of the latest run, trained walk-forward and held against the rules to beat.

    train     algorithm x seed x block, each on the sessions before its block; kept as they are done
    evaluate  every agent and every rule traded out of sample at the same cost; intervals over seeds and sessions
    compare   the table of the latest evaluation

Left in the run directory: agent.json, agent_policies.npz and agent_curves.npz by the first, agent_evaluation.json and
agent_wealth.npz by the second. Every agent is a trial in the ledger, one an algorithm and seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.trading import rules
from models.trading.sizing import SESSIONS_PER_YEAR
from pipeline import agent_evidence, agent_fits, agent_policies, agent_trades, deflation, universe, walkforward
from pipeline.agent_data import LIVE, Task, facts, fingerprint, task_of
from pipeline.agent_evidence import FEES_BPS, Field, Panel
from pipeline.agent_fits import Fit, Lesson
from pipeline.agent_learners import LEARNERS, Make, Wanted
from pipeline.agent_lines import curve_lines, table
from pipeline.agent_policies import TRUSTED, Agent
from pipeline.agent_trades import RULES, Tuned
from pipeline.agent_trials import record, trial
from pipeline.config import Config
from pipeline.errors import StoreError
from pipeline.evidence import performance
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

Floats = npt.NDArray[np.float64]

TRAINED, EVALUATED = "agent.json", "agent_evaluation.json"
POLICIES, CURVES, WEALTH = "agent_policies.npz", "agent_curves.npz", "agent_wealth.npz"


class Prepared(NamedTuple):
    """The task, what each block's agents learn from, and what rules take from its training slice."""

    task: Task
    lessons: list[Lesson]
    chosen: list[Tuned]

    @property
    def digest(self) -> str:
        """Of everything that agents learn from."""
        return "-".join(lesson.digest[:8] for lesson in self.lessons)


def train(
    config: Config,
    progress: Progress = silent,
    kind: str = "cli",
    learners: Mapping[str, Make] = LEARNERS,
    trusted: Sequence[str] = TRUSTED,
) -> Summary:
    """Train every agent that is not trained yet; writes agent.json, policies, learning curves and rows of `trials`.

    Args:
        config: the configuration.
        progress: called as work goes on.
        kind: who started it, for the trial ledger: cli or flow.
        learners: by name, those of `agent.algorithms` among them.
        trusted: packages whose policies may be read back.

    Raises:
        StoreError: nothing has been trained, its forecasts or features are not in the lake, or a file is damaged.
        UsageError: `agent.features` names one that is not in the table.
        TooLittleHistoryError: too few sessions with forecasts to learn from and be tested on.
        DataError: no forecast meets a price, or an algorithm cannot learn.
    """
    lake, registry = Lake.of(config.data), Registry(config.data.artifacts)
    prepared = _prepared(config, lake, registry, progress)
    run_id, task = prepared.task.run_id, prepared.task
    fits = list(_fits(config, prepared, learners))
    home = registry.run_dir(run_id)
    agents = agent_fits.learn(
        fits, task.rules, config, home / "agents", lambda n: progress("training agents", n, len(fits)), trusted
    )
    agent_policies.write(home / POLICIES, agents)
    _write(home, CURVES, _curves(agents))
    content = _content(config, prepared)
    registry.write_json(run_id, TRAINED, content)
    each = [(name, seed) for name in config.agent.algorithms for seed in seeds_of(config)]
    record(lake, [trial(config, lake, run_id, prepared.digest, name, seed, kind) for name, seed in each])
    lines = (
        f"agents of run {run_id}: {len(each)}, each on {len(task.tested)} test blocks and {LIVE}; "
        f"{config.agent.steps:,} steps, {config.agent.cost_bps:g} bps a side",
        *curve_lines(agents),
        f"{deflation.tried(lake).trials:,} trials are in the ledger; next: tradewind agent evaluate",
    )
    return Summary("agent train", lines, {"run_id": run_id, **content})


def evaluate(
    config: Config, progress: Progress = silent, kind: str = "cli", trusted: Sequence[str] = TRUSTED
) -> Summary:
    """Trade every agent and every rule out of sample; writes agent_evaluation.json, agent_wealth.npz, rows of `trials`.

    Args: as `train`.

    Raises:
        StoreError: no agents were trained on the latest run with these settings, or as `train`.
    """
    lake, registry = Lake.of(config.data), Registry(config.data.artifacts)
    held = _held(registry)
    prepared = _prepared(config, lake, registry, progress, held["rules"])
    task, run_id = prepared.task, prepared.task.run_id
    if held["identity"] != _identity(config, prepared):
        raise StoreError(
            f"the agents of run {run_id} were trained on other data or by other settings; run: tradewind agent train"
        )
    agents = agent_policies.read(registry.run_dir(run_id) / POLICIES, trusted)
    targets, bands, field = _strategies(config, prepared, agents, progress)
    panel, fees = _traded(config, task, targets, bands, progress)
    found = agent_evidence.judged(panel, field, task.tested, task.setting.year, fees, walkforward.resampling(config))
    figures = {(name, seed): _recorded(panel, at) for name, seed, at in _places(config, field)}
    record(lake, [trial(config, lake, run_id, prepared.digest, *who, kind, values) for who, values in figures.items()])
    deflated = _deflated(config, lake, task, panel, field)
    evaluation = {"identity": held["identity"], **_heading(config, task), **found, "deflated": deflated}
    registry.write_json(run_id, EVALUATED, evaluation)
    _write(registry.run_dir(run_id), WEALTH, _wealth(task, config, panel, field))
    return Summary("agent evaluate", tuple(table(evaluation)), {"run_id": run_id, **evaluation})


def compare(config: Config, progress: Progress = silent) -> Summary:
    """The table of the latest evaluation.

    Raises:
        StoreError: nothing has been trained; or its agents have not been trained or evaluated.
    """
    registry = Registry(config.data.artifacts)
    held, run_id = _held(registry), registry.latest_run()
    if not (registry.run_dir(run_id) / EVALUATED).is_file():
        raise StoreError(f"the agents of run {run_id} have not been evaluated; run: tradewind agent evaluate")
    evaluation = registry.read_json(run_id, EVALUATED)
    if evaluation["identity"] != held["identity"]:
        raise StoreError(f"the agents of run {run_id} were trained anew; run: tradewind agent evaluate")
    return Summary("agent compare", tuple(table(evaluation)), {"run_id": run_id, **evaluation})


def seeds_of(config: Config) -> list[int]:
    """One an agent of each algorithm."""
    return [config.models.seed + at for at in range(config.agent.seeds)]


def _held(registry: Registry) -> dict[str, Any]:
    run_id = registry.latest_run()
    if not (registry.run_dir(run_id) / TRAINED).is_file():
        raise StoreError(f"no agents have been trained on run {run_id}; run: tradewind agent train")
    return registry.read_json(run_id, TRAINED)


def _prepared(
    config: Config,
    lake: Lake,
    registry: Registry,
    progress: Progress,
    known: Sequence[Mapping[str, Any]] | None = None,
) -> Prepared:
    """The task of the latest run; what rules take from training slices is taken anew, or read from agent.json."""
    task = task_of(config, lake, registry)
    lessons, chosen = [], [Tuned(row["band"], row["exposure"]) for row in known or ()]
    for done, block in enumerate(task.blocks):
        progress("preparing agents", done, len(task.blocks))
        markets = task.markets(block)
        lessons.append(Lesson(block.name, markets, fingerprint(markets)))
        if known is None:
            chosen.append(agent_trades.tuned(task, block))
    progress("preparing agents", len(task.blocks), len(task.blocks))
    return Prepared(task, lessons, chosen)


def _fits(config: Config, prepared: Prepared, learners: Mapping[str, Make]) -> Iterator[Fit]:
    """Algorithm, then block, then seed."""
    task, pretrain = prepared.task, config.agent.pretrain
    for name in config.agent.algorithms:
        for block, lesson, chosen in zip(task.blocks, prepared.lessons, prepared.chosen, strict=True):
            band = chosen.band if pretrain == "band" else 0.0
            teacher = None if pretrain == "none" else agent_trades.follow(task.scaling(block), band)
            learner = learners[name](Wanted(config.agent, teacher, task.columns))
            for seed in seeds_of(config):
                yield Fit(name, lesson, seed, learner)


def _identity(config: Config, prepared: Prepared) -> str:
    return agent_fits.identity([lesson.digest for lesson in prepared.lessons], config)


def _content(config: Config, prepared: Prepared) -> dict[str, Any]:
    """agent.json: what was trained, on what, by which settings; JSON values."""
    task = prepared.task
    return {
        "identity": _identity(config, prepared),
        "settings": agent_fits.settings_of(config),
        "algorithms": list(config.agent.algorithms),
        "seeds": seeds_of(config),
        **facts(task),
        "rules": [
            {"block": block.name, **chosen._asdict()}
            for block, chosen in zip(task.blocks, prepared.chosen, strict=True)
        ],
        "scaling": {block.name: task.scaling(block).to_json() for block in task.blocks},
    }


def _strategies(
    config: Config, prepared: Prepared, agents: Sequence[Agent], progress: Progress
) -> tuple[Floats, Floats, Field]:
    """(S, T, N) targets of the rules and of every agent over the test sessions, their (S,) bands, and who is where."""
    task, count = prepared.task, len(config.agent.algorithms)
    policies = {(agent.algorithm, agent.block, agent.seed): agent.policy for agent in agents}
    ruled, bands = agent_trades.by_rule(task, prepared.chosen[: len(task.tested)], config.backtest.band)
    targets = [ruled]
    places: dict[str, list[int]] = {}
    for done, name in enumerate(config.agent.algorithms):
        progress("walking agents through the test", done, count)
        first = len(RULES) + done * config.agent.seeds
        places[name] = list(range(first, first + config.agent.seeds))
        by_block = [[policies[name, block.name, seed] for seed in seeds_of(config)] for block in task.tested]
        targets.append(agent_trades.agents(task, by_block))
    progress("walking agents through the test", count, count)
    every = np.concatenate(targets)
    field = Field({name: at for at, name in enumerate(RULES)}, places)
    return every, np.concatenate([bands, np.zeros(len(every) - len(bands))]), field


def _traded(config: Config, task: Task, targets: Floats, bands: Floats, progress: Progress) -> tuple[Panel, Floats]:
    """The panel at the agents' cost, and (F, S) objectives at every fee, as fractions a year."""
    aversion = config.agent.risk_aversion
    traded = agent_trades.trade(task, targets, bands)
    reward = rules.rewards(traded.alone, aversion)
    panel = Panel(reward, traded.wealth, traded.turnover, traded.costs)
    fees = []
    for done, bps in enumerate(FEES_BPS):
        progress("trading at other fees", done, len(FEES_BPS))
        alone = agent_trades.alone(task, targets, bands, bps)
        fees.append(task.setting.year * np.nanmean(rules.rewards(alone, aversion), axis=(1, 2)))
    progress("trading at other fees", len(FEES_BPS), len(FEES_BPS))
    return panel, np.stack(fees)


def _places(config: Config, field: Field) -> Iterator[tuple[str, int, int]]:
    """Algorithm, seed and place of every agent."""
    for name, at in field.seeds.items():
        yield from ((name, seed, place) for seed, place in zip(seeds_of(config), at, strict=True))


def _recorded(panel: Panel, at: int) -> dict[str, float]:
    """What the ledger keeps of an agent: Sharpe ratio and objective a session; none where it never moved."""
    wealth = panel.wealth[at]
    found = {"sharpe": float(performance.sharpe(wealth)) / math.sqrt(SESSIONS_PER_YEAR)}
    found["objective"] = float(np.nanmean(panel.reward[at]))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _heading(config: Config, task: Task) -> dict[str, Any]:
    first, last = task.tested[0].test_start, task.tested[-1].test_end - 1
    return {
        "model": task.setting.model,
        "first": f"{task.setting.sessions[first]:%Y-%m-%d}",
        "last": f"{task.setting.sessions[last]:%Y-%m-%d}",
        "tickers": len(task.setting.tickers),
        "blocks": len(task.tested),
        "n_seeds": config.agent.seeds,
        "steps": config.agent.steps,
        "cost_bps": config.agent.cost_bps,
        "risk_aversion": config.agent.risk_aversion,
        "universe_note": universe.sentence(task.setting.universe),
    }


def _deflated(config: Config, lake: Lake, task: Task, panel: Panel, field: Field) -> dict[str, Any]:
    """Every rule, and the seed of each algorithm with the best Sharpe ratio, as if it were the best of all trials."""
    wealth = {name: panel.wealth[at] for name, at in field.rules.items()}
    for name, at in field.seeds.items():
        sharpes = np.nan_to_num(performance.sharpe(panel.wealth[at]), nan=-np.inf)
        wealth[name] = panel.wealth[at[int(np.argmax(sharpes))]]
    found = deflation.judged(wealth, {}, deflation.tried(lake), config.evidence.confidence, task.setting.year)
    kept = ("trials", "agents", "recorded_sharpes", "confidence", "meaning", "strategies")
    return {name: found[name] for name in kept}


def _curves(agents: Sequence[Agent]) -> dict[str, npt.NDArray[Any]]:
    """algorithm, block, seed, length (C,) of the curves; steps and reward of all of them in a row."""
    return {
        "algorithm": np.array([agent.algorithm for agent in agents]),
        "block": np.array([agent.block for agent in agents]),
        "seed": np.array([agent.seed for agent in agents]),
        "length": np.array([len(agent.curve.steps) for agent in agents]),
        "steps": np.concatenate([agent.curve.steps for agent in agents]),
        "reward": np.concatenate([agent.curve.reward for agent in agents]),
    }


def _wealth(task: Task, config: Config, panel: Panel, field: Field) -> dict[str, npt.NDArray[Any]]:
    """sessions (T,); strategy, seed (S,), the seed -1 for a rule; wealth (S, T) of the portfolio."""
    named = [(name, -1) for name in field.rules] + [(name, seed) for name, seed, _ in _places(config, field)]
    return {
        "sessions": task.setting.sessions[agent_trades.tested(task)].to_numpy().astype("datetime64[D]"),
        "strategy": np.array([name for name, _ in named]),
        "seed": np.array([seed for _, seed in named]),
        "wealth": panel.wealth,
    }


def _write(home: Path, name: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
    partial = home / f".{name}.partial.npz"
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.replace(home / name)
