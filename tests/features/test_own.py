"""A user's own features: ten lines, computed under the anchoring rule, and one clear sentence where they cannot be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.own import FeatureError
from features.panel import Panel
from features.prices import Wide
from tests.features.ragged_fixture import assert_same_bytes, bars_of, members_of, price_panel, ragged

Family = Callable[[Wide], dict[str, pd.DataFrame]]


def my_family(prices: Wide) -> dict[str, pd.DataFrame]:
    fast, slow = (prices.returns.rolling(n, min_periods=n).mean() for n in (10, 50))
    spread = prices.returns.rolling(50, min_periods=50).std()
    level = prices.close / prices.close.expanding().max()  # sees as far back as it is given
    return {"my_cross": (fast - slow) / spread, "my_level": level}


def panel_of(rows: pd.DataFrame, family: Family, **asked: object) -> Panel:
    return price_panel(rows, own=[("my_features.py:my_family", family)], **asked)


def test_own_features_come_after_the_shipped_ones() -> None:
    rows = ragged(0)
    panel = panel_of(rows, my_family, families=("returns",))
    assert panel.feature_names[-3:] == ("ret_250", "my_cross", "my_level")
    bars = bars_of(rows)
    whole = my_family(Wide.of(bars))["my_cross"].to_numpy(np.float32).T
    found = panel.x[..., panel.feature_names.index("my_cross")]
    both = np.isfinite(found) & np.isfinite(whole)
    np.testing.assert_allclose(found[both], whole[both], rtol=1e-5, atol=1e-6)
    assert both.sum() > 900
    assert np.isnan(found[~bars.traded]).all()


def test_own_features_are_chosen_like_others() -> None:
    panel = panel_of(ragged(0), my_family, chosen=("my_level", "ret_1"))
    assert panel.feature_names == ("observed", "my_level", "ret_1")
    with pytest.raises(FeatureError, match="unknown feature 'my_cros'; did you mean my_cross"):
        panel_of(ragged(0), my_family, chosen=("my_cros",))


@pytest.mark.parametrize("seed", [1, 4])
def test_a_year_of_own_features_depends_on_three_years_of_bars(seed: int) -> None:
    rows = ragged(seed)
    whole = panel_of(rows, my_family, families=())
    tail = panel_of(rows[rows["session"] >= "2006-01-01"], my_family, families=())
    year = whole.sessions[whole.sessions >= np.datetime64("2008-01-01")]
    assert_same_bytes(whole, tail, year)


def test_it_is_given_pairs_of_years_the_one_before_and_who_belongs() -> None:
    seen: list[Wide] = []

    def remember(prices: Wide) -> dict[str, pd.DataFrame]:
        seen.append(prices)
        return {"mine": prices.returns}

    rows = ragged(2)
    price_panel(rows, members_of(rows, 2), own=[("mine", remember)], families=())
    spans = [(wide.close.index[0].year, wide.close.index[-1].year) for wide in seen]
    assert spans == [(2004, 2005), (2005, 2007), (2007, 2008)]
    assert all(wide.members is not None and wide.members.shape == wide.close.shape for wide in seen)


def frame_of(change: Callable[[pd.DataFrame], object]) -> Family:
    return lambda prices: {"mine": change(prices.returns)}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (frame_of(lambda f: f.iloc[5:]), r"my_family: mine has 416 rows and 6 columns; it must have a row for"),
        (frame_of(lambda f: f.drop(columns="T03")), r"mine has 421 rows and 5 columns.*each of 6 tickers"),
        (
            frame_of(lambda f: f.set_index(f.index + pd.Timedelta(hours=9))),
            r"mine has other rows than prices.close, first 2004-05-03 09:00:00 instead of 2004-05-03",
        ),
        (frame_of(lambda f: f.reset_index(drop=True)), r"mine has other rows than prices.close, first 0 instead of"),
        (frame_of(lambda f: f[f.columns[::-1]]), r"mine has other columns than prices.close, first T06 instead of T00"),
        (frame_of(lambda f: f.astype("str")), r"mine holds str for T00; it must hold numbers"),
        (frame_of(lambda f: f.astype(object)), r"mine holds object for T00; it must hold numbers"),
        (frame_of(lambda f: f.to_numpy()), r"mine is a ndarray; it must be a DataFrame"),
        (lambda prices: {"ret_20": prices.returns}, r"'ret_20' is the name of a shipped feature; give it an"),
        (lambda prices: {"observed": prices.returns}, r"'observed' is the name of a shipped feature"),
        (lambda prices: {"vol": prices.returns}, r"'vol' is the name of a shipped feature"),
        (lambda prices: {"my feature": prices.returns}, r"'my feature' cannot be a column; name it like my_mom"),
        (lambda prices: {}, r"returned an empty one; it must return a dict of name -> DataFrame"),
        (lambda prices: prices.returns, r"returned DataFrame; it must return a dict of name -> DataFrame"),
        (lambda prices: None, r"returned NoneType; it must return a dict"),
        (lambda prices: {"mine": prices.nosuch}, r"my_family failed on 6 tickers, 2004-05-03 to 2005-12-30: Attrib"),
        (
            lambda prices: {f"mine_{prices.close.index[-1].year}": prices.returns},
            r"own features gave mine_2007 from 2006 on, but mine_2005 from 2004 on; give the same",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_clear_error(family: Family, reason: str) -> None:
    with pytest.raises(FeatureError, match=reason):
        panel_of(ragged(0), family)


def test_a_name_given_twice_is_an_error() -> None:
    families = [("a.py:f", my_family), ("b.py:g", my_family)]
    with pytest.raises(FeatureError, match=r"own features b.py:g: 'my_cross' is the name of another of your own"):
        price_panel(ragged(0), own=families)


def test_whole_numbers_and_infinities_are_taken() -> None:
    def odd(prices: Wide) -> dict[str, pd.DataFrame]:
        return {
            "sign": (prices.returns > 0).astype(int),
            "huge": prices.returns * np.inf,
            "large": prices.close * 1e300,
            "is_up": prices.returns > 0,
        }

    panel = panel_of(ragged(0), odd, families=())
    assert set(np.unique(panel.x[..., 1][np.isfinite(panel.x[..., 1])])) == {0.0, 1.0}
    assert np.isnan(panel.x[..., 2:4]).all()
