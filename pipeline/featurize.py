"""featurize: prices and news of the lake -> the `features` and `targets` tables.

Every group of tickers is computed on its own calendar's sessions, with its own market and its own closes; the tables
hold the rows of all groups. A ticker has rows while it is a member of the universe, and its features look back over
its whole history.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from features import actions, members, table
from features.bars import Bars
from features.panel import KEYS, load, rows_of
from features.targets import label_rows, targets
from pipeline import universe
from pipeline.config import Config
from pipeline.errors import DataError, TooLittleHistoryError, UsageError
from pipeline.labelled import scorer_in_use
from pipeline.store import SOURCES, Lake
from pipeline.summary import Progress, Summary, silent

MOST_NAMED = 3


class Prices(NamedTuple):
    """The usable rows of the lake, their closes with every action in, and the spells of membership if there are any."""

    rows: pd.DataFrame
    adjusted: actions.Adjusted
    spells: pd.DataFrame | None


def run(config: Config, progress: Progress = silent) -> Summary:
    """Compute every feature and target of every ticker with enough history.

    Raises:
        TooLittleHistoryError: no ticker has `universe.min_sessions` sessions.
        DataError: a calendar is unknown, the file of members cannot be used, or none of its tickers has prices.
        StoreError: nothing has been ingested.
    """
    lake = Lake.of(config.data)
    progress("reading prices and news", 0, 3)
    sources = lake.versions(("prices", "price_revisions", "news"))
    rows, spells = lake.prices(), universe.members(config)
    universe_facts = universe.facts(spells, config, [str(ticker) for ticker in rows["ticker"].unique()])
    rows, outside = _members_only(rows, spells, config)
    rows, short = _long_enough(rows, config.universe.min_sessions)
    rows = rows.reset_index(drop=True)
    prices = Prices(rows, actions.adjust(rows), spells)
    headlines = lake.news()
    progress("computing features", 1, 3)
    groups = universe.groups(config.universe, sorted(rows["ticker"].unique()))
    parts = [_group(config, name, tickers, prices, headlines) for name, tickers in groups.items()]
    feature_rows, target_rows = (pd.concat(found, ignore_index=True) for found in zip(*parts, strict=True))
    if len(parts) > 1:
        feature_rows = feature_rows.sort_values(["ticker", "session"], ignore_index=True)
        target_rows = target_rows.sort_values(["ticker", "session", "horizon"], ignore_index=True)
    if feature_rows.empty:
        raise DataError(f"{config.universe.members}: no ticker of it has a price while it is a member")
    progress("writing features and targets", 2, 3)
    changed = lake.replace("features", feature_rows)
    lake.replace("targets", target_rows)
    lake.keep_state({SOURCES: json.dumps(sources)})
    progress("writing features and targets", 3, 3)
    figures = {
        **_counts(config, feature_rows, prices.adjusted, headlines),
        "too_short": short,
        "not_members": outside,
        "universe": universe_facts,
        "calendars": groups,
        "versions": lake.versions(),
    }
    return Summary("featurize", tuple(_lines(figures, feature_rows, prices.adjusted, changed)), figures)


def run_and_write(config: Config, progress: Progress, out: Path) -> Summary:
    """`run`, then write the light scorer's feature file: NPZ, CSV or Parquet by the suffix, atomically.

    Raises:
        UsageError: another suffix.
    """
    if out.suffix not in (".npz", ".csv", ".parquet"):
        raise UsageError(f"{out}: the suffix must be .npz, .csv or .parquet")
    summary = run(config, progress)
    rows = Lake.of(config.data).read("features", order_by="ticker, session")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    if out.suffix == ".npz":
        panel = load(rows)
        np.savez(
            partial,
            x=panel.x,
            vol=panel.vol,
            ticker=panel.tickers,
            session=panel.sessions,
            feature=np.asarray(panel.feature_names),
        )
    elif out.suffix == ".parquet":
        rows.to_parquet(partial, index=False)
    else:
        rows.to_csv(partial, index=False)
    partial.replace(out)
    lines = (*summary.lines, f"{len(rows):,} rows written to {out}")
    return Summary("features", lines, {**summary.figures, "out": str(out)}, summary.left_out)


def _group(
    config: Config, calendar: str, tickers: list[str], prices: Prices, headlines: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `features` and of `targets` of the tickers on one calendar."""
    rows = prices.rows[prices.rows["ticker"].isin(tickers)]
    sessions, closes = universe.axis(calendar, rows["session"])
    bars = Bars.from_rows(rows, sessions, prices.adjusted)
    if prices.spells is not None:
        bars = replace(bars, members=members.mask(prices.spells, bars.tickers.tolist(), sessions).T)
    lead, threshold = config.universe.decision_lead_minutes, config.sentiment.threshold
    news = table.News(headlines, closes, lead, threshold, scorer_in_use(config))
    panel = table.build(bars, news, config.features.families, (), config.features.chosen)
    labels = targets(bars, config.target.horizons, config.target.interval)
    vol = np.where(bars.inside, panel.vol, np.nan)
    return rows_of(panel, bars.inside), label_rows(labels, bars, vol, config.target.horizons)


def _counts(config: Config, rows: pd.DataFrame, adjusted: actions.Adjusted, headlines: pd.DataFrame) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "features": [name for name in rows.columns if name not in KEYS],
        "tickers": [str(ticker) for ticker in rows["ticker"].unique()],
        "headlines": len(headlines),
        "simulated_headlines": int((headlines["source"] == "simulated").sum()),
        "action_mismatches": len(adjusted.mismatches),
        "unlisted_actions": adjusted.unlisted,
    }


def _members_only(rows: pd.DataFrame, spells: pd.DataFrame | None, config: Config) -> tuple[pd.DataFrame, list[str]]:
    """The rows of tickers that are ever members, with their whole history, and the tickers that never are."""
    if spells is None:
        return rows, []
    ever = rows["ticker"].isin(list(spells["ticker"].unique()))
    if not ever.any():
        raise DataError(
            f"{config.universe.members}: none of its {spells['ticker'].nunique()} tickers is in the lake, like "
            f"{spells['ticker'].iloc[0]}; ingest them, or write tickers as the provider does"
        )
    return rows[ever], sorted(str(ticker) for ticker in rows.loc[~ever, "ticker"].unique())


def _lines(figures: dict[str, Any], rows: pd.DataFrame, adjusted: actions.Adjusted, changed: bool) -> list[str]:
    simulated = figures["simulated_headlines"]
    lines = [
        f"features: {figures['rows']:,} rows of {len(figures['features'])} features, "
        f"{len(figures['tickers'])} tickers, {rows['session'].min():%Y-%m-%d} to {rows['session'].max():%Y-%m-%d}"
        + ("" if changed else " (unchanged)"),
        f"headlines: {figures['headlines']:,}" + (f", {simulated:,} of them simulated" if simulated else ""),
    ]
    if len(figures["calendars"]) > 1:
        spread = ", ".join(f"{name} ({len(tickers)})" for name, tickers in figures["calendars"].items())
        lines.append(f"calendars, each with its own sessions and market: {spread}")
    if not figures["universe"]["hindsight"]:
        lines.append(universe.sentence(figures["universe"]))
    lines += _about_actions(adjusted)
    lines += [f"left out, too short: {ticker} ({n} sessions)" for ticker, n in figures["too_short"].items()]
    return lines + [f"left out, never a member: {ticker}" for ticker in figures["not_members"]]


def _about_actions(adjusted: actions.Adjusted) -> list[str]:
    """What the vendor's actions and its adj_close say against each other: how many, and the largest by name."""
    found = adjusted.mismatches
    if found.empty:
        return []
    apart = (found["expected_return"] - found["adj_return"]).abs()
    largest = [
        f"{row['ticker']} {row['session']:%Y-%m-%d} ({row['expected_return']:+.2%} by dividend {row['dividend']:g} and "
        f"split {row['split']:g}, {row['adj_return']:+.2%} by adj_close)"
        for row in found.loc[apart.nlargest(MOST_NAMED).index].to_dict("records")
    ]
    return [
        f"dividends and splits that adj_close contradicts: {len(found):,}, the listed action is used; the largest: "
        + ", ".join(largest)
    ]


def _long_enough(rows: pd.DataFrame, minimum: int) -> tuple[pd.DataFrame, dict[str, int]]:
    counts = rows.groupby("ticker")["session"].size()
    short = {str(ticker): int(n) for ticker, n in counts.items() if n < minimum}
    if len(short) == len(counts):
        longest = max(short, key=lambda ticker: short[ticker], default="none")
        raise TooLittleHistoryError(
            f"no ticker has {minimum} sessions (universe.min_sessions); the longest is {longest} with "
            f"{short.get(longest, 0)}; ingest more history or lower the minimum"
        )
    return rows[~rows["ticker"].isin(list(short))], short
