"""Other futures: what was known stays as it was, what comes later differs, and every table keeps its contract."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import actions, frames
from features.alterations import ALTERATIONS, EVERYTHING, HOLE_SESSIONS, Alteration, World, with_holes
from tests.pipeline.audit_fixture import sessions_and_closes, world_of

SESSIONS = 120
_, CLOSES = sessions_and_closes(SESSIONS)
WORLD = world_of(sessions=SESSIONS, news=150)
EVERY = (*ALTERATIONS, EVERYTHING)


def altered(alteration: Alteration, t: int, seed: int = 0) -> World:
    return alteration.alter(WORLD, CLOSES[t], np.random.default_rng(seed))


def known(rows: pd.DataFrame, t: int) -> pd.DataFrame:
    return rows[rows["known_at"] <= CLOSES[t]].reset_index(drop=True)


@pytest.mark.parametrize("alteration", EVERY, ids=lambda each: f"{each.of} {each.name}")
@given(t=st.integers(0, SESSIONS - 4), seed=st.integers(0, 1000))
@settings(max_examples=12, deadline=None)
def test_what_was_known_stays_and_tables_keep_their_contract(alteration: Alteration, t: int, seed: int) -> None:
    found = altered(alteration, t, seed)
    for name, rows, before in (("prices", found.prices, WORLD.prices), ("news", found.news, WORLD.news)):
        frames.check(name, rows)
        same = [column for column in rows.columns if not (alteration.name == "rebased" and column == "adj_close")]
        pd.testing.assert_frame_equal(known(rows, t)[same], known(before, t)[same])
        if name in alteration.of:
            changed = len(rows) != len(before) or not rows.equals(before)
            few = alteration.name == "thinned" and t > SESSIONS - 60  # one bar in ten: of a few, perhaps none
            assert changed or few or known(before, t).equals(before)
        else:
            pd.testing.assert_frame_equal(rows, before)


def test_the_world_given_is_not_touched() -> None:
    before = World(WORLD.prices.copy(), WORLD.news.copy())
    for alteration in EVERY:
        altered(alteration, 50)
    pd.testing.assert_frame_equal(WORLD.prices, before.prices)
    pd.testing.assert_frame_equal(WORLD.news, before.news)


def test_a_rebase_rewrites_the_past_of_adj_close_and_no_return_but_the_events() -> None:
    rebased = next(each for each in ALTERATIONS if each.name == "rebased")
    found = altered(rebased, 50)
    ratio = (found.prices["adj_close"] / WORLD.prices["adj_close"])[: 3 * 51]
    assert ratio.round(9).isin([0.97, 0.5]).all()
    one, other = (actions.adjust(rows).gross for rows in (WORLD.prices, found.prices))
    moved = (one != other) & one.notna()
    assert moved.sum() == 3
    assert (WORLD.prices["known_at"][moved] > CLOSES[50]).all()


def test_a_hole_is_in_the_last_known_sessions_of_a_third_of_the_tickers() -> None:
    found = with_holes(WORLD, CLOSES[50], np.random.default_rng(0)).prices
    missing = WORLD.prices.merge(found, how="left", indicator=True).query("_merge == 'left_only'")
    assert missing["ticker"].nunique() == 1
    assert sorted(missing["known_at"]) == list(CLOSES[50 - HOLE_SESSIONS + 1 : 51])


def test_news_comes_a_second_after_the_cut_for_every_ticker_and_the_market_some_of_it_backdated() -> None:
    added = next(each for each in ALTERATIONS if (each.of, each.name) == ("news", "added"))
    rows = altered(added, 50).news.iloc[len(WORLD.news) :]
    assert rows.groupby("ticker")["known_at"].min().eq(CLOSES[50] + pd.Timedelta(seconds=1)).all()
    assert set(rows["ticker"]) == {"T00", "T01", "T02", ""}
    assert (rows["published_at"] < CLOSES[50]).any()
    assert rows["news_id"].is_unique


def test_the_same_generator_gives_the_same_future() -> None:
    for alteration in EVERY:
        one, two = altered(alteration, 50, 3), altered(alteration, 50, 3)
        pd.testing.assert_frame_equal(one.prices, two.prices)
        pd.testing.assert_frame_equal(one.news, two.news)
