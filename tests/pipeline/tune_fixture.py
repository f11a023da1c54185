"""A small world to search in: two tickers, four features, a configuration that fits in moments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from pipeline import featurize
from pipeline.config import Config, load
from pipeline.store import Lake

SESSIONS = 860
SETTINGS = """
[data]
provider = "files"
[universe]
min_sessions = 300
[features]
chosen = ["log_vol", "vol_20", "ret_1", "ret_5"]
[splits]
min_train_sessions = 500
validation_sessions = 120
[models]
processes = 1
[models.student]
epochs = 1
width = 8
[models.lstm]
epochs = 1
width = 16
warm_up = 21
[models.convolution]
epochs = 1
dilations = [1, 2, 4]
"""


def placed(root: Path) -> Config:
    """The configuration in a directory of its own."""
    (root / "tradewind.toml").write_text(SETTINGS)
    return load(root / "tradewind.toml")


def filled(root: Path, prices: pd.DataFrame) -> Config:
    config = placed(root)
    Lake.of(config.data).upsert_prices(prices)
    featurize.run(config)
    return config


def trials_of(config: Config, name: str) -> list[optuna.trial.FrozenTrial]:
    path = config.data.artifacts / "tune" / name
    return optuna.load_study(study_name=name, storage=f"sqlite:///{path}.db").trials


def comparable(config: Config, name: str) -> list[tuple[Any, ...]]:
    """What a trial is, without clocks and without those that were killed."""
    states = optuna.trial.TrialState
    return [
        (t.params, t.state, t.value, t.intermediate_values, t.user_attrs)
        for t in trials_of(config, name)
        if t.state != states.FAIL or t.user_attrs.get("reason")
    ]
