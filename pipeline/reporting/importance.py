"""What the forecast rests on: the gain that is lost when one family of features is shuffled out of sample, drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import Chart, Key
from pipeline.reporting.formats import (
    Table,
    fraction,
    inside,
    interval,
    known,
    listed,
    model_label,
    number,
    percent,
    sessions,
)
from pipeline.reporting.inputs import Inputs

ROW = 28  # pixels a family
MOVED = {
    "both": "between blocks of sessions and between tickers",
    "sessions": "between blocks of sessions",
    "tickers": "between tickers",
}


def sentences(inputs: Inputs) -> tuple[str, ...]:
    """What carries the gain, what carries nothing that can be told from zero, and how it was measured."""
    found = _found(inputs)
    rows = _ranked(inputs)
    if not rows:
        return ()
    carrying = [row for row in rows if _carries(row)]
    idle = [row for row in rows if not _carries(row)]
    how = (
        f"The features of one family at a time were shuffled {MOVED[found['over']]} of each test slice, together, and "
        f"the fitted model forecast again; mean of {_shuffles(found['permutations'])}. Families share what they "
        "know, so the losses do not add up, and one that others can stand in for shows little."
    )
    if not carrying:
        return ("No family of features alone carries a part of the gain that can be told from zero.", how)
    lines = [_finding(inputs, carrying[0]), how]
    if idle:
        names = listed([_label(row).lower() for row in idle])
        lines.insert(1, f"Nothing that can be told from zero is lost without {names}.")
    return tuple(lines)


def importance_chart(inputs: Inputs) -> Chart | None:
    """One bar a family, most important first; None if it was not measured."""
    rows = _ranked(inputs)
    if not rows:
        return None
    found = _found(inputs)

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=charts.SOFT, lw=1)
        colours = [charts.ACCENT if _carries(row) else charts.GREY for row in rows]
        axes.barh(np.arange(len(rows)), [row["lost"] for row in rows], 0.62, color=colours, alpha=0.75)
        for y, row in enumerate(rows):
            if known(row["low"]) and known(row["high"]):
                axes.plot([row["low"], row["high"]], [y, y], color=charts.INK, lw=1.4)
        axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        charts.number_axis(axes, sign=True, axis="x", ticks=4 if narrow else 8)

    key = Key()
    key.add(charts.ACCENT, "interval above zero", "band")
    key.add(charts.GREY, "not distinguishable from nothing", "band")
    title = sentences(inputs)[0]
    note = (
        f"Points lost of the gain over {inside(model_label(found['against']))}, in percent of its pinball loss, mean "
        f"of the horizons. Lines: {fraction(inputs.evidence['confidence'], 0)} intervals, blocks of sessions resampled."
    )
    height = ROW * len(rows) + 44
    alt = f"Bars of the gain lost without each family of features. {title}"
    return charts.draw("importance", title, alt, paint, (height, height), key, note)


def importance_table(inputs: Inputs) -> Table | None:
    """Every family at every horizon; None if it was not measured."""
    rows = _ranked(inputs)
    if not rows:
        return None
    found = _found(inputs)
    horizons = [each["horizon"] for each in found["gains"]]
    cells = {(row["family"], row["horizon"]): row for row in found["rows"]}
    lines = []
    for row in rows:
        each = (cells[row["family"], h] for h in horizons)
        spread = row["spread"]
        lines.append(
            (
                _label(row),
                str(len(found["families"][row["family"]])),
                number(row["lost"], 2, sign=True),
                interval(row["low"], row["high"], 2, unit=""),
                number(spread, 2),
                *(f"{number(e['lost'], 2, sign=True)} {interval(e['low'], e['high'], 2, unit='')}" for e in each),
            )
        )
    gains = ", ".join(f"{percent(g['gain_percent'], 2)} at {sessions(g['horizon'])}" for g in found["gains"])
    caption = (
        f"Points lost of the gain over {inside(model_label(found['against']))} ({gains}) when a family is shuffled. "
        "Spread: standard deviation between single shuffles."
    )
    head = ("Family", "Features", "Lost", "Interval", "Spread", *(sessions(h) for h in horizons))
    return Table(caption, head, tuple(lines))


def _shuffles(permutations: int) -> str:
    """`1 shuffle`, `3 shuffles`."""
    return f"{permutations} shuffle" + ("s" if permutations > 1 else "")


def _finding(inputs: Inputs, first: dict[str, Any]) -> str:
    found = _found(inputs)
    gains = [each["gain_percent"] for each in found["gains"] if known(each["gain_percent"])]
    of = f" of {percent(float(np.mean(gains)), 2)}" if gains else ""
    return (
        f"{_label(first)} features carry most: without them the {inside(model_label(found['model']))} loses "
        f"{number(first['lost'], 2)} points {interval(first['low'], first['high'], 2, unit='')} of its gain{of} over "
        f"{inside(model_label(found['against']))}."
    )


def _found(inputs: Inputs) -> dict[str, Any]:
    found: dict[str, Any] = inputs.evidence["importance"]
    return found


def _ranked(inputs: Inputs) -> list[dict[str, Any]]:
    """The rows of the mean of the horizons, most important first."""
    rows = [row for row in _found(inputs)["rows"] if row["horizon"] is None and known(row["lost"])]
    return sorted(rows, key=lambda row: (-row["lost"], row["family"]))


def _carries(row: dict[str, Any]) -> bool:
    return known(row["low"]) and row["low"] > 0


def _label(row: dict[str, Any]) -> str:
    return "Your own" if row["family"] == "own" else str(row["family"]).replace("_", " ").capitalize()
