"""What the forecast is for: volatility targeting against buy-and-hold and constant exposure."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.reporting.formats import (
    STRATEGY_LABELS,
    UNKNOWN,
    Table,
    drawdown,
    fraction,
    interval,
    known,
    listed,
    number,
    percent,
)
from pipeline.reporting.inputs import Inputs

ORDER = ("vol_target", "ewma_target", "constant", "buy_and_hold")
PORTFOLIO = "portfolio"


def row_of(inputs: Inputs, strategy: str, scope: str = PORTFOLIO) -> dict[str, Any]:
    """The figures of one strategy and scope; empty when it was not run."""
    rows = (row for row in inputs.backtest["strategies"] if row["strategy"] == strategy and row["scope"] == scope)
    return next(rows, {})


def label(inputs: Inputs, strategy: str) -> str:
    """The name the backtest gave the strategy, else ours."""
    return str(row_of(inputs, strategy).get("label") or STRATEGY_LABELS.get(strategy, strategy))


def strategy_table(inputs: Inputs) -> Table:
    """The portfolio's figures, one strategy a row."""
    rows = [row for name in ORDER if (row := row_of(inputs, name))]
    costs = inputs.backtest["costs"]
    caption = (
        f"Portfolio, {inputs.backtest['first']} to {inputs.backtest['last']}. Fills at the next open; "
        f"half-spread {number(costs['half_spread_bps'], 1)} bps and commission "
        f"{number(costs['commission_bps'], 1)} bps of value traded. "
        f"Intervals at {fraction(inputs.evidence['confidence'], 0)}."
    )
    if inputs.backtest.get("breakeven_definition"):
        caption += f" Break-even: {inputs.backtest['breakeven_definition'].replace('null', 'a dash')}."
    luck = inputs.backtest.get("luck")
    head: tuple[str, ...] = ("Strategy", *_HEAD)
    cells: list[tuple[str, ...]] = [(label(inputs, r["strategy"]), *_cells(r)) for r in rows]
    if luck:
        caption += f" {luck['meaning']} {luck_sentence(luck)}"
        head += ("Deflated", "Gain, deflated")
        cells = [(*row, *_deflated(luck, r["strategy"])) for row, r in zip(cells, rows, strict=True)]
    return Table(caption, head, tuple(cells), strong=(0,))


def luck_sentence(luck: dict[str, Any]) -> str:
    """What was counted, the spread of the trials that was assumed, and the backtest's own sentence."""
    kinds = {"cli": "trained by hand", "flow": "trained by the flow", "tune": "tried by a search"}
    counted = [f"{number(n, 0)} {kinds[kind]}" for kind, n in luck["forecaster_trials"].items()]
    counted += [f"{number(luck['further_rules'], 0)} by another rule of the backtest"] if luck["further_rules"] else []
    counted += [f"{number(luck['agents'], 0)} trading agents"] if luck.get("agents") else []
    own = next((row["sharpe"] for row in luck["strategies"] if row["sharpe"]), None)
    spread = f"; their Sharpe ratios are taken to spread as those of {own['deviation_of']} do" if own else ""
    return f"Trials in the ledger: {listed(counted)}{spread}. {luck['sentence']}"


def _deflated(luck: dict[str, Any], strategy: str) -> tuple[str, str]:
    """The chances that the Sharpe ratio, and the gain over constant exposure, are more than luck."""
    row: dict[str, Any] = next((each for each in luck["strategies"] if each["strategy"] == strategy), {})
    sharpe, gain = (fraction((row.get(part) or {}).get("probability"), 0) for part in ("sharpe", "gain"))
    return sharpe, gain


def ticker_table(inputs: Inputs) -> Table | None:
    """The same figures for every ticker's sleeve."""
    rows = [
        (ticker, label(inputs, name), *_cells(row))
        for ticker in tickers_of(inputs)
        for name in ORDER
        if (row := row_of(inputs, name, ticker))
    ]
    head = ("Ticker", "Strategy", *_HEAD)
    return Table("Each ticker on its own, same rules.", head, tuple(rows), left=2) if rows else None


_HEAD = (
    "Return a year",
    "Volatility",
    "Nine sessions in ten",
    "Sharpe",
    "Sharpe against constant",
    "Largest fall",
    "Turnover a year",
    "Cost a year",
    "Break-even cost",
)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    breakeven = row.get("breakeven_bps")
    return (
        fraction(row.get("annual_return"), sign=True),
        fraction(row.get("annual_volatility")),
        shown_range(row),
        _with_interval(row, "sharpe"),
        UNKNOWN if row["strategy"] == "constant" else _with_interval(row, "sharpe_gain"),
        drawdown(row.get("max_drawdown")),
        number(row.get("turnover_per_year"), 1) + ("×" if known(row.get("turnover_per_year")) else ""),  # noqa: RUF001
        percent(row.get("cost_per_year_percent"), 2, sign=False),
        number(breakeven, 0) + (" bps" if known(breakeven) else ""),
    )


def _with_interval(row: dict[str, Any], name: str) -> str:
    span = interval(row.get(f"{name}_low"), row.get(f"{name}_high"), 2, unit="")
    return f"{number(row.get(name), 2, sign=True)} {span}" if known(row.get(name)) else UNKNOWN


def range_of(row: dict[str, Any]) -> tuple[float, float] | None:
    """The 5% and 95% points of the rolling realised volatility, if known."""
    low, high = row.get("realised_vol_p05"), row.get("realised_vol_p95")
    return (low, high) if known(low) and known(high) else None


def shown_range(row: dict[str, Any]) -> str:
    """`a to b`."""
    span = range_of(row)
    return f"{fraction(span[0], 0)} to {fraction(span[1], 0)}" if span else "an unknown range"


def typical_range(inputs: Inputs, strategy: str) -> str:
    """`a to b`: medians over the tickers of the ends of the range of realised volatility."""
    spans = [span for t in tickers_of(inputs) if (span := range_of(row_of(inputs, strategy, t)))]
    if not spans:
        return "an unknown range"
    low, high = np.median(np.array(spans), axis=0)
    return f"{fraction(float(low), 0)} to {fraction(float(high), 0)}"


def tickers_of(inputs: Inputs) -> list[str]:
    """Every ticker with a sleeve of its own."""
    return sorted({str(row["scope"]) for row in inputs.backtest["strategies"]} - {PORTFOLIO})


def narrower(inputs: Inputs, ticker: str) -> bool:
    """Whether the targeted volatility ranges less widely than that of constant exposure."""
    spans = [range_of(row_of(inputs, name, ticker)) for name in ("vol_target", "constant")]
    widths = [span[1] - span[0] for span in spans if span]
    return len(widths) == 2 and widths[0] < widths[1]
