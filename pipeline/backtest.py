"""backtest: the out-of-sample forecasts of the latest run -> positions, wealth curves and their figures.

A decision at the close of a session is filled at the ticker's next open, costs on. A ticker that is no longer
forecast, because it left the universe, is sold at the open after its first bar without a forecast. Four
strategies, each in the portfolio of equal sleeves and for each ticker alone:

    vol_target     sized by the forecast sigma of the model that ships
    ewma_target    sized by the trailing-EWMA baseline's sigma
    constant       the exposure whose volatility over the whole backtest equals vol_target's (hindsight)
    buy_and_hold   everything, once

Every backtest is a trial in the ledger, and the Sharpe ratios are deflated by all that were tried
(pipeline/deflation.py); the rule is also driven by every other model of the race, to see what a choice among them by
their backtests would be worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.trading.market import Costs
from models.trading.sizing import SESSIONS_PER_YEAR
from models.trading.sleeves import Sleeves
from pipeline import deflation, universe
from pipeline.config import Config
from pipeline.evidence import performance
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent
from pipeline.traded import Setting, raced_weights, setting_of

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STRATEGIES = ("vol_target", "ewma_target", "constant", "buy_and_hold")
LABELS = {
    "vol_target": "Volatility target (forecast)",
    "ewma_target": "Volatility target (EWMA)",
    "constant": "Constant exposure, equal volatility (set with hindsight)",
    "buy_and_hold": "Buy and hold",
}
PORTFOLIO = "portfolio"
ROLLING_SESSIONS = 63
TICKERS_AT_ONCE = 16
SAME_FOR_ALL = "All strategies hold the same tickers, so their differences suffer less. Cash earns nothing."
BREAKEVEN = (
    "cost a side in bps of value traded, paid by both, at which the strategy grows no more than the constant "
    "exposure above; null where it is behind even without costs, or still ahead at 300 bps"
)


class Outcome(NamedTuple):
    """What the strategies did: (S, G, T) curves in STRATEGIES order, G scopes.

    exposure: (G,) of the constant strategy. breakeven: (2, G) of the two targeted ones.
    """

    scopes: tuple[str, ...]
    wealth: Floats
    turnover: Floats
    costs: Floats
    exposure: Floats
    breakeven: Floats


def run(config: Config, progress: Progress = silent, kind: str = "cli") -> Summary:
    """Backtest the latest run; writes backtest.json, backtest_curves.npz, rows of `positions` and one of `trials`.

    Args:
        config: the configuration.
        progress: called as work goes on.
        kind: who started it, for the trial ledger: cli or flow.

    Raises:
        StoreError: nothing has been trained, or its forecasts are not in the lake.
        DataError: no forecast meets a price.
    """
    registry, lake = Registry(config.data.artifacts), Lake.of(config.data)
    run_id = registry.latest_run()
    setting = setting_of(config, lake, run_id, registry.read_json(run_id, "training.json"))
    parts = []
    for done, sleeves in enumerate(groups := list(_groups(config, setting))):
        progress("backtesting", done, len(groups))
        parts.append(_trade(*sleeves))
    outcome = _joined(parts)
    progress("backtesting", len(groups), len(groups))
    rows = _figures(config, setting, outcome)
    luck = _luck(config, lake, run_id, setting, outcome, groups[0][1], kind)
    content = _content(config, setting, outcome, rows) | {"luck": luck}
    registry.write_json(run_id, "backtest.json", content)
    _write_curves(registry, run_id, setting, outcome)
    where = f"run_id = '{run_id}' AND fold <> 'live'"
    lake.replace("positions", _positions(run_id, setting, outcome), where=where)
    return Summary("backtest", tuple(_lines(content)), {"run_id": run_id, **content})


def _groups(config: Config, setting: Setting) -> Iterator[tuple[tuple[str, ...], Sleeves, Floats]]:
    """The portfolio, then the tickers on their own, a few at a time."""
    rule = config.backtest
    costs = Costs(rule.half_spread_bps, rule.commission_bps)
    whole = Sleeves(setting.opens, setting.listed, costs, rule.band, pooled=True, own=setting.own)
    yield (PORTFOLIO,), whole, setting.weights
    for first in range(0, len(setting.tickers), TICKERS_AT_ONCE):
        some = slice(first, first + TICKERS_AT_ONCE)
        opens, listed, own = setting.opens[:, some], setting.listed[:, some], setting.own[:, some]
        alone = Sleeves(opens, listed, costs, rule.band, pooled=False, own=own)
        yield setting.tickers[some], alone, setting.weights[:, :, some]


def _trade(scopes: tuple[str, ...], sleeves: Sleeves, targeted: Floats) -> Outcome:
    first = sleeves.run(targeted[:1])
    exposure = sleeves.matched_exposure(first.wealth[0])
    weights = np.concatenate([targeted, sleeves.constant(exposure)[None], sleeves.buy_and_hold()[None]])
    bands = np.array([sleeves.band, sleeves.band, sleeves.band, 0.0])
    curves = sleeves.run(weights, bands)
    breakeven = sleeves.breakeven_bps(targeted, exposure)
    return Outcome(scopes, curves.wealth, curves.turnover, curves.costs, exposure, breakeven)


def _luck(
    config: Config, lake: Lake, run_id: str, setting: Setting, outcome: Outcome, whole: Sleeves, kind: str
) -> dict[str, Any]:
    """What the portfolio's figures are worth after all that was tried; see pipeline/deflation.py."""
    wealth = dict(zip(STRATEGIES, outcome.wealth[:, 0], strict=True))
    own = _number(float(performance.sharpe(wealth["vol_target"])) / math.sqrt(SESSIONS_PER_YEAR))
    deflation.record(lake, run_id, config.backtest.model_dump(mode="json"), config.models.seed, own, kind)
    weights = raced_weights(config, lake, run_id, setting)
    curves: Floats = whole.run(np.stack(list(weights.values()))).wealth[:, 0] if weights else np.empty((0, 0))
    raced = dict(zip(weights, curves, strict=True))
    return deflation.judged(wealth, raced, deflation.tried(lake), config.evidence.confidence, setting.year)


def _joined(parts: list[Outcome]) -> Outcome:
    def along(name: str, axis: int) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts], axis=axis)

    return Outcome(
        tuple(scope for part in parts for scope in part.scopes),
        along("wealth", 1),
        along("turnover", 1),
        along("costs", 1),
        along("exposure", 0),
        along("breakeven", 1),
    )


def _figures(config: Config, setting: Setting, outcome: Outcome) -> list[dict[str, Any]]:
    """One row of figures a scope and strategy; what is unknown is None."""
    S, G, T = outcome.wealth.shape
    wealth = outcome.wealth.reshape(S * G, T)
    rule = config.evidence
    draws = performance.SharpeDraws(
        wealth, rule.block_sessions, rule.resamples, rule.min_blocks, rule.confidence, config.models.seed
    )
    constant = STRATEGIES.index("constant") * G + np.tile(np.arange(G), S)
    # `performance` takes a year to be 252 sessions.
    root = math.sqrt(setting.year / SESSIONS_PER_YEAR)
    rolling = root * performance.rolling_volatility(wealth, ROLLING_SESSIONS)
    years = np.isfinite(performance.log_returns(wealth)).sum(axis=-1) / setting.year
    bounds, gains, sharpe = draws.interval(), draws.gain(constant), root * performance.sharpe(wealth)
    columns = {
        "annual_return": _over_year(performance.annual_return(wealth), setting.year),
        "annual_volatility": root * performance.annual_volatility(wealth),
        "sharpe": sharpe,
        "sharpe_low": root * bounds.low,
        "sharpe_high": root * bounds.high,
        "sharpe_gain": sharpe - sharpe[constant],  # over constant exposure in the same scope, paired
        "sharpe_gain_low": root * gains.low,
        "sharpe_gain_high": root * gains.high,
        "max_drawdown": performance.max_drawdown(wealth),
        "realised_vol_p05": _quantile(rolling, 0.05),
        "realised_vol_p95": _quantile(rolling, 0.95),
        "turnover_per_year": np.nansum(outcome.turnover.reshape(S * G, T), axis=-1) / years,
        "cost_per_year_percent": 100 * np.nansum(outcome.costs.reshape(S * G, T), axis=-1) / years,
        "breakeven_bps": np.concatenate([outcome.breakeven, np.full((S - 2, G), np.nan)]).reshape(S * G),
    }
    return [
        {"strategy": STRATEGIES[s], "label": LABELS[STRATEGIES[s]], "scope": outcome.scopes[g]}
        | {name: _number(values[s * G + g]) for name, values in columns.items()}
        for g in range(G)
        for s in range(S)
    ]


def _over_year(growth: Floats, year: float) -> Floats:
    """Growth over 252 sessions as growth over a year of `year` sessions."""
    return growth if year == SESSIONS_PER_YEAR else np.expm1(np.log1p(growth) * year / SESSIONS_PER_YEAR)


def _quantile(rolling: Floats, level: float) -> Floats:
    """(C,) quantile over the known sessions of each curve; NaN where none is known."""
    known = (r[np.isfinite(r)] for r in rolling)
    return np.array([np.quantile(r, level) if len(r) else np.nan for r in known])


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _content(config: Config, setting: Setting, outcome: Outcome, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "first": f"{setting.sessions[0]:%Y-%m-%d}",
        "last": f"{setting.sessions[-1]:%Y-%m-%d}",
        "model": setting.model,
        "costs": {
            "half_spread_bps": config.backtest.half_spread_bps,
            "commission_bps": config.backtest.commission_bps,
        },
        "target_volatility": config.backtest.target_volatility,
        "rolling_sessions": ROLLING_SESSIONS,
        "confidence": config.evidence.confidence,
        "sessions_per_year": round(setting.year, 2),
        "universe_note": f"{universe.sentence(setting.universe)} {SAME_FOR_ALL}",
        "breakeven_definition": BREAKEVEN,
        "constant_exposure": {
            scope: _number(exposure) for scope, exposure in zip(outcome.scopes, outcome.exposure, strict=True)
        },
        "strategies": rows,
    }


def _write_curves(registry: Registry, run_id: str, setting: Setting, outcome: Outcome) -> None:
    """backtest_curves.npz: sessions (T,), strategy (C,), scope (C,), wealth and realised_vol (C, T)."""
    S, G, T = outcome.wealth.shape
    wealth = outcome.wealth.reshape(S * G, T)
    path = registry.run_dir(run_id) / "backtest_curves.npz"
    partial = path.with_name(".backtest_curves.partial.npz")
    root = math.sqrt(setting.year / SESSIONS_PER_YEAR)
    np.savez_compressed(
        partial,
        sessions=setting.sessions.to_numpy().astype("datetime64[D]"),
        strategy=np.repeat(STRATEGIES, G),
        label=np.repeat([LABELS[name] for name in STRATEGIES], G),
        scope=np.tile(outcome.scopes, S),
        wealth=wealth,
        realised_vol=root * performance.rolling_volatility(wealth, ROLLING_SESSIONS),
    )
    partial.replace(path)


def _positions(run_id: str, setting: Setting, outcome: Outcome) -> pd.DataFrame:
    """The portfolio's sleeve weights as decided at each close of the ticker's own; the fold is the year."""
    constant = np.full(setting.listed.shape, outcome.exposure[0])
    weights = (*setting.weights, constant, np.ones(constant.shape))
    found = []
    for strategy, weight in zip(STRATEGIES, weights, strict=True):
        t, n = np.nonzero(setting.listed & setting.own & np.isfinite(weight))
        session = setting.sessions[t]
        found.append(
            pd.DataFrame(
                {
                    "run_id": pd.Series(run_id, index=range(len(t)), dtype="str"),
                    "strategy": pd.Series(strategy, index=range(len(t)), dtype="str"),
                    "fold": pd.Series(session.year.astype("str"), dtype="str"),
                    "ticker": pd.Series(np.asarray(setting.tickers)[n], dtype="str"),
                    "session": session.astype("datetime64[us]"),
                    "weight": weight[t, n].astype(np.float64),
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def _lines(content: dict[str, Any]) -> Iterator[str]:
    costs = content["costs"]
    yield (
        f"backtest of {content['model']}: {content['first']} to {content['last']}, fills at the next open, "
        f"{costs['half_spread_bps'] + costs['commission_bps']:g} bps a side"
    )
    head = ("portfolio", "return", "vol", "5-95%", "Sharpe", "max fall", "cost/y")
    yield "{:<14} {:>8} {:>7} {:>11} {:>22} {:>9} {:>7}".format(*head)
    for row in content["strategies"]:
        if row["scope"] == PORTFOLIO:
            yield _line(row)
    yield content["luck"]["sentence"]


def _line(row: dict[str, Any]) -> str:
    def shown(name: str, form: str) -> str:
        return "-" if row[name] is None else format(row[name], form)

    band = f"{shown('realised_vol_p05', '.0%')}-{shown('realised_vol_p95', '.0%')}"
    sharpe = f"{shown('sharpe', '.2f')} [{shown('sharpe_low', '.2f')}, {shown('sharpe_high', '.2f')}]"
    return (
        f"{row['strategy']:<14} {shown('annual_return', '+8.1%')} {shown('annual_volatility', '7.1%')} "
        f"{band:>11} {sharpe:>22} {shown('max_drawdown', '9.1%')} {shown('cost_per_year_percent', '6.2f')}%"
    )
