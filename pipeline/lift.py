"""Whether text earns its place: the scale skip with and without it, walk-forward, and what each fold may know of that.

Both arms are fitted on the same folds with the same choices; the arm without text sees the sentiment features as
missing, and its weights on them are exactly zero. What a fold may use is decided nested: from forecasts of earlier
folds, as far as their outcomes were known when its training slice ended, never from its own test slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.panel import Panel
from features.splits import Fold
from features.table import FEATURES
from models.forecasters.student import StudentConfig
from pipeline import walkforward
from pipeline.config import Config
from pipeline.evidence import text_lift
from pipeline.evidence.significance import Resampling
from pipeline.evidence.text_lift import WITH, WITHOUT, Arm, Lift
from pipeline.store import Lake
from pipeline.walkforward import Dataset

Array = npt.NDArray[np.float64]

PLUMBING: Final = "Simulated text: plumbing only."
NO_TEXT: Final = "No text features are in use, so there is nothing to ablate."
NOTHING_LEARNED: Final = "No training slice holds a headline, so there is nothing to ablate."
SIMULATED_SOURCE: Final = "simulated"


@dataclass(frozen=True)
class Decision:
    """Whether a fold may use text.

    Attributes:
        fold: its name. used: the decision. reason: in plain words.
        last: the last session whose forecast was looked at, None if there was none to look at.
        lift: of the scale forecast over those sessions, None likewise.
    """

    fold: str
    used: bool
    reason: str
    last: str | None
    lift: Lift | None

    def figures(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)


def text_columns(panel: Panel) -> tuple[int, ...]:
    """The positions of the sentiment features."""
    text = set(FEATURES["sentiment"])
    return tuple(i for i, name in enumerate(panel.feature_names) if name in text)


def measured(
    data: Dataset, folds: list[Fold], settings: StudentConfig, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Array] | None:
    """The out-of-sample losses of both arms, as `evidence.text_lift.losses` keys them; NaN outside the test slices.

    Folds whose training slice holds no headline had nothing to learn text from and are not judged: their losses are
    NaN. None if that leaves none, or there are no text features.

    Args:
        data: features and outcomes. folds: the walk-forward. settings: of the skip; the body is left out.
        progress: called with the number of fits that are done, out of two a fold.
    """
    text = text_columns(data.panel)
    judged = [fold for fold in folds if learns_text(data.panel, fold)]
    if not judged:
        return None
    skip_only = replace(settings, body_weights=(0.0,))
    # The second arm counts on from where the first one ended.
    counts = {WITH: progress, WITHOUT: lambda done: progress(len(judged) + done)}
    muted = {WITH: {}, WITHOUT: dict.fromkeys((fold.name for fold in judged), text)}
    arms = {name: _arm(data, judged, skip_only, muted[name], counts[name]) for name in (WITH, WITHOUT)}
    return text_lift.losses(arms, data.z, data.horizons)


def learns_text(panel: Panel, fold: Fold) -> bool:
    """Whether any sentiment feature changes within the training slice: else it holds no headline."""
    text = panel.x[:, : fold.train_end, list(text_columns(panel))]
    seen = text[np.isfinite(panel.vol[:, : fold.train_end])]
    missing = ~np.isfinite(seen)
    highest, lowest = (np.where(missing, bound, seen).T for bound in (-np.inf, np.inf))
    return bool(len(seen) and any(high.max() > low.min() for high, low in zip(highest, lowest, strict=True)))


def card(config: Config, lake: Lake, data: Dataset, losses: dict[str, Array] | None) -> dict[str, Any]:
    """What text adds, as JSON values: a sentence, rows with intervals, a figure for scale and for direction.

    Args:
        config: how to resample. lake: for the headlines' sources. data, losses: as given to and by `measured`.
    """
    simulated = is_simulated(config, lake)
    opening = f"{PLUMBING} " if simulated else ""
    if losses is None:
        why = NOTHING_LEARNED if text_columns(data.panel) else NO_TEXT
        return {"sentence": opening + why if text_columns(data.panel) else why, "rows": [], "simulated": simulated}
    found = text_lift.compare(losses, data.horizons, walkforward.resampling(config))
    known = np.logical_or.reduce([np.isfinite(losses[f"observed|z|{h}"]) for h in data.horizons])  # (N, T)
    sessions = data.panel.sessions[known.any(0)]
    about = {"first": str(sessions[0]), "last": str(sessions[-1]), "coverage": _coverage(data.panel, known)}
    return {"sentence": opening + " ".join(sentences(found)), "simulated": simulated, **about, **found}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """One for the scale and one for the direction."""
    of = {"scale": "of the scale forecast's pinball loss", "direction": "of the direction forecast's Brier score"}
    lines = []
    for part, loss in of.items():
        lift = found[part]
        figure = f"{lift['value']:+.2f} % [{lift['low']:+.2f}, {lift['high']:+.2f}] {loss}"
        lines.append(f"Text saves {figure}, {lift['blocks']:.1f} independent blocks: {lift['verdict']}.")
    return lines


def is_simulated(config: Config, lake: Lake) -> bool:
    """Whether headlines were generated rather than published, so that they can show nothing."""
    return config.data.provider == "sample" or bool((lake.news()["source"] == SIMULATED_SOURCE).any())


def decide(
    data: Dataset, folds: list[Fold], losses: dict[str, Array] | None, resampling: Resampling
) -> dict[str, Decision]:
    """Which folds may use text: those before whose training ended the scale lift's interval was above zero.

    Args:
        data, losses: as given to and by `measured`. folds: the walk-forward, and the live fit.
        resampling: level, blocks and least blocks of the decision.

    A forecast of session t counts for a fold if its outcome, known `data.known_after` steps later, was known before
    the fold's training slice ended. With fewer blocks than `resampling.min_blocks` there is no text.
    """
    return {fold.name: _decision(data, fold, losses, resampling) for fold in folds}


def muted(data: Dataset, decisions: Mapping[str, Decision]) -> dict[str, tuple[int, ...]]:
    """Fold by fold, the features that it may not use."""
    text = text_columns(data.panel)
    return {name: () if decision.used else text for name, decision in decisions.items()}


def record(config: Config, decisions: Mapping[str, Decision]) -> dict[str, Any]:
    """What training.json keeps of the decisions: each fit's, `live` last; none where text need not earn its place."""
    if not decisions:
        return {"require_lift": config.sentiment.require_lift, "folds": [], "sentence": ""}
    using = [name for name, decision in decisions.items() if decision.used]
    sentence = (
        f"Text had to show a lift of the scale forecast first: it is used in {len(using)} of {len(decisions)} fits"
    )
    sentence += f" ({', '.join(using)})." if using else "."
    live = decisions.get("live")
    if live:
        sentence += f" The live model runs {'with' if live.used else 'without'} text: {live.reason}."
    return {"require_lift": True, "folds": [each.figures() for each in decisions.values()], "sentence": sentence}


def _decision(data: Dataset, fold: Fold, losses: dict[str, Array] | None, resampling: Resampling) -> Decision:
    if losses is None or not learns_text(data.panel, fold):
        return Decision(fold.name, False, "its training slice holds no headline to learn from", None, None)
    past = {}
    for name, values in losses.items():
        known = fold.train_end - data.known_after[data.horizons.index(int(name.rpartition("|")[2]))]
        past[name] = np.where(np.arange(values.shape[1]) < known, values, np.nan)
    outcomes = [np.isfinite(past[f"observed|z|{h}"]).any(0) for h in data.horizons]
    if not all(seen.any() for seen in outcomes):
        return Decision(fold.name, False, "no earlier fold's outcomes are known yet", None, None)
    last = str(data.panel.sessions[np.logical_or.reduce(outcomes)][-1])
    lift = text_lift.overall(past, "scale", data.horizons, resampling)
    enough = lift.blocks >= resampling.min_blocks
    figure = f"{lift.value:+.2f} % [{lift.low:+.2f}, {lift.high:+.2f}]"
    reason = f"scale lift {figure}: {lift.verdict}"
    if not enough:
        reason = f"{lift.blocks:.1f} independent blocks are fewer than {resampling.min_blocks}"
    return Decision(fold.name, enough and lift.low > 0, reason, last, lift)


def _arm(
    data: Dataset,
    folds: list[Fold],
    settings: StudentConfig,
    without: Mapping[str, tuple[int, ...]],
    progress: Callable[[int], None],
) -> Arm:
    fitted = walkforward.fit_folds(data, folds, settings, progress, without)
    n, t, h = data.z.shape
    arm = Arm(np.full((n, t, h, 9), np.nan), np.full((n, t, h), np.nan), np.full((n, t, h), np.nan))
    for each in fitted:
        test = slice(each.fold.test_start, each.fold.test_end)
        network = each.student.skip_network
        x = each.scaler.transform(data.panel.x[:, test])
        y = (x @ network.skip_weight + network.skip_bias).reshape(n, -1, h, 4).astype(np.float64)
        y[~np.isfinite(data.panel.vol[:, test])] = np.nan
        arm.log_scale[:, test] = y[..., 1]
        arm.quantiles[:, test] = np.exp(y[..., 1, None]) * each.student.shape
        arm.p_up[:, test] = (1 + np.tanh(y[..., 3] / 2)) / 2
    return arm


def _coverage(panel: Panel, known: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The share of the judged cells with a headline of their own, and of the judged sessions with any."""
    there = np.zeros(known.shape, np.bool_)
    names = {name: i for i, name in enumerate(panel.feature_names)}
    if "news_count" in names:
        there = panel.x[..., names["news_count"]] > 0
    own = there & known
    market = panel.x[..., names["market_count"]] > 0 if "market_count" in names else np.zeros_like(known)
    seen = known.any(0)
    return {
        "cells": round(float(own.sum() / known.sum()), 4),
        "sessions": round(float(((own | (market & known)).any(0) & seen).sum() / seen.sum()), 4),
    }
