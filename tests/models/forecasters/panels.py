"""Simulated panels for forecasters, with whatever scale is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.forecasters.interface import Fitted, Forecaster, Inputs, Slices, Training

HORIZONS = (1, 5)


def garch_returns(
    tickers: int, sessions: int, alpha: float, gamma: float, beta: float, seed: int = 0, level: float = 0.02**2
) -> np.ndarray:
    """(N, T) returns of a GJR(1,1) with normal innovations and this long-run variance."""
    generator = np.random.default_rng(seed)
    shocks = generator.normal(0, 1, (sessions + 200, tickers))
    variance, found = np.full(tickers, level), np.empty(shocks.shape)
    omega = level * (1 - alpha - gamma / 2 - beta)
    for t, shock in enumerate(shocks):
        found[t] = np.sqrt(variance) * shock
        variance = omega + (alpha + gamma * (shock < 0)) * found[t] ** 2 + beta * variance
    return np.ascontiguousarray(found[200:].T)


def ewma_volatility(returns: np.ndarray, decay: float = 0.94) -> np.ndarray:
    """(N, T), NaN where there is no return and before the 20th."""
    variance = np.nanmean(returns**2, axis=1)
    found = np.full(returns.shape, np.nan)
    for t in range(returns.shape[1]):
        held = np.isfinite(returns[:, t])
        variance = np.where(held, decay * variance + (1 - decay) * np.nan_to_num(returns[:, t]) ** 2, variance)
        found[:, t] = np.where(held, np.maximum(np.sqrt(variance), 0.003), np.nan)
    found[:, :20] = np.nan
    return found


def of_returns(returns: np.ndarray, x: np.ndarray | None = None, horizons: tuple[int, ...] = HORIZONS) -> Training:
    """A training slice with targets from close to close; `x` is noise where none is given."""
    tickers, sessions = returns.shape
    vol = ewma_volatility(returns)
    if x is None:
        x = np.random.default_rng(1).normal(0, 1, (tickers, sessions, 3)).astype(np.float32)
    z, variance = np.full((2, tickers, sessions, len(horizons)), np.nan)
    for at, h in enumerate(horizons):
        ahead = np.lib.stride_tricks.sliding_window_view(returns[:, 1:], h, axis=1)
        z[:, :-h, at] = ahead.sum(-1) / (vol[:, :-h] * np.sqrt(h))
        variance[:, :-h, at] = (ahead**2).mean(-1) / vol[:, :-h] ** 2
    slices = Slices(sessions * 3 // 4, sessions * 3 // 4 + max(horizons), sessions)
    names = tuple("abcdefgh"[: x.shape[2]])
    return Training(Inputs(x, vol, returns), z, variance, horizons, names, slices, half_life=2500.0, seed=3)


def of_signal(
    signal: np.ndarray, x: np.ndarray, seed: int = 0, location: np.ndarray | float = 0.0, fit: float = 0.75
) -> Training:
    """A training slice of one horizon with z = location + exp(signal) * normal."""
    z = location + np.exp(signal) * np.random.default_rng([seed, 1]).normal(0, 1, signal.shape)
    vol = np.full(signal.shape, 0.01)
    fit_end = int(signal.shape[1] * fit)
    slices = Slices(fit_end, fit_end + 1, signal.shape[1])
    names = tuple("abcdefgh"[: x.shape[2]])
    z = z[..., None]
    z[:, -1:] = np.nan
    return Training(Inputs(x, vol, 0.01 * np.roll(z[..., 0], 1, 1)), z, z**2, (1,), names, slices, 2500.0, seed)


def changed_after(inputs: Inputs, session: int, seed: int = 9) -> Inputs:
    """Everything after a session is other noise, some of it missing."""
    generator = np.random.default_rng(seed)
    x, vol, returns = inputs.x.copy(), inputs.vol.copy(), inputs.returns.copy()
    after = slice(session + 1, None)
    x[:, after] = generator.normal(0, 3, x[:, after].shape)
    returns[:, after] = generator.normal(0, 0.05, returns[:, after].shape)
    returns[0, after] = np.nan
    vol[:, after] = 0.04
    return Inputs(x, vol, returns)


def assert_causal(fitted: Fitted, inputs: Inputs, session: int) -> None:
    """No byte of a forecast at or before `session` depends on what comes later, nor on how long the history is."""
    whole = fitted.forecast(inputs)
    other = fitted.forecast(changed_after(inputs, session))
    upto = slice(0, session + 1)
    assert np.isfinite(whole.sigma[:, session]).any()
    for before, after in zip(whole, other, strict=True):
        assert before[:, upto].tobytes() == after[:, upto].tobytes()
    short = fitted.forecast(Inputs(inputs.x[:, upto], inputs.vol[:, upto], inputs.returns[:, upto]))
    for before, after in zip(whole, short, strict=True):
        np.testing.assert_allclose(before[:, upto], after, rtol=1e-12)


def assert_deterministic(config: Forecaster, training: Training) -> None:
    """Two fits forecast the same bytes and record the same choices."""
    first, second = config.fit(training), config.fit(training)
    assert first.choices == second.choices
    for one, other in zip(first.forecast(training.inputs), second.forecast(training.inputs), strict=True):
        assert one.tobytes() == other.tobytes()


def assert_in_order(fitted: Fitted, training: Training) -> None:
    """Quantiles ascend, sigma is above zero and p_up inside (0, 1) wherever there is a volatility; NaN elsewhere."""
    found = fitted.forecast(training.inputs)
    held = np.isfinite(training.inputs.vol)
    assert (np.diff(found.quantiles[held], axis=-1) >= 0).all()
    assert (found.sigma[held] > 0).all()
    assert ((found.p_up[held] > 0) & (found.p_up[held] < 1)).all()
    assert np.isnan(found.sigma[~held]).all()
    assert np.isnan(found.quantiles[~held]).all()
    assert np.isnan(found.p_up[~held]).all()


def r2(target: np.ndarray, forecast: np.ndarray) -> float:
    """Share of the target's variance, both without their means; cells without a target are left out."""
    known = np.isfinite(target)
    target, forecast = target[known], forecast[known]
    error = target - forecast
    return float(1 - error.var() / target.var())


def without(training: Training, **inputs: np.ndarray) -> Training:
    """The training slice with other inputs."""
    return replace(training, inputs=replace(training.inputs, **inputs))
