"""The race of one run: everybody fitted fold by fold, in the order in which they need each other.

skips -> baselines and naive directions -> learners -> the stack and its weights -> the students it teaches
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features.splits import Fold
from models.compact.network import Network
from models.decode import Forecast
from models.forecasters.baselines import Distribution
from models.forecasters.student import FittedStudent, StudentConfig
from pipeline import contenders, walkforward
from pipeline.config import Config
from pipeline.contenders import Entered
from pipeline.teachers import OfSkip, Past, Teachers
from pipeline.walkforward import Dataset, FittedFold

Array = npt.NDArray[np.float64]


class Race(NamedTuple):
    """Everybody's out-of-sample forecasts.

    Attributes:
        forecasts: model -> forecast on the panel's axes, NaN outside the test slices; baselines first, student last.
        ewma: the trailing baseline by session.
        choices: model -> fold -> what was chosen inside training, JSON values.
        students: of every fold, the live one last where there is one.
    """

    forecasts: dict[str, Forecast]
    ewma: Distribution
    choices: dict[str, dict[str, Any]]
    students: list[FittedFold]


def race(
    data: Dataset,
    folds: list[Fold],
    config: Config,
    live: Fold | None = None,
    muted: Mapping[str, tuple[int, ...]] | None = None,
    work: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Race:
    """The forecasts of all: baselines, naive directions, the scale skip, the learners, their stack, the student.

    Without a learner there is no stack, and nobody to teach the student.

    Args:
        data: features and outcomes. folds: where each trains and tests. config: of everything.
        live: the last fit, which tests on nothing: its student is fitted, and who teaches it. None = none.
        muted, work: see `contenders.enter`.
        progress: called with the number of fits that are done; it counts up to `fits`.

    Raises:
        DataError, UsageError: as `contenders.enter` and `walkforward.fit_folds`.
    """
    return _Run(data, folds, config, live, muted or {}, work, progress).race()


def fits(config: Config, folds: Sequence[Fold], live: Fold | None = None) -> int:
    """How many fits a race is; a student that is taught counts twice, its skip is fitted before its teachers."""
    students = (len(folds) + (live is not None)) * (2 if _taught(config) else 1)
    learnt = len(contenders.learners(config)) * len(_learning(config, folds, live))
    return students + len(contenders.ALWAYS) * len(folds) + learnt


class _Run:
    def __init__(
        self,
        data: Dataset,
        folds: list[Fold],
        config: Config,
        live: Fold | None,
        muted: Mapping[str, tuple[int, ...]],
        work: Path | None,
        progress: Callable[[int], None],
    ) -> None:
        self.data, self.folds, self.config, self.muted, self.work = data, folds, config, muted, work
        self.fitting = [*folds, *([live] if live else [])]
        self.learners = contenders.learners(config)
        self.learning = _learning(config, folds, live)
        self.taught = _taught(config)
        self.progress, self.done = progress, 0

    def race(self) -> Race:
        data, folds, settings = self.data, self.folds, walkforward.student_config(self.config)
        # Who is taught is its skip until its teachers are fitted.
        students = self._students(replace(settings, body_weights=(0.0,)) if self.taught else settings)
        fixed = self._entered(folds, contenders.ALWAYS)
        learnt = self._entered(self.learning, self.learners, self.taught)
        choices = fixed.choices | learnt.choices
        members = {"scale_skip": self._forecast(students, lambda student: student.skip_network), **learnt.forecasts}
        stacked: dict[str, Forecast] = {}
        if self.learners:
            stacked["stack"], weights = contenders.stacked(data, self.fitting, members)
            choices["stack"] = self._by_name(list(members), weights)
            if self.taught:
                pasts: dict[str, Sequence[Past]] = {"scale_skip": [OfSkip(data, each) for each in students]}
                by_end = {fold.train_end: of for fold, of in zip(self.fitting, weights, strict=True)}
                students = self._students(settings, Teachers(pasts | learnt.pasts, by_end))
        choices["student"] = {each.fold.name: each.student.choices for each in students}
        ewma, distribution = walkforward.forecast_ewma(data, folds)
        baselines = {"unconditional": walkforward.forecast_unconditional(data, folds), "ewma": ewma}
        student = self._forecast(students, lambda student: student.network)
        everyone = {**baselines, **fixed.forecasts, **members, **stacked, "student": student}
        return Race(everyone, distribution, choices, students)

    def _students(self, settings: StudentConfig, teachers: Teachers | None = None) -> list[FittedFold]:
        before, self.done = self.done, self.done + len(self.fitting)
        taught_by = teachers.of if teachers else lambda fold: None
        fitted = walkforward.fit_folds(
            self.data, self.fitting, settings, lambda n: self.progress(before + n), self.muted, taught_by
        )
        return [
            replace(each, teachers=teachers.weights_of(each.fold)) if teachers and each.student.is_taught else each
            for each in fitted
        ]

    def _entered(self, folds: list[Fold], names: Sequence[str], keep: bool = False) -> Entered:
        before, self.done = self.done, self.done + len(names) * len(folds)
        return contenders.enter(
            self.data, folds, self.config, names, self.muted, self.work, lambda n: self.progress(before + n), keep
        )

    def _forecast(self, students: list[FittedFold], network_of: Callable[[FittedStudent], Network]) -> Forecast:
        """On the test slices; the live student has none."""
        return walkforward.forecast_folds(self.data, students[: len(self.folds)], network_of)

    def _by_name(self, members: Sequence[str], weights: Array) -> dict[str, Any]:
        """The stack's weights by fold, horizon and member."""
        return {
            fold.name: {
                str(h): dict(zip(members, of[:, i].tolist(), strict=True)) for i, h in enumerate(self.data.horizons)
            }
            for fold, of in zip(self.fitting, weights, strict=True)
        }


def _taught(config: Config) -> bool:
    """Whether the student learns from the race: there must be learners, a body, and a weight on what they say."""
    student = config.models.student
    return bool(contenders.learners(config)) and any(student.body_weights) and any(student.teacher_weights)


def _learning(config: Config, folds: Sequence[Fold], live: Fold | None) -> list[Fold]:
    """Where learners are fitted; for the live student too where it is taught."""
    return contenders.sharing(folds, config.models.refit_every) + ([live] if live and _taught(config) else [])
