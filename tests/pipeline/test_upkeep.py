"""What `tradewind lake` says: status, revisions, quarantine, compact."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from pipeline import upkeep
from pipeline.cli import build
from pipeline.config import Config, Data, Universe
from pipeline.errors import UsageError
from pipeline.store import Lake
from tests.conftest import MakePrices


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=Data(lake=tmp_path / "lake"))


def revised(rows: pd.DataFrame, factor: float, seen: str) -> pd.DataFrame:
    return rows.assign(adj_close=rows["adj_close"] * factor, ingested_at=pd.Timestamp(seen)).astype(rows.dtypes)


def test_an_empty_lake_says_what_to_do(config: Config) -> None:
    assert "is empty; run: tradewind ingest" in upkeep.status(config).lines[0]
    assert "is empty; run: tradewind ingest" in upkeep.compact(config).lines[0]
    assert upkeep.revisions(config).lines == ("no price was revised",)
    assert upkeep.quarantine(config).lines == ("no row is in quarantine",)


def test_status_counts_rows_and_missing_sessions(config: Config, make_prices: MakePrices) -> None:
    rows = make_prices(tickers=2, sessions=30)
    gap = (rows["ticker"] == "T01") & rows["session"].isin(sorted(rows["session"].unique())[5:8])
    Lake.of(config.data).upsert_prices(rows[~gap].reset_index(drop=True))
    summary = upkeep.status(config)
    assert summary.figures["tables"]["prices"]["rows"] == 57
    held = {each["ticker"]: each for each in summary.figures["tickers"]}
    assert (held["T00"]["missing"], held["T01"]["missing"]) == (0, 3)
    assert held["T01"]["first"] == "2005-01-03"
    assert any(line.startswith("T01") and line.split()[4] == "3" for line in summary.lines)
    json.loads(summary.to_json())


def test_missing_sessions_are_counted_on_the_tickers_own_calendar(tmp_path: Path, make_prices: MakePrices) -> None:
    universe = Universe(calendars={"24/7": ("T00",), "none": ("T01",)})
    config = Config(data=Data(lake=tmp_path / "lake"), universe=universe)
    rows = make_prices(tickers=3, sessions=10)  # Monday 3 to Friday 14 January 2005: one weekend inside
    Lake.of(config.data).upsert_prices(rows)
    held = {each["ticker"]: each["missing"] for each in upkeep.status(config).figures["tickers"]}
    assert held == {"T00": 2, "T01": 0, "T02": 0}


def test_bars_seen_long_after_their_close_are_called_back_filled(config: Config, make_prices: MakePrices) -> None:
    rows = make_prices(tickers=1, sessions=4)
    late = rows["known_at"] + pd.to_timedelta([0, 1, 8, 9000], unit="D")
    Lake.of(config.data).upsert_prices(rows.assign(ingested_at=late).astype(rows.dtypes))
    summary = upkeep.status(config)
    assert summary.figures["tickers"][0]["assumed"] == 2
    assert "back-filled: 50.0% of the bars" in summary.lines[-1]


def test_revisions_show_before_and_after_newest_first(config: Config, make_prices: MakePrices, tmp_path: Path) -> None:
    lake, rows = Lake.of(config.data), make_prices(tickers=2, sessions=2)
    lake.upsert_prices(rows)
    one = rows[(rows["ticker"] == "T00")].iloc[:1]
    lake.upsert_prices(revised(one, 2.0, "2020-01-01T00:00Z"))
    lake.upsert_prices(revised(one, 4.0, "2020-01-02T00:00Z"))
    found = upkeep.changes(lake)
    before = float(one["adj_close"].iloc[0])
    assert (found["adj_close_after"] / before).tolist() == pytest.approx([4, 2])
    assert (found["adj_close"] / before).tolist() == pytest.approx([2, 1])
    assert (found["close"] == found["close_after"]).all()
    summary = upkeep.revisions(config, limit=1, out=tmp_path / "all.csv")
    assert summary.figures == {"revised_bars": 2, "tickers": {"T00": 2}}
    assert "2020-01-02 00:00Z  T00  2005-01-03  adj_close " in summary.lines[2]
    assert len(summary.lines) == 5
    assert len(pd.read_csv(tmp_path / "all.csv")) == 2
    assert upkeep.revisions(config, ticker="T01").figures["revised_bars"] == 0
    assert upkeep.revisions(config, ticker="it's").figures["revised_bars"] == 0


def test_quarantine_counts_reasons_and_shows_text(config: Config, tmp_path: Path) -> None:
    lake = Lake.of(config.data)
    lake.quarantine("prices", ["bad open", "bad open", "bad low"], ["a", "b\nc", "d" * 500], ["x.csv"] * 3)
    lake.quarantine("news", ["no title"], ["e"], ["wire"])
    summary = upkeep.quarantine(config, out=tmp_path / "q.csv")
    assert summary.figures["rows"] == 4
    assert summary.figures["reasons"][0] == {"table": "prices", "source": "x.csv", "reason": "bad open", "rows": 2}
    assert r"x.csv: bad open: b\nc" in summary.lines
    assert all(len(line) < 200 for line in summary.lines)
    assert set(pd.read_csv(tmp_path / "q.csv")["row"]) == {"a", "b\nc", "d" * 500, "e"}
    assert upkeep.quarantine(config, table="news").figures["rows"] == 1
    with pytest.raises(UsageError, match="--table 'x': use prices or news"):
        upkeep.quarantine(config, table="x")


def test_compacting_changes_no_row_and_keeps_old_versions(config: Config, make_prices: MakePrices) -> None:
    lake, rows = Lake.of(config.data), make_prices(tickers=2, sessions=40)
    for _, day in rows.groupby("session"):
        lake.upsert_prices(day.reset_index(drop=True))
    before, version = lake.prices(), lake.version("prices")
    summary = upkeep.compact(config)
    assert summary.figures["files"]["prices"] == {"before": 40, "after": 1, "deleted": 0}
    pd.testing.assert_frame_equal(lake.prices(), before)
    assert len(lake.read("prices", version=5)) == 12
    pd.testing.assert_frame_equal(lake.read("prices", order_by="ticker, session", version=version), before)
    assert upkeep.compact(config, vacuum_days=0).figures["files"]["prices"] == {"before": 1, "after": 1, "deleted": 40}
    pd.testing.assert_frame_equal(lake.prices(), before)


def test_many_daily_runs_do_not_leave_many_files(config: Config, make_prices: MakePrices) -> None:
    lake, rows = Lake.of(config.data), make_prices(tickers=1, sessions=60)
    files = []
    for _, day in rows.groupby("session"):
        lake.upsert_prices(day.reset_index(drop=True))
        lake.tidy()
        files.append(lake.tables.size("prices").files)
    assert max(files) <= 50
    assert files[-1] < 20
    assert len(lake.prices()) == 60


def test_the_commands(config: Config, make_prices: MakePrices) -> None:
    lake, rows = Lake.of(config.data), make_prices(tickers=1, sessions=5)
    lake.upsert_prices(rows)
    lake.upsert_prices(revised(rows, 2.0, "2020-01-01T00:00Z"))
    chosen = ["--set", f"data.lake={config.data.lake}"]
    said = {
        name: CliRunner().invoke(build(), ["lake", name, *chosen], catch_exceptions=False).output
        for name in ("status", "revisions", "quarantine", "compact")
    }
    assert "price_revisions" in said["status"]
    assert "5 bars revised: T00 x 5" in said["revisions"]
    assert "no row is in quarantine" in said["quarantine"]
    assert "prices" in said["compact"]
