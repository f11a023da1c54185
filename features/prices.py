"""Price features, family by family, and the wide frames that a user's own features are made from.

The families (features/families) compute on `Bars`; what each feature is stands in features/catalogue.py. Nothing at
session t reads a later bar, and no price level enters: prices are log ratios in units of the ticker's own volatility.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.actions import Adjusted, adjust
from features.bars import Bars
from features.families.dates import calendar_family
from features.families.market import beta_family, market_family, rank_family
from features.families.moves import drawdown_family, gap_family, momentum_family, returns_family
from features.families.scale import range_family, volatility_family
from features.families.volume import volume_family
from features.trailing import Array

FAMILIES: dict[str, Callable[[Bars], dict[str, Array]]] = {
    "returns": returns_family,
    "momentum": momentum_family,
    "volatility": volatility_family,
    "range": range_family,
    "gap": gap_family,
    "market": market_family,
    "beta": beta_family,
    "volume": volume_family,
    "drawdown": drawdown_family,
    "rank": rank_family,
    "calendar": calendar_family,
}
"""Each gives name -> (N, bars.keep) float64, NaN = missing: the features of the last `keep` sessions."""


@dataclass(frozen=True)
class Wide:
    """Prices of one universe as frames, adjusted for splits and dividends: for a user's own features.

    Each frame is (n_sessions, n_tickers) float64, sessions down, sorted tickers across, NaN where the ticker did not
    trade. A ticker's prices start at its first raw close and move on by its total returns. `volume` is as reported;
    zero volume is missing. `returns` are r, log total returns since the ticker's previous bar. `members` (bool) says at
    which sessions a ticker makes up the market, None = always.
    """

    open: pd.DataFrame
    high: pd.DataFrame
    low: pd.DataFrame
    close: pd.DataFrame
    volume: pd.DataFrame
    returns: pd.DataFrame
    members: pd.DataFrame | None = None

    @classmethod
    def of(cls, bars: Bars) -> Wide:
        """The frames of all sessions of `bars`, those before the last `keep` too."""
        sessions = pd.DatetimeIndex(bars.sessions.astype("datetime64[us]"))
        tickers = pd.Index(bars.tickers.tolist(), dtype="str")

        def frame(values: Array | npt.NDArray[np.bool_]) -> pd.DataFrame:
            return pd.DataFrame(np.ascontiguousarray(values.T), sessions, tickers)

        first = bars.close[np.arange(len(tickers)), bars.traded.argmax(axis=1)][:, None]
        close = first * np.exp(bars.path)
        open_, high, low = (frame(close * np.exp(part)) for part in (bars.day, bars.up, bars.down))
        members = None if bars.members is None else frame(bars.members)
        return cls(open_, high, low, frame(close), frame(bars.volume), frame(bars.r), members)

    @classmethod
    def from_rows(cls, rows: pd.DataFrame, sessions: pd.DatetimeIndex, adjusted: Adjusted | None = None) -> Wide:
        """Frames of rows of the `prices` table: one a (ticker, session), any order.

        Args:
            rows: the rows.
            sessions: the exchange's calendar.
            adjusted: `features.actions.adjust(rows)`, where it is at hand.
        """
        return cls.of(Bars.from_rows(rows, sessions, adjust(rows) if adjusted is None else adjusted))
