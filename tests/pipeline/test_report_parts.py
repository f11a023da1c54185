from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline import report
from pipeline.config import Config, Data, Feed, Rss
from pipeline.registry import Registry
from pipeline.reporting import charts, equality, forecast, formats, inputs, provenance, quality, strategy, verdict
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
