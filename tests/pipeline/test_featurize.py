"""What enters the features and targets: members only, each group on its own calendar, actions checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features import table
from features.bars import Bars
from features.prices import FAMILIES
from pipeline import featurize
from pipeline.config import Config
from pipeline.errors import ConfigError, DataError
from pipeline.store import Lake
from tests.pipeline.universe_fixture import days_of, lake_of, prices_on, under

of_market = FAMILIES["market"]
MARKET = [name for family in ("market", "beta", "rank") for name in table.FEATURES[family]]


def dated(config: Config, root: Path, text: str) -> Config:
    root.mkdir(exist_ok=True)
    path = root / "members.csv"
    path.write_text(text, encoding="utf-8")
    return under(config, root, members=path)


def features_of(config: Config, prices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    Lake(config.data.lake).upsert_prices(prices)
    featurize.run(config)
    lake = Lake(config.data.lake)
    return lake.read("features", order_by="ticker, session"), lake.read("targets", order_by="ticker, session, horizon")


SPELLS = """ticker,from,to
T00,2000-01-03,
T01,2006-06-01,2007-03-01

T01,2007-06-01,
T02,2005-01-03,2006-12-29
ENE,1999-01-04,2001-11-30
"""


def test_rows_exist_while_a_ticker_belongs_and_look_back_over_its_whole_history(
    small_config: Config, tmp_path: Path, prices: pd.DataFrame
) -> None:
    everyone, every_target = features_of(under(small_config, tmp_path / "all"), prices)
    some, target = features_of(dated(small_config, tmp_path / "some", SPELLS), prices)
    session = everyone["session"]
    belongs = (
        (everyone["ticker"] == "T00")
        | (everyone["ticker"] == "T01") & (session.between("2006-06-01", "2007-03-01") | (session >= "2007-06-01"))
        | (everyone["ticker"] == "T02") & (session <= "2006-12-29")
    )
    expected = everyone[belongs].reset_index(drop=True)
    pd.testing.assert_frame_equal(some.drop(columns=MARKET), expected.drop(columns=MARKET), check_exact=True)
    keys = expected[["ticker", "session"]]
    pd.testing.assert_frame_equal(target, every_target.merge(keys, on=["ticker", "session"]), check_exact=True)


def test_the_market_is_its_members(small_config: Config, tmp_path: Path, prices: pd.DataFrame) -> None:
    some, _ = features_of(dated(small_config, tmp_path, SPELLS), prices)
    # After 2007-06-01 the universe is T00 and T01; before 2006-06-01 T00 and T02.
    members = prices[prices["ticker"] != "T02"]
    days = pd.DatetimeIndex(np.unique(prices["session"]))
    pair, whole = (pd.Series(of_market(Bars.from_rows(rows, days))["mkt_ret_1"][0], days) for rows in (members, prices))
    own = some[some["ticker"] == "T00"].set_index("session")["mkt_ret_1"]
    late = slice("2008-04-01", None)  # the volatility of the market has forgotten who belonged before
    np.testing.assert_allclose(own[late], pair[late], rtol=1e-4)
    assert np.abs(own[late] - whole[late]).max() > 0.1


def test_who_left_does_not_move_the_market_afterwards(
    small_config: Config, tmp_path: Path, prices: pd.DataFrame
) -> None:
    gone = (prices["ticker"] == "T02") & (prices["session"] > "2006-12-29")
    moved = prices.copy()
    for name in ("open", "high", "low", "close", "adj_close"):
        moved.loc[gone, name] *= 3
    config = dated(small_config, tmp_path / "a", SPELLS)
    one, _ = features_of(config, prices)
    other, _ = features_of(dated(small_config, tmp_path / "b", SPELLS), moved)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_the_summary_names_who_is_missing(small_config: Config, tmp_path: Path, prices: pd.DataFrame) -> None:
    config = dated(small_config, tmp_path, SPELLS.replace("T00,2000-01-03,\n", ""))
    Lake(config.data.lake).upsert_prices(prices)
    summary = featurize.run(config)
    assert summary.figures["universe"] == {
        "members": "members.csv", "hindsight": False, "tickers": 3, "spells": 4, "missing": ["ENE"],
    }  # fmt: skip
    assert summary.figures["not_members"] == ["T00"]
    text = "\n".join(summary.lines)
    assert "1 have no prices in the lake (ENE), and where those are delisted losers the survivors flatter" in text
    assert "left out, never a member: T00" in text
    assert featurize.run(under(config, tmp_path, members=None)).figures["universe"]["hindsight"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "ticker,from,to\nT00,2000-01-03,\n\nT01,soon,\n",
            r"members.csv, line 4: from 'soon' is no date like 2013-03-01",
        ),
        (
            "ticker,from,to\nT00,2005-01-03,\nT00,2006-01-03,\n",
            r"members.csv, line 3: T00 joins on 2006-01-03.*still open",
        ),
        ("ticker,from\nT00,2005-01-03\n", r"members.csv: no column to; the columns are ticker, from, to"),
        ("", r"members.csv: no column ticker, from, to"),
        ("ticker,from,to\n", r"members.csv: no ticker in it"),
        ("ticker,from,to\nZZZ,2005-01-03,\n", r"none of its 1 tickers is in the lake, like ZZZ"),
        ("ticker,from,to\nT00,1990-01-03,1991-01-01\n", r"no ticker of it has a price while it is a member"),
        ('ticker,from,to\n"T00,2005-01-03,\n', r"members.csv of \[universe\] members is no CSV"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_error(
    small_config: Config, tmp_path: Path, small_lake: Lake, text: str, reason: str
) -> None:
    path = tmp_path / "members.csv"
    path.write_text(text)
    universe = small_config.universe.model_copy(update={"members": path})
    with pytest.raises(DataError, match=reason):
        featurize.run(small_config.model_copy(update={"universe": universe}))


def test_a_file_that_is_not_there_is_named(small_config: Config, tmp_path: Path, small_lake: Lake) -> None:
    for content in (None, b"\xff\xfe\x00ticker"):
        path = tmp_path / "nosuch.csv"
        if content is not None:
            path.write_bytes(content)
        universe = small_config.universe.model_copy(update={"members": path})
        with pytest.raises(DataError, match=r"nosuch.csv of \[universe\] members (cannot be read: No such|is no CSV)"):
            featurize.run(small_config.model_copy(update={"universe": universe}))


def test_a_spreadsheets_file_is_read(small_config: Config, tmp_path: Path, prices: pd.DataFrame) -> None:
    text = "\ufeffTicker, From ,TO,Name\r\nT00,2005-01-03\r\nT01,2005-01-03,,One\r\n"
    some, _ = features_of(dated(small_config, tmp_path, text), prices)
    assert some["ticker"].unique().tolist() == ["T00", "T01"]


def test_actions_that_adj_close_contradicts_are_reported(
    small_config: Config, tmp_path: Path, prices: pd.DataFrame
) -> None:
    days = np.unique(prices["session"])
    rows = prices.copy()
    for ticker, day, dividend, split in (("T00", 700, 0.0, 2.0), ("T01", 800, 1.0, 1.0), ("T02", 850, 0.01, 1.0)):
        rows.loc[(rows["ticker"] == ticker) & (rows["session"] == days[day]), ["dividend", "split"]] = dividend, split
    Lake(small_config.data.lake).upsert_prices(rows)
    summary = featurize.run(small_config)
    assert summary.figures["action_mismatches"] == 2  # the split is one of a split-adjusted close: nothing to see
    line = next(line for line in summary.lines if "contradicts" in line)
    assert "that adj_close contradicts: 2, the listed action is used; the largest: T01 2008-03-10 (" in line
    assert "by dividend 1 and split 1" in line


def test_a_ticker_that_ended_keeps_its_history(small_config: Config, prices: pd.DataFrame) -> None:
    ended = prices[~((prices["ticker"] == "T01") & (prices["session"] > "2006-12-29"))].reset_index(drop=True)
    rows, target = features_of(small_config, ended)
    own = rows[rows["ticker"] == "T01"]
    assert len(own) == (ended["ticker"] == "T01").sum()
    assert target.loc[target["ticker"] == "T01", "session"].max() == pd.Timestamp("2006-12-27")


def test_every_group_is_computed_as_if_it_were_alone(small_config: Config, tmp_path: Path) -> None:
    parts = {
        "XNYS": prices_on(days_of("XNYS", "2005-01-03", "2007-06-29"), ["AAA", "BBB"]),
        "24/7": prices_on(days_of("24/7", "2005-02-01", "2007-07-01"), ["BTC", "ADA"], seed=1),
        "none": prices_on(days_of("none", "1999-01-01", "2007-07-01"), ["FUND"], seed=2),
    }
    calendars = {"24/7": ("BTC", "ADA"), "none": ("FUND",)}
    together = under(small_config, tmp_path / "all", calendars=calendars)
    mixed = lake_of(together, pd.concat(parts.values(), ignore_index=True))
    summary = featurize.run(together)
    assert "calendars, each with its own sessions and market: XNYS (2), 24/7 (2), none (1)" in summary.lines
    for calendar, rows in parts.items():
        config = under(small_config, tmp_path / calendar.replace("/", ""), calendar=calendar)
        alone = lake_of(config, rows)
        featurize.run(config)
        tickers = ", ".join(f"'{ticker}'" for ticker in rows["ticker"].unique())
        for name, keys in (("features", "ticker, session"), ("targets", "ticker, session, horizon")):
            both = [lake.read(name, f"ticker IN ({tickers})", keys) for lake in (mixed, alone)]
            pd.testing.assert_frame_equal(*both, check_exact=True)
            assert len(both[0]) > 300


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("chosen", r"^\[features\]: unknown feature 'my_cros'; did you mean my_cross\?"),
        ("own", r"^\[features\]: own features mine.py:clash: 'ret_5' is the name of a shipped feature"),
    ],
)
def test_features_that_cannot_be_made_are_errors_of_the_configuration(
    small_config: Config, small_lake: Lake, tmp_path: Path, key: str, reason: str
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def fine(prices):\n    return {'my_cross': prices.returns}\n\n\n"
        "def clash(prices):\n    return {'ret_5': prices.returns}\n"
    )
    asked = {
        "own": (f"{mine}:{'clash' if key == 'own' else 'fine'}",),
        "chosen": ("my_cros",) if key == "chosen" else (),
    }
    features = small_config.features.model_copy(update=asked)
    with pytest.raises(ConfigError, match=reason):
        featurize.run(small_config.model_copy(update={"features": features}))


def test_chosen_and_own_features_are_the_columns_in_order(
    small_config: Config, small_lake: Lake, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def family(prices):\n    return {'my_move': prices.returns * 2}\n")
    asked = {"own": (f"{mine}:family",), "chosen": ("log_vol", "my_move", "ret_1")}
    featurize.run(small_config.model_copy(update={"features": small_config.features.model_copy(update=asked)}))
    rows = small_lake.read("features", order_by="ticker, session")
    assert list(rows.columns) == ["ticker", "session", "vol", "r", "observed", "log_vol", "my_move", "ret_1"]
    known = rows["vol"].notna()  # `ret_1` needs it, a move does not
    np.testing.assert_allclose(rows["my_move"][known], (2 * rows["ret_1"] * rows["vol"])[known], rtol=1e-5)
