from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.compact.distill import Teacher
from models.decode import Forecast, decode
from models.forecasters.fit import FitConfig
from models.forecasters.interface import Inputs, Slices, Training
from models.forecasters.student import FittedStudent, StudentConfig, fit_student

SLICES = Slices(fit_end=700, validation_start=721, train_end=900)
CONFIG = StudentConfig(
    alphas=(10.0, 1e9), half_life=2500.0, width=8, body_features=3, body_weights=(0.0, 0.5, 1.0),
    training=FitConfig(epochs=40, patience=40, learning_rate=1e-2, weight_decay=0.01, seed=0),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def planted(lagged: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    x = generator.normal(0, 1, (6, 1000, 4)).astype(np.float32)
    log_scale = 0.4 * x[..., 1]
    if lagged:
        log_scale[:, 20:] += 0.6 * np.tanh(x[:, :-20, 2])
    z = np.exp(log_scale)[..., None] * generator.normal(0, 1, (6, 1000, 2))
    return x, z, np.exp(2 * log_scale)[..., None].repeat(2, -1)


Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def fitted(arrays: Arrays, config: StudentConfig = CONFIG, teacher: Teacher | None = None) -> FittedStudent:
    x, z, v = (array[:, : SLICES.train_end] for array in arrays)
    ones = np.ones(x.shape[:2])
    training = Training(Inputs(x, ones, ones), z, v, (1, 1), ("a", "b", "c", "d"), SLICES, config.half_life, 0)
    return fit_student(training, config, teacher)


def test_linear_signal_is_found_and_calibrated() -> None:
    x, z, v = planted()
    student = fitted((x, z, v))
    assert student.alpha == 10.0
    y = student.network.forward_panel(x)  # (6, 937, 2, 4)
    forecast = decode(y, np.ones((6, 937)), (1, 1), student.shape, student.factor)
    test = z[:, 63:][:, -100:]
    inside = (test > forecast.quantiles[:, -100:, :, 2]) & (test < forecast.quantiles[:, -100:, :, 6])
    assert inside.mean() == pytest.approx(0.8, abs=0.04)
    assert np.corrcoef(np.log(forecast.sigma[..., 0]).ravel(), 0.4 * x[:, 63:, 1].ravel())[0, 1] > 0.97


def test_body_is_used_where_the_signal_needs_memory() -> None:
    x, z, v = planted(lagged=True)
    student = fitted((x, z, v))
    assert student.body_weight > 0
    assert student.network.head_weight.any()
    assert not student.skip_network.head_weight.any()


def test_body_reads_the_strongest_features_only() -> None:
    x, z, v = planted()
    student = fitted((x, z, v), replace(CONFIG, body_features=1))
    assert student.network.body_features.tolist() == [1]
    assert student.network.conv_weight[0].shape == (8, 1, 4)


def test_without_candidates_the_body_stays_zero() -> None:
    x, z, v = planted(lagged=True)
    student = fitted((x, z, v), replace(CONFIG, body_weights=(0.0,)))
    assert student.body_weight == 0
    assert student.epochs == 0
    assert not student.network.head_weight.any()


def knowing(end: int, lie: float = 0.0) -> Forecast:
    """What who planted the lagged signal would forecast; from `end` on a lie."""
    x, _, _ = planted()
    y = np.zeros((6, SLICES.train_end, 2, 4))
    log_scale = 0.4 * x[:, : SLICES.train_end, 1]
    log_scale[:, 20:] += 0.6 * np.tanh(x[:, : SLICES.train_end - 20, 2])
    y[..., 1] = y[..., 2] = log_scale[..., None]
    y[:, end:, :, 1:3] = lie
    shape = np.array([-2.33, -1.64, -1.28, -0.67, 0, 0.67, 1.28, 1.64, 2.33])
    return decode(y, np.ones(y.shape[:2]), (1, 1), np.stack([shape, shape]), np.ones(2))


TAUGHT = replace(
    CONFIG, teacher_weights=(0.0, 10.0), body_weights=(0.0, 1.0), training=replace(CONFIG.training, epochs=20)
)


def test_who_is_taught_knows_more() -> None:
    few = replace(CONFIG, training=replace(CONFIG.training, epochs=20), teacher_weights=(10.0,))
    arrays, errors = planted(lagged=True), []
    truth = 0.4 * arrays[0][:, 63:, 1] + 0.6 * np.tanh(arrays[0][:, 43:-20, 2])
    for teacher in (None, Teacher(knowing(SLICES.train_end), None)):
        student = fitted(arrays, few, teacher)
        assert (student.body_weight, student.teacher_weight) == (1.0, 10.0 if teacher else 0.0)
        found = student.network.forward_panel(arrays[0])[:, -100:, 0, 1]
        errors.append(1 - np.corrcoef(found.ravel(), truth[:, -100:].ravel())[0, 1])
    assert errors[1] < 0.5 * errors[0]


def test_it_chooses_by_the_teacher_that_has_not_seen_validation() -> None:
    """The final teacher is wrong everywhere: who chose by it would choose labels alone."""
    final = knowing(0, lie=-1.0)
    early = Forecast(*(values[:, : SLICES.fit_end] for values in knowing(SLICES.train_end)))
    assert fitted(planted(lagged=True), TAUGHT, Teacher(final, early)).teacher_weight == 10.0
    assert fitted(planted(lagged=True), TAUGHT, Teacher(final, None)).teacher_weight == 0.0


def test_without_weights_a_teacher_moves_no_byte() -> None:
    arrays, few = planted(lagged=True), replace(CONFIG, training=replace(CONFIG.training, epochs=2))
    alone, taught = (fitted(arrays, few, teacher) for teacher in (None, Teacher(knowing(900), None)))
    assert alone.network.head_weight.tobytes() == taught.network.head_weight.tobytes()
    assert alone.choices == taught.choices
