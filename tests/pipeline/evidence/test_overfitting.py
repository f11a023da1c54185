"""Deflated Sharpe ratio and PBO: the published example, plain loops, and noise."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, rankdata

from pipeline.evidence import overfitting


def test_the_example_of_the_paper() -> None:
    """Bailey and Lopez de Prado (2014), "A numerical example": 100 trials whose annual Sharpe ratios vary by 1/2, 1,250
    days, annual Sharpe 2.5, skewness -3, kurtosis 10: SR0 = .1132, deflated Sharpe ratio .9004; 46 trials: .9505."""
    deviation = np.sqrt(0.5 / 250)
    benchmark = overfitting.expected_maximum(100, deviation)
    assert benchmark == pytest.approx(0.1132, abs=5e-5)
    chosen = 2.5 / np.sqrt(250)
    assert overfitting.probabilistic_sharpe(chosen, benchmark, 1250, -3, 10) == pytest.approx(0.9004, abs=5e-5)
    fewer = overfitting.expected_maximum(46, deviation)
    assert overfitting.probabilistic_sharpe(chosen, fewer, 1250, -3, 10) == pytest.approx(0.9505, abs=5e-4)


def test_expected_maximum_is_that_of_normal_draws() -> None:
    draws = np.random.default_rng(0).normal(0, 2, (20_000, 50))
    assert overfitting.expected_maximum(50, 2.0) == pytest.approx(draws.max(1).mean(), rel=0.02)
    assert overfitting.expected_maximum(1, 2.0) == 0
    with pytest.raises(ValueError, match="0 trials: at least the strategy itself"):
        overfitting.expected_maximum(0, 1.0)


def test_probabilistic_sharpe_rejects_no_skill_at_its_level() -> None:
    returns = np.random.default_rng(2).standard_t(6, (1000, 500))
    found = np.array([overfitting.deflated_sharpe(row, 1).probabilistic for row in returns])
    low, high = binom.interval(0.999, 1000, 0.05)
    assert low <= (found > 0.95).sum() <= high


def test_the_best_of_many_is_deflated() -> None:
    # Of 60 strategies without skill the best looks good alone; deflated it is shown in at most 5 % of cases.
    generator = np.random.default_rng(2)
    alone = deflated = 0
    for _ in range(150):
        returns = generator.normal(0, 0.01, (500, 60))
        sharpes = returns.mean(0) / returns.std(0, ddof=1)
        found = overfitting.deflated_sharpe(returns[:, sharpes.argmax()], 60, sharpes)
        alone += found.probabilistic > 0.95
        deflated += found.verdict == "shown"
    assert alone > 120
    assert deflated <= binom.interval(0.999, 150, 0.05)[1]


def test_trials_that_hardly_differ_do_not_count_for_nothing() -> None:
    returns = np.random.default_rng(6).normal(0.0005, 0.01, 401)
    alike = overfitting.deflated_sharpe(returns, 50, np.array([0.05, 0.0501, 0.0502]))
    assert alike == overfitting.deflated_sharpe(returns, 50)
    assert alike.deviation == 1 / 20
    apart = overfitting.deflated_sharpe(returns, 50, np.array([-0.2, 0.0, 0.2]))
    assert apart.deviation == pytest.approx(0.2)
    assert apart.benchmark == pytest.approx(4 * alike.benchmark)
    assert apart.probability < alike.probability


def test_verdicts_and_errors() -> None:
    good = np.random.default_rng(3).normal(0.002, 0.01, 1000)
    assert overfitting.deflated_sharpe(good, 5).verdict == "shown"
    assert overfitting.deflated_sharpe(good[:40], 5).verdict == "too few sessions"
    gaps = np.insert(good, 7, np.nan)
    assert overfitting.deflated_sharpe(gaps, 5) == overfitting.deflated_sharpe(good, 5)
    with pytest.raises(ValueError, match="9 returns that do not move"):
        overfitting.deflated_sharpe(np.full(9, 0.01), 5)
    with pytest.raises(ValueError, match="1 observations with Sharpe"):
        overfitting.probabilistic_sharpe(0.1, 0, 1, 0, 3)


def test_pbo_by_plain_loops() -> None:
    returns = np.random.default_rng(4).normal(0, 0.01, (130, 7))
    parts = np.array_split(np.arange(130), 6)
    logits = []
    for half in combinations(range(6), 3):
        inside = np.concatenate([parts[k] for k in half])
        outside = np.setdiff1d(np.arange(130), inside)
        one, other = (returns[rows].mean(0) / returns[rows].std(0, ddof=1) for rows in (inside, outside))
        share = rankdata(other)[one.argmax()] / 8
        logits.append(np.log(share / (1 - share)))
    found = overfitting.backtest_overfitting(returns, 6)
    np.testing.assert_allclose(found.logits, logits)
    assert found.probability == np.mean(np.array(logits) <= 0)
    assert (found.splits, found.strategies) == (20, 7)


def test_pbo_of_noise_is_a_coin_and_of_skill_is_small() -> None:
    generator = np.random.default_rng(5)
    noise = [overfitting.backtest_overfitting(generator.normal(0, 0.01, (800, 40)), 8).probability for _ in range(60)]
    assert np.mean(noise) == pytest.approx(0.5, abs=0.12)
    skilled = generator.normal(0, 0.01, (800, 40))
    skilled[:, 3] += 0.003
    assert overfitting.backtest_overfitting(skilled, 8).probability < 0.02


@pytest.mark.parametrize(
    ("shape", "blocks", "message"),
    [
        ((100, 5), 7, "blocks = 7: take an even number"),
        ((100, 5), 22, "blocks = 22"),
        ((100, 1), 4, "100 sessions of 1 strategies"),
        ((7, 5), 4, "give at least 2 strategies and 8 sessions"),
    ],
)
def test_pbo_says_what_it_needs(shape: tuple[int, int], blocks: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overfitting.backtest_overfitting(np.zeros(shape), blocks)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 10_000), st.floats(0.001, 1), st.floats(-0.2, 0.4), st.floats(-2, 2), st.floats(5, 12))
def test_more_trials_deflate_more(trials: int, deviation: float, sharpe: float, skewness: float, tail: float) -> None:
    less, more = (overfitting.expected_maximum(n, deviation) for n in (trials, trials + 1))
    assert 0 <= less < more
    below, above = (overfitting.probabilistic_sharpe(sharpe, b, 500, skewness, tail) for b in (more, less))
    assert 0 <= below <= above <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000), st.floats(0.1, 10))
def test_pbo_does_not_feel_units_nor_order(strategies: int, seed: int, unit: float) -> None:
    returns = np.random.default_rng(seed).normal(0, 0.01, (64, strategies))
    found = overfitting.backtest_overfitting(returns, 4)
    turned = overfitting.backtest_overfitting(unit * returns[:, ::-1], 4)
    assert found.probability == turned.probability
    np.testing.assert_allclose(np.sort(found.logits), np.sort(turned.logits))
