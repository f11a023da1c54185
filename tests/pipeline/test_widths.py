"""Widths over the walk-forward: nothing from the future, coverage repaired where it was wrong, the cost told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from models.decode import QUANTILES, Forecast
from models.forecasters.conformal import HIGH, LOW, widened
from pipeline import widths
from pipeline.walkforward import Dataset
from pipeline.widths import METHODS, calibrate, calibrated
from tests.pipeline.text_fixture import RESAMPLING, folds, universe

NORMAL = np.array([-2.326, -1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Volatility moves slowly, the same for all tickers; z is wide where it is high."""
    made = universe(tickers=8)
    generator = np.random.default_rng(3)
    level = np.zeros(len(made.panel.sessions))
    for t in range(1, len(level)):
        level[t] = 0.95 * level[t - 1] + 0.1 * generator.normal()
    vol = np.broadcast_to(0.01 * np.exp(level), made.z.shape[:2]).astype(np.float32)
    wide = np.where(level > np.quantile(level, 2 / 3), 1.4, 1.0)[None, :, None]
    z = np.where(np.isfinite(made.z), wide * generator.normal(0, 1, made.z.shape), np.nan)
    log_return = z * vol[..., None] * np.sqrt(made.horizons)
    panel = replace(made.panel, vol=vol)
    rv = z**2 * vol[..., None].astype(float) ** 2
    return replace(made, panel=panel, z=z, log_return=log_return, rv=rv, relative_variance=z**2)


def normal(data: Dataset, scale: float = 1.0) -> Forecast:
    """Standard normal z times `scale` in every test slice, NaN elsewhere."""
    unit = data.panel.vol[..., None].astype(np.float64) * np.sqrt(data.horizons) * scale
    inside = np.zeros(unit.shape[1], bool)
    for fold in folds(data):
        inside[fold.test_start : fold.test_end] = True
    sigma = np.where(inside[None, :, None], unit, np.nan)
    return Forecast(sigma, sigma[..., None] * (NORMAL + 0.013), np.where(np.isfinite(sigma), 0.5, np.nan))


def altered(data: Dataset, session: int) -> Dataset:
    """Outcomes that are not known at the close of `session` are others."""
    changed = data.log_return.copy()
    for h, delay in enumerate(data.known_after):
        changed[:, max(0, session + 1 - delay) :, h] *= -30
    return replace(data, log_return=changed)


def test_a_fold_rests_on_outcomes_known_when_its_training_ended(data: Dataset) -> None:
    forecast = normal(data, 0.8)
    before = calibrate(forecast, data, folds(data), "volatility_group").forecast
    for fold in folds(data)[1:]:
        upto, test = slice(0, fold.test_end), slice(fold.test_start, fold.test_end)
        after = calibrate(forecast, altered(data, fold.train_end - 1), folds(data), "volatility_group").forecast
        assert before.quantiles[:, upto].tobytes() == after.quantiles[:, upto].tobytes()
        assert before.sigma[:, upto].tobytes() == after.sigma[:, upto].tobytes()
        sooner = calibrate(forecast, altered(data, fold.train_end - 2), folds(data), "volatility_group").forecast
        assert before.quantiles[:, test].tobytes() != sooner.quantiles[:, test].tobytes()


def test_adaptive_widths_rest_on_outcomes_known_at_each_session(data: Dataset) -> None:
    forecast, session = normal(data, 0.8), folds(data)[2].test_start + 40
    before = calibrate(forecast, data, folds(data), "adaptive")
    after = calibrate(forecast, altered(data, session), folds(data), "adaptive")
    upto = slice(0, session + 1)
    assert before.forecast.quantiles[:, upto].tobytes() == after.forecast.quantiles[:, upto].tobytes()
    assert before.forecast.quantiles[:, session + 1].tobytes() != after.forecast.quantiles[:, session + 1].tobytes()
    for fold in folds(data)[:3]:
        assert before.by_fold[fold.name].up.tobytes() == after.by_fold[fold.name].up.tobytes()


def test_the_first_fold_stays_and_pooled_changes_nothing(data: Dataset) -> None:
    forecast, first = normal(data, 0.8), folds(data)[0]
    found = calibrate(forecast, data, folds(data), "volatility_group")
    upto = slice(0, first.test_end)
    assert found.forecast.quantiles[:, upto].tobytes() == forecast.quantiles[:, upto].tobytes()
    assert (found.by_fold[first.name].down == 1).all()
    pooled = calibrate(forecast, data, folds(data), "pooled")
    assert all(a.tobytes() == b.tobytes() for a, b in zip(pooled.forecast, forecast, strict=True))
    assert (pooled.live.up == 1).all()


def test_groups_repair_volatile_sessions(data: Dataset) -> None:
    """Their z is 1.4 times as wide: q90 belongs 1.4 times as far out."""
    found = calibrate(normal(data), data, folds(data), "volatility_group", prior_blocks=0.001)
    np.testing.assert_allclose(found.live.up[:, 0], [1, 1, 1.4], rtol=0.1)
    last = folds(data)[-1]
    volatile = data.panel.vol[0] >= np.exp(found.by_fold[last.name].edges[-1])
    volatile[: last.test_start] = False

    def coverage(forecast: Forecast) -> float:
        actual = data.log_return[:, volatile, 0]
        low, high = (forecast.quantiles[:, volatile, 0, at] for at in (LOW, HIGH))
        return float(((actual >= low) & (actual <= high)).mean())

    assert coverage(normal(data)) < 0.70
    assert coverage(found.forecast) == pytest.approx(0.80, abs=0.04)


@pytest.mark.parametrize("method", METHODS)
def test_another_forecast_of_the_same_sessions_can_be_widened_alike(data: Dataset, method: widths.Method) -> None:
    found = calibrate(normal(data), data, folds(data), method)
    again = widened(normal(data), found.down[None], found.up[None])
    np.testing.assert_allclose(again.quantiles, found.forecast.quantiles, rtol=1e-12)
    np.testing.assert_allclose(again.sigma, found.forecast.sigma, rtol=1e-12)
    first = folds(data)[0]
    np.testing.assert_array_equal(found.up[first.test_start], found.by_fold[first.name].up[0])


@pytest.mark.parametrize("method", METHODS)
def test_the_record_holds_all_methods_and_survives_json(data: Dataset, method: widths.Method) -> None:
    made, record = calibrated(normal(data, 0.7), data, folds(data), method, RESAMPLING)
    forecast = made.forecast
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert [(r["method"], r["horizon"]) for r in record["rows"]] == [(m, h) for m in METHODS for h in data.horizons]
    assert list(record["folds"]) == [fold.name for fold in folds(data)]
    rows = {(row["method"], row["horizon"]): row for row in record["rows"]}
    assert rows["pooled", 1]["coverage"] < 0.66
    assert rows["pooled", 1]["coverage"] + 0.1 < rows["adaptive", 1]["coverage"] < 0.82  # it takes some months
    assert rows["adaptive", 1]["cost_percent_high"] < 0  # far too narrow: every repair pays
    assert rows["pooled", 1]["cost_percent"] == 0
    for row in record["rows"]:
        assert row["coverage_low"] <= row["coverage"] <= row["coverage_high"]
    assert (
        f"held {rows[method, 1]['coverage']:.1%} / {rows[method, 5]['coverage']:.1%} of outcomes" in record["sentence"]
    )
    np.testing.assert_array_equal(
        calibrate(normal(data, 0.7), data, folds(data), method).forecast.sigma, forecast.sigma
    )


def test_figures_by_hand(data: Dataset) -> None:
    """Coverage and pinball of the record, from the formulae."""
    made, record = calibrated(normal(data), data, folds(data), "pooled", RESAMPLING)
    forecast = made.forecast
    unit = data.panel.vol.astype(np.float64) * np.sqrt(5)
    actual, known = (
        data.log_return[:, :, 1],
        np.isfinite(data.log_return[:, :, 1]) & np.isfinite(forecast.sigma[:, :, 1]),
    )
    loss = np.zeros(actual.shape)
    for at in (LOW, QUANTILES.index(0.5), HIGH):
        error = actual - forecast.quantiles[:, :, 1, at]
        loss += np.where(error > 0, QUANTILES[at] * error, (QUANTILES[at] - 1) * error) / 3 / unit
    inside = (actual >= forecast.quantiles[:, :, 1, LOW]) & (actual <= forecast.quantiles[:, :, 1, HIGH])
    row = next(row for row in record["rows"] if row["method"] == "pooled" and row["horizon"] == 5)
    assert row["pinball"] == pytest.approx(loss[known].mean(), rel=1e-9)
    assert row["coverage"] == pytest.approx(inside[known].mean(), rel=1e-9)


def test_live_widths_rest_on_everything_known(data: Dataset) -> None:
    """A fold that tests on nothing, trained to the last session, would have the same."""
    forecast, end = normal(data, 0.8), len(data.panel.sessions)
    live = replace(folds(data)[-1], name="live", train_end=end, test_start=end, test_end=end)
    found = calibrate(forecast, data, [*folds(data), live], "volatility_group")
    np.testing.assert_array_equal(found.live.up, found.by_fold["live"].up)
    assert (found.live.up > 1.02).all()
