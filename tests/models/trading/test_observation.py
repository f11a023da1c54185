"""What a policy sees: by hand, causal row by row, the same through the manifest, and one unit of cost."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.decode import QUANTILES, Forecast, decode
from models.scaling import WINSOR_LIMIT
from models.trading import env, observation
from models.trading.market import Costs
from models.trading.observation import Scaling, complete, names, observe

HORIZONS = (1, 5, 21)
FEATURES = ("mom_21", "drawdown")
K = 2 * len(HORIZONS) + 3 + len(FEATURES)


def forecast(rows: int, seed: int = 0) -> Forecast:
    generator = np.random.default_rng(seed)
    y = generator.normal(0, 0.3, (rows, len(HORIZONS), 4))
    shape = np.tile(np.linspace(-2.3, 2.3, len(QUANTILES)), (len(HORIZONS), 1))
    return decode(y, generator.uniform(0.005, 0.03, rows), HORIZONS, shape, np.ones(len(HORIZONS)))


def seen(made: Forecast, features: np.ndarray | None = None) -> np.ndarray:
    rows = len(made.sigma)
    shown = np.zeros((rows, len(FEATURES)), np.float32) if features is None else features
    return observe(made, np.full(rows, 0.5), shown, HORIZONS, 20, 0.15)


def test_every_column_by_hand() -> None:
    levels = np.array(QUANTILES)
    made = Forecast(
        np.array([[0.01, 0.02]]), np.stack([levels - 0.5, 2 * (levels - 0.5)])[None] / 10, np.array([[0.5, 0.6]])
    )
    found = observe(made, np.array([0.75]), np.array([[3.0, np.nan]], np.float32), (1, 4), 4, 0.16, 256)
    by_name = dict(zip(names((1, 4), ("a", "b")), found[0].tolist(), strict=True))
    assert by_name["log_vol_h1"] == pytest.approx(0, abs=1e-6)  # 1 % a day is 16 % a year of 256 sessions
    assert by_name["log_vol_h4"] == pytest.approx(0, abs=1e-6)  # and so are 2 % in four
    assert by_name["q10"] == pytest.approx(-0.08 / 0.02)
    assert by_name["q90"] == pytest.approx(0.08 / 0.02)
    assert (by_name["p_up_h1"], by_name["p_up_h4"]) == (0, pytest.approx(0.1))
    assert (by_name["rule_weight"], by_name["a"]) == (0.75, 3)
    assert np.isnan(by_name["b"])
    assert found.dtype == np.float32


def test_a_risk_twice_as_high_is_log_two_and_the_year_of_each_ticker_counts() -> None:
    made = forecast(4)
    twice = seen(Forecast(2 * made.sigma, made.quantiles, made.p_up))
    np.testing.assert_allclose(twice[:, :3] - seen(made)[:, :3], np.log(2), rtol=1e-5)
    years = np.array([252.0, 365.0, 252.0, 100.0])
    features = np.zeros((4, len(FEATURES)), np.float32)
    each = observe(made, np.full(4, 0.5), features, HORIZONS, 20, 0.15, years)
    np.testing.assert_allclose((each - seen(made))[:, 0], np.log(years / 252) / 2, atol=1e-6)


@given(st.integers(0, 1000), st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_a_row_depends_on_its_own_forecast_alone(seed: int, rows: int) -> None:
    """So that nothing of another session, later ones among them, reaches it."""
    made = forecast(rows, seed)
    features = np.random.default_rng(seed).normal(size=(rows, len(FEATURES))).astype(np.float32)
    whole = seen(made, features)
    assert whole.shape == (rows, K)
    for row in (0, rows - 1):
        only = Forecast(*(part[row : row + 1] for part in made))
        np.testing.assert_array_equal(seen(only, features[row : row + 1])[0], whole[row])


def test_axes_before_the_columns_are_kept() -> None:
    made = Forecast(*(np.stack([part, part]) for part in forecast(5)))
    found = observe(made, np.full((2, 5), 0.5), np.zeros((2, 5, 2), np.float32), HORIZONS, 20, 0.15)
    np.testing.assert_array_equal(found[1], seen(forecast(5)))


def test_an_unknown_forecast_is_incomplete_and_a_missing_feature_is_not() -> None:
    made = forecast(3)
    made.sigma[1] = np.nan
    features = np.zeros((3, len(FEATURES)), np.float32)
    features[2, 0] = np.nan
    assert complete(seen(made, features), HORIZONS).tolist() == [True, False, True]


raw = arrays.arrays(
    np.float32,
    st.tuples(st.integers(2, 30), st.just(3)),
    elements=st.floats(-1e6, 1e6, width=32) | st.just(np.float32(np.nan)),
)


@given(raw)
@settings(deadline=None, max_examples=60)
def test_a_scaling_comes_back_from_the_manifest_to_the_bit(rows: np.ndarray) -> None:
    scaling = Scaling.fit(rows, ("a", "b", "c"))
    other = Scaling.from_json(json.loads(json.dumps(scaling.to_json(), allow_nan=False)))
    assert other.names == scaling.names
    np.testing.assert_array_equal(other.transform(rows), scaling.transform(rows))
    assert np.abs(scaling.transform(rows)).max() <= WINSOR_LIMIT


@pytest.mark.parametrize(("key", "value"), [("scale", 0.0), ("scale", -1.0), ("name", "b"), ("center", float("inf"))])
def test_a_scaling_that_cannot_be_meant_is_refused(key: str, value: object) -> None:
    held = Scaling.fit(np.eye(3, dtype=np.float32), ("a", "b", "c")).to_json()
    held["columns"][0][key] = value
    with pytest.raises(ValueError, match=r"twice|finite"):
        Scaling.from_json(held)


def test_names_and_scaling_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        Scaling.fit(np.eye(3, dtype=np.float32), ("a", "b"))


def test_the_environment_appends_the_weight_and_the_rate_in_the_unit_of_the_observation() -> None:
    opens = np.ones((1, 6, 1))
    playable = np.zeros((1, 6), bool)
    playable[:, :4] = True
    markets = env.Markets(opens, np.full((1, 6, 1, K), 7, np.float32), playable)
    rate = 3.0
    batch = env.Batch(markets, env.Rules(Costs(rate, 0.0), length=4), 2)
    found = batch.begin(np.zeros(2, np.int64), np.array([[0.25], [1.0]]))
    assert found.shape == (2, K + len(observation.OWN))
    np.testing.assert_allclose(found[:, K:], [[0.25, rate / observation.COST_UNIT_BPS], [1, rate / 10]], rtol=1e-6)
