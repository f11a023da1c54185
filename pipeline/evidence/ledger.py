"""The trial ledger: every configuration that was ever judged on data it was not fitted on, whoever started it.

A choice among many is partly luck, and how much depends on how many: deflated Sharpe ratio and PBO read the number
from here. Rows are only ever added. A *trial* is a configuration on data with code; doing the same again adds a row
(somebody looked again) but no trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

import features
import models
import pipeline
from features import frames
from pipeline.store import Lake, empty

TABLE = "trials"
KINDS = ("flow", "tune", "cli")
SHARPE = "sharpe"
"""Key of `figures` that holds a trial's Sharpe ratio a session, where it has one; the measure of a backtest's trial."""
AGENT = "agent_objective"
"""The measure of a trading agent's trial, one an algorithm and seed."""


@cache
def code_digest() -> str:
    """Digest of every source file that could change a result: features, models and pipeline."""
    digest = hashlib.sha256()
    for package in (features, models, pipeline):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
            digest.update(f"{root.name}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


@dataclass(frozen=True)
class Trial:
    """One look at the test slices; of a search (`tune`), at inner slices before the first of them.

    Attributes:
        run_id: where its artefacts lie.
        kind: who started it: `flow`, `tune` (a search) or `cli`.
        settings: everything that shapes the result and is not data or code: JSON values.
        data: fingerprint of the features and outcomes (`walkforward.Dataset.fingerprint`).
        data_versions: table -> Delta version, for the record.
        seed: of every random choice.
        measure: the primary measure, like `pinball_gain_percent`.
        by_horizon: its value by horizon; empty where it failed before there was one.
        verdict: in plain words.
        started_at: UTC; the same trial appended twice with the same start is one row.
        figures: others worth keeping, like the Sharpe ratio a session under SHARPE.
        code: digest of the program's source, by default that of the running one.
    """

    run_id: str
    kind: str
    settings: Mapping[str, Any]
    data: str
    data_versions: Mapping[str, int]
    seed: int
    measure: str
    by_horizon: Mapping[int, float]
    verdict: str
    started_at: pd.Timestamp
    figures: Mapping[str, float] = field(default_factory=dict)
    code: str = field(default_factory=code_digest)

    @property
    def settings_digest(self) -> str:
        """Identity of the configuration."""
        return _digest(_json(self.settings))

    @property
    def trial_id(self) -> str:
        """Identity of what was tried: configuration, seed, data, code, measure."""
        return _digest(self.settings_digest, str(self.seed), self.data, self.code, self.measure)

    @property
    def entry_id(self) -> str:
        """Identity of this look at it."""
        return _digest(self.trial_id, self.run_id, self.started_at.isoformat())


class Count(NamedTuple):
    """How many different trials the ledger holds, and how often one of them was done again."""

    trials: int
    repeats: int


def append(lake: Lake, trials: Sequence[Trial]) -> int:
    """Add trials; an entry that is there already is not doubled, so a retried run may append again.

    Safe with several writers: an append that meets another one is done again on what that one left.

    Returns:
        How many rows were added.

    Raises:
        ValueError: an unknown kind, a start without time zone, or a figure that is not finite.
        StoreError: the lake cannot be written.
    """
    rows = [_row(trial) for trial in trials]
    if not rows:
        return 0
    frame = pd.DataFrame(rows, columns=list(frames.COLUMNS[TABLE])).drop_duplicates("entry_id", ignore_index=True)
    return lake.append_new(TABLE, frame.astype(frames.COLUMNS[TABLE]), "entry_id").inserted


def read(lake: Lake) -> pd.DataFrame:
    """Every row of the ledger in the order of `started_at`; an empty frame if nothing was tried yet."""
    return lake.read(TABLE, order_by="started_at, entry_id") if lake.exists(TABLE) else empty(TABLE)


def count(lake: Lake, measure: str | None = None) -> Count:
    """How many different trials there are, of one measure or of all.

    Raises:
        StoreError: the ledger cannot be read.
    """
    ids = _of(read(lake), measure)["trial_id"]
    return Count(ids.nunique(), len(ids) - ids.nunique())


def sharpes(lake: Lake) -> npt.NDArray[np.float64]:
    """The Sharpe ratio a session of each trial that recorded one, as it was found last."""
    rows = read(lake).drop_duplicates("trial_id", keep="last")
    found = [json.loads(figures).get(SHARPE) for figures in rows["figures"]]
    return np.array([value for value in found if value is not None], dtype=np.float64)


def _row(trial: Trial) -> dict[str, Any]:
    if trial.kind not in KINDS:
        raise ValueError(f"trial kind {trial.kind!r} is not one of {', '.join(KINDS)}")
    if trial.started_at.tzinfo is None:
        raise ValueError(f"started_at {trial.started_at} has no time zone; use pd.Timestamp.now('UTC')")
    values = [*trial.by_horizon.values(), *trial.figures.values()]
    if not np.isfinite(values).all():
        raise ValueError(f"trial of run {trial.run_id} has a figure that is not finite: {values}")
    return {
        "entry_id": trial.entry_id,
        "trial_id": trial.trial_id,
        "run_id": trial.run_id,
        "kind": trial.kind,
        "settings_digest": trial.settings_digest,
        "settings": _json(trial.settings),
        "data": trial.data,
        "data_versions": _json(trial.data_versions),
        "code": trial.code,
        "seed": trial.seed,
        "measure": trial.measure,
        "by_horizon": _json({str(h): float(value) for h, value in trial.by_horizon.items()}),
        "figures": _json({name: float(value) for name, value in trial.figures.items()}),
        "verdict": trial.verdict,
        "started_at": trial.started_at.tz_convert("UTC"),
        "recorded_at": pd.Timestamp.now("UTC"),
    }


def _of(rows: pd.DataFrame, measure: str | None) -> pd.DataFrame:
    return rows if measure is None else rows[rows["measure"] == measure]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]
