"""The house keeps its walls: layers, names, sizes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("features", "models", "pipeline", "flows")
LINTER = str(Path(sys.executable).with_name("lint-imports"))
MOST_LINES = 400


def python_files() -> list[Path]:
    return [file for folder in (*FOLDERS, "tests", "benchmarks") for file in sorted((ROOT / folder).rglob("*.py"))]


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINTER, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False)


def test_the_layers_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("models/scaling.py", "import features.frames", "flows -> pipeline -> models | features"),
        ("features/frames.py", "import pipeline.errors", "flows -> pipeline -> models | features"),
        ("pipeline/backtest.py", "import pipeline.train", "stages meet only in the store"),
        ("features/prices.py", "import textblob", "only features.sentiment imports textblob"),
        ("pipeline/config.py", "import prefect", "only flows imports prefect"),
    ],
)
def test_a_broken_layer_is_caught(tmp_path: Path, file: str, line: str, contract: str) -> None:
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout


def test_nobody_else_owns_our_package_names() -> None:
    """An editable installation lists no packages, a wheel lists ours; either way nobody else does."""
    owners = packages_distributions()
    assert {name for folder in FOLDERS for name in owners.get(folder, [])} <= {"tradewind"}


def test_data_holds_no_code() -> None:
    assert list((ROOT / "data").rglob("*.py")) == []


@pytest.mark.parametrize("file", python_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_files_stay_small(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MOST_LINES
