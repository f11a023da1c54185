"""The look-ahead audit: alter everything known after an instant and compare, byte by byte, what was decided before.

Whatever computes outputs from rows can be audited: features, a scaler, labels, forecasters. It is run on the tables
as they are and on tables with another future (features/alterations.py). An output cell used at or before the cut
that differs in a single bit depended on the future. NaN equals NaN; a value equals no NaN and no missing cell.

No tolerance is applied: a difference of one unit in the last place is the future too, and the report says how
large it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.alterations import ALTERATIONS, Alteration, World

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Instants = npt.NDArray[np.datetime64]

EARLY_SHARE = 0.05
"""The first cut falls into this first part of the sessions, where warm-ups end."""
PASSED, LEAK, UNSTEADY = "passed", "leak", "unsteady"


class Cells(NamedTuple):
    """One output: a value a session and ticker, and when it is used.

    Attributes:
        sessions: (T,) datetime64, distinct. tickers: (N,) distinct.
        used_at: (T,) or (T, N) datetime64[us], UTC: the decision that first uses the cell; NaT = never.
        values: (T, N, ...) of numbers or bools.
    """

    sessions: npt.NDArray[np.datetime64]
    tickers: npt.NDArray[np.str_]
    used_at: Instants
    values: npt.NDArray[Any]


Subject = Callable[[World], Mapping[str, Cells]]
"""What is audited: the tables in, named outputs out."""


class AuditError(ValueError):
    """An output cannot be compared."""


class Moved(NamedTuple):
    """The first cell of an output that another future moved.

    cells: how many moved with it, under the same alteration and cut. difference: the largest of theirs; NaN where
    values came or went.
    """

    session: np.datetime64
    ticker: str
    alteration: Alteration | None
    cut: pd.Timestamp | None
    cells: int
    difference: float


@dataclass
class Verdict:
    """What became of one output.

    Attributes:
        name: of the output.
        compared: cells with a value used at or before a cut, summed over all comparisons.
        reacted: whether any cell used after a cut moved: if none did, the audit shows little.
        first: the first offending cell, by session, then ticker, over all cuts and alterations; None = none.
        unsteady: the first cell that differs between two runs on the same rows; such an output is not judged.
        shown_by: the names of the alterations that moved an early cell.
    """

    name: str
    compared: int = 0
    reacted: bool = False
    first: Moved | None = None
    unsteady: Moved | None = None
    shown_by: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """passed, leak or unsteady."""
        if self.unsteady is not None:
            return UNSTEADY
        return PASSED if self.first is None else LEAK

    def sentence(self) -> str:
        """One line for a person."""
        if self.unsteady is not None:
            found = self.unsteady
            return (
                f"{self.name}: not repeatable: two runs on the same rows differ in {found.cells:,} cells, first on "
                f"{_day(found.session)} ({found.ticker}); seed it, then audit it"
            )
        if self.first is None or self.first.alteration is None:
            nothing = "" if self.compared else "; it has no value before any cut"
            return f"{self.name}: passed, {self.compared:,} cells compared{nothing}"
        found = self.first
        return (
            f"{self.name}: leak on {_day(found.session)} ({found.ticker}): {found.cells:,} cells moved when "
            f"{self.first.alteration.of} known after {found.cut:%Y-%m-%d %H:%M:%S}Z were "
            f"{self.first.alteration.name} ({_size(found.difference)})"
        )


def cuts(used_at: Instants, number: int, seed: int) -> list[pd.Timestamp]:
    """Random instants to cut at: decision times, where a cell must hold that the next moment may not touch.

    One lies in the first twentieth of the sessions, where warm-ups end, the others one in each equal part of the
    rest but the last session.

    Args:
        used_at: (T,) datetime64, UTC, ascending, T >= 3.
        number: how many.
        seed: where.

    Raises:
        AuditError: fewer than three sessions.
    """
    last = len(used_at) - 1
    if last < 2:
        raise AuditError(f"{last + 1} sessions are too few to cut; an audit needs 3 at least")
    generator = np.random.default_rng(seed)
    early = max(2, int(last * EARLY_SHARE))
    edges = [0, *np.linspace(early, last, number).astype(int)]
    chosen = [min(int(generator.integers(a, max(b, a + 1))), last - 1) for a, b in pairwise(edges)]
    return [pd.Timestamp(used_at[t]).tz_localize("UTC") for t in sorted(set(chosen))]


def audit(
    subject: Subject,
    world: World,
    at: Sequence[pd.Timestamp],
    alterations: Sequence[Alteration] = ALTERATIONS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Verdict]:
    """Audit every output of `subject`, by name.

    Args:
        subject: a pure function of the tables; it is run twice on the same rows, then once a cut and alteration.
        world: the tables as they are.
        at: the cuts, with time zone.
        alterations: the other futures.
        seed: of the alterations.
        progress: called with (runs done, runs in all).

    Raises:
        AuditError: an output is no array of numbers or bools on its axes.
    """
    runs = 2 + len(at) * (len(alterations) + sum(a.prepare is not None for a in alterations))
    done = 0

    def run(tables: World) -> Mapping[str, Cells]:
        nonlocal done
        found = subject(tables)
        done += 1
        progress(done, runs)
        return found

    base = run(world)
    verdicts = {name: Verdict(name) for name in base}
    _compare_repeats(verdicts, base, run(world))
    for i, cut in enumerate(at):
        for j, alteration in enumerate(alterations):
            tables, before = world, base
            if alteration.prepare is not None:
                tables = alteration.prepare(world, cut, np.random.default_rng((seed, i, j, 0)))
                before = run(tables)
            after = run(alteration.alter(tables, cut, np.random.default_rng((seed, i, j, 1))))
            _judge(verdicts, before, after, cut, alteration)
    return verdicts


def _compare_repeats(verdicts: dict[str, Verdict], base: Mapping[str, Cells], again: Mapping[str, Cells]) -> None:
    for name, verdict in verdicts.items():
        found = _Comparison.of(name, base, again)
        verdict.unsteady = found.first(found.moved, None, None)


def _judge(
    verdicts: dict[str, Verdict],
    before: Mapping[str, Cells],
    after: Mapping[str, Cells],
    cut: pd.Timestamp,
    alteration: Alteration,
) -> None:
    instant = np.datetime64(cut.tz_convert("UTC").tz_localize(None), "us")
    for name in dict.fromkeys([*before, *after]):
        verdict = verdicts.setdefault(name, Verdict(name))
        found = _Comparison.of(name, before, after)
        early = found.used_at <= instant
        verdict.compared += int((early & found.holds).sum())
        verdict.reacted |= bool((found.moved & ~early).any())
        moved = found.first(found.moved & early, alteration, cut)
        if moved is None:
            continue
        shown = f"{alteration.of} {alteration.name}"
        if shown not in verdict.shown_by:
            verdict.shown_by.append(shown)
        if verdict.first is None or (moved.session, moved.ticker) < (verdict.first.session, verdict.first.ticker):
            verdict.first = moved


class _Comparison(NamedTuple):
    """Two runs of one output on the union of their axes: moved, holds (a value in the first run), used_at: (T, N)."""

    sessions: npt.NDArray[np.datetime64]
    tickers: npt.NDArray[np.str_]
    used_at: Instants
    holds: Bools
    moved: Bools
    pair: tuple[npt.NDArray[Any], npt.NDArray[Any]]

    @classmethod
    def of(cls, name: str, before: Mapping[str, Cells], after: Mapping[str, Cells]) -> _Comparison:
        cells = [runs[name] for runs in (before, after) if name in runs]
        for each in cells:
            _check(name, each)
        sessions, tickers = _axes(cells)
        # A run without the output is a run without a cell of it.
        like = np.empty(
            (0, 0, *cells[0].values.shape[2:]), np.result_type(*(c.values.dtype for c in cells), np.float32)
        )
        pair = [_spread(runs.get(name), like, sessions, tickers) for runs in (before, after)]
        (one, used_one, holds), (other, used_other, _) = pair
        used_at = np.fmin(used_one, used_other)  # the earlier one; NaT where neither has the cell
        moved = np.asarray((_bits(one) != _bits(other)).any(axis=-1))
        return cls(sessions, tickers, used_at, holds, moved, (one, other))

    def first(self, which: Bools, alteration: Alteration | None, cut: pd.Timestamp | None) -> Moved | None:
        where = np.argwhere(which)
        if not len(where):
            return None
        t, n = where[0]
        one, other = (values[which] for values in self.pair)
        came_or_went = bool((np.isnan(one) != np.isnan(other)).any())
        size = float("nan") if came_or_went else float(np.nanmax(np.abs(one - other)))
        return Moved(self.sessions[t], str(self.tickers[n]), alteration, cut, len(where), size)


def _check(name: str, cells: Cells) -> None:
    shape = len(cells.sessions), len(cells.tickers)
    if cells.values.shape[:2] != shape or cells.values.dtype.kind not in "fiub":
        raise AuditError(
            f"{name} is {cells.values.dtype} of shape {cells.values.shape}; expected numbers of shape {shape}: a row "
            "a session, a column a ticker"
        )


def _axes(cells: Sequence[Cells]) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.str_]]:
    """The union of the sessions and of the tickers, ascending."""
    first = cells[0]
    sessions, tickers = first.sessions.astype("datetime64[D]"), np.asarray(first.tickers, dtype=str)
    alike = all(np.array_equal(first.sessions, c.sessions) and np.array_equal(first.tickers, c.tickers) for c in cells)
    if alike and (sessions[1:] > sessions[:-1]).all() and (tickers[1:] > tickers[:-1]).all():
        return sessions, tickers  # as mostly; sorting for every output takes longer than comparing it
    return (
        np.unique(np.concatenate([c.sessions.astype("datetime64[D]") for c in cells])),
        np.unique(np.concatenate([np.asarray(c.tickers, dtype=str) for c in cells])),
    )


def _spread(
    cells: Cells | None,
    like: npt.NDArray[Any],
    sessions: npt.NDArray[np.datetime64],
    tickers: npt.NDArray[np.str_],
) -> tuple[npt.NDArray[Any], Instants, Bools]:
    """On (T, N): K values in the type of `like`, NaN where there is no cell; used_at; whether there is a value."""
    shape = len(sessions), len(tickers)
    width = int(np.prod(like.shape[2:], dtype=np.int64))
    if cells is None:
        never = np.full(shape, np.datetime64("NaT"), dtype="datetime64[us]")
        return np.full((*shape, width), np.nan, dtype=like.dtype), never, np.zeros(shape, dtype=bool)
    used = np.asarray(cells.used_at, dtype="datetime64[us]")
    used = np.broadcast_to(used[:, None] if used.ndim == 1 else used, cells.values.shape[:2])
    given = cells.values.reshape(*cells.values.shape[:2], width).astype(like.dtype, copy=False)
    if np.array_equal(cells.sessions, sessions) and np.array_equal(cells.tickers, tickers):
        values, used_at = given, used
    else:
        values = np.full((*shape, width), np.nan, dtype=like.dtype)
        used_at = np.full(shape, np.datetime64("NaT"), dtype="datetime64[us]")
        t = np.searchsorted(sessions, cells.sessions.astype("datetime64[D]"))
        at = np.ix_(t, np.searchsorted(tickers, np.asarray(cells.tickers, dtype=str)))
        values[at], used_at[at] = given, used
    return values, used_at, np.asarray(~np.isnan(values).all(axis=-1))


def _bits(values: npt.NDArray[Any]) -> Bytes:
    """(T, N, bytes), every NaN the same one."""
    alike = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return np.ascontiguousarray(alike).view(np.uint8)


def _day(session: np.datetime64) -> str:
    return str(session.astype("datetime64[D]"))


def _size(difference: float) -> str:
    return "a value came or went" if np.isnan(difference) else f"by up to {difference:.3g}"
