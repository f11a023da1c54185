"""The candidate beside every baseline, measure by measure."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import Chart, Key
from pipeline.reporting.formats import (
    Table,
    fraction,
    inside,
    interval,
    known,
    model_label,
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
LEAST_SPAN = 0.1  # percent: a smaller gain is not enlarged into a finding
_AGAINST = ("garch", "har", "ewma", "unconditional")
FOUNDATION = "scale_skip"
_VERDICT_COLOURS = {"better": charts.ACCENT, "worse": charts.BAD}


def forest_chart(inputs: Inputs) -> Chart | None:
    """Gain of the candidate: one panel for each baseline and measure, one row a horizon."""
    gains = _of_candidate(inputs)
    if not gains:
        return None
    panels = sorted(
        {(g["measure"], g["against"]) for g in gains},
        key=lambda p: (_AGAINST.index(p[1]) if p[1] in _AGAINST else 9, p[1], DRAWN.index(p[0])),
    )
    sizes = [sum((g["measure"], g["against"]) == panel for g in gains) + 2 for panel in panels]
    pairs = [max(sizes[at : at + 2]) for at in range(0, len(sizes), 2)]

    def paint(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else 2
        ratios = sizes if narrow else pairs
        grid = figure.subplots(len(ratios), columns, squeeze=False, height_ratios=ratios)
        for axes in grid.ravel()[len(panels) :]:
            axes.set_visible(False)
        for axes, (measure, against) in zip(grid.ravel(), panels, strict=False):
            shown = [g for g in gains if (g["measure"], g["against"]) == (measure, against)]
            _forest_panel(axes, sorted(shown, key=lambda g: g["horizon"]))
            axes.set_title(f"{MEASURES[measure]}, against {inside(model_label(against))}")

    key = Key()
    for colour, text in (
        (charts.ACCENT, "better"),
        (charts.GREY, "not distinguishable"),
        (charts.BAD, "worse"),
    ):
        key.add(colour, text, "dot")
    heights = (25 * sum(pairs), 25 * sum(sizes))
    title = _forest_title(inputs)
    note = (
        "Loss saved, in percent of the other's loss; right of zero is better. Bars: "
        f"{fraction(inputs.evidence['confidence'], 0)} interval, blocks of sessions resampled."
    )
    return charts.draw("forest", title, f"Forest plot of gains over the baselines. {title}", paint, heights, key, note)


def _forest_panel(axes: Any, gains: list[dict[str, Any]]) -> None:
    axes.axvline(0, color=charts.SOFT, lw=1)
    for y, gain in enumerate(gains):
        colour = _VERDICT_COLOURS.get(gain["verdict"], charts.GREY)
        if known(gain["low"]) and known(gain["high"]):
            axes.plot([gain["low"], gain["high"]], [y, y], color=colour, lw=3, alpha=0.5, solid_capstyle="round")
        axes.plot(gain["gain_percent"], y, "o", color=colour, ms=6.5, mew=0)
    axes.set_yticks(range(len(gains)), [sessions(g["horizon"]) for g in gains])
    axes.set_ylim(len(gains) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, -LEAST_SPAN), max(right, LEAST_SPAN))
    charts.number_axis(axes, sign=True, axis="x", unit="%", ticks=4)


def _of_candidate(inputs: Inputs) -> list[dict[str, Any]]:
    """The gains that are drawn."""
    model = inputs.evidence["gate"]["model"]
    drawn = (g for g in inputs.evidence["gains"] if g["model"] == model and g["measure"] in DRAWN)
    return [g for g in drawn if known(g["gain_percent"])]


def _forest_title(inputs: Inputs) -> str:
    gate = inputs.evidence["gate"]
    shown = [g for g in _of_candidate(inputs) if g["against"] != FOUNDATION]
    counts = {v: sum(g["verdict"] == v for g in shown) for v in ("better", "worse")}
    text = (
        f"{model_label(gate['model'])} beats the baselines in {counts['better']} of {len(shown)} comparisons of "
        "quantiles and variance"
    )
    return text + (f" and loses {counts['worse']}." if counts["worse"] else ", and loses none.")


def body_sentence(inputs: Inputs) -> str | None:
    """In how many test years the network on top of the scale regression was given no weight."""
    weights = [fold["body_weight"] for fold in inputs.folds.values() if known(fold.get("body_weight"))]
    unused = sum(weight == 0 for weight in weights)
    if not unused:
        return None
    return (
        f"In {unused} of {len(weights)} test years validation gave the convolution no weight: "
        "there the student network is the scale regression."
    )


def gains_table(gains: list[dict[str, Any]], caption: str, what: str = "gain") -> Table:
    """Gains with intervals, p-values and verdicts in words."""
    rows = []
    for g in gains:
        measure = MEASURES.get(g["measure"], g["measure"])
        p = p_value(g.get("p_value"))
        rows.append(
            (
                measure,
                sessions(g["horizon"]),
                f"{model_label(g['model'])} against {inside(model_label(g['against']))}",
                percent(g["gain_percent"], 2),
                interval(g["low"], g["high"], 2),
                p,
                str(g["verdict"]),
            )
        )
    head = ("Measure", "Horizon", "Comparison", what.capitalize(), "Interval", "p", "Verdict")
    return Table(caption, head, tuple(rows), left=3)


def all_gains(inputs: Inputs) -> Table:
    """Every comparison of the evidence."""
    order = list(MEASURES)
    ranked = sorted(
        inputs.evidence["gains"],
        key=lambda g: (
            order.index(g["measure"]) if g["measure"] in order else 9,
            g["against"],
            g["horizon"],
            g["model"],
        ),
    )
    level = percent(inputs.evidence["confidence"] * 100, 0, sign=False)
    return gains_table(ranked, f"Every comparison; {level} intervals over blocks of sessions.")
