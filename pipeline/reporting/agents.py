"""Trading agents beside the rules they have to beat."""

from __future__ import annotations

from typing import Any

from pipeline.reporting.agent_inputs import Agents
from pipeline.reporting.formats import (
    UNKNOWN,
    Table,
    drawdown,
    fraction,
    inside,
    interval,
    known,
    number,
    percent,
)

NOT_EVALUATED = "Agents have been trained and not evaluated yet; run: tradewind agent evaluate."


def lead(agents: Agents) -> tuple[str, ...]:
    """What was done, and the verdict."""
    trained = agents.training
    settings = trained["settings"]
    tested = [block for block in trained["blocks"] if "test_first" in block]
    first = (
        f"Agents learn how much of a ticker to hold from the forecasts of {trained['model']}: "
        f"{len(trained['algorithms'])} algorithms, {len(trained['seeds'])} seeds each, "
        f"{settings['steps']:,} environment steps, learned anew for each of {len(tested)} test blocks from the "
        f"sessions before it. They pay {settings['cost_bps']:g} bps a side."
    )
    evaluation = agents.evaluation
    if evaluation is None:
        return first, NOT_EVALUATED
    return first, *evaluation["sentences"], luck(evaluation), str(evaluation["universe_note"])


def labels(evaluation: dict[str, Any]) -> dict[str, str]:
    """What a reader calls each strategy."""
    return {row["strategy"]: str(row["label"]) for row in evaluation["strategies"]}


def luck(evaluation: dict[str, Any]) -> str:
    """How many trials the deflated Sharpe ratios allow for."""
    found, names = evaluation["deflated"], labels(evaluation)
    agents = [row["strategy"] for row in evaluation["strategies"] if row["kind"] == "agent"]
    rows = [row for row in found["strategies"] if row["strategy"] in agents and row["sharpe"]]
    shown = "; ".join(f"{names[row['strategy']]} {fraction(row['sharpe']['probability'], 0)}" for row in rows)
    return (
        f"{number(found['trials'], 0)} trials are in the ledger, {number(found['agents'], 0)} of them agents. After "
        "all of them the chance that the Sharpe ratio of an algorithm's best seed is above luck: "
        + (shown or UNKNOWN)
        + "."
    )


def figures_table(evaluation: dict[str, Any]) -> Table:
    """One strategy a row: the objective, and the portfolio's figures."""
    caption = (
        f"{evaluation['first']} to {evaluation['last']}, {evaluation['tickers']} tickers, "
        f"{evaluation['cost_bps']:g} bps a side, fills at the next open. Growth: {evaluation['objective']}. The other "
        "figures are the portfolio's. Agents: interquartile mean over "
        f"{evaluation['n_seeds']} seeds, interval at {fraction(evaluation['confidence'], 0)} by resampling seeds in "
        "each test block."
    )
    head = ("Strategy", "Growth", "Over seeds", "Return a year", "Volatility", "Sharpe", "Largest fall")
    rows = tuple(
        (
            str(row["label"]),
            percent(row["objective"], 2),
            interval(row.get("objective_low"), row.get("objective_high"), 2),
            fraction(row["annual_return"], sign=True),
            fraction(row["annual_volatility"]),
            number(row["sharpe"], 2, sign=True),
            drawdown(row["max_drawdown"]),
            number(row["turnover_per_year"], 1) + ("×" if known(row["turnover_per_year"]) else ""),  # noqa: RUF001
            percent(row["cost_per_year_percent"], 2, sign=False),
        )
        for row in evaluation["strategies"]
    )
    strong = tuple(at for at, row in enumerate(evaluation["strategies"]) if row["kind"] == "agent")
    return Table(caption, (*head, "Turnover a year", "Cost a year"), rows, strong=strong)


def comparisons_table(evaluation: dict[str, Any]) -> Table:
    """Every algorithm against every rule."""
    names = labels(evaluation)
    caption = (
        "Growth of the interquartile mean over seeds less that of the rule, in points a year. Intervals at "
        f"{fraction(evaluation['confidence'], 0)}: over sessions by blocks of {evaluation['block_sessions']} "
        f"({number(evaluation['n_blocks'], 0)} independent ones), and over seeds. An agent beats a rule where both are "
        "above zero."
    )
    rows = tuple(
        (
            names[row["algorithm"]],
            f"against {inside(names[row['rule']])}",
            number(row["difference"], 2, sign=True),
            interval(row["low"], row["high"], 2, unit=""),
            interval(row["seeds_low"], row["seeds_high"], 2, unit=""),
            str(row["verdict"]),
        )
        for row in evaluation["comparisons"]
    )
    return Table(caption, ("Agent", "Rule", "Difference", "Over sessions", "Over seeds", "Verdict"), rows, left=2)


def breakeven_table(evaluation: dict[str, Any]) -> Table:
    """The fee up to which each algorithm is ahead of each rule."""
    names, found = labels(evaluation), evaluation["fees"]["breakeven_bps"]
    against = list(next(iter(found.values())))
    head = ("Agent", *("Cash" if rule == "cash" else names[rule] for rule in against))
    rows = tuple((names[name], *(fee(by[rule]) for rule in against)) for name, by in found.items())
    definition = str(evaluation["fees"]["breakeven_definition"])
    return Table(f"Break-even fee: {definition.replace('null', 'more')}.", head, rows)


def fee(bps: float | None) -> str:
    """A break-even fee as it is shown."""
    if bps is None:
        return "more"
    return f"{number(bps, 1)} bps" if bps > 0 else "0"
