"""`tradewind demo` over stages of the test's own: what it prints and leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.server import Home, processes

STAGES = """
import sys, time, types
for name in ("ingest", "featurize", "train", "compress", "backtest", "report", "today"):
    def run(config, progress, name=name):
        from pipeline.errors import DataError
        from pipeline.summary import Summary
        if config.models.seed == 13 and name == "train":
            raise DataError("unlucky seed")
        time.sleep(200 if config.models.seed == 99 else 0)
        return Summary(name, (f"{name} is done",), {}, ("FB: 196 sessions",) if name == "ingest" else ())
    module = types.ModuleType("pipeline." + name)
    module.run = run
    sys.modules["pipeline." + name] = module
"""


@pytest.fixture
def own_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(STAGES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("own_stages")
def test_the_demo_shows_its_runs(project: Any, tmp_path: Path) -> None:
    here = type(project)(tmp_path)
    done = here.tradewind("demo")
    assert done.returncode == 0, done.stderr[-3000:]
    words = [line.split() for line in done.stdout.splitlines()]
    states = [(word[0], "Completed" in word) for word in words if "Completed" in word]
    assert [name for name, _ in states] == [
        "retrain", "ingest", "featurize", "train", "compress", "backtest", "report",
        "daily", "ingest", "featurize", "today",
    ]  # fmt: skip
    assert "report is done" in done.stdout
    assert "today is done" in done.stdout
    assert "ingest left out: FB: 196 sessions" in done.stderr
    assert Home(tmp_path / "build" / "demo" / "tradewind.toml").state() is None
    assert 'provider = "sample"' in (tmp_path / "build" / "demo" / "tradewind.toml").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("own_stages")
def test_a_failing_demo_leaves_no_server(project: Any, tmp_path: Path) -> None:
    done = type(project)(tmp_path).tradewind("demo", "--dir", "here", "--set", "models.seed=13")
    assert done.returncode == 1
    assert "error: unlucky seed" in done.stderr
    assert "Traceback" not in done.stderr
    assert Home(tmp_path / "here" / "tradewind.toml").state() is None
    assert [entry for entry in Path("/proc").glob("[0-9]*") if mentions(entry, tmp_path)] == []


@pytest.mark.slow
@pytest.mark.usefixtures("own_stages")
def test_a_demo_told_twice_to_stop_still_cleans_up(project: Any, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("tradewind")), "demo", "--dir", "here"]
    log = (tmp_path / "log").open("wb")
    demo = subprocess.Popen([*command, "--set", "models.seed=99"], cwd=tmp_path, stdout=log, stderr=log)
    log.close()
    deadline = time.monotonic() + 120
    while "Beginning flow run" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    state = Home(tmp_path / "here" / "tradewind.toml").state()
    assert state is not None
    demo.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(timeout=60) == 128 + signal.SIGTERM
    assert processes(state.token) == []


def mentions(entry: Path, directory: Path) -> bool:
    """Whether a process was started with that directory in its environment."""
    try:
        return str(directory).encode() in (entry / "environ").read_bytes()
    except OSError:
        return False
