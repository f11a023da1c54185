from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from features.catalogue import catalogue
from features.own import EXAMPLE
from features.prices import Wide
from pipeline import cli
from pipeline.features_text import reference
from tests.features.ragged_fixture import bars_of, ragged

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_code() -> None:
    assert (ROOT / "FEATURES.md").read_text(encoding="utf-8") == reference(), "run: make docs"


def test_every_row_of_the_page_has_five_cells() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(catalogue())
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}


def test_the_example_of_an_own_family_runs() -> None:
    module: dict[str, object] = {}
    exec(EXAMPLE, module)
    wide = Wide.of(bars_of(ragged(0)))
    found = module["my_family"](wide)  # type: ignore[operator]
    assert isinstance(found["my_cross"], pd.DataFrame)
    assert found["my_cross"].notna().any(axis=None)
    assert len(EXAMPLE.splitlines()) <= 10


def test_the_list_shows_every_feature_without_a_lake(tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli.build(), ["features", "--list"])
    assert shown.exit_code == 0
    assert all(f" {feature.name} " in shown.output for feature in catalogue())
    figures = json.loads(CliRunner().invoke(cli.build(), ["features", "--list", "--json"]).output)
    assert json.dumps(figures).count('"formula"') == len(catalogue())
