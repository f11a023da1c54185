"""Several calendars on one axis: nothing that is not yet known by the clock may be used; any one calendar works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.calendars import calendar_sessions
from pipeline import universe, walkforward
from pipeline.config import Config, Target
from pipeline.config import Universe as Section
from pipeline.config_models import BASELINES, NAIVE_DIRECTIONS
from pipeline.errors import DataError
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.pipeline.universe_fixture import all_stages, altered, days_of, prices_on, trained, under

HORIZONS = (1, 5, 20)


def config_of(interval: str = "open_to_open", lead: int = 0, **calendars: tuple[str, ...]) -> Config:
    named = {name.replace("_", "/"): tickers for name, tickers in calendars.items()}
    section = Section(calendars=named, decision_lead_minutes=lead)
    return Config(universe=section, target=Target(horizons=HORIZONS, interval=interval))


def union_of(config: Config, tickers: list[str], first: str, last: str) -> tuple[pd.DatetimeIndex, np.ndarray]:
    own = [days_of(config.universe.calendar_of(ticker), first, last) for ticker in tickers]
    sessions = pd.DatetimeIndex(np.unique(np.concatenate([days.to_numpy() for days in own])))
    return sessions, np.stack([sessions.isin(days) for days in own], axis=1)


@pytest.mark.parametrize("interval", ["open_to_open", "close_to_close"])
@pytest.mark.parametrize("calendar", ["XNYS", "24/7", "none"])
def test_on_one_calendar_a_label_takes_its_horizon(interval: str, calendar: str) -> None:
    config = config_of(interval)
    config = config.model_copy(update={"universe": config.universe.model_copy(update={"calendar": calendar})})
    sessions, held = union_of(config, ["A", "B"], "2012-01-03", "2013-03-01")
    steps = universe.known_after(config, ["A", "B"], sessions, held)
    assert steps == ((2, 6, 21) if interval == "open_to_open" else (1, 5, 20))


def test_stocks_beside_coins_span_the_weekends_too() -> None:
    config = config_of(**{"24_7": ("BTC",)})
    sessions, held = union_of(config, ["BTC", "IBM"], "2012-01-03", "2013-12-31")
    steps = universe.known_after(config, ["BTC", "IBM"], sessions, held)
    # A hurricane closed New York on 2012-10-29 and 30: after Friday the 26th the second session is Thursday, six dates
    # on, and the twenty-first, past Thanksgiving, the 29th of November.
    assert steps[0] == 6
    assert steps[2] == 34


@pytest.mark.parametrize("lead", [0, 15, 300])
@pytest.mark.parametrize("interval", ["open_to_open", "close_to_close"])
@pytest.mark.parametrize(
    "calendars",
    [
        {"24_7": ("BTC",)},
        {"XTKS": ("SONY",)},
        {"24_7": ("BTC",), "XNZE": ("AIR",)},
        {"none": ("FUND",), "XHKG": ("HSBC",)},
    ],
)
def test_no_decision_meets_a_label_that_is_not_over(calendars: dict, interval: str, lead: int) -> None:
    config = config_of(interval, lead, **calendars)
    tickers = ["IBM", *(ticker for some in calendars.values() for ticker in some)]
    sessions, held = union_of(config, tickers, "2012-09-03", "2013-04-12")
    steps = universe.known_after(config, tickers, sessions, held)
    delay = 1 if interval == "open_to_open" else 0
    closes = {}
    for n, ticker in enumerate(tickers):
        name = config.universe.calendar_of(ticker)
        days, ends = calendar_sessions(name, sessions[0], sessions[-1])
        ends = pd.Series(ends, index=days)
        closes[ticker] = {t: ends[sessions[t]] for t in np.flatnonzero(held[:, n])}
    needed = [0, 0, 0]
    for own in closes.values():
        at = sorted(own)
        for i, h in enumerate(HORIZONS):
            for k in range(len(at) - h - delay):
                over = own[at[k + h + delay]]
                early = [t for end in closes.values() for t, e in end.items() if e - pd.Timedelta(minutes=lead) < over]
                needed[i] = max(needed[i], max(early) + 1 - at[k])
    assert all(step >= need for step, need in zip(steps, needed, strict=True)), (steps, needed)
    assert all(step <= max(need, h + delay) for step, need, h in zip(steps, needed, HORIZONS, strict=True))


def test_a_row_outside_its_calendar_says_what_to_run() -> None:
    config = config_of(**{"24_7": ("BTC",)})
    sessions, held = union_of(config, ["BTC", "IBM"], "2013-03-01", "2013-03-10")
    held[1, 1] = True
    with pytest.raises(
        DataError, match=r"IBM has a row on 2013-03-02, which is no session of calendar XNYS.*tradewind fe"
    ):
        universe.known_after(config, ["BTC", "IBM"], sessions, held)


def test_how_many_sessions_make_a_year() -> None:
    def year(name: str, days: pd.DatetimeIndex) -> float:
        return universe.sessions_per_year(name, days)

    assert year("XNYS", days_of("XNYS", "2012-01-03", "2013-03-01")) == 252
    assert year("24/7", days_of("24/7", "2012-01-03", "2013-03-01")) == 365
    assert year("none", days_of("none", "2012-01-03", "2013-03-01")) == pytest.approx(52.14, abs=0.01)
    assert year("none", pd.bdate_range("2012-01-03", "2013-03-01")) == 252
    assert year("none", pd.date_range("2012-01-03", "2013-03-01")) == 365
    assert year("none", pd.date_range("2012-01-31", "2013-03-01", freq="ME")) == pytest.approx(12, abs=0.5)


COINS = {"24/7": ("BTC", "ADA")}
TOKYO = {"XTKS": ("SONY", "TOYO")}


def mixture(calendars: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    stocks = prices_on(days_of("XNYS", "2005-01-03", "2008-06-30"), ["AAA", "BBB"])
    others = [prices_on(days_of(name, "2005-01-04", "2008-06-30"), list(some), 1) for name, some in calendars.items()]
    return pd.concat([stocks, *others], ignore_index=True)


@pytest.mark.parametrize("calendars", [COINS, TOKYO], ids=["coins", "tokyo"])
@pytest.mark.parametrize("interval", ["open_to_open", "close_to_close"])
def test_what_new_york_does_not_know_yet_changes_no_forecast(
    small_config: Config, tmp_path: Path, calendars: dict, interval: str
) -> None:
    """New York's bars of the cut and later are altered: no forecast of an earlier date moves, and none of Tokyo on the
    same date, which is decided hours before New York opens."""
    small_config = small_config.model_copy(update={"target": Target(interval=interval)})
    prices = mixture(calendars)
    cut = pd.Timestamp("2008-02-13")
    later = prices["ticker"].isin(["AAA", "BBB"]) & (prices["session"] >= cut)
    found = []
    for name, rows in (("base", prices), ("altered", altered(prices, later))):
        lake = trained(under(small_config, tmp_path / name, calendars=calendars), rows)
        rows = lake.read("forecasts", order_by="model, ticker, session, horizon")
        found.append(rows.drop(columns=["run_id", "created_at"]))
    others = [ticker for some in calendars.values() for ticker in some]
    last = cut if calendars is TOKYO else cut - pd.Timedelta(days=1)
    keep = [(rows["session"] < cut) | rows["ticker"].isin(others) & (rows["session"] <= last) for rows in found]
    early = [rows[kept].reset_index(drop=True) for rows, kept in zip(found, keep, strict=True)]
    pd.testing.assert_frame_equal(*early, check_exact=True)
    assert set(early[0]["ticker"]) == {"AAA", "BBB", *others}
    assert set(early[0]["model"]) == {*BASELINES, *NAIVE_DIRECTIONS, "scale_skip", "student"}
    tail = [rows.loc[~kept, "sigma"].to_numpy() for rows, kept in zip(found, keep, strict=True)]
    assert (tail[0] != tail[1]).any()


def test_the_longest_label_is_purged(small_config: Config, tmp_path: Path) -> None:
    config = under(small_config, tmp_path, calendars=COINS)
    lake = trained(config, mixture(COINS))
    data = walkforward.read(lake, config)
    assert data.purge == data.known_after[-1] >= 31
    training = Registry(config.data.artifacts).read_json(Registry(config.data.artifacts).latest_run(), "training.json")
    assert training["purge"] == data.purge
    assert training["calendars"] == {"24/7": ["ADA", "BTC"], "XNYS": ["AAA", "BBB"]}


@pytest.mark.parametrize(
    ("calendar", "first", "last"),
    [("24/7", "2006-01-01", "2008-09-30"), ("none", "2000-01-07", "2016-12-30"), ("XLON", "2005-01-04", "2008-06-30")],
)
def test_any_one_calendar_runs_from_prices_to_positions(
    small_config: Config, tmp_path: Path, calendar: str, first: str, last: str
) -> None:
    splits = small_config.splits.model_copy(update={"min_train_sessions": 450})
    config = under(small_config.model_copy(update={"splits": splits}), tmp_path, calendar=calendar)
    days = days_of(calendar, first, last)
    found = all_stages(config, prices_on(days, ["AAA", "BBB", "CCC"]))
    year = universe.sessions_per_year(calendar, days)
    figures = found["backtest"].figures
    assert figures["sessions_per_year"] == pytest.approx(year, abs=0.01)
    held = {row["strategy"]: row for row in figures["strategies"] if row["scope"] == "AAA"}
    # Simulated returns move by about 1.2 % a session; a year has `year` of them.
    assert held["buy_and_hold"]["annual_volatility"] == pytest.approx(0.0125 * year**0.5, rel=0.5)
    assert held["vol_target"]["annual_volatility"] == pytest.approx(0.10, abs=0.035)
    for row in found["today"].figures["tickers"]:
        assert row["age_sessions"] == 0
        sigma = row["sigma_daily_percent"] / 100
        assert row["target_weight"] == pytest.approx(min(0.10 / (sigma * year**0.5), 1), rel=0.35)
    positions = Lake.of(config.data).read("positions", "fold <> 'live'")
    assert positions["session"].isin(days).all()


def test_stocks_and_coins_run_from_prices_to_positions(small_config: Config, tmp_path: Path) -> None:
    prices = mixture(COINS)
    # The lake ends on a Sunday: Friday's close is New York's newest.
    prices = prices[prices["session"] <= "2008-06-29"].reset_index(drop=True)
    config = under(small_config, tmp_path, calendars=COINS)
    found = all_stages(config, prices)
    assert 355 < found["backtest"].figures["sessions_per_year"] < 367
    rows = {row["ticker"]: row for row in found["today"].figures["tickers"]}
    assert {ticker: (row["session"], row["age_sessions"]) for ticker, row in rows.items()} == {
        "AAA": ("2008-06-27", 0), "BBB": ("2008-06-27", 0), "ADA": ("2008-06-29", 0), "BTC": ("2008-06-29", 0),
    }  # fmt: skip
    assert all(row["target_weight"] > 0 for row in rows.values())
    positions = Lake.of(config.data).read("positions", "fold <> 'live'")
    stocks = positions[positions["ticker"].isin(["AAA", "BBB"])]
    assert (stocks["session"].dt.day_of_week < 5).all()
    assert (positions.loc[positions["ticker"] == "BTC", "session"].dt.day_of_week == 6).any()
