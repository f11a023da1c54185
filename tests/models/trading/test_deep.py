from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from models.trading.deep import DQNConfig, PPOConfig, ResidualTrunk
from models.trading.env import Batch, Markets
from models.trading.policy import Curve, Learner, Policy, play
from models.trading.pretraining import watch
from models.trading.residual_policy import (
    GridPolicy,
    ResidualNetwork,
    WeightPolicy,
    grid_targets,
    idle_targets,
    nearest,
)
from pipeline import agent_policies
from tests.models.trading import learning
from tests.models.trading.known_markets import Known, banded, random_walk, signalled

BUDGET = 200_000
BOTH = pytest.mark.parametrize("config", [PPOConfig, DQNConfig])
SMALL = {
    PPOConfig: PPOConfig(environments=64, rows=256, epochs=2),
    DQNConfig: DQNConfig(environments=64, first=512, rows=64, updates=1),
}


@dataclass(frozen=True)
class Band:
    """Six tenths at low volatility and two at high; positions within .15 of that are left alone."""

    def target(self, observation: np.ndarray) -> np.ndarray:
        wanted = np.where(observation[:, 0] < 0, 0.6, 0.2)
        return np.where(np.abs(observation[:, -2] - wanted) <= 0.15, np.nan, wanted)[:, None]


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("make", [signalled, banded])
def test_it_reaches_nine_tenths_of_what_can_be_gained(config: type[Learner], make: Callable[[], Known]) -> None:
    known = make()
    assert known.share(learning.trained(config(), known, BUDGET).policy) >= 0.9


@pytest.mark.slow
@BOTH
def test_on_a_random_walk_it_hardly_trades(config: type[Learner]) -> None:
    known = random_walk()
    found = play(learning.trained(config(), known, BUDGET).policy, known.unseen, known.rules, 256, 0)
    assert found.turnover.mean() < 0.02 * learning.random_turnover(known)
    assert found.reward.mean() > -0.02


@BOTH
def test_the_same_seed_gives_the_same_bytes_taught_or_not(config: type[Learner]) -> None:
    learning.check_same_seed_same_bytes(SMALL[config], 6_000)
    learning.check_same_seed_same_bytes(replace(SMALL[config], teacher=Band(), lessons=1_000), 4_000)


@BOTH
def test_what_comes_after_training_is_not_learned(config: type[Learner]) -> None:
    learning.check_the_future_is_not_learned(replace(SMALL[config], teacher=Band(), lessons=1_000), 4_000)


@BOTH
@pytest.mark.parametrize("teacher", [None, Band()])
def test_every_step_counts_towards_the_budget(
    config: type[Learner], teacher: Policy | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning.check_the_budget_is_kept(replace(SMALL[config], teacher=teacher, lessons=1_000), 6_000, monkeypatch)


@BOTH
def test_lessons_alone_reproduce_the_teacher(config: type[Learner]) -> None:
    """In unseen histories, on the way of the pupil: on average its orders differ from the teacher's by less than a
    fiftieth of the limits, where a level of the grid is a fifth."""
    known = banded()
    pupil = learning.trained(config(teacher=Band(), lessons=20_000), known, 20_000).policy
    batch = Batch(known.unseen, known.rules, 256, 5)
    seen, errors = batch.reset(), []
    for _ in range(known.rules.length):
        own = seen[:, -2:-1]
        orders, wanted = (np.where(np.isnan(t), own, t) for t in (pupil.target(seen), Band().target(seen)))
        errors.append(np.abs(orders - wanted))
        seen = batch.step(pupil.target(seen)).observation
    assert np.mean(errors) < 0.02


def test_ppo_with_lessons_is_ahead_of_ppo_without() -> None:
    known = banded()
    taught, alone = (
        known.share(learning.trained(PPOConfig(teacher=teacher, lessons=8_000), known, 24_000).policy)
        for teacher in (Band(), None)
    )
    assert taught > max(alone, 0.7)


def test_dqn_gets_as_far_with_lessons() -> None:
    known = banded()
    assert known.share(learning.trained(DQNConfig(teacher=Band(), lessons=8_000), known, 48_000).policy) > 0.9


@BOTH
def test_the_curve_tells_rewards_in_the_units_of_the_environment(config: type[Learner]) -> None:
    """One market that rises by 1 % a session and costs nothing: all exposure earns 100 log 1.01."""
    opens = 100 * 1.01 ** np.arange(60)[None, :, None]
    markets = Markets(opens, np.zeros((1, 60, 1, 1), np.float32), np.arange(60)[None] < 58)
    known = replace(signalled(), markets=markets)
    rules = replace(known.rules, length=5, costs=known.rules.costs._replace(half_spread_bps=0.0, commission_bps=0.0))
    curve = learning.trained(SMALL[config], replace(known, rules=rules), 12_000).curve
    assert isinstance(curve, Curve)
    assert len(curve.steps) >= 10
    assert curve.reward[0] < 0.3
    assert 0.5 < curve.reward[-1] <= 100 * np.log(1.01) + 1e-6


def global_states() -> tuple[object, ...]:
    legacy = np.random.get_state()[1].tobytes()  # noqa: NPY002
    return legacy, random.getstate(), torch.get_rng_state().tolist()


@BOTH
def test_global_generators_and_threads_are_left_as_they_were(config: type[Learner]) -> None:
    known = signalled()
    before = global_states()
    threads = torch.get_num_threads()
    learning.trained(SMALL[config], known, 1_024)
    assert global_states() == before
    assert torch.get_num_threads() == threads


@BOTH
def test_training_leaves_no_folder_behind(
    config: type[Learner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    learning.trained(SMALL[config], signalled(), 1_024)
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_a_policy_comes_back_from_its_file_bit_for_bit(config: type[Learner], tmp_path: Path) -> None:
    known = signalled()
    policy, curve = learning.trained(SMALL[config], known, 1_024)
    agent_policies.write(tmp_path / "a.npz", [agent_policies.Agent("deep", "all", 0, policy, curve)])
    back = agent_policies.read(tmp_path / "a.npz")[0].policy
    assert type(back) is type(policy)
    seen = Batch(known.unseen, known.rules, 64, 0).reset()
    assert back.target(seen).tobytes() == policy.target(seen).tobytes()


def test_numpy_computes_what_torch_does() -> None:
    generator = np.random.default_rng(0)
    center, scale = generator.standard_normal((2, 5)).astype(np.float32)
    scale = np.abs(scale) + 1
    trunk = ResidualTrunk(spaces.Box(-np.inf, np.inf, (5,), np.float32), center, scale, 8, 2)
    head = torch.nn.Linear(8, 3)
    linear = [each for each in (*trunk.modules(), head) if isinstance(each, torch.nn.Linear)]
    layers = tuple(p.detach().numpy().T for layer in linear for p in (layer.weight, layer.bias))
    x = generator.standard_normal((100, 5)).astype(np.float32)
    with torch.no_grad():
        expected = head(trunk(torch.from_numpy(x))).numpy()
    np.testing.assert_allclose(ResidualNetwork(layers, center, scale)(x), expected, atol=1e-6)


def test_a_portfolio_is_learned_by_ppo_alone() -> None:
    generator = np.random.default_rng(0)
    opens = np.exp(np.cumsum(0.01 * generator.standard_normal((4, 80, 3)), axis=1))
    markets = Markets(
        opens, generator.standard_normal((4, 80, 3, 2)).astype(np.float32), np.arange(80) < np.full((4, 1), 78)
    )
    rules = replace(signalled().rules, length=20)
    policy = SMALL[PPOConfig].learn(markets, rules, 1_024, 0).policy
    assert policy.target(Batch(markets, rules, 6).reset()).shape == (6, 3)
    with pytest.raises(ValueError, match="a grid of one asset's weights, got 3 assets"):
        DQNConfig().learn(markets, rules, 1_024, 0)


@pytest.mark.parametrize(("config", "least"), [(PPOConfig, 4096), (DQNConfig, 256)])
def test_a_budget_below_one_update_is_an_error(config: type[Learner], least: int) -> None:
    with pytest.raises(ValueError, match=f"a budget of 200 environment steps is below the {least} taken between"):
        learning.trained(config(), signalled(), 200)


def test_too_few_lessons_are_an_error() -> None:
    known = banded()
    with pytest.raises(ValueError, match="pre-training takes at least 64 steps, got 63"):
        watch(Band(), known.markets, known.rules, 63, 0)


def test_lessons_show_what_the_teacher_wants_wherever_one_is() -> None:
    known = banded()
    lessons = watch(Band(), known.markets, known.rules, 6_400, 0)
    own, wanted = lessons.observation[:, -2], Band().target(lessons.observation)[:, 0]
    np.testing.assert_array_equal(lessons.weight[:, 0], np.where(np.isnan(wanted), own, wanted).astype(np.float64))
    apart = np.abs(own - np.where(lessons.observation[:, 0] < 0, 0.6, 0.2)) > 0.3
    assert 0.15 < apart.mean() < 0.6  # random weights lead there, the teacher hardly does
    expected = play(Band(), known.markets, known.rules, 64, 0).reward.mean()
    assert lessons.reward < expected  # the random half pays for its trades


def test_the_grid_level_nearest_to_ones_own_leaves_alone() -> None:
    grid = np.array([0.0, 0.5, 1.0])
    own = np.array([0.3, 0.3, 0.9, 0.0, 1.2])
    assert nearest(own, grid).tolist() == [1, 1, 2, 0, 2]
    np.testing.assert_array_equal(
        grid_targets(np.array([1, 2, 0, 0, 2]), own, grid)[:, 0], [np.nan, 1.0, 0.0, np.nan, np.nan]
    )


def test_a_target_within_reach_of_ones_own_leaves_alone() -> None:
    found = idle_targets(np.array([[0.5, 0.5]]), np.array([[0.46, 0.4]]), 0.05)
    np.testing.assert_array_equal(found, [[np.nan, 0.5]])


def test_targets_by_hand() -> None:
    eye, none = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    center, scale = np.array([1.0, 0.0, 0.0], np.float32), np.array([2.0, 1.0, 1.0], np.float32)
    block = (eye, none - 1, 2 * eye, none)
    seen = np.array([[7.0, 0.1, 0.0], [3.0, 0.1, 0.0]], np.float32)
    # x = (3, .1, 0) and (1, .1, 0); the block adds 2 (x - 1)+: h = (7, .1, 0) and (1, .1, 0).
    network = ResidualNetwork(
        (eye, none, *block, np.array([[0.1], [0], [0]], np.float32), np.zeros(1, np.float32)), center, scale
    )
    np.testing.assert_allclose(network(seen), [[0.7], [0.1]], rtol=1e-6)
    np.testing.assert_allclose(WeightPolicy(network, 0.0, 2.0, 0.05).target(seen), [[1.7], [1.1]], rtol=1e-6)
    values = np.array([[0.1, 0.0], [0, 0], [0, 0]], np.float32)
    valued = ResidualNetwork((eye, none, *block, values, np.array([0.0, 0.5], np.float32)), center, scale)
    np.testing.assert_array_equal(GridPolicy(valued, np.array([0.6, 0.0])[::-1]).target(seen), [[np.nan], [0.6]])


def test_layers_that_do_not_fit_are_an_error() -> None:
    eye, none = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="4 arrays and 4 more a block, got 2"):
        ResidualNetwork((eye, none), none, none)
    with pytest.raises(ValueError, match=r"layers do not fit: \(2, 2\) and \(2,\) where 3 are read"):
        ResidualNetwork((eye, none, eye[:2, :2], none[:2]), none, none)
    network = ResidualNetwork((eye, none, eye, none), none, none + 1)
    with pytest.raises(ValueError, match=r"a grid of \(2,\) needs as many values, not \(3,\)"):
        GridPolicy(network, np.array([0.0, 1.0]))
