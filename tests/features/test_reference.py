"""The fast path against benchmarks/reference.py, pandas written from the formulas: every price feature, to 1e-9.

Panels with holes, late starts, delistings, halts of months and years, and membership that changes; and the bundled
sample, whose closes are raw and whose splits only adj_close knows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.reference import price_features
from features.bars import PAIR, Bars, pair_of
from features.prices import FAMILIES
from features.table import FEATURES
from pipeline.config import Config
from pipeline.providers import Held, sample
from pipeline.summary import silent
from tests.conftest import simulate_prices

NAMES = [name for family in FAMILIES for name in FEATURES[family]]
PRICES = ["open", "high", "low", "close", "adj_close"]
Array = npt.NDArray[np.float64]
Inside = npt.NDArray[np.bool_]


def holed(tickers: int = 8, sessions: int = 1300, seed: int = 0) -> pd.DataFrame:
    """Three bars in a hundred missing, two tickers late, two delisted, one halted for four months, one for 18."""
    rows = simulate_prices(tickers, sessions, seed)
    generator = np.random.default_rng(seed)
    t = np.repeat(np.arange(sessions), tickers)
    ticker = rows["ticker"].str[1:].astype(int)
    kept = generator.random(len(rows)) > 0.03
    for number, (first, last) in {0: (200, sessions), 1: (411, 1100), 2: (0, 700)}.items():
        kept &= (ticker != number) | ((t >= first) & (t < last))
    for number, (first, last) in {3: (500, 585), 4: (320, 700)}.items():
        kept &= (ticker != number) | (t < first) | (t >= last)
    rows["volume"] = np.where(generator.random(len(rows)) < 0.01, 0.0, np.round(rows["volume"]))
    return rows[kept].reset_index(drop=True)


def sessions_of(rows: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(np.unique(rows["session"].to_numpy()))


def fast(rows: pd.DataFrame, sessions: pd.DatetimeIndex, members: Inside | None = None) -> pd.DataFrame:
    """The fast path's features on the index of the reference."""
    bars = Bars.from_rows(rows, sessions, members=members)
    index = pd.MultiIndex.from_product([bars.tickers, sessions], names=["ticker", "session"])
    found = {name: values.ravel() for name, values in every_feature(bars).items()}
    return pd.DataFrame(found, index).loc[price_index(rows)]


def every_feature(bars: Bars) -> dict[str, Array]:
    """Every price feature and vol by name, (N, T): computed year by year, as the table is."""
    years = []
    for year in np.unique(bars.years - bars.years % PAIR):
        span = bars.span(int(year))
        years.append({name: values for compute in FAMILIES.values() for name, values in compute(span).items()})
        years[-1]["vol"] = span.v
    return {name: np.concatenate([found[name] for found in years], axis=1) for name in years[0]}


def price_index(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[["ticker", "session"]].sort_values(["ticker", "session"]))


def disagreements(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, str]:
    """feature -> where it first differs by more than 1e-9, relative to what is above 1 and absolute below."""
    found = {}
    for name in [*NAMES, "vol"]:
        a, b = ours[name].to_numpy(), theirs[name].to_numpy()
        differs = ~((np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= 1e-9 * np.maximum(1.0, np.abs(b))))
        if differs.any():
            at = int(np.flatnonzero(differs)[0])
            ticker, session = ours.index[at]
            found[name] = f"{differs.sum()} cells, first {ticker} {session:%Y-%m-%d}: {a[at]!r}, pandas {b[at]!r}"
    return found


@pytest.fixture(scope="module")
def gaps() -> pd.DataFrame:
    return holed()


def test_it_knows_every_listed_price_feature_and_no_other(gaps: pd.DataFrame) -> None:
    found = price_features(gaps.tail(4000), sessions_of(gaps))
    assert sorted(found.columns.drop("vol")) == sorted(NAMES)


@pytest.mark.parametrize("year", [2007, 2008, 2009, 2010])
def test_a_year_with_holes_late_starts_and_delistings(gaps: pd.DataFrame, year: int) -> None:
    """The fast path sees all history; pandas the years that a year of features may depend on."""
    ours, theirs = both_of(gaps, year)
    assert disagreements(ours, theirs) == {}
    assert ours.notna().any().all()


def both_of(rows: pd.DataFrame, year: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    of_year = (slice(None), slice(f"{year}-01-01", f"{year}-12-31")), slice(None)
    seen = rows[(rows["session"] >= f"{pair_of(year) - 1}-01-01") & (rows["session"] <= f"{year}-12-31")]
    return fast(rows, sessions_of(rows)).loc[of_year], price_features(seen, sessions_of(seen)).loc[of_year]


def in_dimes(rows: pd.DataFrame) -> pd.DataFrame:
    """Prices of few different values: closes, moves and ranks tie."""
    coarse = (rows[PRICES] / 20).round(1)
    return rows.assign(**{name: coarse[name] for name in PRICES}).assign(adj_close=coarse["close"])


def standing_still(rows: pd.DataFrame) -> pd.DataFrame:
    """Two tickers whose price and volume do not move for 400 sessions, and one without volume for a year."""
    number = rows.groupby("ticker").cumcount()
    still = rows["ticker"].isin(["T05", "T06"]) & (number > 500) & (number < 900)
    silent_ = (rows["ticker"] == "T07") & (rows["session"].dt.year == 2007)
    volume = rows["volume"].mask(still, 1000.0).mask(silent_, 0.0)
    return rows.assign(**{name: rows[name].mask(still, 20.0) for name in PRICES}, volume=volume)


def thirtyfold(rows: pd.DataFrame) -> pd.DataFrame:
    """Every ticker's price thirty times as high for forty sessions: beyond every clip and floor."""
    number = rows.groupby("ticker").cumcount()
    return rows.assign(**{name: rows[name] * np.where((number > 600) & (number < 640), 30.0, 1.0) for name in PRICES})


@pytest.mark.parametrize("changed", [in_dimes, standing_still, thirtyfold])
def test_ties_standstills_and_jumps(gaps: pd.DataFrame, changed: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    assert disagreements(*both_of(changed(gaps), 2007)) == {}


@settings(max_examples=10, deadline=None, phases=(Phase.generate,))
@given(seed=st.integers(0, 10_000), tickers=st.integers(1, 4), missing=st.floats(0, 0.4), first=st.integers(0, 500))
def test_any_pattern_of_holes(seed: int, tickers: int, missing: float, first: int) -> None:
    """Up to four bars in ten missing, at random; the last ticker starts late. (Not shrunk: it would take minutes.)"""
    rows = simulate_prices(tickers, 640, seed)
    kept = np.random.default_rng(seed).random(len(rows)) >= missing
    kept &= (rows["ticker"] != f"T{tickers - 1:02d}") | (np.arange(len(rows)) >= first * tickers)
    assert disagreements(*both_of(rows[kept].reset_index(drop=True), 2007)) == {}


def test_members_make_the_market_and_the_ranks(gaps: pd.DataFrame) -> None:
    sessions = sessions_of(gaps)
    tickers = sorted(gaps["ticker"].unique())
    inside = np.ones((len(tickers), len(sessions)), dtype=bool)
    inside[2:5, 400:900] = False
    inside[7] = False
    theirs = price_features(gaps, sessions, pd.DataFrame(inside.T, sessions, tickers))
    recent = (slice(None), slice("2007-01-01", "2007-12-31")), slice(None)
    assert disagreements(fast(gaps, sessions, inside).loc[recent], theirs.loc[recent]) == {}


@pytest.mark.parametrize("year", [2000, 2003, 2008, 2013])
def test_the_bundled_sample(year: int) -> None:
    (delivery,) = sample.deliver(Config(), silent, Held())
    assert disagreements(*both_of(delivery.prices, year)) == {}


def test_one_ticker_alone(gaps: pd.DataFrame) -> None:
    rows = gaps[gaps["ticker"] == "T05"]
    sessions = sessions_of(gaps)
    recent = (slice(None), slice("2007-01-01", "2007-12-31")), slice(None)
    assert disagreements(fast(rows, sessions).loc[recent], price_features(rows, sessions).loc[recent]) == {}
