"""Pictures of volatility targeting beside constant exposure and buy-and-hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.reporting import charts
from pipeline.reporting.charts import STRATEGY_COLOURS, Chart, Key
from pipeline.reporting.formats import drawdown, fraction, known, number
from pipeline.reporting.inputs import Inputs
from pipeline.reporting.strategy import (
    ORDER,
    PORTFOLIO,
    label,
    narrower,
    range_of,
    row_of,
    shown_range,
    tickers_of,
    typical_range,
)

DRAWN_TICKERS = 24
DRAWN_PANELS = 9
COMPARED = ("vol_target", "constant", "buy_and_hold")
_SAID = {
    "vol_target": "sized by the forecast",
    "ewma_target": "sized by EWMA",
    "constant": "at constant exposure",
    "buy_and_hold": "bought and held",
}


def strategy_charts(inputs: Inputs) -> list[Chart]:
    """Wealth, rolling volatility and drawdown of the portfolio; then ticker by ticker."""
    drawn = (
        wealth_chart(inputs),
        volatility_chart(inputs),
        drawdown_chart(inputs),
        panels_chart(inputs),
        ranges_chart(inputs),
    )
    return [chart for chart in drawn if chart is not None]


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
    title = f"Nine sessions in ten, the targeted portfolio's volatility stayed in {shown_range(band)}"
    if constant:
        title += f"; at constant exposure in {shown_range(constant)}"
    target, span = inputs.backtest["target_volatility"], range_of(band)

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        if span is not None:
            axes.axhspan(*span, color=charts.ACCENT, alpha=0.13, lw=0, zorder=0)
        for name, (_, vol) in reversed(lines.items()):
            _line(axes, inputs, vol, name)
        axes.axhline(target, color=charts.INK, lw=1, ls=(0, (4, 3)))
        axes.set_ylim(bottom=0)
        charts.percent_axis(axes)
        charts.shade_year(axes, inputs.curves.sessions)
        charts.time_axis(axes, narrow)

    key = _key(inputs, lines)
    key.add(charts.ACCENT, "5 to 95% range, volatility target", "faint")
    key.add(charts.INK, f"target of each ticker, {fraction(target, 0)}", "dash")
    alt = f"Line chart of trailing annualised volatility. {title}."
    note = (
        f"{_rolling(inputs)}. The target holds for each ticker's sleeve; "
        "a portfolio of several sleeves moves less than one."
    )
    return charts.draw("volatility", title + ".", alt, paint, (320, 290), key, note)


def drawdown_chart(inputs: Inputs) -> Chart:
    """Distance below the highest value so far."""
    lines = _lines(inputs)
    falls = {name: _fall(wealth) for name, (wealth, _) in lines.items()}
    worst = [f"{drawdown(row_of(inputs, name).get('max_drawdown'))} {_SAID[name]}" for name in lines]
    title = "Largest fall: " + ", ".join(worst)

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for name, fall in reversed(falls.items()):
            _line(axes, inputs, fall, name)
        if "vol_target" in falls:
            shown, days = _thinned(falls["vol_target"], inputs.curves.sessions)
            axes.fill_between(days, shown, 0, color=charts.ACCENT, alpha=0.13, lw=0)
        axes.set_ylim(top=0)
        charts.percent_axis(axes)
        charts.shade_year(axes, inputs.curves.sessions)
        charts.time_axis(axes, narrow)

    note = "Value relative to its highest so far."
    alt = f"Line chart of drawdown. {title}."
    return charts.draw("drawdown", title + ".", alt, paint, (300, 270), _key(inputs, lines), note)


def panels_chart(inputs: Inputs) -> Chart | None:
    """Rolling volatility of every ticker's sleeve, one small panel each."""
    tickers = [t for t in tickers_of(inputs) if inputs.curves.find("vol_target", t) is not None][:DRAWN_PANELS]
    if not tickers:
        return None
    target = inputs.backtest["target_volatility"]

    def paint(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else min(3, len(tickers))
        grid = figure.subplots(-(-len(tickers) // columns), columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes in grid[len(tickers) :]:
            axes.set_visible(False)
        for axes, ticker in zip(grid, tickers, strict=False):
            for name in reversed(COMPARED):
                curve = inputs.curves.find(name, ticker)
                if curve is not None:
                    _line(axes, inputs, curve[1], name, most=400)
            axes.axhline(target, color=charts.INK, lw=1, ls=(0, (4, 3)))
            axes.set_title(ticker)
            axes.set_ylim(bottom=0)
            charts.percent_axis(axes)
            charts.shade_year(axes, inputs.curves.sessions)
            charts.time_axis(axes, narrow=True)

    ranges = [typical_range(inputs, name) for name in ("vol_target", "constant")]
    title = f"Sized to {fraction(target, 0)}, the median ticker stayed within {ranges[0]} nine sessions in ten"
    title += f"; at constant exposure within {ranges[1]}"
    key = _key(inputs, dict.fromkeys(COMPARED))
    key.add(charts.INK, f"target, {fraction(target, 0)}", "dash")
    rows = -(-len(tickers) // min(3, len(tickers)))
    alt = f"Small line charts of trailing volatility, one for each ticker. {title}."
    note = f"{_rolling(inputs)} of each ticker's sleeve." + _only(inputs, DRAWN_PANELS)
    return charts.draw("panels", title + ".", alt, paint, (40 + 190 * rows, 30 + 150 * len(tickers)), key, note)


def ranges_chart(inputs: Inputs) -> Chart | None:
    """Per ticker: the range of realised volatility and the largest fall, by strategy."""
    tickers = tickers_of(inputs)[:DRAWN_TICKERS]
    if not any(row_of(inputs, "vol_target", ticker) for ticker in tickers):
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        if narrow:
            left, right = figure.subplots(2, 1)
        else:
            left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
        for axes, what in ((left, "range"), (right, "fall")):
            for at, ticker in enumerate(tickers):
                for step, name in enumerate(COMPARED):
                    _mark(axes, row_of(inputs, name, ticker), at + (step - 1) * 0.22, name, what)
            axes.set_yticks(range(len(tickers)), tickers)
            axes.set_ylim(len(tickers) - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
            axes.set_title("Realised volatility, 5 to 95% range" if what == "range" else "Largest fall")
            charts.percent_axis(axes, axis="x")
        left.axvline(inputs.backtest["target_volatility"], color=charts.INK, lw=1, ls=(0, (4, 3)))
        left.set_xlim(left=0)

    better = sum(narrower(inputs, ticker) for ticker in tickers)
    less = sum(_falls_less(inputs, ticker) for ticker in tickers)
    title = (
        f"Against constant exposure of equal volatility, the range is narrower for {better} of "
        f"{len(tickers)} tickers and the largest fall smaller for {less}"
    )
    height = 60 + 44 * len(tickers)
    heights = (height, 2 * height + 30)
    key = _key(inputs, dict.fromkeys(COMPARED))
    return charts.draw(
        "ranges",
        title + ".",
        f"Range chart. {title}.",
        paint,
        heights,
        key,
        _only(inputs, DRAWN_TICKERS).strip(),
    )


def _rolling(inputs: Inputs) -> str:
    return f"Annualised volatility of the last {inputs.backtest['rolling_sessions']} sessions"


def _only(inputs: Inputs, most: int) -> str:
    return f" The first {most} tickers; all are in the table." if len(tickers_of(inputs)) > most else ""


def _falls_less(inputs: Inputs, ticker: str) -> bool:
    falls = [row_of(inputs, name, ticker).get("max_drawdown") for name in ("vol_target", "constant")]
    known_falls = [abs(fall) for fall in falls if known(fall)]
    return len(known_falls) == 2 and known_falls[0] < known_falls[1]


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


def _line(axes: Any, inputs: Inputs, values: NDArray[np.float64], name: str, most: int = 1500) -> None:
    shown, days = _thinned(values, inputs.curves.sessions, most)
    axes.plot(days, shown, color=STRATEGY_COLOURS[name], lw=2.0 if name == "vol_target" else 1.4)


def _thinned(
    values: NDArray[np.float64], days: NDArray[np.datetime64], most: int = 1500
) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most about `most` points, the last one kept."""
    step = max(1, len(days) // most)
    keep = np.unique(np.append(np.arange(0, len(days), step), len(days) - 1))
    return values[keep], days[keep]


def _last(wealth: NDArray[np.float64]) -> float:
    finite = wealth[np.isfinite(wealth)]
    return float(finite[-1]) if len(finite) else float("nan")


def _fall(wealth: NDArray[np.float64]) -> NDArray[np.float64]:
    return wealth / np.fmax.accumulate(wealth) - 1
