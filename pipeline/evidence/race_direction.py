"""Direction: the sign, the chance to rise and the order of the tickers, beside saying 'up' and following the market."""

from __future__ import annotations

from typing import Any

from models.decode import Forecast
from pipeline.config_models import NAIVE_DIRECTIONS
from pipeline.evidence import calibration
from pipeline.evidence.losses import Outcome
from pipeline.evidence.significance import TOO_FEW, Interval, Resamples, Resampling

BINS = 10
NOT_FORECAST = (
    "Direction is not forecast: at no horizon does the sign of the forecast beat saying 'up' every time. "
    "No position here depends on it."
)


def direction(draws: Resamples, models: tuple[str, ...], candidate: str, horizons: tuple[int, ...]) -> dict[str, Any]:
    """Accuracy, Brier score and rank correlation of every model, the candidate's gains over the naive ones, and the
    plain sentence.

    Args:
        draws: of series `model|error|horizon`, `|brier|` and `|rank|`. models: shown, the naive directions among them.

    Returns:
        sentence; rows: model, horizon, accuracy, low, high, brier, rank, rank_low, rank_high (NaN where a model does
        not order the tickers); gains: candidate against each naive direction in `error` and `brier`.
    """
    rows, gains = [], []
    for model in models:
        for h in horizons:
            error, low, high = draws.mean(f"{model}|error|{h}")
            rank = draws.mean(f"{model}|rank|{h}")
            rows.append(
                {
                    "model": model,
                    "horizon": h,
                    "accuracy": 1 - error,
                    "low": 1 - high,
                    "high": 1 - low,
                    "brier": draws.point(f"{model}|brier|{h}"),
                    "rank": rank.value,
                    "rank_low": rank.low,
                    "rank_high": rank.high,
                }
            )
    for against in (name for name in models if name in NAIVE_DIRECTIONS):
        for measure in ("error", "brier"):
            for h in horizons:
                gain = draws.gain([(f"{candidate}|{measure}|{h}", f"{against}|{measure}|{h}")])
                figures = {key: getattr(gain, key) for key in ("gain_percent", "low", "high", "p_value", "verdict")}
                gains.append({"model": candidate, "against": against, "horizon": h, "measure": measure, **figures})
    ranks = {h: draws.mean(f"{candidate}|rank|{h}") for h in horizons}
    return {"sentence": _sentence(gains, ranks, draws), "rows": rows, "gains": gains}


def reliability(forecast: Forecast, found: list[Outcome], resampling: Resampling) -> list[dict[str, Any]]:
    """The Brier score of p_up taken apart, and its reliability curve, one a horizon.

    Returns:
        horizon, score, reliability, resolution, uncertainty, within (`calibration.BrierParts`), bins: said, came, low,
        high, n.
    """
    rows = []
    for outcome in found:
        p_up = forecast.p_up[:, :, outcome.at]
        curve = calibration.reliability_curve(outcome.actual, p_up, BINS, outcome.horizon, resampling.confidence)
        parts = calibration.brier_parts(outcome.actual, p_up, BINS)
        rows.append({"horizon": outcome.horizon, **vars(parts), "bins": [vars(each) for each in curve]})
    return rows


def _sentence(gains: list[dict[str, Any]], ranks: dict[int, Interval], draws: Resamples) -> str:
    def better(measure: str) -> list[int]:
        shown = [g for g in gains if (g["against"], g["measure"]) == ("always_up", measure)]
        return [g["horizon"] for g in shown if g["verdict"] == "better"]

    if all(g["verdict"] == TOO_FEW for g in gains):
        return "Too few independent sessions for a verdict on direction. No position here depends on it."
    text = NOT_FORECAST
    if signs := better("error"):
        text = f"The sign of the forecast beats saying 'up' every time at horizon {_listed(signs)}; elsewhere not."
    if chances := better("brier"):
        text += f" Its chances to rise are better than always-up's at horizon {_listed(chances)} (Brier score)."
    if draws.n_blocks >= draws.resampling.min_blocks:
        ordered = [
            f"{h}: {rank.value:+.3f} [{rank.low:+.3f}, {rank.high:+.3f}]" for h, rank in ranks.items() if rank.low > 0
        ]
        if ordered:
            text += (
                " Over the tickers of a session its chances to rise have a rank correlation with returns above zero at "
                f"horizon {'; '.join(ordered)}, {len(ordered)} of {len(ranks)} looked at."
            )
    return text


def _listed(horizons: list[int]) -> str:
    return ", ".join(map(str, horizons))
