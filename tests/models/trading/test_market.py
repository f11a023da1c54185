import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.trading.market import Costs, State, carry, flat, simulate, step

NAN = np.nan
TEN_BPS = Costs(6.0, 4.0)
FREE = Costs(0.0, 0.0)


def cents(money: np.ndarray) -> list[float]:
    return np.round(10_000 * np.asarray(money), 2).tolist()


def one_asset(weights: list[float]) -> np.ndarray:
    return np.array(weights)[None, :, None]


def prices_of(seed: int, T: int, N: int) -> np.ndarray:
    steps = 0.03 * np.random.default_rng(seed).standard_normal((T, N))
    return 50 * np.exp(np.cumsum(steps, axis=0))


def targets_of(seed: int, E: int, T: int, N: int) -> np.ndarray:
    return np.random.default_rng(seed + 1).uniform(0, 1.2 / N, (E, T, N))


markets = st.tuples(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 4))


# -- golden, by hand, on 10,000 units ------------------------------------------------------------


def test_half_invested_then_a_quarter_to_the_cent():
    ledger = simulate(one_asset([0.5, 0.25, 0.25]), np.array([[90.0], [100.0], [102.0]]), TEN_BPS)
    # Open 1: 10,000 = w + .001 * .5 w, so w = 9,995.0025: 4,997.50 in the asset, 4,997.50 cash, cost 5.00.
    # Open 2: the asset is worth 5,097.45; before = 10,094.95; w = before - .001 * (5,097.45 - .25 w)
    #         = (10,094.9525 - 5.0975) / .99975 = 10,092.38: 2,523.09 kept, 2,574.36 sold, cost 2.57.
    assert cents(ledger.wealth[0]) == [10_000.00, 9_995.00, 10_092.38]
    assert cents(ledger.costs[0] * np.array([1, 1, 1.00949525])) == [0, 5.00, 2.57]
    assert cents(ledger.turnover[0] * np.array([1, 1, 1.00949525])) == [0, 4_997.50, 2_574.36]
    np.testing.assert_allclose(ledger.weights[0, :, 0], [0, 0.5, 0.25], rtol=1e-14)


def test_bought_and_held_pays_once_and_follows_the_price():
    ledger = simulate(one_asset([1.0, NAN, NAN, NAN]), np.array([[90.0], [100.0], [50.0], [125.0]]), TEN_BPS)
    # 10,000 / 1.001 = 9,990.01 buys 99.90 pieces.
    assert cents(ledger.wealth[0]) == [10_000.00, 9_990.01, 4_995.00, 12_487.51]
    assert (ledger.turnover[0] > 0).tolist() == [False, True, False, False]


def test_the_price_before_the_fill_earns_nothing():
    jump = simulate(one_asset([1.0, 1.0]), np.array([[50.0], [100.0]]), FREE)
    assert cents(jump.wealth[0]) == [10_000.00, 10_000.00]


def test_a_leveraged_position_drifts_and_borrows_for_nothing():
    ledger = simulate(one_asset([2.0, NAN, NAN]), np.array([[1.0], [10.0], [11.0]]), FREE)
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, 12_000.00]
    np.testing.assert_allclose(ledger.weights[0, 2, 0], 22 / 12)


def test_inside_the_band_nothing_is_traded():
    opens = np.array([[100.0], [100.0], [108.0], [130.0]])
    ledger = simulate(one_asset([0.5, 0.5, 0.5, 0.5]), opens, FREE, band=0.05)
    # Weights before trading: 54/104 = .519 (inside), 65/115 = .565 (outside, back to the target).
    np.testing.assert_allclose(ledger.weights[0, :, 0], [0, 0.5, 54 / 104, 0.5])
    assert (ledger.turnover[0] > 0).tolist() == [False, True, False, True]


def test_a_delisted_asset_is_closed_at_its_last_price_with_costs():
    opens = np.array([[10.0, 10], [10, 10], [12, 10], [NAN, 10], [NAN, 10]])
    targets = np.array([[[0.5, 0.0], [NAN, NAN], [0.5, NAN], [0.5, NAN], [0.5, NAN]]])
    ledger = simulate(targets, opens, TEN_BPS, max_gap=0)
    # Open 2: 5,997.00 + 4,997.50 = 10,994.50. Open 3: sold at 12, cost 6.00; nothing can be bought again.
    assert cents(ledger.wealth[0]) == [10_000.00, 9_995.00, 10_994.50, 10_988.51, 10_988.51]
    assert not ledger.weights[0, 3:].any()


def test_a_missing_price_is_carried_and_not_traded_for_a_while():
    opens = np.array([[10.0], [10], [NAN], [NAN], [11], [NAN], [NAN], [NAN]])
    ledger = simulate(one_asset([1, 0, 0, NAN, NAN, NAN, NAN, NAN]), opens, FREE, max_gap=2)
    np.testing.assert_allclose(ledger.weights[0, :, 0], [0, 1, 1, 1, 1, 1, 1, 0])
    assert cents(ledger.wealth[0]) == [10_000, 10_000, 10_000, 10_000, 11_000, 11_000, 11_000, 11_000]


def test_an_order_before_the_first_price_is_not_filled_later():
    opens = np.array([[NAN], [NAN], [10.0], [20.0], [30.0]])
    expired = simulate(one_asset([1, NAN, NAN, NAN, NAN]), opens, FREE)
    assert not expired.weights.any()
    listed = simulate(one_asset([NAN, 1, NAN, NAN, NAN]), opens, FREE)
    assert cents(listed.wealth[0]) == [10_000, 10_000, 10_000, 20_000, 30_000]


def test_a_ruined_strategy_ends_with_nothing():
    targets = one_asset([3.0, 3.0, 3.0, 3.0])
    ledger = simulate(targets, np.array([[10.0], [10.0], [5.0], [50.0]]), TEN_BPS)
    assert ledger.wealth[0, 2:].tolist() == [0, 0]
    assert not ledger.weights[0, 2:].any()


def test_costs_can_differ_by_strategy():
    targets = np.repeat(one_asset([1.0, NAN]), 2, axis=0)
    ledger = simulate(targets, np.array([[10.0], [10.0]]), Costs(np.array([0.0, 10.0]), 0.0))
    assert cents(ledger.wealth[:, 1]) == [10_000.00, 9_990.01]


def test_a_holding_without_a_price_now_is_an_error():
    state = State(np.ones(1), np.ones((1, 1)))
    with pytest.raises(ValueError, match="no price now"):
        step(state, np.ones((1, 1)), np.array([NAN]), np.array([10.0]), FREE)


# -- properties---------------


@given(markets, st.floats(0, 50), st.floats(0, 0.2))
@settings(deadline=None)
def test_wealth_is_conserved(market: tuple[int, int, int], bps: float, band: float):
    """Wealth changes by what the positions earned less what was paid, and by nothing else."""
    seed, T, N = market
    opens, targets = prices_of(seed, T, N), targets_of(seed, 3, T, N)
    ledger = simulate(targets, opens, Costs(bps, 0.0), band)
    for t in range(T - 1):
        earned = (ledger.weights[:, t] * (opens[t + 1] / opens[t] - 1)).sum(axis=1)
        before = ledger.wealth[:, t] * (1 + earned)
        np.testing.assert_allclose(ledger.wealth[:, t + 1], before * (1 - ledger.costs[:, t + 1]), rtol=1e-12)
        np.testing.assert_allclose(ledger.costs[:, t + 1], bps / 1e4 * ledger.turnover[:, t + 1], atol=1e-12)


@given(markets, st.floats(1e-3, 1e3), st.floats(1e-3, 1e6))
@settings(deadline=None)
def test_units_do_not_matter(market: tuple[int, int, int], price_unit: float, money_unit: float):
    seed, T, N = market
    opens, targets = prices_of(seed, T, N), targets_of(seed, 2, T, N)
    one, other = simulate(targets, opens, TEN_BPS), simulate(targets, opens * price_unit, TEN_BPS)
    np.testing.assert_allclose(one.wealth, other.wealth, rtol=1e-10)
    state, trades = step(flat(2, N), targets[:, 0], opens[0], opens[1], TEN_BPS)
    scaled = State(np.full(2, money_unit), np.zeros((2, N)))
    more, larger = step(scaled, targets[:, 0], opens[0], opens[1], TEN_BPS)
    np.testing.assert_allclose(more.wealth, state.wealth * money_unit, rtol=1e-12)
    np.testing.assert_allclose(more.weights, state.weights, rtol=1e-12)
    np.testing.assert_allclose(larger.value, trades.value * money_unit, rtol=1e-12)


@given(markets, st.integers(1, 11))
@settings(deadline=None)
def test_later_prices_and_targets_change_nothing_before(market: tuple[int, int, int], cut: int):
    seed, T, N = market
    cut = min(cut, T - 1)
    opens, targets = prices_of(seed, T, N), targets_of(seed, 2, T, N)
    one = simulate(targets, opens, TEN_BPS, 0.02)
    altered, other = opens.copy(), targets.copy()
    altered[cut:] = NAN if seed % 2 else altered[cut:] * 3
    other[:, cut:] = 0.9
    two = simulate(other, altered, TEN_BPS, 0.02)
    for a, b in zip(one, two, strict=True):
        assert a[:, :cut].tobytes() == b[:, :cut].tobytes()


@given(markets)
@settings(deadline=None)
def test_strategies_do_not_meet(market: tuple[int, int, int]):
    seed, T, N = market
    opens, targets = prices_of(seed, T, N), targets_of(seed, 4, T, N)
    together = simulate(targets, opens, TEN_BPS, 0.01).wealth
    alone = [simulate(targets[e : e + 1], opens, TEN_BPS, 0.01).wealth[0] for e in range(4)]
    np.testing.assert_allclose(together, alone, rtol=1e-14)


@given(markets, st.floats(0, 20), st.floats(1, 20))
@settings(deadline=None)
def test_higher_costs_leave_less(market: tuple[int, int, int], bps: float, more: float):
    seed, T, N = market
    opens, targets = prices_of(seed, T, N), targets_of(seed, 2, T, N)
    cheap, dear = (simulate(targets, opens, Costs(c, 0.0)).wealth[:, -1] for c in (bps, bps + more))
    assert (dear < cheap).all()


def test_prices_per_strategy_equal_one_run_each():
    opens, targets = prices_of(3, 9, 2), targets_of(3, 2, 9, 1)
    together = simulate(targets, opens.T[:, :, None], TEN_BPS).wealth
    alone = [simulate(targets[e : e + 1], opens[:, e : e + 1], TEN_BPS).wealth[0] for e in range(2)]
    np.testing.assert_array_equal(together, alone)


def test_carry_fills_short_gaps_only():
    prices = np.array([NAN, 1, NAN, NAN, NAN, 2, NAN])[:, None]
    np.testing.assert_array_equal(carry(prices, 2)[:, 0], [NAN, 1, 1, 1, NAN, 2, 2])
    np.testing.assert_array_equal(carry(prices, 0)[:, 0], [NAN, 1, NAN, NAN, NAN, 2, NAN])


def test_a_gap_is_counted_in_the_assets_own_sessions():
    # A stock beside a coin: the stock's exchange is closed on the dates 2 to 5.
    prices = np.array([1, 2, NAN, NAN, NAN, NAN, NAN, NAN, NAN])[:, None]
    own = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1], dtype=bool)[:, None]
    np.testing.assert_array_equal(carry(prices, 2, own)[:, 0], [1, 2, 2, 2, 2, 2, 2, 2, NAN])
    np.testing.assert_array_equal(carry(prices, 0, own)[:, 0], [1, 2, 2, 2, 2, 2, NAN, NAN, NAN])


@given(markets, st.integers(0, 6))
@settings(deadline=None)
def test_own_sessions_everywhere_are_the_plain_case(market: tuple[int, int, int], max_gap: int):
    seed, T, N = market
    prices = np.where(np.random.default_rng(seed).random((T, N)) < 0.4, NAN, prices_of(seed, T, N))
    plain = carry(prices, max_gap)
    assert plain.tobytes() == carry(prices, max_gap, np.ones((T, N), dtype=bool)).tobytes()


def test_an_order_that_stands_over_a_closed_exchange_is_filled_at_its_next_open():
    opens = np.array([[10.0], [NAN], [NAN], [12.0], [15.0]])
    own = np.array([True, False, False, True, True])[:, None]
    ledger = simulate(one_asset([1, 1, 1, NAN, NAN]), opens, FREE, max_gap=0, own=own)
    np.testing.assert_allclose(ledger.weights[0, :, 0], [0, 0, 0, 1, 1])
    assert cents(ledger.wealth[0]) == [10_000, 10_000, 10_000, 10_000, 12_500]
