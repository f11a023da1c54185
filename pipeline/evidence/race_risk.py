"""The measures of a risk desk: coverage of bands, uniform PIT, value at risk and what lies beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES, Forecast
from pipeline.evidence import calibration, hac, risk_tests
from pipeline.evidence.losses import TAILS, Outcome
from pipeline.evidence.significance import Resamples, Resampling

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

POOLED = "pooled"


def coverage(draws: Resamples, models: tuple[str, ...], found: list[Outcome]) -> list[dict[str, Any]]:
    """Share of returns within the 80 % band: of all sessions, and of the third whose volatility, known beforehand, was
    highest.

    Args:
        draws: of series `model|cover80|horizon` and `model|volatile80|horizon`.

    Returns:
        Rows of model, horizon, sessions (`all` or `volatile`), share, low, high, n_sessions.
    """
    rows = []
    for model in models:
        for outcome in found:
            judged = outcome.cells.any(0)
            groups = {"all": ("cover80", judged), "volatile": ("volatile80", judged & outcome.volatile)}
            for name, (measure, sessions) in groups.items():
                share, low, high = draws.mean(f"{model}|{measure}|{outcome.horizon}")
                figures = {"share": share, "low": max(low, 0.0), "high": min(high, 1.0)}
                rows.append(
                    {
                        "model": model,
                        "horizon": outcome.horizon,
                        "sessions": name,
                        **figures,
                        "n_sessions": int(sessions.sum()),
                    }
                )
    return rows


def pit(forecasts: Mapping[str, Forecast], found: list[Outcome], resampling: Resampling) -> list[dict[str, Any]]:
    """Shares of the returns below, between and above the quantiles, with clustered intervals, and the test of all.

    Returns:
        Rows of model, horizon, shares, low, high, expected ((Q + 1,) each), p_value, n_cells.
    """
    rows = []
    for model, forecast in forecasts.items():
        for outcome in found:
            quantiles = forecast.quantiles[:, :, outcome.at]
            test = calibration.uniformity(outcome.actual, quantiles, QUANTILES, outcome.horizon)
            bins = np.where(outcome.cells, (outcome.actual[..., None] > quantiles).sum(-1), -1)  # (N, T)
            means = [
                hac.clustered_mean(np.where(outcome.cells, bins == k, np.nan), outcome.horizon, resampling.confidence)
                for k in range(len(test.expected))
            ]
            rows.append(
                {
                    "model": model,
                    "horizon": outcome.horizon,
                    "shares": test.shares,
                    "low": [max(each.low, 0.0) for each in means],
                    "high": [each.high for each in means],
                    "expected": test.expected,
                    "p_value": test.p_value,
                    "n_cells": test.n_cells,
                }
            )
    return rows


def tails(draws: Resamples, models: tuple[str, ...], against: str, horizon: int) -> list[dict[str, Any]]:
    """The joint loss of value at risk and expected shortfall (Fissler and Ziegel), and what is saved of it.

    The loss has no unit and may be below zero, so that differences are told, not percents.

    Returns:
        Rows of model, against, horizon, level, loss, saved, low, high, verdict; without a loss where a model's expected
        shortfall is no loss.
    """
    enough = draws.n_blocks >= draws.resampling.min_blocks
    rows = []
    for model in models:
        for level in TAILS:
            name, other = (f"{each}|fz{level * 100:.0f}|{horizon}" for each in (model, against))
            row = {"model": model, "against": against, "horizon": horizon, "level": level}
            if name not in draws or other not in draws:
                rows.append(row | dict.fromkeys(("loss", "saved", "low", "high")) | {"verdict": "not defined"})
                continue
            saved, low, high = draws.difference(name, other)
            verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
            verdict = verdict if enough else "too few blocks"
            rows.append(row | {"loss": draws.point(name), "saved": saved, "low": low, "high": high, "verdict": verdict})
    return rows


def value_at_risk(
    forecasts: Mapping[str, Forecast],
    by_ticker: Mapping[str, Forecast],
    outcome: Outcome,
    tickers: list[str],
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """Value at risk 95 and 99: how often it was exceeded, over all tickers by model, and ticker by ticker.

    Args:
        forecasts: model -> forecast, judged over all tickers. by_ticker: those judged ticker by ticker too.
        outcome: of the horizon. tickers: N names.

    Returns:
        Rows of model, ticker (or `pooled`), horizon, level, exceedances, expected, n, kupiec_p, christoffersen_p,
        conditional_p (`risk_tests.Exceedances`; over all tickers they take cells as independent and reject too often).
        Over all tickers also share, low, high, and the p-values that know the dependence: clustered_p of the share and
        clustered_independence_p of exceedances that follow each other.
    """
    rows = []
    for model, forecast in forecasts.items():
        for level in TAILS:
            share = round(1 - level, 2)
            var = forecast.quantiles[:, :, outcome.at, QUANTILES.index(share)]  # (N, T)
            breached = np.where(outcome.cells, outcome.actual < var, np.nan)
            series = {t: breached[n][outcome.cells[n]] == 1 for n, t in enumerate(tickers) if outcome.cells[n].any()}
            row = {"model": model, "horizon": outcome.horizon, "level": level}
            rows.append(row | _over_all(breached, series, share, outcome.horizon, resampling))
            if model in by_ticker:
                rows += [
                    row | {"ticker": ticker, **risk_tests.exceedances([hits], share)._asdict()}
                    for ticker, hits in series.items()
                ]
    return rows


def _over_all(
    breached: Array, series: Mapping[str, Bools], share: float, horizon: int, resampling: Resampling
) -> dict[str, Any]:
    number = risk_tests.pooled(breached, horizon, resampling.confidence)
    apart = risk_tests.pooled_independence(breached, horizon, resampling.confidence)
    return {
        "ticker": POOLED,
        **risk_tests.exceedances(list(series.values()), share)._asdict(),
        "share": number.mean,
        "low": max(number.low, 0.0),
        "high": number.high,
        "clustered_p": number.p_value(share),
        "clustered_independence_p": None if apart is None else apart.p_value(),
    }
