"""Every benchmark runs in its quick form; its claims are judged only in the full one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name",
    [
        "agents",
        "features",
        "footprint",
        "gate",
        "lake",
        "planted",
        "planted_sequences",
        "scoring",
        "sentiment",
        "text_lift",
        "training",
    ],
)
def test_it_runs_and_judges_nothing(name: str, tmp_path: Path) -> None:
    results = ROOT / "benchmarks" / "results" / f"{name}.json"
    before = results.read_bytes()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "floor" in done.stdout
    assert "holds" not in done.stdout
    assert results.read_bytes() == before
