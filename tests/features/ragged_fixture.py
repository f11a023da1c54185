"""Histories as ragged as real ones: holes, late starts, delistings, long halts, days without volume, members."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import table
from features.bars import Bars
from features.calendars import calendar_sessions
from features.panel import Panel
from features.prices import FAMILIES
from pipeline.store import empty
from tests.conftest import simulate_prices

Members = pd.DataFrame
PRICES = ("open", "high", "low", "close", "adj_close")


def ragged(seed: int, tickers: int = 7, sessions: int = 1090, first: str = "2004-05-03") -> pd.DataFrame:
    """Rows of `prices`, sorted by ticker and session: each ticker with a life, a halt and holes of its own."""
    generator = np.random.default_rng(seed)
    rows = simulate_prices(tickers, sessions, seed, first)
    t, n = np.repeat(np.arange(sessions), tickers), np.tile(np.arange(tickers), sessions)
    start = np.where(generator.random(tickers) < 0.4, generator.integers(0, sessions - 60, tickers), 0)
    end = np.where(generator.random(tickers) < 0.4, generator.integers(60, sessions, tickers), sessions)
    halt = generator.integers(0, sessions, tickers)
    length = generator.choice([0, 3, 40, 270, 600], tickers)
    kept = (t >= start[n]) & (t < end[n]) & ~((t >= halt[n]) & (t < (halt + length)[n]))
    kept &= generator.random(len(rows)) > 0.02
    rows["volume"] = np.where(generator.random(len(rows)) < 0.02, 0.0, rows["volume"])
    paid = generator.random(len(rows)) < 0.01
    rows["dividend"] = np.where(paid, 0.01 * rows["close"], 0.0)
    return rows[kept].sort_values(["ticker", "session"], ignore_index=True)


def members_of(rows: pd.DataFrame, seed: int) -> Members:
    """Sessions x tickers, bool: in and out for months at a time."""
    generator = np.random.default_rng(seed + 1)
    sessions, tickers = np.unique(rows["session"]), np.unique(rows["ticker"].to_numpy(dtype=str))
    spells = generator.random((len(sessions) // 60 + 1, len(tickers))) < 0.8
    return pd.DataFrame(np.repeat(spells, 60, axis=0)[: len(sessions)], pd.DatetimeIndex(sessions), list(tickers))


def bars_of(rows: pd.DataFrame, members: Members | None = None) -> Bars:
    """On the sessions of XNYS."""
    sessions, _ = calendar_sessions("XNYS", rows["session"].min(), rows["session"].max())
    tickers = np.unique(rows["ticker"].to_numpy(dtype=str))
    inside: npt.NDArray[np.bool_] | None = None
    if members is not None:
        inside = members.reindex(index=sessions, columns=tickers, fill_value=False).to_numpy(dtype=bool).T
    return Bars.from_rows(rows, sessions, members=inside)


def price_panel(rows: pd.DataFrame, members: Members | None = None, **asked: object) -> Panel:
    """Every price feature, or what is asked for."""
    bars = bars_of(rows, members)
    _, closes = calendar_sessions("XNYS", rows["session"].min(), rows["session"].max())
    families = asked.pop("families", tuple(FAMILIES))
    return table.build(bars, table.News(empty("news"), closes, 0, 0.1), families, **asked)  # type: ignore[arg-type]


def assert_same_bytes(one: Panel, other: Panel, sessions: npt.NDArray[np.datetime64]) -> None:
    """All that both panels hold of the sessions is the same, and the other holds nothing of tickers it lacks."""
    assert one.feature_names == other.feature_names
    here, there = (np.isin(panel.sessions, sessions) for panel in (one, other))
    common = np.intersect1d(one.tickers, other.tickers)
    rows = [np.searchsorted(panel.tickers, common) for panel in (one, other)]
    for i, name in enumerate(one.feature_names):
        a, b = one.x[rows[0]][:, here, i], other.x[rows[1]][:, there, i]
        assert a.shape == b.shape
        differs = a.view(np.uint32) != b.view(np.uint32)
        assert not differs.any(), f"{name}: {differs.sum()} of {differs.size} cells, {a[differs][:3]}, {b[differs][:3]}"
    assert one.vol[rows[0]][:, here].tobytes() == other.vol[rows[1]][:, there].tobytes()
    for panel, mask in ((one, here), (other, there)):
        alone = ~np.isin(panel.tickers, common)
        assert np.isnan(panel.x[alone][:, mask]).all()
