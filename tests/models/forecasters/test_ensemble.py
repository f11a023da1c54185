from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.decode import QUANTILES, Forecast
from models.forecasters.boosting import BoostingConfig
from models.forecasters.ensemble import EnsembleConfig, SeedEnsembleConfig, combine, stack, stack_weights
from models.forecasters.har import HarConfig
from models.forecasters.interface import Fitted, Inputs, Training
from models.forecasters.naive import AlwaysUpConfig
from tests.models.forecasters.panels import (
    assert_causal,
    assert_deterministic,
    assert_in_order,
    garch_returns,
    of_returns,
)

NORMAL = np.array([-2.326, -1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


def normal(sigma: np.ndarray, location: float = 0.0, p_up: float = 0.5) -> Forecast:
    """(N, T, H) sigma -> a normal forecast."""
    return Forecast(sigma.copy(), location + sigma[..., None] * NORMAL, np.full(sigma.shape, p_up))


def test_average_by_hand() -> None:
    one, two = normal(np.full((1, 1, 1), 0.01), 0.002, 0.5), normal(np.full((1, 1, 1), 0.04), 0.0, 0.8)
    found = combine([one, two])
    assert found.sigma.item() == pytest.approx(0.02)  # sqrt(.01 * .04)
    np.testing.assert_allclose(found.quantiles[0, 0, 0], 0.001 + 0.02 * NORMAL)
    assert found.p_up.item() == pytest.approx(2 / 3)  # odds sqrt(1 * 4) = 2
    found = combine([one, two], np.array([0.25, 0.75]))
    assert found.sigma.item() == pytest.approx(0.01**0.25 * 0.04**0.75)


def test_alike_members_are_their_own_average() -> None:
    sigma = np.random.default_rng(0).uniform(0.01, 0.03, (3, 4, 2))
    one = normal(sigma, 0.001, 0.53)
    for ours, theirs in zip(combine([one, one, one]), one, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_weights_by_horizon() -> None:
    one, two = normal(np.full((2, 3, 2), 0.01)), normal(np.full((2, 3, 2), 0.04))
    found = combine([one, two], np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(found.sigma[..., 0], 0.01)
    np.testing.assert_allclose(found.sigma[..., 1], 0.04)


def test_where_one_has_no_forecast_the_others_stand_for_it() -> None:
    sigma = np.full((1, 3, 1), 0.01)
    one, two = normal(sigma), normal(4 * sigma)
    for values in one:
        values[:, :2] = np.nan
    for values in two:
        values[:, 0] = np.nan
    found = combine([one, two])
    np.testing.assert_allclose(found.sigma.ravel(), [np.nan, 0.04, 0.02])
    assert np.isnan(found.quantiles[0, 0]).all()
    assert np.isnan(found.p_up[0, 0]).all()
    only = combine([one, two], np.array([1.0, 0.0]))
    np.testing.assert_allclose(only.sigma.ravel(), [np.nan, np.nan, 0.01])


def test_quantiles_stay_in_order() -> None:
    generator = np.random.default_rng(1)
    members = []
    for _ in range(4):
        quantiles = np.sort(generator.standard_t(3, (5, 6, 2, len(QUANTILES))), axis=-1)
        members.append(Forecast(np.ones((5, 6, 2)), quantiles, np.full((5, 6, 2), 0.5)))
    weights = generator.dirichlet(np.ones(4))
    assert (np.diff(combine(members, weights).quantiles, axis=-1) >= 0).all()


def test_errors_say_what_is_wrong() -> None:
    one = normal(np.ones((1, 2, 1)))
    with pytest.raises(ValueError, match="no forecasts to combine"):
        combine([])
    with pytest.raises(ValueError, match=r"different shapes cannot be combined: \[\(1, 2, 1\), \(1, 3, 1\)\]"):
        combine([one, normal(np.ones((1, 3, 1)))])
    training = of_returns(garch_returns(3, 300, 0.1, 0.0, 0.8))
    with pytest.raises(ValueError, match="seeds is 0"):
        SeedEnsembleConfig(HarConfig(), seeds=0).fit(training)
    with pytest.raises(ValueError, match="needs at least one member"):
        EnsembleConfig(()).fit(training)
    with pytest.raises(ValueError, match=r"starts must ascend, these do not: \[5, 3\]"):
        stack([one], np.ones((1, 2, 1)), np.ones((1, 2)), (1,), (1,), [5, 3])


@dataclass(frozen=True)
class Seeded:
    """A forecaster whose scale is its seed."""

    def fit(self, training: Training) -> SeededFit:
        training.progress(1.0)
        return SeededFit(training.seed, {"seed": training.seed, "directory": str(training.directory)})


@dataclass(frozen=True)
class SeededFit:
    seed: int
    choices: dict[str, Any]

    def forecast(self, inputs: Inputs) -> Forecast:
        return normal(inputs.vol[..., None] * self.seed)


def test_members_have_seeds_and_directories_of_their_own(tmp_path: Path) -> None:
    shares: list[float] = []
    training = of_returns(garch_returns(3, 300, 0.1, 0.0, 0.8))
    training = replace(training, directory=tmp_path, progress=shares.append)
    fitted = SeedEnsembleConfig(Seeded(), seeds=3).fit(training)
    assert [each["seed"] for each in fitted.choices["members"]] == [3, 4, 5]
    assert len({each["directory"] for each in fitted.choices["members"]}) == 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    sigma = fitted.forecast(training.inputs).sigma[..., 0]
    np.testing.assert_allclose(sigma, training.inputs.vol * 60 ** (1 / 3))


def test_ensembles_are_causal_deterministic_forecasters() -> None:
    training = of_returns(garch_returns(4, 400, 0.1, 0.0, 0.8))
    boosting = BoostingConfig(alphas=(300.0,), weights=(0.5,), iterations=10)
    for config in (SeedEnsembleConfig(boosting, 2), EnsembleConfig((HarConfig(), AlwaysUpConfig()))):
        fitted = config.fit(training)
        assert isinstance(fitted, Fitted)
        assert_causal(fitted, training.inputs, 250)
        assert_in_order(fitted, training)
        assert_deterministic(config, training)


def outcomes(sessions: int = 800, tickers: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True sigma and outcomes, (N, T, 1)."""
    generator = np.random.default_rng(seed)
    sigma = 0.01 * np.exp(0.5 * generator.normal(0, 1, (tickers, sessions, 1)))
    return sigma, sigma * generator.normal(0, 1, sigma.shape)


def test_weights_go_to_the_member_that_knows() -> None:
    sigma, actual = outcomes()
    flat = normal(np.full_like(sigma, 0.011))
    weights = stack_weights([flat, normal(sigma), flat], actual[..., 0], np.full(actual.shape[:2], 0.01))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[1] > 0.9


def test_weights_split_the_planted_mixture() -> None:
    generator = np.random.default_rng(2)
    a, b = 0.5 * generator.normal(0, 1, (2, 10, 2000, 1))
    actual = 0.01 * np.exp(0.7 * a + 0.3 * b) * generator.normal(0, 1, a.shape)
    members = [normal(0.01 * np.exp(each)) for each in (a, b)]
    weights = stack_weights(members, actual[..., 0], np.full(actual.shape[:2], 0.01))
    np.testing.assert_allclose(weights, [0.7, 0.3], atol=0.06)


def test_one_member_or_no_outcome_gives_equal_weights() -> None:
    sigma, actual = outcomes(20)
    actual = actual[..., 0]
    unit = np.ones(actual.shape)
    assert stack_weights([normal(sigma)], actual, unit).tolist() == [1.0]
    assert stack_weights([normal(sigma)] * 2, np.full_like(actual, np.nan), unit).tolist() == [0.5, 0.5]


def test_stacking_reads_only_what_is_known_at_each_start() -> None:
    sigma, actual = outcomes()
    members = [normal(np.full_like(sigma, 0.011)), normal(sigma)]
    vol = np.full(actual.shape[:2], 0.01)
    delay, starts = 6, [100, 400, 700]
    found = stack(members, actual, vol, (5,), (delay,), starts, least=250)
    np.testing.assert_array_equal(found.weights[0], 0.5)  # too few sessions before it
    assert found.weights[1, 1, 0] > 0.8
    assert np.isnan(found.forecast.sigma[:, :100]).all()
    assert np.isfinite(found.forecast.sigma[:, 100:]).all()
    # The outcome of 400 - 6 = 394 is the newest one known at 400; everything after it may be anything.
    later = actual.copy()
    later[:, 395:] *= 50
    moved = [Forecast(*(values.copy() for values in each)) for each in members]
    for each in moved:
        each.quantiles[:, 700:] *= 3
    other = stack(moved, later, vol, (5,), (delay,), starts, least=250)
    assert other.weights[:2].tobytes() == found.weights[:2].tobytes()
    for one, two in zip(found.forecast, other.forecast, strict=True):
        assert one[:, :700].tobytes() == two[:, :700].tobytes()
    # And that one is read: with so many outcomes known as are needed, one less leaves the members alike.
    assert stack(members, actual, vol, (5,), (delay,), [400], least=395).weights[0, 1, 0] > 0.8
    assert stack(members, actual, vol, (5,), (delay,), [400], least=396).weights[0, 1, 0] == 0.5
