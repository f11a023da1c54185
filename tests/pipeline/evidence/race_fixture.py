"""A simulated race: normal returns with a volatility that is known, and forecasters that err by so much."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from models.decode import QUANTILES, Forecast
from pipeline.evidence.significance import Resampling

SETTINGS = Resampling(confidence=0.95, gate_level=0.01, resamples=300, block_sessions=20, min_blocks=10, seed=1)
ERRORS = {"unconditional": 0.5, "ewma": 0.3, "har": 0.28, "garch": 0.2, "scale_skip": 0.1, "student": 0.02}
TICKERS = ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF"]
HORIZONS = (1, 5)


class Market:
    """log_return, rv: (N, T, H); vol: (N, T), what the true volatility fluctuates around."""

    def __init__(self, seed: int = 0, tickers: int = 6, sessions: int = 900) -> None:
        generator = np.random.default_rng(seed)
        longer = sessions + max(HORIZONS)
        days = np.arange(longer)
        self.generator = generator
        self.vol = 0.01 * np.exp(0.4 * np.sin(days / 90) + 0.2 * np.arange(tickers)[:, None] / tickers)[:, :sessions]
        self.truth = self.vol * np.exp(0.3 * generator.normal(size=(tickers, sessions)))
        own, common = generator.normal(size=(tickers, longer)), generator.normal(size=(1, longer))
        shock = np.sqrt(0.7) * own + np.sqrt(0.3) * common
        ahead = [np.lib.stride_tricks.sliding_window_view(shock, h, axis=-1)[:, :sessions] for h in HORIZONS]
        self.log_return = np.stack([self.truth * window.sum(-1) for window in ahead], axis=-1)
        self.rv = np.stack([self.truth**2 * (window**2).mean(-1) for window in ahead], axis=-1)
        self.log_return[:, :100] = self.rv[:, :100] = np.nan

    def forecast(self, error: float, p_up: float | None = None) -> Forecast:
        """Of the true distribution but for a log-volatility wrong by `error` on average, at random."""
        noise = error * self.generator.normal(size=self.vol.shape)
        sigma = (self.truth * np.exp(noise))[..., None] * np.sqrt(HORIZONS)
        chance = 0.5 + 0.02 * self.generator.normal(size=sigma.shape) if p_up is None else np.full(sigma.shape, p_up)
        return Forecast(sigma, sigma[..., None] * norm.ppf(QUANTILES), chance)


def race(market: Market, errors: dict[str, float] | None = None) -> dict[str, Forecast]:
    """Forecasts in the order of a run: baselines, naive directions, the others."""
    made = {name: market.forecast(error) for name, error in (errors or ERRORS).items()}
    naive = {"always_up": market.forecast(0.3, 0.53), "market_momentum": market.forecast(0.3, 0.51)}
    momentum = np.where(np.sin(np.arange(market.vol.shape[1]) / 7)[None, :, None] > 0, 0.51, 0.49)
    naive["market_momentum"] = naive["market_momentum"]._replace(p_up=momentum + np.zeros_like(market.log_return))
    baselines = {name: made.pop(name) for name in list(made) if name in ("unconditional", "ewma", "har", "garch")}
    return {**baselines, **naive, **made}
