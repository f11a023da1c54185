from pathlib import Path

import numpy as np
import pytest

from models.trading.env import Markets, Rules
from models.trading.market import Costs
from models.trading.policy import Curve, Policy
from models.trading.policy_network import fresh
from models.trading.q_table import QTableConfig
from models.trading.residual_policy import GridPolicy, ResidualNetwork, WeightPolicy
from models.trading.rules import Banded
from pipeline.agent_policies import Agent, read, write
from pipeline.errors import StoreError
from tests.pipeline.agent_fixture import Leaning

K = 3
RULES = Rules(Costs(5.0, 0.0), length=10)
CURVE = Curve(np.array([10, 20]), np.array([0.5, -0.25]))


def markets() -> Markets:
    generator = np.random.default_rng(0)
    opens = np.exp(np.cumsum(0.01 * generator.standard_normal((2, 50, 1)), axis=1))
    playable = np.ones((2, 50), bool)
    playable[:, -2:] = False
    return Markets(opens, generator.standard_normal((2, 50, 1, K)).astype(np.float32), playable)


def residual(outputs: int) -> ResidualNetwork:
    generator = np.random.default_rng(1)
    shapes = ((K + 2, 4), (4,), (4, 4), (4,), (4, 4), (4,), (4, outputs), (outputs,))
    layers = tuple(generator.standard_normal(shape).astype(np.float32) for shape in shapes)
    return ResidualNetwork(layers, np.zeros(K + 2, np.float32), np.ones(K + 2, np.float32))


def policies() -> dict[str, Policy]:
    return {
        "genetic": fresh(markets(), RULES, 0),
        "q_table": QTableConfig(environments=8).learn(markets(), RULES, 800, 0).policy,
        "ppo": WeightPolicy(residual(1), 0.0, 1.0, 0.02),
        "dqn": GridPolicy(residual(11), RULES.grid),
        "rule": Banded(0, 0.5, 0.1, 0.05),
    }


@pytest.mark.parametrize("name", policies())
def test_a_policy_comes_back_and_decides_alike_to_the_bit(tmp_path: Path, name: str):
    policy = policies()[name]
    write(tmp_path / "p.npz", [Agent(name, "2009", 3, policy, CURVE)])
    (found,) = read(tmp_path / "p.npz")
    seen = np.random.default_rng(2).standard_normal((100, K + 2)).astype(np.float32)
    assert type(found.policy) is type(policy)
    assert found.policy.target(seen).tobytes() == policy.target(seen).tobytes()
    assert (found.algorithm, found.block, found.seed) == (name, "2009", 3)
    np.testing.assert_array_equal(found.curve.steps, CURVE.steps)
    np.testing.assert_array_equal(found.curve.reward, CURVE.reward)


def test_many_agents_keep_their_order_and_the_file_its_bytes(tmp_path: Path):
    agents = [Agent(name, block, 1, policy, CURVE) for name, policy in policies().items() for block in ("a", "live")]
    for name in ("one", "other"):
        write(tmp_path / f"{name}.npz", agents)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert [agent[:3] for agent in read(tmp_path / "one.npz")] == [agent[:3] for agent in agents]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npz", "other.npz"]


def test_the_file_needs_no_pickle(tmp_path: Path):
    write(tmp_path / "p.npz", [Agent("genetic", "a", 0, policies()["genetic"], CURVE)])
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert not any(file[name].dtype.hasobject for name in file.files)


def test_a_class_of_another_package_is_refused(tmp_path: Path):
    write(tmp_path / "p.npz", [Agent("q_table", "a", 0, Leaning(np.zeros(K + 2, np.float32), 0.5), CURVE)])
    with pytest.raises(StoreError, match=r"names a class of tests.pipeline.agent_fixture"):
        read(tmp_path / "p.npz")
    assert read(tmp_path / "p.npz", ("tests.pipeline",))[0].policy.target(np.ones((1, K + 2), np.float32)) == 0.5


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    for policy in (lambda seen: seen, Leaning(np.array([object()]), 0.5)):
        with pytest.raises(TypeError, match="cannot be written"):
            write(tmp_path / "p.npz", [Agent("q_table", "a", 0, policy, CURVE)])  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_missing_or_damaged_file_names_the_command(tmp_path: Path):
    path = tmp_path / "p.npz"
    with pytest.raises(StoreError, match=r"p.npz is missing; run: tradewind agent train"):
        read(path)
    write(path, [Agent("genetic", "a", 0, policies()["genetic"], CURVE)])
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content.replace(b"contents", b"discontx")):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"cannot be read .*run: tradewind agent train"):
            read(path)
