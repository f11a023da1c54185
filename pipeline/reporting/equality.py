"""Int8 beside float: a table of every output, the cost in loss, and the spread of the differences."""

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
    interval,
    known,
    number,
    percent,
    pivot,
    sessions,
)
from pipeline.reporting.inputs import Inputs


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


def pinball_table(inputs: Inputs) -> Table | None:
    """What quantizing costs in the loss that matters."""
    rows = tuple(
        (
            sessions(r["horizon"]),
            number(r["float"], 6),
            number(r["int8"], 6),
            percent(r["gain_percent"], 3),
            interval(r["low"], r["high"], 3),
        )
        for r in inputs.equality.get("pinball", [])
    )
    head = ("Horizon", "Float", "Int8", "Int8 gain", "Interval")
    return Table("Pinball loss of the float and the int8 forecasts, out of sample.", head, rows) if rows else None


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
    title = f"99% of the int8 volatility forecasts are within {close} of float"
    alt = f"Histogram of relative differences. {title}."
    note = f"Relative difference of forecast volatility over {len(relative):,} out-of-sample forecasts."
    return charts.draw("equality", title + ".", alt, paint, (250, 240), None, note)


def differences(forecasts: pd.DataFrame, model: str) -> Any:
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
