from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, chi2

from pipeline.evidence import metrics


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
        metrics.brier(nan, half),
        metrics.hit(nan, half),
        metrics.inside(nan, -half, half),
    ):
        assert np.isnan(value).all()


def test_brier_and_hit_by_hand() -> None:
    actual, p = np.array([0.01, -0.01]), np.array([0.7, 0.6])
    np.testing.assert_allclose(metrics.brier(actual, p), [0.09, 0.36])
    np.testing.assert_array_equal(metrics.hit(actual, p), [1, 0])


def test_kupiec_by_hand() -> None:
    # 10 exceedances in 100 at 5 %: LR = 2 (10 ln(.1 / .05) + 90 ln(.9 / .95)).
    breached = np.zeros(100, dtype=bool)
    breached[::10] = True
    found = metrics.exceedances([breached], 0.05)
    ratio = 2 * (10 * np.log(2) + 90 * np.log(0.9 / 0.95))
    assert (found.exceedances, found.n, found.expected) == (10, 100, 5.0)
    assert found.kupiec_p == pytest.approx(chi2.sf(ratio, 1))


def test_christoffersen_by_hand() -> None:
    # Pairs: 00 x 4, 01 x 2, 10 x 1, 11 x 2.
    breached = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 1], dtype=bool)
    found = metrics.exceedances([breached], 0.4)
    pooled = 4 / 9
    ratio = 2 * (
        2 * np.log(2 / 6) + 4 * np.log(4 / 6) + 2 * np.log(2 / 3) + 1 * np.log(1 / 3)
        - 4 * np.log(pooled) - 5 * np.log(1 - pooled)
    )  # fmt: skip
    assert found.christoffersen_p == pytest.approx(chi2.sf(ratio, 1))


def test_clustered_breaches_are_caught_and_none_is_no_test() -> None:
    clustered = np.zeros(500, dtype=bool)
    clustered[100:125] = True
    found = metrics.exceedances([clustered], 0.05)
    assert found.kupiec_p == pytest.approx(1.0)
    assert found.christoffersen_p is not None
    assert found.christoffersen_p < 1e-6
    none = metrics.exceedances([np.zeros(300, dtype=bool)], 0.05)
    assert none.christoffersen_p is None
    assert none.kupiec_p is not None
    assert none.kupiec_p < 1e-6


def test_kupiec_rejects_at_its_level_under_the_null() -> None:
    draws = np.random.default_rng(2).random((800, 1000)) < 0.05
    rejected = sum((metrics.exceedances([row], 0.05).kupiec_p or 0) < 0.05 for row in draws)
    low, high = binom.interval(0.999, 800, 0.05)
    # The likelihood ratio is discrete: a little above its level is known (Kupiec 1995).
    assert low * 0.8 <= rejected <= high * 1.3


def test_transitions_do_not_cross_tickers() -> None:
    one, other = np.array([False, True]), np.array([True, False])
    apart = metrics.exceedances([one, other], 0.5)
    joined = metrics.exceedances([np.concatenate([one, other])], 0.5)
    assert apart.christoffersen_p != joined.christoffersen_p
