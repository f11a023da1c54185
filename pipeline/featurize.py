"""featurize: prices and news of the lake -> the `features` and `targets` tables.

Every group of tickers is computed on its own calendar's sessions, with its own market and its own closes; the tables
hold the rows of all groups. A ticker has rows while it is a member of the universe, and its features look back before
that. Only the years that something changed of are computed again (pipeline/changes.py): a day's run reads and writes
the current year, and leaves the tables as a computation of everything would.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.own import FeatureError
from features.panel import KEYS, load
from pipeline import changes, feature_years, universe
from pipeline.config import Config
from pipeline.errors import ConfigError, DataError, TooLittleHistoryError, UsageError
from pipeline.store import SOURCES, Lake
from pipeline.summary import Progress, Summary, silent

MOST_NAMED = 3
ACTIONS = "features:actions"
"""State: by calendar year, how many returns adj_close contradicts, and how many rest on it alone."""


def run(config: Config, progress: Progress = silent, everything: bool = False) -> Summary:
    """Bring every feature and target of every ticker with enough history up to date.

    Args:
        config: the configuration.
        progress: called as work goes on.
        everything: compute all years again, whether anything changed or not.

    Raises:
        ConfigError: a chosen feature is unknown, or an own one cannot be used.
        TooLittleHistoryError: no ticker has `universe.min_sessions` sessions.
        DataError: a calendar is unknown, the file of members cannot be used, or none of its tickers has prices.
        StoreError: nothing has been ingested.
    """
    lake = Lake.of(config.data)
    progress("looking for what changed", 0, 4)
    sources = lake.versions(("prices", "price_revisions", "news"))
    spells, held = universe.members(config), _held(lake)
    known = [str(ticker) for ticker in held["ticker"]]
    wanted, outside = _members_only(held, spells, config)
    wanted, short = _long_enough(wanted, config.universe.min_sessions)
    tickers = [str(ticker) for ticker in wanted["ticker"]]
    makers, ingredients = feature_years.Makers.of(config)
    members = b"" if config.universe.members is None else config.universe.members.read_bytes()
    made = changes.made_of(config, lake, tickers, members, *ingredients)
    whole = everything or lake.as_of is not None
    first = None if whole else changes.first_changed_year(changes.held(lake), made)
    years = _update(config, lake, wanted, spells, makers, first, progress)
    lake.keep_state({SOURCES: json.dumps(sources), **changes.kept(made, lake)})
    figures = {
        **_counts(lake),
        "too_short": short,
        "not_members": outside,
        "universe": universe.facts(spells, config, known),
        "calendars": universe.groups(config.universe, tickers),
        "computed": years,
        "versions": lake.versions(),
    }
    return Summary("featurize", tuple(_lines(figures)), figures)


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
        rows.drop(columns="r").to_parquet(partial, index=False)
    else:
        rows.drop(columns="r").to_csv(partial, index=False)
    partial.replace(out)
    lines = (*summary.lines, f"{len(rows):,} rows written to {out}")
    return Summary("features", lines, {**summary.figures, "out": str(out)}, summary.left_out)


def _update(
    config: Config,
    lake: Lake,
    wanted: pd.DataFrame,
    spells: pd.DataFrame | None,
    makers: feature_years.Makers,
    first: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Compute and write the rows from year `first` on; None = all.

    Returns:
        first: the first year computed, None if there was none to compute. changed: whether a table was. mismatches:
        what the actions of these years and adj_close say against each other, the largest first.
    """
    if first is not None and first > wanted["last"].max().year:
        return {"first": None, "changed": False, "mismatches": []}
    progress("reading prices and news", 1, 4)
    sources = feature_years.read(config, lake, wanted, spells, makers, first)
    progress("computing features", 2, 4)
    try:
        feature_rows, target_rows = feature_years.compute(config, sources, first)
    except FeatureError as error:
        raise ConfigError(f"[features]: {error}") from error
    if first is None and feature_rows.empty:
        raise DataError(f"{config.universe.members}: no ticker of it has a price while it is a member")
    progress("writing features and targets", 3, 4)
    changed = lake.replace("features", feature_rows, None if first is None else f"year >= {first}")
    changed |= lake.replace("targets", target_rows, None if first is None else f"year >= {first - 1}")
    found = sources.adjusted.mismatches
    found = found if first is None else found[found["session"].dt.year >= first]
    _keep_actions(lake, first, found["session"].dt.year, sources.adjusted.unlisted.year)
    progress("writing features and targets", 4, 4)
    year = int(sources.rows["session"].min().year) if first is None else first
    return {"first": year, "changed": changed, "mismatches": _largest(found)}


def _keep_actions(lake: Lake, first: int | None, mismatches: pd.Series, unlisted: pd.Index) -> None:
    """Count by year, in place of what was counted for these years before."""
    kept = {} if first is None else json.loads(lake.state().get(ACTIONS, "{}"))
    counts = {year: n for year, n in kept.items() if first is not None and int(year) < first}
    for at, years in enumerate((mismatches, unlisted)):
        for year, n in pd.Series(np.asarray(years)).value_counts().items():
            if first is None or int(str(year)) >= first:
                counts.setdefault(str(year), [0, 0])[at] = int(n)
    lake.keep_state({ACTIONS: json.dumps(dict(sorted(counts.items())))})


def _held(lake: Lake) -> pd.DataFrame:
    """One row a ticker, by ticker: how many sessions, the first and the last."""
    if lake.as_of is None:
        return lake.coverage()
    sessions = lake.prices().groupby("ticker")["session"]
    return pd.DataFrame({"sessions": sessions.size(), "first": sessions.min(), "last": sessions.max()}).reset_index()


def _counts(lake: Lake) -> dict[str, Any]:
    """What the tables hold now."""
    rows, first, last, tickers = lake.span("features")
    headlines, simulated = lake.headlines()
    actions = json.loads(lake.state().get(ACTIONS, "{}")).values()
    return {
        "rows": rows,
        "features": [name for name in lake.columns("features") if name not in KEYS],
        "tickers": tickers,
        "first": f"{first:%Y-%m-%d}",
        "last": f"{last:%Y-%m-%d}",
        "headlines": headlines,
        "simulated_headlines": simulated,
        "action_mismatches": sum(mismatches for mismatches, _ in actions),
        "unlisted_actions": sum(unlisted for _, unlisted in actions),
    }


def _members_only(held: pd.DataFrame, spells: pd.DataFrame | None, config: Config) -> tuple[pd.DataFrame, list[str]]:
    """Of the rows of `_held`: those of tickers that are ever members, and the tickers that never are."""
    if spells is None:
        return held, []
    ever = held["ticker"].isin(list(spells["ticker"].unique()))
    if not ever.any():
        raise DataError(
            f"{config.universe.members}: none of its {spells['ticker'].nunique()} tickers is in the lake, like "
            f"{spells['ticker'].iloc[0]}; ingest them, or write tickers as the provider does"
        )
    return held[ever], [str(ticker) for ticker in held.loc[~ever, "ticker"]]


def _long_enough(held: pd.DataFrame, minimum: int) -> tuple[pd.DataFrame, dict[str, int]]:
    enough = held["sessions"] >= minimum
    short = {str(ticker): int(n) for ticker, n in held.loc[~enough, ["ticker", "sessions"]].itertuples(index=False)}
    if not enough.any():
        longest = max(short, key=lambda ticker: short[ticker], default="none")
        raise TooLittleHistoryError(
            f"no ticker has {minimum} sessions (universe.min_sessions); the longest is {longest} with "
            f"{short.get(longest, 0)}; ingest more history or lower the minimum"
        )
    return held[enough], short


def _lines(figures: dict[str, Any]) -> list[str]:
    simulated, computed = figures["simulated_headlines"], figures["computed"]
    lines = [
        f"features: {figures['rows']:,} rows of {len(figures['features'])} features, "
        f"{len(figures['tickers'])} tickers, {figures['first']} to {figures['last']}"
        + (f"; computed from {computed['first']} on" if computed["changed"] else " (unchanged)"),
        f"headlines: {figures['headlines']:,}" + (f", {simulated:,} of them simulated" if simulated else ""),
    ]
    if len(figures["calendars"]) > 1:
        spread = ", ".join(f"{name} ({len(tickers)})" for name, tickers in figures["calendars"].items())
        lines.append(f"calendars, each with its own sessions and market: {spread}")
    if not figures["universe"]["hindsight"]:
        lines.append(universe.sentence(figures["universe"]))
    if figures["action_mismatches"]:
        largest = f"; the largest: {', '.join(computed['mismatches'])}" if computed["mismatches"] else ""
        lines.append(
            f"dividends and splits that adj_close contradicts: {figures['action_mismatches']:,}, the listed action is "
            f"used{largest}"
        )
    lines += [f"left out, too short: {ticker} ({n} sessions)" for ticker, n in figures["too_short"].items()]
    return lines + [f"left out, never a member: {ticker}" for ticker in figures["not_members"]]


def _largest(found: pd.DataFrame) -> list[str]:
    """The mismatches that are furthest apart, by name."""
    apart = (found["expected_return"] - found["adj_return"]).abs()
    return [
        f"{row['ticker']} {row['session']:%Y-%m-%d} ({row['expected_return']:+.2%} by dividend {row['dividend']:g} and "
        f"split {row['split']:g}, {row['adj_return']:+.2%} by adj_close)"
        for row in found.loc[apart.nlargest(MOST_NAMED).index].to_dict("records")
    ]
