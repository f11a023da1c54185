"""Features of 500 tickers x 2,514 sessions from the lake's rows, against pandas, from headlines, and a day later.

Every price feature of features/table.py is computed from a lake on disk, in a process of its own whose largest memory
is read at its end. On a cut of 50 tickers the fast path and benchmarks/reference.py (groupby-apply) take turns, each
from the lake's rows, and must agree. The last part adds one more session to a lake that has features and lets
`tradewind features` run again, beside a run on a lake without any.

    python benchmarks/features.py            the claims, about four minutes
    python benchmarks/features.py --quick    the same code on few tickers and headlines, no floor judged
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

# This file is called like the package that it measures, and would be found in its place.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from benchmarks.lake import cpu, market, seconds
from benchmarks.reference import price_features
from benchmarks.sentiment import texts
from features import calendars, frames, sentiment, table
from features.bars import Bars
from features.panel import Panel
from features.prices import FAMILIES
from pipeline import featurize
from pipeline.config import Config, Data
from pipeline.feature_years import COLUMNS
from pipeline.labelled import scorer_in_use
from pipeline.store import Lake, empty

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "features.json"
PACKAGES = ("numpy", "pandas", "deltalake", "textblob")
MEASURE = "--measure"


class Size(NamedTuple):
    """How much is computed; `cut` tickers go through pandas as well."""

    tickers: int
    sessions: int
    cut: int
    headlines: int
    rounds: int


FULL, QUICK = Size(500, 2514, 50, 100_000, 5), Size(8, 760, 4, 300, 1)


def from_lake(lake: Lake) -> tuple[Panel, dict[str, float]]:
    """The panel of all price features, and the seconds of its parts."""
    marks = [time.perf_counter()]
    rows = lake.prices(wanted=COLUMNS)
    marks.append(time.perf_counter())
    sessions, closes = calendars.axis("XNYS", rows["session"])
    bars = Bars.from_rows(rows, sessions)
    marks.append(time.perf_counter())
    panel = table.build(bars, table.News(empty("news"), closes, 0, 0.1), tuple(FAMILIES))
    marks.append(time.perf_counter())
    names = ("reading the lake", "rows to arrays", "features and panel")
    parts = dict(zip(names, np.diff(marks).tolist(), strict=True))
    return panel, {"lake to panel": marks[-1] - marks[0], **parts}


def measured(root: Path) -> dict[str, float]:
    """`from_lake` in a process of its own: seconds, and its largest memory in GB."""
    command = [sys.executable, __file__, MEASURE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def against_pandas(lake: Lake, rounds: int) -> dict[str, list[float]]:
    """Seconds of both paths from the lake's rows, in turns, after one round that does not count.

    Raises:
        AssertionError: a feature differs beyond the panel's single precision.
    """
    found: dict[str, list[float]] = {"fast path": [], "pandas groupby-apply": []}
    for n in range(rounds + 1):
        kept: list[Any] = []
        fast = seconds(lambda into=kept: into.append(from_lake(lake)[0]))
        slow = seconds(lambda into=kept: into.append(with_pandas(lake)))
        if n:
            found["fast path"].append(fast)
            found["pandas groupby-apply"].append(slow)
        else:
            agree(*kept)
    return found


def with_pandas(lake: Lake) -> pd.DataFrame:
    rows = lake.prices(wanted=COLUMNS)
    return price_features(rows, calendars.axis("XNYS", rows["session"])[0])


def agree(panel: Panel, frame: pd.DataFrame) -> None:
    """Both paths hold the same features, and the same values."""
    n, t = (panel_axis.get_indexer(frame.index.get_level_values(level)) for level, panel_axis in _axes(panel))
    names = [name for name in panel.feature_names if name != table.OBSERVED]
    assert sorted(names) == sorted(frame.columns.drop("vol")), set(names) ^ set(frame.columns.drop("vol"))
    for name in names:
        fast = panel.x[n, t, panel.feature_names.index(name)]
        np.testing.assert_allclose(fast, frame[name].to_numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


def _axes(panel: Panel) -> tuple[tuple[str, pd.Index], tuple[str, pd.Index]]:
    return ("ticker", pd.Index(panel.tickers)), ("session", pd.Index(panel.sessions.astype("datetime64[us]")))


def headlines(number: int, tickers: list[str], closes: pd.DatetimeIndex) -> pd.DataFrame:
    """Different headlines as rows of the `news` table, spread over tickers and time."""
    generator = np.random.default_rng(0)
    pool = [text for name, source in texts().items() if name.endswith("headlines") for text in source]
    owner = generator.choice(tickers, number)
    first, last = closes[0], closes[-1]
    known = first + (last - first) * generator.random(number)
    rows = empty("news").reindex(range(number))
    rows["news_id"] = [f"{n:06d}" for n in range(number)]
    rows["ticker"] = owner
    rows["title"] = [f"{owner[n]}: {pool[n % len(pool)]} ({n // len(pool)})" for n in range(number)]
    rows[["source", "summary", "url"]] = ["simulated", "", ""]
    for name in ("published_at", "known_at", "ingested_at"):
        rows[name] = known
    return rows.astype(frames.COLUMNS["news"])


def from_headlines(lake: Lake, number: int, rounds: int, artifacts: Path) -> dict[str, list[float]]:
    """Seconds from headlines to the panel of session features by the default scorer, the classifier trained on the
    shipped labels, from no remembered word; and of its training, which a process does once."""
    rows = lake.prices()
    sessions, closes = calendars.axis("XNYS", rows["session"])
    bars = Bars.from_rows(rows, sessions)
    start = time.perf_counter()
    scorer = scorer_in_use(Config(data=Data(artifacts=artifacts)))
    training = time.perf_counter() - start
    news = table.News(headlines(number, bars.tickers.tolist(), closes), closes, 0, 0.1, scorer)
    took = []
    for _ in range(rounds):
        sentiment._MEMO.clear()
        took.append(seconds(lambda: table.build(bars, news, ("sentiment",))))
    return {"headlines to session features": took, "training the text classifier": [training]}


def one_more_day(rows: pd.DataFrame, rounds: int, root: Path) -> dict[str, list[float]]:
    """Seconds of `featurize` after one more session, and on a lake of the same bars without features.

    Raises:
        AssertionError: the tables differ in any bit.
    """
    last = rows["session"].max()
    found: dict[str, list[float]] = {"one more day": [], "from nothing": []}
    for n in range(rounds):
        grown, whole = (
            Config(data=Data(provider="files", lake=root / f"{name}{n}", artifacts=root / "artifacts"))
            for name in ("grown", "whole")
        )
        Lake.of(grown.data).upsert_prices(rows[rows["session"] < last])
        featurize.run(grown)
        Lake.of(grown.data).upsert_prices(rows[rows["session"] == last])
        Lake.of(whole.data).upsert_prices(rows)
        found["one more day"].append(seconds(lambda grown=grown: featurize.run(grown)))
        found["from nothing"].append(seconds(lambda whole=whole: featurize.run(whole)))
        for name, order in {"features": "ticker, session", "targets": "ticker, session, horizon"}.items():
            tables = [Lake.of(each.data).read(name, order_by=order) for each in (grown, whole)]
            pd.testing.assert_frame_equal(*tables, check_exact=True)
        for each in (grown, whole):
            shutil.rmtree(each.data.lake)
    return found


def measure(size: Size, root: Path) -> dict[str, list[float]]:
    """Every figure, round by round; seconds but for the memory."""
    rows = market(size.tickers, size.sessions)
    lake, cut = Lake(root / "lake"), Lake(root / "cut")
    lake.upsert_prices(rows)
    cut.upsert_prices(rows[rows["ticker"].isin(rows["ticker"].unique()[: size.cut])])
    runs = [measured(root / "lake") for _ in range(size.rounds)]
    took = {name: [run[name] for run in runs] for name in runs[0]}
    took |= against_pandas(cut, size.rounds)
    took |= from_headlines(lake, size.headlines, size.rounds, root / "artifacts")
    return took | one_more_day(rows, min(size.rounds, 2), root)


def claims(took: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Medians over the rounds, with their range, against the floors; a ratio is taken within its round."""

    def row(claim: str, figures: list[float], unit: str, floor: float) -> dict[str, Any]:
        figure = statistics.median(figures)
        return {
            "claim": claim,
            "figure": round(figure, 3),
            "unit": unit,
            "floor": floor,
            "holds": figure >= floor if unit == "x" else figure <= floor,
            "interval": [round(min(figures), 3), round(max(figures), 3)],
            "versions": {name: version(name) for name in PACKAGES},
            "cpu": cpu(),
        }

    def ratio(top: str, bottom: str) -> list[float]:
        return [a / b for a, b in zip(took[top], took[bottom], strict=True)]

    return [
        row("500 tickers x 2,514 sessions, lake to panel", took["lake to panel"], "s", 15),
        row("the same, largest memory of the process", took["largest memory, GB"], "GB", 3),
        row("faster than pandas groupby-apply, 50 tickers", ratio("pandas groupby-apply", "fast path"), "x", 15),
        row("100,000 headlines to session features", took["headlines to session features"], "s", 10),
        row("one more day against a run from nothing", ratio("from nothing", "one more day"), "x", 4),
    ]


def main() -> None:
    """Measure, print a table, write the results of a full run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few tickers and headlines, to see that it runs")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument(MEASURE, type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        _, parts = from_lake(Lake(options.measure))
        parts["largest memory, GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps(parts))
        return
    size = QUICK if options.quick else FULL
    size = size._replace(rounds=options.rounds or size.rounds)
    with tempfile.TemporaryDirectory() as root:
        took = measure(size, Path(root))
    price_names = [name for family in FAMILIES for name in table.FEATURES[family]]
    print(f"{size.tickers} tickers x {size.sessions:,} sessions x {len(price_names)} price features\n")
    for name, values in took.items():
        print(f"{name:<36}{statistics.median(values):8.3f}     [{min(values):.3f}, {max(values):.3f}]")
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
