"""agent ship: the best agents of the latest evaluation as an int8 policy in the bundle that scores.

The algorithm with the highest objective over its seeds ships, all its seeds as one network. The champion's files are
copied into a new version of the bundle, the policy is added, and the new version becomes champion; the old one stays as
it was. Written to the run directory: agent_policy.json.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from models.compact import bundle as bundles
from models.compact.bundle import Bundle
from models.compact.export import save
from models.compact.policy_distill import DistilConfig
from models.compact.policy_graph import policy_graph
from models.compact.policy_runtime import PolicyScorer
from models.compact.runtime import Scorer
from models.compact.small_policy import IntegerPolicy
from models.trading.env import Markets
from pipeline import agent_fits, agent_int8, agent_policies, walkforward
from pipeline.agent import EVALUATED, POLICIES, TRAINED
from pipeline.agent_data import LIVE, Task, facts, fingerprint, task_of
from pipeline.agent_evidence import BEATS, label
from pipeline.agent_int8 import Small
from pipeline.agent_policies import TRUSTED, Agent
from pipeline.config import Config
from pipeline.errors import DataError, StoreError
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

SHIPPED = "agent_policy.json"
GOLDEN = 64
DECAYS = (0.5, 1.0, 2.0)
"""Weight decay in distilling, tried in turn until int8 equals float: the larger, the smoother the policy."""


class Ready(NamedTuple):
    """What is shipped: the task of a run, every training slice, the best algorithm and its agents, and where to."""

    run_id: str
    task: Task
    markets: dict[str, Markets]
    evaluation: Mapping[str, Any]
    algorithm: str
    agents: list[Agent]
    champion: Bundle


def ship(
    config: Config,
    progress: Progress = silent,
    trusted: Sequence[str] = TRUSTED,
    distilling: DistilConfig | None = None,
) -> Summary:
    """Distil, quantize, compare out of sample, publish a bundle with the policy.

    Args:
        config: the configuration that the agents were trained by.
        progress: called as work goes on.
        trusted: packages whose policies may be read back.
        distilling: how to distil; by default with the configuration's seed.

    Raises:
        StoreError: there is no bundle, no agents, no evaluation of them, or they belong to other data or settings.
        DataError: the champion is of another run, or the int8 policy is not equal to the float one.
        BundleError: the champion is damaged.
    """
    registry = Registry(config.data.artifacts)
    ready = _ready(config, registry, trusted)
    made, found = _made(config, ready, distilling or DistilConfig(seed=config.models.seed), progress)
    seeds = sorted({agent.seed for agent in ready.agents})
    record = {"algorithm": ready.algorithm, "seeds": seeds, "identity": ready.evaluation["identity"], **found}
    if not found["passed"]:
        registry.write_json(ready.run_id, SHIPPED, record | {"bundle_version": None})
        raise DataError(
            f"the int8 policy of {label(ready.algorithm)} is not equal to the float one, so it is not shipped; see "
            f"{SHIPPED} of run {ready.run_id}"
        )
    section = _section(config, ready, made[LIVE], record)
    published = publish(registry, ready.champion, made[LIVE].int8, section, *_golden(ready.task))
    registry.write_json(ready.run_id, SHIPPED, record | {"bundle_version": published.version})
    registry.set_champion(published.version)
    figures = {"version": published.version, "path": str(published.directory), **record}
    return Summary("agent ship", _lines(published, record, _verdicts(ready)), figures)


def best(evaluation: Mapping[str, Any]) -> str:
    """The algorithm with the highest objective over its seeds; of equals the first."""
    rows = [row for row in evaluation["strategies"] if row["kind"] == "agent" and row["objective"] is not None]
    if not rows:
        raise StoreError("the latest evaluation has no agent with an objective; run: tradewind agent evaluate")
    return str(max(rows, key=lambda row: row["objective"])["strategy"])


def publish(
    registry: Registry, base: Bundle, policy: IntegerPolicy, section: dict[str, Any], raw: Any, scaled: Any
) -> Bundle:
    """A new version of a published bundle with a policy in it, checked before it can be seen.

    The version is the base's with a digest of the policy behind it: the same policy gives the same version.

    Args:
        base: a published bundle; a policy that it has is replaced. section: the manifest's key `policy`.
        raw, scaled: (R, D) golden observations, before and after scaling; the last row has no forecast.
    """
    plain = str(base.manifest.get("policy", {}).get("base_version", base.version))
    section = {**section, "base_version": plain}
    graph = policy_graph(policy)
    digest = hashlib.sha256(graph.SerializeToString(deterministic=True))
    digest.update(json.dumps(section, sort_keys=True).encode())
    version = f"{plain}-policy-{digest.hexdigest()[:8]}"
    with registry.publishing(version) as staging:
        for name in (*bundles.FILES, *(bundles.TWINS if base.has_twins else ())):
            shutil.copyfile(base.directory / name, staging / name)
        save(graph, staging / bundles.POLICY[0])
        weights = policy.target(scaled)[:, 0]
        weights[-1] = np.nan
        np.savez_compressed(staging / bundles.POLICY[1], observation=raw, weights=weights)
        sealed = bundles.seal(staging, {**base.manifest, "version": version, "policy": section})
        Scorer(sealed).self_check()
        for runtime in ("onnxruntime", "numpy"):
            PolicyScorer(sealed, runtime).self_check()
    return bundles.load(registry.root / "bundles" / version)


def _ready(config: Config, registry: Registry, trusted: Sequence[str]) -> Ready:
    run_id = registry.latest_run()
    home = registry.run_dir(run_id)
    for name, command in ((TRAINED, "train"), (EVALUATED, "evaluate")):
        if not (home / name).is_file():
            raise StoreError(f"run {run_id} has no {name}; run: tradewind agent {command}")
    evaluation = registry.read_json(run_id, EVALUATED)
    champion = bundles.load(registry.champion())
    of = champion.manifest["training"]["run_id"]
    if of != run_id:
        raise DataError(
            f"bundle {champion.version} is of run {of}, the agents are of {run_id}; run: tradewind compress"
        )
    task = task_of(config, Lake.of(config.data), registry)
    markets = {block.name: task.markets(block) for block in task.blocks}
    if agent_fits.identity([fingerprint(each) for each in markets.values()], config) != evaluation["identity"]:
        raise StoreError(
            f"the agents of run {run_id} were trained on other data or by other settings; run: tradewind agent train, "
            "tradewind agent evaluate"
        )
    algorithm = best(evaluation)
    agents = [each for each in agent_policies.read(home / POLICIES, trusted) if each.algorithm == algorithm]
    return Ready(run_id, task, markets, evaluation, algorithm, agents, champion)


def _made(
    config: Config, ready: Ready, distilling: DistilConfig, progress: Progress
) -> tuple[dict[str, Small], dict[str, Any]]:
    """Every block's agents as one network, and the comparison; smoother ones where int8 does not equal float."""
    made: dict[str, Small] = {}
    for decay in DECAYS:
        wanted = replace(distilling, decay=decay)
        for done, (name, markets) in enumerate(ready.markets.items()):
            progress("making agents small", done, len(ready.markets))
            members = [agent.policy for agent in ready.agents if agent.block == name]
            made[name] = agent_int8.small(members, markets, ready.task.rules, wanted)
        progress("making agents small", len(ready.markets), len(ready.markets))
        found = agent_int8.compared(ready.task, made, walkforward.resampling(config)) | {"decay": decay}
        if found["passed"]:
            break
    return made, found


def _section(config: Config, ready: Ready, live: Small, record: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's key `policy`, JSON values."""
    task, block = ready.task, ready.task.blocks[-1]
    about = next(row for row in facts(task)["blocks"] if row["name"] == LIVE)
    change, profit = record["claims"][:2]
    return {
        "observation": task.scaling(block).to_json(),
        "horizons": list(task.horizons),
        "horizon": config.backtest.horizon,
        "target_volatility": config.backtest.target_volatility,
        "max_weight": config.backtest.max_weight,
        "features": list(config.agent.features),
        "limits": {"least": float(task.rules.limits.least), "most": float(task.rules.limits.most)},
        "cost_bps": [config.agent.cost_bps],
        "risk_aversion": config.agent.risk_aversion,
        "trained": {
            "run_id": ready.run_id,
            "algorithm": ready.algorithm,
            "seeds": record["seeds"],
            "steps": config.agent.steps,
            "first": about["train_first"],
            "last": about["train_last"],
            "held_out_error": live.held_out_error,
            "rules": len(_verdicts(ready)),
            "beaten": _beaten(_verdicts(ready)),
        },
        "equality": {
            name: {key: row[key] for key in ("figure", "low", "high", "unit")}
            for name, row in (("target_change", change), ("net_profit", profit))
        },
    }


def _verdicts(ready: Ready) -> list[Mapping[str, Any]]:
    """The shipped algorithm against each rule, out of sample."""
    return [row for row in ready.evaluation["comparisons"] if row["algorithm"] == ready.algorithm]


def _beaten(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(row["rule"]) for row in verdicts if row["verdict"] == BEATS]


def _golden(task: Task) -> tuple[Any, Any]:
    """(65, D) observations, raw and scaled: the last of the tickers that have any, at all weights; then one unknown."""
    block, ready = task.blocks[-1], task.ready
    t, n = (at[-GOLDEN:] for at in np.nonzero(ready))
    low, high = float(task.rules.limits.least), float(task.rules.limits.most)
    weights = np.linspace(low, high, len(t) + 1)
    raw = np.concatenate([task.observed[t, n], np.full((1, task.observed.shape[-1]), np.nan, np.float32)])
    rate = agent_int8.rate(task)
    own = np.stack([weights, np.full(len(weights), rate)], axis=-1).astype(np.float32)
    return np.hstack([raw, own]), np.hstack([task.scaling(block).transform(raw), own])


def _lines(bundle: Bundle, record: Mapping[str, Any], verdicts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    change, profit, far, cost = record["claims"]
    beaten = _beaten(verdicts)

    def span(row: Mapping[str, Any], form: str) -> str:
        low, high = ("unknown" if row[end] is None else format(row[end], form) for end in ("low", "high"))
        return f"{format(row['figure'], form)} {row['unit']} [{low}, {high}]"

    return (
        f"bundle {bundle.version} with the policy of {label(record['algorithm'])}, {len(record['seeds'])} seeds as "
        f"one, in {bundle.directory}",
        f"int8 against float32 on {record['n']:,} out-of-sample decisions: target weights within {span(change, '.3f')} "
        f"of the limit (99th percentile), profit {span(profit, '+.2f')} a year",
        f"float32 against the agents: targets within {span(far, '.1f')} of the limit (99th percentile), profit "
        f"{span(cost, '+.1f')} a year",
        f"{label(record['algorithm'])} beats {len(beaten)} of {len(verdicts)} rules out of sample; "
        "today follows it with --set agent.use=true",
    )
