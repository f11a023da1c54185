"""What the lake holds, what a vendor changed, what was refused, and merging its small files.

Behind `tradewind lake status | revisions | quarantine | compact`. Nothing here changes what a read returns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features import frames
from features.calendars import NONE, CalendarError, calendar_sessions
from pipeline.config import Config, Universe
from pipeline.delta import quoted
from pipeline.errors import DataError, UsageError
from pipeline.store import Lake, empty
from pipeline.summary import Progress, Summary, silent

TABLES = (
    "prices", "price_revisions", "news", "quarantine", "state",
    "features", "targets", "forecasts", "positions", "trials",
)  # fmt: skip


def status(config: Config, progress: Progress = silent) -> Summary:
    """Every table with its version, rows and size; every ticker with its range and its missing sessions.

    Raises:
        StoreError: the lake cannot be read.
    """
    lake = Lake.of(config.data)
    there = [table for table in TABLES if lake.exists(table)]
    if not there:
        return Summary("lake status", (f"the lake at {lake.root} is empty; run: tradewind ingest",), {"tables": {}})
    tables = {}
    for done, table in enumerate(there):
        progress("reading the lake", done, len(there))
        tables[table] = lake.tables.size(table)._asdict()
    progress("reading the lake", len(there), len(there))
    lines = [f"lake {lake.root}", "", f"{'table':<16}{'version':>8}{'rows':>13}{'files':>7}{'size':>11}"]
    lines += [
        f"{name:<16}{each['version']:>8}{each['rows']:>13,}{each['files']:>7,}{_megabytes(each['bytes']):>11}"
        for name, each in tables.items()
    ]
    tickers = _tickers(lake, config.universe) if "prices" in there else pd.DataFrame()
    if len(tickers):
        assumed = int(tickers["assumed"].sum()) / int(tickers["sessions"].sum())
        lines += ["", f"{'ticker':<12}{'sessions':>9}  {'first':<12}{'last':<12}{'missing':>8}  calendar"]
        lines += [_ticker(row) for row in _records(tickers)]
        lines += ["", f"back-filled: {assumed:.1%} of the bars; what the vendor had changed in them before is unknown"]
    held = tickers.assign(**{name: tickers[name].dt.strftime("%Y-%m-%d") for name in ("first", "last") if len(tickers)})
    figures = {"lake": lake.root, "tables": tables, "tickers": _records(held)}
    return Summary("lake status", tuple(lines), figures)


def revisions(config: Config, ticker: str | None = None, limit: int = 20, out: Path | None = None) -> Summary:
    """What vendors changed after we had it: the figures before and after, newest first.

    Args:
        config: the configuration.
        ticker: only this one.
        limit: most changes to show.
        out: a CSV file for all of them.
    """
    lake = Lake.of(config.data)
    changed = changes(lake, ticker)
    if out is not None:
        _write(changed, out)
    if changed.empty:
        return Summary("lake revisions", ("no price was revised",), {"revised_bars": 0, "tickers": {}})
    counts = changed.groupby("ticker").size()
    lines = [f"{len(changed):,} bars revised: " + _counted({str(name): int(n) for name, n in counts.items()}), ""]
    lines += [_change(row) for row in _records(changed.head(limit))]
    lines += _rest(len(changed), limit, "bars", out)
    figures = {"revised_bars": len(changed), "tickers": {str(name): int(n) for name, n in counts.items()}}
    return Summary("lake revisions", tuple(lines), figures)


def quarantine(config: Config, table: str | None = None, limit: int = 20, out: Path | None = None) -> Summary:
    """The rows that could not be used, counted by source and reason, the newest with their text.

    Args:
        config: the configuration.
        table: only rows meant for this one: prices or news.
        limit: most rows to show.
        out: a CSV file for all of them.

    Raises:
        UsageError: no row is ever quarantined for such a table.
    """
    if table not in (None, "prices", "news"):
        raise UsageError(f"--table {table!r}: use prices or news")
    lake = Lake.of(config.data)
    rows = empty("quarantine")
    if lake.exists("quarantine"):
        rows = lake.read("quarantine", order_by="quarantined_at DESC, row_id")
    if table:
        rows = rows[rows["table"] == table]
    if out is not None:
        _write(rows, out)
    if rows.empty:
        return Summary("lake quarantine", ("no row is in quarantine",), {"rows": 0, "reasons": []})
    reasons = rows.groupby(["table", "source", "reason"]).size().rename("rows").sort_values(ascending=False)
    counts = _records(reasons.reset_index())
    lines = [f"{len(rows):,} rows in quarantine", ""]
    lines += [f"{each['rows']:>9,}  {each['table']}  {each['source']}  {each['reason']}" for each in counts[:limit]]
    lines += ["", *(_quoted(row) for row in _records(rows.head(limit)))]
    lines += _rest(len(rows), limit, "rows", out)
    return Summary("lake quarantine", tuple(lines), {"rows": len(rows), "reasons": counts})


def compact(config: Config, vacuum_days: int | None = None, progress: Progress = silent) -> Summary:
    """Merge small files; with `vacuum_days`, delete files that no version of the last so many days needs.

    Args:
        config: the configuration.
        vacuum_days: None keeps every version readable, also those that models recorded.
        progress: called as work goes on.
    """
    lake = Lake.of(config.data)
    there = [table for table in TABLES if lake.exists(table)]
    if not there:
        return Summary("lake compact", (f"the lake at {lake.root} is empty; run: tradewind ingest",), {"files": {}})
    found: dict[str, dict[str, int]] = {}
    for done, table in enumerate(there):
        progress("compacting", done, len(there))
        before, after = lake.tables.compact(table)
        deleted = 0 if vacuum_days is None else lake.tables.vacuum(table, vacuum_days)
        found[table] = {"before": before, "after": after, "deleted": deleted}
    progress("compacting", len(there), len(there))
    lines = [
        f"{table:<16}{each['before']:>6,} files -> {each['after']:,}"
        + (f", {each['deleted']:,} old files deleted" if vacuum_days is not None else "")
        for table, each in found.items()
    ]
    return Summary("lake compact", tuple(lines), {"files": found})


def changes(lake: Lake, ticker: str | None = None) -> pd.DataFrame:
    """Every bar that a vendor changed, newest change first.

    Returns:
        ticker, session, replaced_at, ingested_at (of the row that was replaced), and for each price figure its value
        before (`close`) and after (`close_after`) the change; no rows if nothing was revised.
    """
    if not lake.exists("price_revisions"):
        return pd.DataFrame(columns=["ticker", "session", "ingested_at", "replaced_at", *frames.PRICE_FIGURES])
    where = "TRUE" if ticker is None else f"ticker = {quoted(ticker)}"
    figures = ", ".join(frames.PRICE_FIGURES)
    after = ", ".join(f"lead({name}) OVER w AS {name}_after" for name in frames.PRICE_FIGURES)
    # A row was replaced by the next one seen, which may be a revision itself or the bar in force.
    return lake.tables.query(
        f"""
        WITH versions AS (
            SELECT ticker, session, ingested_at, replaced_at, {figures} FROM r WHERE {where}
            UNION ALL SELECT ticker, session, ingested_at, NULL AS replaced_at, {figures} FROM p
                WHERE {where} AND EXISTS (SELECT 1 FROM r WHERE r.ticker = p.ticker AND r.session = p.session)
        )
        SELECT * FROM (
            SELECT *, {after} FROM versions
            WINDOW w AS (PARTITION BY ticker, session ORDER BY replaced_at NULLS LAST)
        ) WHERE replaced_at IS NOT NULL ORDER BY replaced_at DESC, ticker, session
        """,
        p=lake.tables.open("prices"),
        r=lake.tables.open("price_revisions"),
    )


def _tickers(lake: Lake, universe: Universe) -> pd.DataFrame:
    """`Lake.coverage` with each ticker's calendar and the sessions it misses between its first and its last."""
    held = lake.coverage()
    held["calendar"] = [universe.calendar_of(ticker) for ticker in held["ticker"]]
    missing = pd.Series(0, index=held.index)
    for calendar, rows in held.groupby("calendar"):
        if calendar == NONE:
            continue
        try:
            sessions, _ = calendar_sessions(str(calendar), rows["first"].min(), rows["last"].max())
        except CalendarError as error:
            raise DataError(str(error)) from None
        wanted = sessions.searchsorted(rows["last"], side="right") - sessions.searchsorted(rows["first"])
        missing[rows.index] = wanted - rows["sessions"].to_numpy()
    return held.assign(missing=np.maximum(missing, 0))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict(orient="records")]


def _ticker(row: dict[str, Any]) -> str:
    span = f"{row['first']:%Y-%m-%d}  {row['last']:%Y-%m-%d}"
    return f"{row['ticker']:<12}{row['sessions']:>9,}  {span}{row['missing']:>10,}  {row['calendar']}"


def _change(row: dict[str, Any]) -> str:
    changed = [
        f"{name} {row[name]:.10g} -> {row[f'{name}_after']:.10g}"
        for name in frames.PRICE_FIGURES
        if row[name] != row[f"{name}_after"]
    ]
    return f"{row['replaced_at']:%Y-%m-%d %H:%M}Z  {row['ticker']}  {row['session']:%Y-%m-%d}  " + ", ".join(changed)


def _quoted(row: dict[str, str]) -> str:
    text = row["row"].encode("unicode_escape").decode() if not row["row"].isprintable() else row["row"]
    return f"{row['source']}: {row['reason']}: " + (text if len(text) <= 160 else text[:157] + "...")


def _counted(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name} x {n:,}" for name, n in list(counts.items())[:10])
    return shown + (f" and {len(counts) - 10} more" if len(counts) > 10 else "")


def _rest(total: int, limit: int, what: str, out: Path | None) -> list[str]:
    if out is not None:
        return ["", f"all {total:,} {what} written to {out}"]
    return ["", f"and {total - limit:,} {what} more; all of them: --out FILE.csv"] if total > limit else []


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"


def _write(rows: pd.DataFrame, out: Path) -> None:
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(partial, index=False)
        partial.replace(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
