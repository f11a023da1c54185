"""How well the forecast distributions fit what came: fan, coverage, PIT."""

from __future__ import annotations

from itertools import pairwise
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
    listed,
    model_label,
    number,
    p_value,
    scaled,
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


def pit_chart(inputs: Inputs) -> Chart | None:
    """Returns that fell between neighbouring quantiles, over those promised: one panel a horizon."""
    rows = [row for row in inputs.evidence["pit"] if row["model"] == inputs.model]
    if not rows:
        return None
    edges = [f"{level:.0%}" for level in QUANTILES]
    names = [f"below {edges[0]}", *(f"{a[:-1]}\N{EN DASH}{b}" for a, b in pairwise(edges)), f"above {edges[-1]}"]

    def paint(figure: Figure, narrow: bool) -> None:
        grid = figure.subplots(*((len(rows), 1) if narrow else (1, len(rows))), squeeze=False, sharey=True)
        for at, (axes, row) in enumerate(zip(grid.ravel(), rows, strict=True)):
            colour, expected = HORIZON_COLOURS[at % len(HORIZON_COLOURS)], np.asarray(row["expected"])
            ratio, low, high = (np.asarray(row[name], dtype=float) / expected for name in ("shares", "low", "high"))
            axes.bar(range(len(names)), ratio, 0.86, color=colour, alpha=0.55)
            axes.vlines(range(len(names)), low, high, color=colour, lw=2)
            axes.axhline(1, color=charts.SOFT, lw=1, ls=(0, (4, 3)))
            axes.set_title(f"{sessions(row['horizon'])} ahead")
            axes.set_xticks(range(0, len(names), 3), names[::3])
            axes.grid(visible=False, axis="x")
            charts.number_axis(axes, unit="\N{MULTIPLICATION SIGN}", ticks=5)

    title = pit_sentence(rows)
    told = listed([f"{p_value(row['p_value'])} at {sessions(row['horizon'])}" for row in rows])
    note = (
        f"{model_label(inputs.model)}, all tickers, out of sample: the probability integral transform between the "
        "forecast quantiles. At 1 as many fell there as promised. Lines: intervals clustered by session. Test of all "
        f"bins together: p {told}."
    )
    alt = f"Histogram of the probability integral transform by horizon. {title}"
    return charts.draw("pit", title, alt, paint, (300, 200 * len(rows)), None, note)


def pit_sentence(rows: list[dict[str, Any]]) -> str:
    """Where the returns are most clearly not as promised, for the width of the interval there.

    Args:
        rows: of `pit` in evidence.json, one a horizon.
    """
    off = {(n, at): _off(row, at) for n, row in enumerate(rows) for at in range(len(row["shares"]))}
    n, at = max(off, key=lambda key: off[key])
    row, edges = rows[n], [f"{level:.0%}" for level in QUANTILES]
    told = (
        f"{fraction(row['shares'][at])} of returns {_between(edges, at)}, where {fraction(row['expected'][at])} were "
        f"promised, {sessions(row['horizon'])} ahead."
    )
    if row["low"][at] <= row["expected"][at] <= row["high"][at]:
        return f"Nowhere are returns clearly out of line with the quantiles; most so, {told}"
    return f"Most clearly out of line: {told}"


def volatile_table(inputs: Inputs) -> Table:
    """What the 80 % band of every model held: in all sessions, and in the third forecast to be most volatile."""
    rows = inputs.evidence["coverage"]
    horizons = sorted({row["horizon"] for row in rows})
    found = {(row["model"], row["horizon"], row["sessions"]): row for row in rows}
    keys = [(h, which) for h in horizons for which in ("all", "volatile")]
    models = list(dict.fromkeys(str(row["model"]) for row in rows))

    def cell(row: dict[str, Any]) -> str:
        span = interval(scaled(row["low"], 100), scaled(row["high"], 100), unit="", sign=False)
        return f"{number(scaled(row['share'], 100), 1)} {span}"

    names = {"all": "all", "volatile": "volatile third"}
    return Table(
        "Share of returns within the 80% band, in percent. Volatile third: the sessions whose volatility, known "
        "beforehand, was highest.",
        ("Model", *(f"{sessions(h)}, {names[which]}" for h, which in keys)),
        tuple((model_label(model), *(cell(found[model, *key]) for key in keys)) for model in models),
        strong=tuple(at for at, model in enumerate(models) if model == inputs.model),
    )


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


def _off(row: dict[str, Any], at: int) -> float:
    """Distance of a bin's share from the promised one, in widths of its interval."""
    return float(abs(row["shares"][at] - row["expected"][at]) / max(row["high"][at] - row["low"][at], 1e-12))


def _between(edges: list[str], at: int) -> str:
    if at == 0:
        return f"fell below the {edges[0]} quantile"
    if at == len(edges):
        return f"rose above the {edges[-1]} quantile"
    return f"fell between the {edges[at - 1]} and {edges[at]} quantiles"


def fan_and_coverage(inputs: Inputs, rows: pd.DataFrame) -> tuple[list[Chart], Table]:
    """The charts of the calibration section and its table."""
    shares = coverage(inputs, rows)
    drawn: list[Any] = [fan_chart(inputs, rows), coverage_chart(shares), pit_chart(inputs)]
    return [chart for chart in drawn if chart is not None], coverage_table(shares)
