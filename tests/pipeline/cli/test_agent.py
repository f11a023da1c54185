"""tradewind agent: the commands print their tables, and say what to run first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import StoreError
from tests.pipeline.agent_fixture import SETTINGS
from tests.pipeline.trading_fixture import build

OPTIONS = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with forecasts and the agents of one real algorithm, by the command line."""
    root = tmp_path_factory.mktemp("agent-cli")
    build(root)
    (root / "tradewind.toml").write_text('[agent]\nalgorithms = ["q_table"]\n')
    return root


def call(root: Path, *arguments: str) -> Result:
    config = ["--config", str(root / "tradewind.toml")]
    return CliRunner().invoke(cli.build(), ["agent", *arguments, *config, *OPTIONS])


def test_the_commands_follow_one_another(root: Path) -> None:
    early = call(root, "evaluate").exception
    assert isinstance(early, StoreError)
    assert "run: tradewind agent train" in str(early)
    trained = call(root, "train")
    assert trained.exit_code == 0, trained.stderr
    assert trained.stdout.splitlines()[0] == (
        "agents of run r0001: 4, each on 2 test blocks and live; 2,000 steps, 5 bps a side"
    )
    assert "training agents ..." in trained.stderr
    between = call(root, "compare").exception
    assert isinstance(between, StoreError)
    assert "run: tradewind agent evaluate" in str(between)
    evaluated = call(root, "evaluate")
    assert evaluated.exit_code == 0, evaluated.stderr
    assert "Volatility target with tuned band" in evaluated.stdout
    assert "Tabular Q-learning" in evaluated.stdout
    assert "does not beat" in evaluated.stdout or "beats" in evaluated.stdout
    compared = call(root, "compare")
    assert compared.stdout == evaluated.stdout


def test_json_holds_the_comparisons(root: Path) -> None:
    found = json.loads(call(root, "compare", "--json").stdout)
    assert found["stage"] == "agent compare"
    assert {row["algorithm"] for row in found["figures"]["comparisons"]} == {"q_table"}
    assert all(row["verdict"] for row in found["figures"]["comparisons"])


def test_an_unknown_algorithm_is_bad_usage(root: Path) -> None:
    error = call(root, "train", "--set", 'agent.algorithms=["sarsa"]').exception
    assert getattr(error, "exit_code", None) == 2
    assert "agent.algorithms" in str(error)
