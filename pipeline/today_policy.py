"""Today's target weights by the policy in the bundle, given the weights held."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.compact.bundle import Bundle
from models.compact.policy_runtime import PolicyScorer
from models.decode import Forecast
from pipeline.config import Config
from pipeline.errors import DataError, StoreError
from pipeline.store import Lake

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


def targets(
    config: Config,
    lake: Lake,
    bundle: Bundle,
    cells: tuple[list[str], npt.NDArray[np.datetime64]],
    forecast: Forecast,
    years: Floats,
    held: Floats,
) -> Floats:
    """(N,) target weights; the weight held where the policy leaves the position alone.

    Args:
        config: the cost of a trade.
        lake: its features, for those that the policy observes.
        bundle: the champion.
        cells: N tickers, and (N,) the session of each that is decided for.
        forecast: (N, H) of those cells. years: (N,) sessions of each ticker's year.
        held: (N,) weights after the trades of that session's open; 0 where nothing is held.

    Raises:
        StoreError: the bundle has no policy.
        DataError: the lake's features lack one that the policy observes.
        BundleError: the policy is damaged, or does not reproduce its golden targets here.
    """
    if not bundle.has_policy:
        raise StoreError(
            f"agent.use is on, but bundle {bundle.version} has no policy; run: tradewind agent train, tradewind agent "
            "evaluate, tradewind agent ship; or go by the volatility target: --set agent.use=false"
        )
    scorer = PolicyScorer(bundle)
    scorer.self_check()
    observed = scorer.observe(forecast, _features(lake, scorer.features, cells, bundle), years)
    wanted = scorer.targets(scorer.with_own(observed, held, config.agent.cost_bps))
    return np.where(np.isnan(wanted), held, wanted)


def sentence(config: Config, bundle: Bundle) -> str:
    """Whose weights these are."""
    section = bundle.manifest["policy"]
    by, levels = section["trained"], section["cost_bps"]
    who = f"{by['algorithm']}, {len(by['seeds'])} seeds as one, trained to {by['last']}"
    said = f"weights by the policy in the bundle: {who}, beats {len(by['beaten'])} of {by['rules']} rules out of sample"
    if config.agent.cost_bps in levels:
        return said
    paid = ", ".join(f"{level:g}" for level in levels)
    return f"{said}; warning: at {paid} bps a side, agent.cost_bps is {config.agent.cost_bps:g}"


def _features(
    lake: Lake, names: tuple[str, ...], cells: tuple[list[str], npt.NDArray[np.datetime64]], bundle: Bundle
) -> Float32:
    """(N, F) raw, NaN = missing."""
    tickers, sessions = cells
    if not names or not tickers:
        return np.empty((len(tickers), len(names)), np.float32)
    rows = lake.read("features", f"session >= TIMESTAMP '{sessions.min()}'")
    for name in names:
        if name not in rows.columns:
            raise DataError(
                f"the feature table has no column {name}, which the policy of bundle {bundle.version} observes; run: "
                "tradewind features"
            )
    wanted = pd.MultiIndex.from_arrays([tickers, pd.DatetimeIndex(sessions).astype(rows["session"].dtype)])
    found = rows.set_index(["ticker", "session"])[list(names)].reindex(wanted)
    return found.to_numpy(np.float32)
