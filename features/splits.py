"""Purged, embargoed walk-forward splits by calendar year.

A label at session t is known only after its horizon, so the sessions just before a test slice have labels that
reach into it: they are purged, and a few more are embargoed against features that remember (Lopez de Prado
2018, chapter 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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


def walk_forward(
    sessions: npt.NDArray[np.datetime64],
    min_train: int,
    validation: int,
    purge: int,
    embargo: int,
    first_test: np.datetime64 | None = None,
) -> list[Fold]:
    """One fold a calendar year, the first with at least `min_train` training sessions, named by its year.

    Args:
        sessions: (T,) datetime64[D], ascending.
        min_train: training sessions needed before the first test session.
        validation: last training sessions, kept for choices.
        purge: sessions whose labels are not known yet at the start of the next slice.
        embargo: sessions dropped on top.
        first_test: no test session before this date.

    Raises:
        ValueError: no year has enough history before it.
    """
    years = sessions.astype("datetime64[Y]")
    folds = []
    for year in np.unique(years):
        where = np.flatnonzero((years == year) & (True if first_test is None else sessions >= first_test))
        if len(where) and where[0] - purge - embargo >= min_train:
            folds.append(_fold(str(year), int(where[0]), int(where[-1]) + 1, validation, purge, embargo))
    if not folds:
        raise ValueError(
            f"{len(sessions)} sessions leave no test year after {min_train} training sessions, a purge of {purge} "
            f"and an embargo of {embargo}"
        )
    return folds


def live_fold(n_sessions: int, validation: int, purge: int) -> Fold:
    """The last fit: trains on every label known at the last session, tests on nothing."""
    return _fold("live", n_sessions, n_sessions, validation, purge, 0)


def _fold(name: str, test_start: int, test_end: int, validation: int, purge: int, embargo: int) -> Fold:
    train_end = test_start - purge - embargo
    validation_start = train_end - validation
    return Fold(name, validation_start - purge, validation_start, train_end, test_start, test_end)
