"""The catalogue of features as text: FEATURES.md, and what `tradewind features --list` shows."""

from __future__ import annotations

from features.catalogue import NOTATION, catalogue
from features.own import EXAMPLE
from pipeline.summary import Summary

INTRODUCTION = """\
# Features

Generated from `features/catalogue.py` by `make docs`; do not edit by hand.

Every feature of a session is known at the session's decision time, is computed from trailing data alone, and is
missing where its ticker has no bar. No price level, currency or unit of volume enters. Missing values are NaN in the
table; the scaler sets them to 0, and `observed` says that there was a bar. *Warm-up* is in sessions from a ticker's
first bar, that one included, where none is missing. Windows count sessions of the exchange, and are defined once 4/5 of
theirs have a bar: a *short window* has fewer.

**A year of features depends on three years of bars, exactly.** Calendar years are computed
in pairs, an even one and the next, from the bars from January 1 of the year before the pair on, and from nothing else.
So a run on the last three years gives the last one the same bits as one on the whole history. Only a ticker's first bar
of these years has no return.

`[features] families` takes whole families, in this order; `[features] chosen` exactly the features named, in the order
named; `[features] own` adds your own (at the end of this page).
"""


def reference() -> str:
    """The Markdown reference of every feature, family by family."""
    lines = [INTRODUCTION, f"Notation: {NOTATION}", ""]
    for family in dict.fromkeys(feature.family for feature in catalogue()):
        rows = [feature for feature in catalogue() if feature.family == family]
        lines += [f"## {family}", "", "| feature | formula | warm-up | also missing | source |", "| --- " * 5 + "|"]
        for row in rows:
            cells = (f"`{row.name}`", row.formula, str(row.warm_up), row.missing, row.source)
            lines.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
        lines.append("")
    return "\n".join([*lines, "## Your own", "", OWN, "", f"```python\n{EXAMPLE}```", ""])


OWN = """\
Write a function of `features.prices.Wide` (frames of adjusted prices, sessions down, tickers across) in a module of
yours, and name it: `[features] own = ["my_features.py:my_family"]`. It is called once for each
pair of calendar years, an even one and the next, on these and the year before; only the pair is kept. `tradewind audit
lookahead --module my_features.py:my_family` tells whether it looks ahead."""


def listing() -> Summary:
    """One line a feature: family, name, warm-up, formula; as figures all that the catalogue says."""
    lines = [f"{each.family:<11}{each.name:<20}{each.warm_up:>4}  {each.formula}" for each in catalogue()]
    lines = [f"{'family':<11}{'feature':<20}{'warm':>4}  formula", *lines, "", NOTATION]
    return Summary("features", tuple(lines), {"features": [each._asdict() for each in catalogue()]})


def _escaped(cell: str) -> str:
    """As Markdown shows it: bars would end the cell, stars would slant the text."""
    return cell.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    print(reference(), end="")
