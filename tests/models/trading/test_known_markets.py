"""The yardstick itself: what dynamic programming says the best policy is worth, it earns in the environment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.trading.policy import play, value
from tests.models.trading.known_markets import Known, Solution, banded, random_walk, signalled

Floats = np.ndarray


class By:
    """A policy by a function of the observation's columns."""

    def __init__(self, weight: Callable[[Floats], Floats]) -> None:
        self.weight = weight

    def target(self, observation: Floats) -> Floats:
        return self.weight(observation.T.astype(np.float64))[:, None]


@pytest.mark.parametrize("make", [signalled, banded])
def test_the_best_policy_earns_in_the_environment_what_the_oracle_says(make: Callable[[], Known]) -> None:
    known = make()
    worlds = [known.world.markets(100 + seed) for seed in range(10)]
    over = np.array([value(known.steady, markets, known.rules, 1024, 3) for markets in worlds]) - known.steady_value
    error = over.std(ddof=1) / np.sqrt(len(over))
    assert abs(over.mean()) < 4 * error
    assert error < 0.01 * (known.optimal - known.cash)


@pytest.mark.parametrize("make", [signalled, banded])
def test_cash_is_worth_what_the_oracle_says(make: Callable[[], Known]) -> None:
    known = make()
    out = value(By(lambda seen: 0 * seen[0]), known.unseen, known.rules, 8192, 3)
    assert out == pytest.approx(known.cash, rel=0.05)


@pytest.mark.parametrize("make", [signalled, banded])
def test_an_order_for_ever_is_nearly_as_good_as_one_that_minds_the_end(make: Callable[[], Known]) -> None:
    known = make()
    assert known.share(known.steady) == pytest.approx(
        (known.steady_value - known.cash) / (known.optimal - known.cash), abs=1e-9
    )
    assert 0.99 < known.share(known.steady) <= 1


def test_following_the_signal_whatever_it_costs_is_not_good_enough() -> None:
    known = signalled()
    assert known.share(By(lambda seen: seen[0])) < 0.85
    kept = By(lambda seen: np.where(seen[0] == 0, np.clip(seen[2], -1, 1), seen[0]))
    assert known.share(kept) > 0.95


def test_no_constant_exposure_and_no_target_without_a_band_is_best_at_dear_trades() -> None:
    known = banded()
    assert max(known.share(By(lambda seen, w=w: 0 * seen[0] + w)) for w in np.arange(0, 1.05, 0.1)) < 0.8
    assert known.share(By(lambda seen: np.where(seen[0] < 0, 0.8, 0.2))) < 0.93


def test_the_best_policy_at_dear_trades_is_a_band_for_each_volatility() -> None:
    known = banded()
    solution = Solution(known.world, known.rules)
    orders = solution.orders[solution.best[1][0]]  # (M, G)
    inside = [solution.weights[np.isnan(row)] for row in orders]
    assert (inside[0].min(), inside[0].max()) == pytest.approx((0.55, 0.75), abs=0.051)
    assert (inside[1].min(), inside[1].max()) == pytest.approx((0.15, 0.25), abs=0.051)
    for row, kept in zip(orders, inside, strict=True):
        ordered = np.where(np.isnan(row), solution.weights, row)
        assert (np.diff(ordered) >= -1e-12).all()
        assert (np.diff(kept) < 0.051).all()


def test_the_best_on_a_random_walk_is_never_to_trade() -> None:
    known = random_walk()
    found = play(known.steady, known.unseen, known.rules, 256, 0)
    assert known.optimal == known.cash == 0
    assert not found.turnover.any()
    assert value(By(lambda seen: np.sign(seen[0])), known.unseen, known.rules, 256, 0) < -0.2
