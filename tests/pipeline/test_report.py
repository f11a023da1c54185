from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline import report
from pipeline.config import Config
from pipeline.errors import StoreError
from pipeline.registry import Registry
from pipeline.reporting import formats
from pipeline.store import Lake
from tests.pipeline.report_fixture import build
from tests.pipeline.report_pieces import RUN


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str]:
    """A report written once, with its configuration."""
    config = build(tmp_path_factory.mktemp("run"))
    summary = report.run(config)
    return config, Path(summary.figures["report"]).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """The words of the page in one line, without style and pictures."""
    chunks: list[str] = []

    class Reader(HTMLParser):
        hidden = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.hidden += tag in ("style", "svg", "script")

        def handle_endtag(self, tag: str) -> None:
            self.hidden -= tag in ("style", "svg", "script")

        def handle_data(self, data: str) -> None:
            if not self.hidden:
                chunks.append(data)

    Reader().feed(page)
    return re.sub(r"\s+", " ", " ".join(chunks))


def edit(config: Config, name: str, **changes: object) -> None:
    registry = Registry(config.data.artifacts)
    registry.write_json(RUN, name, {**registry.read_json(RUN, name), **changes})


def test_the_verdict_comes_first_and_the_summary_says_the_same(made: tuple[Config, str]) -> None:
    config, page = made
    summary = report.run(config)
    text = text_of(page)
    for sentence in summary.figures["sentences"]:
        assert sentence in text
    assert text.index(summary.figures["sentences"][0]) < text.index("What the forecast is good for")
    assert "saves +1.12% [+0.62%, +1.62%] of the pinball loss" in text
    assert summary.lines[-1] == f"Report: {config.data.artifacts / 'report.html'}"
    kept = config.data.artifacts / "reports" / f"{RUN}.html"
    assert kept.read_bytes() == (config.data.artifacts / "report.html").read_bytes()
    json.loads(summary.to_json())


def test_every_part_is_there(made: tuple[Config, str]) -> None:
    page = made[1]
    anchors = re.findall(r'<section id="(\w+)"', page)
    assert anchors == ["risk", "race", "importance", "calibration", "var", "int8", "direction", "made"]
    charts = re.findall(r'<figure class="chart" id="([\w-]+)"', page)
    names = [
        "wealth",
        "volatility",
        "drawdown",
        "panels",
        "ranges",
        "race",
        "forest",
        "importance",
        "fan",
        "coverage",
        "pit",
        "var",
        "equality",
        "pruning",
        "reliability",
    ]
    assert charts == [f"chart-{name}" for name in names]
    text = text_of(page)
    words = (
        "Kupiec",
        "Christoffersen",
        "QLIKE",
        "Brier",
        "Break-even",
        "no model beats always-up",
        "promoted",
    )
    origin = ("196 sessions, 750 needed", "features 0, news 0, prices 0", "2006-01-02 to 2013-03-28")
    for word in (*words, *origin):
        assert word in text, word


def test_sample_data_is_called_what_it_is(made: tuple[Config, str]) -> None:
    text = text_of(made[1])
    assert "headlines SIMULATED" in text
    assert "Simulated text: plumbing only" in text
    assert "Universe chosen with hindsight" in text


def test_a_dated_universe_says_whom_it_misses(tmp_path: Path) -> None:
    config = build(tmp_path, data_label="files", source="wire")
    facts = {"members": "members.csv", "hindsight": False, "tickers": 5, "spells": 6, "missing": ["ENE", "LEH"]}
    edit(config, "training.json", universe=facts, calendars={"XNYS": ["IBM"], "24/7": ["BTC"]})
    summary = report.run(config)
    text = text_of((config.data.artifacts / "report.html").read_text(encoding="utf-8"))
    sentence = (
        "Universe dated by members.csv: 5 tickers in 6 spells; 2 have no prices in the lake (ENE, LEH), and where "
        "those are delisted losers the survivors flatter every return."
    )
    assert sentence in summary.lines
    assert text.count(sentence) == 2  # before the figures, and in how the report was made
    assert "hindsight: its" not in text
    assert "at the XNYS, 24/7 close" in text
    edit(config, "training.json", universe={**facts, "missing": []})
    assert "5 tickers in 6 spells, all of them with prices." in " ".join(report.run(config).lines)


def test_paths_and_keys_of_the_machine_stay_out_of_the_configuration_shown(tmp_path: Path) -> None:
    config = build(tmp_path)
    data = config.data.model_copy(update={"storage_options": {"AWS_SECRET_ACCESS_KEY": "hushhush"}})
    universe = config.universe.model_copy(update={"members": tmp_path / "lists" / "members.csv"})
    report.run(config.model_copy(update={"data": data, "universe": universe}))
    page = (config.data.artifacts / "report.html").read_text(encoding="utf-8")
    assert "hushhush" not in page
    assert "members.csv" in page
    assert str(tmp_path) not in page


def test_own_data_is_not_called_simulated(tmp_path: Path) -> None:
    config = build(tmp_path, data_label="files", source="wire")
    report.run(config)
    text = text_of((config.data.artifacts / "report.html").read_text(encoding="utf-8"))
    assert "SIMULATED" not in text
    assert "Your own files" in text


def test_simulated_headlines_are_named_whatever_the_label(tmp_path: Path) -> None:
    config = build(tmp_path, data_label="files", source="simulated")
    report.run(config)
    assert "headlines SIMULATED" in (config.data.artifacts / "report.html").read_text(encoding="utf-8")


def test_a_baseline_run_says_that_nothing_beat_it(tmp_path: Path) -> None:
    config = build(tmp_path, status="baseline")
    summary = report.run(config)
    text = text_of((config.data.artifacts / "report.html").read_text(encoding="utf-8"))
    assert "A model beat the baselines, but not the one that can ship; the baseline ships." in text
    assert "does not beat GARCH at the gate's level" in summary.lines[0]
    assert "so the baseline ships: trailing EWMA, the one the runtime can run;" in summary.lines[0]
    assert "the smallest gain these data would show four times in five is 0.60%" in summary.lines[0]
    assert "ships: Trailing EWMA, the baseline the runtime can run" in text
    assert "beats its baseline" not in text


def test_a_headline_with_markup_is_text(made: tuple[Config, str]) -> None:
    page = made[1]
    assert "&lt;script&gt;document.title=" in page
    assert "<script" not in page.lower()
    assert "IBM &amp; partners rise" in page


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    config = build(tmp_path)
    bad = "<img src=x onerror=alert(1)>"
    edit(config, "training.json", left_out=[{"ticker": bad, "reason": bad}])
    edit(config, "backtest.json", universe_note=bad)
    rows = Registry(config.data.artifacts).read_json(RUN, "backtest.json")["strategies"]
    edit(
        config,
        "backtest.json",
        strategies=[{**row, "label": bad + " $x$ " + row["strategy"]} for row in rows],
    )
    report.run(config)
    page = (config.data.artifacts / "report.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_nothing_is_fetched_and_nothing_runs(made: tuple[Config, str]) -> None:
    page = made[1]
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "http" not in page.replace("http-equiv", "").replace("https://...", "")  # as CONFIG.md writes an address


def test_ids_are_unique_and_every_reference_is_found(made: tuple[Config, str]) -> None:
    page = made[1]
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    found = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|aria-labelledby="([^"]+)"', page)
    assert {a or b or c for a, b, c in found} <= set(ids)


def test_no_path_of_this_machine_is_shown(made: tuple[Config, str]) -> None:
    config, page = made
    assert str(config.data.artifacts.parent) not in page


def test_same_inputs_same_bytes_anywhere(made: tuple[Config, str], tmp_path: Path) -> None:
    config = build(tmp_path)
    report.run(config)
    again = (config.data.artifacts / "report.html").read_text(encoding="utf-8")
    assert again == made[1]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("training.json", "tradewind train"),
        ("evidence.json", "tradewind train"),
        ("equality.json", "tradewind compress"),
        ("backtest.json", "tradewind backtest"),
        ("backtest_curves.npz", "tradewind backtest"),
    ],
)
def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path, name: str, command: str) -> None:
    config = build(tmp_path)
    (config.data.artifacts / "runs" / RUN / name).unlink()
    with pytest.raises(StoreError, match=rf"{name}.*run: {command}"):
        report.run(config)
    assert not (config.data.artifacts / "report.html").exists()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    config = build(tmp_path)
    registry = Registry(config.data.artifacts)
    evidence = registry.read_json(RUN, "evidence.json")
    del evidence["gate"], evidence["var"]
    registry.write_json(RUN, "evidence.json", evidence)
    with pytest.raises(StoreError, match=r"evidence\.json.*lacks gate, var.*tradewind train"):
        report.run(config)


def test_nothing_trained_yet(tmp_path: Path) -> None:
    config = build(tmp_path)
    (config.data.artifacts / "latest_run").unlink()
    with pytest.raises(StoreError, match="tradewind train"):
        report.run(config)


def test_no_forecasts_of_the_run(tmp_path: Path) -> None:
    config = build(tmp_path)
    lake = Lake(config.data.lake)
    lake.replace("forecasts", lake.read("forecasts").assign(run_id="another").astype({"run_id": "str"}))
    with pytest.raises(StoreError, match=f"no out-of-sample forecasts of student for run {RUN}"):
        report.run(config)


def test_broken_curves_are_an_error(tmp_path: Path) -> None:
    config = build(tmp_path)
    (config.data.artifacts / "runs" / RUN / "backtest_curves.npz").write_bytes(b"not a file of arrays")
    with pytest.raises(StoreError, match=r"backtest_curves\.npz cannot be read.*tradewind backtest"):
        report.run(config)


def test_unknown_figures_become_a_dash(tmp_path: Path) -> None:
    """Every null the contract allows, all at once, and NaN in curves."""
    config = build(tmp_path)
    registry = Registry(config.data.artifacts)
    backtest = registry.read_json(RUN, "backtest.json")
    blank = (
        "sharpe",
        "sharpe_low",
        "sharpe_high",
        "sharpe_gain",
        "realised_vol_p05",
        "realised_vol_p95",
        "breakeven_bps",
    )
    edit(config, "backtest.json", strategies=[{**r, **dict.fromkeys(blank)} for r in backtest["strategies"]])
    evidence = registry.read_json(RUN, "evidence.json")
    unsure = {"low": None, "high": None, "p_value": None, "verdict": "too few blocks"}
    edit(
        config,
        "evidence.json",
        gains=[{**gain, **unsure} for gain in evidence["gains"]],
        gate={**evidence["gate"], "low": None, "high": None, "smallest_detectable_percent": None},
        var=[{**row, "kupiec_p": None, "christoffersen_p": None} for row in evidence["var"]],
        text_ablation={"sentence": "Not measured.", "rows": []},
    )
    path = registry.run_dir(RUN) / "backtest_curves.npz"
    curves = dict(np.load(path))
    curves["wealth"][:, :300] = np.nan
    curves["realised_vol"][2] = np.nan
    np.savez(path, **curves)
    report.run(config)
    page = (config.data.artifacts / "report.html").read_text(encoding="utf-8")
    text = text_of(page)
    assert "nan" not in text.lower().replace("finance", "")
    assert "None" not in text
    assert formats.UNKNOWN in text
    assert "too few blocks" in text
    assert "Too few sessions for the tests" in text


def test_without_news_and_without_fold_files(tmp_path: Path) -> None:
    config = build(tmp_path, source="")
    for path in (config.data.artifacts / "runs" / RUN / "networks").iterdir():
        path.unlink()
    report.run(config)
    page = (config.data.artifacts / "report.html").read_text(encoding="utf-8")
    assert "Latest headlines" not in page
    assert "Walk-forward folds." not in page


def test_progress_reaches_the_end(made: tuple[Config, str]) -> None:
    seen: list[tuple[str, int, int]] = []
    report.run(made[0], lambda *step: seen.append(step))
    assert seen[-1][1] == seen[-1][2]
