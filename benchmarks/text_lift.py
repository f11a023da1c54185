"""What real text adds to the forecast of scale and of direction, out of sample, with intervals over blocks of sessions.

The data are named by their directory, never copied into the project: 20 US stocks with tweets that carry their time
(2014-2015), and 50 US stocks with 25 world headlines a day, known by date only and so for the next session at the
earliest (2008-2016). What is measured is `tradewind sentiment ablation`: the linear skip with and without the
sentiment features, on the same folds and cells. A claim holds where its interval lies above zero; that text adds
nothing is a finding too, so that no claim here is asked to hold.

    python benchmarks/text_lift.py DIRECTORY   default: shared/data beside the checkout; some minutes
    python benchmarks/text_lift.py --quick     the same code on the bundled sample, whose headlines are simulated
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

# benchmarks/features.py, beside this file, is called like the package and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from pipeline import ablation, featurize, ingest
from pipeline.config import Config
from pipeline.evidence.text_lift import RANK

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "text_lift.json"
SHARED = ROOT.parent / "shared" / "data"
PACKAGES = ("numpy", "scikit-learn", "arch", "textblob")
SEED_OF_ORDER = 1


def tweets(source: Path, root: Path, shuffled: bool = False) -> Config:
    """20 stocks; text is known from 2014 on, so that the first test half-year has as much to learn from.

    Only the first of equal texts of a ticker is kept. Blocks are 20 sessions, the longest horizon: there are too few
    sessions for longer ones.
    """
    rows = pd.read_parquet(source / "tweets20_tweets.parquet").sort_values("created_at")
    rows = rows.drop_duplicates(["ticker", "text"])[["ticker", "created_at", "text"]]
    if shuffled:
        rows = _shuffled(rows, "created_at")
    rows.rename(columns={"created_at": "published_at", "text": "title"}).to_parquet(root / "news.parquet")
    splits = {"min_train_sessions": 200, "validation_sessions": 120, "first_test": "2014-07-01"}
    return _config(source / "tweets20_prices.parquet", root, splits, {"block_sessions": 20}, until=None)


def headlines(source: Path, root: Path, shuffled: bool = False) -> Config:
    """50 stocks; the headlines are news of the market."""
    rows = pd.read_parquet(source / "djia_headlines.parquet", columns=["date", "headline"])
    if shuffled:
        rows = _shuffled(rows, "date")
    rows["date"] = rows["date"].dt.strftime("%Y-%m-%d")  # a date without a time: known at the next session
    rows.rename(columns={"date": "published_at", "headline": "title"}).to_parquet(root / "news.parquet")
    splits = {"min_train_sessions": 750, "validation_sessions": 250}
    return _config(source / "kdd17_prices.parquet", root, splits, {}, until="2016-07-01")


def sample(root: Path) -> Config:
    """The bundled prices and simulated headlines, cut short."""
    splits = {"min_train_sessions": 400, "validation_sessions": 120}
    data = {"provider": "sample", "lake": str(root / "lake"), "artifacts": str(root / "artifacts")}
    universe = {"tickers": ["AAPL", "IBM"], "since": "2009-01-02", "until": "2012-03-30", "min_sessions": 300}
    return Config.model_validate(
        {"data": data, "universe": universe, "splits": splits, "evidence": {"resamples": 200}, "target": HORIZONS}
    )


HORIZONS = {"horizons": [1, 5, 20]}


def _config(prices: Path, root: Path, splits: dict[str, Any], evidence: dict[str, Any], until: str | None) -> Config:
    data = {
        "provider": "files",
        "prices": [str(prices)],
        "news": [str(root / "news.parquet")],
        "lake": str(root / "lake"),
        "artifacts": str(root / "artifacts"),
    }
    universe = {"until": until, "min_sessions": 300}
    return Config.model_validate(
        {"data": data, "universe": universe, "splits": splits, "evidence": evidence, "target": HORIZONS}
    )


def _shuffled(rows: pd.DataFrame, time_of: str) -> pd.DataFrame:
    """The same texts at the same times of the same tickers, in an order that means nothing: all words, no message."""
    own = rows.copy()
    column = "text" if "text" in rows else "headline"
    own[column] = np.random.default_rng(SEED_OF_ORDER).permutation(own[column].to_numpy())
    return own.sort_values(time_of)


def measure(config: Config) -> dict[str, Any]:
    """Ingest, featurize, and the ablation, timed by itself."""
    ingest.run(config)
    featurize.run(config)
    start = time.perf_counter()
    return ablation.measure(config) | {"seconds": time.perf_counter() - start}


def cpu() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def claims(name: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each part, over all horizons, and one for each measure and horizon."""

    def row(claim: str, lift: dict[str, Any], unit: str) -> dict[str, Any]:
        figure = lift["value"] if "value" in lift else lift["gain_percent"]
        return {
            "claim": f"{name}: {claim}",
            "figure": round(figure, 4),
            "unit": unit,
            "floor": 0,
            "holds": lift["low"] > 0 and "too few" not in lift["verdict"],
            "interval": [round(lift["low"], 4), round(lift["high"], 4)],
            "blocks": lift["blocks"],
            "verdict": lift["verdict"],
            "versions": {name: version(name) for name in PACKAGES},
            "cpu": cpu(),
        }

    rows = [row(f"text improves the forecast of {part}", found[part], "%") for part in ("scale", "direction")]
    for each in found["rows"]:
        unit = "correlation" if each["measure"] == RANK else "%"
        rows.append(row(f"{each['part']}, {each['measure']}, h={each['horizon']}", each, unit))
    return rows


def main() -> None:
    """Measure, print every table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=SHARED, help="where the Parquet files lie")
    parser.add_argument("--quick", action="store_true", help="on the bundled sample, to see that it runs")
    options = parser.parse_args()
    if not options.quick and not (options.directory / "tweets20_tweets.parquet").is_file():
        parser.error(f"no tweets20_tweets.parquet in {options.directory}; name the directory of the data, or --quick")
    cases = {
        "20 stocks, tweets": lambda root: tweets(options.directory, root),
        "20 stocks, the same tweets shuffled": lambda root: tweets(options.directory, root, shuffled=True),
        "50 stocks, world headlines": lambda root: headlines(options.directory, root),
        "50 stocks, the same headlines shuffled": lambda root: headlines(options.directory, root, shuffled=True),
    }
    rows = []
    for name, config_of in ({"sample": sample} if options.quick else cases).items():
        with tempfile.TemporaryDirectory() as root:
            found = measure(config_of(Path(root)))
        print(f"{name} (ablation: {found['seconds']:.0f} s; a gain's floor is 0)")
        print("\n".join(ablation.table(found)), end="\n\n", flush=True)
        rows += claims(name, found) if found["rows"] else []
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
