"""Direction, risk and the whole field: each row against the test that it reports, computed apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from models.decode import QUANTILES, Forecast
from pipeline.evidence import forecast_tests, hac, losses, race_direction, risk_tests
from pipeline.evidence import race as judging
from pipeline.evidence.significance import Resamples
from tests.pipeline.evidence.race_fixture import HORIZONS, SETTINGS, TICKERS, Market, race

NAIVE = ("always_up", "market_momentum")


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(3)


@pytest.fixture(scope="module")
def forecasts(market: Market) -> dict[str, Forecast]:
    return race(market)


@pytest.fixture(scope="module")
def found(market: Market, forecasts: dict[str, Forecast]) -> dict[str, Any]:
    arrays = (market.log_return, market.rv, market.vol)
    return judging.judge(forecasts, *arrays, TICKERS, HORIZONS, "student", SETTINGS)


def told(found: dict[str, Any], part: str, **keys: Any) -> dict[str, Any]:
    (row,) = [row for row in found[part] if all(row[key] == value for key, value in keys.items())]
    return dict(row)


def test_coverage_of_all_and_of_volatile_sessions(market: Market, forecasts: dict[str, Forecast], found: dict) -> None:
    q, actual = forecasts["ewma"].quantiles[:, :, 1], market.log_return[:, :, 1]
    inside = (actual >= q[..., 2]) & (actual <= q[..., 6])
    row = told(found, "coverage", model="ewma", horizon=5, sessions="all")
    assert row["share"] == pytest.approx(inside[:, 100:].mean())
    assert row["low"] < row["share"] < row["high"]
    level = np.log(market.vol).mean(0)[100:]
    volatile = level >= np.quantile(level, 2 / 3)
    row = told(found, "coverage", model="ewma", horizon=5, sessions="volatile")
    assert row["share"] == pytest.approx(inside[:, 100:][:, volatile].mean())
    assert row["n_sessions"] == volatile.sum()


def test_intervals_of_coverage_hold_the_promise_of_a_right_forecast() -> None:
    held = 0
    for seed in range(60):
        market = Market(seed, tickers=3, sessions=500)
        forecasts = {name: market.forecast(0.0) for name in ("ewma", "student")}
        outcomes = losses.outcomes(forecasts, market.log_return, market.rv, market.vol, HORIZONS)
        kept = losses.series(forecasts, outcomes)
        _, low, high = Resamples({"in": kept["student|cover80|5"]}, SETTINGS).mean("in")
        held += low <= 0.8 <= high
    assert held >= binom.ppf(0.001, 60, 0.94)


def test_pit_counts_between_quantiles(market: Market, forecasts: dict[str, Forecast], found: dict) -> None:
    row = told(found, "pit", model="student", horizon=1)
    actual, q = market.log_return[:, 100:, 0], forecasts["student"].quantiles[:, 100:, 0]
    edges = np.concatenate([np.full((*actual.shape, 1), -np.inf), q, np.full((*actual.shape, 1), np.inf)], axis=-1)
    counted = [((actual > edges[..., k]) & (actual <= edges[..., k + 1])).mean() for k in range(10)]
    assert row["shares"] == pytest.approx(counted)
    assert row["expected"] == pytest.approx(np.diff([0, *QUANTILES, 1]))
    assert all(low <= share <= high for low, share, high in zip(row["low"], row["shares"], row["high"], strict=True))
    assert told(found, "pit", model="ewma", horizon=1)["p_value"] < 0.01  # its spread is wrong
    assert {r["model"] for r in found["pit"]} == {"student", "garch", "ewma"}


def test_tails_are_the_mean_joint_loss_and_what_is_saved(found: dict) -> None:
    row = told(found, "tails", model="student", level=0.99)
    (mean,) = [r["fz99"] for r in found["losses"] if (r["model"], r["horizon"]) == ("student", 1)]
    (base,) = [r["fz99"] for r in found["losses"] if (r["model"], r["horizon"]) == ("garch", 1)]
    assert row["loss"] == pytest.approx(mean)
    assert row["saved"] == pytest.approx(base - mean)
    assert row["low"] <= row["saved"] <= row["high"]
    assert told(found, "tails", model="unconditional", level=0.95)["verdict"] == "worse"


def test_tails_without_a_loss_are_not_defined(market: Market) -> None:
    forecasts = race(market)
    forecasts["student"].quantiles[1, 150, 0] = 0.001
    arrays = (market.log_return, market.rv, market.vol)
    found = judging.judge(forecasts, *arrays, TICKERS, HORIZONS, "student", SETTINGS)
    row = told(found, "tails", model="student", level=0.95)
    assert (row["loss"], row["verdict"]) == (None, "not defined")
    assert told(found, "losses", model="student", horizon=1)["fz95"] is None


def test_value_at_risk_by_ticker_and_over_all(market: Market, forecasts: dict[str, Forecast], found: dict) -> None:
    hits = (market.log_return[:, 100:, 0] < forecasts["ewma"].quantiles[:, 100:, 0, 1]).astype(float)
    row = told(found, "var", model="ewma", ticker="CCC", level=0.95)
    assert row["exceedances"] == hits[2].sum()
    assert row["kupiec_p"] == pytest.approx(risk_tests.exceedances([hits[2] == 1], 0.05).kupiec_p)
    pooled = told(found, "var", model="ewma", ticker="pooled", level=0.95)
    clustered = hac.clustered_mean(hits)
    assert (pooled["share"], pooled["exceedances"]) == (pytest.approx(hits.mean()), hits.sum())
    assert pooled["clustered_p"] == pytest.approx(clustered.p_value(0.05))
    assert pooled["low"] < pooled["share"] < pooled["high"]
    by_ticker = {r["model"] for r in found["var"] if r["ticker"] == "AAA"}
    assert by_ticker == {"student", "garch", "ewma"}
    over_all = {r["model"] for r in found["var"] if r["ticker"] == "pooled"}
    assert over_all == set(found["models"])  # naive directions promise no quantile


def test_each_pair_is_diebold_marianos(market: Market, forecasts: dict[str, Forecast], found: dict) -> None:
    panels = judging.losses(forecasts, market.log_return, market.rv, market.vol, HORIZONS)
    row = told(found, "comparisons", against="har", horizon=5)
    test = forecast_tests.diebold_mariano(panels["student|pinball|5"], panels["har|pinball|5"], 5)
    assert (row["statistic"], row["p_value"]) == pytest.approx((test.statistic, test.p_value))
    assert row["difference"] == pytest.approx(np.nanmean(panels["student|pinball|5"] - panels["har|pinball|5"]))
    assert len(found["comparisons"]) == 4 * len(HORIZONS)


def test_the_field_is_that_of_panels(market: Market, forecasts: dict[str, Forecast], found: dict) -> None:
    panels = judging.losses(forecasts, market.log_return, market.rv, market.vol, HORIZONS)
    of = {name: panels[f"{name}|pinball|1"] for name in found["models"]}
    expected = forecast_tests.model_confidence_set(of, SETTINGS)
    assert told(found, "confidence_sets", horizon=1)["p_values"] == pytest.approx(expected.p_values)
    assert told(found, "confidence_sets", horizon=1)["included"] == list(expected.included) == ["student"]
    racing = {name: of[name] for name in ("garch", "scale_skip", "student")}
    test = forecast_tests.superior_ability(racing, "garch", SETTINGS)
    row = told(found, "superior", horizon=1)
    assert (row["benchmark"], row["n_models"]) == ("garch", 2)
    assert row["p_consistent"] == pytest.approx(test.p_consistent)


def test_direction_rows_are_of_every_model_and_naive_ones_order_nobody(found: dict) -> None:
    rows = found["direction"]["rows"]
    assert {row["model"] for row in rows} == {*found["models"], *NAIVE}
    for row in rows:
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert (row["rank"] is None) == (row["model"] in NAIVE)
    assert {gain["against"] for gain in found["direction"]["gains"]} == set(NAIVE)
    assert found["direction"]["sentence"].startswith(race_direction.NOT_FORECAST)


def test_a_sign_that_is_known_is_said_to_be_forecast(market: Market, forecasts: dict[str, Forecast]) -> None:
    right = np.where(market.log_return > 0, 0.52, 0.48)
    chance = np.where(market.generator.random(right.shape) < 0.7, right, 1 - right)
    knowing = {**forecasts, "student": forecasts["student"]._replace(p_up=chance)}
    arrays = (market.log_return, market.rv, market.vol)
    found = judging.judge(knowing, *arrays, TICKERS, HORIZONS, "student", SETTINGS)["direction"]
    assert found["sentence"].startswith("The sign of the forecast beats saying 'up' every time at horizon 1, 5;")
    assert "Its chances to rise are better than always-up's at horizon 1, 5" in found["sentence"]
    assert "have a rank correlation with returns above zero at horizon 1: +0." in found["sentence"]
    assert found["sentence"].endswith("2 of 2 looked at.")


def test_reliability_adds_up_and_counts_every_cell(market: Market, forecasts: dict[str, Forecast], found: dict) -> None:
    row = found["reliability"][1]
    parts = row["reliability"] - row["resolution"] + row["uncertainty"] + row["within"]
    assert row["score"] == pytest.approx(parts)
    p_up, actual = forecasts["student"].p_up[:, 100:, 1], market.log_return[:, 100:, 1]
    assert row["score"] == pytest.approx(((p_up - (actual > 0)) ** 2).mean())
    assert sum(each["n"] for each in row["bins"]) == actual.size
    assert all(each["low"] <= each["came"] <= each["high"] for each in row["bins"])
