"""What a backtest trades: the forecasts of a run, sized, and adjusted opens on the union axis of all sessions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features import calendars
from features.prices import Wide
from models.trading.market import carry
from models.trading.sizing import sizing_horizon, target_weight
from pipeline import universe
from pipeline.config import Config
from pipeline.config_models import NAIVE_DIRECTIONS
from pipeline.errors import DataError, StoreError
from pipeline.store import Lake

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BASELINE = "ewma"


class Setting(NamedTuple):
    """What is backtested, on the axes of T sessions and N tickers.

    opens: (T, N) adjusted opens, NaN = none. own: (T, N), where a date is a session of the ticker's calendar.
    listed: (T, N), from the first session with both forecasts to the last with a price, while its bars are forecast.
    weights: (2, T, N) sleeve weights of vol_target and ewma_target, NaN = no forecast; on dates that are no session
    of the ticker those of its last one, until they can be filled. year: how many of the T sessions make a year; years:
    (N,) how many of a ticker's own. horizon: of the sigma that sizes. universe: what training recorded of it.
    """

    model: str
    tickers: tuple[str, ...]
    sessions: pd.DatetimeIndex
    opens: Floats
    own: Bools
    listed: Bools
    weights: Floats
    year: float
    years: Floats
    horizon: int
    universe: dict[str, Any]


def setting_of(config: Config, lake: Lake, run_id: str, training: dict[str, Any]) -> Setting:
    """The out-of-sample forecasts of a run and the prices of the lake.

    Args:
        config: the sizing rule and the calendars.
        lake: has the forecasts of the run.
        run_id: the run.
        training: its training.json.

    Raises:
        StoreError: the run's forecasts are not in the lake.
        DataError: no forecast meets a price.
    """
    model = "int8" if training["status"] == "promoted" else BASELINE
    sigma, horizon = _sigmas(config, lake, run_id, model)
    opens, own, years = _opens(config, lake, run_id, sigma[model])
    sessions, rule = pd.DatetimeIndex(opens.index), config.backtest
    sized = np.stack(
        [sigma[name].reindex(index=opens.index, columns=opens.columns).to_numpy(float) for name in (model, BASELINE)]
    )
    weights = target_weight(sized, horizon, rule.target_volatility, rule.max_weight, years)
    values = opens.to_numpy(dtype=np.float64)
    listed = _listed(values, own, weights, sessions <= sigma[model].index.max())
    kept: Bools = np.asarray(listed.any(axis=0))
    if not kept.any():
        raise DataError(f"no ticker of run {run_id} has both forecasts and prices; run: tradewind train")
    tickers = tuple(str(ticker) for ticker in opens.columns[kept])
    return Setting(
        model,
        tickers,
        sessions,
        values[:, kept],
        own[:, kept],
        listed[:, kept],
        standing(weights, own)[:, :, kept],
        _year(sessions, years[kept], bool(own[:, kept].all())),
        years[kept],
        horizon,
        training.get("universe") or universe.facts(None, config, ()),
    )


def raced_weights(config: Config, lake: Lake, run_id: str, setting: Setting) -> dict[str, Floats]:
    """The same sizing rule by the sigma of each model of the race: model -> (T, N) sleeve weights.

    Left out are naive directions, whose sigma is nobody's claim, the int8 copy of the student, and a model without a
    forecast where the others have one. Models by name.
    """
    aside = ", ".join(f"'{name}'" for name in ("int8", *NAIVE_DIRECTIONS))
    where = f"run_id = '{run_id}' AND fold <> 'live' AND horizon = {setting.horizon} AND model NOT IN ({aside})"
    rows, rule = lake.read("forecasts", where), config.backtest
    needed = setting.listed & setting.own & np.isfinite(setting.weights).all(axis=0)
    found = {}
    for name, frame in rows.groupby("model", sort=True):
        sigma = frame.pivot(index="session", columns="ticker", values="sigma")
        sigma = sigma.reindex(index=setting.sessions, columns=list(setting.tickers))
        weights = target_weight(
            sigma.to_numpy(float), setting.horizon, rule.target_volatility, rule.max_weight, setting.years
        )
        if np.isfinite(weights[needed]).all():
            found[str(name)] = standing(weights[None], setting.own)[0]
    return found


def _listed(opens: Floats, own: Bools, weights: Floats, decided: Bools) -> Bools:
    """(T, N): from a ticker's first forecasts, while it has a price or lacks one for a few of its sessions, and its
    last bar is forecast; bars after the last decision of the run cannot be and do not count."""
    forecast = np.isfinite(weights).all(axis=0)
    started = np.asarray(np.logical_or.accumulate(forecast, axis=0))
    at = np.arange(len(opens))[:, None]
    bar = np.maximum.accumulate(np.where(np.isfinite(opens) & decided[:, None], at, -1), axis=0)
    belongs = np.take_along_axis(forecast, np.maximum(bar, 0), axis=0)
    listed: Bools = started & np.isfinite(carry(opens, own=own)) & belongs
    return listed


def _year(sessions: pd.DatetimeIndex, years: Floats, alike: bool) -> float:
    """How many steps of the axis make a year: as many as the tickers' own, where all their sessions are the same."""
    if alike and len(set(years.tolist())) == 1:
        return float(years[0])
    return universe.DAYS_OF_YEAR * (len(sessions) - 1) / max((sessions[-1] - sessions[0]).days, 1)


def standing(weights: Floats, own: Bools) -> Floats:
    """(S, T, N) decisions, standing over the dates that are no session of the ticker: each is filled at its next open.

    Args:
        weights: (S, T, N). own: (T, N), where a date is a session of the ticker.
    """
    last = np.maximum.accumulate(np.where(own, np.arange(len(own))[:, None], -1), axis=0)
    found = np.take_along_axis(weights, np.maximum(last, 0)[None], axis=1)
    return np.where(last >= 0, found, np.nan)


def _opens(config: Config, lake: Lake, run_id: str, sigma: pd.DataFrame) -> tuple[pd.DataFrame, Bools, Floats]:
    """Adjusted opens of the forecast tickers from the first decision to the fills of the last one, on the union axis;
    (T, N) which dates are sessions of the ticker, (N,) how many make its year."""
    decided = pd.DatetimeIndex(sigma.index)
    prices = lake.prices()
    prices = prices[prices["ticker"].isin(list(sigma.columns)) & (prices["session"] >= decided.min())]
    if prices.empty:
        raise DataError(f"no price of the lake meets a forecast of run {run_id}; run: tradewind ingest")
    frames: list[pd.DataFrame] = []
    years: dict[str, float] = {}
    for name, tickers in universe.groups(config.universe, sorted(prices["ticker"].unique())).items():
        rows = prices[prices["ticker"].isin(tickers)]
        dates = pd.concat([rows["session"], pd.Series([decided.min()]).astype(rows["session"].dtype)])
        sessions, _ = universe.axis(name, dates if name != calendars.NONE else rows["session"])
        sessions = sessions[: int(sessions.searchsorted(decided.max(), side="right")) + 1]
        frames.append(Wide.from_rows(rows, sessions).open)
        years |= dict.fromkeys(tickers, universe.sessions_per_year(name, sessions))
    opens = pd.concat(frames, axis=1, sort=True).sort_index(axis=1)
    own = pd.concat([frame.notna() | True for frame in frames], axis=1, sort=True)
    own = own.reindex(index=opens.index, columns=opens.columns).fillna(False)
    return opens, own.to_numpy(dtype=bool), np.array([years[str(ticker)] for ticker in opens.columns])


def _sigmas(config: Config, lake: Lake, run_id: str, model: str) -> tuple[dict[str, pd.DataFrame], int]:
    """Out-of-sample sigma by model: (session, ticker) frames at the horizon that sizes, and that horizon."""
    where = f"run_id = '{run_id}' AND fold <> 'live' AND model IN ('{model}', '{BASELINE}')"
    rows = lake.read("forecasts", where)
    for name, command in ((BASELINE, "train"), (model, "compress")):
        if not (rows["model"] == name).any():
            reason = f"run {run_id} has no out-of-sample forecasts of {name}"
            raise StoreError(f"{reason}; run: tradewind {command}")
    horizon = sizing_horizon(tuple(int(h) for h in rows["horizon"].unique()), config.backtest.horizon)
    rows = rows[rows["horizon"] == horizon]
    frames = {name: rows[rows["model"] == name] for name in {model, BASELINE}}
    return {
        name: frame.pivot(index="session", columns="ticker", values="sigma") for name, frame in frames.items()
    }, horizon
