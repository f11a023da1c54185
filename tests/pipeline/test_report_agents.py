"""The report's section on trading agents: verdict, charts, tables; only where agents were trained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline import report
from pipeline.config import Config
from pipeline.errors import StoreError
from pipeline.registry import Registry
from pipeline.reporting import agent_charts, agents, strategy
from pipeline.reporting.agent_inputs import Agents, Curve, load_agents
from tests.pipeline.report_agents import add_agents
from tests.pipeline.report_fixture import build
from tests.pipeline.report_pieces import RUN

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str]:
    config = build(tmp_path_factory.mktemp("run"))
    add_agents(config.data.artifacts)
    report.run(config)
    return config, (config.data.artifacts / "report.html").read_text()


@pytest.fixture(scope="module")
def held(made: tuple[Config, str]) -> Agents:
    found = load_agents(Registry(made[0].data.artifacts), RUN)
    assert found is not None
    return found


def test_the_section_is_there_with_its_verdict_and_charts(made: tuple[Config, str], held: Agents) -> None:
    page = made[1]
    section = page[page.index('<section id="agents">') :].partition("</section>")[0]
    assert held.evaluation is not None
    assert held.evaluation["sentences"][0] in section
    for name in ("seeds", "fees", "learning"):
        assert f"{name}-w" in section
        assert f"{name}-n" in section
    for words in ("Break-even fee", "Every comparison", "2 algorithms, 10 seeds each", "23 trials are in the ledger"):
        assert words in section
    assert '<a href="#agents">Agents</a>' in page


def test_names_with_markup_are_text(made: tuple[Config, str]) -> None:
    assert "Chosen &lt;b&gt;late&lt;/b&gt;." in made[1]


def test_ids_stay_unique(made: tuple[Config, str]) -> None:
    ids = re.findall(r'\bid="([^"]+)"', made[1])
    assert len(ids) == len(set(ids))


def test_the_same_evaluation_gives_the_same_charts(held: Agents) -> None:
    assert agent_charts.agent_charts(held) == agent_charts.agent_charts(held)


def test_a_run_without_agents_has_none(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.run_dir(RUN)
    assert load_agents(registry, RUN) is None


def test_agents_without_an_evaluation_show_how_they_learned_and_what_to_run(tmp_path: Path) -> None:
    add_agents(tmp_path, evaluated=False)
    found = load_agents(Registry(tmp_path), RUN)
    assert found is not None
    assert agents.lead(found)[-1] == agents.NOT_EVALUATED
    assert [chart.name for chart in agent_charts.agent_charts(found)] == ["learning"]


def test_an_evaluation_of_other_agents_does_not_count(tmp_path: Path) -> None:
    add_agents(tmp_path)
    path = tmp_path / "runs" / RUN / "agent_evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": "another"}))
    found = load_agents(Registry(tmp_path), RUN)
    assert found is not None
    assert found.evaluation is None


def test_the_figures_are_those_of_the_evaluation(held: Agents) -> None:
    assert held.evaluation is not None
    table = agents.figures_table(held.evaluation)
    rows = {row["label"]: row for row in held.evaluation["strategies"]}
    assert [row[0] for row in table.rows] == list(rows)
    assert table.strong == (6, 7)
    shown = next(row for row in table.rows if row[0] == "PPO")
    assert shown[1] == f"+{rows['PPO']['objective']:.2f}%"
    assert shown[2] == f"[+{rows['PPO']['objective_low']:.2f}%, +{rows['PPO']['objective_high']:.2f}%]"
    assert shown[-1] == f"{rows['PPO']['cost_per_year_percent']:.2f}%"


def test_every_comparison_says_its_verdict(held: Agents) -> None:
    assert held.evaluation is not None
    rows = agents.comparisons_table(held.evaluation).rows
    assert len(rows) == 12
    assert {row[-1] for row in rows if row[0] == "PPO"} == {"beats"}
    assert {row[-1] for row in rows if row[0] == "Tabular Q-learning"} == {"is worse than"}


@pytest.mark.parametrize(("bps", "shown"), [(None, "more"), (0.0, "0"), (7.25, "7.2 bps")])
def test_a_break_even_fee_is_shown(bps: float | None, shown: str) -> None:
    assert agents.fee(bps) == shown


def test_the_seeds_chart_names_the_widest_spread(held: Agents) -> None:
    assert held.evaluation is not None
    spreads = {
        row["label"]: np.ptp(row["seeds"]["objective"])
        for row in held.evaluation["strategies"]
        if row["kind"] == "agent"
    }
    widest = max(spreads, key=lambda name: spreads[name])
    title = agent_charts.seeds_chart(held.evaluation).title
    assert title.startswith(f"Seeds alone move {widest[0].lower() if widest[0] == 'T' else widest[0]}{widest[1:]} by ")
    assert f"{spreads[widest]:.1f} points" in title


def test_a_learning_curve_is_averaged_over_stretches_by_steps() -> None:
    """Half of a thousand steps at 1, then at 3: whatever the entries' lengths, sixteen stretches of 1 and of 3."""
    ones = Curve("ppo", "a", 0, np.array([500, 1000]), np.array([1.0, 3.0]))
    fine = Curve("ppo", "a", 1, np.arange(100, 1001, 100), np.repeat([1.0, 3.0], 5))
    steps, low, middle, high = agent_charts._gathered([ones, fine])
    np.testing.assert_allclose(steps, np.arange(1, 17) * 62.5)
    for line in (low, middle, high):
        np.testing.assert_allclose(line, 252 * np.repeat([1.0, 3.0], 8))


def test_the_strategys_section_counts_agents_among_its_trials() -> None:
    luck = {"forecaster_trials": {"cli": 3}, "further_rules": 0, "agents": 20, "strategies": [], "sentence": "So."}
    found = strategy.luck_sentence({**luck, "strategies": [{"sharpe": None}]})
    assert found == "Trials in the ledger: 3 trained by hand and 20 trading agents. So."
    assert "agents" not in strategy.luck_sentence({**luck, "agents": 0, "strategies": [{"sharpe": None}]})


def test_damaged_curves_name_the_command(tmp_path: Path) -> None:
    add_agents(tmp_path)
    (tmp_path / "runs" / RUN / "agent_curves.npz").write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"agent_curves.npz cannot be read .*tradewind agent train"):
        load_agents(Registry(tmp_path), RUN)
