"""One real Prefect server on loopback for the whole session, started by `tradewind up` itself."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import pytest

from flows.server import Home, free_port
from pipeline.config import Config
from pipeline.summary import Progress, Summary

COMMAND = Path(sys.executable).with_name("tradewind")

SETTINGS = """
[data]
provider = "files"
prices = ["prices.csv"]

[universe]
min_sessions = 300

[splits]
min_train_sessions = 700
validation_sessions = 200

[models]
threads = 1
processes = 1
race = ["regression", "lstm"]

[models.garch]
forms = ["pooled"]

[models.lstm]
epochs = 1
width = 8

[models.student]
width = 8
epochs = 1
body_weights = [0.0, 1.0]

[compress]
calibration_sessions = 200

[evidence]
resamples = 200
block_sessions = 20

[agent]
use = true
algorithms = ["q_table"]
seeds = 2
steps = 20000
first_test = 2014-01-01

[flows]
retries = 1
retry_delay_seconds = 0
"""


@dataclass(frozen=True)
class Project:
    """A directory with a configuration and prices, in which commands are run."""

    root: Path

    def tradewind(self, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(COMMAND), *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.tradewind(*arguments, "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)


def make_project(root: Path) -> Project:
    """Two simulated tickers, 1,300 sessions, and settings small enough for a test."""
    calendar = exchange_calendars.get_calendar("XNYS", start="2010-01-04", end="2016-12-30")
    sessions = calendar.sessions[:1300]
    draw = np.random.default_rng(3)
    frames = []
    for ticker in ("AAA", "BBB"):
        sigma = 0.01 * np.exp(0.5 * np.sin(np.arange(len(sessions)) / 40))
        close = 50 * np.exp(np.cumsum(sigma * draw.standard_normal(len(sessions))))
        opening = close * np.exp(0.002 * draw.standard_normal(len(sessions)))
        spread = 1 + 0.01 * draw.random(len(sessions))
        frames.append(
            pd.DataFrame(
                {
                    "ticker": ticker, "date": sessions.strftime("%Y-%m-%d"), "open": opening,
                    "high": np.maximum(opening, close) * spread, "low": np.minimum(opening, close) / spread,
                    "close": close, "adj_close": close, "volume": draw.integers(10**5, 10**6, len(sessions)),
                }
            )
        )  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).to_csv(root / "prices.csv", index=False)
    (root / "tradewind.toml").write_text(SETTINGS)
    return Project(root)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def server(project: Project) -> Iterator[str]:
    """The address of a server that `tradewind up` started for the project."""
    done = project.tradewind("up", "--json", "--set", f"flows.port={free_port()}")
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout)["url"]
    done = project.tradewind("down")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def retrained(project: Project, server: str) -> list[dict[str, Any]]:
    """What the retrain flow reported, over the real stages."""
    done = project.tradewind("run", "retrain", "--json", timeout=290)
    assert done.returncode == 0, done.stderr[-3000:]
    summaries: list[dict[str, Any]] = json.loads(done.stdout)["stages"]
    return summaries


@pytest.fixture
def reporting(server: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Flows called in this process report to the session's server."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    environment = Home(project.root / "tradewind.toml").client_environment(server)
    monkeypatch.setenv("NO_PROXY", environment["NO_PROXY"])
    monkeypatch.setenv("no_proxy", environment["no_proxy"])
    with temporary_settings({PREFECT_API_URL: f"{server}/api", PREFECT_HOME: environment["PREFECT_HOME"]}):
        yield server
        # Both send in the background, and would wait long at exit for a server that is gone by then.
        APILogWorker.drain_all(timeout=10)
        EventsWorker.drain_all(timeout=10)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Config]]:
    """Put a stage of one's own into `pipeline`; what it was called with is recorded."""

    def add(name: str, outcomes: list[Summary | Exception]) -> list[Config]:
        calls: list[Config] = []
        remaining = iter(outcomes)

        def run(config: Config, progress: Progress) -> Summary:
            calls.append(config)
            progress("counting", 1, 2)
            outcome = next(remaining)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        module = types.ModuleType(f"pipeline.{name}")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"pipeline.{name}", module)
        return calls

    return add
