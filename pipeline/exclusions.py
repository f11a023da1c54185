"""What training could not use, counted and said: prices that stand still, features without a value, test slices whose
outcomes are not known, breaks in the history, tickers too short for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.bars import HALT_BARS
from features.splits import Fold
from pipeline.errors import TooLittleHistoryError
from pipeline.walkforward import Dataset

Bools = npt.NDArray[np.bool_]

LONGEST_BREAK = np.timedelta64(31, "D")
MOST_NAMED = 5
COUNTED = {
    "short_tickers": "with too few bars to fill the model's context, so without a target for it",
    "tickers_at_typical_level": "with too few returns for a level of their own, taken at the typical ticker's",
    "fallback_tickers": "that could not be fitted alone, with pooled parameters instead",
}
"""Key of a model's choices -> what is true of so many tickers."""


def check_outcomes(data: Dataset, folds: Sequence[Fold]) -> None:
    """Refuse a race that nothing could be said of at one of its horizons.

    Raises:
        TooLittleHistoryError: no outcome of a horizon is known in any test slice; horizon and slices are named.
    """
    known = _known(data, folds)
    still = f"; {_named([h.ticker for h in data.halts])} stood still for some time" if data.halts else ""
    for at, horizon in enumerate(data.horizons):
        if not known[:, at].any():
            first, last = (str(data.panel.sessions[t]) for t in (folds[0].test_start, folds[-1].test_end - 1))
            raise TooLittleHistoryError(
                f"no outcome of horizon {horizon} is known in the test slices {_named([f.name for f in folds])} from "
                f"{first} to {last}, {sum(f.test_end - f.test_start for f in folds)} sessions{still}; ingest more "
                f"history or leave {horizon} out of target.horizons"
            )


def record(data: Dataset, folds: Sequence[Fold], choices: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What was left out of the race, as JSON values, and the same in sentences.

    Args:
        data: features and outcomes. folds: of the race. choices: model -> fold -> choices.
    """
    found: dict[str, Any] = {
        "halted": [{"ticker": h.ticker, "sessions": h.sessions, "first": h.first, "last": h.last} for h in data.halts],
        "features_without_values": _without_values(data, folds),
        "without_outcomes": _without_outcomes(data, folds),
        "breaks": _breaks(data),
        "tickers_by_model": _tickers_by_model(choices),
    }
    return found | {"sentences": _sentences(found)}


def never_moving(data: Dataset) -> list[str]:
    """Tickers with bars and not one session on which they could be forecast."""
    known = np.isfinite(data.panel.vol).any(axis=1)
    return [str(ticker) for ticker in data.panel.tickers[~known]]


def _known(data: Dataset, folds: Sequence[Fold]) -> Bools:
    """(folds, H) whether any outcome is known in the test slice."""
    held = np.asarray(np.isfinite(data.z).any(axis=0))
    return np.array([held[fold.test_start : fold.test_end].any(axis=0) for fold in folds])


def _without_values(data: Dataset, folds: Sequence[Fold]) -> dict[str, list[str]]:
    """Fold -> features that no ticker has a value of in training: they count as zero, so that nothing is learnt."""
    held = np.asarray(np.isfinite(data.panel.x).any(axis=0))  # (T, F)
    first = np.where(held.any(axis=0), held.argmax(axis=0), len(held))
    names = np.asarray(data.panel.feature_names)
    missing = {fold.name: names[first >= fold.train_end].tolist() for fold in folds}
    return {name: features for name, features in missing.items() if features}


def _without_outcomes(data: Dataset, folds: Sequence[Fold]) -> list[dict[str, Any]]:
    known = _known(data, folds)
    return [
        {"fold": fold.name, "horizons": [h for h, held in zip(data.horizons, row, strict=True) if not held]}
        for fold, row in zip(folds, known, strict=True)
        if not row.all()
    ]


def _breaks(data: Dataset) -> list[list[str]]:
    """Last and first session around each longer time without any."""
    sessions = data.panel.sessions
    return [[str(sessions[t]), str(sessions[t + 1])] for t in np.flatnonzero(np.diff(sessions) > LONGEST_BREAK)]


def _tickers_by_model(choices: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of model, what and fold -> how many tickers, where there are any."""
    rows = []
    for model, by_fold in choices.items():
        for what in COUNTED:
            counts = {fold: _count(chosen, what) for fold, chosen in by_fold.items()}
            if any(counts.values()):
                rows.append({"model": model, "what": what, "tickers": {f: n for f, n in counts.items() if n}})
    return rows


def _count(chosen: Any, what: str) -> int:
    """Of one fit; an ensemble's members count the same tickers."""
    members = chosen.get("members", []) if isinstance(chosen, dict) else []
    if members:
        return max(_count(member, what) for member in members)
    found = chosen.get(what, 0) if isinstance(chosen, dict) else 0
    return int(found) if isinstance(found, int) else 0


def _sentences(found: dict[str, Any]) -> list[str]:
    said = [
        f"{h['ticker']} stood still for at least {HALT_BARS} bars on {h['sessions']:,} sessions between {h['first']} "
        f"and {h['last']}: no forecast and no target there."
        for h in found["halted"]
    ]
    said += [
        f"No value before the test of {fold}, so nothing learnt from: {_named(names)}."
        for fold, names in found["features_without_values"].items()
    ]
    said += [
        f"The test of {row['fold']} has no known outcome of horizon {_named([str(h) for h in row['horizons']])} and "
        "counts for nothing there."
        for row in found["without_outcomes"]
    ]
    said += [f"No session between {last} and {first}: nothing is tested there." for last, first in found["breaks"]]
    for row in found["tickers_by_model"]:
        most = max(row["tickers"].values())
        said.append(
            f"{row['model']} in {_named(list(row['tickers']))}: {'' if len(row['tickers']) == 1 else 'up to '}{most} "
            f"{'ticker' if most == 1 else 'tickers'} {COUNTED[row['what']]}."
        )
    return said


def _named(words: Sequence[str]) -> str:
    shown = ", ".join(words[:MOST_NAMED])
    return f"{shown} and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else shown
