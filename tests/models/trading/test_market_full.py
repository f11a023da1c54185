"""Impact, dividends, borrowing, splits, delisting and limits: golden episodes by hand on 10,000 units, and properties
held against an account that is kept by the share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.trading.market import Costs, Ledger, Limits, Payouts, State, fill, hold, simulate, step
from tests.models.trading import share_account
from tests.models.trading.share_account import Terms

NAN = np.nan
FREE = Costs(0.0, 0.0)
TEN_BPS = Costs(6.0, 4.0)


def cents(money: np.ndarray) -> list[float]:
    return np.round(10_000 * np.asarray(money), 2).tolist()


def one_asset(values: list[float]) -> np.ndarray:
    return np.array(values)[None, :, None]


def prices(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


# -- golden ------------------------------------------------------------------------------------------


def test_impact_grows_with_the_square_of_the_trade() -> None:
    ledger = simulate(one_asset([1.0, 0.5, NAN]), prices(90, 100, 110), Costs(0.0, 0.0, impact_bps=100.0))
    # Open 1: w = 1 - .01 w^2, so w = (sqrt(1.04) - 1) / .02 = .990195: 9,901.95 bought, 98.05 paid.
    # Open 2: before = 10,892.15; its share u left solves u = 1 - .01 (1 - .5 u)^2, u = (sqrt(.99) - .99) / .005
    #         = .997487: w = 10,864.78, paid 27.37.
    assert cents(ledger.wealth[0]) == [10_000.00, 9_901.95, 10_864.78]
    assert cents(ledger.costs[0] * np.array([1, 1, 1.08921465])) == [0, 98.05, 27.37]


def test_spread_commission_and_impact_add_up() -> None:
    ledger = simulate(one_asset([0.5, NAN]), prices(1, 1), Costs(20.0, 30.0, impact_bps=40.0))
    # w = 1 - .005 (.5 w) - .004 (.5 w)^2: .001 w^2 + 1.0025 w - 1 = 0, w = .996516.
    assert cents(ledger.wealth[0]) == [10_000.00, 9_965.16]


def test_a_dividend_is_paid_in_cash_for_every_share_held_at_the_earlier_open() -> None:
    ledger = simulate(
        one_asset([0.8, NAN, NAN]), prices(51, 50, 49), FREE, payouts=Payouts(prices(7, 2, 9), prices(1, 1, 1))
    )
    # 8,000 / 50 = 160 shares, 160 x 49 = 7,840, and 320 in dividends; the one before the fill is not ours.
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, 10_160.00]
    assert ledger.weights[0, 2, 0] == pytest.approx(7_840 / 10_160)


def test_who_is_short_pays_the_dividend() -> None:
    ledger = simulate(one_asset([-0.8, NAN, NAN]), prices(51, 50, 49), FREE, payouts=Payouts(prices(0, 2, 0)))
    # 160 shares short: +160 by the price, -320 for the dividend.
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, 9_840.00]


def test_a_dividend_between_the_last_opens_of_an_asset_is_still_paid() -> None:
    ledger = simulate(
        one_asset([0.8, NAN, NAN]), prices(50, 50, NAN), FREE, max_gap=0, payouts=Payouts(prices(0, 2, 0)), recovery=0.5
    )
    # 160 shares at 25 and 320 in dividends.
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, 6_320.00]


def test_borrowed_shares_cost_their_fee_every_session() -> None:
    ledger = simulate(one_asset([-0.5, NAN, NAN, NAN]), prices(90, 100, 110, 99), Costs(6.0, 4.0, borrow_bps=252.0))
    # Open 1: w = 1 - .001 (.5 w), 9,995.00; short 49.975 shares, 4,997.50.
    # Open 2: 499.75 lost, 1 bp of 4,997.50 = .50: 9,494.75. Open 3: 549.73 won, 1 bp of 5,497.25 = .55: 10,043.93.
    assert cents(ledger.wealth[0]) == [10_000.00, 9_995.00, 9_494.75, 10_043.93]


def test_cash_that_is_owed_costs_interest() -> None:
    ledger = simulate(one_asset([2.0, NAN, NAN, NAN]), prices(9, 10, 11, 11), Costs(0.0, 0.0, margin_bps=504.0))
    # 10,000 owed at 2 bps: 22,000 - 10,002; then 2 bps of 10,002.
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, 11_998.00, 11_996.00]


def test_what_is_received_for_shorts_is_not_owed() -> None:
    targets = np.array([[[1.2, -0.4], [NAN, NAN], [NAN, NAN]]])
    ledger = simulate(targets, np.full((3, 2), 10.0), Costs(0.0, 0.0, margin_bps=504.0))
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, 10_000.00]
    deeper = simulate(targets * [1.0, 0.25], np.full((3, 2), 10.0), Costs(0.0, 0.0, margin_bps=504.0))
    # 12,000 bought, 1,000 received: 1,000 owed at 2 bps.
    assert cents(deeper.wealth[0]) == [10_000.00, 10_000.00, 9_999.80]


@pytest.mark.parametrize(("split", "after", "end"), [(2.0, 55.0, 10_500.0), (0.1, 950.0, 9_750.0)])
def test_a_split_changes_shares_and_no_money(split: float, after: float, end: float) -> None:
    ledger = simulate(
        one_asset([0.5, NAN, NAN]), prices(99, 100, after), FREE, payouts=Payouts(0.0, prices(3, split, 1))
    )
    # 50 shares become 100 at 55, or 5 at 950; the split before the fill is not ours.
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, end]


def test_a_split_while_the_price_is_missing_changes_no_money_either() -> None:
    ledger = simulate(
        one_asset([0.5, NAN, NAN, NAN, NAN]), prices(100, 100, NAN, 51, NAN), FREE, max_gap=1,
        payouts=Payouts(0.0, prices(1, 2, 1, 1, 1)),
    )  # fmt: skip
    assert cents(ledger.wealth[0]) == [10_000.00, 10_000.00, 10_000.00, 10_100.00, 10_100.00]


def test_a_delisted_asset_brings_what_is_recovered_less_costs() -> None:
    targets = np.array([[[0.5], [NAN], [0.5]], [[-0.5], [NAN], [-0.5]]])
    ledger = simulate(targets, prices(9, 10, NAN), TEN_BPS, max_gap=0, recovery=0.3)
    # 9,995.00; long: 4,997.50 in cash, 1,499.25 recovered, 1.50 paid. Short: 14,992.50 - 1,499.25 - 1.50.
    assert cents(ledger.wealth) == [[10_000.00, 9_995.00, 6_495.25], [10_000.00, 9_995.00, 13_491.75]]
    assert not ledger.weights[:, 2].any()


def test_a_delisted_asset_can_be_worth_nothing() -> None:
    ledger = simulate(one_asset([1.0, NAN, 1.0, 1.0]), prices(9, 10, NAN, NAN), TEN_BPS, max_gap=0, recovery=0.0)
    assert cents(ledger.wealth[0]) == [10_000.00, 9_990.01, 0.0, 0.0]


def test_a_target_is_brought_within_the_limits_of_each_and_of_all() -> None:
    targets = np.array([[[0.9, -0.5, 0.8], [NAN, NAN, 0.1]], [[0.3, -0.1, 0.2], [NAN, NAN, NAN]]])
    ledger = simulate(targets, np.full((2, 3), 10.0), FREE, limits=Limits(-0.2, 0.6, gross=1.0))
    # (.6, -.2, .6) hold 1.4 together.
    np.testing.assert_allclose(ledger.weights[:, 1], [[3 / 7, -1 / 7, 3 / 7], [0.3, -0.1, 0.2]])


def test_limits_hold_for_orders_not_for_what_is_left_alone() -> None:
    opens = np.array([[10.0, 10], [10, 10], [30, 10]])
    targets = np.array([[[0.6, 0.4], [NAN, 0.9], [NAN, NAN]]])
    ledger = simulate(targets, opens, FREE, limits=Limits(0.0, 0.6, gross=1.0))
    # 18,000 of 22,000 in the first, left alone; the order for the second is within both limits.
    np.testing.assert_allclose(ledger.weights[0, 2], [18 / 22, 0.6])


def test_an_episode_with_everything_in_it_to_the_cent() -> None:
    opens = np.array([[20.0, 80], [20, 80], [22, 41], [NAN, 40]])
    payouts = Payouts(np.array([[0, 0], [0.5, 0], [0, 1.0], [0, 0]]), np.array([[1, 1], [1, 2.0], [1, 1], [1, 1]]))
    targets = np.array([[[0.9, -0.6], [NAN, -0.3], [0.5, NAN], [NAN, NAN]]])
    costs = Costs(6.0, 4.0, borrow_bps=252.0, margin_bps=504.0)
    ledger = simulate(targets, opens, costs, max_gap=0, limits=Limits(-0.5, 0.8), payouts=payouts, recovery=0.9)
    # Open 1: (.8, -.5): w = 10,000 / 1.0013 = 9,987.02: 399.4807 shares, 7,989.61; 62.4189 short, 4,993.51;
    #         cash 6,990.91.
    # Open 2: 8,788.58; 124.8377 short at 41: -5,118.35; cash 6,990.91 + 199.74 dividend - .50 fee = 7,190.15.
    #         Before 10,860.38; to -.3: w = 10,860.38 - .001 (5,118.35 - .3 w), w = 10,858.52, paid 1.86.
    #         Short 3,257.56, 79.4526 shares; cash 7,190.15 - 1,860.79 - 1.86 = 5,327.50.
    # Open 3: gone at .9 x 22, 7,909.72 less 7.91; short at 40, -3,178.10; dividend -79.45, fee -.33.
    assert cents(ledger.wealth[0]) == [10_000.00, 9_987.02, 10_858.52, 9_971.43]
    np.testing.assert_allclose(ledger.weights[0, 3], [0, -3_178.10 / 9_971.43], rtol=1e-5, atol=1e-15)


# -- properties --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A market of everything: (T, N) histories, (E, T, N) targets, some of them NaN, and terms."""

    opens: np.ndarray
    dividends: np.ndarray
    splits: np.ndarray
    targets: np.ndarray
    terms: Terms
    max_gap: int

    def run(self, **changes: np.ndarray) -> Ledger:
        opens, dividends, splits, targets = (
            changes.get(name, getattr(self, name)) for name in ("opens", "dividends", "splits", "targets")
        )
        terms = self.terms
        return simulate(
            targets, opens, terms.costs, terms.band, self.max_gap, None, terms.limits, Payouts(dividends, splits),
            terms.recovery,
        )  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    seed, T, N = draw(st.integers(0, 10**6)), draw(st.integers(2, 10)), draw(st.integers(1, 4))
    generator = np.random.default_rng(seed)
    splits = np.where(generator.random((T, N)) < 0.15, generator.choice([0.1, 2.0, 3.0], (T, N)), 1.0)
    opens = 50 * np.exp(np.cumsum(0.05 * generator.standard_normal((T, N)), axis=0))
    opens /= np.cumprod(np.vstack([np.ones((1, N)), splits[:-1]]), axis=0)  # as quoted: a split lowers the price
    dividends = np.where(generator.random((T, N)) < 0.2, 0.03 * opens, 0.0)
    if draw(st.booleans()):
        opens[generator.random((T, N)) < 0.25] = NAN
    targets = generator.uniform(-1.0, 1.5, (3, T, N)) / np.sqrt(N)
    targets[generator.random(targets.shape) < 0.3] = NAN
    bps = st.floats(0, 40)
    costs = Costs(draw(bps), draw(bps), draw(st.floats(0, 200)), draw(st.floats(0, 2000)), draw(st.floats(0, 2000)))
    limits = draw(st.sampled_from([Limits(), Limits(-0.3, 0.7), Limits(gross=0.8), Limits(-0.5, 1.0, 1.2)]))
    terms = Terms(costs, limits, draw(st.sampled_from([1.0, 0.5, 0.0])), draw(st.sampled_from([0.0, 0.05])))
    return Case(opens, dividends, splits, targets, terms, draw(st.integers(0, 3)))


@given(cases())
@settings(deadline=None, max_examples=60)
def test_it_agrees_with_an_account_kept_by_the_share(case: Case) -> None:
    ledger = case.run()
    for e, targets in enumerate(case.targets):
        account, wealth, weights = share_account.run(
            targets, case.opens, case.dividends, case.splits, case.terms, case.max_gap
        )
        np.testing.assert_allclose(ledger.wealth[e], wealth, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(ledger.weights[e], weights, rtol=1e-8, atol=1e-9)
        if not account.ruined:
            moved = account.earned + account.dividends - account.costs - account.fees
            assert ledger.wealth[e, -1] - 1 == pytest.approx(moved, abs=1e-10)
            before = ledger.wealth[e] / (1 - ledger.costs[e])
            assert (ledger.costs[e] * before).sum() == pytest.approx(account.costs, abs=1e-10)


@given(cases(), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=40)
def test_the_unit_of_a_price_does_not_matter(case: Case, unit: float) -> None:
    units = unit ** np.arange(1, case.opens.shape[1] + 1)
    other = case.run(opens=case.opens * units, dividends=case.dividends * units)
    for one, two in zip(case.run(), other, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-10)


@given(cases(), st.floats(1e-3, 1e6))
@settings(deadline=None, max_examples=40)
def test_twice_the_money_earns_twice_the_money(case: Case, unit: float) -> None:
    terms, known = case.terms, np.nan_to_num(case.opens, nan=50.0)
    weights = np.nan_to_num(case.targets[:, 0])
    found = [
        step(State(np.full(3, size), weights), case.targets[:, 1], known[0], case.opens[1], terms.costs, terms.band,
             None, terms.limits, Payouts(case.dividends[0], case.splits[0]), terms.recovery)
        for size in (1.0, unit)
    ]  # fmt: skip
    np.testing.assert_allclose(found[1][0].wealth, found[0][0].wealth * unit, rtol=1e-10)
    np.testing.assert_allclose(found[1][0].weights, found[0][0].weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[1][1].value, found[0][1].value * unit, rtol=1e-9, atol=1e-10 * unit)
    np.testing.assert_allclose(found[1][1].cost, found[0][1].cost * unit, rtol=1e-8, atol=1e-10 * unit)


@given(cases())
@settings(deadline=None, max_examples=40)
def test_quoted_prices_with_their_splits_are_adjusted_prices_without(case: Case) -> None:
    pieces = np.cumprod(np.vstack([np.ones((1, case.opens.shape[1])), case.splits[:-1]]), axis=0)
    whole = case.run(opens=case.opens * pieces, dividends=case.dividends * pieces, splits=np.ones_like(case.splits))
    for one, two in zip(case.run(), whole, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-10)


@given(cases(), st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_what_comes_later_changes_nothing_before(case: Case, cut: int) -> None:
    cut = min(cut, len(case.opens) - 1)
    opens, dividends, splits, targets = (
        part.copy() for part in (case.opens, case.dividends, case.splits, case.targets)
    )
    opens[cut:] *= 3
    opens[cut:, 0] = NAN
    dividends[cut - 1 :] += 1
    splits[cut - 1 :] = 5
    targets[:, cut:] = 0.4
    other = case.run(opens=opens, dividends=dividends, splits=splits, targets=targets)
    for one, two in zip(case.run(), other, strict=True):
        assert one[:, :cut].tobytes() == two[:, :cut].tobytes()


@given(cases())
@settings(deadline=None, max_examples=40)
def test_orders_end_within_the_limits(case: Case) -> None:
    every = np.nan_to_num(case.targets)
    ledger = Case(case.opens, case.dividends, case.splits, every, Terms(FREE, Limits(-0.3, 0.7, 0.8)), 0).run()
    traded = np.isfinite(case.opens).all(axis=1)
    assert (ledger.weights[:, traded] >= -0.3 - 1e-12).all()
    assert (ledger.weights[:, traded] <= 0.7 + 1e-12).all()
    assert (np.abs(ledger.weights[:, traded]).sum(axis=-1) <= 0.8 + 1e-12).all()


@given(cases())
@settings(deadline=None, max_examples=40)
def test_a_step_is_holding_and_then_filling(case: Case) -> None:
    terms, known = case.terms, np.nan_to_num(case.opens, nan=50.0)
    state = State(np.ones(3), np.nan_to_num(case.targets[:, 0]))
    paid = Payouts(case.dividends[0], case.splits[0])
    whole = step(state, case.targets[:, 1], known[0], case.opens[1], terms.costs, terms.band, None, terms.limits, paid)
    owned = hold(state, known[0], case.opens[1], terms.costs, paid)
    gone = ~np.isfinite(case.opens[1])
    halves = fill(owned, terms.limits.clip(case.targets[:, 1]), terms.costs, terms.band, None, gone)
    for one, two in zip((*whole[0], *whole[1]), (*halves[0], *halves[1]), strict=True):
        assert one.tobytes() == two.tobytes()
