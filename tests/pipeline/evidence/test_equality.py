"""Claims of equality: their figures by their own definitions, floors and certainty, and what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decode import QUANTILES, Forecast
from pipeline.evidence import equality
from pipeline.evidence.significance import Resampling

RESAMPLING = Resampling(0.95, 0.01, 200, 20, 2, 0)
HORIZONS = (1, 5)
N, T = 6, 300


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def forecast(sigma: np.ndarray) -> Forecast:
    """Normal quantiles of (N, T, H) sigma."""
    normal = np.array([-2.326, -1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])
    return Forecast(sigma, sigma[..., None] * normal, np.full(sigma.shape, 0.5))


def only(rows: list[dict[str, Any]], claim: str, horizon: int) -> dict[str, Any]:
    (row,) = [row for row in rows if row["claim"] == claim and row["horizon"] == horizon]
    return row


# -- outputs --------------------------------------------------------------------------------------------------


def test_centred_r2_does_not_credit_the_level() -> None:
    """Ten away from zero a prediction of the mean alone would have an uncentred R2 of nearly one."""
    exact = 10 + 0.1 * rng().normal(size=(500, 1, 4))
    found = np.full_like(exact, 10.0)
    rows = equality.outputs(exact, found, (1,), 0.999, 1e-4)
    assert all(row["rule"] == "r2" and row["r2"] < 0.01 and not row["passed"] for row in rows)


def test_an_output_that_hardly_moves_is_judged_by_its_difference() -> None:
    exact = 1e-6 * rng().normal(size=(500, 1, 4))
    near, far = (equality.outputs(exact, exact + shift, (1,), 0.999, 1e-4) for shift in (5e-5, 5e-4))
    assert all(row["rule"] == "max_difference" and row["passed"] for row in near)
    assert not any(row["passed"] for row in far)


def test_the_claim_is_the_least_r2_of_the_outputs_that_move() -> None:
    exact = rng().normal(size=(N, T, 2, 4))
    exact[..., 0] = 0.0
    noise = rng(1).normal(size=exact.shape) * np.array([1.0, 0.01, 0.02, 0.005])
    rows = equality.output_claims(exact, exact + noise, HORIZONS, 0.999, RESAMPLING)
    for i, h in enumerate(HORIZONS):
        row = only(rows, "centred_r2", h)
        difference = noise[:, :, i, 2]
        assert row["figure"] == pytest.approx(1 - (difference**2).mean() / exact[:, :, i, 2].var())
        assert row["low"] < row["figure"] < row["high"]
        assert (row["floor"], row["at_least"], row["holds"]) == (0.999, True, True)


def test_outputs_that_do_not_move_make_no_claim() -> None:
    still = np.zeros((N, T, 2, 4))
    assert equality.output_claims(still, still, HORIZONS, 0.999, RESAMPLING) == []


def test_cells_that_are_not_known_count_nowhere() -> None:
    exact, known = rng().normal(size=(N, T, 2, 4)), np.ones((N, T, 1, 1))
    known[:, ::2] = np.nan
    found = exact + 0.01 * rng(1).normal(size=exact.shape)
    whole = equality.output_claims(exact[:, 1::2], found[:, 1::2], HORIZONS, 0.999, RESAMPLING)
    gaps = equality.output_claims(exact * known, found * known, HORIZONS, 0.999, RESAMPLING)
    for a, b in zip(whole, gaps, strict=True):
        assert a["figure"] == pytest.approx(b["figure"])


# -- losses ---------------------------------------------------------------------------------------------------


def losses(worse_percent: float, noise: float = 0.0) -> dict[str, np.ndarray]:
    base = np.exp(rng().normal(size=(N, T)))
    found = {}
    for measure in ("pinball", "qlike", "brier"):
        for h in HORIZONS:
            found[f"big|{measure}|{h}"] = base
            found[f"small|{measure}|{h}"] = base * (1 + worse_percent / 100 + noise * rng(h).normal(size=base.shape))
    return found


def test_loss_is_told_in_percent_worse_against_the_floor_of_its_horizon() -> None:
    rows = equality.loss_claims(losses(0.17), HORIZONS, {("small", "big"): None}, RESAMPLING)
    assert [(row["claim"], row["horizon"]) for row in rows] == [(m, h) for m in ("pinball", "qlike") for h in HORIZONS]
    assert all(row["figure"] == pytest.approx(0.17) for row in rows)
    assert [row["floor"] for row in rows] == [0.15, 0.20, None, None]
    assert [row["holds"] for row in rows] == [False, True, None, None]


def test_better_is_below_zero_and_bounds_stay_in_order() -> None:
    row = equality.loss_claims(losses(-0.5, noise=0.01), (1,), {("small", "big"): 0.02}, RESAMPLING)[0]
    assert row["low"] < row["figure"] < row["high"] < 0
    assert (row["floor"], row["holds"], row["certain"]) == (0.02, True, True)


def test_a_figure_may_hold_and_its_interval_not() -> None:
    row = equality.loss_claims(losses(0.1, noise=0.2), (1,), {("small", "big"): 0.3}, RESAMPLING)[0]
    assert row["high"] > 0.3
    assert (row["holds"], row["certain"]) == (row["figure"] <= 0.3, False)


@pytest.mark.parametrize(("horizon", "floor"), [(1, 0.15), (3, 0.175), (5, 0.20), (20, 0.25), (60, 0.25)])
def test_floors_between_the_horizons(horizon: int, floor: float) -> None:
    assert equality.loss_floor(horizon) == pytest.approx(floor)


# -- decisions ------------------------------------------------------------------------------------------------


def test_breaches_that_agree_are_counted_by_hand() -> None:
    sigma = np.full((N, T, 1), 0.01)
    actual = 0.01 * rng().normal(size=(N, T, 1))
    wider = forecast(1.2 * sigma)
    rows = equality.decision_claims(forecast(sigma), wider, actual, (1,), RESAMPLING)
    for level in (0.05, 0.01):
        q = float(forecast(sigma).quantiles[0, 0, 0, QUANTILES.index(level)])
        differ = ((actual < q) != (actual < 1.2 * q)).mean()
        row = only(rows, f"var_{round(100 * (1 - level))}", 1)
        assert row["figure"] == pytest.approx(100 * (1 - differ))
        assert not row["holds"]


def test_outcomes_not_known_are_no_agreement() -> None:
    sigma, actual = np.full((N, T, 1), 0.01), 0.01 * rng().normal(size=(N, T, 1))
    actual[:, T // 2 :] = np.nan
    rows = equality.decision_claims(forecast(sigma), forecast(1.2 * sigma), actual, (1,), RESAMPLING)
    half = equality.decision_claims(
        forecast(sigma[:, : T // 2]), forecast(1.2 * sigma[:, : T // 2]), actual[:, : T // 2], (1,), RESAMPLING
    )
    assert only(rows, "var_95", 1)["figure"] == pytest.approx(only(half, "var_95", 1)["figure"])


def test_flips_by_hand() -> None:
    exact = np.array([[1.0, 1.0, np.nan], [2.0, 2.0, 5.0], [3.0, 3.0, np.nan], [4.0, 4.0, np.nan]])
    found = np.array([[1.0, 3.5, np.nan], [2.0, 2.0, 9.0], [3.0, 2.5, np.nan], [4.0, 4.0, np.nan]])
    flips = equality.median_flips(exact, found)
    np.testing.assert_array_equal(flips[:, 0], [0, 0, 0, 0])
    np.testing.assert_array_equal(flips[:, 1], [1, 0, 1, 0])
    assert np.isnan(flips[:, 2]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-1, 1))
def test_no_change_of_level_flips_anything(seed: int, scale: float, shift: float) -> None:
    exact = np.exp(rng(seed).normal(size=(5, 20)))
    assert np.nansum(equality.median_flips(exact, scale * exact + shift)) == 0


def test_one_ticker_has_no_median() -> None:
    sigma, actual = np.full((1, T, 1), 0.01), 0.01 * rng().normal(size=(1, T, 1))
    rows = equality.decision_claims(forecast(sigma), forecast(sigma), actual, (1,), RESAMPLING)
    assert {row["claim"] for row in rows} == {"var_95", "var_99"}
    assert all((row["figure"], row["holds"], row["certain"]) == (100.0, True, True) for row in rows)


def test_the_weight_claim_is_the_percentile_and_its_interval_holds_it() -> None:
    exact = np.full((N, T), 0.5)
    found = exact * (1 + 0.001 * rng().standard_t(4, size=exact.shape))
    found[0, :5] = np.nan
    row = equality.weight_claim(exact, found, RESAMPLING)
    known = np.isfinite(found)
    assert row["figure"] == pytest.approx(np.percentile(200 * np.abs(found - exact)[known], 99))
    assert row["low"] < row["figure"] < row["high"]
    assert row["holds"]


def test_the_interval_of_the_percentile_covers() -> None:
    """Of 60 draws of a known law, the true 99th percentile lies inside in nearly all."""
    truth, inside = np.exp(2.3263), 0
    for seed in range(60):
        change = np.exp(rng(seed).normal(size=(4, 600)))
        row = equality.weight_claim(np.full(change.shape, 100.0), 100.0 + change, RESAMPLING)
        inside += row["low"] <= truth <= row["high"]
    assert inside >= 53


def test_weights_of_zero_change_by_nothing() -> None:
    zero = np.zeros((2, 3))
    np.testing.assert_array_equal(equality.relative_change(zero, zero + 1), zero)


@pytest.mark.parametrize(("drift_bp", "holds"), [(1.0, True), (-1.0, True), (3.0, False), (-3.0, False)])
def test_profit_may_differ_neither_way(drift_bp: float, holds: bool) -> None:
    r = 0.01 * rng().normal(size=T)
    exact = np.exp(np.cumsum(r))
    found = np.exp(np.cumsum(r + drift_bp / 1e4 / 252))
    exact[:10] = found[:10] = np.nan
    row = equality.profit_claim(exact, found, 252.0, RESAMPLING)
    assert row["figure"] == pytest.approx(drift_bp)
    assert row["holds"] is holds


def test_the_same_wealth_is_certain() -> None:
    wealth = np.exp(np.cumsum(0.01 * rng().normal(size=T)))
    row = equality.profit_claim(wealth, wealth, 252.0, RESAMPLING)
    assert (row["figure"], row["holds"], row["certain"]) == (0.0, True, True)
