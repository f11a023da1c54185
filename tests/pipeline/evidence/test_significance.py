from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import binom

from pipeline.evidence import hac
from pipeline.evidence.significance import Resamples, Resampling, by_session

SETTINGS = Resampling(confidence=0.95, gate_level=0.01, resamples=400, block_sessions=20, min_blocks=10, seed=1)


def losses(gain: float, seed: int = 0, tickers: int = 5, sessions: int = 1500) -> dict[str, np.ndarray]:
    """Losses with a common shock a session, so that the tickers of a session are nearly one observation."""
    generator = np.random.default_rng(seed)
    shared = np.exp(0.5 * generator.normal(0, 1, (1, sessions)))
    base = shared * np.exp(0.2 * generator.normal(0, 1, (tickers, sessions)))
    noise = 0.1 * generator.normal(0, 1, (1, sessions)) * shared
    return {"base": base, "model": base * (1 - gain) + noise}


def test_gain_is_the_relative_saving() -> None:
    exact = losses(0.0)
    exact["model"] = exact["base"] * 0.9
    gain = Resamples(exact, SETTINGS).gain([("model", "base")])
    assert gain.gain_percent == pytest.approx(10.0)
    assert gain.low == pytest.approx(10.0)
    assert gain.verdict == "better"
    assert Resamples(exact, SETTINGS).gain([("base", "model")]).verdict == "worse"


def test_same_seed_same_figures() -> None:
    first, second = (Resamples(losses(0.01), SETTINGS).gain([("model", "base")]) for _ in range(2))
    assert first == second


def test_copies_of_a_ticker_do_not_narrow_the_interval() -> None:
    few = losses(0.01)
    many = {name: np.repeat(value, 20, axis=0) for name, value in few.items()}
    a, b = (Resamples(each, SETTINGS).gain([("model", "base")]) for each in (few, many))
    assert b.high - b.low == pytest.approx(a.high - a.low, rel=1e-9)


def test_unknown_losses_are_left_out() -> None:
    some = losses(0.05)
    some["model"][0, :700] = some["base"][0, :700] = np.nan
    mean, low, high = Resamples(some, SETTINGS).mean("base")
    assert mean == pytest.approx(np.nanmean(some["base"]))
    assert low < mean < high


def test_too_few_blocks_give_no_verdict() -> None:
    short = losses(0.3, sessions=150)
    gain = Resamples(short, SETTINGS).gain([("model", "base")])
    assert gain.n_blocks == pytest.approx(7.5)
    assert gain.verdict == "too few blocks"


def null_panel(seed: int, horizon: int, clustered: bool, sessions: int = 900) -> dict[str, np.ndarray]:
    """Losses that are equal on average; overlapping outcomes give their difference a memory of `horizon` sessions."""
    generator = np.random.default_rng([seed, horizon])
    shocks = generator.standard_t(5, sessions + 200)
    difference = np.convolve(shocks, np.ones(horizon) / np.sqrt(horizon), "valid")[-sessions:]
    log_vol = lfilter([np.sqrt(1 - 0.98**2)], [1, -0.98], generator.normal(size=sessions + 200))[-sessions:]
    scale = np.exp(0.5 * log_vol * clustered)
    base = scale * np.exp(0.2 * generator.normal(size=(3, sessions)))
    return {"base": base, "model": base + 0.1 * scale * difference}


@pytest.mark.parametrize(("horizon", "clustered"), [(1, False), (1, True), (5, True)])
def test_intervals_hold_a_gain_of_zero_at_their_level(horizon: int, clustered: bool) -> None:
    own = replace(SETTINGS, resamples=200, block_sessions=30)
    found = [Resamples(null_panel(s, horizon, clustered), own).gain([("model", "base")]) for s in range(250)]
    low, high = binom.interval(0.999, 250, 0.95)
    assert low <= sum(gain.low <= 0 <= gain.high for gain in found) <= high
    assert sum(gain.verdict in ("better", "worse") for gain in found) <= 250 - low
    # Two-sided like the verdict: a gain whose interval is above zero has a p-value of half the rest at most.
    assert all((gain.low > 0) == (gain.p_value < 0.025) for gain in found if abs(gain.p_value - 0.025) > 0.005)


def test_the_draws_are_those_of_arch_row_by_row() -> None:
    some = losses(0.05, tickers=3, sessions=300)
    some["model"][1, 50:90] = np.nan
    both = np.hstack([np.stack(side, axis=1) for side in zip(*map(by_session, some.values()), strict=True)])
    bootstrap = StationaryBootstrap(SETTINGS.block_sessions, both, seed=SETTINGS.seed)
    totals = bootstrap.apply(lambda rows: rows.sum(0), SETTINGS.resamples)
    means = totals[:, :2] / totals[:, 2:]
    seen: list[np.ndarray] = []
    Resamples(some, SETTINGS).statistic(lambda of: seen.append(of["model"]) or of["model"])
    np.testing.assert_allclose(seen[0], means[:, 1], rtol=1e-12)


def test_intervals_are_the_wider_of_percentiles_and_of_t_laws() -> None:
    some = losses(0.01, sessions=500)
    seen: list[np.ndarray] = []
    value, low, high = Resamples(some, SETTINGS).statistic(lambda of: seen.append(of["model"]) or of["model"])
    percentiles = np.quantile(seen[0], [0.025, 0.975])
    laws = [hac.clustered_mean(some["model"], lags=lags) for lags in (hac.bandwidth(500), 39)]
    assert value == pytest.approx(laws[0].mean)
    assert low == pytest.approx(min(percentiles[0], *(law.low for law in laws)), rel=1e-6)
    assert high == pytest.approx(max(percentiles[1], *(law.high for law in laws)), rel=1e-6)


def test_panels_and_their_sums_by_session_are_the_same() -> None:
    some = losses(0.05)
    some["model"][2, 100:300] = np.nan
    added = {name: by_session(loss) for name, loss in some.items()}
    assert Resamples(added, SETTINGS).gain([("model", "base")]) == Resamples(some, SETTINGS).gain([("model", "base")])
    assert Resamples(some, SETTINGS).point("model") == pytest.approx(np.nanmean(some["model"]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_difference_turns_its_sign_with_its_sides(seed: int) -> None:
    draws = Resamples(losses(0.02, seed, sessions=200), SETTINGS)
    one, other = draws.difference("model", "base"), draws.difference("base", "model")
    assert one.value == pytest.approx(-other.value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.value == pytest.approx(draws.point("base") - draws.point("model"))


def test_a_series_that_few_resamples_hold_has_its_interval_from_those() -> None:
    rare = losses(0.0, sessions=200)
    rare["rare"] = np.full_like(rare["base"], np.nan)
    rare["rare"][:, 60:64] = rare["base"][:, 60:64]
    value, low, high = Resamples(rare, replace(SETTINGS, block_sessions=60)).mean("rare")
    assert low < value < high
    assert np.isnan(Resamples(rare | {"none": rare["base"] * np.nan}, SETTINGS).mean("none")).all()


def test_smallest_detectable_gain_is_mostly_detected() -> None:
    found = Resamples(losses(0.0), SETTINGS).gain([("model", "base")])
    planted = found.smallest_detectable / 100
    passed = [
        Resamples(losses(planted, seed), replace(SETTINGS, resamples=200)).gain([("model", "base")]).gate_low > 0
        for seed in range(1, 31)
    ]
    assert sum(passed) >= 18  # four in five promised; 18 of 30 is three sigma below
