from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.decode import decode
from models.forecasters.fit import FitConfig
from models.forecasters.student import Slices, StudentConfig, fit_student

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


def test_nothing_after_training_moves_a_byte() -> None:
    x, z, v = planted()
    base = fit_student(x, z, v, SLICES, CONFIG)
    x2, z2, v2 = x.copy(), z.copy(), v.copy()
    for array in (x2, z2, v2):
        array[:, SLICES.train_end :] = 3.0
    after = fit_student(x2, z2, v2, SLICES, CONFIG)
    assert base.network.skip_weight.tobytes() == after.network.skip_weight.tobytes()
    assert base.network.head_weight.tobytes() == after.network.head_weight.tobytes()
    assert base.shape.tobytes() == after.shape.tobytes()
    assert base.factor.tobytes() == after.factor.tobytes()


def test_linear_signal_is_found_and_calibrated() -> None:
    x, z, v = planted()
    student = fit_student(x, z, v, SLICES, CONFIG)
    assert student.alpha == 10.0
    y = student.network.forward_panel(x)  # (6, 937, 2, 4)
    forecast = decode(y, np.ones((6, 937)), (1, 1), student.shape, student.factor)
    test = z[:, 63:][:, -100:]
    inside = (test > forecast.quantiles[:, -100:, :, 2]) & (test < forecast.quantiles[:, -100:, :, 6])
    assert inside.mean() == pytest.approx(0.8, abs=0.04)
    assert np.corrcoef(np.log(forecast.sigma[..., 0]).ravel(), 0.4 * x[:, 63:, 1].ravel())[0, 1] > 0.97


def test_body_is_used_where_the_signal_needs_memory() -> None:
    x, z, v = planted(lagged=True)
    student = fit_student(x, z, v, SLICES, CONFIG)
    assert student.body_weight > 0
    assert student.network.head_weight.any()
    assert not student.skip_network.head_weight.any()


def test_body_reads_the_strongest_features_only() -> None:
    x, z, v = planted()
    student = fit_student(x, z, v, SLICES, replace(CONFIG, body_features=1))
    assert student.network.body_features.tolist() == [1]
    assert student.network.conv_weight[0].shape == (8, 1, 4)


def test_without_candidates_the_body_stays_zero() -> None:
    x, z, v = planted(lagged=True)
    student = fit_student(x, z, v, SLICES, replace(CONFIG, body_weights=(0.0,)))
    assert student.body_weight == 0
    assert student.epochs == 0
    assert not student.network.head_weight.any()
