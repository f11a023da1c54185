from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from models.decode import QUANTILES
from pipeline.evidence import metrics

NORMAL = norm.ppf(QUANTILES)


def test_pinball_by_hand() -> None:
    # Level .9: above the quantile costs .9 a unit, below it .1.
    assert metrics.pinball(np.array([3.0]), np.array([[1.0]]), (0.9,))[0] == pytest.approx(1.8)
    assert metrics.pinball(np.array([0.0]), np.array([[1.0]]), (0.9,))[0] == pytest.approx(0.1)


def test_pinball_is_least_at_the_quantile() -> None:
    draws = np.random.default_rng(0).normal(0, 1, 20_000)
    grid = np.linspace(-2.5, 2.5, 101)
    for level in (0.1, 0.5, 0.9):
        losses = [metrics.pinball(draws, np.full((len(draws), 1), q), (level,)).mean() for q in grid]
        assert grid[int(np.argmin(losses))] == pytest.approx(np.quantile(draws, level), abs=0.05)


def test_qlike_is_zero_at_the_truth_and_least_there() -> None:
    assert metrics.qlike(np.array([0.04]), np.array([0.04]))[0] == 0
    v = np.random.default_rng(1).chisquare(1, 50_000)  # mean one
    losses = {f: metrics.qlike(v, np.full(len(v), f)).mean() for f in (0.7, 0.85, 1.0, 1.15, 1.3)}
    assert min(losses, key=lambda f: losses[f]) == 1.0


def test_unknown_outcomes_stay_unknown() -> None:
    nan, half = np.array([np.nan]), np.array([0.5])
    for value in (
        metrics.pinball(nan, half[:, None], (0.5,)),
        metrics.qlike(nan, half),
        metrics.crps(nan, half[:, None], (0.5,)),
        metrics.fz0(nan, -half, -half, 0.05),
        metrics.fz0(half, nan, -half, 0.05),
        metrics.pit(nan, NORMAL[None], QUANTILES),
        metrics.pit(half, np.where(NORMAL > 2, np.nan, NORMAL)[None], QUANTILES),
        metrics.brier(nan, half),
        metrics.hit(nan, half),
        metrics.inside(nan, -half, half),
    ):
        assert np.isnan(value).all()


def test_brier_and_hit_by_hand() -> None:
    actual, p = np.array([0.01, -0.01]), np.array([0.7, 0.6])
    np.testing.assert_allclose(metrics.brier(actual, p), [0.09, 0.36])
    np.testing.assert_array_equal(metrics.hit(actual, p), [1, 0])


def test_crps_by_hand() -> None:
    # Levels .25 and .75 stand for [0, .5] and [.5, 1]; y = 3, quantiles 1 and 2: 2 (.5 x .25 x 2 + .5 x .75 x 1).
    assert metrics.crps(np.array(3.0), np.array([1.0, 2.0]), (0.25, 0.75)) == pytest.approx(1.25)


def test_crps_comes_to_the_exact_one_as_levels_fill_in() -> None:
    # Gneiting and Raftery 2007: of N(0, 1) at y, y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi).
    y = np.linspace(-3, 3, 25)
    exact = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)
    fine = tuple(np.arange(0.0005, 1, 0.001))
    found = metrics.crps(y, np.broadcast_to(norm.ppf(fine), (25, 1000)), fine)
    np.testing.assert_allclose(found, exact, atol=1e-3)
    draws = np.random.default_rng(3).normal(0, 1, 200_000)
    nine = metrics.crps(draws, np.broadcast_to(NORMAL, (len(draws), 9)), QUANTILES).mean()
    assert nine * np.sqrt(np.pi) == pytest.approx(0.966, abs=0.005)  # the docstring's 3.4 %


def test_crps_is_least_at_the_true_scale() -> None:
    draws = np.random.default_rng(4).normal(0, 1, 50_000)
    losses = {s: metrics.crps(draws, s * np.broadcast_to(NORMAL, (50_000, 9)), QUANTILES).mean() for s in (0.9, 1, 1.1)}
    assert min(losses, key=lambda s: losses[s]) == 1


@pytest.mark.parametrize(("level", "normal", "fat"), [(0.05, 1.002, 0.98), (0.01, 1.03, 0.91)])
def test_expected_shortfall_lies_between_normal_and_fat_tails(level: float, normal: float, fat: float) -> None:
    exact = -norm.pdf(norm.ppf(level)) / level
    assert metrics.expected_shortfall(NORMAL, QUANTILES, level) / exact == pytest.approx(normal, abs=0.005)
    q = student.ppf(level, 4)
    exact = -student.pdf(q, 4) / level * (4 + q**2) / 3
    found = metrics.expected_shortfall(student.ppf(QUANTILES, 4), QUANTILES, level)
    assert found / exact == pytest.approx(fat, abs=0.005)


def test_expected_shortfall_is_the_mean_of_an_exponential_tail() -> None:
    # Below the median this one is exponential: quantile ln(2 tau), mean below any of its quantiles q is q - 1.
    quantiles = np.log(2 * np.array(QUANTILES))
    for level in (0.01, 0.05):
        assert metrics.expected_shortfall(quantiles, QUANTILES, level) == pytest.approx(np.log(2 * level) - 1)
    with pytest.raises(ValueError, match=r"known at levels 0.01 and 0.05 only, not at 0.1"):
        metrics.expected_shortfall(quantiles, QUANTILES, 0.1)


def test_fz0_by_hand_and_without_units() -> None:
    # No breach: q / e + ln(-e) - 1. Breach by .01 at 5 %: .01 / (.05 x .03) more.
    q, e = np.array(-0.02), np.array(-0.03)
    calm = metrics.fz0(np.array(0.0), q, e, 0.05)
    assert calm == pytest.approx(2 / 3 + np.log(0.03) - 1)
    assert metrics.fz0(np.array(-0.03), q, e, 0.05) - calm == pytest.approx(0.01 / 0.0015)
    y = np.random.default_rng(5).normal(0, 1, 100)
    a, b = (metrics.fz0(y, np.full(100, q), np.full(100, q - 0.4), 0.05) for q in (-1.6, -2.0))
    c, d = (metrics.fz0(9 * y, np.full(100, 9 * q), np.full(100, 9 * (q - 0.4)), 0.05) for q in (-1.6, -2.0))
    np.testing.assert_allclose(a - b, c - d)
    with pytest.raises(ValueError, match="expected shortfall 0 is not below zero"):
        metrics.fz0(y, y, np.zeros(100), 0.05)


def test_fz0_is_least_at_the_true_pair() -> None:
    draws = np.random.default_rng(6).normal(0, 1, 400_000)
    q, e = norm.ppf(0.05), -norm.pdf(norm.ppf(0.05)) / 0.05
    grid = [(q * a, e * b) for a in (0.9, 1, 1.1) for b in (0.93, 1, 1.07)]
    losses = [metrics.fz0(draws, np.full(1, v), np.full(1, s), 0.05).mean() for v, s in grid]
    assert grid[int(np.argmin(losses))] == (q, e)


def test_pit_by_hand() -> None:
    levels, quantiles = (0.1, 0.5, 0.9), np.array([-1.0, 0.0, 2.0])
    y = np.array([-3.0, -1.0, -0.25, 0.0, 1.0, 2.0, 5.0])
    found = metrics.pit(y, np.broadcast_to(quantiles, (7, 3)), levels)
    np.testing.assert_allclose(found, [0.05, 0.1, 0.4, 0.5, 0.7, 0.9, 0.95])
    flat = metrics.pit(np.array([0.0]), np.zeros((1, 3)), levels)
    assert flat[0] == pytest.approx(0.5)


def test_pit_of_the_truth_is_uniform() -> None:
    draws = np.random.default_rng(7).normal(0, 1, 100_000)
    found = metrics.pit(draws, np.broadcast_to(NORMAL, (len(draws), 9)), QUANTILES)
    for level in QUANTILES:
        assert (found <= level).mean() == pytest.approx(level, abs=0.005)


finite = st.floats(-5, 5)


@settings(max_examples=80, deadline=None)
@given(finite, finite, st.lists(finite, min_size=9, max_size=9), st.floats(0.01, 100))
def test_invariants(y: float, larger: float, values: list[float], unit: float) -> None:
    q = np.sort(np.array(values))
    y, larger = min(y, larger), max(y, larger)
    low, high = (float(metrics.pit(np.array(v), q, QUANTILES)) for v in (y, larger))
    assert 0 < low <= high + 1e-12 < 1
    score = metrics.crps(np.array(y), q, QUANTILES)
    assert score >= 0
    assert metrics.crps(np.array(unit * y), unit * q, QUANTILES) == pytest.approx(float(unit * score), abs=1e-9)
    assert metrics.crps(np.array(y), np.full(9, y), QUANTILES) == 0
    assert metrics.expected_shortfall(q, QUANTILES, 0.05) <= q[1]
