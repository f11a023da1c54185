"""tradewind score: which sources go together, what they need installed, and where ONNX Runtime is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from models.compact.bundle import Bundle
from pipeline.config import Config
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.models.compact import bundle_fixture as small
from tests.pipeline.score_fixture import feature_rows, forecasts, run, write

RUN = """
import sys
for name in {absent!r}:
    sys.modules[name] = None
from pipeline.cli import main
main()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small.write(tmp_path_factory.mktemp("bundles") / "v1")


def call(*arguments: str, cwd: Path, absent: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN.format(absent=absent), "score", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--bundle", "b"), "name a feature file (--features features.npz), or score the lake's features (--lake)"),
        (("--features", "x.npz"), "name the bundle: --bundle artifacts/bundles/VERSION"),
        (("--lake", "--features", "x.npz"), "--lake takes neither --features nor --codes"),
        (("--lake", "--codes"), "--lake takes neither --features nor --codes"),
        (("--bundle", "b", "--features", "x.npz", "--codes"), "out.csv: codes are written as .npz"),
        (("--bundle", "b", "--features", "x.npz", "--set", "universe.ticker=A"), "did you mean universe.tickers?"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = call("--out", "out.csv", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr


def test_numpy_scores_where_onnx_runtime_cannot_be_imported(bundle: Bundle, tmp_path: Path) -> None:
    features = write(tmp_path / "x.npz", feature_rows())
    expected = run(bundle, features, every_session=True)
    options = ("--bundle", str(bundle.directory), "--features", "x.npz", "--out", "found.csv", "--all")
    done = call(*options, cwd=tmp_path, absent=("onnxruntime",))
    assert done.returncode == 1
    assert "ONNX Runtime cannot be imported here" in done.stderr
    assert done.stderr.endswith("score without it: --runtime numpy\n")
    assert not (tmp_path / "found.csv").exists()
    done = call(*options, "--runtime", "numpy", "--threads", "2", "--json", cwd=tmp_path, absent=("onnxruntime",))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["figures"]["rows"] == len(expected)
    pd.testing.assert_frame_equal(forecasts(tmp_path / "found.csv"), expected, rtol=1e-5)


def test_codes_are_written_and_scored(bundle: Bundle, tmp_path: Path) -> None:
    expected = run(bundle, write(tmp_path / "x.npz", feature_rows()))
    options = ("--bundle", str(bundle.directory))
    done = call(*options, "--features", "x.npz", "--out", "codes.npz", "--codes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 cells to score, coded for bundle v1, ")
    done = call(*options, "--features", "codes.npz", "--out", "found.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(forecasts(tmp_path / "found.csv"), expected, check_exact=True)


def test_the_lake_is_scored_by_the_champion_without_torch(bundle: Bundle, small_config: Config, tmp_path: Path) -> None:
    Lake(small_config.data.lake).replace("features", feature_rows().astype({"ticker": "str"}))
    with Registry(small_config.data.artifacts).publishing("v1") as directory:
        for path in bundle.directory.iterdir():
            (directory / path.name).write_bytes(path.read_bytes())
    Registry(small_config.data.artifacts).set_champion("v1")
    places = [f"data.{name}={getattr(small_config.data, name)}" for name in ("lake", "artifacts")]
    done = call(
        "--lake", "--out", "found.csv", *(text for place in places for text in ("--set", place)),
        cwd=tmp_path, absent=("torch", "sklearn", "onnx", "prefect"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = run(bundle, write(tmp_path / "x.npz", feature_rows()))
    pd.testing.assert_frame_equal(forecasts(tmp_path / "found.csv"), expected, check_exact=True)


def test_the_lake_needs_its_extra(tmp_path: Path) -> None:
    done = call("--lake", "--out", "found.csv", cwd=tmp_path, absent=("pydantic",))
    assert done.returncode == 1
    assert done.stderr == "error: this command needs pydantic: pip install 'tradewind[pipeline]'\n"
