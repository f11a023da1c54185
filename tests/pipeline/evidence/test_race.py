from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.decode import Forecast
from pipeline.evidence import race as judging
from pipeline.evidence.significance import Resamples, by_session
from tests.pipeline.evidence.race_fixture import ERRORS, HORIZONS, SETTINGS, TICKERS, Market, race


def judge(market: Market, forecasts: dict[str, Forecast], **changes: Any) -> dict[str, Any]:
    settings = replace(SETTINGS, **changes)
    arrays = (market.log_return, market.rv, market.vol)
    return judging.judge(forecasts, *arrays, TICKERS, HORIZONS, "student", settings)


@pytest.fixture
def market() -> Market:
    """One of its own for each test: every forecast draws from the market's generator."""
    return Market()


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    market = Market()
    return judge(market, race(market))


def test_the_gate_takes_the_best_baseline_of_these_sessions(market: Market, found: dict[str, Any]) -> None:
    means = {
        name: np.mean([row["pinball"] for row in found["losses"] if row["model"] == name])
        for name in found["baselines"]
    }
    assert found["best_baseline"] == found["gate"]["against"] == min(means, key=means.__getitem__) == "garch"
    swapped = {**ERRORS, "garch": 0.3, "unconditional": 0.05}
    assert judge(market, race(market, swapped))["gate"]["against"] == "unconditional"


def test_a_better_model_passes_and_its_row_says_what_the_gate_says(found: dict[str, Any]) -> None:
    gate = found["gate"]
    (row,) = [row for row in found["verdicts"] if row["model"] == "student"]
    assert gate["passed"]
    assert gate["ships"] == "student"
    for key in ("gain_percent", "low", "high", "gate_low", "passed", "smallest_detectable_percent", "verdict"):
        assert row[key] == gate[key]
    assert "beats its best baseline, garch, by" in gate["sentence"]
    assert gate["gate_low"] <= gate["low"] < gate["gain_percent"] < gate["high"]


def test_every_model_has_a_verdict_and_baselines_pass_no_gate(found: dict[str, Any]) -> None:
    rows = {row["model"]: row for row in found["verdicts"]}
    assert set(rows) == set(ERRORS) - {"garch"}
    assert [row["horizon"] for row in rows["student"]["by_horizon"]] == list(HORIZONS)
    assert not any(rows[name]["passed"] for name in ("unconditional", "ewma", "har"))
    assert rows["scale_skip"]["beside_foundation"] is None
    beside = rows["student"]["beside_foundation"]
    assert beside["verdict"] == "better"
    assert 0 < beside["gain_percent"] < rows["student"]["gain_percent"]


def test_figures_are_those_of_the_cells(market: Market) -> None:
    forecasts = race(market)
    rows = judge(market, forecasts)["losses"]
    panels = judging.losses(forecasts, market.log_return, market.rv, market.vol, HORIZONS)
    for row in rows:
        key = f"{row['model']}|{{}}|{row['horizon']}"
        assert row["pinball"] == pytest.approx(np.nanmean(panels[key.format("pinball")]))
        assert row["coverage80"] == pytest.approx(np.nanmean(panels[key.format("cover80")]))
        assert row["fz99"] == pytest.approx(np.nanmean(panels[key.format("fz99")]))
        assert row["n"] == 6 * 800


def test_an_interval_that_holds_zero_is_no_verdict(found: dict[str, Any]) -> None:
    rows = [*found["gains"], *found["verdicts"], *found["direction"]["gains"], found["gate"]]
    assert len(rows) > 50
    for row in rows:
        assert row["verdict"] == "better" if row["low"] > 0 else row["verdict"] != "better"
        assert row["verdict"] == "worse" if row["high"] < 0 else row["verdict"] != "worse"
        assert row["p_value"] < 0.03 if row["low"] > 0 else row["p_value"] > 0.02


def test_no_better_than_the_best_baseline_ships_what_the_runtime_can_run(market: Market) -> None:
    forecasts = race(market, {**ERRORS, "student": 0.4})
    gate = judge(market, forecasts)["gate"]
    assert not gate["passed"]
    assert gate["ships"] == "ewma"
    assert "The baseline ships: ewma, the one that the runtime can run." in gate["sentence"]
    assert "show four times in five" in gate["sentence"]
    plain = judge(market, {name: each for name, each in forecasts.items() if name not in ("garch", "har")})["gate"]
    assert plain["against"] == "ewma"
    assert "The baseline ships. The smallest gain" in plain["sentence"]


def test_too_few_blocks_give_no_verdict(market: Market) -> None:
    few = judge(market, race(market), block_sessions=100)
    assert not few["gate"]["passed"]
    assert few["gate"]["sentence"].startswith("No verdict: 8.0 independent blocks of sessions are fewer than 10.")
    assert {row["verdict"] for row in few["verdicts"]} == {"too few blocks"}
    assert few["confidence_sets"][0]["included"] == []
    assert few["direction"]["sentence"].startswith("Too few independent sessions for a verdict on direction")


def test_blocks_are_no_shorter_than_the_longest_horizon(market: Market) -> None:
    assert judge(market, race(market), block_sessions=2)["block_sessions"] == 5


def test_all_of_it_is_json_and_the_same_again(market: Market) -> None:
    forecasts = race(market)
    first, second = (json.dumps(judge(market, forecasts), allow_nan=False) for _ in range(2))
    assert first == second


def test_the_samples_are_told(market: Market, found: dict[str, Any]) -> None:
    one, five = found["samples"]
    assert one["n_cells"] == 6 * 800
    assert one["n_sessions"] == 800
    assert five["n_without_overlap"] == 160
    assert five["n_effective_sessions"] < one["n_sessions"]
    assert set(one["own"]) == {*ERRORS, "always_up", "market_momentum"}
    assert one["own"]["student"] == 6 * 900


def test_models_that_are_missing_are_named(market: Market) -> None:
    forecasts = race(market)
    with pytest.raises(ValueError, match="student is not in the race of unconditional, ewma, "):
        judge(market, {name: each for name, each in forecasts.items() if name != "student"})
    none = {name: each for name, each in forecasts.items() if name not in judging.BASELINES}
    with pytest.raises(ValueError, match="none of the baselines unconditional, ewma, har, garch is in the race"):
        judge(market, none)


def test_a_model_of_equal_losses_neither_gains_nor_passes(market: Market) -> None:
    forecasts = race(market)
    forecasts["twin"] = forecasts["garch"]
    (row,) = [row for row in judge(market, forecasts)["verdicts"] if row["model"] == "twin"]
    assert (row["gain_percent"], row["low"], row["high"]) == (0, 0, 0)
    assert row["verdict"] == "not distinguishable"
    assert not row["passed"]


def test_compare_is_the_gain_measure_by_measure(market: Market) -> None:
    forecasts = {name: each for name, each in race(market).items() if name in ("ewma", "student")}
    panels = judging.losses(forecasts, market.log_return, market.rv, market.vol, HORIZONS)
    rows = judging.compare(panels, HORIZONS, SETTINGS, "student", "ewma")
    assert [(row["measure"], row["horizon"]) for row in rows] == [
        (measure, h) for measure in ("pinball", "qlike", "brier") for h in HORIZONS
    ]
    base, own = (np.nanmean(panels[f"{name}|qlike|5"]) for name in ("ewma", "student"))
    assert rows[3]["gain_percent"] == pytest.approx(100 * (base - own) / base)


def test_the_gate_reads_panels_and_sums_alike(market: Market) -> None:
    panels = judging.losses(race(market), market.log_return, market.rv, market.vol, HORIZONS)
    sums = {name: by_session(loss) for name, loss in panels.items()}
    one, other = (
        judging.gate(Resamples(each, SETTINGS), each, "student", HORIZONS, SETTINGS) for each in (panels, sums)
    )
    assert one == other


def test_what_is_worse_than_its_ridge_does_not_pass(market: Market) -> None:
    forecasts = race(market)
    skip = forecasts["scale_skip"]
    wide = skip._replace(quantiles=skip.quantiles[..., 4:5] + 1.15 * (skip.quantiles - skip.quantiles[..., 4:5]))
    found = judge(market, {**forecasts, "wide": wide})
    rows = {row["model"]: row for row in found["verdicts"]}
    assert rows["scale_skip"]["passed"]
    assert rows["wide"]["worse_than_foundation"]
    assert not rows["wide"]["passed"]
    assert not rows["student"]["worse_than_foundation"]
