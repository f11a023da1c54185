from dataclasses import dataclass

import numpy as np
import pytest

from models.trading.env import Batch, Markets, Rules
from models.trading.market import Costs, Limits, simulate
from models.trading.sleeves import Sleeves
from models.trading.walk import Walk

COSTS = Costs(5.0, 0.0)
LIMITS = Limits(0.0, 1.0)


@dataclass(frozen=True)
class Leaning:
    """Half of the way from one's own weight to what is seen."""

    def target(self, observation: np.ndarray) -> np.ndarray:
        return ((observation[:, 0] + observation[:, -2]) / 2).astype(np.float64)[:, None]


@dataclass(frozen=True)
class Seen:
    """The column itself."""

    column: int = 0

    def target(self, observation: np.ndarray) -> np.ndarray:
        return observation[:, self.column].astype(np.float64)[:, None]


def market(T: int = 60, N: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(T, N) opens, (T, N, 2) observed in [0, 1]."""
    generator = np.random.default_rng(seed)
    opens = np.exp(np.cumsum(0.02 * generator.standard_normal((T, N)), axis=0))
    return opens, generator.uniform(0, 1, (T, N, 2)).astype(np.float32)


def everywhere(opens: np.ndarray) -> np.ndarray:
    return np.ones(opens.shape, bool)


def walked(opens, observed, policies, listed=None, own=None, ready=None, ends=()) -> Walk:
    listed, own, ready = (everywhere(opens) if each is None else each for each in (listed, own, ready))
    walk = Walk(opens, listed, own, COSTS, LIMITS, len(policies))
    for end in (*ends, len(opens)):
        walk.go(policies, observed, ready, end)
    return walk


def test_a_policy_that_ignores_its_weight_names_what_it_sees():
    opens, observed = market()
    walk = walked(opens, observed, [Seen(0), Seen(1)])
    np.testing.assert_array_equal(walk.targets, observed.transpose(2, 0, 1).astype(np.float64))


def test_weights_that_a_policy_sees_are_those_of_the_same_targets_traded():
    opens, observed = market()
    walk = walked(opens, observed, [Leaning()])
    ledger = simulate(walk.targets.transpose(2, 1, 0)[:, :, :1], opens.T[:, :, None], COSTS)  # each asset a strategy
    own = ledger.weights[:, :, 0].T.astype(np.float32)
    np.testing.assert_allclose(walk.targets[0], (observed[..., 0] + own) / 2, atol=1e-7)


def test_a_walk_is_an_episode_of_the_environment():
    opens, observed = market()
    T, N = opens.shape
    playable = np.ones((N, T), bool)
    playable[:, -2:] = False
    markets = Markets(opens.T[:, :, None], observed.transpose(1, 0, 2)[:, :, None, :], playable)
    rules = Rules(COSTS, LIMITS, length=T - 2, random_weight=False)
    batch = Batch(markets, rules, N)
    seen = batch.begin(np.arange(N) * T, np.zeros((N, 1)))
    growth = np.zeros((T - 2, N))
    for t in range(T - 2):
        step = batch.step(Leaning().target(seen))
        seen, growth[t] = step.observation, step.growth
    walk = walked(opens, observed, [Leaning()])
    alone = Sleeves(opens, everywhere(opens), COSTS, 0.0, pooled=False).run(walk.targets)
    # A step's growth goes up to the open after its fill, before the next trade; wealth is after it.
    wealth = np.exp(np.cumsum(growth, axis=0))
    np.testing.assert_allclose(alone.wealth[0].T[2:], wealth, rtol=2e-3)
    np.testing.assert_allclose(alone.wealth[0].T[-1] / (1 - alone.costs[0].T[-1]), wealth[-1], rtol=1e-9)


def test_going_on_in_pieces_is_the_same_walk():
    opens, observed = market()
    whole, pieces = walked(opens, observed, [Leaning()]), walked(opens, observed, [Leaning()], ends=(7, 8, 33))
    assert whole.targets.tobytes() == pieces.targets.tobytes()


def test_a_later_price_or_sight_changes_no_earlier_target():
    opens, observed = market()
    before = walked(opens, observed, [Leaning()]).targets
    for cut in (1, 20, 59):
        late, seen = opens.copy(), observed.copy()
        late[cut:] *= 1.5
        seen[cut:] = 1 - seen[cut:]
        after = walked(late, seen, [Leaning()]).targets
        assert before[:, :cut].tobytes() == after[:, :cut].tobytes()
        assert before[:, cut:].tobytes() != after[:, cut:].tobytes()


def test_what_is_not_listed_is_sold_and_what_is_not_ready_left_alone():
    opens, observed = market(N=1)
    listed, ready = everywhere(opens), everywhere(opens)
    listed[30:], ready[10:20] = False, False
    targets = walked(opens, observed, [Seen()], listed=listed, ready=ready).targets[0, :, 0]
    assert np.isnan(targets[10:20]).all()
    assert (targets[30:] == 0).all()
    assert np.isfinite(targets[:10]).all()


def test_a_decision_stands_on_dates_that_are_no_session_of_the_asset():
    opens, observed = market(N=1)
    own = everywhere(opens)
    own[5:8] = False
    opens[5:8] = np.nan
    targets = walked(opens, observed, [Seen()], own=own).targets[0, :, 0]
    assert (targets[5:8] == targets[4]).all()


def test_targets_beyond_the_limits_are_brought_back():
    opens, observed = market()
    targets = walked(opens, 3 * observed - 1, [Seen()]).targets
    assert targets.min() == 0.0
    assert targets.max() == 1.0


def test_the_rate_of_cost_is_seen_as_in_training():
    opens, observed = market()
    rules = Rules(COSTS, LIMITS, length=5)
    playable = np.ones((3, 60), bool)
    playable[:, -2:] = False
    batch = Batch(Markets(opens.T[:, :, None], observed.transpose(1, 0, 2)[:, :, None, :], playable), rules, 2)
    assert batch.reset()[0, -1] == pytest.approx(walked(opens, observed, [Seen(-1)]).targets[0, 0, 0])
