"""Gains as rows of dots with their intervals, one dot a horizon: what the pictures of the race are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from pipeline.reporting import charts
from pipeline.reporting.charts import HORIZON_COLOURS
from pipeline.reporting.formats import known, percent

LEAST_SPAN = 0.1  # percent: a smaller gain is not enlarged into a finding
_STEP = 0.24  # of a row, between horizons


def draw_row(axes: Axes, gains: Sequence[dict[str, Any]], y: float, left: float, hollow: bool = False) -> None:
    """One row: gain_percent, low and high of each horizon; those left of `left` are written at the edge.

    Args:
        gains: one a horizon, in the order of the colours. hollow: rings for dots.
    """
    for at, gain in enumerate(gains):
        value, colour = gain["gain_percent"], HORIZON_COLOURS[at % len(HORIZON_COLOURS)]
        if not known(value) or value < left:
            continue
        height = y + (at - (len(gains) - 1) / 2) * _STEP
        if known(gain["low"]) and known(gain["high"]):
            ends = [max(gain["low"], left), gain["high"]]
            axes.plot(ends, [height, height], color=colour, lw=2.6, alpha=0.5, solid_capstyle="butt")
        axes.plot(value, height, "o", mfc="none" if hollow else colour, mec=colour, mew=1.4, ms=5.5)
    values = [gain["gain_percent"] for gain in gains if known(gain["gain_percent"])]
    beyond = [percent(value, 1) for value in values if value < left]
    if beyond:
        text, colour = f"\N{LEFTWARDS ARROW} {', '.join(beyond)}", charts.SOFT
        axes.annotate(text, (left, y), (6, 0), textcoords="offset points", color=colour, va="center", fontsize=11)


def span(gains: Sequence[dict[str, Any]], in_full: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The ends of the axis: all gains, all losses of `in_full`, and the losses of others as far as gains reach."""
    lows, highs = _ends(gains, "low"), _ends(gains, "high")
    right = max([*highs, LEAST_SPAN])
    left = max(min([*lows, -LEAST_SPAN]), min([-right, *_ends(in_full, "low")]))
    margin = 0.04 * (right - left)
    return left - margin, right + margin


def _ends(gains: Sequence[dict[str, Any]], end: str) -> list[float]:
    """The bounds of the intervals, or the gains themselves where they have none."""
    told = [gain for gain in gains if known(gain["gain_percent"])]
    return [float(gain[end] if known(gain[end]) else gain["gain_percent"]) for gain in told]


def wrapped(label: str) -> str:
    """In two lines where it is long, so that a phone has room for the dots."""
    if len(label) <= 16 or " " not in label:
        return label
    middle = min((at for at, c in enumerate(label) if c == " "), key=lambda at: abs(at - len(label) / 2))
    return label[:middle] + "\n" + label[middle + 1 :]
