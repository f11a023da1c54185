"""What the forecast is for: volatility targeting against buy-and-hold and constant exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.reporting import charts
from pipeline.reporting.charts import STRATEGY_COLOURS, Chart, Key
from pipeline.reporting.formats import (
    STRATEGY_LABELS,
    Table,
    drawdown,
    fraction,
    inside,
    interval,
    known,
    number,
    percent,
)
from pipeline.reporting.inputs import Inputs

ORDER = ("vol_target", "ewma_target", "constant", "buy_and_hold")
PORTFOLIO = "portfolio"
DRAWN_TICKERS = 24


def row_of(inputs: Inputs, strategy: str, scope: str = PORTFOLIO) -> dict[str, Any]:
    """The figures of one strategy and scope; empty when it was not run."""
    rows = (row for row in inputs.backtest["strategies"] if row["strategy"] == strategy and row["scope"] == scope)
    return next(rows, {})


def label(inputs: Inputs, strategy: str) -> str:
    """The name the backtest gave the strategy, else ours."""
    return str(row_of(inputs, strategy).get("label") or STRATEGY_LABELS.get(strategy, strategy))


def strategy_charts(inputs: Inputs) -> list[Chart]:
    """Wealth, rolling volatility and drawdown of the portfolio; ranges per ticker."""
    drawn = [wealth_chart(inputs), volatility_chart(inputs), drawdown_chart(inputs)]
    per_ticker = tickers_chart(inputs)
    return [*drawn, per_ticker] if per_ticker else drawn


def wealth_chart(inputs: Inputs) -> Chart:
    """Growth of one unit, log scale."""
    lines = _lines(inputs)
    ends = {name: _last(wealth) for name, (wealth, _) in lines.items()}
    title = f"One unit became {number(ends.get('vol_target'))} volatility-targeted"
    if "buy_and_hold" in ends:
        title += f", {number(ends['buy_and_hold'])} bought and held"

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for name, (wealth, _) in reversed(lines.items()):
            _line(axes, inputs, wealth, name)
        charts.log_axis(axes, np.concatenate([wealth for wealth, _ in lines.values()]))
        charts.shade_year(axes, inputs.curves.sessions)
        charts.time_axis(axes, narrow)

    alt = "Line chart, log scale, of the value of one unit invested: " + "; ".join(
        f"{label(inputs, name)} ends at {number(end)}" for name, end in ends.items()
    )
    note = "Value of one unit, log scale, after costs. Portfolio of equal sleeves, one a ticker."
    return charts.draw("wealth", title + ".", alt, paint, (340, 300), _key(inputs, lines), note)


def volatility_chart(inputs: Inputs) -> Chart:
    """Rolling realised volatility with the band in which the targeted one spent nine sessions of ten."""
    lines = _lines(inputs)
    band, constant = row_of(inputs, "vol_target"), row_of(inputs, "constant")
    title = f"Nine sessions in ten, the targeted portfolio's volatility stayed in {_band(band)}"
    if constant:
        title += f"; at constant exposure in {_band(constant)}"
    target = inputs.backtest["target_volatility"]

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        if known(band.get("realised_vol_p05")) and known(band.get("realised_vol_p95")):
            axes.axhspan(
                band["realised_vol_p05"], band["realised_vol_p95"], color=charts.ACCENT, alpha=0.13, lw=0, zorder=0
            )
        for name, (_, vol) in reversed(lines.items()):
            _line(axes, inputs, vol, name)
        axes.axhline(target, color=charts.INK, lw=1, ls=(0, (4, 3)))
        axes.set_ylim(bottom=0)
        charts.percent_axis(axes)
        charts.shade_year(axes, inputs.curves.sessions)
        charts.time_axis(axes, narrow)

    key = _key(inputs, lines)
    key.add(charts.ACCENT, "5–95% range, volatility target", "faint")  # noqa: RUF001
    key.add(charts.INK, f"target of each ticker, {fraction(target, 0)}", "dash")
    alt = f"Line chart of trailing annualised volatility. {title}."
    note = (
        "Annualised volatility of trailing returns. The target holds for each ticker's sleeve; "
        "a portfolio of several sleeves moves less than one."
    )
    return charts.draw("volatility", title + ".", alt, paint, (320, 290), key, note)


def drawdown_chart(inputs: Inputs) -> Chart:
    """Distance below the highest value so far."""
    lines = _lines(inputs)
    falls = {name: _fall(wealth) for name, (wealth, _) in lines.items()}
    worst = {name: drawdown(row_of(inputs, name).get("max_drawdown")) for name in lines}
    title = "Largest fall: " + ", ".join(f"{inside(label(inputs, name))} {fall}" for name, fall in worst.items())

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for name, fall in reversed(falls.items()):
            _line(axes, inputs, fall, name)
        if "vol_target" in falls:
            shown, days = _thinned(falls["vol_target"], inputs.curves.sessions)
            axes.fill_between(days, shown, 0, color=charts.ACCENT, alpha=0.13, lw=0)  # type: ignore[arg-type]
        axes.set_ylim(top=0)
        charts.percent_axis(axes)
        charts.shade_year(axes, inputs.curves.sessions)
        charts.time_axis(axes, narrow)

    note = "Value relative to its highest so far."
    alt = f"Line chart of drawdown. {title}."
    return charts.draw("drawdown", title + ".", alt, paint, (300, 270), _key(inputs, lines), note)


def tickers_chart(inputs: Inputs) -> Chart | None:
    """Per ticker: the range of realised volatility and the largest fall, by strategy."""
    tickers = _tickers(inputs)[:DRAWN_TICKERS]
    names = [name for name in ("vol_target", "constant", "buy_and_hold") if any(row_of(inputs, name, t) for t in tickers)]
    if not tickers or "vol_target" not in names:
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        left, right = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
        for axes, what in ((left, "range"), (right, "fall")):
            for at, ticker in enumerate(tickers):
                for step, name in enumerate(names):
                    _mark(axes, row_of(inputs, name, ticker), at + (step - (len(names) - 1) / 2) * 0.22, name, what)
            axes.set_yticks(range(len(tickers)), tickers)
            axes.set_ylim(len(tickers) - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
            axes.set_title("Realised volatility, 5–95% range" if what == "range" else "Largest fall")  # noqa: RUF001
            charts.percent_axis(axes, axis="x")
        left.axvline(inputs.backtest["target_volatility"], color=charts.INK, lw=1, ls=(0, (4, 3)))
        left.set_xlim(left=0)

    better = [t for t in tickers if _narrower(inputs, t)]
    title = f"Ticker by ticker, the volatility range is narrower than at constant exposure for {len(better)} of {len(tickers)}"
    key = Key()
    for name in names:
        key.add(STRATEGY_COLOURS[name], label(inputs, name))
    note = "" if len(_tickers(inputs)) <= DRAWN_TICKERS else f"The first {DRAWN_TICKERS} tickers; all are in the table."
    height = 60 + 44 * len(tickers)
    return charts.draw("tickers", title + ".", f"Range chart. {title}.", paint, (height, 2 * height + 30), key, note)


def strategy_table(inputs: Inputs) -> Table:
    """The portfolio's figures, one strategy a row."""
    rows = [row for name in ORDER if (row := row_of(inputs, name))]
    costs = inputs.backtest["costs"]
    caption = (
        f"Portfolio, {inputs.backtest['first']} to {inputs.backtest['last']}. Fills at the next open; half-spread "
        f"{number(costs['half_spread_bps'], 1)} bps and commission {number(costs['commission_bps'], 1)} bps of value "
        f"traded. Intervals at {percent(inputs.evidence['confidence'] * 100, 0, sign=False)}."
    )
    return Table(caption, ("Strategy", *_HEAD), tuple((label(inputs, r["strategy"]), *_cells(r)) for r in rows), strong=(0,))


def ticker_table(inputs: Inputs) -> Table | None:
    """The same figures for every ticker's sleeve."""
    rows = [
        (ticker, label(inputs, name), *_cells(row))
        for ticker in _tickers(inputs)
        for name in ORDER
        if (row := row_of(inputs, name, ticker))
    ]
    head = ("Ticker", "Strategy", *_HEAD)
    return Table("Each ticker on its own, same rules.", head, tuple(rows), left=2) if rows else None


_HEAD = (
    "Return a year", "Volatility", "5–95% of the time", "Sharpe", "Sharpe, interval", "Largest fall",  # noqa: RUF001
    "Turnover a year", "Cost a year", "Break-even cost",
)  # fmt: skip


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    breakeven = row.get("breakeven_bps")
    return (
        fraction(row.get("annual_return"), sign=True),
        fraction(row.get("annual_volatility")),
        _band(row),
        number(row.get("sharpe"), 2, sign=True),
        interval(row.get("sharpe_low"), row.get("sharpe_high"), 2, unit=""),
        drawdown(row.get("max_drawdown")),
        number(row.get("turnover_per_year"), 1) + ("×" if known(row.get("turnover_per_year")) else ""),  # noqa: RUF001
        percent(row.get("cost_per_year_percent"), 2, sign=False),
        number(breakeven, 0) + (" bps" if known(breakeven) else ""),
    )


def _band(row: dict[str, Any]) -> str:
    low, high = row.get("realised_vol_p05"), row.get("realised_vol_p95")
    return f"{fraction(low, 0)} to {fraction(high, 0)}" if known(low) and known(high) else "an unknown range"


def _tickers(inputs: Inputs) -> list[str]:
    return sorted({str(row["scope"]) for row in inputs.backtest["strategies"]} - {PORTFOLIO})


def _narrower(inputs: Inputs, ticker: str) -> bool:
    def width(name: str) -> float:
        row = row_of(inputs, name, ticker)
        low, high = row.get("realised_vol_p05"), row.get("realised_vol_p95")
        return float(high - low) if known(low) and known(high) else float("nan")

    return width("vol_target") < width("constant")


def _mark(axes: Any, row: dict[str, Any], y: float, name: str, what: str) -> None:
    colour = STRATEGY_COLOURS[name]
    low, high, fall = row.get("realised_vol_p05"), row.get("realised_vol_p95"), row.get("max_drawdown")
    if what == "range" and known(low) and known(high):
        axes.plot([low, high], [y, y], color=colour, lw=4, solid_capstyle="round")
    if what == "fall" and known(fall):
        axes.plot([-abs(fall), 0], [y, y], color=colour, lw=4, solid_capstyle="butt")


def _lines(inputs: Inputs) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    found = {name: inputs.curves.find(name, PORTFOLIO) for name in ORDER}
    return {name: curve for name, curve in found.items() if curve is not None}


def _key(inputs: Inputs, lines: dict[str, Any]) -> Key:
    key = Key()
    for name in lines:
        key.add(STRATEGY_COLOURS[name], label(inputs, name))
    return key


def _line(axes: Any, inputs: Inputs, values: NDArray[np.float64], name: str) -> None:
    shown, days = _thinned(values, inputs.curves.sessions)
    axes.plot(days, shown, color=STRATEGY_COLOURS[name], lw=2.0 if name == "vol_target" else 1.4)


def _thinned(values: NDArray[np.float64], days: NDArray[np.datetime64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most about 1,500 points, the last one kept."""
    step = max(1, len(days) // 1500)
    keep = np.unique(np.append(np.arange(0, len(days), step), len(days) - 1))
    return values[keep], days[keep]


def _last(wealth: NDArray[np.float64]) -> float:
    finite = wealth[np.isfinite(wealth)]
    return float(finite[-1]) if len(finite) else float("nan")


def _fall(wealth: NDArray[np.float64]) -> NDArray[np.float64]:
    return wealth / np.fmax.accumulate(wealth) - 1
