"""The learners by name, made from the configuration; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from models.trading.policy import Learner, Policy
from pipeline.config_agent import Agent

Make = Callable[[Agent, Policy | None], Learner]
"""From the section of the configuration, and the rule to imitate first, to a learner."""


def _q_table(agent: Agent, teacher: Policy | None) -> Learner:
    from models.trading.q_table import QTableConfig

    return QTableConfig(environments=agent.environments)


def _dqn(agent: Agent, teacher: Policy | None) -> Learner:
    from models.trading.deep import DQNConfig

    return DQNConfig(teacher=teacher, environments=agent.environments)


def _ppo(agent: Agent, teacher: Policy | None) -> Learner:
    from models.trading.deep import PPOConfig

    return PPOConfig(teacher=teacher, environments=agent.environments)


def _genetic(agent: Agent, teacher: Policy | None) -> Learner:
    from models.trading.genetic import GeneticConfig

    return GeneticConfig(environments=agent.environments)


LEARNERS: Mapping[str, Make] = {"q_table": _q_table, "dqn": _dqn, "ppo": _ppo, "genetic": _genetic}
