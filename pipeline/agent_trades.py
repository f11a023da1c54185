"""Agents and rules traded out of sample, all of them by `models.trading.sleeves` at the agents' cost.

What a policy wants depends on its own weight, so it is walked through the test first (models/trading/walk.py), each
ticker on its own; the targets it named are then traded like those of any rule. The agents of one seed follow one
another from block to block, and what the last one held the next one takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.trading import rules
from models.trading.observation import Scaling
from models.trading.policy import Policy
from models.trading.rules import Banded
from models.trading.sleeves import Sleeves
from models.trading.walk import Walk
from pipeline.agent_data import Block, Task

Floats = npt.NDArray[np.float64]

TICKERS_AT_ONCE = 64
"""Sleeves that are traded together; each is on its own, so that this changes memory and no byte."""
BANDS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20, 0.30)
"""Tried round the volatility target inside training."""
RULES = {
    "vol_target": "Volatility target",
    "vol_target_band": "Volatility target with tuned band",
    "constant": "Tuned constant exposure",
    "buy_and_hold": "Buy and hold",
    "equal_weight": "Equal weight",
    "momentum": "Momentum",
}


class Tuned(NamedTuple):
    """What the rules take from a training slice: the band round the volatility target, and a constant exposure."""

    band: float
    exposure: float


class Traded(NamedTuple):
    """S strategies on the T test sessions, after costs.

    alone: (S, N, T) wealth of each ticker's sleeve, NaN outside its life.
    wealth, turnover, costs: (S, T) of the portfolio of equal sleeves.
    """

    alone: Floats
    wealth: Floats
    turnover: Floats
    costs: Floats


def follow(scaling: Scaling, band: float) -> Banded:
    """The volatility target with a no-trade band as a policy of what agents see."""
    at = scaling.names.index("rule_weight")
    return Banded(at, float(scaling.scaler.center[at]), float(scaling.scaler.scale[at]), band)


def tuned(task: Task, block: Block) -> Tuned:
    """The band and the exposure that earned the most reward on the block's training slice; of equals the smaller."""
    scaling, end = task.scaling(block), block.train_end
    setting = task.setting
    walk = Walk(
        setting.opens[:end], setting.listed[:end], setting.own[:end], task.rules.costs, task.rules.limits, len(BANDS)
    )
    walk.go([follow(scaling, band) for band in BANDS], scaling.transform(task.observed[:end]), task.ready[:end], end)
    grid = task.rules.grid
    held = np.broadcast_to(grid[:, None, None], (len(grid), *walk.targets.shape[1:]))
    targets = np.concatenate([walk.targets, held])
    wealth = _alone(task, slice(0, end), targets, np.zeros(len(targets)))
    objective = np.nanmean(rules.rewards(wealth, task.rules.risk_aversion), axis=(1, 2))
    band, exposure = (int(np.argmax(part)) for part in np.split(objective, [len(BANDS)]))
    return Tuned(BANDS[band], float(grid[exposure]))


def tested(task: Task) -> slice:
    """The test sessions of all blocks."""
    return slice(task.tested[0].test_start, task.tested[-1].test_end)


def agents(task: Task, policies: Sequence[Sequence[Policy]]) -> Floats:
    """(S, T, N) targets of S seeds over the test sessions.

    Args:
        policies: for each test block in order, one a seed.
    """
    where, setting = tested(task), task.setting
    walk = Walk(
        setting.opens[where], setting.listed[where], setting.own[where], task.rules.costs, task.rules.limits,
        len(policies[0]),
    )  # fmt: skip
    ready = task.ready[where]
    for block, each in zip(task.tested, policies, strict=True):
        seen = task.scaling(block).transform(task.observed[where])
        walk.go(each, seen, ready, block.test_end - where.start)
    return walk.targets


def by_rule(task: Task, chosen: Sequence[Tuned], band: float) -> tuple[Floats, Floats]:
    """(S, T, N) targets of `RULES` in their order over the test sessions, and their (S,) no-trade bands.

    Args:
        chosen: for each test block. band: of the backtest, round the volatility target that ships.
    """
    where, setting = tested(task), task.setting
    sleeves = _sleeves(task, where, slice(None), pooled=False)
    exposure = np.empty(setting.opens[where].shape)
    for block, each in zip(task.tested, chosen, strict=True):
        exposure[block.test_start - where.start : block.test_end - where.start] = each.exposure
    banded = [[follow(task.scaling(b), each.band)] for b, each in zip(task.tested, chosen, strict=True)]
    found = {
        "vol_target": setting.weights[0][where],
        "vol_target_band": agents(task, banded)[0],
        "constant": exposure,
        "buy_and_hold": sleeves.buy_and_hold(),
        "equal_weight": np.ones(exposure.shape),
        "momentum": task.momentum[where],
    }
    bands = [band if name == "vol_target" else 0.0 for name in RULES]
    return np.stack([found[name] for name in RULES]), np.array(bands)


def trade(task: Task, targets: Floats, bands: Floats) -> Traded:
    """Trade (S, T, N) targets of the test sessions, with (S,) no-trade bands, at the agents' cost."""
    whole = _sleeves(task, tested(task), slice(None), pooled=True).run(targets, bands)
    return Traded(alone(task, targets, bands), whole.wealth[:, 0], whole.turnover[:, 0], whole.costs[:, 0])


def alone(task: Task, targets: Floats, bands: Floats, bps: float | None = None) -> Floats:
    """(S, N, T) wealth of every ticker's sleeve, at the agents' cost a side or another one."""
    return _alone(task, tested(task), targets, bands, bps)


def _alone(task: Task, where: slice, targets: Floats, bands: Floats, bps: float | None = None) -> Floats:
    parts = []
    for first in range(0, targets.shape[2], TICKERS_AT_ONCE):
        some = slice(first, first + TICKERS_AT_ONCE)
        parts.append(_sleeves(task, where, some, pooled=False, bps=bps).run(targets[:, :, some], bands).wealth)
    return np.concatenate(parts, axis=1)


def _sleeves(task: Task, where: slice, some: slice, pooled: bool, bps: float | None = None) -> Sleeves:
    """The market of some sessions and tickers, without a band, at the agents' cost or another a side."""
    costs = task.rules.costs if bps is None else task.rules.costs._replace(half_spread_bps=bps)
    setting = task.setting
    listed, own = setting.listed[where, some], setting.own[where, some]
    return Sleeves(setting.opens[where, some], listed, costs, 0.0, pooled, own)
