"""How well the forecast distributions fit what came: fan, coverage, value at risk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from features.frames import QUANTILE_COLUMNS, QUANTILES
from pipeline.reporting import charts
from pipeline.reporting.charts import HORIZON_COLOURS, Chart, Key
from pipeline.reporting.formats import (
    Table,
    fraction,
    inside,
    interval,
    known,
    model_label,
    number,
    p_value,
    sessions,
)
from pipeline.reporting.inputs import Inputs

FAN_HORIZON = 5
FAN_SESSIONS = 126
_BANDS = (("q01", "q99", 0.14), ("q10", "q90", 0.22), ("q25", "q75", 0.34))


def outcomes(inputs: Inputs) -> pd.DataFrame:
    """Forecast rows of the model that ships beside the return that came; only where it is known."""
    rows = inputs.forecasts[inputs.forecasts["model"] == inputs.model]
    keys = ["ticker", "session", "horizon"]
    return rows.merge(inputs.targets[[*keys, "log_return"]], on=keys).dropna(subset=["q50", "log_return"])


def fan_chart(inputs: Inputs, rows: pd.DataFrame) -> Chart | None:
    """The last half year of one ticker: bands of the forecast and the return that came."""
    horizons = sorted(rows["horizon"].unique())
    if not horizons:
        return None
    horizon = min(horizons, key=lambda h: abs(h - FAN_HORIZON))
    part = rows[(rows["ticker"] == inputs.ticker) & (rows["horizon"] == horizon)].sort_values("session")
    part = part.tail(FAN_SESSIONS)
    if part.empty:
        return None
    days = part["session"].to_numpy().astype("datetime64[D]")
    inside80 = float(part["log_return"].between(part["q10"], part["q90"]).mean())
    outside = ~part["log_return"].between(part["q01"], part["q99"])

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for low, high, alpha in _BANDS:
            axes.fill_between(days, part[low], part[high], color=charts.ACCENT, alpha=alpha, lw=0)
        axes.plot(days, part["q50"], color=charts.ACCENT, lw=1)
        size = 3.2 if narrow else 4.2
        axes.plot(days[~outside], part["log_return"][~outside], "o", color=charts.INK, ms=size, mew=0)
        axes.plot(days[outside], part["log_return"][outside], "o", color=charts.BAD, ms=size + 1.5, mew=0)
        charts.percent_axis(axes, sign=True)
        charts.time_axis(axes, narrow)

    key = Key()
    for colour, text, kind in (
        (charts.ACCENT, "50% band", "band"),
        (charts.ACCENT, "80%", "band2"),
        (charts.ACCENT, "98%", "band3"),
        (charts.INK, "return that came", "dot"),
        (charts.BAD, "outside 98%", "dot"),
    ):
        key.add(colour, text, kind)
    title = (
        f"{fraction(inside80, 0)} of {inputs.ticker}'s last {len(part)} returns over {sessions(horizon)} "
        "fell inside the 80% band"
    )
    alt = f"Fan chart of forecast bands by decision session with realised returns as dots. {title}."
    note = (
        f"Forecast of the {inside(model_label(inputs.model))}, made out of sample at the close of each "
        f"session from {days[0]} to {days[-1]}; "
        f"dot: the log return over the {sessions(horizon)} from the next open. Windows overlap, so "
        "neighbouring dots move together."
    )
    return charts.draw("fan", title + ".", alt, paint, (360, 300), key, note)


def coverage(inputs: Inputs, rows: pd.DataFrame) -> pd.DataFrame:
    """Share of returns at or below each forecast quantile, with a block interval.

    Returns:
        horizon, level, share, low, high (fractions; NaN ends with fewer than four blocks).
    """
    found = []
    for horizon in sorted(set(rows["horizon"].tolist())):
        part = rows[rows["horizon"] == horizon]
        for level, column in zip(QUANTILES, QUANTILE_COLUMNS, strict=True):
            hits = (part["log_return"] <= part[column]).groupby(part["session"]).agg(["sum", "count"])
            share, half = block_share(hits.to_numpy(np.float64), int(inputs.evidence["block_sessions"]))
            found.append((horizon, level, share, share - half, share + half))
    return pd.DataFrame(found, columns=["horizon", "level", "share", "low", "high"])


def coverage_chart(shares: pd.DataFrame) -> Chart | None:
    """Nominal against empirical share below each quantile, and the difference enlarged."""
    if shares.empty:
        return None
    horizons = sorted(shares["horizon"].unique())
    miss = shares.assign(miss=(shares["share"] - shares["level"]) * 100)
    worst = miss.iloc[int(miss["miss"].abs().to_numpy().argmax())]

    def paint(figure: Figure, narrow: bool) -> None:
        left, right = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, width_ratios=(2, 3))
        left.plot([0, 1], [0, 1], color=charts.SOFT, lw=1, ls=(0, (4, 3)))
        right.axhline(0, color=charts.SOFT, lw=1, ls=(0, (4, 3)))
        for at, horizon in enumerate(horizons):
            part, colour = miss[miss["horizon"] == horizon], HORIZON_COLOURS[at % len(HORIZON_COLOURS)]
            left.plot(part["level"], part["share"], "o-", color=colour, ms=4.5, lw=1)
            x = np.arange(len(part)) + (at - (len(horizons) - 1) / 2) * 0.22
            low, high = ((part[end] - part["level"]) * 100 for end in ("low", "high"))
            right.vlines(x, low, high, color=colour, lw=2, alpha=0.45)
            right.plot(x, part["miss"], "o", color=colour, ms=5.5, mew=0)
        left.set_title("Share of returns below the quantile")
        left.set_xlabel("nominal")
        left.set_ylabel("empirical")
        charts.percent_axis(left)
        charts.percent_axis(left, axis="x")
        right.set_title("Empirical minus nominal, percentage points")
        right.set_xticks(range(len(QUANTILES)), [f"{level:.0%}" for level in QUANTILES])
        right.set_xlabel("nominal quantile")
        charts.number_axis(right, sign=True)
        right.grid(visible=False, axis="x")

    key = Key()
    for at, horizon in enumerate(horizons):
        key.add(HORIZON_COLOURS[at % len(HORIZON_COLOURS)], sessions(int(horizon)) + " ahead", "dot")
    title = (
        f"The worst quantile is off by {number(abs(worst['miss']), 1)} points: {fraction(worst['share'])} of "
        f"returns were below the {worst['level']:.0%} quantile {sessions(int(worst['horizon']))} ahead"
    )
    note = "All tickers, whole out-of-sample period. Bars: 95% interval over blocks of sessions."
    alt = f"Calibration chart: nominal against empirical share below each quantile. {title}."
    return charts.draw("coverage", title + ".", alt, paint, (330, 600), key, note)


def coverage_table(shares: pd.DataFrame) -> Table:
    """Empirical share by nominal quantile and horizon."""
    rows = []
    for level in QUANTILES:
        cells = [f"{level:.0%}"]
        for _, row in shares[shares["level"] == level].sort_values("horizon").iterrows():
            span = interval(row["low"] * 100, row["high"] * 100, sign=False)
            cells.append(f"{fraction(row['share'])} {span}")
        rows.append(tuple(cells))
    head = ("Nominal", *(sessions(int(h)) for h in sorted(shares["horizon"].unique())))
    return Table("Share of returns at or below the forecast quantile.", head, tuple(rows))


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
        rows.append(
            (
                model_label(row["model"]),
                "all tickers" if row["ticker"] == "pooled" else str(row["ticker"]),
                f"{row['level']:.0%}",
                number(count, 0),
                number(row["expected"], 0),
                fraction(share, 2),
                p_value(row["kupiec_p"]),
                p_value(row["christoffersen_p"]),
            )
        )
    strong = tuple(i for i, r in enumerate(ranked) if (r["model"], r["ticker"]) == (inputs.model, "pooled"))
    return Table(
        "One session ahead. Kupiec: is the number of exceedances right? Christoffersen: do they come "
        "independently? A small p-value says no.",
        ("Model", "Ticker", "VaR", "Exceeded", "Expected", "Share", "Kupiec p", "Christoffersen p"),
        tuple(rows),
        left=3,
        strong=strong,
    )


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


def block_share(hits: NDArray[np.float64], block: int) -> tuple[float, float]:
    """Share of hits and the half-width of its 95% interval from the spread of block shares.

    Args:
        hits: (T, 2): hits and trials of each session, in order of time.
    """
    total = float(hits[:, 0].sum() / hits[:, 1].sum())
    blocks = len(hits) // block
    if blocks < 4:
        return total, float("nan")
    cut = hits[: blocks * block].reshape(blocks, block, 2).sum(axis=1)
    residual = (cut[:, 0] - total * cut[:, 1]) / cut[:, 1].mean()
    return total, 2.0 * float(residual.std(ddof=1)) / np.sqrt(blocks)


def fan_and_coverage(inputs: Inputs, rows: pd.DataFrame) -> tuple[list[Chart], Table]:
    """The charts of the calibration section and its table."""
    shares = coverage(inputs, rows)
    drawn: list[Any] = [fan_chart(inputs, rows), coverage_chart(shares)]
    return [chart for chart in drawn if chart is not None], coverage_table(shares)
