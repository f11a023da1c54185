"""The candidate beside every baseline, measure by measure."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import HORIZON_COLOURS, Chart, Key
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
from pipeline.reporting.gain_rows import draw_row, span
from pipeline.reporting.inputs import Inputs

MEASURES = {
    "pinball": "Pinball loss",
    "qlike": "QLIKE",
    "brier": "Brier score",
    "accuracy": "Accuracy",
}
DRAWN = ("pinball", "qlike")
FOUNDATION = "scale_skip"
FAR = "unconditional"
"""The baseline that is not drawn unless it is the best: the others' gains would shrink beside its."""
ROW = 46  # pixels a row


def forest_chart(inputs: Inputs) -> Chart | None:
    """Gain of the candidate over each baseline and over the ridge: one panel a measure, one colour a horizon."""
    best = inputs.evidence["best_baseline"]
    gains = [g for g in _of_candidate(inputs) if g["against"] != FAR or best == FAR]
    if not gains:
        return None
    horizons = inputs.evidence["horizons"]
    others = sorted({g["against"] for g in gains}, key=inputs.evidence["models"].index)
    rows = {(g["measure"], g["against"], g["horizon"]): g for g in gains}
    blank = dict.fromkeys(("gain_percent", "low", "high"))

    def paint(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(*((2, 1) if narrow else (1, 2)), squeeze=False, sharey=True)
        for axes, measure in zip(grid.ravel(), DRAWN, strict=True):
            shown = [g for g in gains if g["measure"] == measure]
            left, right = span(shown, in_full=shown)
            axes.axvline(0, color=charts.SOFT, lw=1)
            for y, against in enumerate(others):
                draw_row(axes, [rows.get((measure, against, h), blank) for h in horizons], y, left)
            axes.set_title(f"{MEASURES[measure]} saved")
            axes.set_yticks(range(len(others)), [f"against {inside(model_label(name))}" for name in others])
            axes.set_ylim(len(others) - 0.5, -0.5)
            axes.set_xlim(left, right)
            axes.grid(visible=False, axis="y")
            charts.number_axis(axes, sign=True, axis="x", unit="%", ticks=4)

    key = Key()
    for at, h in enumerate(horizons):
        key.add(HORIZON_COLOURS[at % len(HORIZON_COLOURS)], f"{sessions(h)} ahead", "dot")
    height = ROW * len(others) + 50
    title = _forest_title(inputs)
    note = (
        "Loss saved, in percent of the other's loss; right of zero is better. Bars: "
        f"{fraction(inputs.evidence['confidence'], 0)} interval, blocks of sessions resampled."
        + ("" if best == FAR else " The unconditional baseline is in the table of every comparison.")
    )
    alt = f"Forest plot of gains over the baselines. {title}"
    return charts.draw("forest", title, alt, paint, (height, 2 * height), key, note)


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
