"""Pictures of trading agents: how they learned, what fees do to them, how much their seeds differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.evidence.seeds import iqm
from pipeline.reporting import charts
from pipeline.reporting.agent_inputs import Agents, Curve
from pipeline.reporting.agents import fee, labels
from pipeline.reporting.charts import Chart, Key
from pipeline.reporting.formats import AGENT_LABELS, fraction, inside, listed, number, percent

COLOURS = {"ppo": charts.ACCENT, "dqn": charts.SECOND, "genetic": charts.WARM, "q_table": charts.GOOD}
RULE_COLOURS = {"vol_target": charts.INK, "vol_target_band": charts.SOFT, "buy_and_hold": charts.GREY}
DASHED = (0, (4, 3))
YEAR = 252
MOST_FEE_BPS = 20.0
STRETCHES = 16
"""Of training, over each of which a learning curve is averaged."""
ROW = 46  # pixels a row


def agent_charts(agents: Agents) -> tuple[Chart, ...]:
    """Learning curves; with an evaluation fees and seeds too."""
    if agents.evaluation is None:
        return (learning_chart(agents),)
    return seeds_chart(agents.evaluation), fees_chart(agents.evaluation), learning_chart(agents)


def learning_chart(agents: Agents) -> Chart:
    """Reward in training over environment steps: interquartile mean and middle half of seeds and blocks."""
    drawn = {
        name: _gathered([c for c in agents.curves if c.algorithm == name]) for name in agents.training["algorithms"]
    }

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for name, (steps, low, middle, high) in drawn.items():
            axes.fill_between(steps, low, high, color=COLOURS[name], alpha=0.13, lw=0)
            axes.plot(steps, middle, color=COLOURS[name])
        axes.set_xlabel("environment steps")
        charts.number_axis(axes, axis="x", scale=1e-3, unit="k", ticks=4 if narrow else 7)
        charts.number_axis(axes, sign=True, unit="%")

    key = Key()
    for name in drawn:
        key.add(COLOURS[name], AGENT_LABELS[name])
    moved = [
        f"{AGENT_LABELS[name]} from {percent(middle[0], 1)} to {percent(middle[-1], 1)}"
        for name, (_, _, middle, _) in drawn.items()
    ]
    title = f"Growth a year in training, exploration included: {listed(moved)}"
    note = (
        "Reward of a step in the training slices times 252, net of costs. Lines: interquartile mean over seeds and "
        "blocks; bands: the middle half. What is explored is paid for, so a curve may fall while the policy improves."
    )
    return charts.draw(
        "learning", title + ".", f"Line chart of reward in training. {title}.", paint, (320, 290), key, note
    )


def fees_chart(evaluation: dict[str, Any]) -> Chart:
    """Growth at other fees of the same trades."""
    names, fees = labels(evaluation), evaluation["fees"]
    bps = np.array(fees["bps"])
    shown = bps <= MOST_FEE_BPS
    lines = {name: np.array(values)[shown] for name, values in fees["objective"].items()}
    agents = [name for name in lines if name in COLOURS]

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        axes.axhline(0, color=charts.SOFT, lw=1)
        axes.axvline(evaluation["cost_bps"], color=charts.LINE, lw=1)
        for name in RULE_COLOURS:
            axes.plot(bps[shown], lines[name], color=RULE_COLOURS[name], ls=DASHED)
        for name in agents:
            axes.plot(bps[shown], lines[name], color=COLOURS[name], marker="o", ms=3)
        axes.set_xlabel("fee a side")
        charts.number_axis(axes, axis="x", unit=" bps", ticks=4 if narrow else 7)
        charts.number_axis(axes, sign=True, unit="%")

    key = Key()
    for name in agents:
        key.add(COLOURS[name], names[name])
    for name, colour in RULE_COLOURS.items():
        key.add(colour, names[name], "dash")
    until = [f"{names[name]} {fee(by['vol_target'])}" for name, by in fees["breakeven_bps"].items()]
    title = f"Fee up to which an agent is ahead of the volatility target: {listed(until)}"
    note = (
        f"Certainty-equivalent growth a year, interquartile mean over seeds, of the trades made at "
        f"{evaluation['cost_bps']:g} bps, at other fees."
    )
    return charts.draw("fees", title + ".", f"Line chart of growth over fees. {title}.", paint, (320, 290), key, note)


def seeds_chart(evaluation: dict[str, Any]) -> Chart:
    """Every seed's growth, the interquartile mean with its interval, and the rules."""
    names = labels(evaluation)
    rows = [row for row in evaluation["strategies"] if row["kind"] == "agent"]
    rules = {row["strategy"]: row["objective"] for row in evaluation["strategies"] if row["strategy"] in RULE_COLOURS}

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for name, at in rules.items():
            axes.axvline(at, color=RULE_COLOURS[name], ls=DASHED, lw=1.2)
        for y, row in enumerate(rows):
            _seeds(axes, row, y)
        axes.set_yticks(range(len(rows)), [str(row["label"]) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        charts.number_axis(axes, sign=True, axis="x", unit="%", ticks=4 if narrow else 7)

    key = Key()
    key.add(charts.INK, f"interquartile mean, {fraction(evaluation['confidence'], 0)} interval", "band")
    key.add(charts.GREY, "one seed", "ring")
    for name in rules:
        key.add(RULE_COLOURS[name], names[name], "dash")
    spread = max(rows, key=lambda row: np.ptp(row["seeds"]["objective"]))
    title = (
        f"Seeds alone move {inside(str(spread['label']))} by {number(np.ptp(spread['seeds']['objective']), 1)} points "
        "of growth a year"
    )
    alt = f"Dot chart of every seed's growth. {title}. " + "; ".join(
        f"{row['label']} {percent(row['objective'], 2)}" for row in evaluation["strategies"]
    )
    height = ROW * len(rows) + 60
    note = "Certainty-equivalent growth a year out of sample, after costs, of each seed over all test blocks."
    return charts.draw("seeds", title + ".", alt, paint, (height, height + 20), key, note)


def _seeds(axes: Axes, row: dict[str, Any], y: int) -> None:
    """One algorithm: a ring a seed, the interquartile mean as a dot on its interval."""
    colour, values = COLOURS[row["strategy"]], row["seeds"]["objective"]
    axes.plot([row["objective_low"], row["objective_high"]], [y, y], color=colour, lw=4, solid_capstyle="round")
    axes.plot(values, np.full(len(values), y + 0.24), ls="", marker="o", ms=5, mfc="none", mec=colour)
    axes.plot([row["objective"]], [y], ls="", marker="o", ms=8, color=colour)


def _gathered(curves: list[Curve]) -> tuple[NDArray[np.float64], ...]:
    """Steps at the end of each stretch of training, and of the curves' means over it the lower quartile, the
    interquartile mean and the upper quartile, in percent a year."""
    ends = np.linspace(0, min(c.steps[-1] for c in curves), STRETCHES + 1)
    # An entry is the mean since the one before it: its sum grows evenly in between.
    sums = np.stack(
        [
            np.interp(ends, np.append(0, c.steps), np.append(0.0, np.cumsum(c.reward * np.diff(c.steps, prepend=0))))
            for c in curves
        ]
    )
    every = YEAR * np.diff(sums, axis=1) / np.diff(ends)  # (curves, STRETCHES)
    low, high = np.quantile(every, (0.25, 0.75), axis=0)
    return ends[1:], low, iqm(every.T), high
