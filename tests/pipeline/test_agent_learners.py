"""The stage with the real learners, on few steps."""

from pathlib import Path

import pytest

from pipeline import agent, agent_policies
from pipeline.agent_learners import LEARNERS, Wanted
from pipeline.config_agent import Agent
from pipeline.registry import Registry
from tests.pipeline.agent_fixture import configured
from tests.pipeline.trading_fixture import RUN, build

STEPS = {"q_table": 4000, "genetic": 20_000, "dqn": 8000, "ppo": 9000}


@pytest.mark.parametrize("names", [("q_table", "genetic"), pytest.param(("dqn", "ppo"), marks=pytest.mark.slow)])
def test_real_learners_train_twice_alike_and_are_evaluated(tmp_path: Path, names: tuple[str, ...]):
    files = []
    for at in ("one", "other"):
        (tmp_path / at).mkdir()
        steps = max(STEPS[name] for name in names)
        config = configured(build(tmp_path / at)[0], algorithms=names, seeds=2, steps=steps, first_test="2010-01-04")
        agent.train(config)
        files.append((Registry(config.data.artifacts).run_dir(RUN) / agent.POLICIES).read_bytes())
    assert files[0] == files[1]
    held = agent_policies.read(Registry(config.data.artifacts).run_dir(RUN) / agent.POLICIES)
    assert [each[:2] for each in held[::2]] == [(name, block) for name in names for block in ("2010", "live")]
    found = agent.evaluate(config).figures
    assert [row["strategy"] for row in found["strategies"]][-2:] == list(names)


def test_every_algorithm_of_the_configuration_has_a_learner():
    section = Agent(environments=64)
    columns = ("log_vol_h1", "log_vol_h5", "q10", "q90", "p_up_h1", "p_up_h5", "rule_weight")
    assert set(LEARNERS) == set(section.algorithms)
    made = {name: LEARNERS[name](Wanted(section, None, columns)) for name in section.algorithms}
    assert made["q_table"].columns == (1,)  # the slowest forecast
    assert {made[name].environments for name in ("q_table", "dqn", "ppo")} == {64}
