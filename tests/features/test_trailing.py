"""Windows and averages against pandas, and that no bit of them depends on what is around."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import trailing
from features.trailing import Array, Sums

KEEP = 40


def holed(seed: int, tickers: int = 4, sessions: int = 130) -> Array:
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (tickers, sessions))
    x[generator.random(x.shape) < 0.15] = np.nan
    return x


def by_pandas(x: Array, n: int, statistic: str, **options: int) -> Array:
    windows = pd.DataFrame(x.T).rolling(n, min_periods=trailing.needed(n))
    return np.asarray(getattr(windows, statistic)(**options).to_numpy().T[:, -KEEP:])


def test_four_fifths_of_a_window_are_needed() -> None:
    assert [trailing.needed(n) for n in (1, 5, 14, 20, 60, 230, 250)] == [1, 4, 12, 16, 48, 184, 200]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 5, 20, 60, 120, 200]))
def test_windows_are_those_of_pandas(seed: int, n: int) -> None:
    x = holed(seed)
    first = Sums(x, KEEP)
    second = Sums(x**2, KEEP, like=first)
    alike = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(first.mean(n), by_pandas(x, n, "mean"), **alike)
    np.testing.assert_allclose(second.rms(n), np.sqrt(by_pandas(x**2, n, "mean")), **alike)
    np.testing.assert_array_equal(trailing.highest(x, n, KEEP), by_pandas(x, n, "max"))
    np.testing.assert_array_equal(trailing.lowest(x, n, KEEP), by_pandas(x, n, "min"))
    for ddof in (0, 1):
        if n > 2:
            np.testing.assert_allclose(
                trailing.deviation(first, second, n, ddof), by_pandas(x, n, "std", ddof=ddof), **alike
            )


def test_a_lagged_window_ends_earlier() -> None:
    x = holed(1)
    expected = pd.DataFrame(x.T).rolling(30, min_periods=24).mean().shift(20).to_numpy().T[:, -KEEP:]
    np.testing.assert_allclose(Sums(x, KEEP).mean(30, 20), expected, rtol=1e-9, atol=1e-12)
    # A history shorter than the lag has no such window.
    assert np.isnan(Sums(x[:, :10], 10).mean(5, 20)).all()


def test_sessions_since_the_highest() -> None:
    x = np.array([[1.0, 3.0, 2.0, np.nan, 2.5, 0.0, 0.0]])
    np.testing.assert_array_equal(trailing.since_highest(x, 5, 3), [[3, 4, 2]])
    # The latest of equals counts.
    np.testing.assert_array_equal(trailing.since_highest(np.array([[1.0, 3.0, 2.0, 3.0, 0.0]]), 5, 1), [[1]])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 0.99), st.integers(1, 30))
def test_exponential_averages_are_those_of_pandas(seed: int, decay: float, warm_up: int) -> None:
    x = holed(seed)
    expected = pd.DataFrame(x.T).ewm(alpha=1 - decay, ignore_na=True, min_periods=warm_up).mean().to_numpy().T
    np.testing.assert_allclose(trailing.ewma(x, decay, warm_up), expected, rtol=1e-9, atol=1e-12)


def test_what_is_carried_and_lagged() -> None:
    x = np.array([[np.nan, 1.0, np.nan, 3.0]])
    np.testing.assert_array_equal(trailing.carried(x), [[np.nan, 1, 1, 3]])
    np.testing.assert_array_equal(trailing.lagged(x, 2, 3), [[np.nan, np.nan, 1]])
    np.testing.assert_array_equal(trailing.lagged(x, 9, 3), [[np.nan] * 3])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 30), st.integers(1, 60))
def test_no_bit_depends_on_what_comes_before_or_later(seed: int, front: int, behind: int) -> None:
    x = holed(seed)
    x[:, 70] = np.abs(x[:, 70])
    padded = np.pad(x, ((1, 2), (front, 0)), constant_values=np.nan)
    for n in (1, 5, 20, 60):
        for compute in (
            lambda a, keep, n=n: Sums(a**2, keep).rms(n),
            lambda a, keep, n=n: trailing.highest(a, n, keep),
        ):
            whole = compute(x, 130)
            assert compute(padded, 130)[1:-2].tobytes() == whole.tobytes()
            assert compute(np.ascontiguousarray(x[:, :-behind]), 1).tobytes() == whole[:, [-behind - 1]].tobytes()
    whole = trailing.ewma(x, 0.94)
    assert trailing.ewma(padded, 0.94)[1:-2, front:].tobytes() == whole.tobytes()
    assert trailing.ewma(x[:, :-behind], 0.94).tobytes() == np.ascontiguousarray(whole[:, :-behind]).tobytes()
    for one in (trailing.ln, trailing.across):
        whole = one(x)
        for at in (0, 1, 64, 129):
            assert one(x[:, at : at + 1]).tobytes() == np.ascontiguousarray(whole[:, at : at + 1]).tobytes()
    assert trailing.across(np.pad(x, ((3, 9), (0, 0)), constant_values=np.nan)).tobytes() == (
        trailing.across(x).tobytes()
    )


def test_ratios_have_a_floor_and_no_infinities() -> None:
    top, bottom = np.array([[1.0, 0.0, 1.0, 0.0, np.nan]]), np.array([[2.0, 1.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(trailing.log_ratio(top, bottom), [[np.log(0.5), -5, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(trailing.quotient(top, bottom), [[0.5, 0, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(trailing.ln(np.array([[-1.0, 0.0]])), [[np.nan, np.nan]])


@pytest.mark.parametrize("level", [0.0, 14.2, -3.3])
def test_what_never_moves_has_no_deviation(level: float) -> None:
    x = np.full((1, 700), level)
    first = Sums(x, 700)
    assert np.isnan(trailing.deviation(first, Sums(x**2, 700), 20)).all()
