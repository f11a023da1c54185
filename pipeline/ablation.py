"""ablation: what text adds to the forecast, measured out of sample with and without it.

Behind `tradewind sentiment ablation`. Needs features in the lake, trains nothing that ships, takes seconds: only the
linear skip under every network is fitted, twice a fold. `tradewind train` measures the same for its own run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from pipeline import lift, walkforward
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.evidence.text_lift import RANK, WITH, WITHOUT
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

FILE = "ablation.json"
LABELS = {
    "pinball": "pinball loss, z",
    "log_error": "R2 of log|z|",
    "brier": "Brier score",
    "log_loss": "log-loss",
    RANK: "rank correlation",
}


def run(config: Config, progress: Progress = silent) -> Summary:
    """Measure, print one line a measure and horizon, and keep it all as `sentiment/ablation.json` of the artifacts.

    Raises:
        TooLittleHistoryError: no test year has enough training sessions before it.
        StoreError: there are no features yet.
        UsageError: the file cannot be written.
    """
    torch.set_num_threads(config.models.threads)
    with threadpool_limits(config.models.threads):
        found = measure(config, progress)
    target = config.data.artifacts / "sentiment" / FILE
    _write(found, target)
    return Summary("sentiment ablation", (*table(found), f"written to {target}"), found | {"file": str(target)})


def measure(config: Config, progress: Progress = silent) -> dict[str, Any]:
    """What text adds, as JSON values: `pipeline.lift.card`, the folds, and what each fit would decide by itself.

    `decisions` holds for every fold, and for a live fit on everything, whether `sentiment.require_lift` lets it use
    text, whether or not that is switched on.

    Raises:
        TooLittleHistoryError: no test year has enough training sessions before it.
        StoreError: there are no features yet.
    """
    lake = Lake.of(config.data)
    data = walkforward.read(lake, config)
    folds = walkforward.folds(data, config)
    settings = walkforward.student_config(config)
    losses = lift.measured(data, folds, settings, lambda n: progress("with and without text", n, 2 * len(folds)))
    live = walkforward.live_fold(data, config)
    decisions = lift.decide(data, [*folds, live], losses, walkforward.resampling(config))
    return {
        **lift.card(config, lake, data, losses),
        "decisions": [each.figures() for each in decisions.values()],
        "folds": [fold.name for fold in folds],
        "horizons": list(data.horizons),
        "tickers": len(data.panel.tickers),
        "features": [data.panel.feature_names[i] for i in lift.text_columns(data.panel)],
        "confidence": config.evidence.confidence,
        "block_sessions": config.evidence.block_sessions,
    }


def table(found: dict[str, Any]) -> list[str]:
    """What a person reads of `measure`."""
    if not found["rows"]:
        return [found["sentence"]]
    coverage, level = found["coverage"], f"{found['confidence']:.0%}"
    lines = [
        f"out of sample {found['first']} to {found['last']}: {found['tickers']} tickers, {found['n_sessions']:,} "
        f"sessions = {found['n_effective_blocks']:.1f} independent blocks",
        f"headlines in {coverage['cells']:.0%} of the ticker-sessions, in {coverage['sessions']:.0%} of the sessions",
        "",
        f"{'forecast of':<13}{'measure':<18}{'h':>3}{'without':>11}{'with':>11}{'text saves':>13}  "
        f"{level + ' interval':<20}{'blocks':>6}  verdict",
    ]
    lines += [_line(row) for row in found["rows"]]
    lines += ["", found["sentence"], "", "what sentiment.require_lift would decide:"]
    for each in found["decisions"]:
        lines.append(f"  {each['fold']:<6}{'text' if each['used'] else 'no text':<9}{each['reason']}")
    return lines


def _line(row: dict[str, Any]) -> str:
    rank = row["measure"] == RANK
    digits, unit = (4, "  ") if rank else (3, " %")
    gain = f"{row['gain_percent']:+.{digits}f}{unit}"
    span = f"[{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]"
    return (
        f"{row['part']:<13}{LABELS[row['measure']]:<18}{row['horizon']:>3}{row[WITHOUT]:>11.5f}{row[WITH]:>11.5f}"
        f"{gain:>13}  {span:<20}{row['blocks']:>6.1f}  {row['verdict']}"
    )


def _write(found: dict[str, Any], target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None
