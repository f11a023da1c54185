"""train: the walk-forward race of the student against every baseline, its evidence, and the live fit."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from features import splits
from models.decode import Forecast
from pipeline import contenders, exclusions, importance, lift, racing, trained, universe, walkforward, widths
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.evidence import ledger, portfolio_risk, race
from pipeline.evidence.ledger import Trial
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent
from pipeline.walkforward import Dataset, FittedFold

CANDIDATE = "student"
"""What is at the gate, and ships where it passes: the one model that becomes an int8 bundle."""
STILL = "no session with a volatility: too few bars, or a price that never moves"
_RELEVANT: dict[str, Any] = {
    **dict.fromkeys(("target", "splits", "models", "compress", "evidence"), True),
    "sentiment": {"require_lift"},
}
"""The keys that change what is trained on the same features."""


def run(config: Config, progress: Progress = silent, kind: str = "cli") -> Summary:
    """Race, judge, fit the live model, and leave networks, evidence and forecasts for the later stages.

    Args:
        config: the configuration.
        progress: called as work goes on.
        kind: who started it, for the trial ledger: cli, flow or tune.

    Raises:
        TooLittleHistoryError: no test year has enough training sessions before it, or no outcome of a horizon is known.
        DataError: prices never move, a model cannot be fitted or its loss is not finite; or no cell is forecast by all.
        StoreError: there are no features yet.
    """
    torch.set_num_threads(config.models.threads)
    with threadpool_limits(config.models.threads):
        return _run(config, progress, kind)


def _run(config: Config, progress: Progress, kind: str) -> Summary:
    lake, registry = Lake.of(config.data), Registry(config.data.artifacts)
    tables = walkforward.table_versions(lake)
    data = walkforward.read(lake, config)
    folds = walkforward.folds(data, config)
    exclusions.check_outcomes(data, folds)
    run_id = _run_id(config, data)
    settings = walkforward.student_config(config)
    live_fold = walkforward.live_fold(data, config)
    text = lift.measured(data, folds, settings, lambda n: progress("with and without text", n, 2 * len(folds)))
    decisions = _decisions(config, data, [*folds, live_fold], text)
    muted = lift.muted(data, decisions)
    work, fits = registry.run_dir(run_id) / "work", racing.fits(config, folds, live_fold)
    raced = racing.race(data, folds, config, live_fold, muted, work, lambda n: progress("racing", n, fits))
    fitted = raced.students[: len(folds)]
    progress("weighing the evidence", 0, 1)
    resampling, method = walkforward.resampling(config), config.models.widths
    bands, held = widths.calibrated(raced.forecasts[CANDIDATE], data, folds, method, resampling)
    raced.forecasts[CANDIDATE] = bands.forecast
    evidence = _evidence(config, data, raced.forecasts, fitted)
    evidence |= {"text_ablation": lift.card(config, lake, data, text), "widths": held}
    progress("weighing the evidence", 1, 1)
    training = _training(config, lake, registry, run_id, data, folds, evidence, tables)
    training["text"] = lift.record(config, decisions)
    training["exclusions"] = exclusions.record(data, folds, raced.choices)
    ledger.append(lake, [_trial(config, data, evidence, training, kind)])
    # A backtest and an agent are trials of a strategy, not of a forecaster.
    of_strategies = sum(ledger.count(lake, measure).trials for measure in (ledger.SHARPE, ledger.AGENT))
    training["trials"] = ledger.count(lake).trials - of_strategies
    trained.write(registry.run_dir(run_id) / "networks", data, raced.students, raced.ewma, training["status"], bands)
    registry.write_json(run_id, "choices.json", raced.choices)
    registry.write_json(run_id, "evidence.json", evidence)
    registry.write_json(run_id, "training.json", training)
    created = pd.Timestamp(training["created_at"])
    for model, forecast in raced.forecasts.items():
        rows = walkforward.forecast_rows(data, folds, run_id, model, forecast, created)
        lake.replace("forecasts", rows, f"run_id = '{run_id}' AND model = '{model}'")
    registry.set_latest_run(run_id)
    shutil.rmtree(work)
    return _summary(run_id, evidence, training, fitted)


def _trial(config: Config, data: Dataset, evidence: dict[str, Any], training: dict[str, Any], kind: str) -> Trial:
    """This look at the test years, for the ledger; the same run again is the same look."""
    gains = {
        int(row["horizon"]): float(row["gain_percent"])
        for row in evidence["gains"]
        if (row["model"], row["against"], row["measure"]) == (CANDIDATE, "ewma", "pinball")
    }
    return Trial(
        run_id=training["run_id"],
        kind=kind,
        settings=_settings(config),
        data=data.fingerprint(),
        data_versions=training["tables"],
        seed=config.models.seed,
        measure="pinball_gain_percent",
        by_horizon=gains,
        verdict=evidence["gate"]["sentence"],
        started_at=pd.Timestamp(training["created_at"]),
    )


def _settings(config: Config) -> dict[str, Any]:
    """What changes the outcome; how many fits run at one time does not."""
    found: dict[str, Any] = config.model_dump(mode="json", include=_RELEVANT, exclude={"models": {"processes"}})
    return found


def _run_id(config: Config, data: Dataset) -> str:
    parts = (json.dumps(_settings(config), sort_keys=True), data.fingerprint(), contenders.own_digest(config))
    digest = hashlib.sha256("".join(parts).encode())
    return f"{data.panel.sessions[-1]}-{digest.hexdigest()[:8]}"


def _decisions(
    config: Config, data: Dataset, folds: list[splits.Fold], text: dict[str, npt.NDArray[np.float64]] | None
) -> dict[str, lift.Decision]:
    """Whether each fit may use text; none where text need not earn its place, or there is none."""
    if not config.sentiment.require_lift or not lift.text_columns(data.panel):
        return {}
    return lift.decide(data, folds, text, walkforward.resampling(config))


def _evidence(
    config: Config, data: Dataset, forecasts: dict[str, Forecast], fitted: list[FittedFold]
) -> dict[str, Any]:
    tickers = [str(ticker) for ticker in data.panel.tickers]
    vol = data.panel.vol.astype(np.float64)
    resampling = walkforward.resampling(config)
    try:
        found = race.judge(forecasts, data.log_return, data.rv, vol, tickers, data.horizons, CANDIDATE, resampling)
    except ValueError as error:
        raise DataError(f"the race cannot be judged: {error}") from error
    tested = [importance.of_student(data, each) for each in fitted]
    found["importance"] = {
        "model": CANDIDATE,
        "against": "ewma",
        **importance.importance(data, tested, forecasts["ewma"], resampling),
    }
    if 1 in data.horizons:
        sigmas = {model: forecasts[model].sigma for model in (CANDIDATE, "ewma")}
        next_session = data.log_return[..., data.horizons.index(1)]
        found["portfolio"] = portfolio_risk.judge(sigmas, next_session, data.returns, vol, data.horizons, resampling)
    judged = np.isfinite(forecasts[CANDIDATE].sigma[..., 0]) & np.isfinite(data.log_return[..., 0])
    sessions = data.panel.sessions[judged.any(0)]
    return found | {"first": str(sessions[0]), "last": str(sessions[-1]), "tickers": tickers}


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
        "chosen": CANDIDATE if evidence["gate"]["passed"] else "ewma",
        "status": "promoted" if evidence["gate"]["passed"] else "baseline",
        "created_at": created,
        "data_label": config.data.provider,
    }


def _universe(config: Config, lake: Lake, data: Dataset) -> dict[str, Any]:
    """Who is in, who is left out and why, and by whose calendar."""
    still = exclusions.never_moving(data)
    used = {str(ticker) for ticker in data.panel.tickers} - set(still)
    counts = lake.prices().groupby("ticker")["session"].size()
    spells = universe.members(config)
    known = set(counts.index) if spells is None else set(spells["ticker"])
    return {
        "tickers": sorted(used),
        "left_out": [
            {"ticker": str(t), "reason": STILL if t in still else _left_out(int(n), config, t in known)}
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
        if g["model"] == CANDIDATE and g["against"] == "ewma" and g["measure"] in ("pinball", "qlike")
    ]
    lines.append(evidence["direction"]["sentence"])
    lines += [line for line in (evidence["text_ablation"]["sentence"], training["text"]["sentence"]) if line]
    lines.append(f"trial {training['trials']:,} of the ledger: so many configurations were judged on these tables")
    lines += training["exclusions"]["sentences"]
    lines.append(universe.sentence(training["universe"]))
    kept = {key: training[key] for key in ("status", "folds", "universe", "text")}
    figures = {"run_id": run_id, "gate": gate, **kept}
    return Summary("train", tuple(lines), figures)
