"""The environment: its adapters pass the checkers, and its episodes are those of the market, to the cent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as check_by_gymnasium
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_by_baselines

from models.trading.env import Batch, Markets, Rules, TradingEnv, TradingVecEnv
from models.trading.market import Costs, Limits, simulate

TEN_BPS = Costs(6.0, 4.0)


def market(seed: int = 0, S: int = 2, T: int = 40, N: int = 1, K: int = 2, missing: float = 0.0) -> Markets:
    generator = np.random.default_rng(seed)
    opens = 50 * np.exp(np.cumsum(0.03 * generator.standard_normal((S, T, N)), axis=1))
    opens[generator.random(opens.shape) < missing] = np.nan
    playable = np.ones((S, T), dtype=bool)
    playable[:, -2:] = False
    return Markets(opens, generator.standard_normal((S, T, N, K)).astype(np.float32), playable)


def one_history(opens: list[float]) -> Markets:
    T = len(opens)
    observed = np.arange(T, dtype=np.float32)[None, :, None, None]
    return Markets(np.array(opens)[None, :, None], observed, np.arange(T)[None] < T - 2)


def wealth(growth: np.ndarray) -> list[float]:
    return np.round(10_000 * np.exp(np.cumsum(growth)), 2).tolist()


# -- the checkers ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*infinity.*:UserWarning")
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("assets", [1, 3])
def test_the_checkers_of_gymnasium_and_baselines_pass(assets: int, discrete: bool) -> None:
    rules = Rules(TEN_BPS, Limits(-1.0, 1.0), length=8, levels=5)
    env = TradingEnv(market(N=assets), rules, discrete)
    check_by_gymnasium(env, skip_render_check=True)
    check_by_baselines(env)


def test_the_spaces_span_the_limits() -> None:
    rules = Rules(TEN_BPS, Limits(-0.5, 1.5), length=8, levels=5)
    assert rules.grid.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]
    one, more = (TradingEnv(market(N=n), rules, discrete=True).action_space for n in (1, 3))
    assert one == spaces.Discrete(5)
    assert more == spaces.MultiDiscrete([5, 5, 5])
    assert TradingEnv(market(N=3), rules).action_space == spaces.Box(-1.0, 1.0, (3,), np.float32)
    np.testing.assert_allclose(rules.weights(np.array([-2.0, -1.0, 0.0, 0.5, 3.0])), [-0.5, -0.5, 0.5, 1.0, 1.5])
    np.testing.assert_allclose(rules.actions(np.array([-0.5, 0.5, 1.0, 9.0])), [-1, 0, 0.5, 1])


@pytest.mark.parametrize("discrete", [False, True])
def test_every_action_means_the_same_in_both_adapters(discrete: bool) -> None:
    rules = Rules(TEN_BPS, Limits(-1.0, 1.0), length=6, levels=5)
    env, many = TradingEnv(market(N=2), rules, discrete), TradingVecEnv(Batch(market(N=2), rules, 1), discrete)
    seen, _ = env.reset(seed=5)
    many.seed(5)
    np.testing.assert_array_equal(many.reset()[0], seen)
    env.action_space.seed(1)
    for t in range(6):
        action = env.action_space.sample()
        one, (rows, rewards, dones, infos) = env.step(action), many.step(np.array([action]))
        assert (rewards.dtype, rewards[0]) == (np.float32, np.float32(one[1]))
        assert dones[0] == one[3] == (t == 5)
        np.testing.assert_array_equal(infos[0].get("terminal_observation", rows[0]), one[0])
    assert infos[0]["TimeLimit.truncated"]


# -- golden ------------------------------------------------------------------------------------------

EPISODE = one_history([90.0, 100.0, 110.0, 99.0, 120.0])


def test_an_episode_by_hand_to_the_cent() -> None:
    rules = Rules(TEN_BPS, Limits(0.0, 1.0), length=3, random_weight=False)
    batch = Batch(EPISODE, rules, 1)
    np.testing.assert_array_equal(batch.reset(), [[0, 0, 1]])
    steps = [batch.step(np.array([[weight]])) for weight in (0.5, 1.0, 0.0)]
    # Open 1: 9,995.00, of it 4,997.50 in the asset; at open 2 10,494.75.
    # Open 2: w = (10,494.75 + .001 x 5,497.25) / 1.001 = 10,489.76; at open 3 nine tenths, 9,440.78.
    # Open 3: sold for 9.44: 9,431.34; cash earns nothing to open 4.
    growth = np.array([step.growth[0] for step in steps])
    assert wealth(growth) == [10_494.75, 9_440.78, 9_431.34]
    rewards = [step.reward[0] for step in steps]
    assert sum(rewards) == pytest.approx(100 * np.log(0.9431343), abs=1e-5)
    np.testing.assert_allclose([step.turnover[0] for step in steps], [0.49975, 0.475715, 1.0], atol=1e-6)
    # The session, the weight after the trades of its open, and the rate in units of 10 bps.
    np.testing.assert_allclose(steps[0].observation, [[1, 0.5, 1]])
    np.testing.assert_allclose(steps[1].observation, [[2, 1.0, 1]])
    np.testing.assert_allclose(steps[2].final, [[3, 0.0, 1]])
    assert [step.truncated[0] for step in steps] == [False, False, True]


def test_the_price_moves_between_the_decision_and_its_fill() -> None:
    batch = Batch(EPISODE, Rules(Costs(0.0, 0.0), length=3), 1)
    batch.begin(np.array([0]), np.array([[1.0]]))
    # All in at open 0; the tenth won by open 1 comes before the first decision's step.
    assert wealth(batch.step(np.array([[np.nan]])).growth) == [11_000.00]


def test_risk_aversion_takes_half_its_square() -> None:
    rules = Rules(Costs(0.0, 0.0), Limits(0.0, 1.0), risk_aversion=3.0, length=3, random_weight=False)
    batch = Batch(EPISODE, rules, 1)
    batch.reset()
    g = np.log(1.1)
    assert batch.step(np.array([[1.0]])).reward[0] == pytest.approx(100 * (g - 1.5 * g**2))


def test_a_position_left_alone_drifts_and_pays_nothing() -> None:
    batch = Batch(EPISODE, Rules(TEN_BPS, length=3), 1)
    batch.begin(np.array([0]), np.array([[0.5]]))
    step = batch.step(np.array([[np.nan]]))
    assert step.turnover[0] == 0
    # Half in cash; the other half grew by a ninth from open 0 to open 1.
    assert step.observation[0, 1] == pytest.approx((0.5 * 100 / 90) / (0.5 + 0.5 * 100 / 90))


def test_an_asset_without_a_price_is_closed_at_its_last_and_can_return() -> None:
    history = one_history([10.0, 10.0, 12.0, np.nan, 20.0, 30.0])
    batch = Batch(history, Rules(TEN_BPS, length=4, random_weight=False), 1)
    batch.reset()
    steps = [batch.step(np.array([[1.0]])) for _ in range(4)]
    # In at 10, 12 at open 2, kept; gone at open 3, closed at 12 for 10 bps; bought again at 20, 30 at open 5.
    assert wealth(np.array([step.growth[0] for step in steps])) == [11_988.01, 11_988.01, 11_976.02, 17_946.09]
    assert [step.observation[0, 1] for step in steps[:3]] == [1, 1, 0]


def test_nobody_begins_with_what_has_no_price() -> None:
    history = one_history([10.0, np.nan, 12.0, 15.0, 15.0])
    batch = Batch(history, Rules(Costs(0.0, 0.0), length=2), 1)
    np.testing.assert_array_equal(batch.begin(np.array([1]), np.array([[1.0]])), [[1, 0, 0]])
    assert batch.step(np.array([[np.nan]])).growth[0] == 0


# -- against the market ------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([0.0, 0.2]))
@settings(deadline=None, max_examples=40)
def test_the_batch_is_the_market_on_the_same_targets(seed: int, N: int, missing: float) -> None:
    generator = np.random.default_rng(seed)
    costs = Costs(4.0, 6.0, impact_bps=50.0, borrow_bps=300.0, margin_bps=600.0)
    limits, E, L = Limits(-0.6, 1.0, gross=1.5), 3, 9
    history = market(seed, S=1, T=L + 2, N=N, missing=missing)
    targets = generator.uniform(-1, 1.5, (E, L + 2, N))
    targets[generator.random(targets.shape) < 0.3] = np.nan
    batch = Batch(history, Rules(costs, limits, length=L, random_weight=False), E)
    batch.reset()
    steps = [batch.step(targets[:, t]) for t in range(L)]
    ledger = simulate(targets, history.opens[0], costs, max_gap=0, limits=limits)
    before = ledger.wealth / (1 - ledger.costs)  # of the trades of each open
    growth = np.stack([step.growth for step in steps], axis=1)
    np.testing.assert_allclose(np.exp(np.cumsum(growth, axis=1)), before[:, 2:], rtol=1e-9)
    np.testing.assert_allclose(np.stack([step.turnover for step in steps], axis=1), ledger.turnover[:, 1:-1], atol=1e-9)
    for t, step in enumerate(steps):
        seen = step.final if t == L - 1 else step.observation
        np.testing.assert_allclose(seen[:, -1 - N : -1], ledger.weights[:, t + 1], rtol=1e-5, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(deadline=None, max_examples=30)
def test_what_comes_later_changes_nothing_before(seed: int, cut: int) -> None:
    before = market(seed, S=1, T=12, N=2)
    opens, observed = before.opens.copy(), before.observed.copy()
    opens[:, cut + 1 :] *= 2
    observed[:, cut + 1 :] += 1
    targets = np.random.default_rng(seed).uniform(0, 1, (10, 4, 2))
    found = []
    for each in (before, replace(before, opens=opens, observed=observed)):
        batch = Batch(each, Rules(TEN_BPS, length=10), 4, seed)
        found.append((batch.reset(), [batch.step(target) for target in targets]))
    (first, one), (other, two) = found
    assert first.tobytes() == other.tobytes()
    for t in range(cut):
        assert one[t].observation.tobytes() == two[t].observation.tobytes()  # of session t + 1
        assert one[t].turnover.tobytes() == two[t].turnover.tobytes()  # at the open of t + 1
        if t + 2 <= cut:
            assert one[t].reward.tobytes() == two[t].reward.tobytes()  # to the open of t + 2
    assert one[cut].observation.tobytes() != two[cut].observation.tobytes()


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_rewards_add_up_to_the_log_growth_of_wealth(seed: int) -> None:
    history = market(seed, S=1, T=22, N=2)
    batch = Batch(history, Rules(TEN_BPS, Limits(0.0, 0.5), length=20, random_weight=False), 1)
    batch.reset()
    targets = np.random.default_rng(seed).uniform(0, 0.5, (20, 1, 2))
    total = sum(batch.step(target).reward[0] for target in targets)
    ledger = simulate(np.concatenate([targets[:, 0], np.full((2, 2), np.nan)])[None], history.opens[0], TEN_BPS)
    assert total == pytest.approx(100 * np.log(ledger.wealth[0, -1]), abs=1e-8)


def test_environments_of_a_batch_do_not_meet() -> None:
    history, rules = market(3, S=3, N=2), Rules(TEN_BPS, length=10)
    starts = history.starts(10)[[0, 17, 40]]
    weights, targets = np.random.default_rng(0).uniform(0, 1, (3, 2)), np.random.default_rng(1).uniform(0, 1, (9, 3, 2))
    together = Batch(history, rules, 3)
    rows = [together.begin(starts, weights)] + [together.step(target).observation for target in targets]
    for e in range(3):
        alone = Batch(history, rules, 1)
        own = [alone.begin(starts[[e]], weights[[e]])] + [alone.step(target[[e]]).observation for target in targets]
        np.testing.assert_array_equal([row[e] for row in rows], [row[0] for row in own])


# -- episodes ----------------------------------------------------------------------------------------


def test_a_new_episode_begins_by_itself_and_the_last_observation_is_kept() -> None:
    history = market(1, S=2, T=30)
    rules = Rules(TEN_BPS, length=7)
    batch = Batch(history, rules, 5, seed=2)
    batch.reset()
    first = batch.at.copy()
    targets = np.linspace(0, 1, 5)[:, None]
    for t in range(7):
        step = batch.step(targets)
        assert step.truncated.tolist() == [t == 6] * 5
        assert len(step.final) == (5 if t == 6 else 0)
    np.testing.assert_array_equal(step.final[:, :2], history.observed.reshape(60, 2)[first + 7])
    np.testing.assert_allclose(step.final[:, 2], targets[:, 0], rtol=1e-6)
    assert np.isin(batch.at, history.starts(7)).all()
    np.testing.assert_array_equal(step.observation[:, :2], history.observed.reshape(60, 2)[batch.at])
    assert not np.allclose(step.observation[:, 2], targets[:, 0])
    # The new episode is as one begun there: its growth is its own.
    other = Batch(history, rules, 5)
    other.begin(batch.at, step.observation[:, 2:3].astype(np.float64))
    np.testing.assert_allclose(batch.step(targets).growth, other.step(targets).growth, atol=1e-7)


def test_only_the_ruined_one_ends_and_begins_anew() -> None:
    crash = one_history([10.0, 10.0, 10.0, 4.0, 4.0, 4.0, 4.0, 4.0])
    batch = Batch(crash, Rules(Costs(0.0, 0.0), Limits(0.0, 2.0), length=6, random_weight=False), 2)
    batch.reset()
    batch.step(np.array([[2.0], [1.0]]))
    step = batch.step(np.array([[2.0], [1.0]]))
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [False, False]
    np.testing.assert_allclose(step.growth, np.log([1e-3, 0.4]))
    # The ruined one's last observation, then that of a new episode, in cash at the first session.
    np.testing.assert_array_equal(step.final, [[2, 2, 0]])
    np.testing.assert_array_equal(step.observation, [[0, 0, 0], [2, 1, 0]])
    assert batch.step(np.array([[0.0], [0.0]])).growth.tolist() == [0, 0]


def test_a_ruined_environment_is_not_called_truncated() -> None:
    crash = one_history([10.0, 10.0, 10.0, 4.0])
    env = TradingEnv(crash, Rules(Costs(0.0, 0.0), Limits(0.0, 2.0), length=2, random_weight=False))
    env.reset(seed=0)
    env.step(np.array([1.0], np.float32))
    seen, reward, terminated, truncated, info = env.step(np.array([1.0], np.float32))
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(100 * np.log(1e-3))
    assert info == {"growth": pytest.approx(np.log(1e-3)), "turnover": 0.0}
    assert seen.tolist() == [2, 2, 0]


def test_episodes_start_anywhere_they_fit_and_nowhere_else() -> None:
    history = market(0, S=2, T=20)
    playable = history.playable.copy()
    playable[1, 9] = False
    history = replace(history, playable=playable)
    assert history.starts(8).tolist() == [*range(11), 20, 21, *range(30, 31)]
    batch = Batch(history, Rules(TEN_BPS, length=8), 2_000)
    batch.reset()
    assert np.unique(batch.at).tolist() == history.starts(8).tolist()


def test_first_weights_span_the_limits_or_are_cash() -> None:
    rules = Rules(TEN_BPS, Limits(-0.5, 1.0, gross=1.2), length=8)
    first = Batch(market(N=3), rules, 4_000).reset()[:, 6:9]
    assert first.min() < -0.45
    assert first.max() > 0.9
    assert np.abs(first).sum(axis=1).max() <= 1.2 + 1e-6
    assert not Batch(market(N=3), replace(rules, random_weight=False), 50).reset()[:, 6:9].any()


def test_the_same_seed_gives_the_same_bytes() -> None:
    def run(seed: int) -> bytes:
        batch = Batch(market(), Rules(TEN_BPS, length=5), 16, seed)
        rows = [batch.reset()] + [batch.step(np.full((16, 1), 0.3)).observation for _ in range(12)]
        return np.stack(rows).tobytes()

    assert run(3) == run(3) != run(4)


# -- errors ------------------------------------------------------------------------------------------


def test_shapes_that_do_not_fit_are_an_error() -> None:
    good = market()
    with pytest.raises(ValueError, match=r"opens are \(2, 39, 1\), observed \(2, 40, 1, 2\), playable \(2, 40\)"):
        Markets(good.opens[:, 1:], good.observed, good.playable)


def test_a_decision_without_two_opens_after_it_is_an_error() -> None:
    good = market()
    with pytest.raises(ValueError, match="the last two sessions cannot be playable"):
        Markets(good.opens, good.observed, np.ones((2, 40), dtype=bool))


def test_something_unknown_where_a_decision_is_taken_is_an_error() -> None:
    good = market()
    observed = good.observed.copy()
    observed[1, 39] = np.nan
    Markets(good.opens, observed, good.playable)
    observed[1, 37] = np.nan
    with pytest.raises(ValueError, match="what is observed must be finite where a decision may be taken"):
        Markets(good.opens, observed, good.playable)


def test_an_episode_longer_than_any_history_is_an_error() -> None:
    assert Batch(market(), Rules(TEN_BPS, length=38), 2).reset().shape == (2, 4)
    with pytest.raises(ValueError, match="no market has 39 sessions in a row in which decisions can be taken"):
        Batch(market(), Rules(TEN_BPS, length=39), 2)


def test_limits_without_end_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"an agent needs finite limits of its weights, got Limits\(least=-inf"):
        Batch(market(), Rules(TEN_BPS, Limits(), length=5), 2)


def test_what_a_batch_cannot_do_for_baselines_is_an_error() -> None:
    many = TradingVecEnv(Batch(market(), Rules(TEN_BPS, length=5), 3))
    assert many.get_attr("assets") == [1, 1, 1]
    assert many.get_attr("render_mode", [0]) == [None]
    assert many.env_is_wrapped(TradingEnv) == [False] * 3
    with pytest.raises(AttributeError, match="assets cannot be set"):
        many.set_attr("assets", 2)
    with pytest.raises(AttributeError, match="render: the environments of a batch"):
        many.env_method("render")
