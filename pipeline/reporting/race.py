"""The race: every model's gain over the best baseline, drawn and in tables, and what the whole field says."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import HORIZON_COLOURS, Chart, Key
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
    sessions,
)
from pipeline.reporting.gain_rows import draw_row, span, wrapped
from pipeline.reporting.inputs import Inputs

ROW = 46  # pixels a model


def race_chart(inputs: Inputs) -> Chart | None:
    """Gain over the best baseline: one row a model, best first, one dot with its interval a horizon."""
    horizons, best = inputs.evidence["horizons"], inputs.evidence["best_baseline"]
    judged = [v for v in inputs.evidence["verdicts"] if known(v["gain_percent"])]
    if not judged:
        return None
    bar = {"model": best, "is_baseline": True, "gain_percent": 0.0, "by_horizon": []}
    verdicts = sorted([bar, *judged], key=lambda v: -v["gain_percent"])
    left, right = span(
        [row for v in judged for row in v["by_horizon"]],
        in_full=[row for v in judged if not v["is_baseline"] for row in v["by_horizon"]],
    )

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=charts.SOFT, lw=1)
        for y, verdict in enumerate(verdicts):
            draw_row(axes, verdict["by_horizon"], y, left, hollow=verdict["is_baseline"])
        axes.plot(0, verdicts.index(bar), "o", mfc="none", mec=charts.SOFT, mew=1.4, ms=7)
        labels = [model_label(v["model"]) + (", baseline" if v["is_baseline"] else "") for v in verdicts]
        axes.set_yticks(range(len(verdicts)), [wrapped(label) if narrow else label for label in labels])
        for tick, verdict in zip(axes.get_yticklabels(), verdicts, strict=True):
            tick.set_color(charts.SOFT if verdict["is_baseline"] else charts.INK)
        axes.set_ylim(len(verdicts) - 0.5, -0.5)
        axes.set_xlim(left, right)
        axes.grid(visible=False, axis="y")
        charts.number_axis(axes, sign=True, axis="x", unit="%", ticks=4 if narrow else 8)

    key = Key()
    for at, h in enumerate(horizons):
        key.add(HORIZON_COLOURS[at % len(HORIZON_COLOURS)], f"{sessions(h)} ahead", "dot")
    key.add(charts.SOFT, "baseline", "ring")
    title = race_sentence(inputs)
    against = inside(model_label(best))
    note = (
        f"Pinball loss saved, in percent of that of {against}, the best baseline on these sessions and so the hardest "
        f"to beat; right of zero is better. Bars: {fraction(inputs.evidence['confidence'], 0)} intervals."
    )
    heights = (ROW * len(verdicts) + 40, ROW * len(verdicts) + 40)
    return charts.draw("race", title, f"Gain of every model over {against}. {title}", paint, heights, key, note)


def race_sentence(inputs: Inputs) -> str:
    """Who beats the best baseline at the gate's level, and by how much at most."""
    rows = [v for v in inputs.evidence["verdicts"] if not v["is_baseline"]]
    against = model_label(inputs.evidence["best_baseline"])
    if not rows:
        return f"No model raced {inside(against)}."
    if all(row["verdict"] == "too few blocks" for row in rows):
        return f"Too few independent sessions to tell any of {len(rows)} models from {inside(against)}."
    passed = [row for row in rows if row["passed"]]
    best = max(rows, key=lambda row: row["gain_percent"])
    count, verb = str(len(passed)) if passed else "None", "beat" if len(passed) > 1 else "beats"
    text = f"{count} of {len(rows)} models {verb} {inside(against)}, "
    text += f"the best baseline, at the gate's level of {fraction(inputs.evidence['gate_level'], 0)}"
    gain = f"{percent(best['gain_percent'], 2)} {interval(best['low'], best['high'], 2)}"
    return f"{text}; best: {model_label(best['model'])}, {gain}."


def field_sentence(inputs: Inputs) -> str:
    """What remains when it is counted that many models were tried."""
    against = inside(model_label(inputs.evidence["best_baseline"]))
    tests = [row for row in inputs.evidence["superior"] if row["n_models"]]
    if not tests:
        return ""
    if all("No verdict" in row["verdict"] for row in tests):
        return "Too few independent sessions for a test of all models at once."
    told = listed([f"{p_value(row['p_consistent'])} at {sessions(row['horizon'])}" for row in tests])
    return (
        f"The gate was set for one model, named beforehand. That {tests[0]['n_models']} were tried is counted by "
        f"Hansen's test that none of them beats {against}: p {told}. A small p says that at least one does."
    )


def verdict_table(inputs: Inputs) -> Table:
    """One row a model: its gain over the best baseline, by horizon and on average, and what follows."""
    horizons = inputs.evidence["horizons"]
    sets = {row["horizon"]: row for row in inputs.evidence["confidence_sets"]}
    ranked = sorted(inputs.evidence["verdicts"], key=lambda v: -(v["gain_percent"] or 0))
    best = inputs.evidence["best_baseline"]
    rows = [_best_row(best, horizons, sets), *(_verdict_row(v, horizons, sets) for v in ranked)]
    models = [best, *(v["model"] for v in ranked)]
    level = fraction(1 - inputs.evidence["confidence_sets"][0]["size"], 0) if sets else UNKNOWN
    return Table(
        f"Pinball loss saved against {inside(model_label(best))}: mean over horizons with its interval, then each. "
        "Scale regression: the ridge that the learners stand on, and what each saves on top of it. Among the best: the "
        f"horizons at which the model is in the Model Confidence Set, which holds the best with {level} confidence.",
        ("Model", "Saved", *(sessions(h) for h in horizons), "On top of scale regression", "Among the best", "Gate"),
        tuple(rows),
        strong=tuple(at for at, name in enumerate(models) if name in (inputs.model, inputs.evidence["gate"]["model"])),
    )


def measures_table(inputs: Inputs) -> Table:
    """Mean losses and coverage, one (horizon, model) a row."""
    ranked = sorted(inputs.evidence["losses"], key=lambda r: r["horizon"])
    chosen = {row["horizon"]: row["included"] for row in inputs.evidence["confidence_sets"]}
    rows = tuple(
        (
            sessions(r["horizon"]),
            model_label(r["model"]),
            number(r["pinball"], 5),
            number(r["crps"], 5),
            number(r["qlike"], 4),
            fraction(r["coverage80"]),
            number(r.get("fz95"), 4),
            number(r.get("fz99"), 4),
            "yes" if r["model"] in chosen.get(r["horizon"], ()) else "no",
            number(r["n"], 0),
        )
        for r in ranked
    )
    head = ("Horizon", "Model", "Pinball, z", "CRPS, z", "QLIKE", "80% band holds", "FZ 95", "FZ 99")
    return Table(
        "Mean losses, out of sample and on the same cells; less is better, coverage should be 80%. Pinball and CRPS in "
        "units of volatility. FZ: joint loss of value at risk and expected shortfall (Fissler and Ziegel).",
        (*head, "Among the best", "Forecasts"),
        rows,
        left=2,
        strong=tuple(i for i, r in enumerate(ranked) if r["model"] == inputs.model),
    )


def pairs_table(inputs: Inputs) -> Table | None:
    """Diebold and Mariano's test of the candidate against each baseline."""
    rows = tuple(
        (
            sessions(r["horizon"]),
            f"{model_label(r['model'])} against {inside(model_label(r['against']))}",
            number(r["statistic"], 2, sign=True),
            p_value(r["p_value"]),
            number(r["n_sessions"], 0),
            number(r["n_effective"], 0),
            str(r["verdict"]),
        )
        for r in inputs.evidence["comparisons"]
    )
    head = ("Horizon", "Comparison", "Statistic", "p", "Sessions", "Independent", "Verdict")
    caption = (
        "Diebold and Mariano's test of equal pinball loss, by session, with errors robust to dependence in time. Below "
        "zero the first loses less. Independent: sessions without memory that would know the mean as well."
    )
    return Table(caption, head, rows, left=2) if rows else None


def samples_table(inputs: Inputs) -> Table:
    """What the judgement of each horizon rests on, and which cells it left out."""
    rows = []
    for r in inputs.evidence["samples"]:
        most, least = max(r["own"].values()), min(r["own"], key=lambda name: r["own"][name])
        lacks = f"{model_label(least)}, {number(most - r['own'][least], 0)}" if r["own"][least] < most else "none"
        figures = (r["n_cells"], r["n_sessions"], r["n_without_overlap"], r["n_effective_sessions"])
        rows.append((sessions(r["horizon"]), *(number(figure, 0) for figure in figures), lacks))
    return Table(
        "Models are judged where all of them forecast and the return is known. Independent sessions: of what the "
        "candidate saves, by its autocorrelation.",
        ("Horizon", "Forecasts", "Sessions", "Without overlap", "Independent", "Forecasts missing most"),
        tuple(rows),
    )


def _verdict_row(verdict: dict[str, Any], horizons: list[int], sets: dict[int, dict[str, Any]]) -> tuple[str, ...]:
    by_horizon = {row["horizon"]: row for row in verdict["by_horizon"]}
    beside = verdict["beside_foundation"]
    on_top = f"{percent(beside['gain_percent'], 2)}, {beside['verdict']}" if beside else UNKNOWN
    gate = "baseline" if verdict["is_baseline"] else "passes" if verdict["passed"] else "does not pass"
    gate = "worse than its ridge" if verdict["worse_than_foundation"] else gate
    gate = str(verdict["verdict"]) if verdict["verdict"] == "too few blocks" else gate
    return (
        model_label(verdict["model"]),
        f"{percent(verdict['gain_percent'], 2)} {interval(verdict['low'], verdict['high'], 2)}",
        *(percent(by_horizon[h]["gain_percent"], 2) for h in horizons),
        on_top,
        _members(verdict["model"], sets),
        gate,
    )


def _best_row(best: str, horizons: list[int], sets: dict[int, dict[str, Any]]) -> tuple[str, ...]:
    return (
        model_label(best),
        "the best baseline",
        *(UNKNOWN for _ in horizons),
        UNKNOWN,
        _members(best, sets),
        "baseline",
    )


def _members(model: str, sets: dict[int, dict[str, Any]]) -> str:
    told = [h for h, row in sets.items() if row["included"]]
    if not told:
        return UNKNOWN
    return ", ".join(str(h) for h in told if model in sets[h]["included"]) or "no"
