"""Blocks and training slices of a task made by hand: two calendars, gaps, tickers that come late."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from models.trading.env import Rules
from models.trading.market import Costs, Limits
from pipeline.agent_data import LIVE, Block, Task, blocks, fingerprint
from pipeline.config import Config
from pipeline.config_agent import Agent
from pipeline.errors import TooLittleHistoryError
from pipeline.traded import Setting

COLUMNS = ("log_vol_h1", "q10", "q90", "p_up_h1", "rule_weight", "ret_20")
T, N = 60, 3
DAYS = pd.date_range("2010-01-01", periods=T)


def task(train_end: int = 40, length: int = 5) -> Task:
    """Ticker 0 trades every day, 1 not on weekends, 2 from day 20 on."""
    rng = np.random.default_rng(0)
    opens = np.exp(rng.standard_normal((T, N)))
    own = np.ones((T, N), bool)
    own[:, 1] = DAYS.day_of_week < 5
    listed = np.ones((T, N), bool)
    listed[:20, 2] = False
    opens[~own] = np.nan
    observed = rng.standard_normal((T, N, len(COLUMNS))).astype(np.float32)
    observed[~own] = np.nan
    setting = Setting(
        "int8", ("A", "B", "C"), DAYS, opens, own, listed, np.full((2, T, N), 0.5), 365.0, np.full(N, 365.0), 1, {}
    )
    rules = Rules(Costs(5.0, 0.0), Limits(0.0, 1.0), length=length)
    return Task("r1", setting, COLUMNS, observed, np.ones((T, N)), (Block("a", train_end, 45, T),), rules)


def test_each_market_lies_on_the_sessions_of_its_ticker():
    held = task()
    markets = held.markets(held.blocks[0])
    for n in range(N):
        at = np.flatnonzero(held.setting.own[:40, n])
        packed = markets.opens[n, : len(at), 0]
        np.testing.assert_array_equal(packed, held.setting.opens[at, n])
        assert np.isnan(markets.opens[n, len(at) :]).all()
        seen = held.scaling(held.blocks[0]).transform(held.observed)
        np.testing.assert_array_equal(markets.observed[n, : len(at), 0], seen[at, n])
        expected = held.setting.listed[at, n].copy()
        expected[-2:] = False
        np.testing.assert_array_equal(markets.playable[n, : len(at)], expected)
        assert not markets.playable[n, len(at) :].any()


def test_no_decision_is_taken_before_an_open_that_is_missing():
    held = task()
    held.setting.opens[10, 0] = np.nan
    playable = held.markets(held.blocks[0]).playable[0]
    assert playable[:12].tolist() == [True] * 8 + [False] * 2 + [True] * 2
    held.observed[15, 0, 0] = np.nan  # no forecast
    held.observed[16, 0, 5] = np.nan  # a feature alone may be missing
    markets = held.markets(held.blocks[0])
    assert markets.playable[0, 14:18].tolist() == [True, False, True, True]
    assert markets.observed[0, 16, 0, 5] == 0


def test_a_ticker_that_comes_after_training_is_no_market():
    held = task(train_end=18)
    assert held.markets(held.blocks[0]).opens.shape[0] == 2


@pytest.mark.parametrize("end", [12, 25, 40])
def test_what_lies_after_training_changes_no_byte_of_it(end: int):
    held, other = task(end), task(end)
    other.setting.opens[end:] *= 3
    other.observed[end:] += 1
    other.setting.listed[end:] = False
    one, two = (each.markets(each.blocks[0]) for each in (held, other))
    assert fingerprint(one) == fingerprint(two)
    assert held.scaling(held.blocks[0]).to_json() == other.scaling(other.blocks[0]).to_json()
    other.setting.opens[end - 1, 0] *= 3
    assert fingerprint(one) != fingerprint(other.markets(other.blocks[0]))


def test_a_fingerprint_tells_shapes_apart():
    wide, narrow = task(length=5), task(train_end=39)
    assert fingerprint(wide.markets(wide.blocks[0])) != fingerprint(narrow.markets(narrow.blocks[0]))


def test_an_episode_that_fits_nowhere_is_an_error():
    held = task(length=39)
    with pytest.raises(TooLittleHistoryError, match=r"block a learn from 40 sessions.*39 sessions in a row"):
        held.markets(held.blocks[0])


def cut(**settings: object) -> list[tuple[str, str, str]]:
    sessions = pd.bdate_range("2004-01-01", "2013-03-28")
    config = Config(agent=Agent.model_validate(settings))
    found = blocks(config, sessions)
    assert found[-1] == Block(LIVE, len(sessions), len(sessions), len(sessions))
    gap = config.purge + config.splits.embargo
    assert all(block.train_end == block.test_start - gap for block in found[:-1])
    assert all(one.test_end == other.test_start for one, other in pairwise(found[:-1]))
    assert found[-2].test_end == len(sessions)
    days = sessions.strftime("%Y-%m-%d")
    return [(block.name, days[block.test_start], days[block.test_end - 1]) for block in found[:-1]]


def test_blocks_begin_after_two_test_years_and_hold_two_years_each():
    found = cut()
    assert [name for name, *_ in found] == ["2006-2007", "2008-2009", "2010-2011", "2012-2013"]
    assert found[0][1:] == ("2006-01-02", "2007-12-31")
    assert found[-1][1:] == ("2012-01-02", "2013-03-28")


def test_blocks_from_a_date_on():
    found = cut(first_test="2011-07-01", refit_years=1)
    assert [name for name, *_ in found] == ["2011", "2012", "2013"]
    assert found[0][1:] == ("2011-07-01", "2011-12-30")
    assert [name for name, *_ in cut(refit_years=20)] == ["2006-2013"]
    assert [name for name, *_ in cut(first_test="2013-01-01")] == ["2013"]
