"""Comparisons of forecasts: against statsmodels, arch and plain loops, and at their level under simulated nulls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arch.bootstrap import MCS, SPA
from scipy.stats import binom
from scipy.stats import t as student

from pipeline.evidence import forecast_tests
from pipeline.evidence.significance import Resampling

SETTINGS = Resampling(confidence=0.95, gate_level=0.01, resamples=500, block_sessions=10, min_blocks=10, seed=1)


def losses(names: str, gain: float = 0.0, sessions: int = 500, seed: int = 0) -> dict[str, np.ndarray]:
    """Three tickers whose losses share a shock a session; the last model is better by `gain`."""
    generator = np.random.default_rng(seed)
    shared = 1 + np.abs(generator.normal(0, 1, (1, sessions)))
    found = {name: shared + 0.5 * generator.normal(0, 1, (3, sessions)) for name in names}
    found[names[-1]] -= gain
    return found


def test_truncated_is_harvey_leybourne_and_newbold_by_plain_loops() -> None:
    generator = np.random.default_rng(1)
    a, b, h, n = generator.normal(1, 1, 60), generator.normal(1.2, 1, 60), 4, 60
    d = a - b
    mean = sum(d) / n
    variance = 0.0
    for j in range(-(h - 1), h):
        variance += sum((d[t] - mean) * (d[t - abs(j)] - mean) for t in range(abs(j), n)) / n
    statistic = mean / np.sqrt(variance / n) * np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    found = forecast_tests.diebold_mariano(a, b, h, "truncated")
    assert (found.kernel, found.lags) == ("truncated", 3)
    assert found.statistic == pytest.approx(statistic)
    assert found.p_value == pytest.approx(2 * student.sf(abs(statistic), n - 1))
    assert found.p_better == pytest.approx(student.cdf(statistic, n - 1))


def test_newey_west_is_that_of_statsmodels() -> None:
    regression = pytest.importorskip("statsmodels.api")
    both = losses("ab", 0.05)
    d = (both["b"] - both["a"]).mean(0)
    fit = regression.OLS(d, np.ones(len(d))).fit(cov_type="HAC", cov_kwds={"maxlags": 29})
    found = forecast_tests.diebold_mariano(both["b"], both["a"], 5)
    assert found.lags == 29  # 1.3 sqrt(500) - 1 = 28.07
    assert found.statistic == pytest.approx(float(fit.tvalues[0]) * np.sqrt(1 - 0.06 + 0.06**2 / 3))


def test_a_variance_below_zero_falls_back() -> None:
    d = np.tile([1.0, -1.0], 40) + np.linspace(0, 1e-3, 80)
    found = forecast_tests.diebold_mariano(d, np.zeros(80), 2, "truncated")
    assert found.kernel == "newey_west"
    assert found.p_value is not None


def test_the_same_losses_are_no_test_and_few_sessions_no_verdict() -> None:
    same = forecast_tests.diebold_mariano(np.ones((2, 50)), np.ones((2, 50)))
    assert (same.p_value, same.verdict) == (None, "not distinguishable")
    overlapping = np.convolve(np.random.default_rng(2).normal(1, 0.1, 79), np.ones(20), "valid")
    long = forecast_tests.diebold_mariano(overlapping, np.zeros(60), 20)
    assert long.n_effective < 20
    assert long.verdict == "too few independent sessions"
    better = forecast_tests.diebold_mariano(losses("ab", 0.5)["b"], losses("ab", 0.5)["a"])
    assert better.verdict == "better"
    with pytest.raises(ValueError, match="no finite value in a panel of 1 x 9"):
        forecast_tests.diebold_mariano(np.ones(9), np.full(9, np.nan))


@pytest.mark.parametrize(
    ("kernel", "horizon"), [("newey_west", 1), ("newey_west", 5), ("truncated", 1), ("truncated", 5)]
)
def test_equal_forecasts_are_rejected_at_the_level(kernel: forecast_tests.Kernel, horizon: int) -> None:
    draws = 600
    noise = np.random.default_rng(3).normal(0, 1, (draws, 2, 600 + horizon - 1))
    moving = np.lib.stride_tricks.sliding_window_view(noise, horizon, axis=-1).mean(-1)
    found = [forecast_tests.diebold_mariano(a**2, b**2, horizon, kernel).p_value for a, b in moving]
    low, high = binom.interval(0.999, draws, 0.05)
    assert low <= sum((p or 0) < 0.05 for p in found) <= high


def test_session_losses_are_means_over_common_cells() -> None:
    both = losses("ab", sessions=50)
    both["a"][0, :20] = np.nan
    both["b"][:, 40] = np.nan
    found = forecast_tests.session_losses(both)
    common = np.isfinite(both["a"]) & np.isfinite(both["b"])
    assert found.shape == (49, 2)
    np.testing.assert_allclose(found.mean(0), [both["a"][common].mean(), both["b"][common].mean()])
    with pytest.raises(ValueError, match="no cell has a loss of each of a, b"):
        forecast_tests.session_losses({"a": both["a"], "b": np.full((3, 50), np.nan)})


def test_confidence_set_is_that_of_arch() -> None:
    models = losses("abcd", 0.2)
    models["copy"] = models["d"]
    found = forecast_tests.model_confidence_set(models, SETTINGS)
    assert found.included == ("d", "copy")
    assert found.p_values["copy"] == found.p_values["d"] == 1
    table = np.stack([models[name].mean(0) for name in "abcd"], axis=1)
    expected = MCS(table, 0.05, 500, block_size=10, seed=1)
    expected.compute()
    for k, name in enumerate("abcd"):
        assert found.p_values[name] == pytest.approx(float(expected.pvalues.loc[k, "Pvalue"]), abs=0.03)
    same = forecast_tests.model_confidence_set({"a": models["a"], "b": models["a"]}, SETTINGS)
    assert same.included == ("a", "b")
    short = forecast_tests.model_confidence_set(losses("ab", 0.9, sessions=60), SETTINGS)
    assert short.included == ()
    assert short.verdict == "No verdict: too few blocks."


def test_superior_ability_is_that_of_arch_and_of_a_plain_loop() -> None:
    models = losses("abcd", 0.06)
    found = forecast_tests.superior_ability(models, "a", SETTINGS)
    table = forecast_tests.session_losses(models)
    expected = SPA(table[:, 0], table[:, 1:], block_size=10, reps=500, seed=1)
    expected.compute()
    assert found.p_consistent == pytest.approx(float(expected.pvalues["consistent"]))
    # White's reality check, studentised, by plain loops over resampled sessions of independent losses.
    d, generator = table[:, :1] - table[:, 1:], np.random.default_rng(4)
    means, n = d.mean(0), len(d)
    drawn = np.array([d[generator.integers(0, n, n)].mean(0) for _ in range(2000)])
    spread = drawn.std(0)
    p_upper = np.mean(((drawn - means) / spread).max(1) > (means / spread).max())
    assert found.p_upper == pytest.approx(p_upper, abs=0.05)
    assert found.p_lower <= found.p_consistent <= found.p_upper


def test_superior_ability_without_competitors_and_with_a_clear_one() -> None:
    models = losses("ab", 0.5)
    clear = forecast_tests.superior_ability(models, "a", SETTINGS)
    assert clear.verdict.startswith("At least one of 1 models is shown to beat a (p = 0.0")
    assert forecast_tests.superior_ability(models, "b", SETTINGS).verdict.startswith("None of 1 models")
    alone = forecast_tests.superior_ability({"a": models["a"], "c": models["a"].copy()}, "a", SETTINGS)
    assert (alone.n_models, alone.p_consistent) == (0, 1.0)
    with pytest.raises(ValueError, match="benchmark z is not among the models a, b"):
        forecast_tests.superior_ability(models, "z", SETTINGS)


def test_many_at_once_hold_their_level() -> None:
    # Of models that are all the same the set keeps the best, and none is called superior, but for 10 % of panels.
    draws, settings = 100, replace(SETTINGS, resamples=200, block_sessions=5)
    lost = superior = 0
    for seed in range(draws):
        models = losses("abcd", sessions=250, seed=100 + seed)
        lost += "d" not in forecast_tests.model_confidence_set(models, settings, size=0.1).included
        superior += forecast_tests.superior_ability(models, "a", settings).p_consistent < 0.1
    low, high = binom.interval(0.999, draws, 0.1)
    assert lost <= high  # one given model leaves it at most as often as any does
    assert low <= superior <= high
