"""What evidence.json says of a race, with synthetic figures: some models gain, others do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.frames import QUANTILES

HORIZONS = (1, 5, 20)
TICKERS = ("AAPL", "IBM", "SPX")
BASELINES = ("unconditional", "ewma", "har", "garch")
LEARNERS = ("regression", "boosting", "lstm", "transformer", "stack")
MODELS = (*BASELINES, "scale_skip", *LEARNERS, "student")
NAIVE = ("always_up", "market_momentum")
BEST = "garch"
GAINS = {
    "unconditional": -5.1,
    "ewma": -0.6,
    "har": -0.3,
    "scale_skip": 0.8,
    "regression": 0.9,
    "boosting": 1.0,
    "lstm": 0.3,
    "transformer": -0.2,
    "stack": 1.25,
}
"""Against the best baseline, of the pinball loss; the student's depends on the verdict wanted."""


def gains_of(passed: bool) -> dict[str, float]:
    """Mean gains by model."""
    return {**GAINS, "student": 1.12 if passed else -0.2}


def figures(gain: float, half: float = 0.5) -> dict[str, Any]:
    """A gain with its interval and verdict."""
    verdict = "better" if gain > half else "worse" if gain < -half else "not distinguishable"
    p = 0.0004 if gain > half else 0.3
    return {"gain_percent": gain, "low": gain - half, "high": gain + half, "p_value": p, "verdict": verdict}


def race(passed: bool) -> dict[str, Any]:
    """The parts of evidence.json that many models have."""
    return {
        "best_baseline": BEST,
        "baselines": list(BASELINES),
        "samples": [_sample(h) for h in HORIZONS],
        "verdicts": [_verdict(model, gain) for model, gain in gains_of(passed).items()],
        "comparisons": [_comparison(against, h) for h in HORIZONS for against in BASELINES],
        "confidence_sets": [_set(h) for h in HORIZONS],
        "superior": [_superior(h) for h in HORIZONS],
        "coverage": [_coverage(m, h, s) for m in MODELS for h in HORIZONS for s in ("all", "volatile")],
        "pit": [_pit(m, h) for m in ("student", BEST, "ewma") for h in HORIZONS],
        "tails": [_tail(m, level) for m in MODELS for level in (0.95, 0.99)],
        "var": [_exceeded(m, t, *at) for m in MODELS for t in (*TICKERS, "pooled") for at in _LEVELS if _told(m, t)],
        "reliability": [_reliability(h) for h in HORIZONS],
    }


def direction_rows() -> list[dict[str, Any]]:
    """Accuracy, Brier score and rank correlation by model and horizon."""
    ranked = {"rank": 0.004, "rank_low": -0.012, "rank_high": 0.02}
    unranked = dict.fromkeys(ranked)
    return [
        {"model": m, "horizon": h, "accuracy": 0.521, "low": 0.497, "high": 0.545, "brier": 0.2493}
        | (unranked if m in NAIVE else ranked)
        for m in (*MODELS, *NAIVE)
        for h in HORIZONS
    ]


def direction_gains() -> list[dict[str, Any]]:
    """The student against the naive directions."""
    return [
        {"model": "student", "against": against, "horizon": h, "measure": measure, **figures(-0.02, 0.05)}
        for against in NAIVE
        for measure in ("error", "brier")
        for h in HORIZONS
    ]


_LEVELS = ((0.95, 99, 94.2), (0.99, 22, 18.9))


def _told(model: str, ticker: str) -> bool:
    return ticker == "pooled" or model in ("student", "ewma", BEST)


def _verdict(model: str, gain: float) -> dict[str, Any]:
    beside = figures(gain - GAINS["scale_skip"], 0.3) if model in (*LEARNERS, "student") else None
    return {
        "model": model,
        "against": BEST,
        "is_baseline": model in BASELINES,
        **figures(gain),
        "gate_low": gain - 0.6,
        "passed": model not in BASELINES and gain > 0.6,
        "worse_than_foundation": False,
        "smallest_detectable_percent": 0.6,
        "n_effective_sessions": 1500.0,
        "by_horizon": [{"horizon": h, **figures(gain * (1 + 0.03 * h), 0.4 + 0.03 * h)} for h in HORIZONS],
        "beside_foundation": beside,
    }


def _sample(horizon: int) -> dict[str, Any]:
    own = {**dict.fromkeys((*MODELS, *NAIVE), 5655), "lstm": 5600}
    sizes = {"n_cells": 5600 - horizon, "n_sessions": 1885 - horizon, "n_without_overlap": (1885 - horizon) / horizon}
    return {"horizon": horizon, **sizes, "n_effective_sessions": 1500.0 / horizon, "own": own}


def _comparison(against: str, horizon: int) -> dict[str, Any]:
    return {
        "model": "student",
        "against": against,
        "horizon": horizon,
        "difference": -0.003,
        "statistic": -2.6,
        "p_value": 0.011,
        "p_better": 0.0055,
        "kernel": "newey_west",
        "lags": 56,
        "n_sessions": 1885 - horizon,
        "n_effective": 1500.0 / horizon,
        "verdict": "better",
    }


def _set(horizon: int) -> dict[str, Any]:
    included = ["stack", "student"] if horizon < 20 else list(MODELS[4:])
    verdict = f"At 95% confidence the best is among: {', '.join(included)}."
    p_values = {model: 0.4 if model in included else 0.01 for model in MODELS}
    sizes = {"size": 0.05, "n_blocks": 31.4, "n_effective": 1500.0 / horizon}
    return {"horizon": horizon, "included": included, "p_values": p_values, **sizes, "verdict": verdict}


def _superior(horizon: int) -> dict[str, Any]:
    p = {"p_lower": 0.004, "p_consistent": 0.006, "p_upper": 0.009}
    verdict = f"At least one of 7 models is shown to beat {BEST} (p = 0.006)."
    sizes = {"n_models": 7, "n_blocks": 31.4, "n_effective": 1500.0 / horizon}
    return {"horizon": horizon, "benchmark": BEST, **p, **sizes, "verdict": verdict}


def _coverage(model: str, horizon: int, which: str) -> dict[str, Any]:
    share = 0.79 + 0.001 * MODELS.index(model) - 0.02 * (which == "volatile")
    ends = {"share": share, "low": share - 0.02, "high": share + 0.02}
    return {"model": model, "horizon": horizon, "sessions": which, **ends, "n_sessions": 1885}


def _pit(model: str, horizon: int) -> dict[str, Any]:
    expected = np.diff([0.0, *QUANTILES, 1.0])
    shares = expected * (1 + 0.1 * np.cos(np.arange(10) + horizon))
    shares = shares / shares.sum()
    ends = {"low": (shares * 0.9).tolist(), "high": (shares * 1.1).tolist()}
    told = {"shares": shares.tolist(), "expected": expected.tolist(), **ends}
    return {"model": model, "horizon": horizon, **told, "p_value": 0.21, "n_cells": 5600}


def _tail(model: str, level: float) -> dict[str, Any]:
    saved = 0.0 if model == BEST else 0.004
    told = {"loss": -3.1, "saved": saved, "low": saved - 0.003, "high": saved + 0.003}
    return {"model": model, "against": BEST, "horizon": 1, "level": level, **told, "verdict": "not distinguishable"}


def _exceeded(model: str, ticker: str, level: float, n: int, expected: float) -> dict[str, Any]:
    found = {"exceedances": n, "expected": expected, "n": 1885, "kupiec_p": 0.31, "christoffersen_p": 0.04}
    row = {"model": model, "ticker": ticker, "horizon": 1, "level": level, **found, "conditional_p": 0.08}
    if ticker != "pooled":
        return row
    share = n / 1885
    ends = {"share": share, "low": share - 0.006, "high": share + 0.006}
    return row | ends | {"clustered_p": 0.46, "clustered_independence_p": 0.17}


def _reliability(horizon: int) -> dict[str, Any]:
    said = np.linspace(0.48, 0.57, 10)
    came = 0.525 + 0.3 * (said - 0.525) + 0.01 * np.cos(np.arange(10) * horizon)
    bins = [
        {"said": s, "came": c, "low": c - 0.03, "high": c + 0.03, "n": 560}
        for s, c in zip(said.tolist(), came.tolist(), strict=True)
    ]
    parts = {"score": 0.2491, "reliability": 0.0006, "resolution": 0.0009, "uncertainty": 0.2494, "within": 0.0}
    return {"horizon": horizon, **parts, "bins": bins}
