"""Files of labelled texts, and the text classifier that is used unless another was trained.

A label file is CSV, JSONL or Parquet with a text (`text`, `headline` or `title`) and either a `label` (negative,
neutral, positive) or a `score` (also `sentiment`) from -1 to 1, where -0.1 to 0.1 is neutral. An optional `story`
or `group` names rows that belong together and must not be split between training and judging.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from features.classifier import CLASSES, Classifier, train
from features.classifier_bytes import ClassifierFileError, dumps, loads
from features.news import NAMES
from features.tone import Scorer
from pipeline.config import Config
from pipeline.errors import DataError, UsageError

NEUTRAL_BAND: Final = 0.1
TEXTS: Final = ("text", "headline", "title")
LABELS: Final = ("label",)
SCORES: Final = ("score", "sentiment")
GROUPS: Final = ("story", "group")
FILE: Final = "classifier.npz"
_PACKAGE: Final = Path(__file__).resolve().parent
PLACES: Final = (_PACKAGE / "labels" / "headlines.csv", _PACKAGE.parent / "data" / "labels" / "headlines.csv")
"""Where the bundled labels lie: in an installed wheel, in a source checkout."""


@dataclass(frozen=True)
class Labelled:
    """Labelled texts.

    Attributes:
        name: the file's name.
        texts, labels: n texts and n of CLASSES.
        groups: n names of what belongs together, or None.
        rejected: "row N: reason: its text" of every row that cannot be used; rows are counted from 1.
        sha256: of the file.
    """

    name: str
    texts: list[str]
    labels: list[str]
    groups: list[str] | None
    rejected: tuple[str, ...]
    sha256: str


def read_labels(path: Path) -> Labelled:
    """Read a label file; a row that cannot be used is set aside with its reason.

    Raises:
        UsageError: no such file, or of another kind.
        DataError: it cannot be parsed, a column is missing, or no row can be used.
    """
    rows, digest = _rows(path)
    text = _column(rows, TEXTS)
    label, score, group = _column(rows, LABELS), _column(rows, SCORES), _column(rows, GROUPS)
    if text is None or (label is None and score is None):
        raise DataError(
            f"{path} has the columns {', '.join(map(str, rows.columns))}; needed are {' or '.join(TEXTS)}, and "
            f"{' or '.join((*LABELS, *SCORES))}"
        )
    said = rows[label].astype("str").str.strip().str.lower() if label is not None else _by_sign(rows[score])
    texts = rows[text].where(rows[text].notna(), "").astype("str")
    reason = pd.Series("", index=rows.index)
    wrong = "label is not " + ", ".join(CLASSES) if label is not None else "score is not a number from -1 to 1"
    reason[~said.isin(CLASSES)] = wrong
    reason[texts.str.strip() == ""] = "no text"
    bad = reason != ""
    if bad.all():
        raise DataError(
            f"{path} has no usable row among {len(rows)}" + (f"; the first: {reason.iloc[0]}" if len(rows) else "")
        )
    rejected = tuple(
        f"row {n + 1}: {reason.iloc[n]}: " + " | ".join(map(str, rows.iloc[n]))[:120] for n in np.flatnonzero(bad)
    )
    good = ~bad
    groups = rows.loc[good, group].astype("str").tolist() if group is not None else None
    return Labelled(path.name, texts[good].tolist(), said[good].tolist(), groups, rejected, digest)


def bundled() -> Labelled:
    """The hand-written headlines that come with Tradewind.

    Raises:
        DataError: they are not there.
    """
    for place in PLACES:
        if place.is_file():
            return read_labels(place)
    raise DataError(f"the labels are not there, neither {PLACES[0]} nor {PLACES[1]}; reinstall tradewind")


def write_classifier(classifier: Classifier, directory: Path) -> Path:
    """Write it as `classifier.npz`, whole or not at all; returns the file.

    Raises:
        UsageError: the directory cannot be written.
    """
    target = directory / FILE
    partial = directory / f".{FILE}.partial"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(dumps(classifier))
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None
    return target


def read_classifier(directory: Path) -> Classifier:
    """The classifier that `write_classifier` left there.

    Raises:
        DataError: there is none, or it cannot be used.
    """
    source = directory / FILE
    try:
        return loads(source.read_bytes())
    except FileNotFoundError:
        raise DataError(f"no text classifier at {source}; make one with: tradewind sentiment train") from None
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from None
    except ClassifierFileError as error:
        raise DataError(f"{source}: {error}, with: tradewind sentiment train") from None


def classifier_in_use(artifacts: Path) -> Classifier:
    """The classifier of `artifacts/sentiment`; where there is none, one is trained from the bundled labels and kept.

    Raises:
        DataError: the one that is there cannot be used.
    """
    directory = artifacts / "sentiment"
    if not (directory / FILE).exists():
        write_classifier(_trained_on_bundled(), directory)
    return read_classifier(directory)


def scorer_in_use(config: Config) -> Scorer:
    """What gives headlines their class by `sentiment.scorer`: the classifier in use, or the name of a lexicon.

    Nothing is trained or read if no feature comes from headlines.

    Raises:
        DataError: as `classifier_in_use`.
    """
    if config.sentiment.scorer != "trained":
        return config.sentiment.scorer
    chosen = config.features.chosen
    if not (any(name in chosen for name in NAMES) if chosen else "sentiment" in config.features.families):
        return "textblob"
    return classifier_in_use(config.data.artifacts)


def scorer_bytes(scorer: Scorer) -> bytes:
    """The same for the same scorer only: a classifier as its file holds it, a lexicon's name."""
    return dumps(scorer) if isinstance(scorer, Classifier) else scorer.encode()


@lru_cache(maxsize=1)
def _trained_on_bundled() -> Classifier:
    """Takes seconds, and gives the same bytes every time."""
    labels = bundled()
    return train(labels.texts, labels.labels, source=labels.name, groups=labels.groups)


def _rows(path: Path) -> tuple[pd.DataFrame, str]:
    suffix = path.suffix.lower()
    try:
        content = path.read_bytes()
        if suffix == ".csv":
            rows = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
        elif suffix in (".jsonl", ".ndjson"):
            rows = pd.read_json(path, lines=True, dtype=False, encoding="utf-8")
        elif suffix in (".parquet", ".pq"):
            rows = pd.read_parquet(path)
        else:
            raise UsageError(f"{path}: use a .csv, .jsonl or .parquet file")
    except FileNotFoundError:
        raise UsageError(f"no label file at {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # pandas' and pyarrow's parsing errors, and bytes that are no UTF-8
        raise DataError(f"{path} cannot be parsed: {error}") from None
    return rows.reset_index(drop=True), hashlib.sha256(content).hexdigest()


def _column(rows: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    there = {str(name).strip().lower(): str(name) for name in rows.columns}
    return next((there[name] for name in names if name in there), None)


def _by_sign(score: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(score, errors="coerce").astype("float64")
    said = pd.Series("neutral", index=numbers.index)
    said[numbers > NEUTRAL_BAND] = "positive"
    said[numbers < -NEUTRAL_BAND] = "negative"
    return said.where(numbers.between(-1, 1), "")
