"""The explicit, ordered list of features, and the one function that builds their table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from features import news as alignment
from features import prices
from features.panel import Panel

OBSERVED = "observed"

# Family by family, in the order of the table. A name here and not in its family's function is an error.
FEATURES: dict[str, tuple[str, ...]] = {
    "returns": ("ret_1", "ret_5", "ret_20", "ret_60"),
    "volatility": (
        "log_vol", "abs_1", "vol_change_20", "vol_5", "vol_20", "vol_60", "vol_250", "downside_60",
    ),
    "range": ("park_1", "park_5", "park_20"),
    "gap": ("gap_1", "gap_abs_1", "gap_vol_20"),
    "market": (
        "mkt_log_vol", "mkt_ret_1", "mkt_ret_20", "mkt_abs_1", "mkt_vol_5", "mkt_vol_60", "mkt_vol_250",
        "mkt_park_5", "dispersion_20", "rel_vol",
    ),
    "volume": ("volume_z_20", "volume_z_60", "volume_trend"),
    "drawdown": ("drawdown_60", "drawdown_250"),
    "calendar": ("monday", "tuesday", "wednesday", "thursday"),
    "sentiment": alignment.NAMES,
}  # fmt: skip


class News(NamedTuple):
    """What the sentiment family needs.

    rows: the `news` table. closes: (n_sessions,) datetime64 UTC, close of each session. lead_minutes: how long
    before the close a decision is made. threshold: polarity beyond which a headline counts as positive or
    negative.
    """

    rows: pd.DataFrame
    closes: pd.DatetimeIndex
    lead_minutes: int
    threshold: float


def names(families: tuple[str, ...]) -> tuple[str, ...]:
    """The feature columns of the table for the chosen families, `observed` first."""
    return (OBSERVED, *(name for family in families for name in FEATURES[family]))


def build(wide: prices.Wide, news: News, families: tuple[str, ...]) -> Panel:
    """Every feature of every ticker and session, each known at the session's decision time.

    `observed` is 1 where the ticker traded; every other feature is NaN where it did not, and during its warm-up.

    Args:
        wide: adjusted prices on the exchange's sessions.
        news: headlines and the clock they are assigned by.
        families: families wanted, in order.
    """
    found: dict[str, np.ndarray] = {}
    for family in families:
        if family == "sentiment":
            found |= _sentiment(wide, news)
        else:
            found |= {name: f.to_numpy().T for name, f in prices.FAMILIES[family](wide).items()}
    traded = wide.close.notna().to_numpy().T  # (N, T)
    found[OBSERVED] = np.where(traded, 1.0, np.nan)
    ordered = names(families)
    x = np.stack([found[name].astype(np.float32) for name in ordered], axis=-1)  # (N, T, F)
    x[~traded] = np.nan
    vol = prices.ewma_volatility(prices.log_returns(wide.close)).to_numpy().T.astype(np.float32)
    sessions = pd.DatetimeIndex(wide.close.index).to_numpy().astype("datetime64[D]")
    return Panel(np.asarray(wide.close.columns, dtype=str), sessions, ordered, x, vol)


def _sentiment(wide: prices.Wide, news: News) -> dict[str, np.ndarray]:
    tickers = [str(ticker) for ticker in wide.close.columns]
    return alignment.sentiment_features(
        news.rows, tickers, pd.DatetimeIndex(wide.close.index), news.closes, news.lead_minutes, news.threshold
    )
