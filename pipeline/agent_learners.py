"""The learners by name, made from the configuration; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from models.trading.policy import Learner, Policy
from pipeline.config_agent import Agent


class Wanted(NamedTuple):
    """What a learner is made from.

    agent: the section of the configuration. teacher: the rule to imitate first, or None. columns: names of what is
    observed, in order.
    """

    agent: Agent
    teacher: Policy | None
    columns: tuple[str, ...]


Make = Callable[[Wanted], Learner]


def _q_table(wanted: Wanted) -> Learner:
    from models.trading.q_table import QTableConfig

    # The forecast that moves slowest makes the state: a table of more columns has too many cells for its steps.
    slowest = max(at for at, name in enumerate(wanted.columns) if name.startswith("log_vol_h"))
    return QTableConfig(columns=(slowest,), environments=wanted.agent.environments)


def _dqn(wanted: Wanted) -> Learner:
    from models.trading.deep import DQNConfig

    return DQNConfig(teacher=wanted.teacher, environments=wanted.agent.environments)


def _ppo(wanted: Wanted) -> Learner:
    from models.trading.deep import PPOConfig

    return PPOConfig(teacher=wanted.teacher, environments=wanted.agent.environments)


def _genetic(wanted: Wanted) -> Learner:
    from models.trading.genetic import GeneticConfig

    return GeneticConfig()


LEARNERS: Mapping[str, Make] = {"q_table": _q_table, "dqn": _dqn, "ppo": _ppo, "genetic": _genetic}
