"""A teacher's forecast as outputs: decoding backwards, and a loss that nothing but the teacher makes zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.compact.distill import HIGH, LOW, MEDIAN, levelled, match_terms, teacher_outputs
from models.decode import QUANTILES, Forecast, decode

HORIZONS = (1, 5)
STEPS = arrays(np.float64, (2, 8), elements=st.floats(0.05, 2.0))


def shape_of(steps: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """(2, 9) ascending through zero; the median at this share of its way between q10 and q90."""
    shape = np.concatenate([np.zeros((2, 1)), np.cumsum(steps, axis=1)], axis=1)
    low, high = shape[:, LOW, None], shape[:, HIGH, None]
    zero = low + (high - low) * middle[:, None]
    return np.asarray(shape - zero)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (3, 4, 2, 4), elements=st.floats(-3, 3)),
    STEPS,
    arrays(np.float64, (2,), elements=st.floats(0.05, 0.95)),
    arrays(np.float64, (3, 4), elements=st.floats(1e-4, 0.2)),
)
def test_outputs_come_back_from_their_forecast(
    y: np.ndarray, steps: np.ndarray, middle: np.ndarray, vol: np.ndarray
) -> None:
    shape = shape_of(steps, middle)
    forecast = decode(y, vol, HORIZONS, shape, np.ones(2))
    np.testing.assert_allclose(teacher_outputs(forecast, vol, HORIZONS, shape), y, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (2, 3, 2, 8), elements=st.floats(0.01, 1.0)), STEPS)
def test_round_another_shape_the_judged_quantiles_stay(gaps: np.ndarray, steps: np.ndarray) -> None:
    quantiles = 0.01 * np.cumsum(np.concatenate([np.full((2, 3, 2, 1), -2.0), gaps], axis=-1), axis=-1)
    vol, p_up, shape = np.full((2, 3), 0.01), np.full((2, 3, 2), 0.4), shape_of(steps, np.array([0.5, 0.5]))
    shape -= shape[:, MEDIAN, None]  # the location is the teacher's median, whatever its own shape
    y = teacher_outputs(Forecast(p_up, quantiles, p_up), vol, HORIZONS, shape)
    again = decode(y, vol, HORIZONS, shape, np.ones(2))
    judged = [LOW, MEDIAN, HIGH]
    np.testing.assert_allclose(again.quantiles[..., judged], quantiles[..., judged], atol=1e-9)
    np.testing.assert_allclose(again.p_up, p_up)


def test_cells_without_a_teacher_are_missing_as_a_whole() -> None:
    y, vol = np.zeros((1, 4, 2, 4)), np.array([[0.01, np.nan, 0.01, 0.01]])
    shape = shape_of(np.full((2, 8), 0.5), np.array([0.5, 0.4]))
    forecast = decode(y, vol, HORIZONS, shape, np.ones(2))
    forecast.p_up[0, 2, 1] = np.nan
    forecast.quantiles[0, 3, 0, LOW] = forecast.quantiles[0, 3, 0, HIGH]
    found = teacher_outputs(forecast, vol, HORIZONS, shape)
    missing = np.zeros((1, 4, 2), bool)
    missing[0, 1] = missing[0, 2, 1] = missing[0, 3, 0] = True
    np.testing.assert_array_equal(np.isnan(found).all(-1), missing)
    np.testing.assert_array_equal(np.isnan(found).any(-1), missing)


def test_a_shape_on_one_side_of_zero_is_refused() -> None:
    shape = np.arange(1.0, 10.0)[None]
    forecast = decode(np.zeros((1, 1, 1, 4)), np.ones((1, 1)), (1,), shape, np.ones(1))
    with pytest.raises(ValueError, match=r"q10 \[3\.0\], q50 \[5\.0\] and q90 \[7\.0\]; they must ascend through zero"):
        teacher_outputs(forecast, np.ones((1, 1)), (1,), shape)


def test_a_teacher_says_nothing_of_the_level() -> None:
    generator = np.random.default_rng(0)
    y, skip = generator.normal(0, 1, (3, 5, 2, 4)), generator.normal(0, 1, (3, 5, 2, 4)).astype(np.float32)
    y[0, 0] = np.nan
    moved = y + np.array([0.3, -0.2, 0.1, 0.0])
    np.testing.assert_allclose(levelled(moved, skip), levelled(y, skip), atol=1e-12)
    np.testing.assert_allclose(np.nanmean(levelled(y, skip) - skip, axis=(0, 1))[:, :3], 0, atol=1e-12)
    np.testing.assert_array_equal(levelled(y, skip)[..., 3], y[..., 3])
    assert np.isnan(levelled(np.full_like(y, np.nan), skip)).all()


def test_only_the_teacher_itself_costs_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn((2, 3, 2, 4), generator=generator)
    total, known = match_terms(teacher.clone(), teacher, 10.0, 0.05)
    assert (float(total), int(known)) == (0.0, 12)
    for part in range(4):
        moved = teacher.clone()
        moved[..., part] += 0.1
        assert float(match_terms(moved, teacher, 10.0, 0.05)[0]) > 1e-4


def test_cells_without_a_teacher_cost_nothing_and_pull_nowhere() -> None:
    teacher = torch.zeros(1, 2, 1, 4)
    teacher[0, 1] = torch.nan
    y = torch.ones(1, 2, 1, 4, requires_grad=True)
    total, known = match_terms(y, teacher, 10.0, 0.05)
    total.backward()
    assert int(known) == 1
    assert torch.isfinite(y.grad).all()
    assert y.grad[0, 0].abs().min() > 0
    assert not y.grad[0, 1].any()


def test_a_small_difference_costs_what_it_costs_in_pinball() -> None:
    """Labels drawn from the teacher, standard normal, at locations and log-scales a little off."""
    z = np.random.default_rng(0).normal(0, 1, 400_000)
    shape = np.array([-2.326, -1.645, -1.282, -0.674, 0, 0.674, 1.282, 1.645, 2.326])
    levels = np.asarray(QUANTILES)

    def pinball(location: float, log_scale: float) -> float:
        error = z[:, None] - (location + np.exp(log_scale) * shape)
        return float(np.maximum(levels * error, (levels - 1) * error).mean())

    for location, log_scale in ((0.15, 0.0), (0.0, 0.15)):
        y = torch.tensor([location, log_scale, log_scale, 0.0])
        cost = float(match_terms(y, torch.zeros(4), 0.0, 0.05)[0])
        both = (pinball(location, log_scale) + pinball(-location, -log_scale)) / 2
        assert cost == pytest.approx(both - pinball(0, 0), rel=0.15)
