"""Fixtures shared by all tests: a simulated universe, as rows of the `prices` table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from xdist.scheduler import LoadScopeScheduling, Scheduling

from features import frames
from pipeline.config import Config, Data
from pipeline.store import Lake

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as models.compact does: some tests import ONNX Runtime first


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Two processes share the work file by file; all flow tests stay together, since they share one server.

    By xdist's groups it would be a mark for each test, which its 3.8 loses with pytest 9.2.
    """

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "tests/flows" if file.startswith("tests/flows/") else file

    return ByFile(config, log)


MakePrices = Callable[..., pd.DataFrame]


def simulate_prices(tickers: int = 3, sessions: int = 900, seed: int = 0, first: str = "2005-01-03") -> pd.DataFrame:
    """Stocks with a common, slowly moving volatility: log-AR(1) scale times normal returns, on XNYS sessions."""
    generator = np.random.default_rng(seed)
    calendar = exchange_calendars.get_calendar("XNYS", start=first, end="2018-12-31")
    days = calendar.sessions[:sessions]
    shocks = generator.normal(0, 0.12, sessions)
    log_scale = np.zeros(sessions)
    for t in range(1, sessions):
        log_scale[t] = 0.985 * log_scale[t - 1] + shocks[t]
    scale = 0.012 * np.exp(log_scale)[:, None] * np.ones(tickers)
    market = generator.normal(0, 1, (sessions, 1))
    r = scale * (0.6 * market + 0.8 * generator.normal(0, 1, (sessions, tickers)))
    gap = 0.4 * scale * generator.normal(0, 1, (sessions, tickers))
    close = 50 * np.exp(np.cumsum(r, axis=0))
    previous = np.vstack([np.full((1, tickers), 50.0), close[:-1]])
    open_ = previous * np.exp(gap)
    wick = np.abs(scale * generator.normal(0, 0.5, (sessions, tickers)))
    rows = pd.DataFrame(
        {
            "ticker": np.tile([f"T{i:02d}" for i in range(tickers)], sessions),
            "session": np.repeat(days.to_numpy(), tickers).astype("datetime64[us]"),
            "open": open_.ravel(),
            "high": (np.maximum(open_, close) * np.exp(wick)).ravel(),
            "low": (np.minimum(open_, close) * np.exp(-wick)).ravel(),
            "close": close.ravel(),
            "adj_close": (close * 0.5).ravel(),
            "volume": np.exp(generator.normal(14, 0.5, (sessions, tickers))).ravel(),
            "dividend": 0.0,
            "split": 1.0,
            "source": "simulated",
        }
    )
    rows["known_at"] = (rows["session"] + pd.Timedelta(hours=21)).dt.tz_localize("UTC").astype(frames.INSTANT)
    rows["ingested_at"] = rows["known_at"]
    return rows.astype({"ticker": "str", "source": "str"})


@pytest.fixture(scope="session")
def make_prices() -> MakePrices:
    """The simulator itself, for tests that need their own sizes."""
    return simulate_prices


@pytest.fixture(scope="session")
def prices() -> pd.DataFrame:
    """Three tickers, 900 sessions from 2005."""
    return simulate_prices()


@pytest.fixture
def small_config(tmp_path: Path) -> Config:
    """A configuration that trains in seconds, with its lake and artifacts in the test's own directory."""
    config = Config(data=Data(provider="files", lake=tmp_path / "lake", artifacts=tmp_path / "artifacts"))
    splits = config.splits.model_copy(update={"min_train_sessions": 500, "validation_sessions": 120})
    student = config.models.student.model_copy(update={"epochs": 2, "width": 8})
    garch = config.models.garch.model_copy(update={"forms": ("pooled",)})
    quick = {"student": student, "garch": garch, "race": (), "threads": 1, "processes": 1}
    models = config.models.model_copy(update=quick)
    evidence = config.evidence.model_copy(update={"resamples": 200, "min_blocks": 2})
    universe = config.universe.model_copy(update={"min_sessions": 300})
    return config.model_copy(update={"splits": splits, "models": models, "evidence": evidence, "universe": universe})


@pytest.fixture
def small_lake(small_config: Config, prices: pd.DataFrame) -> Lake:
    """The lake of `small_config`, holding the simulated prices."""
    lake = Lake(small_config.data.lake)
    lake.upsert_prices(prices)
    return lake
