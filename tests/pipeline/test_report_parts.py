from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline import report
from pipeline.config import Config, Data, Feed, Rss
from pipeline.evidence import race as judging
from pipeline.registry import Registry
from pipeline.reporting import (
    charts,
    direction,
    equality,
    forecast,
    formats,
    gain_rows,
    inputs,
    provenance,
    quality,
    race,
    strategy,
    tail,
    verdict,
)
from tests.pipeline.evidence import race_fixture
from tests.pipeline.report_fixture import build
from tests.pipeline.report_pieces import HORIZONS, RUN, TICKERS


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> inputs.Inputs:
    return inputs.load(build(tmp_path_factory.mktemp("run")))


def test_coverage_counts_what_was_below(loaded: inputs.Inputs) -> None:
    rows = forecast.outcomes(loaded)
    shares = forecast.coverage(loaded, rows)
    part = rows[rows["horizon"] == 5]
    found = shares[(shares["horizon"] == 5) & (shares["level"] == 0.1)].iloc[0]
    assert found["share"] == pytest.approx((part["log_return"] <= part["q10"]).mean())
    assert found["low"] < found["share"] < found["high"]
    assert len(shares) == len(HORIZONS) * 9


def test_the_block_interval_covers_at_its_level() -> None:
    """Hits that come in runs: the interval is wide enough, where a binomial one would not be."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        state = np.repeat(rng.random(120) < 0.2, 20)
        share, half = forecast.block_share(np.stack([state, np.ones_like(state)], axis=1).astype(float), 60)
        covered += abs(share - 0.2) <= half
    assert covered >= 178


def test_few_blocks_give_no_interval() -> None:
    share, half = forecast.block_share(np.ones((100, 2)), 60)
    assert share == 1.0
    assert np.isnan(half)


def test_differences_pair_the_same_forecasts(loaded: inputs.Inputs) -> None:
    relative = equality.differences(loaded.forecasts, loaded.model)
    assert len(relative) == (loaded.forecasts["model"] == "int8").sum()
    assert 1e-3 < np.quantile(np.abs(relative), 0.99) < 0.1


def test_the_ticker_in_detail_is_the_index_if_there_is_one(loaded: inputs.Inputs) -> None:
    assert loaded.ticker == "SPX"
    assert strategy.tickers_of(loaded) == sorted(TICKERS)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (-0.1, 0.3, "volatility cannot be claimed: +0.11 [\N{MINUS SIGN}0.10, +0.30]."),
        (0.05, 0.3, "Its Sharpe ratio is higher than"),
        (-0.3, -0.1, "Its Sharpe ratio is lower than"),
        (None, None, "is not claimed"),
    ],
)
def test_a_higher_sharpe_is_claimed_only_when_its_interval_allows(
    loaded: inputs.Inputs, low: float | None, high: float | None, wanted: str
) -> None:
    rows = [
        {**row, "sharpe_gain_low": low, "sharpe_gain_high": high} if row["strategy"] == "vol_target" else row
        for row in loaded.backtest["strategies"]
    ]
    changed = replace(loaded, backtest={**loaded.backtest, "strategies": rows})
    assert wanted in verdict.sentences(changed)[1]


def test_an_unequal_int8_network_is_said_to_be(tmp_path: Path) -> None:
    config = build(tmp_path)
    registry = Registry(config.data.artifacts)
    content = registry.read_json(RUN, "equality.json")
    content["outputs"][0]["passed"] = content["passed"] = False
    registry.write_json(RUN, "equality.json", content)
    figure = verdict.big_figures(inputs.load(config))[3]
    assert (figure.value, figure.tone) == ("No", "bad")
    report.run(config)
    assert "NOT equal" in (config.data.artifacts / "report.html").read_text(encoding="utf-8")


def test_a_convolution_without_weight_is_said_to_be_the_regression(loaded: inputs.Inputs) -> None:
    assert "In 4 of 8 test years" in str(quality.body_sentence(loaded))
    assert quality.body_sentence(replace(loaded, folds={"2013": {"body_weight": 0.5}})) is None


def changed(loaded: inputs.Inputs, **parts: object) -> inputs.Inputs:
    return replace(loaded, evidence={**loaded.evidence, **parts})


def test_the_race_is_told_in_a_sentence(loaded: inputs.Inputs) -> None:
    against = "beat GARCH, the best baseline, at the gate's level of 1%; best: Stack of the learners, +1.25%"
    assert race.race_sentence(loaded) == f"5 of 7 models {against} [+0.75%, +1.75%]."
    rows = loaded.evidence["verdicts"]
    one = [{**row, "passed": row["model"] == "stack"} for row in rows]
    assert race.race_sentence(changed(loaded, verdicts=one)).startswith("1 of 7 models beats GARCH, ")
    none = [{**row, "passed": False} for row in rows]
    assert race.race_sentence(changed(loaded, verdicts=none)).startswith("None of 7 models beats GARCH, ")
    few = [{**row, "verdict": "too few blocks"} for row in none]
    assert race.race_sentence(changed(loaded, verdicts=few)).startswith("Too few independent sessions to tell any of 7")
    assert {cells[-1] for cells in race.verdict_table(changed(loaded, verdicts=few)).rows[1:]} == {"too few blocks"}


def test_every_model_has_a_row_of_verdicts_in_its_order(loaded: inputs.Inputs) -> None:
    rows = race.verdict_table(loaded).rows
    assert [row[0] for row in rows[:3]] == ["GARCH", "Stack of the learners", "Student network"]
    by_name = {row[0]: row for row in rows}
    assert len(by_name) == len(loaded.evidence["models"])
    assert by_name["Stack of the learners"][-1] == "passes"
    assert by_name["LSTM"][-3:] == ("\N{MINUS SIGN}0.50%, worse", "20", "does not pass")
    assert by_name["Trailing EWMA"][-3:] == (formats.UNKNOWN, "no", "baseline")
    measures = race.measures_table(loaded).rows
    assert len(measures) == len(HORIZONS) * len(loaded.evidence["models"])
    assert {row[7] for row in measures if row[1] == "LSTM"} == {formats.UNKNOWN}  # its tail is not defined


def test_losses_that_dwarf_the_others_are_written_at_the_edge(loaded: inputs.Inputs) -> None:
    chart = race.race_chart(loaded)
    assert chart is not None
    assert "\N{LEFTWARDS ARROW} \N{MINUS SIGN}5.3%, \N{MINUS SIGN}5.9%, \N{MINUS SIGN}8.2%" in chart.wide
    rows = {v["model"]: v["by_horizon"] for v in loaded.evidence["verdicts"]}
    left, right = gain_rows.span([row for each in rows.values() for row in each], in_full=rows["transformer"])
    assert left < min(row["low"] for row in rows["transformer"])
    assert left > max(row["high"] for row in rows["unconditional"])
    assert right > max(row["high"] for row in rows["stack"])


@pytest.mark.parametrize(("against", "ships"), [("ewma", "Trailing EWMA"), ("har", "the baseline the runtime can run")])
def test_what_ships_is_named_where_another_baseline_was_better(loaded: inputs.Inputs, against: str, ships: str) -> None:
    held = replace(loaded, model="ewma", training={**loaded.training, "status": "baseline", "chosen": "ewma"})
    held = changed(held, gate={**held.evidence["gate"], "against": against, "passed": False})
    assert verdict.shipped(held).endswith(ships)
    named = ": trailing EWMA, the one the runtime can run"
    for text in (verdict.sentences(held)[0], verdict.gate_sentence(held)):
        assert ("the baseline ships" + named * (against == "har")) in text
        assert (named in text) == (against == "har")


def test_the_heading_does_not_deny_what_other_models_can(loaded: inputs.Inputs) -> None:
    assert verdict.heading(loaded).startswith("The forecast of risk beats its baseline")
    held = replace(loaded, training={**loaded.training, "status": "baseline"})
    assert verdict.heading(held).startswith("A model beat the baselines, but not the one that can ship")
    none = [{**row, "passed": False} for row in held.evidence["verdicts"]]
    assert verdict.heading(changed(held, verdicts=none)) == "Nothing beat the baseline; the baseline ships."


def test_the_pit_names_the_bin_that_is_most_clearly_off() -> None:
    even = {"shares": [0.1, 0.9], "expected": [0.1, 0.9], "low": [0.05, 0.85], "high": [0.15, 0.95], "horizon": 1}
    noisy = {**even, "shares": [0.3, 0.7], "low": [0.0, 0.0], "high": [1.0, 1.0], "horizon": 20}
    clear = {**even, "shares": [0.17, 0.83], "low": [0.16, 0.82], "high": [0.18, 0.84], "horizon": 5}
    told = "17.0% of returns fell below the 1% quantile, where 10.0% were promised, 5 sessions ahead."
    assert forecast.pit_sentence([even, clear, noisy]) == f"Most clearly out of line: {told}"
    assert forecast.pit_sentence([even, noisy]).startswith("Nowhere are returns clearly out of line")


def test_all_models_at_once(loaded: inputs.Inputs) -> None:
    assert "That 7 were tried" in race.field_sentence(loaded)
    few = [{**row, "verdict": "No verdict: too few blocks."} for row in loaded.evidence["superior"]]
    assert race.field_sentence(changed(loaded, superior=few)).startswith("Too few independent sessions")


def test_chances_are_not_praised_that_score_no_better(loaded: inputs.Inputs) -> None:
    assert "they score better than always saying" in direction.reliability_sentence(loaded)
    worse = [{**row, "score": 0.26} for row in loaded.evidence["reliability"]]
    told = direction.reliability_sentence(changed(loaded, reliability=worse))
    assert told.startswith("The student network says chances to rise from 48% to 57%; they score no better")


def test_pooled_tests_shown_are_those_that_know_the_dependence(loaded: inputs.Inputs) -> None:
    rows = tail.var_table(loaded, short=True).rows
    assert [row[-2:] for row in rows if row[1] == "all tickers"] == [("0.460", "0.170")] * 2
    assert [row[-2:] for row in rows if row[1] == "SPX"] == [("0.310", "0.040")] * 2


def test_the_report_reads_what_the_judge_writes(tmp_path: Path) -> None:
    """Two horizons, other tickers, own names of models: all that the judge says finds its place."""
    config = build(tmp_path)
    market = race_fixture.Market(sessions=500)
    forecasts = race_fixture.race(market, {**race_fixture.ERRORS, "my_model": 0.05})
    arrays = (market.log_return, market.rv, market.vol)
    sized = (race_fixture.TICKERS, race_fixture.HORIZONS, "student", race_fixture.SETTINGS)
    registry = Registry(config.data.artifacts)
    found = judging.judge(forecasts, *arrays, *sized)
    registry.write_json(RUN, "evidence.json", {**registry.read_json(RUN, "evidence.json"), **found})
    report.run(config)
    page = (config.data.artifacts / "report.html").read_text(encoding="utf-8")
    assert "2 of 3 models beat GARCH" in page or "3 of 3 models beat GARCH" in page
    assert "My model" in page
    assert ">nan" not in page
    assert "None<" not in page


def test_too_few_blocks_are_no_verdict(loaded: inputs.Inputs) -> None:
    training = {**loaded.training, "status": "baseline", "chosen": "ewma"}
    few = replace(loaded, training=training, evidence={**loaded.evidence, "n_effective_blocks": 3.0})
    assert verdict.sentences(few)[0].startswith("Too few independent sessions for a verdict")


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (formats.percent(1.234, 2), "+1.23%"),
        (formats.percent(-0.5), "\N{MINUS SIGN}0.5%"),
        (formats.percent(-0.001, 2), "0.00%"),
        (formats.fraction(0.123), "12.3%"),
        (formats.drawdown(0.3), "\N{MINUS SIGN}30.0%"),
        (formats.drawdown(-0.3), "\N{MINUS SIGN}30.0%"),
        (formats.interval(-1, 2.5), "[\N{MINUS SIGN}1.0%, +2.5%]"),
        (formats.interval(None, 2.5), formats.UNKNOWN),
        (formats.number(float("nan")), formats.UNKNOWN),
        (formats.number(None), formats.UNKNOWN),
        (formats.number(12345.6, 0), "12,346"),
        (formats.p_value(0.0002), "<0.001"),
        (formats.sessions(1), "1 session"),
        (formats.listed(["a", "b", "c"]), "a, b and c"),
        (formats.listed([]), "none"),
        (formats.inside("Trailing EWMA"), "trailing EWMA"),
        (formats.inside("EWMA trailing"), "EWMA trailing"),
    ],
)
def test_formats(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_tick_labels_are_exact() -> None:
    axes = Figure().add_subplot()
    axes.set_ylim(-0.1275, 0.07)
    charts.percent_axis(axes, sign=True)
    labels = axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks())
    for value, label in zip(axes.get_yticks(), labels, strict=True):
        shown = float(label.replace("\N{MINUS SIGN}", "-").removesuffix("%"))
        assert shown == pytest.approx(value * 100)


def test_the_configuration_shown_holds_no_keys() -> None:
    """Feeds and object stores are reached with secrets; the report is for showing around."""
    rss = Rss(feeds=(Feed(url="https://me:hunter2@example.test/feed?token=hunter2"),))
    data = Data(lake="s3://bucket/lake", storage_options={"AWS_SECRET_ACCESS_KEY": "hunter2"}, rss=rss)
    shown = provenance.configuration(Config(data=data))
    assert "hunter2" not in shown
    assert "https://example.test/feed" in shown
