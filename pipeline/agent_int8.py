"""Agents made small: the seeds of an algorithm as one int8 network, block by block, and what that changes.

Every block's network is made from that block's agents and training slice alone and walked through its test, so that the
figures are out of sample; the live one is what ships.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compact.export import with_hidden
from models.compact.onnx_graph import session
from models.compact.policy_distill import Committee, DistilConfig, distil
from models.compact.policy_graph import policy_graph
from models.compact.policy_quantize import quantize_policy
from models.compact.small_policy import BODY_LAYERS, FloatPolicy, IntegerPolicy
from models.trading.env import Markets, Rules
from models.trading.observation import COST_UNIT_BPS
from models.trading.policy import Policy
from pipeline import agent_trades
from pipeline.agent_data import Block, Task
from pipeline.evidence import equality
from pipeline.evidence.significance import Resampling

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

CHECKED = 4096
"""Observations on which ONNX Runtime and the NumPy reference are compared bit for bit."""


class Small(NamedTuple):
    """One block's agents as one network.

    teacher: the mean of the seeds. exact: distilled, in float32. int8: the same, quantized.
    held_out_error: root mean squared difference of `exact` from the teacher, over the limits' width, in the last
    sessions of training. same_body: whether ONNX Runtime computes the reference's integers, bit for bit.
    """

    teacher: Policy
    exact: FloatPolicy
    int8: IntegerPolicy
    held_out_error: float
    same_body: bool


def small(policies: Sequence[Policy], markets: Markets, rules: Rules, config: DistilConfig) -> Small:
    """The policies of one block's seeds as one int8 network.

    Args:
        policies: one a seed. markets: the block's training slice. rules: of its episodes. config: how to distil.
    """
    teacher = Committee(tuple(policies))
    found = distil(teacher, markets, rules, config)
    int8 = quantize_policy(found.policy, found.observations)
    seen = found.observations[:: max(1, len(found.observations) // CHECKED)]
    return Small(teacher, found.policy, int8, found.held_out_error, same_body(int8, seen))


def same_body(policy: IntegerPolicy, observations: Float32) -> bool:
    """Whether ONNX Runtime's integer layers are those of the NumPy reference on (R, D) observations, bit for bit."""
    graph = session(with_hidden(policy_graph(policy), BODY_LAYERS).SerializeToString())
    names = [f"hidden_{i}_q" for i in range(BODY_LAYERS)]
    found = graph.run(names, {"observation": observations})
    expected = policy.hidden(policy.frame.inputs(observations))
    return all(bool((a == b).all()) for a, b in zip(found, expected, strict=True))


def compared(task: Task, made: Mapping[str, Small], resampling: Resampling) -> dict[str, Any]:
    """What distilling and int8 change on the test sessions: JSON values.

    `target_change` of int8 against the network in float32 is decision by decision, both at the weight that the float
    one holds; the profit is that of both on paths of their own.

    Args:
        made: by block, every tested one. resampling: of the intervals.
    """
    blocks = [made[block.name] for block in task.tested]
    policies = [[each.teacher, each.exact, each.int8] for each in blocks]
    targets = agent_trades.agents(task, policies)  # (3, T, N)
    wealth = agent_trades.trade(task, targets, np.zeros(len(targets))).wealth  # (3, T)
    limits, year = task.rules.limits, task.setting.year
    width = float(limits.most - limits.least)
    held = _held(targets[1])
    teacher, exact, int8 = (_decided(task, made, which, held) for which in ("teacher", "exact", "int8"))
    claims = [
        equality.target_claim(exact, int8, width, resampling, against="float"),
        equality.profit_claim(wealth[1], wealth[2], year, resampling, against="float", floor=None),
        {**equality.target_claim(teacher, exact, width, resampling, against="agents", floor=None), "model": "float"},
        {
            **equality.profit_claim(wealth[0], wealth[1], year, resampling, against="agents", floor=None),
            "model": "float",
        },
    ]
    known = np.isfinite(exact)
    apart = 100 * np.abs(targets[2] - targets[1])[np.isfinite(targets[1]) & np.isfinite(targets[2])] / width
    return {
        "claims": claims,
        "n": int(known.sum()),
        "paths_apart_percent": {"mean": float(apart.mean()), "p99": float(np.percentile(apart, 99))},
        "integer_body_equal": all(each.same_body for each in made.values()),
        "held_out_error_percent": {name: 100 * each.held_out_error for name, each in made.items()},
        "passed": bool(claims[0]["holds"]) and all(each.same_body for each in made.values()),
    }


def observations(task: Task, block: Block, where: slice, weights: Floats) -> Float32:
    """(T * N, D) what a policy of a block sees in some sessions, at (T, N) weights held.

    Where there is no forecast it sees centres; `Task.ready` says where.
    """
    seen = task.scaling(block).transform(task.observed[where])
    own = np.stack([weights, np.full(weights.shape, rate(task))], axis=-1).astype(np.float32)
    return np.concatenate([seen, own], axis=-1).reshape(-1, seen.shape[-1] + own.shape[-1])


def rate(task: Task) -> float:
    """The cost of a trade as a policy sees it."""
    return float(task.rules.costs.rate[0]) * 1e4 / COST_UNIT_BPS


def _held(targets: Floats) -> Floats:
    """(T, N) weights held when each target was decided: the target before it, 0 before the first."""
    at = np.where(np.isfinite(targets), np.arange(len(targets))[:, None], -1)
    last = np.maximum.accumulate(at, axis=0)
    standing = np.where(last >= 0, np.take_along_axis(targets, np.maximum(last, 0), axis=0), 0.0)
    return np.concatenate([np.zeros((1, targets.shape[1])), standing[:-1]])


def _decided(task: Task, made: Mapping[str, Small], which: str, held: Floats) -> Floats:
    """(N, T) targets of every block's policy on its test at (T, N) weights held, NaN where there is no forecast."""
    first = agent_trades.tested(task).start
    found = np.full(held.shape, np.nan)
    for block in task.tested:
        where = slice(block.test_start, block.test_end)
        inside = slice(block.test_start - first, block.test_end - first)
        policy: Policy = getattr(made[block.name], which)
        seen = observations(task, block, where, held[inside])
        found[inside] = policy.target(seen).reshape(held[inside].shape)
    return np.where(task.ready[agent_trades.tested(task)], found, np.nan).T
