"""How much of a backtest is the luck of having tried much: the trials behind it, deflated Sharpe ratios, PBO.

A *trial* of a strategy is a configuration that could have been the one shown. That is every configuration of a
forecaster in the ledger, since each would have driven the same rule, every further `[backtest]` rule that a run was
traded by, and every trading agent, seed by seed. Those of `tune` were chosen by forecast loss before the first test
session, and all of them are correlated; they count in full, which errs to the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.evidence import ledger, overfitting, performance
from pipeline.evidence.ledger import Trial
from pipeline.store import Lake

Floats = npt.NDArray[np.float64]

STRATEGY, YARDSTICK = "vol_target", "constant"
FEWEST_MODELS = 4
"""With fewer, the rank of a winner is hardly a figure."""
MOST_BLOCKS, FEWEST_BLOCKS, BLOCK_SESSIONS = 16, 6, 20
"""Blocks of the cross-validation: 16 as published, fewer where they would be shorter than a month."""
MEANING = (
    "Deflated: the chance that the true Sharpe ratio is above the best that as many trials without skill would show "
    "(Bailey and Lopez de Prado 2014). Holding the market earns a Sharpe ratio of its own, so only the one of the gain "
    "over constant exposure, at the same volatility, speaks of the forecast."
)


class Tried(NamedTuple):
    """What the ledger counts.

    trials: of strategies. kinds: configurations of forecasters by who started them. rules: further `[backtest]` rules.
    sharpes: (n,) the Sharpe ratios a session that were recorded, by backtests and of agents.
    agents: trading agents, each seed for itself.
    """

    trials: int
    kinds: dict[str, int]
    rules: int
    sharpes: Floats
    agents: int = 0


def record(lake: Lake, run_id: str, rule: Mapping[str, Any], seed: int, sharpe: float | None, kind: str) -> None:
    """Append a backtest to the ledger, unless the same one is there.

    Args:
        lake: of the ledger. run_id: whose forecasts were traded; it names configuration and data.
        rule: the `[backtest]` section, JSON values. seed: of the run.
        sharpe: a session, of the portfolio by the forecast that ships; None = it never moved.
        kind: who started it: cli or flow.

    Raises:
        StoreError: the lake cannot be written.
    """
    trial = Trial(
        run_id=run_id,
        kind=kind,
        settings={"run_id": run_id, "backtest": rule},
        data=run_id,
        data_versions=lake.versions(("prices", "forecasts")),
        seed=seed,
        measure=ledger.SHARPE,
        by_horizon={},
        verdict="backtested",
        started_at=pd.Timestamp.now("UTC"),
        figures={} if sharpe is None else {ledger.SHARPE: sharpe},
    )
    if trial.trial_id not in set(ledger.read(lake)["trial_id"]):
        ledger.append(lake, [trial])


def tried(lake: Lake) -> Tried:
    """The trials behind every strategy of this lake, at least the one that is shown.

    Raises:
        StoreError: the ledger cannot be read.
    """
    rows = ledger.read(lake)
    backtests = rows["measure"] == ledger.SHARPE
    of_agents = rows["measure"] == ledger.AGENT
    agents = rows.loc[of_agents, "trial_id"].nunique()
    kinds = rows[~backtests & ~of_agents].drop_duplicates("trial_id")["kind"].value_counts().to_dict()
    # The first rule of a run belongs to the configuration that the run is a trial of.
    rules = rows.loc[backtests, "settings_digest"].nunique() - rows.loc[backtests, "run_id"].nunique()
    trials = max(1, sum(kinds.values()) + rules + agents)
    by_kind = {str(kind): int(n) for kind, n in sorted(kinds.items())}
    return Tried(trials, by_kind, rules, ledger.sharpes(lake), agents)


def judged(
    wealth: Mapping[str, Floats], raced: Mapping[str, Floats], counted: Tried, confidence: float, year: float
) -> dict[str, Any]:
    """Every strategy as if it had been the best of all trials, and the choice of a model by its backtest: JSON values.

    Args:
        wealth: strategy -> (T,) curve of the portfolio, NaN outside its life; with `constant`.
        raced: model -> (T,) curve of the portfolio by the same rule.
        counted: the trials. confidence: of the verdicts. year: sessions of one.
    """
    returns = {name: performance.simple_returns(curve) for name, curve in wealth.items()}
    constant = returns[YARDSTICK]
    rows = [
        {
            "strategy": name,
            "sharpe": _deflated(r, counted, counted.sharpes, confidence, year),
            "gain": None if name == YARDSTICK else _deflated(_gain(r, constant), counted, None, confidence, year),
        }
        for name, r in returns.items()
    ]
    found = {
        "trials": counted.trials,
        "forecaster_trials": counted.kinds,
        "further_rules": counted.rules,
        "agents": counted.agents,
        "recorded_sharpes": len(counted.sharpes),
        "confidence": confidence,
        "meaning": MEANING,
        "strategies": rows,
        "models": _overfitting(raced),
    }
    return found | {"sentence": _sentence(found)}


def _gain(returns: Floats, yardstick: Floats) -> Floats:
    """(T,) returns less those of the yardstick, at the yardstick's volatility: more exposure is no gain."""
    spread = float(np.nanstd(returns))
    return returns * (float(np.nanstd(yardstick)) / spread if spread > 0 else 1.0) - yardstick


def _deflated(
    returns: Floats, counted: Tried, sharpes: Floats | None, confidence: float, year: float
) -> dict[str, Any] | None:
    """Sharpe ratios a year; None where nothing moves, as for a strategy less itself."""
    known = returns[np.isfinite(returns)]
    if len(known) < 3 or known.std() <= 1e-12:
        return None
    found = overfitting.deflated_sharpe(known, counted.trials, sharpes, confidence)
    root = np.sqrt(year)
    recorded = found.deviation > 1 / np.sqrt(len(known) - 1)
    return {
        "annual": found.sharpe * root,
        "luck_annual": found.benchmark * root,
        "deviation_annual": found.deviation * root,
        "deviation_of": "recorded trials" if recorded else "independent trials without skill",
        "probability": found.probability,
        "probability_alone": found.probabilistic,
        "sessions": len(known),
        "verdict": found.verdict,
    }


def _overfitting(raced: Mapping[str, Floats]) -> dict[str, Any]:
    """Probability that the model of the best backtest in half of the sessions is below the median in the others."""
    r = {name: performance.simple_returns(curve) for name, curve in raced.items()}
    first: dict[bytes, str] = {}
    for name, curve in r.items():
        first.setdefault(curve.tobytes(), name)
    distinct = list(first.values())
    found: dict[str, Any] = {"models": distinct, "same_as_another": sorted(set(r) - set(distinct))}
    if len(distinct) < FEWEST_MODELS:
        return found | {"reason": f"{len(distinct)} models with curves of their own are fewer than {FEWEST_MODELS}"}
    values = np.stack([r[name] for name in distinct], axis=1)
    values = values[np.isfinite(values).all(axis=1)]
    blocks = min(MOST_BLOCKS, len(values) // BLOCK_SESSIONS // 2 * 2)
    if blocks < FEWEST_BLOCKS:
        return found | {"reason": f"{len(values)} sessions are fewer than {FEWEST_BLOCKS * BLOCK_SESSIONS}"}
    each = overfitting.backtest_overfitting(values, blocks)
    return found | {
        "probability": each.probability,
        "loss_probability": each.loss_probability,
        "blocks": blocks,
        "splits": each.splits,
        "sessions": len(values),
    }


def _sentence(found: dict[str, Any]) -> str:
    n = found["trials"]
    row = next(each for each in found["strategies"] if each["strategy"] == STRATEGY)
    after = f"After {n:,} {'trial' if n == 1 else 'trials'}"
    if row["sharpe"] is None:
        first = f"{after}: the portfolio never moved, so there is no Sharpe ratio to deflate"
    else:
        first = (
            f"{after} the chance that the portfolio's Sharpe ratio is above luck ({row['sharpe']['luck_annual']:.2f} a "
            f"year) is {row['sharpe']['probability']:.0%} ({row['sharpe']['verdict']} at {found['confidence']:.0%})"
        )
    if row["gain"] is not None:
        first += f", and of a gain over constant exposure {row['gain']['probability']:.0%} ({row['gain']['verdict']})"
    models = found["models"]
    if "reason" in models:
        return f"{first}; no probability of overfitting among models: {models['reason']}."
    return (
        f"{first}; the model of the best backtest in one half of the sessions falls below the median of "
        f"{len(models['models'])} in the other half in {models['probability']:.0%} of {models['splits']:,} splits "
        "(50% = luck)."
    )
