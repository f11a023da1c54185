"""What training leaves on disk: the widths of a fold's bands."""

from __future__ import annotations

import numpy as np
import pytest

from models.compact.network import Network
from models.decode import QUANTILES, Forecast
from models.scaling import Scaler
from pipeline.errors import StoreError
from pipeline.trained import Trained, banded


def held(**notes: object) -> Trained:
    blank = np.zeros((1, 1), np.float32)
    network = Network((blank,) * 3, (blank[0],) * 3, blank, blank[0], blank, blank[0], np.zeros(1, np.int64))
    return Trained(network, Scaler(blank[0], blank[0] + 1, 5.0), np.zeros((1, 9)), np.ones(1), dict(notes))


def forecast() -> Forecast:
    quantiles = np.broadcast_to(np.array(QUANTILES) - 0.4, (2, 3, 1, 9)).copy()
    return Forecast(np.full((2, 3, 1), 0.3), quantiles, np.full((2, 3, 1), 0.5))


def test_each_session_has_its_widths() -> None:
    widths = {"down": [[1.0], [2.0], [1.0]], "up": [[1.0], [2.0], [3.0]]}
    found, before = banded(held(widths=widths), forecast()), forecast()
    median = before.quantiles[..., 4:5]
    distance = before.quantiles - median
    np.testing.assert_array_equal(found.quantiles[:, 0], before.quantiles[:, 0])
    np.testing.assert_allclose(found.quantiles[:, 1], (median + 2 * distance)[:, 1])
    np.testing.assert_allclose(found.quantiles[:, 2, :, :4], before.quantiles[:, 2, :, :4])
    np.testing.assert_allclose(found.quantiles[:, 2, :, 5:], (median + 3 * distance)[:, 2, :, 5:])
    np.testing.assert_allclose(found.sigma[:, 1], 0.6)


def test_a_fold_without_widths_asks_for_training() -> None:
    with pytest.raises(StoreError, match="hold no widths of bands yet; run: tradewind train"):
        banded(held(), forecast())
