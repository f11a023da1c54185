"""The lake at 500 tickers x 2,514 sessions: a day's upsert against the full write, reads, and as-of reads.

Every figure is a median over rounds that alternate the measures, so that a busy moment hits all of them alike.

    python benchmarks/lake.py            the claims, about two minutes
    python benchmarks/lake.py --quick    the same code on 20 x 260, no floor judged
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import exchange_calendars
import numpy as np
import pandas as pd

from features import frames
from pipeline.store import Lake

RESULTS = Path(__file__).resolve().parent / "results" / "lake.json"
SEEN = pd.Timestamp("2026-01-02T12:00Z")
PACKAGES = ("deltalake", "pyarrow", "pandas", "numpy")


def market(tickers: int, sessions: int) -> pd.DataFrame:
    """Random walks on XNYS sessions as rows of the `prices` table, sorted by ticker and session."""
    days = exchange_calendars.get_calendar("XNYS", start="2010-01-04", end="2025-12-31").sessions[:sessions]
    generator = np.random.default_rng(0)
    close = 50 * np.exp(np.cumsum(generator.normal(0, 0.015, (tickers, sessions)), axis=1)).ravel()
    open_ = close * np.exp(generator.normal(0, 0.004, close.size))
    rows = pd.DataFrame(
        {
            "ticker": np.repeat([f"T{n:04d}" for n in range(tickers)], sessions),
            "session": np.tile(days.to_numpy(), tickers).astype("datetime64[us]"),
            "open": open_,
            "high": np.maximum(open_, close) * 1.003,
            "low": np.minimum(open_, close) * 0.997,
            "close": close,
            "adj_close": close,
            "volume": np.round(np.exp(generator.normal(14, 0.5, close.size))),
            "dividend": 0.0,
            "split": 1.0,
            "source": "simulated",
        }
    )
    rows["known_at"] = (rows["session"] + pd.Timedelta(hours=21)).dt.tz_localize("UTC").astype(frames.INSTANT)
    rows["ingested_at"] = SEEN
    return rows.astype(frames.COLUMNS["prices"])


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def measure(rows: pd.DataFrame, rounds: int, root: Path) -> dict[str, list[float]]:
    """Seconds of each measure, round by round, after one round that does not count.

    A round makes a new lake, so that every one meets the same files; the day is added, then sent again with a
    tenth of its bars revised (a merge) and a last time unchanged (nothing to write).
    """
    last = rows["session"].max()
    history, day = rows[rows["session"] < last], rows[rows["session"] == last]
    revised = day.assign(ingested_at=SEEN + pd.Timedelta(days=1))
    revised.loc[revised.index[::10], "volume"] += 1
    at = pd.Timestamp(rows["session"].iloc[-2], tz="UTC") + pd.Timedelta(hours=22)
    found: dict[str, list[float]] = {}
    for n in range(rounds + 1):
        lake = Lake(root / str(n))
        timed = {
            "full write": seconds(lambda lake=lake: lake.upsert_prices(history)),
            "one-day upsert": seconds(lambda lake=lake: lake.upsert_prices(day)),
            "one-day upsert, a tenth revised": seconds(lambda lake=lake: lake.upsert_prices(revised)),
            "one-day upsert, nothing new": seconds(lambda lake=lake: lake.upsert_prices(revised)),
            "full read": seconds(lake.prices),
            "as-of read": seconds(lambda lake=lake: lake.prices(at)),
        }
        if n:
            for name, took in timed.items():
                found.setdefault(name, []).append(took)
        shutil.rmtree(root / str(n))
    return found


def measure_daily(rows: pd.DataFrame, days: int, root: Path) -> dict[str, list[float]]:
    """Seconds of reading a lake that grew day by day, each day its own run, beside one written at once.

    A tenth of the last day's bars is revised every day, so that the as-of read has revisions to weigh.
    """
    sessions = np.sort(rows["session"].unique())
    grown, whole = Lake(root / "grown"), Lake(root / "whole")
    whole.upsert_prices(rows)
    grown.upsert_prices(rows[rows["session"] < sessions[-days]])
    upserts = []
    for n, (_, day) in enumerate(rows[rows["session"] >= sessions[-days]].groupby("session")):
        upserts.append(seconds(lambda day=day: (grown.upsert_prices(day), grown.tidy())))
        changed = day.iloc[::10].assign(volume=day["volume"] + 1, ingested_at=SEEN + pd.Timedelta(days=n))
        grown.upsert_prices(changed.astype(frames.COLUMNS["prices"]))
    at = SEEN + pd.Timedelta(days=days // 2)
    found: dict[str, list[float]] = {"a day's run within a year of them": upserts}
    for _ in range(5):
        for name, read in {
            "full read, written at once": whole.prices,
            "full read, grown day by day": grown.prices,
            "as-of read, grown, revised": lambda: grown.prices(at),
        }.items():
            found.setdefault(name, []).append(seconds(read))
    return found


def claims(took: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Ratios of one round, their median and their range, against the floors."""

    def row(claim: str, figures: list[float], unit: str, floor: float, at_least: bool) -> dict[str, Any]:
        figure = statistics.median(figures)
        return {
            "claim": claim,
            "figure": round(figure, 3),
            "unit": unit,
            "floor": floor,
            "holds": figure >= floor if at_least else figure <= floor,
            "interval": [round(min(figures), 3), round(max(figures), 3)],
            "versions": {name: version(name) for name in PACKAGES},
            "cpu": cpu(),
        }

    def ratio(top: str, bottom: str) -> list[float]:
        return [a / b for a, b in zip(took[top], took[bottom], strict=True)]

    return [
        row("one-day upsert cheaper than the full write", ratio("full write", "one-day upsert"), "x", 4, True),
        row(
            "the same, a tenth of the day revised",
            ratio("full write", "one-day upsert, a tenth revised"),
            "x",
            4,
            True,
        ),
        row("full read", took["full read"], "s", 1, False),
        row("as-of read against a plain read", ratio("as-of read", "full read"), "x", 2, False),
        row(
            "read after a year of daily runs against one write",
            ratio("full read, grown day by day", "full read, written at once"),
            "x",
            2,
            False,
        ),
        row(
            "as-of read of it, revised, against a plain read",
            ratio("as-of read, grown, revised", "full read, grown day by day"),
            "x",
            2,
            False,
        ),
    ]


def main() -> None:
    """Measure, print a table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small lake, to see that it runs")
    parser.add_argument("--rounds", type=int, default=None)
    options = parser.parse_args()
    rows = market(20, 260) if options.quick else market(500, 2514)
    with tempfile.TemporaryDirectory() as root:
        took = measure(rows, options.rounds or (1 if options.quick else 5), Path(root))
        took |= measure_daily(rows, 5 if options.quick else 250, Path(root))
    print(f"{len(rows):,} rows, {rows['ticker'].nunique()} tickers x {rows['session'].nunique():,} sessions\n")
    for name, values in took.items():
        print(f"{name:<36}{statistics.median(values):8.3f} s   [{min(values):.3f}, {max(values):.3f}]")
    print()
    found = claims(took)
    for each in found:
        verdict = "" if options.quick else ("holds" if each["holds"] else "FAILS")
        print(f"{each['claim']:<52}{each['figure']:8.2f} {each['unit']:<3} floor {each['floor']:<4} {verdict}")
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
