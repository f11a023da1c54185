"""The verdict on a race of many models: every one beside every baseline, on the same out-of-sample cells; the gate.

The gate compares the candidate, named before the race, with the best of the baselines on these very sessions, which is
the hardest choice. The others' verdicts are beside it; that many were looked at is counted by the test of superior
ability and the Model Confidence Set (pipeline/evidence/race_field.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import Forecast
from pipeline.config_models import BASELINES, NAIVE_DIRECTIONS
from pipeline.evidence import race_direction, race_field, race_risk
from pipeline.evidence.losses import Outcome, cell_losses, outcomes, series
from pipeline.evidence.significance import TOO_FEW, BySession, Gain, Resamples, Resampling

Array = npt.NDArray[np.float64]

SHIPPED_BASELINE = "ewma"
"""What ships where the gate stays shut: the baseline that the runtime can run."""
FOUNDATION = "scale_skip"
"""The ridge that the learners stand on, and that each is compared with."""
COMPARED = ("pinball", "qlike", "brier")


def judge(
    forecasts: Mapping[str, Forecast],
    log_return: Array,
    rv: Array,
    vol: Array,
    tickers: list[str],
    horizons: tuple[int, ...],
    candidate: str,
    resampling: Resampling,
) -> dict[str, Any]:
    """All that statistics can say of a race, as JSON values; None where too little is known.

    Args:
        forecasts: model -> forecast with (N, T, H) axes, in log return, NaN = none; the order is kept. Those of
            `BASELINES` are baselines, those of `config_models.NAIVE_DIRECTIONS` directions alone.
        log_return, rv: (N, T, H) outcomes, NaN = not known: log return over the horizon, variance a session.
        vol: (N, T) volatility known at the decision, the unit of z. tickers: N names. horizons: H.
        candidate: the model at the gate.
        resampling: how; blocks are no shorter than the longest horizon.

    Raises:
        ValueError: candidate, baselines or always_up are not in the race, or a horizon has no common cell.
    """
    _check(forecasts, candidate)
    resampling = replace(resampling, block_sessions=max(resampling.block_sessions, *horizons))
    models = tuple(name for name in forecasts if name not in NAIVE_DIRECTIONS)
    found = outcomes(forecasts, log_return, rv, vol, horizons)
    losses_of = series(forecasts, found)
    draws = Resamples(losses_of, resampling)
    opened = gate(draws, losses_of, candidate, horizons, resampling)
    against = str(opened["against"])
    kept = {name: forecasts[name] for name in (candidate, against, SHIPPED_BASELINE) if name in forecasts}
    nearest = min(found, key=lambda each: each.horizon)
    others = tuple(name for name in models if name not in BASELINES)
    return _plain(
        {
            "primary": "pinball",
            "baseline": SHIPPED_BASELINE,
            "best_baseline": against,
            "confidence": resampling.confidence,
            "gate_level": resampling.gate_level,
            "block_sessions": resampling.block_sessions,
            "n_sessions": draws.n_sessions,
            "n_effective_blocks": round(draws.n_blocks, 1),
            "horizons": list(horizons),
            "models": list(models),
            "baselines": [name for name in models if name in BASELINES],
            "samples": [_sample(forecasts, draws, candidate, against, each) for each in found],
            "losses": [_losses_row(losses_of, model, h) for model in models for h in horizons],
            "gains": _gains(draws, models, horizons),
            "verdicts": [_verdict(draws, model, opened, models, horizons) for model in models if model != against],
            "gate": opened,
            "comparisons": race_field.comparisons(forecasts, found, candidate, BASELINES, resampling),
            "confidence_sets": race_field.confidence_sets(losses_of, models, horizons, resampling),
            "superior": race_field.superior(losses_of, others, against, horizons, resampling),
            "direction": race_direction.direction(draws, tuple(forecasts), candidate, horizons),
            "reliability": race_direction.reliability(forecasts[candidate], found, resampling),
            "coverage": race_risk.coverage(draws, models, found),
            "pit": race_risk.pit(kept, found, resampling),
            "tails": race_risk.tails(draws, models, against, nearest.horizon),
            "var": race_risk.value_at_risk({m: forecasts[m] for m in models}, kept, nearest, tickers, resampling),
        }
    )


def losses(
    forecasts: Mapping[str, Forecast], log_return: Array, rv: Array, vol: Array, horizons: tuple[int, ...]
) -> dict[str, Array]:
    """Every loss of every model, keyed `model|measure|horizon`, each (N, T), NaN outside the cells that all forecast.

    Args:
        forecasts: model -> forecast with (N, T, H) axes, in log return.
        log_return, rv: (N, T, H) outcomes. vol: (N, T), the unit of z.

    The measures are those of `losses.cell_losses`.

    Raises:
        ValueError: a horizon has no common cell.
    """
    return {
        f"{name}|{measure}|{outcome.horizon}": loss
        for outcome in outcomes(forecasts, log_return, rv, vol, horizons)
        for name, forecast in forecasts.items()
        for measure, loss in cell_losses(name, forecast, outcome).items()
    }


def gate(
    draws: Resamples,
    losses_of: Mapping[str, Array | BySession],
    candidate: str,
    horizons: tuple[int, ...],
    resampling: Resampling,
) -> dict[str, Any]:
    """Promotion: a pinball gain over the best baseline there is, mean over horizons, whose lower bound is above zero.

    Args:
        draws: of `losses_of`, keyed `model|pinball|horizon`. candidate: at the gate. horizons: judged together.
        resampling: level of the gate, fewest blocks.

    Raises:
        ValueError: no baseline is in the race.
    """
    against = best_baseline(draws, losses_of, horizons)
    gain = draws.gain(_pairs(candidate, against, horizons))
    enough = gain.verdict != TOO_FEW
    passed = enough and gain.gate_low > 0
    return {
        "model": candidate,
        "against": against,
        "measure": "pinball",
        **_figures(gain),
        "gate_low": gain.gate_low,
        "level": resampling.gate_level,
        "n_effective_sessions": round(gain.n_effective, 1),
        "passed": passed,
        "ships": candidate if passed else SHIPPED_BASELINE,
        "smallest_detectable_percent": gain.smallest_detectable,
        "sentence": _gate_sentence(candidate, against, gain, passed, enough, resampling),
    }


def best_baseline(draws: Resamples, there: Mapping[str, Any], horizons: tuple[int, ...]) -> str:
    """The baseline of the least pinball loss on these sessions, mean over horizons.

    Args:
        draws: of losses keyed `model|pinball|horizon`. there: their keys.

    Raises:
        ValueError: no baseline is in the race.
    """
    racing = [name for name in BASELINES if f"{name}|pinball|{horizons[0]}" in there]
    if not racing:
        raise ValueError(f"none of the baselines {', '.join(BASELINES)} is in the race; enter one")
    return min(racing, key=lambda name: float(np.mean([draws.point(f"{name}|pinball|{h}") for h in horizons])))


def compare(
    with_it: Mapping[str, Array], horizons: tuple[int, ...], resampling: Resampling, model: str, against: str
) -> list[dict[str, Any]]:
    """Gains of one model over another, by horizon, in pinball, QLIKE and Brier score."""
    draws = Resamples(with_it, resampling)
    return [_row(draws, model, against, measure, h) for measure in COMPARED for h in horizons]


def _check(forecasts: Mapping[str, Forecast], candidate: str) -> None:
    for name in (candidate, "always_up"):
        if name not in forecasts:
            raise ValueError(f"{name} is not in the race of {', '.join(forecasts)}; enter its forecasts")


def _gains(draws: Resamples, models: tuple[str, ...], horizons: tuple[int, ...]) -> list[dict[str, Any]]:
    """Every learner against every baseline and against the ridge, measure by measure."""
    return [
        _row(draws, model, against, measure, h)
        for model in models
        if model not in BASELINES
        for against in models
        if against != model and (against in BASELINES or against == FOUNDATION)
        for measure in COMPARED
        for h in horizons
    ]


def _verdict(
    draws: Resamples, model: str, opened: Mapping[str, Any], models: tuple[str, ...], horizons: tuple[int, ...]
) -> dict[str, Any]:
    """One model against the best baseline at the primary measure, and against the ridge that it stands on.

    What is worse than that ridge, over all horizons or at one of them, does not pass: it adds nothing but a cost. The
    candidate is judged by `gate`, which is `opened`; how much worse than the ridge it may be is a claim of the table of
    equality.
    """
    candidate, against = str(opened["model"]), str(opened["against"])
    gain = draws.gain(_pairs(model, against, horizons))
    baseline = model in BASELINES
    skip, worse = None, False
    if not baseline and model != FOUNDATION and FOUNDATION in models:
        beside = [draws.gain(_pairs(model, FOUNDATION, some)) for some in (horizons, *((h,) for h in horizons))]
        skip, worse = _figures(beside[0]), any(each.verdict == "worse" for each in beside)
    return {
        "model": model,
        "against": against,
        "is_baseline": baseline,
        **_figures(gain),
        "gate_low": gain.gate_low,
        "passed": not baseline and gain.verdict != TOO_FEW and gain.gate_low > 0 and (model == candidate or not worse),
        "worse_than_foundation": worse,
        "smallest_detectable_percent": gain.smallest_detectable,
        "n_effective_sessions": gain.n_effective,
        "by_horizon": [{"horizon": h, **_figures(draws.gain(_pairs(model, against, (h,))))} for h in horizons],
        "beside_foundation": skip,
    }


def _pairs(model: str, against: str, horizons: tuple[int, ...]) -> list[tuple[str, str]]:
    return [(f"{model}|pinball|{h}", f"{against}|pinball|{h}") for h in horizons]


def _figures(gain: Gain) -> dict[str, Any]:
    return {key: getattr(gain, key) for key in ("gain_percent", "low", "high", "p_value", "verdict")}


def _row(draws: Resamples, model: str, against: str, measure: str, horizon: int) -> dict[str, Any]:
    gain = draws.gain([(f"{model}|{measure}|{horizon}", f"{against}|{measure}|{horizon}")])
    return {"model": model, "against": against, "horizon": horizon, "measure": measure, **_figures(gain)}


def _sample(
    forecasts: Mapping[str, Forecast], draws: Resamples, candidate: str, against: str, outcome: Outcome
) -> dict[str, Any]:
    """What the judgement of a horizon rests on; `own` are the cells that each model forecasts at all."""
    h, cells = outcome.horizon, outcome.cells
    gain = draws.gain(_pairs(candidate, against, (h,)))
    return {
        "horizon": h,
        "n_cells": int(cells.sum()),
        "n_sessions": int(cells.any(0).sum()),
        "n_effective_sessions": gain.n_effective,
        "n_without_overlap": float(cells.any(0).sum() / h),
        "own": {name: int(np.isfinite(each.p_up[:, :, outcome.at]).sum()) for name, each in forecasts.items()},
    }


def _losses_row(losses_of: Mapping[str, BySession], model: str, horizon: int) -> dict[str, Any]:
    def mean(measure: str) -> float | None:
        found = losses_of.get(f"{model}|{measure}|{horizon}")
        return None if found is None else float(found.sums.sum() / found.counts.sum())

    error = mean("error")
    return {
        "model": model,
        "horizon": horizon,
        **{measure: mean(measure) for measure in ("pinball", "crps", "qlike", "brier", "fz95", "fz99")},
        "coverage80": mean("cover80"),
        "accuracy": None if error is None else 1 - error,
        "n": int(losses_of[f"{model}|pinball|{horizon}"].counts.sum()),
    }


def _gate_sentence(candidate: str, against: str, gain: Gain, passed: bool, enough: bool, resampling: Resampling) -> str:
    interval = f"{resampling.confidence:.0%} interval [{gain.low:+.2f}, {gain.high:+.2f}]"
    figures = f"{gain.gain_percent:+.2f} % of pinball loss, {interval}"
    ships = "The baseline ships"
    if against != SHIPPED_BASELINE:
        ships += f": {SHIPPED_BASELINE}, the one that the runtime can run"
    if not enough:
        return (
            f"No verdict: {min(gain.n_blocks, gain.n_effective):.1f} independent blocks of sessions are fewer than "
            f"{resampling.min_blocks}. {ships}."
        )
    if passed:
        return f"The {candidate} beats its best baseline, {against}, by {figures}, and is promoted."
    return (
        f"The {candidate} does not beat its best baseline, {against}, at the gate's level "
        f"({resampling.gate_level:.0%}): {figures}. {ships}. The smallest gain that these data would "
        f"show four times in five is {gain.smallest_detectable:.2f} %."
    )


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: no arrays, no numpy numbers, None for what is not finite."""
    return {key: _plain_value(value) for key, value in found.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _plain(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain_value(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
