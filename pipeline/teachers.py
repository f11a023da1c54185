"""What the student of each fold is taught: the race's stack, over the sessions that the fold trains on.

    final   by the models fitted last when the fold's training ended: its own, or with models.refit_every those of the
            first fold of its group, whose forecasts of the sessions since are out of sample
    early   by the models fitted last when its fit slice ended, which have seen no outcome of its validation: what the
            student chooses by; the first folds have none

The members' weights are the stack's at the fold that each was fitted for, from out-of-sample forecasts before it. So
nothing is read that the fold could not have known when its test begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from features.splits import Fold
from models.compact.distill import Teacher
from models.decode import Forecast, decode
from models.forecasters.ensemble import combine
from pipeline.walkforward import Dataset, FittedFold, inputs_of

Array = npt.NDArray[np.float64]
T = TypeVar("T")


class Past(Protocol):
    """A fitted model's forecasts from the first session of the panel on, those of its own training among them."""

    @property
    def train_end(self) -> int:
        """Sessions it was fitted on."""
        ...

    @property
    def length(self) -> int:
        """Sessions it has forecast."""
        ...

    def read(self, end: int) -> Forecast:
        """(N, end, H) float64."""
        ...


class Single(NamedTuple):
    """A `models.decode.Forecast` in single precision: (N, T, H), (N, T, H, 9) and (N, T, H) float32."""

    sigma: npt.NDArray[np.float32]
    quantiles: npt.NDArray[np.float32]
    p_up: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """Of a learner: forecasts as they came out of its fit.

    Attributes:
        held: (N, length, H) float32, or the NPZ file that holds it.
    """

    train_end: int
    length: int
    held: Single | Path

    @classmethod
    def of(cls, forecast: Forecast, train_end: int, path: Path | None) -> Kept:
        """Keep a forecast in single precision, in a file where there is a place for one."""
        single = Single(*(values.astype(np.float32) for values in forecast))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **single._asdict())
        return cls(train_end, forecast.sigma.shape[1], single if path is None else path)

    def read(self, end: int) -> Forecast:
        """(N, end, H) float64."""
        found = self.held
        if isinstance(found, Path):
            with np.load(found, allow_pickle=False) as held:
                found = Single(*(held[part] for part in Single._fields))
        return Forecast(*(values[:, :end].astype(np.float64) for values in found))


@dataclass(frozen=True)
class OfSkip:
    """Of the scale skip under a student: forecast when asked."""

    data: Dataset
    fitted: FittedFold

    @property
    def train_end(self) -> int:
        """Sessions it was fitted on."""
        return self.fitted.fold.train_end

    @property
    def length(self) -> int:
        """All sessions up to the end of its test."""
        return self.fitted.fold.test_end

    def read(self, end: int) -> Forecast:
        """(N, end, H) float64."""
        data, student = self.data, self.fitted.student
        inputs = inputs_of(data, self.fitted.scaler, slice(0, end), self.fitted.muted)
        network = student.skip_network
        y = (inputs.x @ network.skip_weight + network.skip_bias).reshape(*inputs.x.shape[:2], -1, 4)
        return decode(y, inputs.vol, data.horizons, student.shape, student.factor)


@dataclass(frozen=True)
class Teachers:
    """The members of the stack with their fits, and the stack's weights.

    Attributes:
        members: model -> its fits, by `train_end` ascending.
        weights: the last session of training of a fold -> (M, H) weights of the members.
    """

    members: Mapping[str, Sequence[Past]]
    weights: Mapping[int, Array]

    def of(self, fold: Fold) -> Teacher:
        """What the student of this fold is taught.

        Raises:
            ValueError: a member was not fitted before the end of its training slice.
        """
        final = self._before(fold.train_end)
        if final is None:
            raise ValueError(f"no teacher was fitted by the end of the training slice of {fold.name}")
        return Teacher(final, self._before(fold.fit_end))

    def weights_of(self, fold: Fold) -> dict[str, list[float]]:
        """Model -> its weight in what this fold is taught last, by horizon."""
        return dict(zip(self.members, self.weights[fold.train_end].tolist(), strict=True))

    def _before(self, end: int) -> Forecast | None:
        """(N, at most `end`, H) by what had been fitted on the sessions [0, end); None where a member had not been."""
        latest = [_latest({fit.train_end: fit for fit in fits}, end) for fits in self.members.values()]
        weights = _latest(self.weights, end)
        fits = [fit for fit in latest if fit is not None]
        if weights is None or len(fits) < len(latest):
            return None
        length = min(end, *(fit.length for fit in fits))
        return combine([fit.read(length) for fit in fits], weights)


def _latest(by_end: Mapping[int, T], end: int) -> T | None:
    """What ends last of that which ends by `end`."""
    ends = [at for at in by_end if at <= end]
    return by_end[max(ends)] if ends else None
