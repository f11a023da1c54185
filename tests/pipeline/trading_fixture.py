"""A small lake with a trained run: prices whose volatility is known, and forecasts of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from features.calendars import calendar_sessions
from features.frames import INSTANT, QUANTILE_COLUMNS, SESSION
from pipeline.config import Config, Data, Evidence
from pipeline.registry import Registry
from pipeline.store import Lake, empty

RUN = "r0001"
FIRST, LAST = "2007-01-03", "2010-06-30"
HORIZONS = (1, 5, 20)
NOW = pd.Timestamp("2013-04-01T00:00Z")


def config_at(root: Path) -> Config:
    return Config(
        data=Data(lake=root / "lake", artifacts=root / "artifacts"),
        evidence=Evidence(resamples=200, block_sessions=20),
    )


def sessions_of(first: str = FIRST, last: str = LAST) -> pd.DatetimeIndex:
    return calendar_sessions("XNYS", first, last)[0]


def volatility(n: int) -> np.ndarray:
    """Daily, between .5 and 3 %, in slow waves."""
    return 0.01 * np.exp(0.9 * np.sin(np.arange(n) / 45.0))


def price_rows(ticker: str, sessions: pd.DatetimeIndex, seed: int) -> pd.DataFrame:
    """Contract rows; the close is twice the adjusted close, so that unadjusted opens would show."""
    rng = np.random.default_rng(seed)
    logs = 4 + np.cumsum(0.0004 + volatility(len(sessions)) * rng.standard_normal(len(sessions)))
    adjusted = np.exp(logs)
    opens = adjusted * np.exp(0.001 * rng.standard_normal(len(sessions)))
    rows = pd.DataFrame(
        {
            "ticker": ticker,
            "session": sessions,
            "open": 2 * opens,
            "high": 2 * np.maximum(opens, adjusted) * 1.002,
            "low": 2 * np.minimum(opens, adjusted) * 0.998,
            "close": 2 * adjusted,
            "adj_close": adjusted,
            "volume": 1e6,
            "dividend": 0.0,
            "split": 1.0,
            "source": "test",
            "known_at": sessions.tz_localize("UTC") + pd.Timedelta(hours=21),
            "ingested_at": NOW,
        }
    )
    return rows.astype({"ticker": "str", "source": "str", "known_at": INSTANT, "ingested_at": INSTANT})


def forecast_rows(model: str, ticker: str, sessions: pd.DatetimeIndex, sigma: np.ndarray) -> pd.DataFrame:
    """Contract rows of every horizon from a (T,) daily sigma, which is that of the sessions to come."""
    rows = pd.concat(
        [pd.DataFrame({"session": sessions, "horizon": h, "sigma": sigma * np.sqrt(h)}) for h in HORIZONS],
        ignore_index=True,
    )
    rows = rows.assign(run_id=RUN, model=model, bundle_version="", ticker=ticker, p_up=0.5, calibrated=True)
    rows = rows.assign(fold=rows["session"].dt.year.astype("str"), created_at=NOW)
    for name, k in zip(QUANTILE_COLUMNS, (-2.6, -1.7, -1.3, -0.6, 0.0, 0.6, 1.3, 1.7, 2.6), strict=True):
        rows[name] = k * rows["sigma"]
    template = empty("forecasts")
    return rows[list(template.columns)].astype(template.dtypes.to_dict())


def build(
    root: Path, lives: dict[str, tuple[str, str]] | None = None, status: str = "promoted"
) -> tuple[Config, pd.DataFrame]:
    """Write prices, forecasts of int8 and ewma from 2008 on, and training.json; returns them with the prices.

    Args:
        root: an empty directory.
        lives: first and last price session by ticker.
        status: promoted or baseline.
    """
    config = config_at(root)
    lake, registry = Lake(config.data.lake), Registry(config.data.artifacts)
    every = sessions_of()
    sigma = pd.Series(volatility(len(every)), index=every)
    prices, forecasts = [], []
    lives = lives or {"AAA": (FIRST, LAST), "BBB": ("2008-10-01", LAST), "CCC": (FIRST, "2009-09-30")}
    for seed, (ticker, (first, last)) in enumerate(lives.items()):
        rows = price_rows(ticker, every, seed)
        rows = rows[rows["session"].between(pd.Timestamp(first), pd.Timestamp(last))]
        prices.append(rows)
        tested = pd.DatetimeIndex(rows["session"][rows["session"] >= "2008-01-02"]).astype(SESSION)
        known = sigma.loc[tested].to_numpy()
        lag = sigma.shift(25).loc[tested].to_numpy()
        forecasts.append(forecast_rows("int8", ticker, tested, known))
        forecasts.append(forecast_rows("ewma", ticker, tested, lag))
    held = pd.concat(prices, ignore_index=True)
    lake.upsert_prices(held)
    lake.replace("forecasts", pd.concat(forecasts, ignore_index=True))
    registry.write_json(RUN, "training.json", {"run_id": RUN, "status": status, "horizons": list(HORIZONS)})
    registry.set_latest_run(RUN)
    return config, held
