"""A small universe in which text foretells what a test wants it to foretell, as training reads it from the lake."""

from __future__ import annotations

import numpy as np

from features.panel import Panel
from features.splits import Fold, walk_forward
from models.forecasters.fit import FitConfig
from models.forecasters.student import StudentConfig
from pipeline.evidence.significance import Resampling
from pipeline.walkforward import Dataset

HORIZONS = (1, 5)
KNOWN_AFTER = (2, 6)
NAMES = ("observed", "log_vol", "ret_1", "news_count", "tone_mean")
TEXT = (3, 4)
SETTINGS = StudentConfig((30.0,), 2500.0, 4, 4, (0.0,), FitConfig(2, 2, 1e-3, 0.1, 7))
RESAMPLING = Resampling(0.95, 0.01, 300, 20, 10, 7)


def universe(scale: float = 0.0, direction: float = 0.0, tickers: int = 4, seed: int = 0) -> Dataset:
    """Four years; `scale` and `direction` are what one unit of tone does to the log-scale and to the mean of z."""
    generator = np.random.default_rng(seed)
    sessions = np.arange("2005-01-03", "2010-01-01", dtype="datetime64[D]")
    sessions = sessions[np.is_busday(sessions)]
    shape = tickers, len(sessions)
    x = generator.normal(0, 1, (*shape, len(NAMES))).astype(np.float32)
    x[..., 0] = 1.0
    noise = generator.normal(0, 1, (*shape, len(HORIZONS)))
    z = np.exp(0.3 * x[..., 1, None] + scale * x[..., 4, None]) * (noise + direction * x[..., 4, None])
    for i, known in enumerate(KNOWN_AFTER):
        z[:, len(sessions) - known :, i] = np.nan
    vol = np.full(shape, 0.01, np.float32)
    panel = Panel(
        np.array([f"T{n}" for n in range(tickers)]), sessions, NAMES, x, vol, 0.01 * noise[..., 0].astype(np.float32)
    )
    return dataset(panel, z)


def dataset(panel: Panel, z: np.ndarray) -> Dataset:
    """With the outcomes that z means."""
    log_return = z * 0.01 * np.sqrt(HORIZONS)
    return Dataset(panel, HORIZONS, log_return, 1e-4 * z**2, z, z**2, KNOWN_AFTER, max(KNOWN_AFTER))


def folds(data: Dataset) -> list[Fold]:
    """2006 to 2009."""
    return walk_forward(data.panel.sessions, 200, 120, data.purge, 5)
