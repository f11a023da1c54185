from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.trading.env import Batch, Markets, Step
from models.trading.policy import play
from models.trading.q_table import UNSEEN, Cells, QTableConfig, QTablePolicy, Table, goals
from tests.models.trading import learning
from tests.models.trading.known_markets import Known, banded, random_walk, signalled

BUDGET = 250_000


@pytest.mark.parametrize("make", [signalled, banded])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_reaches_nine_tenths_of_what_can_be_gained(make: Callable[[], Known], seed: int) -> None:
    known = make()
    assert known.share(learning.trained(QTableConfig(), known, BUDGET, seed).policy) >= 0.9


def test_on_a_random_walk_it_hardly_trades() -> None:
    known = random_walk()
    found = play(learning.trained(QTableConfig(), known, BUDGET).policy, known.unseen, known.rules, 256, 0)
    assert found.turnover.mean() < 0.01 * learning.random_turnover(known)
    assert found.reward.mean() > -0.01


def test_the_curve_rises_as_exploring_ends() -> None:
    known = signalled()
    curve = learning.trained(replace(QTableConfig(), least_explore=0.0), known, BUDGET).curve
    assert curve.reward[-10:].mean() > 0.7 * known.optimal > 0 > curve.reward[:10].mean()


def test_the_same_seed_gives_the_same_bytes() -> None:
    learning.check_same_seed_same_bytes(QTableConfig(), 20_000)


def test_what_comes_after_training_is_not_learned() -> None:
    learning.check_the_future_is_not_learned(QTableConfig(), 20_000)


def test_every_step_counts_towards_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    learning.check_the_budget_is_kept(QTableConfig(), 10_000, monkeypatch)


def test_the_first_visits_by_hand() -> None:
    table = Table(np.array([[1.0, 0.0]]), np.array([[0, 0]]))
    # Two environments meet in (0, 0): errors 3 - 1 and 7 - 1, mean 4, at rate 2 * 2^-.5 > 1; one is alone in (0, 1).
    table.update(np.array([0, 0, 0]), np.array([0, 1, 0]), np.array([3.0, 8.0, 7.0]), 0.5)
    assert table.visits.tolist() == [[2, 1]]
    assert table.value.tolist() == [[5.0, 8.0]]
    # Two more: errors 1 and 3, mean 2, at rate 2 * 4^-.5 = 1.
    table.update(np.array([0, 0]), np.array([0, 0]), np.array([6.0, 8.0]), 0.5)
    assert table.value.tolist() == [[7.0, 8.0]]
    table.update(np.array([0]), np.array([1]), np.array([0.0]), 0.5)
    np.testing.assert_allclose(table.value, [[7.0, 8.0 * (1 - 2**-0.5)]])


def test_what_follows_counts_unless_it_is_ruin() -> None:
    cells = Cells((0,), (np.array([0.0], np.float32),), 1, np.array([0.0, 1.0]))
    table = Table(np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]), np.ones((4, 2), np.int64))
    # On its way in state (1, 0); cut off in (1, 1), begun anew in (0, 0); ruined in (1, 1), begun anew in (0, 1).
    observation = np.array([[1, 0], [-1, 0], [-1, 1]], np.float32)
    ended = np.array([[1, 1], [1, 1]], np.float32)
    step = Step(
        observation, np.array([10.0, 20.0, 30.0]), np.array([False, False, True]), np.array([False, True, False]),
        ended, np.zeros(3), np.zeros(3),
    )  # fmt: skip
    assert goals(table, cells, step, 0.5).tolist() == [10 + 0.5 * 5, 20 + 0.5 * 7, 30]


@given(st.integers(0, 1000))
@settings(deadline=None)
def test_one_environment_at_a_time_is_the_textbook(seed: int) -> None:
    generator = np.random.default_rng(seed)
    table = Table(np.zeros((3, 2)), np.zeros((3, 2), np.int64))
    value: dict[tuple[int, int], float] = {}
    count: dict[tuple[int, int], int] = {}
    for _ in range(40):
        s, a, goal = int(generator.integers(3)), int(generator.integers(2)), float(generator.normal())
        table.update(np.array([s]), np.array([a]), np.array([goal]), 0.75)
        count[s, a] = count.get((s, a), 0) + 1
        old = value.get((s, a), 0.0)
        value[s, a] = old + count[s, a] ** -0.75 * (goal - old)
    for (s, a), expected in value.items():
        assert table.value[s, a] == pytest.approx(expected, rel=1e-12)
    assert table.visits.sum() == 40


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50))
@settings(deadline=None)
def test_at_rate_one_over_n_a_cell_is_the_mean_of_its_goals_however_they_come(goals: list[float]) -> None:
    table = Table(np.zeros((1, 1)), np.zeros((1, 1), np.int64))
    for part in np.array_split(np.array(goals), 3):
        table.update(np.zeros(len(part), np.int64), np.zeros(len(part), np.int64), part, 1.0)
    assert table.value[0, 0] == pytest.approx(np.mean(goals), abs=1e-9)


def test_the_best_action_is_one_that_was_tried() -> None:
    table = Table(np.array([[0.0, -1.0], [0.0, 0.0], [3.0, 2.0]]), np.array([[0, 4], [0, 0], [1, 1]]))
    assert table.best().tolist() == [1, UNSEEN, 0]


def test_discounted_values_of_a_chain_are_found() -> None:
    """A market of one move, +1 % every session, without costs: the value of full exposure is a geometric sum."""
    opens = 100 * 1.01 ** np.arange(60)[None, :, None]
    playable = np.arange(60)[None] < 58
    markets = Markets(opens, np.zeros((1, 60, 1, 1), np.float32), playable)
    known = signalled()
    rules = replace(known.rules, length=5)
    config = QTableConfig(discount=0.5, exponent=0.6)
    policy = learning.trained(config, replace(known, markets=markets, rules=rules), 60_000).policy
    assert isinstance(policy, QTablePolicy)
    seen = Batch(markets, rules, 32, 0).reset()
    own = policy.cells.levels(seen)
    np.testing.assert_array_equal(policy.target(seen)[:, 0], np.where(own == 4, np.nan, 1.0))


def test_a_column_is_cut_where_training_has_as_much_on_either_side() -> None:
    observed = np.random.default_rng(0).gamma(2.0, 1.0, (5, 402, 1, 2)).astype(np.float32)
    playable = np.repeat(np.arange(402)[None] < 400, 5, axis=0)
    markets = Markets(np.full((5, 402, 1), 10.0), observed, playable)
    cells = replace(QTableConfig(), columns=(1,), bins=4).cells(markets, signalled().rules)
    assert cells.shape == (4, 5)
    seen = np.column_stack([np.zeros((2000, 1)), observed[:, :400, 0, 1].ravel(), np.full(2000, -1.0)])
    assert np.bincount(cells.states(seen.astype(np.float32))).tolist()[::5] == [500, 500, 500, 500]


def test_a_column_of_few_values_has_a_bin_for_each() -> None:
    known = signalled()
    cells = QTableConfig().cells(known.markets, known.rules)
    assert cells.shape == (3, 5)
    np.testing.assert_allclose(cells.edges[0], [-0.5, 0.5])


def test_states_and_orders_by_hand() -> None:
    cells = Cells((0, 2), (np.array([1.0], np.float32), np.array([0.0, 5.0], np.float32)), 3, np.array([0, 0.5, 1.0]))
    seen = np.array([[1.0, 9, 6, 0.7], [1.5, 9, 0, 0.8], [0, 9, 5, -0.3]], np.float32)
    assert cells.shape == (2, 3, 3)
    # Bins (0, 2), (1, 0), (0, 1); own weights at places 1, 2 and 0.
    assert cells.states(seen).tolist() == [7, 11, 3]
    np.testing.assert_array_equal(cells.orders(np.array([1, 0, 2]), seen), [[np.nan], [0.0], [1.0]])
    assert np.isnan(cells.orders(np.full(3, UNSEEN), seen)).all()


def test_a_portfolio_does_not_fit_a_table() -> None:
    playable = np.arange(9)[None] < 7
    two = Markets(np.ones((1, 9, 2)), np.zeros((1, 9, 2, 1), np.float32), playable)
    with pytest.raises(ValueError, match="the weight of one asset, got 2"):
        QTableConfig().learn(two, signalled().rules, 1000, 0)


def test_a_column_that_is_not_observed_is_an_error() -> None:
    known = signalled()
    with pytest.raises(ValueError, match=r"columns \(0, 2\) are not all among the 2 observed"):
        QTableConfig(columns=(0, 2)).learn(known.markets, known.rules, 1000, 0)


def test_a_budget_below_one_step_each_is_an_error() -> None:
    known = signalled()
    with pytest.raises(ValueError, match="a budget of 100 steps is too small for 128 environments"):
        QTableConfig().learn(known.markets, known.rules, 100, 0)
