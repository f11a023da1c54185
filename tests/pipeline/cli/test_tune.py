"""tune, as a person calls it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline import cli
from pipeline.errors import UsageError
from pipeline.search_space import SPACES
from tests.conftest import simulate_prices
from tests.pipeline.tune_fixture import SESSIONS, filled


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tuned")
    filled(directory, simulate_prices(2, SESSIONS))
    return directory


def call(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli.build(), ["tune", *arguments, "--config", str(root / "tradewind.toml")])


def test_it_prints_the_section_to_paste_on_stdout_and_its_progress_elsewhere(root: Path) -> None:
    done = call(root, "scale", "--trials", "2")
    assert done.exit_code == 0, done.stderr
    table, _, section = done.stdout.partition("\n\n")
    assert "2 of 2 trials" in table
    assert set(tomllib.loads(section)["models"]["scale"]) == set(SPACES["scale"])
    assert "tuning scale ..." in done.stderr


def test_json_and_a_timeout(root: Path) -> None:
    done = call(root, "scale", "--trials", "2", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["stage"], found["figures"]["trials"], found["left_out"]) == ("tune", 2, [])
    stopped = call(root, "student", "--timeout", "0", "--json")
    assert json.loads(stopped.stdout)["figures"]["trials"] == 0


def test_another_override_is_another_study(root: Path) -> None:
    names = {
        json.loads(call(root, "scale", "--trials", "1", "--json", "--set", f"splits.embargo={n}").stdout)["figures"][
            "study"
        ]
        for n in (5, 6)
    }
    assert len(names) == 2


def test_bad_usage(root: Path) -> None:
    assert call(root, "scale", "--trials", "0").exit_code == 2
    assert call(root).exit_code == 2
    found = call(root, "prophet").exception
    assert isinstance(found, UsageError)
    assert "there is nothing to tune for 'prophet'; the models are scale, student" in str(found)


def test_the_help_names_every_model() -> None:
    text = CliRunner().invoke(cli.build(), ["tune", "--help"]).stdout
    assert all(model in text for model in SPACES)
