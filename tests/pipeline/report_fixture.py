"""A finished run made of synthetic figures: what train, compress and backtest leave behind, small and fast.

Volatility clusters and peaks in 2008, so that the pictures resemble the real ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.frames import INSTANT, QUANTILES, SESSION
from pipeline.config import Config, Data
from pipeline.registry import Registry
from pipeline.store import Lake, empty, news_id
from tests.pipeline.report_equality import equality
from tests.pipeline.report_pieces import (
    CREATED,
    HORIZONS,
    RUN,
    STRATEGIES,
    TICKERS,
    evidence,
    training,
)

SHAPE = np.array([-2.6, -1.66, -1.24, -0.63, 0.03, 0.66, 1.25, 1.64, 2.5])
SCRIPT = "<script>document.title='broken'</script> IBM & partners rise"


def build(root: Path, status: str = "promoted", data_label: str = "sample", source: str = "simulated") -> Config:
    """Write a run into `root` and return the configuration that finds it; an empty source means no news."""
    config = Config(data=Data(lake=root / "lake", artifacts=root / "artifacts"))
    rng = np.random.default_rng(3)
    sessions = pd.bdate_range("2006-01-02", "2013-03-28").astype(SESSION)
    vol = _volatility(rng, len(sessions))
    returns = {t: vol * k * rng.standard_t(5, len(vol)) * 0.78 for t, k in zip(TICKERS, (1.5, 1.1, 0.9), strict=True)}
    lake, registry = Lake(config.data.lake), Registry(config.data.artifacts)
    targets = _targets(sessions, returns)
    lake.replace("targets", targets)
    lake.replace("forecasts", _forecasts(rng, targets, sessions, vol))
    if source:
        lake.add_news(_news(source))
    registry.write_json(RUN, "training.json", training(status, data_label))
    registry.write_json(RUN, "evidence.json", evidence(status, sessions))
    registry.write_json(RUN, "equality.json", equality())
    _backtest(registry, sessions, vol, returns)
    networks = registry.run_dir(RUN) / "networks"
    networks.mkdir()
    for year in range(2006, 2014):
        registry.write_json(RUN, f"networks/{year}.json", _fold(year))
    registry.set_latest_run(RUN)
    return config


def _volatility(rng: np.random.Generator, n: int) -> np.ndarray:
    days = np.arange(n)
    crisis = 1.5 * np.exp(-0.5 * ((days - 730) / 90) ** 2) + 0.5 * np.exp(-0.5 * ((days - 1460) / 45) ** 2)
    noise = np.convolve(rng.standard_normal(n + 60), np.ones(60) / 60, mode="valid")[:n]
    return 0.0085 * np.exp(crisis + 1.2 * noise)


def _targets(sessions: pd.DatetimeIndex, returns: dict[str, np.ndarray]) -> pd.DataFrame:
    parts = []
    for ticker, r in returns.items():
        for h in HORIZONS:
            sums = pd.Series(r).rolling(h).sum().shift(-h)
            rv = (pd.Series(r) ** 2).rolling(h).mean().shift(-h)
            parts.append(
                pd.DataFrame(
                    {
                        "ticker": ticker,
                        "session": sessions,
                        "horizon": np.int32(h),
                        "log_return": sums,
                        "rv": rv,
                        "z": sums / 0.01,
                    }
                )
            )
    frame = pd.concat(parts).dropna().reset_index(drop=True)
    return frame.astype({"ticker": "str", "horizon": "int32"})


def _forecasts(
    rng: np.random.Generator, targets: pd.DataFrame, sessions: pd.DatetimeIndex, vol: np.ndarray
) -> pd.DataFrame:
    by_session = pd.Series(vol, index=sessions)
    scale = targets["ticker"].map({"AAPL": 1.5, "IBM": 1.1, "SPX": 0.9}).to_numpy(float)
    parts = []
    for model, noise in (("ewma", 0.18), ("student", 0.08), ("int8", 0.08)):
        seed = np.random.default_rng(5 if model != "ewma" else 6)
        error = np.exp(noise * seed.standard_normal(len(targets)))
        sigma = by_session.loc[targets["session"]].to_numpy() * scale * np.sqrt(targets["horizon"].to_numpy()) * error
        if model == "int8":
            sigma = sigma * (1 + 2e-4 * rng.standard_normal(len(sigma)))
        frame = targets[["ticker", "session", "horizon"]].copy()
        frame["sigma"] = sigma
        for level, shape in zip(QUANTILES, SHAPE, strict=True):
            frame[f"q{round(level * 100):02d}"] = sigma * shape
        parts.append(frame.assign(model=model, p_up=0.52))
    rows = pd.concat(parts).assign(run_id=RUN, bundle_version="", calibrated=True, created_at=pd.Timestamp(CREATED))
    rows["fold"] = rows["session"].dt.year.astype(str)
    template = empty("forecasts")
    return rows[list(template.columns)].astype(template.dtypes.to_dict()).reset_index(drop=True)


def _news(source: str) -> pd.DataFrame:
    titles = (
        SCRIPT,
        "Apple shares fall after a terrible quarter",
        "S&P 500 little changed",
        "Great gains for IBM",
    )
    at = pd.date_range("2013-03-25 15:00", periods=len(titles), freq="D", tz="UTC")
    rows = pd.DataFrame(
        {
            "news_id": [news_id(source, "", "IBM", str(t), title) for t, title in zip(at, titles, strict=True)],
            "ticker": ["IBM", "AAPL", "SPX", "IBM"],
            "published_at": at,
            "known_at": at,
            "ingested_at": at,
            "source": source,
            "title": titles,
            "summary": "",
            "url": "",
        }
    )
    text = ("news_id", "ticker", "source", "title", "summary", "url")
    return rows.astype(
        {**dict.fromkeys(text, "str"), **dict.fromkeys(("published_at", "known_at", "ingested_at"), INSTANT)}
    )


def _fold(year: int) -> dict[str, Any]:
    return {
        "train_first": "2000-01-03",
        "train_last": f"{year - 1}-11-20",
        "test_first": f"{year}-01-02",
        "test_last": f"{year}-12-31",
        "body_weight": 0.5 if year % 2 else 0.0,
        "alpha": 1000.0,
    }


def _backtest(registry: Registry, sessions: pd.DatetimeIndex, vol: np.ndarray, returns: dict[str, np.ndarray]) -> None:
    scopes = {**returns, "portfolio": np.mean(list(returns.values()), axis=0)}
    names, owners, wealth, realised, rows = [], [], [], [], []
    for scope, r in scopes.items():
        held = {
            "vol_target": 0.0055 / vol,
            "ewma_target": 0.0053 / np.roll(vol, 12),
            "constant": np.full(len(r), 0.42),
            "buy_and_hold": np.ones(len(r)),
        }
        for name, weight in held.items():
            gained = weight * (r + 0.0003)
            path = np.cumprod(1 + gained)
            rolling = pd.Series(gained).rolling(63).std().to_numpy() * np.sqrt(252)
            names.append(name)
            owners.append(scope)
            wealth.append(path)
            realised.append(rolling)
            rows.append(
                {
                    "strategy": name,
                    "label": STRATEGIES[name],
                    "scope": scope,
                    "annual_return": float(path[-1] ** (252 / len(r)) - 1),
                    "annual_volatility": float(gained.std() * 252**0.5),
                    "sharpe": float(gained.mean() / gained.std() * 252**0.5),
                    "sharpe_low": -0.1,
                    "sharpe_high": 1.2,
                    "sharpe_gain": 0.0 if name == "constant" else 0.11,
                    "sharpe_gain_low": 0.0 if name == "constant" else -0.08,
                    "sharpe_gain_high": 0.0 if name == "constant" else 0.31,
                    "max_drawdown": float((path / np.maximum.accumulate(path) - 1).min()),
                    "realised_vol_p05": float(np.nanquantile(rolling, 0.05)),
                    "realised_vol_p95": float(np.nanquantile(rolling, 0.95)),
                    "turnover_per_year": 4.2,
                    "cost_per_year_percent": 0.13,
                    "breakeven_bps": 41.0 if name != "buy_and_hold" else None,
                }
            )
    first, last = (f"{sessions[at]:%Y-%m-%d}" for at in (0, -1))
    registry.write_json(
        RUN,
        "backtest.json",
        {
            "first": first,
            "last": last,
            "costs": {"half_spread_bps": 2.0, "commission_bps": 1.0},
            "target_volatility": 0.1,
            "universe_note": "Chosen by the user.",
            "rolling_sessions": 63,
            "breakeven_definition": "cost a side at which nothing is gained",
            "model": "int8",
            "confidence": 0.95,
            "strategies": rows,
        },
    )
    np.savez(
        registry.run_dir(RUN) / "backtest_curves.npz",
        sessions=sessions.to_numpy().astype("datetime64[D]"),
        strategy=np.array(names),
        scope=np.array(owners),
        wealth=np.array(wealth),
        realised_vol=np.array(realised),
    )
