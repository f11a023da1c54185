"""Value at risk: how often it was exceeded, whether as promised, and what lies beyond it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting import charts
from pipeline.reporting.charts import Chart, Key
from pipeline.reporting.formats import (
    Table,
    fraction,
    interval,
    known,
    listed,
    model_label,
    number,
    p_value,
    scaled,
    sessions,
)
from pipeline.reporting.inputs import Inputs


def var_chart(inputs: Inputs, rows: pd.DataFrame) -> Chart | None:
    """One-session returns of one ticker against VaR 95 and 99, exceedances marked."""
    part = rows[(rows["ticker"] == inputs.ticker) & (rows["horizon"] == 1)].sort_values("session")
    if part.empty:
        return None
    days = part["session"].to_numpy().astype("datetime64[D]")
    came, var95, var99 = (part[name].to_numpy() for name in ("log_return", "q05", "q01"))
    below95, below99 = came < var95, came < var99

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        x = np.stack([days, days, days], axis=1).ravel()
        y = np.stack([np.zeros_like(came), came, np.full_like(came, np.nan)], axis=1).ravel()
        axes.plot(x, y, color=charts.GREY, lw=0.5 if narrow else 0.7, alpha=0.55)
        axes.plot(days, var95, color=charts.ACCENT, lw=0.9)
        axes.plot(days, var99, color=charts.WARM, lw=0.9)
        size = 3.0 if narrow else 4.6
        only95 = below95 & ~below99
        axes.plot(days[only95], came[only95], "o", mfc="none", mec=charts.BAD, mew=1.0, ms=size, zorder=5)
        axes.plot(days[below99], came[below99], "o", color=charts.BAD, ms=size + 1, mew=0, zorder=6)
        charts.percent_axis(axes, sign=True)
        charts.shade_year(axes, days)
        charts.time_axis(axes, narrow)

    key = Key()
    for colour, text, kind in (
        (charts.GREY, "return", "line"),
        (charts.ACCENT, "VaR 95%", "line"),
        (charts.WARM, "VaR 99%", "line"),
        (charts.BAD, "beyond VaR 95%", "ring"),
        (charts.BAD, "beyond VaR 99%", "dot"),
    ):
        key.add(colour, text, kind)
    n = len(came)
    title = (
        f"{inputs.ticker} fell beyond its 95% VaR on {fraction(float(below95.mean()))} of {sessions(n)} "
        f"(5% expected) and beyond its 99% VaR on {fraction(float(below99.mean()))} (1% expected)"
    )
    alt = f"Timeline of one-session returns with value-at-risk lines and exceedances. {title}."
    note = "VaR of a long position over the next session (open to open), known at the close before it."
    return charts.draw("var", title + ".", alt, paint, (340, 290), key, note)


def var_sentence(inputs: Inputs) -> str:
    """How many per-ticker tests the shipped model fails at 5%."""
    rows = [r for r in inputs.evidence["var"] if r["model"] == inputs.model and r["ticker"] != "pooled"]
    counted = [r for r in rows if known(r["kupiec_p"])]
    clustered = [r for r in rows if known(r["christoffersen_p"])]
    if not counted:
        return "Too few sessions for the tests of Kupiec and Christoffersen."
    rejected = sum(r["kupiec_p"] < 0.05 for r in counted)
    text = f"At the 5% level Kupiec's test rejects {rejected} of {len(counted)}"
    if clustered:
        rejected = sum(r["christoffersen_p"] < 0.05 for r in clustered)
        text += f" and Christoffersen's {rejected} of {len(clustered)}"
    return text + " (ticker, level) pairs of the model that ships."


def var_table(inputs: Inputs, short: bool = False) -> Table:
    """Exceedances with the tests of Kupiec (how many) and Christoffersen (how clustered).

    Args:
        short: only the model that ships, pooled and for the ticker in detail.
    """
    found = inputs.evidence["var"]
    if short:
        shown = ("pooled", inputs.ticker)
        found = [row for row in found if row["model"] == inputs.model and row["ticker"] in shown]
    names = [inputs.model, *sorted({row["model"] for row in found} - {inputs.model})]
    ranked = sorted(
        found,
        key=lambda r: (names.index(r["model"]), r["level"], r["ticker"] != "pooled", r["ticker"]),
    )
    rows = []
    for row in ranked:
        count, n = row["exceedances"], row["n"]
        share = count / n if known(n) and n and known(count) else None
        pooled = row["ticker"] == "pooled"  # tickers fall together, so that tests of single cells are none
        rows.append(
            (
                model_label(row["model"]),
                "all tickers" if pooled else str(row["ticker"]),
                f"{row['level']:.0%}",
                number(count, 0),
                number(row["expected"], 0),
                fraction(share, 2),
                p_value(row["clustered_p" if pooled else "kupiec_p"]),
                p_value(row["clustered_independence_p" if pooled else "christoffersen_p"]),
            )
        )
    strong = tuple(i for i, r in enumerate(ranked) if (r["model"], r["ticker"]) == (inputs.model, "pooled"))
    ahead = listed([sessions(h) for h in sorted({row["horizon"] for row in found})])
    return Table(
        f"{ahead} ahead. Is the number of exceedances "
        "right, and do they come independently? A small p says no. Tests of Kupiec and of Christoffersen; over all "
        "tickers, which fall together, tests clustered by session.",
        ("Model", "Ticker", "VaR", "Exceeded", "Expected", "Share", "Number, p", "Independence, p"),
        tuple(rows),
        left=3,
        strong=strong,
    )


def tails_table(inputs: Inputs) -> Table:
    """Every model over all tickers: exceedances with their interval, and the joint loss of what lies beyond."""
    pooled = {(r["model"], r["level"]): r for r in inputs.evidence["var"] if r["ticker"] == "pooled"}
    tails = {(r["model"], r["level"]): r for r in inputs.evidence["tails"]}
    models, levels = list(dict.fromkeys(m for m, _ in tails)), sorted({level for _, level in tails})

    def cells(model: str, level: float) -> tuple[str, str]:
        share, tail = pooled[model, level], tails[model, level]
        span = interval(scaled(share["low"], 100), scaled(share["high"], 100), 2, sign=False)
        saved = f"{number(tail['saved'], 4, sign=True)} {interval(tail['low'], tail['high'], 4, unit='')}"
        return f"{fraction(share['share'], 2)} {span}", "the best baseline" if model == tail["against"] else saved

    heads = [(f"Beyond VaR {level:.0%}", f"Tail loss saved, {level:.0%}") for level in levels]
    return Table(
        f"All tickers, {sessions(inputs.evidence['tails'][0]['horizon'])} ahead, intervals that know their dependence. "
        "Tail loss: the joint loss of value at risk and expected shortfall (Fissler and Ziegel) against the best "
        "baseline; above zero is better.",
        ("Model", *(head for pair in heads for head in pair)),
        tuple((model_label(model), *(c for level in levels for c in cells(model, level))) for model in models),
        strong=tuple(at for at, model in enumerate(models) if model == inputs.model),
    )
