"""The race: every forecaster beside every baseline, on the same out-of-sample cells, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES, Forecast
from pipeline.evidence import metrics, risk_tests
from pipeline.evidence.significance import TOO_FEW, Gain, Resamples, Resampling

Array = npt.NDArray[np.float64]

PRIMARY_LEVELS = (0.10, 0.50, 0.90)
BASELINES = ("unconditional", "ewma")
MEASURES = ("pinball", "qlike", "brier", "error")


def losses(
    forecasts: Mapping[str, Forecast], log_return: Array, rv: Array, vol: Array, horizons: tuple[int, ...]
) -> dict[str, Array]:
    """Every loss of every model, keyed `model|measure|horizon`, each (N, T), NaN where not forecast or not known.

    Args:
        forecasts: model -> forecast with (N, T, H) axes, in log return.
        log_return, rv: (N, T, H) outcomes. vol: (N, T), the unit of z.

    pinball is the mean over q10, q50, q90 in z units; error is 1 - hit; cover80 is no loss but coverage.
    """
    at = [QUANTILES.index(level) for level in PRIMARY_LEVELS]
    found: dict[str, Array] = {}
    for model, forecast in forecasts.items():
        for i, h in enumerate(horizons):
            actual, quantiles = log_return[:, :, i], forecast.quantiles[:, :, i]
            unit = vol * np.sqrt(h)
            p_up = forecast.p_up[:, :, i]
            each = {
                "pinball": metrics.pinball(actual, quantiles[..., at], PRIMARY_LEVELS) / unit,
                "qlike": metrics.qlike(rv[:, :, i], forecast.sigma[:, :, i] ** 2 / h),
                "brier": metrics.brier(actual, p_up),
                "error": 1 - metrics.hit(actual, p_up),
                "cover80": metrics.inside(actual, quantiles[..., at[0]], quantiles[..., at[2]]),
            }
            found |= {f"{model}|{measure}|{h}": value for measure, value in each.items()}
    for i, h in enumerate(horizons):
        found[f"always_up|error|{h}"] = 1 - metrics.hit(log_return[:, :, i], np.ones_like(log_return[:, :, i]))
    return _common_cells(found)


def evidence(
    losses_of: Mapping[str, Array],
    models: tuple[str, ...],
    candidate: str,
    horizons: tuple[int, ...],
    resampling: Resampling,
) -> dict[str, Any]:
    """Losses, gains with intervals, direction and the gate, as JSON values."""
    draws = Resamples(losses_of, resampling)
    gains = []
    for model in (m for m in models if m not in BASELINES):
        for against in (m for m in models if m in BASELINES or m == "scale_skip"):
            if model != against:
                for measure in ("pinball", "qlike", "brier"):
                    gains += [_row(draws, model, against, measure, h) for h in horizons]
    return {
        "primary": "pinball",
        "baseline": "ewma",
        "confidence": resampling.confidence,
        "gate_level": resampling.gate_level,
        "block_sessions": resampling.block_sessions,
        "n_sessions": draws.n_sessions,
        "n_effective_blocks": round(draws.n_blocks, 1),
        "horizons": list(horizons),
        "models": list(models),
        "losses": [_losses_row(losses_of, model, h) for model in models for h in horizons],
        "gains": gains,
        "gate": gate(draws, losses_of, candidate, horizons, resampling),
        "direction": direction(draws, candidate, horizons),
    }


def gate(
    draws: Resamples,
    losses_of: Mapping[str, Array],
    candidate: str,
    horizons: tuple[int, ...],
    resampling: Resampling,
) -> dict[str, Any]:
    """Promotion: a pinball gain over the best baseline, mean over horizons, whose lower bound is above zero."""

    def mean_loss(model: str) -> float:
        return float(np.mean([np.nanmean(losses_of[f"{model}|pinball|{h}"]) for h in horizons]))

    against = min(BASELINES, key=mean_loss)
    gain = draws.gain([(f"{candidate}|pinball|{h}", f"{against}|pinball|{h}") for h in horizons])
    enough = gain.verdict != TOO_FEW
    passed = enough and gain.gate_low > 0
    return {
        "model": candidate,
        "against": against,
        "measure": "pinball",
        "gain_percent": gain.gain_percent,
        "low": gain.low,
        "high": gain.high,
        "gate_low": gain.gate_low,
        "level": resampling.gate_level,
        "n_effective_sessions": round(gain.n_effective, 1),
        "passed": passed,
        "smallest_detectable_percent": gain.smallest_detectable,
        "sentence": _gate_sentence(candidate, against, gain, passed, enough, resampling),
    }


def direction(draws: Resamples, candidate: str, horizons: tuple[int, ...]) -> dict[str, Any]:
    """Accuracy of the sign beside always-up, and the plain sentence about it."""
    rows = []
    for model in (candidate, "always_up"):
        for h in horizons:
            error, low, high = draws.mean(f"{model}|error|{h}")
            rows.append({"model": model, "horizon": h, "accuracy": 1 - error, "low": 1 - high, "high": 1 - low})
    errors = {h: (f"{candidate}|error|{h}", f"always_up|error|{h}") for h in horizons}
    better = [h for h, pair in errors.items() if draws.gain([pair]).verdict == "better"]
    if better:
        sentence = f"Direction beats always-up at horizon {', '.join(map(str, better))}; elsewhere it does not."
    else:
        sentence = (
            "Direction is not forecast: at no horizon does the sign of the forecast beat saying 'up' every time. "
            "No position here depends on it."
        )
    return {"sentence": sentence, "rows": rows}


def value_at_risk(
    forecasts: Mapping[str, Forecast], log_return: Array, tickers: list[str], at: int = 0
) -> list[dict[str, Any]]:
    """One-horizon VaR 95 and 99 by model, pooled and by ticker, with both tests."""
    rows = []
    for model, forecast in forecasts.items():
        for level in (0.95, 0.99):
            var = forecast.quantiles[:, :, at, QUANTILES.index(round(1 - level, 2))]  # (N, T)
            actual = log_return[:, :, at]
            known = np.isfinite(var) & np.isfinite(actual)
            series = {t: (actual[n] < var[n])[known[n]] for n, t in enumerate(tickers) if known[n].any()}
            for name, breached in [("pooled", list(series.values())), *((t, [s]) for t, s in series.items())]:
                found = risk_tests.exceedances(breached, round(1 - level, 2))
                rows += [{"model": model, "ticker": name, "horizon": 1, "level": level, **found._asdict()}]
    return rows


def compare(
    with_it: Mapping[str, Array], horizons: tuple[int, ...], resampling: Resampling, model: str, against: str
) -> list[dict[str, Any]]:
    """Gains of one model over another, by horizon, in pinball, QLIKE and Brier score."""
    draws = Resamples(with_it, resampling)
    return [_row(draws, model, against, measure, h) for measure in ("pinball", "qlike", "brier") for h in horizons]


def _row(draws: Resamples, model: str, against: str, measure: str, horizon: int) -> dict[str, Any]:
    gain = draws.gain([(f"{model}|{measure}|{horizon}", f"{against}|{measure}|{horizon}")])
    kept = {k: v for k, v in asdict(gain).items() if k in ("gain_percent", "low", "high", "p_value", "verdict")}
    return {"model": model, "against": against, "horizon": horizon, "measure": measure, **kept}


def _losses_row(losses_of: Mapping[str, Array], model: str, horizon: int) -> dict[str, Any]:
    def mean(measure: str) -> float:
        return float(np.nanmean(losses_of[f"{model}|{measure}|{horizon}"]))

    return {
        "model": model,
        "horizon": horizon,
        "pinball": mean("pinball"),
        "qlike": mean("qlike"),
        "coverage80": mean("cover80"),
        "brier": mean("brier"),
        "accuracy": 1 - mean("error"),
        "n": int(np.isfinite(losses_of[f"{model}|pinball|{horizon}"]).sum()),
    }


def _common_cells(found: dict[str, Array]) -> dict[str, Array]:
    """Every model is judged on the cells that all of them forecast, horizon by horizon."""
    out: dict[str, Array] = {}
    for h in {key.rpartition("|")[2] for key in found}:
        own = {key: value for key, value in found.items() if key.endswith(f"|{h}")}
        common = np.logical_and.reduce([np.isfinite(value) for value in own.values()])
        out |= {key: np.where(common, value, np.nan) for key, value in own.items()}
    return out


def _gate_sentence(candidate: str, against: str, gain: Gain, passed: bool, enough: bool, resampling: Resampling) -> str:
    interval = f"{resampling.confidence:.0%} interval [{gain.low:+.2f}, {gain.high:+.2f}]"
    figures = f"{gain.gain_percent:+.2f} % of pinball loss, {interval}"
    if not enough:
        return (
            f"No verdict: {min(gain.n_blocks, gain.n_effective):.1f} independent blocks of sessions are fewer than "
            f"{resampling.min_blocks}. The baseline ships."
        )
    if passed:
        return f"The {candidate} beats its best baseline, {against}, by {figures}, and is promoted."
    return (
        f"The {candidate} does not beat its best baseline, {against}, at the gate's level "
        f"({resampling.gate_level:.0%}): {figures}. The baseline ships. The smallest gain that these data would "
        f"show four times in five is {gain.smallest_detectable:.2f} %."
    )
