from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import prices as features
from features.prices import Wide
from features.table import FEATURES

PER_TICKER = ("returns", "volatility", "range", "gap", "volume", "drawdown", "calendar")


def sessions_of(rows: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(np.unique(rows["session"].to_numpy()))


def wide_of(rows: pd.DataFrame) -> Wide:
    return Wide.from_rows(rows, sessions_of(rows))


def every_family(wide: Wide, families: tuple[str, ...] = tuple(features.FAMILIES)) -> dict[str, pd.DataFrame]:
    return {name: f for family in families for name, f in features.FAMILIES[family](wide).items()}


def test_families_hold_exactly_the_listed_features(prices: pd.DataFrame) -> None:
    wide = wide_of(prices)
    for family, compute in features.FAMILIES.items():
        assert tuple(sorted(compute(wide))) == tuple(sorted(FEATURES[family])), family


def test_adjustment_moves_every_price_by_the_same_factor(prices: pd.DataFrame) -> None:
    wide = wide_of(prices)
    # No action in it: the adjusted prices are the raw ones, whatever the vendor has based adj_close on.
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(getattr(wide, name).to_numpy().ravel(), prices[name], rtol=1e-12)
    paid = prices.assign(dividend=np.where(prices["session"] == prices["session"].iloc[600], 1.0, 0.0))
    moved = wide_of(paid)
    for name in ("open", "high", "low", "close"):
        factor = (getattr(moved, name) / getattr(wide, name)).to_numpy()
        np.testing.assert_allclose(factor[:200], 1, rtol=1e-12)
        np.testing.assert_allclose(factor[200:], np.tile(1 + 1 / wide.close.to_numpy()[200], (700, 1)), rtol=1e-12)


def test_ewma_volatility_by_hand() -> None:
    # 20 returns of 2 % and one of 4 %: weights .06 * .94^k, normalised by 1 - .94^21.
    index = pd.RangeIndex(21)
    r = pd.DataFrame({"A": [0.02] * 20 + [0.04]}, index=index)
    weight = 0.06 * 0.94 ** np.arange(21)
    expected = np.sqrt((weight * np.array([0.04**2] + [0.02**2] * 20)).sum() / weight.sum())
    vol = features.ewma_volatility(r)["A"]
    assert vol[20] == pytest.approx(expected, rel=1e-12)
    assert vol[:19].isna().all()
    assert vol[19] == pytest.approx(0.02)


def test_volatility_is_floored_and_clipped() -> None:
    r = pd.DataFrame({"quiet": [0.0] * 30, "wild": [3.0] * 30})
    vol = features.ewma_volatility(r)
    assert vol["quiet"].iloc[-1] == 0.003
    assert vol["wild"].iloc[-1] == pytest.approx(0.5)


def test_parkinson_by_hand() -> None:
    # A constant range of high / low = e^.02: range volatility .02 / sqrt(4 ln 2); close moves +-1 %, so v = .01.
    n = 40
    close = pd.DataFrame({"A": 100 * np.exp(0.01 * (np.arange(n) % 2))})
    wide = Wide(close, close * np.exp(0.01), close * np.exp(-0.01), close, close)
    found = features.range_family(wide)["park_5"]["A"]
    assert found.iloc[-1] == pytest.approx(np.log(0.02 / np.sqrt(4 * np.log(2)) / 0.01))


def test_return_after_a_missing_session_spans_it() -> None:
    close = pd.DataFrame({"A": [10.0, np.nan, 12.0]})
    r = features.log_returns(close)["A"]
    assert np.isnan(r[1])
    assert r[2] == pytest.approx(np.log(1.2))


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 1000.0), st.integers(0, 400))
def test_per_ticker_features_ignore_scale_and_other_tickers(prices: pd.DataFrame, factor: float, shift: int) -> None:
    one = prices[prices["ticker"] == "T01"]
    scaled = one.assign(**{name: one[name] * factor for name in ("open", "high", "low", "close", "adj_close")})
    base, moved = every_family(wide_of(prices), PER_TICKER), every_family(wide_of(scaled), PER_TICKER)
    late = every_family(wide_of(one[shift:]), PER_TICKER)
    for name, frame in base.items():
        np.testing.assert_allclose(moved[name]["T01"], frame["T01"], rtol=1e-6, atol=1e-9, err_msg=name)
        # A later start shows only through warm-up and the fading memory of the EWMA.
        tail = slice(-100, None)
        np.testing.assert_allclose(late[name]["T01"][tail], frame["T01"][tail], rtol=1e-3, atol=1e-6, err_msg=name)


def test_ticker_order_does_not_matter(prices: pd.DataFrame) -> None:
    shuffled = prices.sample(frac=1, random_state=1)
    base, moved = every_family(wide_of(prices)), every_family(wide_of(shuffled))
    for name, frame in base.items():
        pd.testing.assert_frame_equal(frame, moved[name], check_freq=False)


def test_features_are_missing_where_the_ticker_did_not_trade(prices: pd.DataFrame) -> None:
    days = sessions_of(prices)
    gone = prices[~((prices["ticker"] == "T00") & (prices["session"].isin(days[500:510])))]
    for name, frame in every_family(Wide.from_rows(gone, days)).items():
        assert frame["T00"].iloc[500:510].isna().all(), name
        assert frame["T01"].iloc[500:510].notna().any(), name
