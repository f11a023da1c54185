"""Purged, embargoed splits: a walk-forward by calendar period, fixed dates of a published protocol, nested blocks.

A label at session t is known only after its horizon, so the sessions just before a test slice have labels that
reach into it: they are purged, and a few more are embargoed against features that remember (Lopez de Prado
2018, chapter 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

Refit = Literal["year", "half_year", "quarter", "month"]
"""How long a test slice is, and so how often a model is fitted anew: calendar periods."""

_MONTHS: dict[Refit, int] = {"year": 12, "half_year": 6, "quarter": 3, "month": 1}
_LONGEST_BREAK = np.timedelta64(10, "D")
"""No exchange of ours rests longer: sessions that end earlier than this before a date do not reach it."""


@dataclass(frozen=True)
class Fold:
    """Positions on the axis of sessions; every slice is half open.

    fit is [0, fit_end), validation [validation_start, train_end), all of training [0, train_end), test
    [test_start, test_end). Purge sessions lie between fit and validation, purge + embargo before the test.
    """

    name: str
    fit_end: int
    validation_start: int
    train_end: int
    test_start: int
    test_end: int


@dataclass(frozen=True)
class Dates:
    """One split of a published protocol by its dates, half open: each date is the first that belongs to its slice.

    Training runs from the first session held until `validation`; validation until `test`; the test until `end`. So
    StockNet (Xu and Cohen 2018), "train 2014-01-01 to 2015-08-01, validation to 2015-10-01, test to 2016-01-01", has
    validation 2015-08-01, test 2015-10-01 and end 2016-01-01, on sessions that begin in 2014.
    """

    name: str
    validation: np.datetime64
    test: np.datetime64
    end: np.datetime64

    def __str__(self) -> str:
        return f"{self.name} (validation from {self.validation}, test from {self.test} to {self.end})"


def walk_forward(
    sessions: npt.NDArray[np.datetime64],
    min_train: int,
    validation: int,
    purge: int,
    embargo: int,
    first_test: np.datetime64 | None = None,
    refit: Refit = "year",
) -> list[Fold]:
    """One fold a calendar period, the first with at least `min_train` training sessions, named by its period.

    Args:
        sessions: (T,) datetime64[D], ascending.
        min_train: training sessions needed before the first test session.
        validation: last training sessions, kept for choices.
        purge: sessions whose labels are not known yet at the start of the next slice.
        embargo: sessions dropped on top.
        first_test: no test session before this date.
        refit: the period: names are like 2013, 2013H1, 2013Q2, 2013-04.

    Raises:
        ValueError: no period has enough history before it, or validation and purge leave nothing to fit on.
    """
    period = sessions.astype("datetime64[M]").astype(np.int64) // _MONTHS[refit]  # since 1970
    wanted = np.ones(len(sessions), np.bool_) if first_test is None else sessions >= first_test
    folds = []
    for each in np.unique(period[wanted]):
        where = np.flatnonzero(wanted & (period == each))
        if where[0] - purge - embargo >= min_train:
            test = int(where[0]), int(where[-1]) + 1
            folds.append(_fold(_period_name(int(each), refit), *test, validation, purge, embargo))
    if not folds:
        raise ValueError(
            f"{len(sessions)} sessions leave no test {refit.replace('_', ' ')} after {min_train} training sessions, "
            f"a purge of {purge} and an embargo of {embargo}"
        )
    if folds[0].fit_end < 1:
        raise ValueError(
            f"nothing is left to fit on before the test slice {folds[0].name}, from {sessions[folds[0].test_start]}: "
            f"of {folds[0].train_end} training sessions validation takes {validation} and the purge {purge}"
        )
    return folds


def fixed(sessions: npt.NDArray[np.datetime64], protocol: Sequence[Dates], purge: int, embargo: int) -> list[Fold]:
    """The folds of a published protocol, purged and embargoed like those of a walk-forward.

    The sessions before each date whose labels reach over it are dropped from the slice that ends there, so that fit
    and validation are shorter than published.

    Args:
        sessions: (T,) datetime64[D], ascending. protocol: by ascending, disjoint tests.
        purge: sessions whose labels are not known yet at the start of the next slice.
        embargo: sessions dropped on top before the test.

    Raises:
        ValueError: no splits, dates out of order, tests that overlap or share a name, sessions that do not reach the
            end, or a slice that is left without sessions; the message names the dates.
    """
    if not protocol:
        raise ValueError("the protocol has no splits; give at least one of name, validation, test, end")
    for each in protocol:
        if not each.validation < each.test < each.end:
            raise ValueError(f"the dates of {each} are not in the order validation, test, end")
    for before, after in pairwise(protocol):
        if after.test < before.end:
            raise ValueError(f"the test of {after} begins before that of {before} ends: each session is tested once")
    names = [each.name for each in protocol]
    if len(set(names)) < len(names):
        raise ValueError(f"the names of the splits, {', '.join(names)}, are not distinct")
    return [_dated(sessions, each, purge, embargo) for each in protocol]


def nested(end: int, blocks: int, purge: int, embargo: int) -> list[Fold]:
    """Folds inside a training slice [0, end), for choices that may not see what comes after it.

    The last third is cut into test blocks of equal length, walking forward; the validation of each is the last quarter
    of its own training. They are named inner 1, inner 2, ...

    Args:
        end: sessions of the training slice. blocks: how many. purge, embargo: see `walk_forward`.

    Raises:
        ValueError: a block without sessions, or nothing left to fit on before the first.
    """
    length = end // (3 * blocks)
    starts = [end - (blocks - at) * length for at in range(blocks)]
    first_train = starts[0] - purge - embargo
    if length < 1 or first_train - first_train // 4 - purge < 1:
        raise ValueError(
            f"a training slice of {end} sessions cannot be cut into {blocks} inner folds with a purge of {purge} and "
            f"an embargo of {embargo}"
        )
    return [
        _fold(f"inner {at + 1}", start, start + length, (start - purge - embargo) // 4, purge, embargo)
        for at, start in enumerate(starts)
    ]


def live_fold(n_sessions: int, validation: int, purge: int) -> Fold:
    """The last fit: trains on every label known at the last session, tests on nothing."""
    return _fold("live", n_sessions, n_sessions, validation, purge, 0)


def _fold(name: str, test_start: int, test_end: int, validation: int, purge: int, embargo: int) -> Fold:
    train_end = test_start - purge - embargo
    validation_start = train_end - validation
    return Fold(name, validation_start - purge, validation_start, train_end, test_start, test_end)


def _period_name(period: int, refit: Refit) -> str:
    """Of a number of periods since 1970."""
    years, part = divmod(period, 12 // _MONTHS[refit])
    suffix = {"year": "", "half_year": f"H{part + 1}", "quarter": f"Q{part + 1}", "month": f"-{part + 1:02d}"}
    return f"{1970 + years}{suffix[refit]}"


def _dated(sessions: npt.NDArray[np.datetime64], dates: Dates, purge: int, embargo: int) -> Fold:
    held = f"sessions held run from {sessions[0]} to {sessions[-1]}" if len(sessions) else "no sessions are held"
    if not len(sessions) or sessions[-1] < dates.end - _LONGEST_BREAK:
        raise ValueError(f"{held}: they do not reach the end of {dates}")
    validation, test, end = (int(np.searchsorted(sessions, at)) for at in (dates.validation, dates.test, dates.end))
    fold = Fold(dates.name, validation - purge, validation, test - purge - embargo, test, end)
    sizes = {
        "to fit on": fold.fit_end,
        "of validation": fold.train_end - fold.validation_start,
        "to test on": fold.test_end - fold.test_start,
    }
    for what, size in sizes.items():
        if size < 1:
            raise ValueError(
                f"{dates} has no session left {what}: the {held}, the purge is {purge} and the embargo {embargo}"
            )
    return fold
