"""featurize: prices and news of the lake -> the `features` and `targets` tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from features import actions, calendars, table
from features.panel import load, rows_of
from features.prices import Wide, ewma_volatility, log_returns
from features.targets import label_rows, targets
from pipeline.config import Config
from pipeline.errors import DataError, TooLittleHistoryError, UsageError
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

MOST_NAMED = 3


def run(config: Config, progress: Progress = silent) -> Summary:
    """Compute every feature and target of every ticker with enough history.

    Raises:
        TooLittleHistoryError: no ticker has `universe.min_sessions` sessions.
        StoreError: nothing has been ingested.
    """
    lake = Lake.of(config.data)
    progress("reading prices and news", 0, 3)
    rows, short = _long_enough(lake.prices(), config.universe.min_sessions)
    try:
        sessions, closes = calendars.calendar_sessions(
            config.universe.calendar, rows["session"].min(), rows["session"].max()
        )
    except calendars.CalendarError as error:
        raise DataError(str(error)) from None
    adjusted = actions.adjust(rows)
    wide = Wide.from_rows(rows, sessions, adjusted.close)
    headlines = lake.news()
    progress("computing features", 1, 3)
    news = table.News(headlines, closes, config.universe.decision_lead_minutes, config.sentiment.threshold)
    panel = table.build(wide, news, config.features.families)
    labels = targets(wide, config.target.horizons, config.target.interval)
    vol = ewma_volatility(log_returns(wide.close))
    progress("writing features and targets", 2, 3)
    feature_rows = rows_of(panel, wide.close.notna().to_numpy().T)
    changed = lake.replace("features", feature_rows)
    lake.replace("targets", label_rows(labels, vol, config.target.horizons))
    progress("writing features and targets", 3, 3)
    simulated = int((headlines["source"] == "simulated").sum())
    lines = [
        f"features: {len(feature_rows):,} rows of {len(panel.feature_names)} features, {len(panel.tickers)} tickers, "
        f"{panel.sessions[0]} to {panel.sessions[-1]}" + ("" if changed else " (unchanged)"),
        f"headlines: {len(headlines):,}" + (f", {simulated:,} of them simulated" if simulated else ""),
    ]
    lines += _about_actions(adjusted)
    lines += [f"left out, too short: {ticker} ({n} sessions)" for ticker, n in short.items()]
    figures = {
        "rows": len(feature_rows),
        "features": list(panel.feature_names),
        "tickers": [str(ticker) for ticker in panel.tickers],
        "too_short": short,
        "headlines": len(headlines),
        "action_mismatches": len(adjusted.mismatches),
        "unlisted_actions": adjusted.unlisted,
        "simulated_headlines": simulated,
        "versions": lake.versions(),
    }
    return Summary("featurize", tuple(lines), figures)


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
