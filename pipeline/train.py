"""train: the walk-forward race of the student against every baseline, its evidence, and the live fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from features import splits
from features.table import FEATURES
from models.compact.network import Network
from models.decode import Forecast
from models.forecasters.baselines import Distribution
from models.forecasters.student import FittedStudent, StudentConfig
from pipeline import trained, universe, walkforward
from pipeline.config import Config
from pipeline.errors import TooLittleHistoryError
from pipeline.evidence import race
from pipeline.evidence.significance import Resampling
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent
from pipeline.walkforward import Dataset, FittedFold

MODELS = ("unconditional", "ewma", "scale_skip", "student")


def run(config: Config, progress: Progress = silent) -> Summary:
    """Race, judge, fit the live model, and leave networks, evidence and forecasts for the later stages.

    Raises:
        TooLittleHistoryError: no test year has enough training sessions before it.
        StoreError: there are no features yet.
    """
    torch.set_num_threads(config.models.threads)
    with threadpool_limits(config.models.threads):
        return _run(config, progress)


def _run(config: Config, progress: Progress) -> Summary:
    lake, registry = Lake.of(config.data), Registry(config.data.artifacts)
    tables = walkforward.table_versions(lake)
    data = walkforward.read(lake, config)
    folds = _folds(data, config)
    run_id = _run_id(config, data)
    settings = walkforward.student_config(config)
    fitted = walkforward.fit_folds(data, folds, settings, lambda n: progress("training walk-forward", n, len(folds)))
    forecasts, ewma = _forecasts(data, folds, fitted)
    progress("weighing the evidence", 0, 2)
    evidence = _evidence(config, data, forecasts)
    progress("weighing the evidence", 1, 2)
    evidence["text_ablation"] = _text_ablation(config, data, folds, settings)
    progress("weighing the evidence", 2, 2)
    live_fold = splits.live_fold(len(data.panel.sessions), config.splits.validation_sessions, data.purge)
    live = walkforward.fit_folds(data, [live_fold], settings)[0]
    training = _training(config, lake, registry, run_id, data, folds, evidence, tables)
    trained.write(registry.run_dir(run_id) / "networks", data, [*fitted, live], ewma, training["status"])
    registry.write_json(run_id, "evidence.json", evidence)
    registry.write_json(run_id, "training.json", training)
    created = pd.Timestamp(training["created_at"])
    for model, forecast in forecasts.items():
        rows = walkforward.forecast_rows(data, folds, run_id, model, forecast, created)
        lake.replace("forecasts", rows, f"run_id = '{run_id}' AND model = '{model}'")
    registry.set_latest_run(run_id)
    return _summary(run_id, evidence, training, fitted)


def _folds(data: Dataset, config: Config) -> list[splits.Fold]:
    first = config.splits.first_test
    try:
        return splits.walk_forward(
            data.panel.sessions,
            config.splits.min_train_sessions,
            config.splits.validation_sessions,
            data.purge,
            config.splits.embargo,
            None if first is None else np.datetime64(first),
        )
    except ValueError as error:
        raise TooLittleHistoryError(f"{error}; ingest more history or lower splits.min_train_sessions") from None


def _run_id(config: Config, data: Dataset) -> str:
    relevant = config.model_dump(mode="json", include={"target", "splits", "models", "compress", "evidence"})
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode() + data.fingerprint().encode())
    return f"{data.panel.sessions[-1]}-{digest.hexdigest()[:8]}"


def _forecasts(
    data: Dataset, folds: list[splits.Fold], fitted: list[FittedFold]
) -> tuple[dict[str, Forecast], Distribution]:
    ewma, distribution = walkforward.forecast_ewma(data, folds)
    forecasts = {
        "unconditional": walkforward.forecast_unconditional(data, folds),
        "ewma": ewma,
        "scale_skip": walkforward.forecast_folds(data, fitted, lambda student: student.skip_network),
        "student": walkforward.forecast_folds(data, fitted, lambda student: student.network),
    }
    return forecasts, distribution


def _resampling(config: Config) -> Resampling:
    e = config.evidence
    return Resampling(e.confidence, e.gate_level, e.resamples, e.block_sessions, e.min_blocks, config.models.seed)


def _evidence(config: Config, data: Dataset, forecasts: dict[str, Forecast]) -> dict[str, Any]:
    losses = race.losses(forecasts, data.log_return, data.rv, data.panel.vol.astype(np.float64), data.horizons)
    found = race.evidence(losses, MODELS, "student", data.horizons, _resampling(config))
    judged = np.isfinite(losses[f"student|pinball|{data.horizons[0]}"])
    sessions = data.panel.sessions[judged.any(0)]
    tickers = [str(ticker) for ticker in data.panel.tickers]
    found |= {"first": str(sessions[0]), "last": str(sessions[-1]), "tickers": tickers}
    one = data.horizons.index(1) if 1 in data.horizons else 0
    at_risk = {model: forecasts[model] for model in ("ewma", "student")}
    found["var"] = race.value_at_risk(at_risk, data.log_return, tickers, one)
    return found


def _text_ablation(config: Config, data: Dataset, folds: list[splits.Fold], settings: StudentConfig) -> dict[str, Any]:
    """The skip with every feature against the skip without the sentiment family, on the same cells."""
    text = set(FEATURES["sentiment"]) & set(data.panel.feature_names)
    if not text:
        return {"sentence": "No text features are in use, so there is nothing to ablate.", "rows": []}
    kept = [i for i, name in enumerate(data.panel.feature_names) if name not in text]
    names = tuple(data.panel.feature_names[i] for i in kept)
    without = replace(data, panel=replace(data.panel, feature_names=names, x=data.panel.x[..., kept]))
    skip_only = replace(settings, body_weights=(0.0,))
    forecasts = {
        "with_text": walkforward.forecast_folds(data, walkforward.fit_folds(data, folds, skip_only), _of_skip),
        "without_text": walkforward.forecast_folds(without, walkforward.fit_folds(without, folds, skip_only), _of_skip),
    }
    losses = race.losses(forecasts, data.log_return, data.rv, data.panel.vol.astype(np.float64), data.horizons)
    rows = race.compare(losses, data.horizons, _resampling(config), "with_text", "without_text")
    better = [r for r in rows if r["verdict"] == "better"]
    sentence = (
        f"Text improves {len(better)} of {len(rows)} measures beyond its interval."
        if better
        else "Text improves no measure beyond its interval."
    )
    if config.data.provider == "sample":
        sentence = "Simulated text: plumbing only. " + sentence
    return {"sentence": sentence, "rows": rows}


def _of_skip(student: FittedStudent) -> Network:
    return student.skip_network


def _training(
    config: Config,
    lake: Lake,
    registry: Registry,
    run_id: str,
    data: Dataset,
    folds: list[splits.Fold],
    evidence: dict[str, Any],
    tables: dict[str, int],
) -> dict[str, Any]:
    held = registry.run_dir(run_id) / "training.json"
    created = json.loads(held.read_text())["created_at"] if held.is_file() else pd.Timestamp.now("UTC").isoformat()
    return {
        "run_id": run_id,
        "seed": config.models.seed,
        "threads": config.models.threads,
        "features": list(data.panel.feature_names),
        "horizons": list(data.horizons),
        "tables": tables,
        "as_of": None if config.data.as_of is None else config.data.as_of.isoformat(),
        **_universe(config, lake, data),
        "decision_lead_minutes": config.universe.decision_lead_minutes,
        "target_interval": config.target.interval,
        "known_after": list(data.known_after),
        "purge": data.purge,
        "embargo": config.splits.embargo,
        "folds": [fold.name for fold in folds],
        "first_session": str(data.panel.sessions[0]),
        "last_session": str(data.panel.sessions[-1]),
        "chosen": "student" if evidence["gate"]["passed"] else "ewma",
        "status": "promoted" if evidence["gate"]["passed"] else "baseline",
        "created_at": created,
        "data_label": config.data.provider,
    }


def _universe(config: Config, lake: Lake, data: Dataset) -> dict[str, Any]:
    """Who is in, who is left out and why, and by whose calendar."""
    used = {str(ticker) for ticker in data.panel.tickers}
    counts = lake.prices().groupby("ticker")["session"].size()
    spells = universe.members(config)
    known = set(counts.index) if spells is None else set(spells["ticker"])
    return {
        "tickers": sorted(used),
        "left_out": [
            {"ticker": str(t), "reason": _left_out(int(n), config, t in known)}
            for t, n in counts.items()
            if t not in used
        ],
        "sessions_per_year": universe.shared_year(config.universe, sorted(used), pd.DatetimeIndex(data.panel.sessions)),
        "universe": universe.facts(spells, config, [str(t) for t in counts.index]),
        "calendar": config.universe.calendar,
        "calendars": universe.groups(config.universe, sorted(used)),
    }


def _left_out(sessions: int, config: Config, is_known: bool) -> str:
    if not is_known:
        return "in no spell of universe.members"
    if sessions < config.universe.min_sessions:
        return f"{sessions} sessions, fewer than universe.min_sessions"
    return "no price while a member"


def _summary(run_id: str, evidence: dict[str, Any], training: dict[str, Any], fitted: list[FittedFold]) -> Summary:
    gate = evidence["gate"]
    lines = [
        f"run {run_id}: {len(fitted)} test years, {evidence['first']} to {evidence['last']}, "
        f"{evidence['n_sessions']:,} sessions = {evidence['n_effective_blocks']:.0f} independent blocks",
        gate["sentence"],
    ]
    lines += [
        f"  {g['measure']:<8} h={g['horizon']:<3} {g['gain_percent']:+6.2f} %  [{g['low']:+.2f}, {g['high']:+.2f}]  "
        f"{g['verdict']}"
        for g in evidence["gains"]
        if g["model"] == "student" and g["against"] == "ewma" and g["measure"] in ("pinball", "qlike")
    ]
    lines.append(evidence["direction"]["sentence"])
    lines.append(evidence["text_ablation"]["sentence"])
    lines.append(universe.sentence(training["universe"]))
    kept = {key: training[key] for key in ("status", "folds", "universe")}
    figures = {"run_id": run_id, "gate": gate, **kept}
    return Summary("train", tuple(lines), figures)
