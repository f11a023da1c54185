"""The small model beside the big ones: what each step costs, whether decisions stay the same, and every output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import Chart
from pipeline.reporting.formats import (
    OUTPUT_LABELS,
    UNKNOWN,
    Table,
    inside,
    interval,
    known,
    listed,
    model_label,
    number,
    percent,
    pivot,
    sessions,
)
from pipeline.reporting.inputs import Inputs

CLAIM_LABELS = {
    "centred_r2": "Centred R² of every output, the least",
    "var_95": "95% VaR is breached in both or in neither",
    "var_99": "99% VaR is breached in both or in neither",
    "median_flips": "Volatility on the other side of the session's median",
    "weight_change": "Change of the target weight, 99th percentile",
    "net_profit": "Net profit a year",
}
LOSSES = ("pinball", "qlike")
_DIGITS = {"centred_r2": 5, "weight_change": 3, "net_profit": 2}


def sentences(inputs: Inputs) -> list[str]:
    """What was compared, how it was made small, and how many claims hold."""
    found = inputs.equality
    text = "The int8 network was compared with its float original on every out-of-sample fold."
    if found.get("method") == "qat":
        text += " Rounding alone did not pass, so it was trained with rounding in the loop and compared again."
    body = found.get("integer_body_equal")
    if body is not None:
        text += f" An integer-only reference agrees with it {'bit for bit' if body else 'NOT bit for bit'}."
    judged = [row for row in found.get("claims", []) if row["floor"] is not None]
    if judged:
        held, certain = (sum(bool(row[key]) for row in judged) for key in ("holds", "certain"))
        text += f" {held} of {len(judged)} claims of equality hold, {certain} of them with their whole interval."
    return [text, *_pruning_sentence(found)]


def _pruning_sentence(found: dict[str, Any]) -> list[str]:
    records = found.get("pruning", {}).get("folds", [])
    if not records:
        return []
    bodies = [record for record in records if record["body_weight"]]
    alone = len(records) - len(bodies)
    text = (
        f"In {alone} of {len(records)} fits the network is the skip alone, without a body to prune. " if alone else ""
    )
    smaller = [record for record in bodies if record["chosen"]]
    if smaller:
        text += f"{len(smaller)} of {len(bodies)} bodies lost channels; validation chose how many."
    elif bodies:
        text += f"None of {len(bodies)} bodies was pruned: {listed(sorted({record['reason'] for record in bodies}))}."
    return [text.strip()]


def costs_table(inputs: Inputs) -> Table | None:
    """How much worse each smaller model is than the one before it: a pair and a horizon a row."""
    rows = {
        (row["model"], row["against"], row["horizon"], row["claim"]): row
        for row in inputs.equality.get("claims", [])
        if row["claim"] in LOSSES
    }
    lines = tuple(
        _cost(row, rows.get((model, against, h, "qlike"), {}))
        for (model, against, h, claim), row in rows.items()
        if claim == "pinball"
    )
    caption = "Loss above that of the other model, in percent of it, out of sample, with paired intervals."
    head = ("Model", "Against", "Horizon", "Pinball", "Interval", "At most", "Verdict", "QLIKE", "Interval")
    return Table(caption, head, lines, left=3) if lines else None


def decisions_table(inputs: Inputs) -> Table | None:
    """Whether int8 decides as float does: a claim a row, at its worst horizon."""
    rows = [row for row in inputs.equality.get("claims", []) if row["claim"] not in LOSSES and known(row["figure"])]
    worst: dict[str, dict[str, Any]] = {}
    for row in rows:
        held = worst.get(row["claim"])
        if held is None or (row["figure"] < held["figure"]) == row["at_least"]:
            worst[row["claim"]] = row
    if not worst:
        return None
    source = inside(model_label(str(inputs.equality.get("source", inputs.quantized))))
    head = ("Int8 against the " + source, "Worst horizon", "Figure", "Interval", "Floor", "Verdict")
    return Table(
        "Outputs and decisions of the int8 network beside the float network it was made from.",
        head,
        tuple(_decision(row) for row in worst.values()),
        left=2,
    )


def losses_table(inputs: Inputs) -> Table | None:
    """Pinball and QLIKE of every model in the comparison."""
    rows = inputs.equality.get("losses", [])
    if not rows:
        return None
    caption = "Mean pinball loss in units of volatility, and QLIKE, on the cells that all forecast."
    return pivot(
        caption,
        "Model",
        "model",
        model_label,
        rows,
        lambda row: f"{number(row['pinball'], 5)}, {number(row['qlike'], 4)}",
    )


def size_chart(inputs: Inputs) -> Chart | None:
    """Multiply-adds of a body against what it loses on validation: one line a fit, a ring round what was chosen."""
    records = [each for each in inputs.equality.get("pruning", {}).get("folds", []) if each["curve"]]
    if not records:
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        axes.axhline(0, color=charts.SOFT, lw=1)
        for record in records:
            x = [point["window_macs"] / 1000 for point in record["curve"]]
            y = [point["loss_percent"] for point in record["curve"]]
            axes.plot(x, y, color=charts.ACCENT, alpha=0.45, marker="o", markersize=4)
            at = record["chosen"]
            axes.plot(x[at], y[at], "o", markersize=10, markerfacecolor="none", markeredgecolor=charts.WARM, mew=2)
        axes.invert_xaxis()
        charts.number_axis(axes, axis="x", ticks=4 if narrow else 9)
        charts.percent_axis(axes, sign=True, scale=1)
        axes.set_xlabel("thousand multiply-adds a window" + ("" if narrow else "; smaller to the right"))
        axes.set_ylabel("pinball on validation")

    chosen = [record["curve"][record["chosen"]] for record in records]
    shares = [each["window_macs"] / r["curve"][0]["window_macs"] for each, r in zip(chosen, records, strict=True)]
    most = max(each["loss_percent"] for each in chosen)
    low, high = (number(100 * value, 0) for value in (min(shares), max(shares)))
    title = (
        f"Bodies of {low if low == high else f'{low} to {high}'}% of the multiply-adds cost at most "
        f"{percent(most, 2)} of pinball on validation"
    )
    key = charts.Key()
    key.add(charts.ACCENT, "one fit, cut at several sizes and trained again")
    key.add(charts.WARM, "chosen", "ring")
    note = "Each size was trained on the sessions before validation and judged on it; no test year was looked at."
    alt = f"Lines of loss against size, one a fit. {title}."
    return charts.draw("pruning", title + ".", alt, paint, (260, 260), key, note)


def equality_table(inputs: Inputs) -> Table:
    """The verdict on each output: one output a row, one horizon a column."""

    def cell(r: dict[str, Any]) -> str:
        by = f"differs by at most {_exponent(r['max_difference'])}" if r.get("rule") == "max_difference" else ""
        return f"{by or 'R² ' + number(r['r2'], 6)}, {'equal' if r['passed'] else 'NOT equal'}"

    return pivot(
        "Centred R² of every output; one that hardly moves is judged by its largest difference.",
        "Output",
        "output",
        lambda name: OUTPUT_LABELS.get(name, name),
        inputs.equality["outputs"],
        cell,
    )


def differences_table(inputs: Inputs) -> Table:
    """Each output of the int8 graph against float."""
    rows = tuple(
        (
            OUTPUT_LABELS.get(r["output"], str(r["output"])),
            sessions(r["horizon"]),
            number(r["r2"], 6),
            _exponent(r["max_difference"]),
            "largest difference" if r.get("rule") == "max_difference" else "centred R²",
            "equal" if r["passed"] else "NOT equal",
        )
        for r in inputs.equality["outputs"]
    )
    return Table(
        "Every output in z units, with both figures.",
        ("Output", "Horizon", "Centred R²", "Largest difference", "Judged by", "Verdict"),
        rows,
        left=2,
    )


def equality_chart(inputs: Inputs) -> Chart | None:
    """Histogram of the relative difference of sigma, int8 against float, over all forecasts."""
    relative = differences(inputs.forecasts, inputs.quantized)
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
        charts.percent_axis(axes)
        charts.percent_axis(axes, sign=True, axis="x", scale=1)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("share of forecasts")
        axes.set_xlabel("int8 volatility against float")

    close = percent(bound, _digits(bound), sign=False)
    original = inside(model_label(inputs.quantized))
    title = f"99% of the int8 volatility forecasts are within {close} of the float {original}'s"
    alt = f"Histogram of relative differences. {title}."
    note = f"Relative difference of forecast volatility over {len(relative):,} out-of-sample forecasts"
    pruned = inputs.equality.get("source") == "pruned"
    note += ", by pruning and by rounding." if pruned else "."
    return charts.draw("equality", title + ".", alt, paint, (250, 240), None, note)


def differences(forecasts: pd.DataFrame, model: str) -> Any:
    """Relative difference of sigma in percent, int8 against `model`, where both are known."""
    keys = ["fold", "ticker", "session", "horizon"]
    pair = forecasts.loc[forecasts["model"] == model, [*keys, "sigma"]].merge(
        forecasts.loc[forecasts["model"] == "int8", [*keys, "sigma"]], on=keys, suffixes=("", "_int8")
    )
    pair = pair.dropna()
    return (pair["sigma_int8"] / pair["sigma"] - 1).to_numpy() * 100


def _cost(pinball: dict[str, Any], qlike: dict[str, Any]) -> tuple[str, ...]:
    return (
        model_label(pinball["model"]),
        inside(model_label(pinball["against"])),
        sessions(pinball["horizon"]),
        percent(pinball["figure"], 3),
        interval(pinball["low"], pinball["high"], 3, unit=""),
        percent(pinball["floor"], 2, sign=False),
        _verdict(pinball),
        percent(qlike.get("figure"), 2),
        interval(qlike.get("low"), qlike.get("high"), 2, unit=""),
    )


def _decision(row: dict[str, Any]) -> tuple[str, ...]:
    digits, unit = _DIGITS.get(row["claim"], 2), {"bp": " bp"}.get(row["unit"], row["unit"])
    signed = row["claim"] == "net_profit"
    bound = ("at least " if row["at_least"] else "within " if signed else "at most ") + number(row["floor"], digits)
    return (
        CLAIM_LABELS[row["claim"]],
        sessions(row["horizon"]) if row["horizon"] else UNKNOWN,
        number(row["figure"], digits, signed) + unit,
        interval(row["low"], row["high"], digits, unit, signed),
        bound + unit,
        _verdict(row),
    )


def _verdict(row: dict[str, Any]) -> str:
    if not row["holds"]:
        return "does NOT hold"
    return "holds" if row["certain"] else "holds, not certain"


def _digits(value: float) -> int:
    return int(np.clip(np.ceil(-np.log10(value)) + 1, 1, 8))


def _exponent(value: Any) -> str:
    return f"{value:.1e}".replace("-", "\N{MINUS SIGN}") if known(value) else UNKNOWN
