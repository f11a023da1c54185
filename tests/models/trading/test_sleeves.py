import numpy as np
import pytest

from models.trading.market import Costs, simulate
from models.trading.sleeves import COST_GRID_BPS, Sleeves, _crossing, volatility

NAN = np.nan
FREE = Costs(0.0, 0.0)


def walk(T: int, N: int, seed: int = 0, daily: float = 0.01) -> np.ndarray:
    steps = daily * np.random.default_rng(seed).standard_normal((T, N))
    return 20 * np.exp(np.cumsum(steps, axis=0))


def sleeves(opens: np.ndarray, pooled: bool, costs: Costs = FREE, band: float = 0.0) -> Sleeves:
    return Sleeves(opens, np.isfinite(opens), costs, band, pooled)


def test_a_portfolio_splits_capital_over_the_listed():
    opens = np.array([[10.0, NAN], [10, 10], [20, 10], [20, 10], [20, 20]])
    held = sleeves(opens, pooled=True)
    wealth = held.run(held.constant(np.ones(1))[None]).wealth[0, 0]
    # All in the first until the second is listed; then half each, and the second doubles.
    np.testing.assert_allclose(wealth, [1, 1, 2, 2, 3])


def test_alone_every_ticker_is_its_own_run():
    opens = walk(40, 3)
    weights = np.random.default_rng(1).uniform(0, 1, (2, 40, 3))
    costs = Costs(5.0, 1.0)
    curves = sleeves(opens, pooled=False, costs=costs, band=0.1).run(weights)
    for n in range(3):
        each = simulate(weights[:, :, n : n + 1], opens[:, n : n + 1], costs, 0.1)
        np.testing.assert_allclose(curves.wealth[:, n], each.wealth)
        np.testing.assert_allclose(curves.turnover[:, n], each.turnover)


def test_a_portfolio_of_one_is_that_ticker_alone():
    opens, weights = walk(30, 1), np.random.default_rng(1).uniform(0, 1, (1, 30, 1))
    one, other = (sleeves(opens, pooled, Costs(3.0, 0.0), 0.05).run(weights) for pooled in (True, False))
    np.testing.assert_allclose(one.wealth, other.wealth)


def test_curves_are_unknown_outside_a_life():
    opens = walk(20, 2)
    opens[:5, 1] = NAN
    opens[15:, 1] = NAN
    held = sleeves(opens, pooled=False)
    wealth = held.run(held.constant(np.ones(2))[None]).wealth[0]
    assert np.isfinite(wealth[0]).all()
    assert np.isfinite(wealth[1]).nonzero()[0].tolist() == list(range(5, 16))
    assert wealth[1, 5] == 1


def test_bought_and_held_trades_once_alone():
    opens = walk(30, 2)
    opens[:4, 1] = NAN
    held = sleeves(opens, pooled=False, costs=Costs(10.0, 0.0))
    curves = held.run(held.buy_and_hold()[None], np.zeros(1))
    assert [(curves.turnover[0, n] > 0).sum() for n in range(2)] == [1, 1]
    np.testing.assert_allclose(curves.wealth[0, 1, -1], opens[-1, 1] / opens[5, 1] / 1.001)


def test_bought_and_held_pooled_trades_when_the_tickers_change():
    opens = walk(30, 2)
    opens[:9, 1] = NAN
    held = sleeves(opens, pooled=True)
    curves = held.run(held.buy_and_hold()[None], np.zeros(1))
    assert (curves.turnover[0, 0] > 0).nonzero()[0].tolist() == [1, 10]


def test_an_order_to_hold_stands_until_there_is_a_price():
    opens = np.array([[10.0], [NAN], [10], [15]])
    held = Sleeves(opens, np.ones((4, 1), dtype=bool), FREE, 0.0, pooled=False)
    np.testing.assert_allclose(held.run(held.buy_and_hold()[None]).wealth[0, 0], [1, 1, 1, 1.5])


@pytest.mark.parametrize("pooled", [True, False])
def test_the_matched_exposure_has_the_same_volatility(pooled: bool):
    held = sleeves(walk(400, 2), pooled, Costs(2.0, 1.0), band=0.02)
    weights = np.random.default_rng(2).uniform(0.2, 1, (1, 400, 2))
    goal = held.run(weights).wealth[0]
    exposure = held.matched_exposure(goal)
    reached = held.run(held.constant(exposure)[None]).wealth[0]
    np.testing.assert_allclose(volatility(reached), volatility(goal), rtol=1e-3)


def test_break_even_is_where_growth_is_equal():
    opens = walk(500, 1, seed=3)
    rises = np.diff(np.log(opens[:, 0]), append=0)
    weights = np.zeros((1, 500, 1))
    weights[0, :-1, 0] = 0.5 + 0.4 * (np.roll(rises, -1) > 0)[:-1]  # foresight, so that costs decide
    held = sleeves(opens, pooled=False)
    found = held.breakeven_bps(weights, np.array([0.7]))[0, 0]
    assert 5 < found < 300
    runs = np.concatenate([weights, held.constant(np.array([0.7]))[None]])
    ends = held.run(runs, costs=Costs(found, 0.0)).wealth[:, 0, -1]
    ahead = held.run(runs, costs=Costs(0.0, 0.0)).wealth[:, 0, -1]
    assert abs(np.log(ends[0] / ends[1])) < 0.02 * np.log(ahead[0] / ahead[1])


def test_break_even_is_unknown_when_it_never_crosses():
    K = len(COST_GRID_BPS)
    behind, ahead = np.linspace(-1, -2, K), np.linspace(2, 1, K)
    straight = 10.0 - np.asarray(COST_GRID_BPS)
    found = _crossing(np.stack([behind, ahead, straight], axis=1)[:, None, :])[0]
    np.testing.assert_allclose(found, [NAN, NAN, 10.0])


@pytest.mark.parametrize("pooled", [True, False])
def test_a_ticker_that_is_no_longer_listed_is_sold_at_the_next_open(pooled: bool):
    opens = walk(20, 2)
    listed = np.ones((20, 2), dtype=bool)
    listed[8:14, 1] = False  # it leaves at the close of 8, though it goes on trading, and comes back at 14
    held = Sleeves(opens, listed, Costs(10.0, 0.0), 0.3, pooled)
    weights = np.where(listed, 0.2, NAN)[None]  # within the band of nothing: still sold whole
    weights[0, [0, 14]] = 1.0
    for decided in (weights[0], held.buy_and_hold(), held.constant(np.full(2, 0.4))):
        curves = held.run(decided[None])
        wealth = curves.wealth[0, 0 if pooled else 1]
        if not pooled:
            assert len(set(wealth[9:15].tolist())) == 1
            np.testing.assert_array_equal(curves.turnover[0, 1, [9, 15]] > 0.1, True)
        alone = held.run(np.where(np.arange(2) == 0, decided, 0.0)[None]).wealth[0, 0]
        moved = wealth if pooled else curves.wealth[0, 0]
        np.testing.assert_allclose(np.diff(np.log(moved))[9:14], np.diff(np.log(alone))[9:14], atol=2e-4)
