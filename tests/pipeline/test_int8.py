"""Calibration of other outputs than its own: kept where they are the same, put right where they differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.panel import Panel
from models.compact.network import Network
from models.decode import QUANTILES, decode
from models.receptive_field import FIELD
from models.scaling import Scaler
from pipeline import int8
from pipeline.config import Config
from pipeline.trained import Trained
from pipeline.walkforward import Dataset
from tests.models.compact.networks import random_network, scaled

N, T, F, END = 4, 900, 9, 800
HORIZONS = (1, 5)
CONFIG = Config()


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Noise; after the training slice it is ten times as large."""
    generator = np.random.default_rng(0)
    x = scaled(1, N, T, F)
    z = generator.standard_t(4, (N, T, len(HORIZONS)))
    z[:, END:] *= 10
    z[:, ::7] = np.nan
    sessions = np.datetime64("2001-01-01") + np.arange(T)
    vol = np.full((N, T), 0.01, np.float32)
    panel = Panel(np.array(list("ABCD")), sessions, tuple("abcdefghi"), x, vol, np.zeros((N, T), np.float32))
    return Dataset(panel, HORIZONS, z * 0.01, z**2 * 1e-4, z, z**2, (2, 6), 6)


def held(network: Network, data: Dataset) -> Trained:
    shape = np.tile(np.sort(np.random.default_rng(5).normal(0, 1, len(QUANTILES))), (len(HORIZONS), 1))
    notes = {"train_last": str(data.panel.sessions[END - 1])}
    return Trained(network, Scaler(np.zeros(F, np.float32), np.ones(F, np.float32)), shape, np.array([1.0, 1.1]), notes)


@pytest.fixture(scope="module")
def network() -> Network:
    found = random_network(2, horizons=len(HORIZONS))
    return replace(found, skip_weight=0.05 * found.skip_weight, head_weight=0.1 * found.head_weight)


def test_the_same_outputs_keep_the_calibration(network: Network, data: Dataset) -> None:
    trained = held(network, data)
    found = int8.calibration(data, trained, CONFIG, network.forward_panel)
    np.testing.assert_array_equal(found.shape, trained.shape)
    np.testing.assert_array_equal(found.factor, trained.factor)


def test_a_scale_that_is_off_by_a_factor_is_put_right(network: Network, data: Dataset) -> None:
    """Where the shape is that of the residuals themselves, the forecasts come out as if nothing had been off."""
    trained = held(network, data)
    shape, factor = residuals(network, data, trained)
    trained = replace(trained, shape=shape, factor=factor)
    shift = np.array([0.0, 0.3, 0.3, 0.0], np.float32)
    found = int8.calibration(data, trained, CONFIG, lambda x: network.forward_panel(x) + shift)
    np.testing.assert_allclose(found.shape, shape * np.exp(-0.3), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.factor, factor * np.exp(-0.3), rtol=1e-4)
    y, vol = network.forward_panel(data.panel.x), data.panel.vol[:, FIELD - 1 :]
    before = decode(y, vol, HORIZONS, shape, factor)
    after = decode(y + shift, vol, HORIZONS, found.shape, found.factor)
    np.testing.assert_allclose(after.quantiles, before.quantiles, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(after.sigma, before.sigma, rtol=1e-4)


def residuals(network: Network, data: Dataset, trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """The weighted quantiles and the root mean square of the training residuals, by their definitions."""
    y = network.forward_panel(data.panel.x[:, :END]).astype(float)
    z = data.z[:, FIELD - 1 : END]
    age = np.broadcast_to(np.arange(END - FIELD, -1, -1.0), z.shape[:2])
    shapes, factors = [], []
    for h in range(len(HORIZONS)):
        known = np.isfinite(z[..., h])
        residual = (z[..., h] - y[..., h, 0])[known]
        scale = np.where(residual < 0, np.exp(y[..., h, 1])[known], np.exp(y[..., h, 2])[known])
        weight = 0.5 ** (age[known] / CONFIG.models.scale.half_life_sessions)
        order = np.argsort(residual / scale)
        total = np.cumsum(weight[order]) - weight[order] / 2
        shapes.append(np.interp(np.array(QUANTILES) * weight.sum(), total, (residual / scale)[order]))
        both = (np.exp(2 * y[..., h, 1]) + np.exp(2 * y[..., h, 2]))[known] / 2
        factors.append(np.sqrt(np.average(data.relative_variance[:, FIELD - 1 : END, h][known] / both, weights=weight)))
    return np.stack(shapes), np.array(factors)


def test_nothing_after_training_is_read(network: Network, data: Dataset) -> None:
    trained = held(network, data)
    later = replace(data, z=data.z.copy(), relative_variance=data.relative_variance.copy())
    later.z[:, END:] = 50
    later.relative_variance[:, END:] = 2500
    one, other = (
        int8.calibration(each, trained, CONFIG, lambda x: 1.1 * network.forward_panel(x)) for each in (data, later)
    )
    np.testing.assert_array_equal(one.shape, other.shape)
    np.testing.assert_array_equal(one.factor, other.factor)


def test_quantiles_stay_in_order(network: Network, data: Dataset) -> None:
    trained = held(network, data)
    noise = np.random.default_rng(9).normal(0, 0.5, (N, END - FIELD + 1, len(HORIZONS), 4)).astype(np.float32)
    found = int8.calibration(data, trained, CONFIG, lambda x: network.forward_panel(x) + noise)
    assert (np.diff(found.shape, axis=-1) >= 0).all()


def test_a_skip_alone_keeps_its_calibration(network: Network, data: Dataset) -> None:
    skip = replace(network, head_weight=np.zeros_like(network.head_weight))
    trained = held(skip, data)
    found = int8.calibration(data, trained, CONFIG, lambda x: network.forward_panel(x))
    assert found.shape is trained.shape
