"""What a person reads of trading agents on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.agent_evidence import label
from pipeline.agent_policies import Agent
from pipeline.evidence import seeds
from pipeline.reporting.formats import inside


def curve_lines(agents: Sequence[Agent]) -> Iterator[str]:
    """How each algorithm's reward in training moved, interquartile mean over seeds and blocks."""
    for name in dict.fromkeys(agent.algorithm for agent in agents):
        curves = [agent.curve.reward for agent in agents if agent.algorithm == name]
        first, last = (float(seeds.iqm(np.array([curve[at] for curve in curves]))) for at in (0, -1))
        yield f"  {label(name):<20} reward of a step in training, exploration included: {first:+.3f} -> {last:+.3f}"


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """The evaluation: who it is about, a row a strategy, the verdict."""
    yield (
        f"agents on the forecasts of {found['model']}: {found['first']} to {found['last']}, "
        f"{found['tickers']} tickers, {found['n_seeds']} seeds, {found['cost_bps']:g} bps a side, "
        f"risk aversion {found['risk_aversion']:g}"
    )
    head = ("", "growth, c.-e.", "over seeds", "return", "vol", "Sharpe", "max fall", "turnover", "cost/y")
    yield "{:<34} {:>14} {:>17} {:>8} {:>7} {:>7} {:>9} {:>9} {:>7}".format(*head)
    for row in found["strategies"]:
        yield _row(row)
    for name, against in found["fees"]["breakeven_bps"].items():
        until = ", ".join(f"{inside(label(rule))} {_fee(bps)}" for rule, bps in against.items())
        yield f"{label(name)} is ahead up to a fee of: {until}"
    yield from found["sentences"]
    yield _deflated(found["deflated"])


def _row(row: Mapping[str, Any]) -> str:
    def shown(name: str, form: str) -> str:
        return "-" if row.get(name) is None else format(row[name], form)

    span = f"[{row['objective_low']:+.2f}, {row['objective_high']:+.2f}]" if "objective_low" in row else ""
    return (
        f"{row['label']:<34} {shown('objective', '+13.2f')}% {span:>17} {shown('annual_return', '+8.1%'):>8} "
        f"{shown('annual_volatility', '7.1%'):>7} {shown('sharpe', '7.2f'):>7} {shown('max_drawdown', '9.1%'):>9} "
        f"{shown('turnover_per_year', '9.1f'):>9} {shown('cost_per_year_percent', '6.2f'):>6}%"
    )


def _fee(bps: float | None) -> str:
    if bps is None:
        return "any tried"
    return f"{bps:.1f} bps" if bps > 0 else "none"


def _deflated(found: Mapping[str, Any]) -> str:
    rows = [row for row in found["strategies"] if row["sharpe"] is not None]
    parts = ", ".join(f"{inside(label(row['strategy']))} {row['sharpe']['probability']:.0%}" for row in rows)
    return (
        f"After {found['trials']:,} trials, {found['agents']:,} of them agents, the chance that a Sharpe ratio is "
        f"above luck, of an algorithm its best seed's: {parts}."
    )
