"""Charts as inline SVG: one style, colours that follow the page's theme, the same bytes for the same data.

A chart is painted twice, for a wide page and for a phone, and the style sheet shows the one that fits: text
keeps its size. Colours are painted as sentinels and replaced by CSS variables, so light and dark need no
second picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from matplotlib import dates as mdates
from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from pipeline.reporting.formats import number

WIDE, NARROW = 1040, 360
"""Width of the two paintings in CSS pixels (one point of the figure is one pixel)."""

# Sentinel -> CSS variable of style.css.
INK, SOFT, LINE = "#010101", "#020202", "#030303"
ACCENT, SECOND, WARM, GREY, BAD, GOOD = "#040404", "#050505", "#060606", "#070707", "#080808", "#090909"
SHADE = "#0a0a0a"
_VARIABLES = {
    INK: "ink",
    SOFT: "soft",
    LINE: "line",
    ACCENT: "accent",
    SECOND: "second",
    WARM: "warm",
    GREY: "grey",
    BAD: "bad",
    GOOD: "good",
    SHADE: "shade",
}

STRATEGY_COLOURS = {"vol_target": ACCENT, "ewma_target": SECOND, "constant": WARM, "buy_and_hold": GREY}
HORIZON_COLOURS = (ACCENT, WARM, GREY, SECOND)

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.parse_math": False,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.5,
    "lines.solid_joinstyle": "round",
    "patch.linewidth": 0,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "path.simplify": True,
    "path.simplify_threshold": 0.25,
}

Painter = Callable[[Figure, bool], None]
"""Paints a chart on an empty figure; the flag says whether it is the narrow one."""


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    Attributes:
        name: unique in the page; prefixes every id inside the SVG.
        title: the finding, as a sentence.
        alt: what the picture shows, for a reader who cannot see it.
        wide, narrow: SVG source.
        legend: (CSS variable, label, kind) entries, shown by the page above the picture.
        note: how to read it.
    """

    name: str
    title: str
    alt: str
    wide: str
    narrow: str
    legend: tuple[tuple[str, str, str], ...] = ()
    note: str = ""


@dataclass
class Key:
    """The legend of a chart, collected once: the page shows it as text that wraps."""

    entries: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, colour: str, label: str, kind: str = "line") -> None:
        """One entry; kind is line, band, faint, dot or ring."""
        self.entries.append((_VARIABLES[colour], label, kind))


def draw(
    name: str,
    title: str,
    alt: str,
    paint: Painter,
    heights: tuple[int, int],
    key: Key | None = None,
    note: str = "",
) -> Chart:
    """Paint a chart at both widths.

    Args:
        heights: (wide, narrow) in CSS pixels.
    """
    wide, narrow = (
        _svg(f"{name}-{'n' if small else 'w'}", paint, small, (NARROW if small else WIDE, heights[small]))
        for small in (False, True)
    )
    return Chart(name, title, alt, wide, narrow, tuple(key.entries) if key else (), note)


def time_axis(axes: Axes, narrow: bool) -> None:
    """Few date labels, as short as they can be told apart."""
    locator = mdates.AutoDateLocator(  # type: ignore[no-untyped-call]
        minticks=2, maxticks=5 if narrow else 11
    )
    axes.xaxis.set_major_locator(locator)
    formatter = mdates.ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    formatter.formats = ["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%S"]
    formatter.zero_formats = ["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"]
    axes.xaxis.set_major_formatter(formatter)
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.01)


def percent_axis(axes: Axes, sign: bool = False, axis: str = "y", scale: float = 100.0) -> None:
    """Tick labels in percent of fractions (or of percents, with scale 1)."""
    number_axis(axes, sign, axis, scale, "%")


def number_axis(
    axes: Axes, sign: bool = False, axis: str = "y", scale: float = 1.0, unit: str = "", ticks: int = 7
) -> None:
    """Round steps of 1, 2 or 5, with labels that are exact."""
    target = axes.yaxis if axis == "y" else axes.xaxis
    target.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))

    def label(value: float, _: int | None) -> str:
        shown = round(value * scale, 9)
        digits = max(0, -int(Decimal(f"{shown:g}").as_tuple().exponent))
        return number(shown, digits, sign and shown != 0) + unit

    target.set_major_formatter(FuncFormatter(label))


def log_axis(axes: Axes, values: NDArray[np.float64]) -> None:
    """A log axis of multiples (1x, 2x, ...) with a handful of labels."""
    axes.set_yscale("log")
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    low, high = low / 1.05, high * 1.08
    ladder = [m * 10.0**e for e in range(-4, 7) for m in (1, 2, 5)]
    if high / low < 12:
        ladder = [m * 10.0**e for e in range(-4, 7) for m in (1, 1.5, 2, 3, 5, 7)]
    if high / low < 3:
        ladder = [m * 10.0**e for e in range(-4, 7) for m in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    axes.set_ylim(low, high)
    axes.set_yticks([tick for tick in ladder if low <= tick <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))  # noqa: RUF001
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)


def shade_year(axes: Axes, sessions: NDArray[np.datetime64], year: int = 2008) -> None:
    """Shade a calendar year, if the data reach into it."""
    first, last = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year}-12-31")
    start, end = sessions[0].astype("datetime64[D]"), sessions[-1].astype("datetime64[D]")
    if end < first or start > last:
        return
    left, right = max(first, start), min(last, end)
    axes.axvspan(left, right, color=SHADE, lw=0, zorder=0)
    axes.text(
        left + (right - left) // 2,
        0.99,
        str(year),
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        fontsize=11,
        color=SOFT,
    )


def _svg(name: str, paint: Painter, narrow: bool, size: tuple[int, int]) -> str:
    with mpl_style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
        layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=5 / 72)
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout=layout)
        figure.patch.set_alpha(0)
        canvas = FigureCanvasSVG(figure)
        paint(figure, narrow)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return _clean(buffer.getvalue(), name)


def _clean(svg: str, name: str) -> str:
    """Only the `<svg>` element: no size, metadata or style of its own, ids prefixed, colours as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None
    head = f'<svg viewBox="{box.group(1)}" aria-hidden="true" focusable="false">'
    svg = re.sub(r"<svg.*?>", head, svg, count=1)
    for start in ('id="', 'href="#', "url(#"):
        svg = svg.replace(start, f"{start}{name}-")
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\b(d|x|y|transform|points)="[^"]*"', _rounded, svg)
    svg = re.sub(r"'DejaVu Sans', sans-serif|'DejaVu Sans'", "inherit", svg)
    for sentinel, variable in _VARIABLES.items():
        svg = svg.replace(sentinel, f"var(--{variable})")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    return re.sub(r"\n\s*", "\n", svg).strip()


def _rounded(match: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{2,}", lambda m: f"{float(m.group()):.1f}", match.group())
