"""The whole field at once: pairwise tests with HAC errors, the models that may be best, and whether any beats a bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import Forecast
from pipeline.evidence import forecast_tests
from pipeline.evidence.losses import Outcome, pinball
from pipeline.evidence.significance import BySession, Resampling

Array = npt.NDArray[np.float64]


def comparisons(
    forecasts: Mapping[str, Forecast],
    found: list[Outcome],
    candidate: str,
    baselines: Iterable[str],
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """Diebold and Mariano's test of the candidate's pinball loss against each baseline, horizon by horizon."""
    rows = []
    for outcome in found:
        own = pinball(forecasts[candidate], outcome)
        for against in baselines:
            if against in forecasts and against != candidate:
                test = forecast_tests.diebold_mariano(
                    own,
                    pinball(forecasts[against], outcome),
                    outcome.horizon,
                    level=1 - resampling.confidence,
                    min_effective=resampling.min_blocks,
                )
                rows.append({"model": candidate, "against": against, "horizon": outcome.horizon, **asdict(test)})
    return rows


def confidence_sets(
    losses_of: Mapping[str, BySession], models: tuple[str, ...], horizons: tuple[int, ...], resampling: Resampling
) -> list[dict[str, Any]]:
    """The Model Confidence Set of all models' pinball losses, one a horizon.

    Args:
        losses_of: `model|pinball|horizon` -> losses by session, all models on the same cells.
    """
    size = round(1 - resampling.confidence, 10)
    return [
        {
            "horizon": h,
            **asdict(forecast_tests.model_confidence_set(_of(losses_of, models, h), resampling, size, h)),
        }
        for h in horizons
    ]


def superior(
    losses_of: Mapping[str, BySession],
    models: tuple[str, ...],
    benchmark: str,
    horizons: tuple[int, ...],
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """Hansen's test that none of the models beats the benchmark, counted that all were tried, one a horizon."""
    level = round(1 - resampling.confidence, 10)
    rows = []
    for h in horizons:
        racing = _of(losses_of, (benchmark, *models), h)
        test = forecast_tests.superior_ability(racing, benchmark, resampling, level, h)
        rows.append({"horizon": h, "benchmark": benchmark, **asdict(test)})
    return rows


def _of(losses_of: Mapping[str, BySession], models: tuple[str, ...], horizon: int) -> dict[str, Array]:
    """(T',) losses by session whose mean is that over cells."""
    found = {}
    for model in models:
        sums, counts = losses_of[f"{model}|pinball|{horizon}"]
        there = counts > 0
        found[model] = np.where(there, sums, np.nan) / counts[there].mean()
    return found
