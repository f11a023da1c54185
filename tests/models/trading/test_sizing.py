import numpy as np
import pytest

from models.compact.runtime import target_weights
from models.trading.sizing import sizing_horizon, target_weight


def test_a_ten_percent_target_on_twenty_percent_volatility_is_half():
    sigma = 0.20 * np.sqrt(5 / 252)
    assert target_weight(np.array(sigma), 5, 0.10, 1.0) == pytest.approx(0.5)


def test_weights_are_capped_and_unknown_stays_unknown():
    weights = target_weight(np.array([[0.0, 1e-9, np.nan, 0.02]]), 1, 0.10, 1.5)
    np.testing.assert_allclose(weights, [[1.5, 1.5, np.nan, 0.10 / (0.02 * np.sqrt(252))]])


@pytest.mark.parametrize(("wanted", "found"), [(1, 1), (4, 1), (5, 5), (19, 5), (60, 20)])
def test_the_nearest_horizon_below(wanted: int, found: int):
    assert sizing_horizon((1, 5, 20), wanted) == found


def test_the_shortest_horizon_where_none_is_below():
    assert sizing_horizon((5, 20), 1) == 5


@pytest.mark.parametrize("wanted", [1, 5, 7, 20])
def test_the_scorer_sizes_by_the_same_rule(wanted: int):
    sigma = np.random.default_rng(0).uniform(0.005, 0.1, (50, 3))
    horizon = sizing_horizon((1, 5, 20), wanted)
    sizing = {"target_volatility": 0.1, "horizon": wanted, "max_weight": 1.0}
    expected = target_weight(sigma[:, (1, 5, 20).index(horizon)], horizon, 0.1, 1.0)
    np.testing.assert_allclose(target_weights(sigma, (1, 5, 20), sizing), expected, rtol=1e-12)
