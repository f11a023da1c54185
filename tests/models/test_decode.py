"""From outputs to a distribution: one row by hand, quantiles that cannot cross, no forecast without a volatility."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from features import frames
from models.decode import QUANTILES, decode

SHAPE = (-2.6, -1.7, -1.3, -0.6, 0.1, 0.6, 1.3, 1.7, 2.6)


def test_levels_are_those_of_the_tables() -> None:
    assert frames.QUANTILES == QUANTILES
    assert [f"q{round(100 * level):02d}" for level in QUANTILES] == list(frames.QUANTILE_COLUMNS)


def test_one_row_by_hand() -> None:
    y = np.array([[[0.2, np.log(2), np.log(3), 0.0], [0.0, 0.0, 0.0, np.log(3)]]], np.float32)
    shape = np.array([SHAPE, SHAPE])
    found = decode(y, np.array([0.01], np.float32), (1, 4), shape, np.array([1.1, 0.5]))
    down, up = 0.01 * (0.2 - 2 * 2.6), 0.01 * (0.2 + 3 * 2.6)
    np.testing.assert_allclose(found.quantiles[0, 0, [0, 4, 8]], [down, 0.01 * (0.2 + 3 * 0.1), up], rtol=1e-6)
    np.testing.assert_allclose(found.quantiles[0, 1], 0.02 * np.array(SHAPE), rtol=1e-6)
    np.testing.assert_allclose(found.sigma[0], [0.01 * np.sqrt((4 + 9) / 2) * 1.1, 0.02 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(found.p_up[0], [0.5, 0.75], rtol=1e-6)


def test_shapes_and_types() -> None:
    y = np.zeros((2, 5, 3, 4), np.float32)
    found = decode(y, np.full((2, 5), 0.01, np.float32), (1, 5, 20), np.tile(SHAPE, (3, 1)), np.ones(3))
    assert (found.sigma.shape, found.quantiles.shape, found.p_up.shape) == ((2, 5, 3), (2, 5, 3, 9), (2, 5, 3))
    assert {part.dtype for part in found} == {np.dtype(np.float64)}


def test_without_a_volatility_there_is_no_forecast_and_the_others_stay() -> None:
    y = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    arguments = ((1, 5), np.tile(SHAPE, (2, 1)), np.ones(2))
    found = decode(y, np.array([0.01, np.nan, 0.02], np.float32), *arguments)
    whole = decode(y, np.array([0.01, 0.01, 0.02], np.float32), *arguments)
    for part, other in zip(found, whole, strict=True):
        assert np.isnan(part[1]).all()
        np.testing.assert_array_equal(part[[0, 2]], other[[0, 2]])


outputs = arrays.arrays(np.float32, (4, 2, 4), elements=st.floats(-20, 20, width=32))
shapes = arrays.arrays(np.float64, (2, 9), elements=st.floats(-50, 50)).map(lambda a: np.sort(a, axis=-1))
vols = arrays.arrays(np.float32, (4,), elements=st.floats(np.float32(0.003), 1, width=32))


@given(outputs, vols, shapes)
def test_quantiles_never_cross(y: np.ndarray, vol: np.ndarray, shape: np.ndarray) -> None:
    found = decode(y, vol, (1, 20), shape, np.ones(2))
    assert (np.diff(found.quantiles, axis=-1) >= 0).all()
    assert (found.sigma > 0).all()
    assert ((found.p_up > 0) & (found.p_up < 1)).all()


@given(outputs, vols, st.sampled_from([0.5, 2.0, 4.0]))
def test_everything_but_p_up_scales_with_the_volatility(y: np.ndarray, vol: np.ndarray, by: float) -> None:
    arguments = ((1, 20), np.tile(SHAPE, (2, 1)), np.array([0.9, 1.2]))
    one, other = decode(y, vol, *arguments), decode(y, vol * np.float32(by), *arguments)
    np.testing.assert_array_equal(other.quantiles, one.quantiles * by)
    np.testing.assert_allclose(other.sigma, one.sigma * by, rtol=1e-12)
    np.testing.assert_array_equal(other.p_up, one.p_up)


@pytest.mark.filterwarnings("error")
def test_extreme_log_odds_are_certain_without_a_warning() -> None:
    y = np.zeros((2, 1, 4), np.float32)
    y[:, 0, 3] = 1000, -1000
    found = decode(y, np.full(2, 0.01, np.float32), (1,), np.array([SHAPE]), np.ones(1))
    assert found.p_up[:, 0].tolist() == [1, 0]
