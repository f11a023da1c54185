"""The figures of the ablation against formulas written out and against SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from models.decode import QUANTILES
from pipeline.evidence import metrics
from pipeline.evidence.significance import Resamples, Resampling
from pipeline.evidence.text_lift import WITH, WITHOUT, Arm, compare, losses, overall

SETTINGS = Resampling(confidence=0.95, gate_level=0.01, resamples=300, block_sessions=20, min_blocks=10, seed=1)
SHAPE = np.array([norm.ppf(level) for level in QUANTILES])


def arms(seed: int = 0, tickers: int = 3, sessions: int = 600) -> tuple[dict[str, Arm], np.ndarray]:
    """One that knows half of the log-scale and a little of the sign, and one that knows neither; h = 1 and 5."""
    generator = np.random.default_rng(seed)
    size = tickers, sessions, 2
    log_scale = 0.5 * generator.normal(0, 1, size)
    z = np.exp(log_scale) * generator.normal(0, 1, size)
    z[:, -7:, 1] = np.nan
    told = 0.5 + 0.05 * np.sign(np.nan_to_num(z)) + 0.1 * generator.normal(0, 1, size)
    knowing = Arm(np.exp(log_scale / 2)[..., None] * SHAPE, log_scale / 2 - 0.6, np.clip(told, 0.02, 0.98))
    blind = Arm(np.broadcast_to(SHAPE, (*size, 9)), np.full(size, -0.6), np.full(size, 0.5))
    for arm in (knowing, blind):
        arm.log_scale[:, :50] = np.nan
    return {WITH: knowing, WITHOUT: blind}, z


def test_levels_are_those_of_the_formulas_on_common_cells() -> None:
    both, z = arms()
    found = losses(both, z, (1, 5))
    rows = {(row["measure"], row["horizon"]): row for row in compare(found, (1, 5), SETTINGS)["rows"]}
    for i, h in enumerate((1, 5)):
        cells = np.isfinite(z[:, :, i]) & np.isfinite(both[WITH].log_scale[:, :, i])
        actual, p_up = z[:, :, i][cells], both[WITH].p_up[:, :, i][cells]
        assert rows["brier", h][WITH] == pytest.approx(np.mean((p_up - (actual > 0)) ** 2))
        assert rows["log_loss", h][WITHOUT] == pytest.approx(np.log(2))
        assert rows["rank", h][WITH] == pytest.approx(spearmanr(p_up, actual).statistic, abs=1e-9)
        assert rows["rank", h][WITHOUT] == 0.0
        log = np.log(np.maximum(np.abs(actual), 0.15))
        error = log - both[WITH].log_scale[:, :, i][cells]
        assert rows["log_error", h][WITH] == pytest.approx(1 - np.mean(error**2) / np.var(log))
        assert rows["pinball", h]["verdict"] == "better with text"
        assert rows["rank", h]["low"] > 0


def test_a_block_is_as_long_as_the_horizon_and_tickers_add_no_blocks() -> None:
    both, z = arms()
    rows = compare(losses(both, z, (1, 5)), (1, 5), replace(SETTINGS, block_sessions=2))["rows"]
    assert {row["horizon"]: row["blocks"] for row in rows} == {1: 275.0, 5: round(543 / 5, 1)}
    many = {name: Arm(*(np.repeat(part, 5, axis=0) for part in arm)) for name, arm in both.items()}
    repeated = overall(losses(many, np.repeat(z, 5, axis=0), (1, 5)), "scale", (1, 5), SETTINGS)
    once = overall(losses(both, z, (1, 5)), "scale", (1, 5), SETTINGS)
    assert (repeated.low, repeated.high, repeated.blocks) == pytest.approx((once.low, once.high, once.blocks))


def test_swapped_arms_are_worse() -> None:
    both, z = arms()
    swapped = compare(losses({WITH: both[WITHOUT], WITHOUT: both[WITH]}, z, (1, 5)), (1, 5), SETTINGS)
    assert swapped["scale"]["verdict"] == swapped["direction"]["verdict"] == "worse with text"


def test_log_loss_is_the_log_of_what_happened_and_never_infinite() -> None:
    found = metrics.log_loss(np.array([1.0, -1.0, 1.0, np.nan]), np.array([0.8, 0.8, 0.0, 0.5]))
    np.testing.assert_allclose(found[:3], [-np.log(0.8), -np.log(0.2), -np.log(1e-6)])
    assert np.isnan(found[3])


def test_a_statistic_of_means_has_the_interval_of_the_mean() -> None:
    draws = Resamples({"a": np.random.default_rng(0).normal(1, 1, (2, 500))}, SETTINGS)
    assert draws.statistic(lambda means: means["a"]) == draws.mean("a")
