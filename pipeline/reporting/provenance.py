"""How the report was made: folds, tables, tickers, choices, configuration; and the latest headlines."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from features.sentiment import NEGATIVE, NEUTRAL, POSITIVE, score
from pipeline import universe
from pipeline.config import Config
from pipeline.config_text import starter
from pipeline.reporting.formats import UNKNOWN, Table, listed, model_label, number, sessions
from pipeline.reporting.inputs import Inputs

_CLASSES = {POSITIVE: "positive", NEUTRAL: "neutral", NEGATIVE: "negative"}
_PACKAGES = ("numpy", "pandas", "torch", "scikit-learn", "onnxruntime", "deltalake", "matplotlib")


def facts(inputs: Inputs) -> list[tuple[str, str]]:
    """(what, value) pairs of the run."""
    training, config = inputs.training, inputs.config
    horizons = training["horizons"]
    lead = training.get("decision_lead_minutes", 0)
    scale, student = config.models.scale, config.models.student
    return [
        ("Run", str(training["run_id"])),
        ("Trained at", str(training["created_at"])),
        ("Data", str(training["data_label"])),
        ("Tickers", listed([str(t) for t in training["tickers"]])),
        ("Universe", universe.sentence(inputs.universe)),
        (
            "Decided",
            f"at the {_calendars(training)} close" + (f" less {lead} minutes" if lead else ""),
        ),
        (
            "Forecast",
            f"log return, {str(training.get('target_interval', UNKNOWN)).replace('_', ' ')}, over "
            f"{listed([str(h) for h in horizons])} sessions",
        ),
        ("Folds", f"{len(training['folds'])} test years, each model trained on earlier sessions only"),
        (
            "Purge and embargo",
            f"{training.get('purge', max(horizons) + 1)} + "
            f"{training.get('embargo', config.splits.embargo)} sessions dropped before each test year",
        ),
        ("Left aside", " ".join(training["exclusions"]["sentences"]) or "nothing"),
        ("Features", f"{len(training['features'])}: " + ", ".join(training["features"])),
        (
            "Chosen",
            f"{model_label(training['chosen'])}; {training['status']}; ships {model_label(inputs.model)}",
        ),
        (
            "Choices",
            f"{len(scale.alphas)} ridge penalties and {len(student.body_weights)} body weights, tried on the "
            f"last {sessions(config.splits.validation_sessions)} before each test year, never on it",
        ),
        ("Seed", str(training.get("seed", config.models.seed))),
        ("Table versions", ", ".join(f"{k} {v}" for k, v in sorted(training["tables"].items())) or "none"),
        ("Bundle", str(inputs.equality.get("bundle_version") or "not published")),
        ("Programs", f"Python {platform.python_version()}, " + ", ".join(f"{p} {v}" for p, v in _versions())),
    ]


def folds_table(inputs: Inputs) -> Table | None:
    """The walk-forward folds with their dates."""
    rows = []
    for name, fold in inputs.folds.items():
        if fold:
            rows.append(
                (
                    name,
                    _span(fold, "train"),
                    _span(fold, "test"),
                    number(fold.get("alpha"), 0),
                    number(fold.get("body_weight"), 2),
                )
            )
    head = ("Fold", "Trained on", "Tested on", "Ridge penalty", "Body weight")
    return Table("Walk-forward folds.", head, tuple(rows), left=3) if rows else None


def left_out_table(inputs: Inputs) -> Table | None:
    """Tickers that could not be used."""
    rows = tuple((str(row["ticker"]), str(row["reason"])) for row in inputs.training["left_out"])
    return Table("Tickers left out.", ("Ticker", "Reason"), rows, left=2) if rows else None


def headlines_table(inputs: Inputs) -> Table | None:
    """The latest headlines with the class the features see."""
    news = inputs.headlines
    if news.empty:
        return None
    labels = score(news["title"].tolist(), inputs.config.sentiment.threshold).label
    columns = (news[name] for name in ("known_at", "ticker", "title", "source"))
    rows = tuple(
        (f"{known_at:%Y-%m-%d %H:%M}", str(ticker), str(title), str(source), _CLASSES[int(label)])
        for known_at, ticker, title, source, label in zip(*columns, labels, strict=True)
    )
    caption = "Latest headlines, newest first; times in UTC, when publicly known."
    return Table(caption, ("Known at", "Ticker", "Headline", "Source", "Class"), rows, left=5)


def configuration(config: Config) -> str:
    """The configuration in force as TOML, without what belongs to this machine: directories, keys, the flow server."""

    def bare(path: str) -> str:
        return Path(path).name

    # The address of a feed may hold a key: what comes after its path stays here.
    feeds = tuple(feed.model_copy(update={"url": _without_keys(feed.url)}) for feed in config.data.rss.feeds)
    data = config.data.model_copy(
        update={
            "rss": config.data.rss.model_copy(update={"feeds": feeds}),
            "lake": bare(config.data.lake),
            "storage_options": {},
            "artifacts": Path(bare(str(config.data.artifacts))),
            "prices": tuple(bare(p) for p in config.data.prices),
            "news": tuple(bare(p) for p in config.data.news),
        }
    )
    members = config.universe.members
    named = config.universe.model_copy(update={"members": None if members is None else Path(members.name)})
    whole = starter(config.model_copy(update={"data": data, "universe": named}))
    return whole.partition("\n[flows]\n")[0] + "\n"


def _without_keys(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", ""))


def _calendars(training: dict[str, Any]) -> str:
    return ", ".join(training.get("calendars") or [str(training.get("calendar", UNKNOWN))])


def _span(fold: dict[str, Any], which: str) -> str:
    first, last = fold.get(f"{which}_first"), fold.get(f"{which}_last")
    return f"{first} to {last}" if first and last else UNKNOWN


def _versions() -> list[tuple[str, str]]:
    found = []
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found
