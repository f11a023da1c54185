"""What a look-ahead audit found: as a table for a person, and as figures for a machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from features.audit import LEAK, PASSED, UNSTEADY, Verdict
from features.table import FEATURES, OBSERVED
from pipeline.audited import RETURN, VOL
from pipeline.audited_race import FORECASTER, SCALER
from pipeline.canaries import Canary

OWN, LABELS = "your own features", "labels"
MOST_NAMED = 20
_FAMILY_OF = {name: f"features: {family}" for family, names in FEATURES.items() for name in names} | {
    **dict.fromkeys((OBSERVED, VOL, RETURN), "observed, vol and r"),
}


class Planted(NamedTuple):
    """A planted leak and what the audit says of its features."""

    canary: Canary
    verdicts: Mapping[str, Verdict]

    @property
    def caught(self) -> bool:
        """Whether a leak was seen in each of its features."""
        return all(verdict.first is not None for verdict in self.verdicts.values())


def part_of(name: str) -> str:
    """The line of the table that an output belongs to."""
    plain = name.partition(" on ")[0]  # of several calendars
    if plain in _FAMILY_OF:
        return _FAMILY_OF[plain]
    kind = plain.partition(" ")[0].rstrip(":")
    if kind == FORECASTER:
        return plain.partition(":")[0]
    return {LABELS: LABELS, SCALER: SCALER}.get(kind, OWN)


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """A line a part: how many outputs, how much was compared, how many of them the other futures moved after the cut,
    and the verdict; then every output that failed, in a sentence of its own."""
    parts: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        parts.setdefault(part_of(verdict.name), []).append(verdict)
    width = max(len(part) for part in parts) + 2
    lines = [f"  {'what':<{width}}{'outputs':>7}{'cells compared':>17}{'moved later':>14}  verdict"]
    for part, some in parts.items():
        compared, moved = sum(v.compared for v in some), sum(v.reacted for v in some)
        failed = [v.status for v in some if v.status != PASSED]
        told = ", ".join(_counted(failed.count(status), status) for status in dict.fromkeys(failed)) or PASSED
        lines.append(f"  {part:<{width}}{len(some):>7,}{compared:>17,}{f'{moved} of {len(some)}':>14}  {told}")
    failed_ones = [v for v in verdicts if v.status != PASSED]
    lines += ["", *(f"  {v.sentence()}" for v in failed_ones[:MOST_NAMED])] if failed_ones else []
    if len(failed_ones) > MOST_NAMED:
        lines.append(f"  and {len(failed_ones) - MOST_NAMED:,} more: --json has all")
    return lines + _silent(verdicts)


def planted_table(planted: Sequence[Planted]) -> list[str]:
    """A line a planted leak: its feature, the first offending session, and what showed it."""
    caught = sum(each.caught for each in planted)
    width = max(len(each.canary.leak) for each in planted) + 2
    wide = max(len(name) for each in planted for name in each.verdicts) + 2
    lines = [
        f"Planted leaks, which the audit has to find: {caught} of {len(planted)} found",
        f"  {'planted':<{width}}{'feature':<{wide}}{'first offending session':<25}moved by",
    ]
    for each in planted:
        for name, verdict in each.verdicts.items():
            found = verdict.first
            where = "NOT FOUND" if found is None else f"{_day(verdict)} ({found.ticker})"
            lines.append(f"  {each.canary.leak:<{width}}{name:<{wide}}{where:<25}{', '.join(verdict.shown_by[:2])}")
    return lines


def figures(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values."""
    found = verdict.unsteady or verdict.first
    told: dict[str, Any] = {
        "name": verdict.name,
        "part": part_of(verdict.name),
        "status": verdict.status,
        "compared": verdict.compared,
        "moved_later": verdict.reacted,
    }
    if found is None:
        return told
    return told | {
        "first_session": _day(verdict),
        "ticker": found.ticker,
        "cells": found.cells,
        "difference": None if math.isnan(found.difference) else found.difference,
        "cut": None if found.cut is None else found.cut.isoformat(),
        "moved_by": verdict.shown_by,
        "sentence": verdict.sentence(),
    }


def planted_figures(each: Planted) -> list[dict[str, Any]]:
    """A planted leak as JSON values, a feature each."""
    return [
        {"planted": each.canary.leak, **figures(verdict), "part": "planted", "found": verdict.first is not None}
        for verdict in each.verdicts.values()
    ]


def failures(verdicts: Sequence[Verdict], planted: Sequence[Planted]) -> list[str]:
    """Every reason why the audit did not pass, in few words: the output and its first offending session."""
    found = [f"{v.name} ({_WORDS[v.status]}, first {_day(v)})" for v in verdicts if v.status != PASSED]
    return found + [f"planted leak not found: {each.canary.leak}" for each in planted if not each.caught]


def _silent(verdicts: Sequence[Verdict]) -> list[str]:
    """Outputs of the user's that no altered row ever moved: they were shown to nothing."""
    names = [v.name for v in verdicts if part_of(v.name) == OWN and v.status == PASSED and not v.reacted]
    if not names:
        return []
    return [
        "",
        f"  note: nothing that was altered moved {', '.join(names[:MOST_NAMED])}, before a cut or after it; what does "
        "not follow from the prices it is given, a file it reads, cannot be audited",
    ]


def _day(verdict: Verdict) -> str:
    found = verdict.unsteady or verdict.first
    return "" if found is None else str(found.session.astype("datetime64[D]"))


def _counted(number: int, status: str) -> str:
    return f"{number} {_WORDS[status]}" + ("s" if status == LEAK and number > 1 else "")


_WORDS = {LEAK: "leak", UNSTEADY: "not repeatable"}
