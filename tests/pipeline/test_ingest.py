from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import ingest
from pipeline.config import Config, Data, Universe
from pipeline.errors import DataError, UnknownTickerError
from pipeline.providers import Delivery, Held
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

TABLES = ("prices", "news", "quarantine", "price_revisions")
HEADER = "ticker,date,open,high,low,close,adj_close,volume"


def sample_config(root: Path, **universe: Any) -> Config:
    return Config(data=Data(lake=root / "lake"), universe=Universe(**universe))


def files_config(root: Path, *lines: str, **universe: Any) -> Config:
    file = root / "prices.csv"
    file.write_text("\n".join((HEADER, *lines)) + "\n")
    data = Data(provider="files", prices=(str(file),), lake=root / "lake")
    return Config(data=data, universe=Universe(**universe))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Summary]:
    """The whole sample in a lake."""
    config = sample_config(tmp_path_factory.mktemp("sample"))
    return config, ingest.run(config)


def test_the_sample_in_the_lake(ingested: tuple[Config, Summary]) -> None:
    config, summary = ingested
    lake = Lake(config.data.lake)
    prices = lake.prices()
    assert len(prices) == 12_154 + 2 * 5_031
    assert summary.figures["prices"] == {"inserted": 22_216, "revised": 0, "unchanged": 0}
    assert summary.figures["news"]["inserted"] == len(lake.news()) > 5_000
    assert set(lake.news()["source"]) == {"simulated"}
    assert summary.left_out == ()
    assert any("FB" in line and "196 sessions" in line for line in summary.lines)
    assert summary.figures["too_short"] == {"FB": 196}


def test_a_bar_is_known_at_the_close_of_its_session(ingested: tuple[Config, Summary]) -> None:
    prices = Lake(ingested[0].data.lake).prices().set_index(["ticker", "session"])
    known = prices.loc["SPX", "known_at"]
    assert known[pd.Timestamp("2008-10-13")] == pd.Timestamp("2008-10-13T16:00-04:00")
    assert known[pd.Timestamp("2012-11-23")] == pd.Timestamp("2012-11-23T13:00-05:00"), "an early close"
    as_of = Lake(ingested[0].data.lake).prices(as_of=pd.Timestamp("2008-10-13T15:59-04:00"))
    assert as_of["session"].max() == pd.Timestamp("2008-10-10")


def test_again_changes_nothing(ingested: tuple[Config, Summary]) -> None:
    config, first = ingested
    before = Lake(config.data.lake).versions(TABLES)
    again = ingest.run(config)
    assert Lake(config.data.lake).versions(TABLES) == before
    assert again.figures["prices"] == {"inserted": 0, "revised": 0, "unchanged": 22_216}
    assert again.figures["news"]["inserted"] == 0
    assert again.figures["news"]["unchanged"] == first.figures["news"]["inserted"]


def test_only_the_tickers_and_the_range_asked_for(tmp_path: Path) -> None:
    since, until = dt.date(2008, 9, 2), dt.date(2008, 10, 31)
    ingest.run(sample_config(tmp_path, tickers=("IBM", "SPX"), since=since, until=until))
    lake = Lake(tmp_path / "lake")
    prices, news = lake.prices(), lake.news()
    assert set(prices["ticker"]) == {"IBM", "SPX"}
    assert (prices["session"].min(), prices["session"].max()) == (pd.Timestamp(since), pd.Timestamp(until))
    assert set(news["ticker"]) <= {"IBM", "SPX", ""}
    assert news["published_at"].min() >= pd.Timestamp("2008-09-02", tz="UTC")
    assert news["published_at"].max() < pd.Timestamp("2008-11-01", tz="UTC")


def test_a_wanted_ticker_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    summary = ingest.run(sample_config(tmp_path, tickers=("IBM", "TSLA")))
    (left,) = summary.left_out
    assert left.startswith("TSLA")
    assert "it has AAPL, FB, GOOG" in left


def test_what_the_lake_holds_beside_it_is_said(tmp_path: Path) -> None:
    since, until = dt.date(2008, 9, 2), dt.date(2008, 9, 5)
    first = ingest.run(sample_config(tmp_path, tickers=("IBM", "SPX"), since=since, until=until))
    assert not any("also holds" in line for line in first.lines)
    second = ingest.run(sample_config(tmp_path, tickers=("AAPL",), since=since, until=until))
    assert second.figures["also_held"] == ["IBM", "SPX"]
    assert any("the lake also holds IBM, SPX;" in line for line in second.lines)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownTickerError, match=r"TSLA.*sample has no such ticker; it has AAPL"):
        ingest.run(sample_config(tmp_path, tickers=("TSLA",)))
    with pytest.raises(DataError, match=r"empty range: no session from 2030-01-01 .* 1999-01-04 to 2018-12-31"):
        ingest.run(sample_config(tmp_path, since=dt.date(2030, 1, 1)))
    with pytest.raises(DataError, match=r"empty range: universe\.since 2013-01-02 is after universe\.until 2013-01-01"):
        ingest.run(sample_config(tmp_path, since=dt.date(2013, 1, 2), until=dt.date(2013, 1, 1)))
    with pytest.raises(DataError, match="unknown exchange calendar 'XNSY'; did you mean XNYS"):
        ingest.run(sample_config(tmp_path, calendar="XNSY"))
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        ingest.run(Config(data=Data(provider="files", prices=("gone.csv",), lake=tmp_path / "lake")))
    assert not (tmp_path / "lake").exists(), "nothing is written when nothing came"


def test_rejected_rows_are_quarantined_once_and_counted(tmp_path: Path) -> None:
    good = "A,2013-03-01,1,1,1,1,1,1"
    bad = ("A,2013-02-28,1,1,2,1,1,1", "A,2013-02-27,x,1,1,1,1,1", "A,2013-03-02,1,1,1,1,1,1")
    config = files_config(tmp_path, good, *bad)
    summary = ingest.run(config)
    rows = Lake(config.data.lake).read("quarantine")
    assert dict(zip(rows["row"], rows["reason"], strict=True)) == {
        bad[0]: "high is below low",
        bad[1]: "open is not a number",
        bad[2]: "session is none of calendar XNYS",
    }
    assert summary.figures["quarantined"] == 3
    assert any("quarantined: 3 rows" in line and "high is below low" in line for line in summary.lines)
    before = Lake(config.data.lake).versions(TABLES)
    ingest.run(config)
    assert Lake(config.data.lake).versions(TABLES) == before


def test_a_revised_price_keeps_the_old_one(tmp_path: Path) -> None:
    ingest.run(files_config(tmp_path, "A,2013-02-28,1,1,1,1,1,1", "A,2013-03-01,2,2,2,2,2,1"))
    config = files_config(tmp_path, "A,2013-02-28,1,1,1,1,1,1", "A,2013-03-01,3,3,3,3,3,1", "A,2013-03-04,4,4,4,4,4,1")
    assert ingest.run(config).figures["prices"] == {"inserted": 1, "revised": 1, "unchanged": 1}
    lake = Lake(config.data.lake)
    assert lake.prices()["close"].tolist() == [1, 3, 4]
    assert lake.read("price_revisions")["close"].tolist() == [2]


def test_the_same_headline_twice_is_one(tmp_path: Path) -> None:
    news = tmp_path / "wire.csv"
    news.write_text("published_at,ticker,title\n" + "2013-03-01T10:00Z,A,a good day\n" * 2)
    config = files_config(tmp_path, "A,2013-03-01,1,1,1,1,1,1")
    config = config.model_copy(update={"data": config.data.model_copy(update={"news": (str(news),)})})
    summary = ingest.run(config)
    assert "news: 1 new, 0 known, 1 delivered twice" in summary.lines
    held = Lake(config.data.lake).news()
    assert held["title"].tolist() == ["a good day"]
    assert (held["ingested_at"] > held["known_at"]).all()


def test_tickers_that_failed_are_left_out_with_their_reason(tmp_path: Path) -> None:
    config = files_config(tmp_path, "A,2013-03-01,1,1,1,1,1,1")

    def half(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
        yield from ingest.configured(config)(config, silent, held)
        yield Delivery(failed={"B": "too many requests"})

    summary = ingest.run(config, provider=half)
    assert summary.left_out == ("B (too many requests)",)
    assert any("B: too many requests" in line for line in summary.lines)
