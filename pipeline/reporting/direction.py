"""Direction: how often the sign was right, how good the chances to rise are, and whether they order the tickers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import HORIZON_COLOURS, Chart
from pipeline.reporting.formats import (
    UNKNOWN,
    Table,
    fraction,
    inside,
    interval,
    known,
    listed,
    model_label,
    number,
    p_value,
    percent,
    pivot,
    scaled,
    sessions,
)
from pipeline.reporting.inputs import Inputs

NAIVE = ("always_up", "market_momentum")
MEASURES = {"error": "Wrong signs", "brier": "Brier score"}


def direction_table(inputs: Inputs) -> Table:
    """Accuracy of the sign with its interval: one model a row, one horizon a column, the naive ones first."""

    def cell(r: dict[str, Any]) -> str:
        span = interval(scaled(r["low"], 100), scaled(r["high"], 100), sign=False)
        return f"{fraction(r['accuracy'])} {span}"

    caption = "How often the sign of the return was right."
    return pivot(caption, "Model", "model", model_label, _ranked(inputs), cell)


def chances_table(inputs: Inputs) -> Table:
    """Brier score of the chance to rise, and its rank correlation with returns."""

    def cell(r: dict[str, Any]) -> str:
        if not known(r["rank"]):
            return f"{number(r['brier'], 5)}; {UNKNOWN}"
        return f"{number(r['brier'], 5)}; {number(r['rank'], 3, True)} {interval(r['rank_low'], r['rank_high'], 3, '')}"

    return pivot(
        "Brier score of the chance to rise (less is better); then its rank correlation with the return over the "
        "tickers of a session, where the model orders them and there are five at least.",
        "Model",
        "model",
        model_label,
        _ranked(inputs),
        cell,
    )


def naive_gains_table(inputs: Inputs) -> Table | None:
    """What the candidate saves against each naive direction."""
    rows = tuple(
        (
            MEASURES[g["measure"]],
            sessions(g["horizon"]),
            f"{model_label(g['model'])} against {inside(model_label(g['against']))}",
            percent(g["gain_percent"], 2),
            interval(g["low"], g["high"], 2),
            p_value(g["p_value"]),
            str(g["verdict"]),
        )
        for g in inputs.evidence["direction"].get("gains", [])
    )
    head = ("Measure", "Horizon", "Comparison", "Saved", "Interval", "p", "Verdict")
    return Table("Saved against the naive directions.", head, rows, left=3) if rows else None


def parts_table(inputs: Inputs) -> Table | None:
    """The Brier score of the candidate taken apart."""
    rows = tuple(
        (
            sessions(r["horizon"]),
            *(number(r[name], 5) for name in ("score", "reliability", "resolution", "uncertainty", "within")),
        )
        for r in inputs.evidence["reliability"]
    )
    label = inside(model_label(inputs.evidence["gate"]["model"]))
    return Table(
        f"Brier score of the {label} = reliability (how far chances are from what came, 0 is best) less resolution "
        "(how far it tells days apart, more is better) plus uncertainty (the score of always saying the share that "
        "rose, known afterwards) plus what binning leaves.",
        ("Horizon", "Brier score", "Reliability", "Resolution", "Uncertainty", "Within bins"),
        rows,
    )


def reliability_chart(inputs: Inputs) -> Chart | None:
    """Chance to rise as said, and the share that rose: one panel a horizon."""
    rows = [row for row in inputs.evidence["reliability"] if row["bins"]]
    if not rows:
        return None
    every = [each[k] for row in rows for each in row["bins"] for k in ("said", "came")]
    said = [each["said"] for row in rows for each in row["bins"]]
    low, high = min(said) - 0.01, max(said) + 0.01
    bottom, top = min(every) - 0.04, max(every) + 0.04

    def paint(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(
            *((len(rows), 1) if narrow else (1, len(rows))), squeeze=False, sharex=narrow, sharey=True
        )
        for at, (axes, row) in enumerate(zip(grid.ravel(), rows, strict=True)):
            colour = HORIZON_COLOURS[at % len(HORIZON_COLOURS)]
            axes.plot([low, high], [low, high], color=charts.SOFT, lw=1, ls=(0, (4, 3)))
            x = [each["said"] for each in row["bins"]]
            ends = np.array([[each["low"], each["high"]] for each in row["bins"]], dtype=float)
            axes.vlines(x, *np.clip(ends, bottom, top).T, color=colour, lw=2, alpha=0.45)
            axes.plot(x, [each["came"] for each in row["bins"]], "o", color=colour, ms=5.5, mew=0)
            axes.set_title(f"{sessions(row['horizon'])} ahead")
            axes.set_xlim(low, high)
            axes.set_ylim(bottom, top)
            charts.number_axis(axes, axis="x", scale=100, unit="%", ticks=5)
            charts.number_axis(axes, scale=100, unit="%", ticks=6)
            if at == len(rows) - 1 or not narrow:
                axes.set_xlabel("chance to rise, as said")
            if at == 0 or narrow:
                axes.set_ylabel("share that rose")

    title = reliability_sentence(inputs)
    note = (
        f"Out of sample, all tickers; ten bins of equally many forecasts of the "
        f"{inside(model_label(inputs.evidence['gate']['model']))}. Bars: intervals clustered by session. On the dashed "
        "line chances are what comes."
    )
    alt = f"Reliability diagram of the chance to rise. {title}"
    return charts.draw("reliability", title, alt, paint, (300, 240 * len(rows)), None, note)


def reliability_sentence(inputs: Inputs) -> str:
    """At how many horizons chances score better than the share that rose."""
    rows = inputs.evidence["reliability"]
    better = [sessions(row["horizon"]) for row in rows if row["score"] < row["uncertainty"]]
    said = [each["said"] for row in rows for each in row["bins"]]
    label, score = inside(model_label(inputs.evidence["gate"]["model"])), "always saying the share that rose"
    text = f"The {label} says chances to rise from {fraction(min(said), 0)} to {fraction(max(said), 0)}"
    if not better:
        return f"{text}; they score no better than {score}, known afterwards."
    return f"{text}; they score better than {score}, known afterwards, at {listed(better)}."


def _ranked(inputs: Inputs) -> list[dict[str, Any]]:
    rows = inputs.evidence["direction"]["rows"]
    first = inputs.evidence["gate"]["model"]
    return sorted(rows, key=lambda r: (r["model"] not in NAIVE, r["model"] != first))
