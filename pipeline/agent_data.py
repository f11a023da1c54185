"""What trading agents see and trade: out-of-sample forecasts of a run and prices, cut into blocks of a walk-forward.

An agent of a test block learns from the sessions before it, and of those only from forecasts of models that had not
seen them: every forecast here was made by a fold fitted on earlier sessions. Each ticker is one market of one asset.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.frames import QUANTILE_COLUMNS
from features.prices import Wide
from models.decode import Forecast
from models.trading.env import Markets, Rules
from models.trading.market import Costs, Limits
from models.trading.observation import Scaling, complete, names, observe
from models.trading.rules import momentum
from pipeline import universe
from pipeline.config import Config
from pipeline.errors import StoreError, TooLittleHistoryError, UsageError
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.traded import Setting, setting_of, standing

Floats = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

LIVE = "live"
RACE_YEARS_BEFORE = 2
"""Test years of the race that the first agents learn from, unless `agent.first_test` says otherwise."""


class Block(NamedTuple):
    """Positions on the axis of sessions: training is [0, train_end), the test [test_start, test_end)."""

    name: str
    train_end: int
    test_start: int
    test_end: int


@dataclass(frozen=True)
class Task:
    """Everything that agents learn from and are judged by, on the axes of T sessions and N tickers.

    Attributes:
        run_id: whose forecasts they are.
        setting: opens, sessions, what is listed, the weights of the volatility target.
        columns: (K,) names of what is observed.
        observed: (T, N, K) float32, raw, known at the close; NaN where there is no forecast or no feature.
        momentum: (T, N) weights by `rules.momentum`.
        blocks: test blocks in order, then `live`, which has no test.
        rules: of the episodes.
    """

    run_id: str
    setting: Setting
    columns: tuple[str, ...]
    observed: Float32
    momentum: Floats
    blocks: tuple[Block, ...]
    rules: Rules

    @property
    def tested(self) -> tuple[Block, ...]:
        """The blocks that have a test."""
        return tuple(block for block in self.blocks if block.name != LIVE)

    @property
    def ready(self) -> Bools:
        """(T, N) where there is a forecast to decide by."""
        return complete(self.observed, self.horizons) & self.setting.own & self.setting.listed

    @property
    def horizons(self) -> tuple[int, ...]:
        """Of the forecasts."""
        return tuple(int(name.removeprefix("log_vol_h")) for name in self.columns if name.startswith("log_vol_h"))

    def scaling(self, block: Block) -> Scaling:
        """Centre and scale of what is observed, from the block's training slice alone."""
        seen = self.observed[: block.train_end][self.ready[: block.train_end]]
        return Scaling.fit(seen, self.columns)

    def markets(self, block: Block) -> Markets:
        """The block's training slice, each ticker one market on its own sessions; nothing later is in it.

        Raises:
            TooLittleHistoryError: no ticker has a whole episode.
        """
        end, setting = block.train_end, self.setting
        opens, ready = setting.opens[:end], self.ready[:end]
        seen = self.scaling(block).transform(self.observed[:end])
        used = [n for n in range(opens.shape[1]) if ready[:, n].any()]
        own = [np.flatnonzero(setting.own[:end, n]) for n in used]
        S, L, K = len(used), max((len(at) for at in own), default=0) + 2, seen.shape[2]
        packed = np.full((S, L, 1), np.nan)
        watched, playable = np.zeros((S, L, 1, K), np.float32), np.zeros((S, L), bool)
        for s, (n, at) in enumerate(zip(used, own, strict=True)):
            packed[s, : len(at), 0], watched[s, : len(at), 0] = opens[at, n], seen[at, n]
            priced = np.isfinite(packed[s, :, 0])
            playable[s, : len(at)] = ready[at, n]
            playable[s, :-2] &= priced[1:-1] & priced[2:]
            playable[s, -2:] = False
        markets = Markets(packed, watched, playable)
        try:
            markets.starts(self.rules.length)
        except ValueError as error:
            raise TooLittleHistoryError(
                f"agents of block {block.name} learn from {end} sessions, and {error}; "
                "lower agent.episode_sessions or set a later agent.first_test"
            ) from error
        return markets


def task_of(config: Config, lake: Lake, registry: Registry) -> Task:
    """The latest run as a task for agents.

    Raises:
        StoreError: nothing has been trained, or the forecasts or features are not in the lake.
        DataError: no forecast meets a price.
        UsageError: `agent.features` names one that is not in the table.
        TooLittleHistoryError: no test block is left after the sessions that agents need to learn from.
    """
    run_id = registry.latest_run()
    setting = setting_of(config, lake, run_id, registry.read_json(run_id, "training.json"))
    forecast, horizons = _forecast(lake, run_id, setting)
    features = _features(config, lake, setting)
    rule = config.backtest
    seen = observe(
        forecast, setting.weights[0], features, horizons, rule.horizon, rule.target_volatility, setting.years
    )
    # On dates that are no session of the ticker there is nothing new to see.
    seen[~setting.own] = np.nan
    return Task(
        run_id,
        setting,
        tuple(names(horizons, config.agent.features)),
        seen,
        _momentum(config, lake, setting),
        tuple(blocks(config, setting.sessions)),
        rules(config),
    )


def rules(config: Config) -> Rules:
    """What an agent may do and what it is paid for, by the configuration."""
    agent = config.agent
    limits = Limits(0.0, config.backtest.max_weight)
    return Rules(Costs(agent.cost_bps, 0.0), limits, agent.risk_aversion, agent.episode_sessions, agent.levels)


def blocks(config: Config, sessions: pd.DatetimeIndex) -> list[Block]:
    """Test blocks of so many calendar years from the first test on, each after a purge and an embargo; then `live`.

    Raises:
        TooLittleHistoryError: nothing is left to test on, or to learn from.
    """
    agent, gap = config.agent, config.purge + config.splits.embargo
    years = sessions.year.to_numpy()
    first = years[0] + RACE_YEARS_BEFORE if agent.first_test is None else agent.first_test.year
    wanted = sessions >= pd.Timestamp(f"{first}-01-01" if agent.first_test is None else agent.first_test)
    at = np.flatnonzero(wanted)
    if not len(at) or at[0] <= gap:
        raise TooLittleHistoryError(
            f"forecasts from {sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d} leave agents nothing to learn from, or "
            f"to be tested on, after a gap of {gap} sessions; agents need {RACE_YEARS_BEFORE} test years of the race "
            "before theirs: set agent.first_test, or lower splits.min_train_sessions"
        )
    found = []
    for since in range(first, int(years[-1]) + 1, agent.refit_years):
        inside = np.flatnonzero(wanted & (years >= since) & (years < since + agent.refit_years))
        if len(inside):
            until = int(years[inside[-1]])
            name = f"{since}" if until == since else f"{since}-{until}"
            found.append(Block(name, int(inside[0]) - gap, int(inside[0]), int(inside[-1]) + 1))
    T = len(sessions)
    return [*found, Block(LIVE, T, T, T)]


def fingerprint(markets: Markets) -> str:
    """Of everything that a training slice holds."""
    digest = hashlib.sha256()
    for part in (markets.opens, markets.observed, markets.playable):
        digest.update(str(part.shape).encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:24]


def _forecast(lake: Lake, run_id: str, setting: Setting) -> tuple[Forecast, tuple[int, ...]]:
    """The out-of-sample forecasts of the model that ships on (T, N, H), NaN where there is none; its horizons."""
    rows = lake.read("forecasts", f"run_id = '{run_id}' AND fold <> 'live' AND model = '{setting.model}'")
    horizons = tuple(sorted(int(h) for h in rows["horizon"].unique()))
    shape = (*setting.opens.shape, len(horizons))
    t = setting.sessions.get_indexer(pd.DatetimeIndex(rows["session"]))
    n = pd.Index(setting.tickers).get_indexer(pd.Index(rows["ticker"]))
    there = (t >= 0) & (n >= 0)
    rows = rows[there]
    at = (t[there], n[there], np.searchsorted(horizons, rows["horizon"].to_numpy()))
    sigma, p_up = np.full(shape, np.nan), np.full(shape, np.nan)
    quantiles = np.full((*shape, len(QUANTILE_COLUMNS)), np.nan)
    sigma[at], p_up[at] = rows["sigma"].to_numpy(float), rows["p_up"].to_numpy(float)
    quantiles[at] = rows[list(QUANTILE_COLUMNS)].to_numpy(float)
    return Forecast(sigma=sigma, quantiles=quantiles, p_up=p_up), horizons


def _features(config: Config, lake: Lake, setting: Setting) -> Float32:
    """(T, N, F) raw features, NaN = missing."""
    wanted = config.agent.features
    found = np.full((*setting.opens.shape, len(wanted)), np.nan, np.float32)
    if not wanted:
        return found
    if not lake.exists("features"):
        raise StoreError("the lake has no table features; run: tradewind features")
    rows = lake.read("features", f"session >= TIMESTAMP '{setting.sessions[0]:%Y-%m-%d}'")
    for name in wanted:
        if name not in rows.columns:
            near = difflib.get_close_matches(name, [str(c) for c in rows.columns], 1)
            hint = f"did you mean {near[0]}?" if near else "see FEATURES.md"
            raise UsageError(f"agent.features names {name!r}, which is not in the features table; {hint}")
    t = setting.sessions.get_indexer(pd.DatetimeIndex(rows["session"]))
    n = pd.Index(setting.tickers).get_indexer(pd.Index(rows["ticker"]))
    there = (t >= 0) & (n >= 0)
    found[t[there], n[there]] = rows.loc[there, list(wanted)].to_numpy(np.float32)
    return found


def _momentum(config: Config, lake: Lake, setting: Setting) -> Floats:
    """(T, N) weights by the sign of each ticker's trailing return, prices before the first forecast among them."""
    limits = rules(config).limits
    prices = lake.prices()
    prices = prices[prices["ticker"].isin(setting.tickers) & (prices["session"] <= setting.sessions[-1])]
    found: list[pd.DataFrame] = []
    for name, tickers in universe.groups(config.universe, setting.tickers).items():
        rows = prices[prices["ticker"].isin(tickers)]
        sessions, _ = universe.axis(name, rows["session"])
        closes = Wide.from_rows(rows, sessions).close
        weights = momentum(closes.to_numpy(np.float64), limits.least, limits.most)
        found.append(pd.DataFrame(weights, closes.index, closes.columns))
    every = pd.concat(found, axis=1).reindex(index=setting.sessions, columns=list(setting.tickers))
    held: Floats = standing(every.to_numpy(np.float64)[None], setting.own)[0]
    return held


def facts(task: Task) -> dict[str, Any]:
    """The task in a few words: JSON values."""
    sessions = task.setting.sessions

    def day(at: int) -> str:
        return f"{sessions[at]:%Y-%m-%d}"

    return {
        "model": task.setting.model,
        "tickers": list(task.setting.tickers),
        "observed": list(task.columns),
        "blocks": [
            {"name": b.name, "train_first": day(0), "train_last": day(b.train_end - 1)}
            | ({} if b.name == LIVE else {"test_first": day(b.test_start), "test_last": day(b.test_end - 1)})
            for b in task.blocks
        ],
    }
