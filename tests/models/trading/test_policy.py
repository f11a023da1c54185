from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.trading.env import Batch, Markets, Rules
from models.trading.market import Costs, Limits
from models.trading.policy import curve, play, value
from tests.models.trading.known_markets import signalled


class Drawn:
    """Weights that depend on all that is seen, by a fixed matrix."""

    def __init__(self, width: int, assets: int) -> None:
        self.matrix = np.random.default_rng(9).standard_normal((width, assets))

    def target(self, observation: np.ndarray) -> np.ndarray:
        return np.sin(observation.astype(np.float64) @ self.matrix)


class Always:
    def __init__(self, weight: float) -> None:
        self.weight = weight

    def target(self, observation: np.ndarray) -> np.ndarray:
        return np.full((len(observation), 1), self.weight)


def market(seed: int = 0, S: int = 4, T: int = 60, N: int = 2) -> Markets:
    generator = np.random.default_rng(seed)
    opens = 100 * np.exp(np.cumsum(0.02 * generator.standard_normal((S, T, N)), axis=1))
    playable = np.ones((S, T), dtype=bool)
    playable[:, -2:] = False
    return Markets(opens, generator.standard_normal((S, T, N, 3)).astype(np.float32), playable)


RULES = Rules(Costs(5.0, 0.0), Limits(-1.0, 1.0), risk_aversion=2.0, length=20)


def test_a_play_is_one_whole_episode_of_every_environment() -> None:
    found = play(Drawn(9, 2), market(), RULES, 16, 3)
    batch = Batch(market(), RULES, 16, 3)
    seen = batch.reset()
    np.testing.assert_array_equal(found.at, batch.at)
    for t in range(RULES.length):
        step = batch.step(Drawn(9, 2).target(seen))
        assert step.truncated.all() == (t == RULES.length - 1)
        np.testing.assert_array_equal(found.reward[:, t], step.reward)
        np.testing.assert_array_equal(found.turnover[:, t], step.turnover)
        seen = step.observation


def test_the_value_is_the_mean_reward_of_a_step() -> None:
    assert value(Drawn(9, 2), market(), RULES, 16, 3) == play(Drawn(9, 2), market(), RULES, 16, 3).reward.mean()


def test_every_policy_meets_the_same_episodes() -> None:
    one, other = (play(Always(weight), market(N=1), RULES, 8, 1) for weight in (0.0, 1.0))
    np.testing.assert_array_equal(one.at, other.at)
    assert (one.at != play(Always(0.0), market(N=1), RULES, 8, 2).at).any()


def test_after_a_ruin_an_episode_earns_nothing() -> None:
    opens = np.array([100.0, 100, 100, 50, 500, 500, 500, 500])[None, :, None]
    playable = np.arange(8)[None] < 6
    crash = Markets(opens, np.zeros((1, 8, 1, 1), np.float32), playable)
    rules = Rules(Costs(0.0, 0.0), Limits(0.0, 3.0), length=6, random_weight=False)
    found = play(Always(3.0), crash, rules, 1, 0)
    # Filled at open 1; the second step ends at open 3, where three times a half is lost.
    np.testing.assert_allclose(found.growth[0], [0, np.log(1e-3), 0, 0, 0, 0], atol=1e-12)
    assert value(Always(3.0), crash, rules, 1, 0) == pytest.approx(100 * np.log(1e-3) / 6)


def test_altered_prices_after_a_session_change_nothing_at_or_before_it() -> None:
    before = market(S=1, T=22, N=2)
    policy, cut = Drawn(9, 2), 12
    opens, observed = before.opens.copy(), before.observed.copy()
    opens[:, cut + 1 :] *= 3
    observed[:, cut + 1 :] = -observed[:, cut + 1 :]
    one, two = (play(policy, each, RULES, 3, 0) for each in (before, replace(before, opens=opens, observed=observed)))
    # Decisions up to the close of `cut`; growth to the open of `cut`, which ends the step decided two sessions before.
    assert one.wanted[:, : cut + 1].tobytes() == two.wanted[:, : cut + 1].tobytes()
    assert one.growth[:, : cut - 1].tobytes() == two.growth[:, : cut - 1].tobytes()
    assert one.turnover[:, :cut].tobytes() == two.turnover[:, :cut].tobytes()
    assert one.wanted[:, cut + 1].tobytes() != two.wanted[:, cut + 1].tobytes()
    assert one.growth[:, cut - 1].tobytes() != two.growth[:, cut - 1].tobytes()


def test_a_curve_keeps_the_mean_of_every_stretch() -> None:
    found = curve(np.arange(10.0), each=8, entries=5)
    assert found.steps.tolist() == [16, 32, 48, 64, 80]
    assert found.reward.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    short = curve(np.array([1.0, 3.0]), each=8)
    assert (short.steps.tolist(), short.reward.tolist()) == ([8, 16], [1.0, 3.0])


def test_a_stretch_of_uneven_length_counts_its_own_rounds() -> None:
    found = curve(np.array([1.0, 2.0, 6.0]), each=1, entries=2)
    assert (found.steps.tolist(), found.reward.tolist()) == ([1, 3], [1.0, 4.0])


def test_a_market_too_short_for_an_episode_is_an_error() -> None:
    known = signalled()
    with pytest.raises(ValueError, match="no market has 301 sessions in a row"):
        value(known.steady, known.markets, replace(known.rules, length=301), 4, 0)
