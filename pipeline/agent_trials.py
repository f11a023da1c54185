"""Trading agents in the trial ledger: one trial an algorithm and seed, so that deflated Sharpe ratios count them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.agent_fits import settings_of
from pipeline.config import Config
from pipeline.evidence import ledger
from pipeline.evidence.ledger import Trial
from pipeline.store import Lake


def trial(
    config: Config,
    lake: Lake,
    run_id: str,
    data: str,
    algorithm: str,
    seed: int,
    kind: str,
    figures: Mapping[str, float] | None = None,
) -> Trial:
    """One agent over all its blocks.

    Args:
        config: the settings. lake: for the versions of its tables. run_id: whose forecasts it sees.
        data: digest of what it learned from. algorithm, seed: its own. kind: who started it.
        figures: what it did out of sample, once it is evaluated.
    """
    return Trial(
        run_id=run_id,
        kind=kind,
        settings={"run_id": run_id, "algorithm": algorithm, **settings_of(config)},
        data=data,
        data_versions=lake.versions(("prices", "features", "forecasts")),
        seed=seed,
        measure=ledger.AGENT,
        by_horizon={},
        verdict="trained" if figures is None else "evaluated",
        started_at=pd.Timestamp.now("UTC"),
        figures=figures or {},
    )


def record(lake: Lake, trials: Sequence[Trial]) -> int:
    """Append what says something new: a trial that is not there, or is there without its figures.

    Returns:
        How many rows were added.

    Raises:
        StoreError: the lake cannot be written.
    """
    rows = ledger.read(lake)
    known: dict[str, set[str]] = {}
    for trial_id, figures in zip(rows["trial_id"], rows["figures"], strict=True):
        known.setdefault(str(trial_id), set()).update(json.loads(figures))
    new = [each for each in trials if each.trial_id not in known or not set(each.figures) <= known[each.trial_id]]
    return ledger.append(lake, new)
