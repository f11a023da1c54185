"""Forecast quality beside every baseline, int8 beside float, direction and text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import Chart, Key
from pipeline.reporting.formats import (
    OUTPUT_LABELS,
    UNKNOWN,
    Table,
    fraction,
    inside,
    interval,
    known,
    model_label,
    number,
    p_value,
    percent,
    sessions,
)
from pipeline.reporting.inputs import Inputs

MEASURES = {
    "pinball": "Pinball loss",
    "qlike": "QLIKE",
    "brier": "Brier score",
    "accuracy": "Accuracy",
}
DRAWN = ("pinball", "qlike")
_VERDICT_COLOURS = {"better": charts.ACCENT, "worse": charts.BAD}


def forest_chart(inputs: Inputs) -> Chart | None:
    """Gain over each baseline with its interval: one panel per (measure, baseline), one row per horizon and model."""
    gains = [gain for gain in inputs.evidence["gains"] if gain["measure"] in DRAWN and known(gain["gain_percent"])]
    if not gains:
        return None
    panels = sorted({(g["measure"], g["against"]) for g in gains}, key=lambda p: (p[1] != "ewma", p[1], DRAWN.index(p[0])))
    lines = sorted({(g["horizon"], g["model"]) for g in gains}, key=lambda r: (r[0], r[1] != inputs.model, r[1]))

    def paint(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else 2
        grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False)
        for axes in grid.ravel()[len(panels) :]:
            axes.set_visible(False)
        for axes, (measure, against) in zip(grid.ravel(), panels, strict=False):
            shown = [g for g in gains if (g["measure"], g["against"]) == (measure, against)]
            _forest_panel(axes, shown, lines)
            axes.set_title(f"{MEASURES[measure]}, against {inside(model_label(against))}")

    key = Key()
    for colour, text in ((charts.ACCENT, "better"), (charts.GREY, "not distinguishable"), (charts.BAD, "worse")):
        key.add(colour, text, "dot")
    height = 44 + 24 * len(lines)
    heights = (height * -(-len(panels) // 2), height * len(panels))
    title = _forest_title(inputs)
    note = (
        "Loss saved, in percent of the baseline's loss; right of zero is better. Bars: "
        f"{percent(inputs.evidence['confidence'] * 100, 0, sign=False)} interval, bootstrap over blocks of sessions."
    )
    return charts.draw("forest", title, f"Forest plot of gains over the baselines. {title}", paint, heights, key, note)


def _forest_panel(axes: Any, gains: list[dict[str, Any]], lines: list[tuple[int, str]]) -> None:
    axes.axvline(0, color=charts.SOFT, lw=1)
    for gain in gains:
        y = lines.index((gain["horizon"], gain["model"]))
        colour = _VERDICT_COLOURS.get(gain["verdict"], charts.GREY)
        if known(gain["low"]) and known(gain["high"]):
            axes.plot([gain["low"], gain["high"]], [y, y], color=colour, lw=3, alpha=0.5, solid_capstyle="round")
        axes.plot(gain["gain_percent"], y, "o", color=colour, ms=6.5, mew=0)
    axes.set_yticks(range(len(lines)), [f"{model_label(model)}, {horizon}" for horizon, model in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    charts.percent_axis(axes, 0, sign=True, axis="x", scale=1)
    axes.locator_params(axis="x", nbins=5, integer=True)


def _forest_title(inputs: Inputs) -> str:
    gate = inputs.evidence["gate"]
    shown = [
        g for g in inputs.evidence["gains"]
        if g["measure"] in DRAWN and g["model"] == gate["model"] and g["against"] == gate["against"]
    ]  # fmt: skip
    counts = {v: sum(g["verdict"] == v for g in shown) for v in ("better", "worse")}
    text = (
        f"{model_label(gate['model'])} beats {inside(model_label(gate['against']))} in {counts['better']} of "
        f"{len(shown)} comparisons of quantiles and variance"
    )
    return text + (f" and loses {counts['worse']}." if counts["worse"] else ", and loses none.")


def losses_table(inputs: Inputs) -> Table:
    """Mean losses, one (horizon, model) a row."""
    ranked = sorted(inputs.evidence["losses"], key=lambda r: r["horizon"])
    rows = tuple(
        (
            sessions(r["horizon"]), model_label(r["model"]), number(_scaled(r["pinball"], 1e4), 3), number(r["qlike"], 4),
            fraction(r["coverage80"]), number(r["brier"], 4), fraction(r["accuracy"]), number(r["n"], 0),
        )
        for r in ranked
    )  # fmt: skip
    return Table(
        "Mean losses, out of sample; less is better, coverage should be 80%.",
        ("Horizon", "Model", "Pinball, bps", "QLIKE", "80% band holds", "Brier", "Accuracy", "Forecasts"),
        rows, left=2, strong=tuple(i for i, r in enumerate(ranked) if r["model"] == inputs.model),
    )  # fmt: skip


def gains_table(gains: list[dict[str, Any]], caption: str, what: str = "gain") -> Table:
    """Gains with intervals, p-values and verdicts in words."""
    rows = []
    for g in gains:
        measure = MEASURES.get(g["measure"], g["measure"])
        p = p_value(g.get("p_value"))
        rows.append((
            measure, sessions(g["horizon"]), f"{model_label(g['model'])} against {inside(model_label(g['against']))}",
            percent(g["gain_percent"], 2), interval(g["low"], g["high"], 2), p, str(g["verdict"]),
        ))  # fmt: skip
    head = ("Measure", "Horizon", "Comparison", what.capitalize(), "Interval", "p", "Verdict")
    return Table(caption, head, tuple(rows), left=3)


def all_gains(inputs: Inputs) -> Table:
    """Every comparison of the evidence."""
    order = list(MEASURES)
    ranked = sorted(
        inputs.evidence["gains"],
        key=lambda g: (order.index(g["measure"]) if g["measure"] in order else 9, g["against"], g["horizon"], g["model"]),
    )
    level = percent(inputs.evidence["confidence"] * 100, 0, sign=False)
    return gains_table(ranked, f"Every comparison; {level} intervals over blocks of sessions.")


def direction_table(inputs: Inputs) -> Table:
    """Accuracy of the sign with its interval: one model a row, one horizon a column."""

    def cell(r: dict[str, Any]) -> str:
        return f"{fraction(r['accuracy'])} {interval(_scaled(r['low'], 100), _scaled(r['high'], 100), sign=False)}"

    return _pivot("How often the sign of the return was right.", "Model", "model", model_label,
                  inputs.evidence["direction"]["rows"], cell)  # fmt: skip


def ablation_table(inputs: Inputs) -> Table | None:
    """What the text features add, if it was measured."""
    rows = inputs.evidence["text_ablation"].get("rows") or []
    return gains_table(rows, "With text features against without.") if rows else None


def equality_table(inputs: Inputs) -> Table:
    """The verdict on each output: one output a row, one horizon a column."""

    def cell(r: dict[str, Any]) -> str:
        by = f"differs by at most {_exponent(r['max_difference'])}" if r.get("rule") == "max_difference" else ""
        return f"{by or 'R² ' + number(r['r2'], 6)}, {'equal' if r['passed'] else 'NOT equal'}"

    return _pivot(
        "Centred R² of every output; one that hardly moves is judged by its largest difference.", "Output", "output",
        lambda name: OUTPUT_LABELS.get(name, name), inputs.equality["outputs"], cell,
    )  # fmt: skip


def differences_table(inputs: Inputs) -> Table:
    """Each output of the int8 graph against float."""
    rows = tuple(
        (
            OUTPUT_LABELS.get(r["output"], str(r["output"])), sessions(r["horizon"]),
            number(r["r2"], 6), _exponent(r["max_difference"]),
            "largest difference" if r.get("rule") == "max_difference" else "centred R²",
            "equal" if r["passed"] else "NOT equal",
        )
        for r in inputs.equality["outputs"]
    )  # fmt: skip
    return Table(
        "Every output in z units, with both figures.",
        ("Output", "Horizon", "Centred R²", "Largest difference", "Judged by", "Verdict"), rows, left=2,
    )  # fmt: skip


def pinball_table(inputs: Inputs) -> Table | None:
    """What quantizing costs in the loss that matters."""
    rows = tuple(
        (sessions(r["horizon"]), number(_scaled(r["float"], 1e4), 4), number(_scaled(r["int8"], 1e4), 4),
         percent(r["gain_percent"], 3), interval(r["low"], r["high"], 3))
        for r in inputs.equality.get("pinball", [])
    )  # fmt: skip
    head = ("Horizon", "Float, bps", "Int8, bps", "Int8 gain", "Interval")
    return Table("Pinball loss of the float and the int8 forecasts.", head, rows) if rows else None


def equality_chart(inputs: Inputs) -> Chart | None:
    """Histogram of the relative difference of sigma, int8 against float, over all out-of-sample forecasts."""
    relative = _differences(inputs.forecasts, inputs.model)
    if len(relative) < 20:
        return None
    bound = float(np.quantile(np.abs(relative), 0.99))
    if bound == 0.0:
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        limit = float(np.quantile(np.abs(relative), 0.999))
        counts, edges = np.histogram(relative.clip(-limit, limit), bins=31 if narrow else 61, range=(-limit, limit))
        axes.bar(edges[:-1], counts / len(relative), np.diff(edges) * 0.92, align="edge", color=charts.ACCENT)
        charts.percent_axis(axes, 0)
        digits = int(np.clip(np.ceil(-np.log10(limit)), 1, 5))
        charts.percent_axis(axes, digits, sign=True, axis="x", scale=1)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("share of forecasts")
        axes.set_xlabel("int8 volatility against float")

    title = f"99% of the int8 volatility forecasts are within {percent(bound, _digits(bound), sign=False)} of float"
    alt = f"Histogram of relative differences. {title}."
    note = f"Relative difference of forecast volatility over {len(relative):,} out-of-sample forecasts."
    return charts.draw("equality", title + ".", alt, paint, (250, 240), None, note)


def _pivot(
    caption: str, corner: str, by: str, label: Callable[[str], str], rows: list[dict[str, Any]],
    cell: Callable[[dict[str, Any]], str],
) -> Table:  # fmt: skip
    horizons = sorted({r["horizon"] for r in rows})
    names = list(dict.fromkeys(str(r[by]) for r in rows))
    cells = {(str(r[by]), r["horizon"]): cell(r) for r in rows}
    lines = tuple((label(name), *(cells.get((name, h), UNKNOWN) for h in horizons)) for name in names)
    return Table(caption, (corner, *(sessions(h) for h in horizons)), lines)


def _differences(forecasts: pd.DataFrame, model: str) -> Any:
    """Relative difference of sigma in percent, int8 against `model`, where both are known."""
    keys = ["fold", "ticker", "session", "horizon"]
    pair = forecasts.loc[forecasts["model"] == model, [*keys, "sigma"]].merge(
        forecasts.loc[forecasts["model"] == "int8", [*keys, "sigma"]], on=keys, suffixes=("", "_int8")
    )
    pair = pair.dropna()
    return (pair["sigma_int8"] / pair["sigma"] - 1).to_numpy() * 100


def _digits(value: float) -> int:
    return int(np.clip(np.ceil(-np.log10(value)) + 1, 1, 8))


def _exponent(value: Any) -> str:
    return f"{value:.1e}".replace("-", "\N{MINUS SIGN}") if known(value) else UNKNOWN


def _scaled(value: Any, factor: float) -> Any:
    return value * factor if known(value) else None
