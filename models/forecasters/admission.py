"""What a network can be fitted on: refused with the reason, or admitted with what is left out, counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.forecasters.interface import Training


@dataclass(frozen=True)
class Admission:
    """What a fit leaves out.

    Attributes:
        moving: positions of the features that are not constant in training. constant: names of the others, which no
            body reads.
        short: (N,) True for a ticker with too few bars to fill the context: it gives no target to the body.
    """

    moving: npt.NDArray[np.int64]
    constant: list[str]
    short: npt.NDArray[np.bool_]


def admit(training: Training, context: int) -> Admission:
    """Check the training slice for a network that needs `context` sessions before its first output.

    Raises:
        ValueError: shapes disagree, a feature is not finite, every feature is constant, the sessions or every
            ticker's bars are too few, or a horizon has no known target in the fit or validation slice.
    """
    inputs, slices = training.inputs, training.slices
    tickers, sessions, features = inputs.x.shape
    if sessions != slices.train_end or training.z.shape != (tickers, sessions, len(training.horizons)):
        raise ValueError(
            f"x of shape {inputs.x.shape} and z of shape {training.z.shape} do not fit {slices.train_end} sessions"
            f" and {len(training.horizons)} horizons; hand in the training slice alone"
        )
    if features != len(training.features):
        raise ValueError(f"x has {features} features and {len(training.features)} names")
    finite = np.isfinite(inputs.x).all((0, 1))
    if not finite.all():
        raise ValueError(
            f'feature "{training.features[int(np.argmin(finite))]}" is not finite in training; scale the panel'
            " and set what is missing to 0"
        )
    _check_length(training, context)
    short = np.isfinite(inputs.vol).sum(1) <= context
    if short.all():
        raise ValueError(
            f"no ticker has more than {context} bars, which the network needs as context; take longer histories or"
            " shorten the context"
        )
    still = (inputs.x == inputs.x[:1, :1]).all((0, 1))
    if still.all():
        raise ValueError(f"all {features} features are constant in training: there is nothing to learn from")
    names = [name for name, constant in zip(training.features, still, strict=True) if constant]
    return Admission(np.flatnonzero(~still), names, short)


def ripe(vol: npt.NDArray[np.float64], context: int) -> npt.NDArray[np.bool_]:
    """(N, T) True from the session on that has `context` bars of its ticker before it."""
    return np.asarray(np.cumsum(np.isfinite(vol), axis=1) > context)


def _check_length(training: Training, context: int) -> None:
    slices = training.slices
    if slices.fit_end <= context or slices.validation_start < context:
        raise ValueError(
            f"the fit slice has {slices.fit_end} sessions and the network needs {context} as context before its first"
            " output; lengthen the training slice or shorten the context"
        )
    for name, part in {
        "fit": training.z[:, context : slices.fit_end],
        "validation": training.z[:, slices.validation_start : slices.train_end],
    }.items():
        for at, horizon in enumerate(training.horizons):
            if not np.isfinite(part[..., at]).any():
                raise ValueError(
                    f"no known target of horizon {horizon} in the {name} slice of {part.shape[1]} sessions; lengthen"
                    " it or leave the horizon out"
                )
