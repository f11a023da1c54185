"""Robust scaling: fitted by hand, finite whatever comes in, the same for a row alone and in a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.scaling import WINSOR_LIMIT, Scaler

NAN, INF = np.float32(np.nan), np.float32(np.inf)

figures = st.floats(-(2.0**99), 2.0**99, width=32) | st.sampled_from([NAN, INF, -INF])
raw = arrays.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=figures)


def test_median_and_interquartile_range_by_hand() -> None:
    x = np.array([[1, 7], [2, 7], [3, 7], [4, 7], [NAN, 0], [5, 7]], np.float32)
    scaler = Scaler.fit(x)
    assert scaler.center.tolist() == [3, 0]  # the second is one value in its middle half: it keeps its units
    np.testing.assert_allclose(scaler.scale, [(4 - 2) / 1.349, 1], rtol=1e-6)
    assert (scaler.center.dtype, scaler.scale.dtype, scaler.limit) == (np.float32, np.float32, WINSOR_LIMIT)


def test_a_normal_feature_keeps_its_standard_deviation() -> None:
    x = np.random.default_rng(0).normal(2, 0.01, (100_000, 1)).astype(np.float32)
    assert Scaler.fit(x).transform(x).std() == pytest.approx(1, abs=0.02)


def test_transform_by_hand() -> None:
    scaler = Scaler(np.array([1, 0], np.float32), np.array([2, 0.5], np.float32), limit=3.0)
    found = scaler.transform(np.array([[3, 1], [NAN, -1], [100, -100], [INF, -INF]], np.float32))
    assert found.tolist() == [[1, 2], [0, -2], [3, -3], [3, -3]]
    assert found.dtype == np.float32


def test_a_missing_value_is_the_centre_and_not_the_limit() -> None:
    scaler = Scaler.fit(np.arange(10, dtype=np.float32)[:, None])
    assert scaler.transform(np.array([[NAN]], np.float32)) == 0
    assert scaler.transform(scaler.center[None]) == 0


def test_a_feature_that_was_never_there() -> None:
    x = np.full((4, 2), NAN)
    x[:, 1] = np.arange(4)
    scaler = Scaler.fit(x)
    assert (scaler.center[0], scaler.scale[0]) == (0, 1)
    assert (scaler.transform(x)[:, 0] == 0).all()


def test_infinities_do_not_move_the_fit() -> None:
    x = np.arange(9, dtype=np.float32)[:, None]
    spoiled = np.vstack([x, np.full((9, 1), INF), np.full((9, 1), -INF)])
    assert Scaler.fit(spoiled).center == Scaler.fit(x).center
    assert Scaler.fit(spoiled).scale == Scaler.fit(x).scale


def test_the_input_is_left_as_it_was() -> None:
    x = np.array([[NAN, 9.0], [1.0, 2.0]], np.float32)
    before = x.copy()
    Scaler.fit(x).transform(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@given(raw, raw)
def test_always_finite_and_inside_the_limit(fitted: np.ndarray, x: np.ndarray) -> None:
    scaler = Scaler.fit(fitted)
    assert np.isfinite(scaler.center).all()
    assert (np.isfinite(scaler.scale) & (scaler.scale > 0)).all()
    found = scaler.transform(x)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= WINSOR_LIMIT


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@given(raw)
def test_a_row_alone_is_the_row_in_its_batch(x: np.ndarray) -> None:
    scaler = Scaler(np.array([0.1, 0, -3], np.float32), np.array([2, 0.3, 1], np.float32))
    np.testing.assert_array_equal(scaler.transform(x[None]), scaler.transform(x)[None])
    np.testing.assert_array_equal(np.stack([scaler.transform(row) for row in x]), scaler.transform(x))


@pytest.mark.parametrize("shape", [(0, 3), (4,), (2, 3, 4)])
def test_a_fit_needs_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a scaler needs"):
        Scaler.fit(np.zeros(shape, np.float32))
