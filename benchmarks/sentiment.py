"""Headlines a second: TextBlob's scores by the memoised path against `TextBlob(text).sentiment`, which it equals.

The texts are the real ones of shared/data beside the checkout where they are, else the bundled headlines. A round
takes a sample of each source and lets every measure score it in turn, so that a busy moment hits all of them alike.
Two states are told apart: "kept words" scores headlines that were not seen before, with the memory of words that the
other half of the source left, as in a daily run; "empty memory" starts from nothing.

    python benchmarks/sentiment.py            the claims, about two minutes
    python benchmarks/sentiment.py --quick    the same code on few headlines, no floor judged
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
from textblob import TextBlob

from features import sentiment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "sentiment.json"
SHARED = ROOT.parent / "shared" / "data"
BUNDLED = ROOT / "data" / "labels" / "headlines.csv"
SOURCES = {
    "labelled headlines": ("semeval2017_t5_headlines", "headline"),
    "timed headlines": ("cnbc_headlines_timed", "headline"),
    "world headlines": ("djia_headlines", "headline"),
    "tweets": ("tweets20_tweets", "text"),
}
PACKAGES = ("textblob", "numpy")


def texts() -> dict[str, list[str]]:
    """Different texts of each source."""
    if not SHARED.is_dir():
        return {"bundled headlines": pd.read_csv(BUNDLED)["text"].tolist()}
    return {
        name: pd.read_parquet(SHARED / f"{file}.parquet", columns=[column])[column]
        .dropna()
        .astype(str)
        .unique()
        .tolist()
        for name, (file, column) in SOURCES.items()
    }


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


def measure(source: list[str], most: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds a headline of each measure, round by round, after one round that does not count.

    Raises:
        AssertionError: a score differs from TextBlob's in any bit.
    """
    found: dict[str, list[float]] = {}
    for n in range(rounds + 1):
        order = np.random.default_rng(n).permutation(len(source))
        asked = [source[at] for at in order[: min(most, len(source) // 2)]]
        others = [source[at] for at in order[len(source) // 2 :]]
        exact: list[tuple[float, float]] = []
        timed = {"TextBlob": seconds(lambda asked=asked, into=exact: into.extend(TextBlob(t).sentiment for t in asked))}
        sentiment._MEMO.clear()
        timed["empty memory"] = seconds(lambda asked=asked: sentiment.polarities(asked))
        sentiment._MEMO.clear()
        sentiment.polarities(others)
        timed["kept words"] = seconds(lambda asked=asked: sentiment.polarities(asked))
        assert sentiment.polarities(asked).tobytes() == np.array(exact).tobytes(), "differs from TextBlob"
        if n:
            for name, took in timed.items():
                found.setdefault(name, []).append(took / len(asked) * 1e6)
    return found


def claims(took: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Ratios of one round, their median over rounds and sources, and the range of the rounds."""

    def row(claim: str, figures: list[float], floor: float) -> dict[str, Any]:
        figure = statistics.median(figures)
        return {
            "claim": claim,
            "figure": round(figure, 3),
            "unit": "x",
            "floor": floor,
            "holds": figure >= floor,
            "interval": [round(min(figures), 3), round(max(figures), 3)],
            "versions": {name: version(name) for name in PACKAGES},
            "cpu": cpu(),
        }

    def ratios(sources: list[str], state: str) -> list[float]:
        """Of each round, the headlines of all sources counting alike."""
        top = np.mean([took[name]["TextBlob"] for name in sources], axis=0)
        return (top / np.mean([took[name][state] for name in sources], axis=0)).tolist()

    headlines = [name for name in took if name.endswith(" headlines")]
    rows = [row("headlines a second against TextBlob, kept words", ratios(headlines, "kept words"), 15)]
    rows.append(row("the same, from an empty memory", ratios(headlines, "empty memory"), 8))
    if "tweets" in took:
        rows.append(row("tweets a second against TextBlob, kept words", ratios(["tweets"], "kept words"), 10))
    return rows


def main() -> None:
    """Measure, print a table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few headlines, to see that it runs")
    parser.add_argument("--rounds", type=int, default=None)
    options = parser.parse_args()
    sources = texts()
    most, rounds = (100, 1) if options.quick else (5000, options.rounds or 5)
    took = {name: measure(source[:400] if options.quick else source, most, rounds) for name, source in sources.items()}
    for name, timed in took.items():
        print(f"{name}, {len(sources[name]):,} different texts")
        for state, values in timed.items():
            median = statistics.median(values)
            spread = f"range {min(values):.2f}-{max(values):.2f}"
            print(f"  {state:<14}{median:9.2f} us a text {1e6 / median:12,.0f} a second   {spread}")
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
