"""Planted panels for the networks: a lagged pattern that the skip, which reads one session, cannot see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.forecasters.interface import Inputs, Slices, Training

MakeTraining = Callable[..., Training]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def planted_training(
    scale: float = 0.0,
    location: float = 0.0,
    present: float = 0.0,
    tickers: int = 10,
    sessions: int = 900,
    seed: int = 0,
) -> Training:
    """Feature "b" of two and three sessions ago moves the log-scale or the location of z, by so many units; feature
    "a" of the session itself the log-scale, by `present`."""
    generator = np.random.default_rng(seed)
    x = generator.normal(0, 1, (tickers, sessions, 3)).astype(np.float32)
    signal = np.zeros((tickers, sessions))
    signal[:, 3:] = (x[:, 1:-2, 1] - x[:, :-3, 1]) / np.sqrt(2)
    z = (location * signal + np.exp(scale * signal + present * x[..., 0]) * generator.normal(0, 1, signal.shape))[
        ..., None
    ]
    z = z.repeat(2, axis=-1)
    z[:, -2:] = np.nan
    vol = np.full((tickers, sessions), 0.01)
    slices = Slices(fit_end=sessions * 3 // 4, validation_start=sessions * 3 // 4 + 5, train_end=sessions)
    inputs = Inputs(x, vol, np.zeros((tickers, sessions)))
    return Training(inputs, z, z**2, (1, 5), ("a", "b", "c"), slices, half_life=2500.0, seed=1)


@pytest.fixture(scope="session")
def make_training() -> MakeTraining:
    """The simulator, for tests that need their own sizes."""
    return planted_training
