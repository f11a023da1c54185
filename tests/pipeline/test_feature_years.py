"""Features kept up to date year by year are those of a computation of everything, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features import frames
from pipeline import changes, feature_years, featurize
from pipeline.config import Config
from pipeline.store import Lake
from tests.pipeline.universe_fixture import days_of, prices_on, under

TABLES = {"features": "ticker, session", "targets": "ticker, session, horizon"}


def bars(calendar: str = "XNYS", first: str = "2001-03-05", last: str = "2006-03-31", tickers: int = 5) -> pd.DataFrame:
    """A universe with a late start, a delisting and a hole of more than a year."""
    rows = prices_on(days_of(calendar, first, last), [f"T{n}" for n in range(tickers)])
    session, ticker = rows["session"], rows["ticker"]
    gone = (ticker == "T1") & (session < "2003-05-06") | (ticker == "T2") & (session > "2005-02-03")
    hole = (ticker == "T3") & session.between("2003-02-01", "2004-07-01")
    return rows[~(gone | hole)].reset_index(drop=True)


def headlines(rows: pd.DataFrame, number: int = 400, seed: int = 3) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    picked = rows.iloc[np.sort(generator.integers(0, len(rows), number))].reset_index(drop=True)
    known = (picked["known_at"] - pd.to_timedelta(generator.integers(0, 90_000, number), "s")).astype(frames.INSTANT)
    words = np.array(["wins a good contract", "has an awful quarter", "names a new chair", "beats hopes"])
    found = pd.DataFrame({"news_id": [f"n{seed}-{i}" for i in range(number)]}, dtype="str")
    found["ticker"] = np.where(generator.random(number) < 0.2, "", picked["ticker"])
    found["published_at"] = found["known_at"] = found["ingested_at"] = known
    for name, text in (
        ("source", "test"),
        ("title", words[generator.integers(0, 4, number)]),
        ("summary", ""),
        ("url", ""),
    ):
        found[name] = text
    return found[list(frames.COLUMNS["news"])].astype(frames.COLUMNS["news"])


def tables(config: Config) -> dict[str, pd.DataFrame]:
    lake = Lake(config.data.lake)
    return {table: lake.read(table, order_by=order) for table, order in TABLES.items()}


def of_everything(config: Config, root: Path) -> dict[str, pd.DataFrame]:
    """The tables of another lake with the same content, computed at once."""
    source, copy = Lake(config.data.lake), under(config, root)
    lake = Lake(copy.data.lake)
    lake.upsert_prices(source.prices())
    lake.add_news(source.news())
    featurize.run(copy)
    return tables(copy)


def same(config: Config, root: Path) -> None:
    for (name, kept), whole in zip(tables(config).items(), of_everything(config, root).values(), strict=True):
        pd.testing.assert_frame_equal(kept, whole, check_exact=True, obj=name)


def later(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows, seen a day after."""
    return rows.assign(ingested_at=(rows["ingested_at"] + pd.Timedelta("1D")).astype(frames.INSTANT))


@pytest.fixture
def config(small_config: Config, tmp_path: Path) -> Config:
    return under(small_config, tmp_path / "kept")


def test_a_day_later_is_a_computation_of_everything(config: Config, tmp_path: Path) -> None:
    rows, lake = bars(), Lake(config.data.lake)
    days = np.unique(rows["session"])
    news = headlines(rows)
    lake.upsert_prices(rows[rows["session"] <= days[-80]])
    lake.add_news(news[news["known_at"] <= pd.Timestamp(days[-80], tz="UTC")].reset_index(drop=True))
    assert featurize.run(config).figures["computed"]["first"] == 2001
    for at in (*range(-79, -74), -60, -2, -1):  # over the turn of the year, one by one and in leaps
        lake.upsert_prices(rows[rows["session"] <= days[at]])
        lake.add_news(news[news["known_at"] <= pd.Timestamp(days[at], tz="UTC")].reset_index(drop=True))
        assert featurize.run(config).figures["computed"]["first"] >= 2005
        same(config, tmp_path / f"whole{at}")


def test_nothing_new_computes_and_writes_nothing(config: Config) -> None:
    lake = Lake(config.data.lake)
    lake.upsert_prices(bars())
    featurize.run(config)
    versions = lake.versions(("features", "targets", "state"))
    again = featurize.run(config)
    assert (again.figures["computed"]["first"], lake.versions(("features", "targets", "state"))) == (None, versions)
    assert "(unchanged)" in again.lines[0]
    assert featurize.run(config, everything=True).figures["computed"] == {
        "first": 2001, "changed": False, "mismatches": [],
    }  # fmt: skip


def revise(lake: Lake, rows: pd.DataFrame) -> None:
    some = rows[(rows["session"] == "2004-08-03") & (rows["ticker"] == "T0")]
    lake.upsert_prices(later(some.assign(high=some["high"] * 1.01).reset_index(drop=True)))


def late_news(lake: Lake, rows: pd.DataFrame) -> None:
    news = headlines(rows, 50, seed=9)
    lake.add_news(news[news["known_at"] >= "2004-11-01T00:00Z"].reset_index(drop=True))


def longer_history(lake: Lake, rows: pd.DataFrame) -> None:
    some = prices_on(days_of("XNYS", "2004-03-01", "2004-04-01"), ["T3"], seed=4)
    lake.upsert_prices(later(some))


def compacted(lake: Lake, rows: pd.DataFrame) -> None:
    lake.upsert_prices(later(prices_on(days_of("XNYS", "2006-04-03", "2006-04-05"), ["T0", "T3"], seed=4)))
    for table in ("prices", "features"):
        lake.tables.compact(table)


def new_ticker(lake: Lake, rows: pd.DataFrame) -> None:
    lake.upsert_prices(later(prices_on(days_of("XNYS", "2003-03-03", "2006-03-31"), ["NEW"], seed=4)))


def damaged(lake: Lake, rows: pd.DataFrame) -> None:
    """A run that was killed between one table and the next."""
    held = lake.read("features", "year >= 2005")
    lake.replace("features", held.assign(vol=held["vol"] * 2), "year >= 2005")


@pytest.mark.parametrize(
    ("change", "first"),
    [(revise, 2004), (late_news, 2004), (longer_history, 2004), (compacted, 2006), (new_ticker, 2001), (damaged, 2001)],
)
def test_whatever_changes_the_tables_follow(
    config: Config, tmp_path: Path, change: Callable[[Lake, pd.DataFrame], None], first: int
) -> None:
    rows, lake = bars(), Lake(config.data.lake)
    lake.upsert_prices(rows)
    lake.add_news(headlines(rows))
    featurize.run(config)
    change(lake, rows)
    computed = featurize.run(config).figures["computed"]
    assert computed["first"] == first or (change is compacted and computed["first"] == 2001)
    same(config, tmp_path / "whole")


def test_another_configuration_computes_everything(config: Config, tmp_path: Path) -> None:
    Lake(config.data.lake).upsert_prices(bars())
    featurize.run(config)
    other = config.model_copy(update={"target": config.target.model_copy(update={"horizons": (1, 7)})})
    assert featurize.run(other).figures["computed"]["first"] == 2001
    same(other, tmp_path / "whole")


def test_groups_of_tickers_follow_their_own_calendars(config: Config, tmp_path: Path) -> None:
    mixed = config.model_copy(
        update={"universe": config.universe.model_copy(update={"calendars": {"24/7": ("COIN",)}})}
    )
    rows = pd.concat(
        [bars(), prices_on(days_of("24/7", "2001-03-05", "2006-03-31"), ["COIN"], seed=8)], ignore_index=True
    )
    lake = Lake(mixed.data.lake)
    lake.upsert_prices(rows[rows["session"] <= "2006-02-24"])
    featurize.run(mixed)
    lake.upsert_prices(rows)
    assert featurize.run(mixed).figures["computed"]["first"] == 2006
    same(mixed, tmp_path / "whole")


def test_counts_of_contradicted_actions_are_those_of_the_whole(config: Config, tmp_path: Path) -> None:
    rows = bars()
    at = rows.index[(rows["ticker"] == "T0") & rows["session"].isin(pd.to_datetime(["2002-05-06", "2006-03-08"]))]
    rows.loc[at, "dividend"] = rows.loc[at, "close"] * 0.1
    lake = Lake(config.data.lake)
    lake.upsert_prices(rows[rows["session"] <= "2006-03-01"])
    assert featurize.run(config).figures["action_mismatches"] == 1
    lake.upsert_prices(rows)
    found = featurize.run(config)
    assert found.figures["action_mismatches"] == 2
    assert "contradicts: 2, the listed action is used; the largest: T0 2006-03-08" in "\n".join(found.lines)


def test_a_year_is_read_with_the_three_before_it() -> None:
    assert feature_years.YEARS_BEHIND == 3
    made = changes.Made("r", ("A",), {"2004": "1", "2005": "1"}, {"2005": "7"})
    assert changes.first_changed_year(None, made) is None
    assert changes.first_changed_year(made, made) == 2006
    for part, changed, first in (
        ("prices", {"2004": "1", "2005": "2"}, 2005),
        ("news", {"2004": "1", "2005": "7"}, 2004),
    ):
        assert changes.first_changed_year(made, changes.Made(**{**made.__dict__, part: changed})) == first
    assert changes.first_changed_year(made, changes.Made("s", ("A",), made.prices, made.news)) is None
    assert changes.first_changed_year(made, changes.Made("r", ("A", "B"), made.prices, made.news)) is None
