"""The page: sections in reading order, put into the template with autoescape on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pipeline.reporting import (
    agent_charts,
    agents,
    direction,
    equality,
    forecast,
    importance,
    provenance,
    quality,
    race,
    strategy,
    strategy_charts,
    tail,
    text,
    verdict,
)
from pipeline.reporting.agent_inputs import Agents
from pipeline.reporting.charts import Chart
from pipeline.reporting.formats import Table
from pipeline.reporting.inputs import Inputs
from pipeline.summary import Progress


@dataclass(frozen=True)
class Section:
    """One section: a lead in plain words, charts, tables in the open, tables behind a disclosure."""

    anchor: str
    heading: str
    short: str
    lead: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[tuple[str, Table], ...] = ()
    facts: tuple[tuple[str, str], ...] = field(default=())
    source: str = ""


def render(inputs: Inputs, progress: Progress) -> str:
    """The whole report as one HTML document."""
    rows = forecast.outcomes(inputs)
    steps: list[Callable[[], Section]] = [
        lambda: _strategy(inputs),
        *([lambda: _agents(found)] if (found := inputs.agents) is not None else []),
        lambda: _race(inputs),
        lambda: _importance(inputs),
        lambda: _calibration(inputs, rows),
        lambda: _value_at_risk(inputs, rows),
        lambda: _equality(inputs),
        lambda: _direction(inputs),
        lambda: _made(inputs),
    ]
    sections = []
    for at, step in enumerate(steps):
        progress("drawing the report", at, len(steps))
        sections.append(step())
    progress("drawing the report", len(steps), len(steps))
    here = files("pipeline.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((here / "template.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup((here / "style.css").read_text(encoding="utf-8")),
        svg=Markup,  # only ever given our own SVG, in which matplotlib has escaped every text
        sections=sections,
        sentences=verdict.sentences(inputs),
        figures=verdict.big_figures(inputs),
        caveats=verdict.caveats(inputs),
        training=inputs.training,
        evidence=inputs.evidence,
        promoted=inputs.promoted,
        heading=verdict.heading(inputs),
        shipped=verdict.shipped(inputs),
        data_label=verdict.DATA_LABELS.get(inputs.training["data_label"], inputs.training["data_label"]),
        simulated=inputs.simulated,
    )


def _importance(inputs: Inputs) -> Section:
    chart, table = importance.importance_chart(inputs), importance.importance_table(inputs)
    return Section(
        "importance",
        "What the forecast rests on",
        "Importance",
        lead=importance.sentences(inputs),
        charts=(chart,) if chart else (),
        folded=(("Every family at every horizon", table),) if table else (),
    )


def _strategy(inputs: Inputs) -> Section:
    per_ticker = strategy.ticker_table(inputs)
    return Section(
        "risk",
        "What the forecast is good for: holding risk steady",
        "Risk held",
        lead=(
            "Each ticker is held in the weight at which its forecast volatility meets the target. Beside it: "
            "the same with trailing EWMA, a constant exposure of equal volatility, and buying and holding.",
            *([inputs.evidence["portfolio"]["sentence"]] if "portfolio" in inputs.evidence else []),
        ),
        charts=tuple(strategy_charts.strategy_charts(inputs)),
        tables=(strategy.strategy_table(inputs),),
        folded=(("Every ticker", per_ticker),) if per_ticker else (),
    )


def _agents(found: Agents) -> Section:
    evaluation = found.evaluation
    tables = () if evaluation is None else (agents.figures_table(evaluation), agents.breakeven_table(evaluation))
    folded = () if evaluation is None else (("Every comparison", agents.comparisons_table(evaluation)),)
    return Section(
        "agents",
        "Trading agents against the rules they have to beat",
        "Agents",
        lead=agents.lead(found),
        charts=agent_charts.agent_charts(found),
        tables=tables,
        folded=folded,
    )


def _calibration(inputs: Inputs, rows: pd.DataFrame) -> Section:
    drawn, table = forecast.fan_and_coverage(inputs, rows)
    return Section(
        "calibration",
        "Do the bands hold what they promise?",
        "Calibration",
        lead=(str(inputs.evidence["widths"]["sentence"]),),
        charts=tuple(drawn),
        folded=(("Every quantile", table), ("The 80% band of every model", forecast.volatile_table(inputs))),
    )


def _value_at_risk(inputs: Inputs, rows: pd.DataFrame) -> Section:
    chart = tail.var_chart(inputs, rows)
    return Section(
        "var",
        "Value at risk, and how often it was exceeded",
        "Value at risk",
        lead=(tail.var_sentence(inputs),),
        charts=(chart,) if chart else (),
        tables=(tail.var_table(inputs, short=True),),
        folded=(
            ("Every model's tail", tail.tails_table(inputs)),
            ("Tests ticker by ticker", tail.var_table(inputs)),
        ),
    )


def _race(inputs: Inputs) -> Section:
    drawn = (race.race_chart(inputs), quality.forest_chart(inputs))
    pairs = race.pairs_table(inputs)
    lead = (verdict.gate_sentence(inputs), race.field_sentence(inputs), quality.body_sentence(inputs))
    return Section(
        "race",
        "The race: every model beside every baseline",
        "The race",
        lead=tuple(text for text in lead if text),
        charts=tuple(chart for chart in drawn if chart),
        tables=(race.verdict_table(inputs),),
        folded=(
            ("Every measure at every horizon", race.measures_table(inputs)),
            *((("The candidate against each baseline, by Diebold and Mariano", pairs),) if pairs else ()),
            ("Every comparison", quality.all_gains(inputs)),
            ("What each horizon rests on", race.samples_table(inputs)),
        ),
    )


def _equality(inputs: Inputs) -> Section:
    drawn = (equality.equality_chart(inputs), equality.size_chart(inputs))
    shown = (equality.costs_table(inputs), equality.decisions_table(inputs))
    losses = equality.losses_table(inputs)
    return Section(
        "int8",
        "Small against big: the student, pruned, in int8",
        "Int8",
        lead=tuple(equality.sentences(inputs)),
        charts=tuple(chart for chart in drawn if chart),
        tables=tuple(table for table in shown if table),
        folded=(
            ("Every output", equality.equality_table(inputs)),
            ("Both figures of every output", equality.differences_table(inputs)),
            *((("Losses of every model", losses),) if losses else ()),
        ),
    )


def _direction(inputs: Inputs) -> Section:
    chart = direction.reliability_chart(inputs)
    folded = (
        ("Chances to rise", direction.chances_table(inputs)),
        ("Against the naive directions", direction.naive_gains_table(inputs)),
        ("The Brier score taken apart", direction.parts_table(inputs)),
        ("Text against no text", text.lift_table(inputs)),
        ("Where text is used", text.decisions_table(inputs)),
    )
    return Section(
        "direction",
        "Direction, and what the text adds",
        "Direction and text",
        lead=(str(inputs.evidence["direction"]["sentence"]), *text.sentences(inputs)),
        charts=(chart,) if chart else (),
        tables=(direction.direction_table(inputs),),
        folded=tuple((title, table) for title, table in folded if table),
    )


def _made(inputs: Inputs) -> Section:
    optional = (provenance.headlines_table(inputs), provenance.left_out_table(inputs))
    folds = provenance.folds_table(inputs)
    return Section(
        "made",
        "How it was made",
        "How it was made",
        tables=tuple(table for table in optional if table),
        folded=(("Folds", folds),) if folds else (),
        facts=tuple(provenance.facts(inputs)),
        source=provenance.configuration(inputs.config),
    )
