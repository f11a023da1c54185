"""What of a teacher a skip takes: all that is linear, at its own level, as much as validation lets it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.decode import Forecast, decode
from models.forecasters.foundation import Foundation, fit_foundation, session_pinball
from models.forecasters.interface import Inputs, Slices, Training
from models.forecasters.taught_skip import HALF, NONE, WHOLE, choose_share, lesson, no_lesson

SLICES = Slices(fit_end=500, validation_start=520, train_end=1100)
N, T, F = 8, SLICES.train_end, 3
SLOPE = np.array([0.5, -0.3, 0.0])


def planted(seed: int = 0) -> Training:
    """log s = x . SLOPE at both horizons."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (N, T, F)).astype(np.float32)
    scale = np.exp(x @ SLOPE)[..., None]  # (N, T, 1)
    z = scale * generator.normal(0, 1, (N, T, 2))
    ones = np.ones((N, T))
    return Training(Inputs(x, ones, ones), z, np.repeat(scale**2, 2, -1), (1, 1), ("a", "b", "c"), SLICES, 2500.0, 0)


def says(training: Training, foundation: Foundation, log_scale: np.ndarray, location: float = 0.0) -> Forecast:
    """A teacher with (N, T) log-scales round the skip's shape."""
    y = foundation.outputs(training.inputs.x).astype(np.float64)
    y[..., 0] = location
    y[..., 1] = y[..., 2] = log_scale[..., None]
    return decode(y, training.inputs.vol, training.horizons, foundation.shape, foundation.factor)


def test_a_linear_teacher_is_learnt_whole_at_the_level_of_the_skip() -> None:
    training = planted()
    foundation = fit_foundation(training, SLICES.fit_end, 3000.0)
    wanted = training.inputs.x @ np.array([0.2, 0.1, -0.4])
    found = lesson(training, foundation, says(training, foundation, 7.0 + wanted, location=0.3))
    skip = foundation.outputs(training.inputs.x)
    y = skip + found.outputs(training.inputs.x)
    centred = [each - each.mean() for each in (y[..., 0, 1], wanted)]
    # Its ridge is of 1,000 rows beside 8,800: a tenth of the difference stays.
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.995
    assert y[..., 1].mean() == pytest.approx(skip[..., 1].mean(), abs=1e-3)
    assert y[..., 0].mean() == pytest.approx(0.0, abs=1e-3)


def test_a_teacher_without_a_forecast_teaches_nothing() -> None:
    training = planted()
    foundation = fit_foundation(training, SLICES.fit_end, 3000.0)
    silent = Forecast(*(np.full_like(each, np.nan) for each in says(training, foundation, np.zeros((N, T)))))
    found, nothing = lesson(training, foundation, silent), no_lesson(F, 2)
    assert [each.tolist() for each in found] == [each.tolist() for each in nothing]


@pytest.mark.parametrize(
    ("slope", "share"), [(SLOPE, WHOLE), (-SLOPE, NONE), (None, NONE)], ids=["truth", "nonsense", "the skip itself"]
)
def test_validation_decides_where_it_is_clear(slope: np.ndarray | None, share: float) -> None:
    training = planted()
    # So hard a penalty that the skip knows little: the truth is worth learning.
    foundation = fit_foundation(training, SLICES.fit_end, 1e6)
    log_scale = foundation.outputs(training.inputs.x)[..., 0, 1] if slope is None else training.inputs.x @ slope
    assert (
        choose_share(training, foundation, lesson(training, foundation, says(training, foundation, log_scale))) == share
    )


def test_half_is_taken_where_validation_is_too_short_to_tell_or_has_been_seen() -> None:
    training = planted()
    foundation = fit_foundation(training, SLICES.fit_end, 1e6)
    nearly = foundation.outputs(training.inputs.x)[..., 0, 1] + training.inputs.x @ np.array([0.0, 0.0, 0.1])
    found = lesson(training, foundation, says(training, foundation, nearly))
    few = replace(training, slices=replace(SLICES, validation_start=SLICES.train_end - 12))
    assert choose_share(few, foundation, found) == HALF
    truth = lesson(training, foundation, says(training, foundation, training.inputs.x @ SLOPE))
    assert choose_share(training, foundation, truth) == WHOLE
    assert choose_share(training, foundation, truth, blind=True) == HALF


@pytest.mark.parametrize("seed", range(5))
def test_half_way_loses_about_half_of_the_difference_at_most(seed: int) -> None:
    training = planted(seed)
    foundation = fit_foundation(training, SLICES.fit_end, 3000.0)
    slope = SLOPE + np.random.default_rng(seed).normal(0, 0.1, F)
    found = lesson(training, foundation, says(training, foundation, training.inputs.x @ slope))
    skip, added = foundation.outputs(training.inputs.x), found.outputs(training.inputs.x)
    none, half, whole = (
        session_pinball(training.z, skip + share * added, foundation.shape).mean() for share in (0.0, 0.5, 1.0)
    )
    assert half <= min(none, whole) + 0.55 * abs(none - whole)


def test_what_comes_after_training_does_not_move_it() -> None:
    training = planted()
    foundation = fit_foundation(training, SLICES.fit_end, 3000.0)
    teacher = says(training, foundation, training.inputs.x @ SLOPE)
    held = Forecast(*(each[:, : SLICES.fit_end] for each in teacher))
    before = lesson(training, foundation, held)
    training.inputs.x[:, SLICES.fit_end :] = 9.0
    after = lesson(training, foundation, held)
    assert [each.tobytes() for each in before] == [each.tobytes() for each in after]
