from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evidence.significance import Resamples, Resampling

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


def test_null_rejects_at_about_its_level() -> None:
    settings = replace(SETTINGS, resamples=200)
    verdicts = [
        Resamples(losses(0.0, seed, tickers=3, sessions=600), settings).gain([("model", "base")]).verdict
        for seed in range(80)
    ]
    # 5 % of 80 is 4; the 99.9 % binomial interval, widened for the bootstrap's known small-sample excess.
    assert verdicts.count("better") + verdicts.count("worse") <= 13


def test_smallest_detectable_gain_is_mostly_detected() -> None:
    found = Resamples(losses(0.0), SETTINGS).gain([("model", "base")])
    planted = found.smallest_detectable / 100
    passed = [
        Resamples(losses(planted, seed), replace(SETTINGS, resamples=200)).gain([("model", "base")]).gate_low > 0
        for seed in range(1, 31)
    ]
    assert sum(passed) >= 18  # four in five promised; 18 of 30 is three sigma below
