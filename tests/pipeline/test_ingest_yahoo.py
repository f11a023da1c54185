"""Yahoo through ingestion into the lake: the real client and store, a local server replaying Yahoo's answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.actions import adjust
from pipeline import ingest, upkeep
from pipeline.cli.options import print_summary
from pipeline.errors import PartialError
from pipeline.store import Lake
from pipeline.summary import Summary
from tests.pipeline.providers.yahoo_replay import (
    BUSY,
    NEW_YORK,
    UNKNOWN,
    Replay,
    bars,
    chart,
    replay_bars,
    replaying,
    yahoo,
)

OPENS = pd.date_range("2013-01-22", "2013-02-15", freq="B", tz=NEW_YORK) + pd.Timedelta("9h30min")
TABLES = ("prices", "price_revisions", "news", "quarantine", "state")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Replay]:
    with replaying(tmp_path / "cache") as replay:
        yield replay


def run(server: Replay, lake: Path, *tickers: str, **universe: Any) -> Summary:
    provider = yahoo(server, *tickers, data={"lake": lake}, **universe)
    return ingest.run(provider.config, provider=lambda config, progress, held: provider.fetch(progress, held))


def returns(lake: Lake) -> np.ndarray:
    """The one-session returns that features see, from close, dividends and splits."""
    rows = lake.prices()
    return adjust(rows).gross.to_numpy()[1:] - 1


def split_on_the_last_session() -> pd.DataFrame:
    """100, 101, ... halved before the last session, which opens the split shares at half of the next close."""
    frame = bars(OPENS)
    frame[["close", "adj_close"]] /= 2
    frame.iloc[-1, frame.columns.get_loc("split")] = 2.0
    return frame


def test_a_split_between_two_downloads_is_recorded_and_moves_no_return(server: Replay, tmp_path: Path) -> None:
    server.chart = replay_bars(bars(OPENS[:-1]))
    first = run(server, tmp_path / "lake", "AAA")
    assert first.figures["prices"] == {"inserted": len(OPENS) - 1, "revised": 0, "unchanged": 0}
    lake = Lake(tmp_path / "lake")
    before, seen = lake.prices(), pd.Timestamp.now("UTC")
    server.chart = replay_bars(split_on_the_last_session())
    second = run(server, tmp_path / "lake", "AAA")
    assert second.figures["prices"] == {"inserted": 1, "revised": len(OPENS) - 1, "unchanged": 0}
    # Hand-checkable: the closes rose by one a day from 100, and a 2-for-1 split is no loss.
    rising = 100.0 + np.arange(len(OPENS))
    np.testing.assert_allclose(returns(lake), rising[1:] / rising[:-1] - 1, rtol=1e-6)
    changed = upkeep.changes(lake)
    assert len(changed) == len(OPENS) - 1
    np.testing.assert_allclose(changed["close_after"] / changed["close"], 0.5)
    # What is new by now is a bar of 2013, known long ago; what was revised counts from when we saw it.
    pd.testing.assert_frame_equal(lake.prices(as_of=seen).iloc[:-1], before)
    assert any("history rebased (close x 0.5" in line for line in second.lines)


def test_a_history_rebased_before_a_later_start_is_renewed_as_well(server: Replay, tmp_path: Path) -> None:
    """Else the lake would hold two bases, and the first session asked for would look like a fall by half."""
    server.chart = replay_bars(bars(OPENS[:-1]))
    run(server, tmp_path / "lake", "AAA")
    server.chart = replay_bars(split_on_the_last_session())
    run(server, tmp_path / "lake", "AAA", since=OPENS[5].date())
    rising = 100.0 + np.arange(len(OPENS))
    np.testing.assert_allclose(Lake(tmp_path / "lake").prices()["close"], rising / 2)


def test_again_and_the_next_day(server: Replay, tmp_path: Path) -> None:
    server.chart = replay_bars(bars(OPENS[:-1]))
    run(server, tmp_path / "lake", "AAA", "BBB")
    lake = Lake(tmp_path / "lake")
    before = lake.versions(TABLES)
    server.requests.clear()
    again = run(server, tmp_path / "lake", "AAA", "BBB")
    assert again.figures["prices"] == {"inserted": 0, "revised": 0, "unchanged": 20}
    assert lake.versions(TABLES) == before
    assert {request.first for request in server.charts()} == {f"{OPENS[-11]:%Y-%m-%d}"}
    server.chart = replay_bars(bars(OPENS))
    assert run(server, tmp_path / "lake", "AAA", "BBB").figures["prices"] == {
        "inserted": 2,
        "revised": 0,
        "unchanged": 20,
    }


def test_one_bad_ticker_among_ten_is_named_and_the_exit_code_says_partial(server: Replay, tmp_path: Path) -> None:
    tickers = [f"T{n}" for n in range(10)]
    server.chart = lambda ticker, query: (404, UNKNOWN) if ticker == "T4" else (200, chart(ticker))
    summary = run(server, tmp_path / "lake", *tickers)
    assert set(Lake(tmp_path / "lake").prices()["ticker"]) == set(tickers) - {"T4"}
    (left,) = summary.left_out
    assert left.startswith("T4 (Yahoo does not know it")
    with pytest.raises(PartialError, match=r"ingest left out 1: T4 \(Yahoo does not know it") as partial:
        print_summary(summary, as_json=False)
    assert partial.value.exit_code == 3


def test_a_ticker_that_comes_back_catches_up(server: Replay, tmp_path: Path) -> None:
    down = replay_bars(bars(OPENS))
    server.chart = lambda ticker, query: (500, BUSY) if ticker == "BBB" else down(ticker, query)
    first = run(server, tmp_path / "lake", "AAA", "BBB")
    assert [left.split()[0] for left in first.left_out] == ["BBB"]
    server.chart = down
    second = run(server, tmp_path / "lake", "AAA", "BBB")
    assert second.left_out == ()
    assert second.figures["prices"]["inserted"] == len(OPENS)
    assert Lake(tmp_path / "lake").prices().groupby("ticker").size().to_dict() == {"AAA": 19, "BBB": 19}
