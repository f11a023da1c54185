"""Tests of value at risk by hand, by the published example, and at their level under simulated nulls."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2, chi2_contingency

from pipeline.evidence import risk_tests


def test_kupiec_by_hand() -> None:
    # 10 exceedances in 100 at 5 %: LR = 2 (10 ln(.1 / .05) + 90 ln(.9 / .95)).
    breached = np.zeros(100, dtype=bool)
    breached[::10] = True
    found = risk_tests.exceedances([breached], 0.05)
    ratio = 2 * (10 * np.log(2) + 90 * np.log(0.9 / 0.95))
    assert (found.exceedances, found.n, found.expected) == (10, 100, 5.0)
    assert found.kupiec_p == pytest.approx(chi2.sf(ratio, 1))


@pytest.mark.parametrize(
    ("level", "n", "inside"),
    [(0.01, 255, (0, 6)), (0.01, 510, (2, 10)), (0.01, 1000, (5, 16)), (0.05, 255, (7, 20)), (0.05, 1000, (38, 64))],
)
def test_kupiec_table(level: float, n: int, inside: tuple[int, int]) -> None:
    """Kupiec (1995), table 3, at 5 %: N < 7, 1 < N < 11, 4 < N < 17, 6 < N < 21, 37 < N < 65."""
    accepted = []
    for hits in range(n // 4):
        breached = np.arange(n) < hits
        p_value = risk_tests.exceedances([breached], level).kupiec_p
        assert p_value is not None
        if p_value > 0.05:
            accepted.append(hits)
    assert (accepted[0], accepted[-1]) == pytest.approx(inside, abs=1 if inside[0] == 0 else 0)


def test_christoffersen_by_hand() -> None:
    # Pairs: 00 x 4, 01 x 2, 10 x 1, 11 x 2.
    breached = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 1], dtype=bool)
    found = risk_tests.exceedances([breached], 0.4)
    pooled = 4 / 9
    ratio = 2 * (
        2 * np.log(2 / 6) + 4 * np.log(4 / 6) + 2 * np.log(2 / 3) + 1 * np.log(1 / 3)
        - 4 * np.log(pooled) - 5 * np.log(1 - pooled)
    )  # fmt: skip
    assert found.christoffersen_p == pytest.approx(chi2.sf(ratio, 1))
    assert found.kupiec_p == 1  # 4 of 10 at 40 %
    assert found.conditional_p == pytest.approx(chi2.sf(ratio, 2))


def test_independence_is_the_g_test_of_the_table_of_transitions() -> None:
    breached = np.random.default_rng(0).random(700) < 0.2
    table = np.zeros((2, 2))
    for a, b in itertools.pairwise(breached):
        table[int(a), int(b)] += 1
    expected = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert risk_tests.exceedances([breached], 0.2).christoffersen_p == pytest.approx(expected.pvalue)


def test_clustered_breaches_are_caught_and_none_is_no_test() -> None:
    clustered = np.zeros(500, dtype=bool)
    clustered[100:125] = True
    found = risk_tests.exceedances([clustered], 0.05)
    assert found.kupiec_p == pytest.approx(1.0)
    assert found.christoffersen_p is not None
    assert found.christoffersen_p < 1e-6
    none = risk_tests.exceedances([np.zeros(300, dtype=bool)], 0.05)
    assert none.christoffersen_p is None
    assert none.conditional_p is None
    assert none.kupiec_p is not None
    assert none.kupiec_p < 1e-6


def test_transitions_do_not_cross_tickers() -> None:
    one, other = np.array([False, True]), np.array([True, False])
    apart = risk_tests.exceedances([one, other], 0.5)
    joined = risk_tests.exceedances([np.concatenate([one, other])], 0.5)
    assert apart.christoffersen_p != joined.christoffersen_p


def test_many_series_at_once_are_each_alone() -> None:
    draws = np.random.default_rng(1).random((4, 3, 300)) < 0.1
    found = risk_tests.ratios(draws, 0.1)
    for at in np.ndindex(4, 3):
        alone = risk_tests.exceedances([draws[at]], 0.1)
        assert chi2.sf(found.number[at], 1) == pytest.approx(alone.kupiec_p)
        assert chi2.sf(found.independence[at], 1) == pytest.approx(alone.christoffersen_p)
        assert chi2.sf(found.both[at], 2) == pytest.approx(alone.conditional_p)


def test_asymptotic_laws_hold_their_level_with_enough_exceedances() -> None:
    # Within the 99.9 % binomial bound of 4,000 draws, [3.9 %, 6.2 %].
    found = risk_tests.ratios(np.random.default_rng(2).random((4000, 2000)) < 0.2, 0.2)
    low, high = binom.interval(0.999, 4000, 0.05)
    for ratio, freedom in zip(found, (1, 1, 2), strict=True):
        assert low <= (chi2.sf(ratio, freedom) < 0.05).sum() <= high


@pytest.mark.parametrize(("level", "n"), [(0.05, 250), (0.01, 250)])
def test_simulated_laws_are_exact_where_the_asymptotic_are_not(level: float, n: int) -> None:
    draws = np.random.default_rng(3).random((700, n)) < level
    p_values = np.array([risk_tests.exact_p(row, level, 99, seed) for seed, row in enumerate(draws)])
    low, high = binom.interval(0.999, 700, 0.05)
    rejected = (p_values <= 0.05).sum(0)
    assert ((rejected >= low) & (rejected <= high)).all(), rejected
    asymptotic = chi2.sf(risk_tests.ratios(draws, level).independence, 1) < 0.05
    assert not low <= asymptotic.sum() <= high or level == 0.05


def test_pooled_knows_that_tickers_fall_together() -> None:
    # Ten tickers with one common shock: the pooled likelihood ratio rejects far too often, the clustered test does not.
    generator = np.random.default_rng(4)
    clustered = apart = 0
    for _ in range(400):
        market = generator.normal(0, 1, (1, 500))
        breached = (0.8 * market + 0.6 * generator.normal(0, 1, (10, 500))) < -1.6448536
        clustered += risk_tests.pooled(breached.astype(float)).p_value(0.05) < 0.05
        apart += (risk_tests.exceedances(list(breached), 0.05).kupiec_p or 0) < 0.05
    low, high = binom.interval(0.999, 400, 0.05)
    assert low <= clustered <= high
    assert apart > 2 * high


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=200), st.sampled_from([0.01, 0.05, 0.1]))
def test_invariants(flags: list[bool], level: float) -> None:
    breached = np.array(flags)
    found = risk_tests.ratios(breached, level)
    assert found.both == found.number + found.independence
    assert min(found) >= 0
    backwards = risk_tests.ratios(breached[::-1], level)
    assert backwards.number == pytest.approx(float(found.number))


def test_pooled_independence_by_hand() -> None:
    breached = np.array([[1, 1, 0, 0, np.nan, 1], [0, 0, 0, 1, 0, 0]], dtype=float)
    share = 4 / 11
    hit, none = 1 - share, -share
    # Pairs of the first ticker: 11, 10, 00, and 0-1 over the gap; of the second: 00, 00, 01, 10, 00.
    products = [hit * hit, hit * none, none * none, none * hit, *([none * none] * 3), hit * none, hit * none]
    found = risk_tests.pooled_independence(breached)
    assert found is not None
    assert found.mean == pytest.approx(np.mean(products))
    assert found.n_cells == 9
    apart = risk_tests.pooled_independence(breached, horizon=2)
    assert apart is not None
    assert apart.n_cells == 3 + 4  # at least two sessions apart


def test_pooled_independence_holds_its_level_where_tickers_fall_together_and_sees_clusters() -> None:
    generator = np.random.default_rng(2)
    p_values = {"independent": [], "clustered": []}
    for _ in range(200):
        common = generator.normal(size=(1, 1000))
        shock = np.sqrt(0.6) * common + np.sqrt(0.4) * generator.normal(size=(10, 1000))
        calm = np.exp(0.5 * np.sin(np.arange(1000) / 60))
        for name, returns in (("independent", shock), ("clustered", shock * calm)):
            found = risk_tests.pooled_independence((returns < -1.645).astype(float))
            assert found is not None
            p_values[name].append(found.p_value())
    assert (
        binom.ppf(0.001, 200, 0.05) <= (np.array(p_values["independent"]) < 0.05).sum() <= binom.ppf(0.999, 200, 0.06)
    )
    assert np.mean(np.array(p_values["clustered"]) < 0.05) > 0.7


def test_pooled_independence_without_exceedances_is_not_tested() -> None:
    assert risk_tests.pooled_independence(np.zeros((2, 50))) is None
    assert risk_tests.pooled_independence(np.array([[1.0], [0.0]])) is None
