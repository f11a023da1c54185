"""The gate by simulation on losses that are quick to draw; the real forecaster's is benchmarks/gate.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from pipeline.evidence import power
from pipeline.evidence.significance import Resampling

SETTINGS = Resampling(confidence=0.95, gate_level=0.01, resamples=300, block_sessions=20, min_blocks=10, seed=1)


def losses(gain: float, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    shared = np.exp(0.5 * generator.normal(0, 1, (1, 1000)))
    found = {}
    for h in (1, 5):
        base = shared * np.exp(0.2 * generator.normal(0, 1, (3, 1000)))
        found[f"ewma|pinball|{h}"] = base
        found[f"unconditional|pinball|{h}"] = 1.2 * base
        found[f"own|pinball|{h}"] = base * (1 - gain) + 0.1 * shared * generator.normal(0, 1, (1, 1000))
    return found


def test_noise_is_promoted_at_the_nominal_level() -> None:
    found = power.promotions(lambda seed: losses(0.0, seed), range(100), "own", (1, 5), SETTINGS)
    assert found.promoted.successes <= binom.ppf(0.999, 100, 0.02)  # the bootstrap's known small-sample excess: 2 %
    assert abs(found.gains.mean()) < 0.1


def test_the_smallest_detectable_gain_is_promoted_four_times_in_five() -> None:
    detectable = power.promotions(lambda seed: losses(0.0, seed), range(5), "own", (1, 5), SETTINGS).detectable.mean()
    found = power.promotions(lambda seed: losses(detectable / 100, seed), range(60), "own", (1, 5), SETTINGS)
    low, high = binom.interval(0.999, 60, 0.8)
    assert low <= found.promoted.successes <= high
    assert found.gains.mean() == pytest.approx(detectable, rel=0.2)
    assert power.normal_power(np.array(detectable), detectable, 0.01) == pytest.approx(0.8)


def test_normal_power_at_no_gain_is_the_level() -> None:
    curve = power.normal_power(np.array([0.0, 0.5, 1.0, 9.0]), 0.6, 0.01)
    assert curve[0] == pytest.approx(0.01)
    assert curve[3] == pytest.approx(1)
    spread = 0.6 / (norm.ppf(0.99) + norm.ppf(0.8))
    assert curve[1] == pytest.approx(norm.sf(norm.ppf(0.99) - 0.5 / spread))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_binomial_interval_is_that_of_scipy(case: tuple[int, int]) -> None:
    successes, n = case
    expected = binomtest(successes, n).proportion_ci(0.95, method="exact")
    found = power.share(successes, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_panels_are_no_share() -> None:
    with pytest.raises(ValueError, match="0 successes of 0 trials are no share"):
        power.promotions(lambda seed: losses(0.0, seed), (), "own", (1, 5), SETTINGS)
