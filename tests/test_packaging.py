"""The wheel: what a person without the repository gets."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("features", "flows", "models", "pipeline")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout without a network, by the build backend that the `dev` extra installs."""
    into = tmp_path_factory.mktemp("wheel")
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(into), "."]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = into.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, in a directory of its own."""
    into = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into)
    return into


def text_of(installed: Path, name: str) -> str:
    (file,) = installed.glob(f"tradewind-*.dist-info/{name}")
    return file.read_text(encoding="utf-8")


def test_it_holds_every_file_of_the_packages_and_nothing_else(installed: Path) -> None:
    packages = {path for folder in PACKAGES for path in (ROOT / folder).rglob("*")}
    ours = {path.relative_to(ROOT) for path in packages if path.is_file() and "__pycache__" not in path.parts}
    data = {Path("pipeline") / path.relative_to(ROOT / "data") for path in (ROOT / "data").glob("*/*")}
    held = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    assert {path for path in held if not path.parts[0].endswith(".dist-info")} == ours | data


@pytest.mark.parametrize(
    "name", ["pipeline/sample/prices.parquet", "pipeline/sample/README.md", "pipeline/reporting/template.html.j2"]
)
def test_it_holds_the_sample_and_the_template(installed: Path, name: str) -> None:
    assert (installed / name).stat().st_size > 0


def test_it_declares_the_scorer_alone_as_its_base(installed: Path) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = HeaderParser().parsestr(text_of(installed, "METADATA")).get_all("Requires-Dist") or []
    base = {Requirement(text) for text in needed if ";" not in text}
    assert base == {Requirement(text) for text in declared["dependencies"]}
    assert {each.name for each in base} == {"numpy", "onnxruntime", "typer"}
    assert "tradewind = pipeline.cli:main" in text_of(installed, "entry_points.txt")
    assert "Apache License" in text_of(installed, "licenses/LICENSE")


def test_the_sample_is_read_from_it(installed: Path, tmp_path: Path) -> None:
    """With the checkout out of reach: the installed files alone answer."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from pipeline.config import Config; from pipeline.providers import Held, sample\n"
        "assert Path(sample.__file__).is_relative_to(sys.argv[1]), sample.__file__\n"
        "assert sample.PLACES[0].is_file() and not sample.PLACES[1].exists()\n"
        "print_nothing = lambda *said: None\n"
        "print(sorted(next(sample.deliver(Config(), print_nothing, Held())).prices['ticker'].unique()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(installed)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['AAPL', 'FB', 'GOOG', 'IBM', 'IXIC', 'MSFT', 'SPX']\n"
