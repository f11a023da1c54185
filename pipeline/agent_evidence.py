"""Whether agents beat rules: objective, figures, intervals, fees, and a verdict in plain words.

The objective is what agents are paid for, on the same terms for everybody: the mean reward of a session over all
tickers' sleeves after costs, times the sessions of a year; that is the certainty-equivalent growth a year. An algorithm
is the interquartile mean over its seeds. It beats a rule where two intervals of the difference are above zero: over
sessions, by blocks, for the seeds as they came out; and over seeds, for the sessions as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.trading.sizing import SESSIONS_PER_YEAR
from pipeline.agent_data import Block
from pipeline.agent_trades import RULES
from pipeline.evidence import performance, seeds
from pipeline.evidence.significance import Resamples, Resampling, by_session
from pipeline.reporting.formats import AGENT_LABELS, inside, listed, number

Floats = npt.NDArray[np.float64]

FEES_BPS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
BEATS, WORSE, NEITHER, TOO_FEW = "beats", "is worse than", "does not beat", "too few blocks"
OBJECTIVE = (
    "mean reward g - risk_aversion / 2 g^2 of a session, g the log growth of a ticker's sleeve after costs, over all "
    "tickers and test sessions, times the sessions of a year: certainty-equivalent growth a year, in percent"
)
BREAKEVEN = (
    "cost a side in bps of value traded, paid by both for the trades they make at the agents' own cost, up to which "
    "the interquartile mean is ahead; 0 where it is behind even without costs, null where it is ahead at 200 bps"
)


class Panel(NamedTuple):
    """What is compared: S strategies on T test sessions.

    reward: (S, N, T) of each ticker's sleeve, NaN outside its life.
    wealth, turnover, costs: (S, T) of the portfolio of equal sleeves.
    """

    reward: Floats
    wealth: Floats
    turnover: Floats
    costs: Floats


class Field(NamedTuple):
    """Who is compared. rules: name -> place in the panel. seeds: algorithm -> places, one a seed, in their order."""

    rules: Mapping[str, int]
    seeds: Mapping[str, Sequence[int]]


def label(name: str) -> str:
    """What a reader calls a rule or an algorithm."""
    return RULES.get(name) or AGENT_LABELS.get(name, name)


def judged(
    panel: Panel, field: Field, blocks: Sequence[Block], year: float, fees: Floats, resampling: Resampling
) -> dict[str, Any]:
    """Everything there is to say of agents against rules: JSON values, objectives in percent a year.

    Args:
        panel, field: what is compared. blocks: of the walk-forward. year: sessions of one.
        fees: (F, S) objectives at `FEES_BPS`, as fractions. resampling: of the intervals over sessions.
    """
    each = figures(panel, year)
    scores = {name: _by_block(panel, list(at), blocks) for name, at in field.seeds.items()}
    counts = _counts(panel, blocks)
    quartile = {
        name: seeds.interquartile(
            100 * year * found, counts, resampling.resamples, resampling.confidence, resampling.seed
        )
        for name, found in scores.items()
    }
    rows = [
        {"strategy": name, "label": label(name), "kind": "rule"} | _row(each, [at]) for name, at in field.rules.items()
    ]
    for name, at in field.seeds.items():
        interval = {"objective_low": quartile[name].low, "objective_high": quartile[name].high}
        of_seeds = {key: [_number(v) for v in values[list(at)]] for key, values in each.items()}
        rows.append(
            {"strategy": name, "label": label(name), "kind": "agent"} | _row(each, list(at)) | interval
            | {"seeds": of_seeds}
        )  # fmt: skip
    pairs, n_blocks = _comparisons(panel, field, each["objective"], quartile, year, resampling)
    found = {
        "objective": OBJECTIVE,
        "confidence": resampling.confidence,
        "block_sessions": resampling.block_sessions,
        "n_sessions": int(np.isfinite(panel.reward).any(axis=(0, 1)).sum()),
        "n_blocks": n_blocks,
        "strategies": rows,
        "comparisons": pairs,
        "fees": _fees(field, 100 * fees),
    }
    return found | {"sentences": sentences(found)}


def figures(panel: Panel, year: float) -> dict[str, Floats]:
    """(S,) figures of every strategy: the objective of the sleeves, the others of the portfolio."""
    wealth, root = panel.wealth, math.sqrt(year / SESSIONS_PER_YEAR)
    years = np.isfinite(performance.log_returns(wealth)).sum(axis=-1) / year
    growth = np.log1p(performance.annual_return(wealth)) * year / SESSIONS_PER_YEAR
    return {
        "objective": 100 * year * np.nanmean(panel.reward, axis=(1, 2)),
        "annual_return": np.expm1(growth),
        "annual_volatility": root * performance.annual_volatility(wealth),
        "sharpe": root * performance.sharpe(wealth),
        "max_drawdown": performance.max_drawdown(wealth),
        "turnover_per_year": np.nansum(panel.turnover, axis=-1) / years,
        "cost_per_year_percent": 100 * np.nansum(panel.costs, axis=-1) / years,
    }


def breakeven(lead: Floats) -> float | None:
    """The fee up to which a (F,) lead over `FEES_BPS` lasts, by linear interpolation; see `BREAKEVEN`."""
    behind = np.flatnonzero(lead <= 0)
    if not len(behind):
        return None
    k = int(behind[0])
    if k == 0:
        return 0.0
    share = lead[k - 1] / (lead[k - 1] - lead[k])
    return float(FEES_BPS[k - 1] + share * (FEES_BPS[k] - FEES_BPS[k - 1]))


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The verdict: one sentence over all, then one an algorithm."""
    pairs = found["comparisons"]
    names = list(dict.fromkeys(row["algorithm"] for row in pairs))
    of = {name: [row for row in pairs if row["algorithm"] == name] for name in names}
    if any(row["verdict"] == TOO_FEW for row in pairs):
        first = (
            f"{found['n_sessions']:,} test sessions hold {found['n_blocks']:.0f} independent blocks: too few for a "
            "verdict on any agent."
        )
    else:
        best = [label(name) for name in names if all(row["verdict"] == BEATS for row in of[name])]
        who = (
            f"{listed(best)} {'beats' if len(best) == 1 else 'beat'} every rule"
            if best
            else "No agent beats every rule"
        )
        first = f"{who}, out of sample and after costs ({len(pairs)} comparisons, each at {found['confidence']:.0%})."
    return [first, *(_sentence(name, of[name]) for name in names)]


def _sentence(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for verdict in (BEATS, NEITHER, WORSE, TOO_FEW):
        against = [inside(label(row["rule"])) for row in rows if row["verdict"] == verdict]
        every = {NEITHER: "any rule"}.get(verdict, "every rule") if len(against) == len(rows) else listed(against)
        if against:
            parts.append(f"{'has no verdict against' if verdict == TOO_FEW else verdict} {every}")
    hardest = min(rows, key=lambda row: row["difference"])
    value, low, high = (number(hardest[part], 2, sign=True) for part in ("difference", "low", "high"))
    return (
        f"{label(name)} {'; '.join(parts)}. Against the best of them, {inside(label(hardest['rule']))}, the difference "
        f"is {value} points of certainty-equivalent growth a year [{low}, {high}]."
    )


def _comparisons(
    panel: Panel,
    field: Field,
    objective: Floats,
    quartile: Mapping[str, seeds.Interquartile],
    year: float,
    resampling: Resampling,
) -> tuple[list[dict[str, Any]], float]:
    """Every algorithm against every rule, and how many independent blocks that rests on."""
    series = {name: by_session(-panel.reward[at]) for name, at in field.rules.items()}
    for name, places in field.seeds.items():
        chosen = np.asarray(places)[seeds.middle(objective[list(places)])]
        series[name] = by_session(-panel.reward[chosen].mean(axis=0))
    resamples = Resamples(series, resampling)
    rows = []
    for name in field.seeds:
        for rule, at in field.rules.items():
            value, low, high = (100 * year * bound for bound in resamples.difference(name, rule))
            seeds_low, seeds_high = (bound - float(objective[at]) for bound in quartile[name][1:])
            verdict = _verdict(low, high, seeds_low, seeds_high, resamples.n_blocks < resampling.min_blocks)
            rows.append(
                {"algorithm": name, "rule": rule, "difference": value, "low": _number(low), "high": _number(high)}
                | {"seeds_low": seeds_low, "seeds_high": seeds_high, "verdict": verdict}
            )
    return rows, resamples.n_blocks


def _verdict(low: float, high: float, seeds_low: float, seeds_high: float, few: bool) -> str:
    if few:
        return TOO_FEW
    if low > 0 and seeds_low > 0:
        return BEATS
    return WORSE if high < 0 and seeds_high < 0 else NEITHER


def _fees(field: Field, objectives: Floats) -> dict[str, Any]:
    """(F, S) objectives as they are shown, and the fees up to which algorithms are ahead."""
    lines = {name: objectives[:, at] for name, at in field.rules.items()}
    agents = {name: seeds.iqm(objectives[:, list(at)]) for name, at in field.seeds.items()}
    return {
        "bps": list(FEES_BPS),
        "objective": {name: [float(v) for v in line] for name, line in (lines | agents).items()},
        "breakeven_bps": {
            name: {"cash": breakeven(line)} | {rule: breakeven(line - lines[rule]) for rule in field.rules}
            for name, line in agents.items()
        },
        "breakeven_definition": BREAKEVEN,
    }


def _row(each: Mapping[str, Floats], at: list[int]) -> dict[str, Any]:
    """The interquartile mean of each figure; of one strategy the figure itself."""
    return {name: _number(float(seeds.iqm(values[at]))) for name, values in each.items()}


def _inside(block: Block, blocks: Sequence[Block]) -> slice:
    """Its sessions on the axis of the test."""
    first = blocks[0].test_start
    return slice(block.test_start - first, block.test_end - first)


def _by_block(panel: Panel, at: list[int], blocks: Sequence[Block]) -> Floats:
    """(M, R) mean reward of a session of each seed in each block."""
    return np.stack([np.nanmean(panel.reward[at][..., _inside(b, blocks)], axis=(1, 2)) for b in blocks])


def _counts(panel: Panel, blocks: Sequence[Block]) -> Floats:
    """(M,) how many rewards each block has."""
    known = np.isfinite(panel.reward[0]).sum(axis=0)
    return np.array([known[_inside(b, blocks)].sum() for b in blocks], dtype=np.float64)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
