import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.trading.rules import RUIN, Banded, momentum, rewards


def test_momentum_holds_the_most_after_a_rise_and_the_least_after_a_fall():
    closes = np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0], [0.5, 6.0]])
    weights = momentum(closes, -1.0, 2.0, sessions=2)
    np.testing.assert_array_equal(weights, [[np.nan] * 2, [np.nan] * 2, [2.0, -1.0], [-1.0, 2.0]])


def test_momentum_carries_a_short_gap_and_has_no_view_after_a_long_one():
    closes = np.ones((20, 1))
    closes[3:6], closes[8:16] = np.nan, np.nan
    closes[7] = 2.0
    weights = momentum(closes, 0.0, 1.0, sessions=3)[:, 0]
    assert weights[5] == 0.0  # the close of session 2, carried, is no rise over that of session 2
    assert weights[7] == 1.0
    assert np.isnan(weights[13:16]).all()  # five sessions carry, the next are unknown


def test_momentum_of_a_history_shorter_than_the_return_has_no_view():
    assert np.isnan(momentum(np.ones((100, 2)), 0.0, 1.0)).all()


@given(st.integers(0, 39), st.integers(0, 2**32 - 1))
def test_momentum_before_a_session_does_not_depend_on_it(cut: int, seed: int):
    generator = np.random.default_rng(seed)
    closes = np.exp(generator.standard_normal((40, 3)))
    altered = closes.copy()
    altered[cut:] = np.exp(generator.standard_normal((40 - cut, 3)))
    before, after = (momentum(each, 0.0, 1.0, sessions=7)[:cut] for each in (closes, altered))
    assert before.tobytes() == after.tobytes()


def test_a_banded_rule_trades_to_its_target_only_when_further_than_the_band():
    rule = Banded(column=1, center=0.5, scale=0.1, band=0.05)
    # Targets of 0.6, 0.6 and 0.3; own weights stand before the rate of cost.
    seen = np.array([[9, 1, 0.56, 0.5], [9, 1, 0.54, 0.5], [9, -2, 0.36, 0.5]], np.float32)
    np.testing.assert_allclose(rule.target(seen), [[np.nan], [0.6], [0.3]])


def test_rewards_are_growth_less_half_the_aversion_times_its_square():
    wealth = np.array([[np.nan, 1.0, 1.1, 1.1 * 0.9, np.nan]])
    up, down = np.log(1.1), np.log(0.9)
    expected = [np.nan, np.nan, up - 1.5 * up**2, down - 1.5 * down**2, np.nan]
    np.testing.assert_allclose(rewards(wealth, 3.0), [expected])


def test_ruin_costs_as_much_as_in_training():
    np.testing.assert_allclose(rewards(np.array([1.0, 0.0, 0.0]), 0.0), [np.nan, np.log(RUIN), np.nan])


@given(st.floats(0.0, 10.0), st.floats(0.01, 100.0))
def test_rewards_do_not_depend_on_the_scale_of_wealth(aversion: float, scale: float):
    wealth = np.exp(np.cumsum(np.linspace(-0.05, 0.05, 30)))
    assert rewards(wealth * scale, aversion)[1:] == pytest.approx(rewards(wealth, aversion)[1:], abs=1e-12)
