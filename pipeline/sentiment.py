"""Train a text classifier, and show what each text scorer is worth on labelled texts.

Behind `tradewind sentiment train | card`. Every scorer gets the same rows, the same resamples and a line that says
what its figure may be called: out of fold in its own domain, transfer to a foreign one, or a lexicon's, which has
learned from neither.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features import lexicon, sentiment
from features.classifier import CLASSES, Classifier, Kind, TrainingError, out_of_fold, train
from pipeline.config import Config
from pipeline.distant import from_moves
from pipeline.errors import DataError, UsageError
from pipeline.evidence.text_card import Card, card, judge
from pipeline.labelled import Labelled, bundled, classifier_in_use, read_labels, write_classifier
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

MOST_SHOWN = 10


@dataclass(frozen=True)
class TextBlobScorer:
    """TextBlob's polarity, made a class by the configured threshold: what the others are measured against."""

    threshold: float
    learned: bool = False

    @property
    def name(self) -> str:
        """With its threshold."""
        return f"TextBlob, +-{self.threshold:g}"

    def labels(self, texts: Sequence[str]) -> npt.NDArray[np.int8]:
        """(n,) classes."""
        return sentiment.score(texts, self.threshold).label

    def knows(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(n,) False: nothing was learned."""
        return np.zeros(len(texts), np.bool_)


@dataclass(frozen=True)
class VaderScorer:
    """VADER's compound, made a class by its authors' threshold."""

    name: str = f"VADER, +-{lexicon.THRESHOLD:g}"
    learned: bool = False

    def labels(self, texts: Sequence[str]) -> npt.NDArray[np.int8]:
        """(n,) classes."""
        return sentiment.classify(lexicon.vader(texts).compound, lexicon.THRESHOLD)

    def knows(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(n,) False: nothing was learned."""
        return np.zeros(len(texts), np.bool_)


@dataclass(frozen=True)
class TrainedScorer:
    """A trained classifier."""

    classifier: Classifier
    learned: bool = True

    @property
    def name(self) -> str:
        """With what it was trained on."""
        return f"{self.classifier.kind} of {self.classifier.source}"

    def labels(self, texts: Sequence[str]) -> npt.NDArray[np.int8]:
        """(n,) classes."""
        return self.classifier.labels(texts)

    def knows(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(n,) whether it was trained on the text."""
        return self.classifier.knows(texts)


def run_train(
    config: Config,
    labels: Path | None,
    transfer: Path | None = None,
    out: Path | None = None,
    kind: Kind = "logistic",
    progress: Progress = silent,
    until: dt.date | None = None,
) -> Summary:
    """Train on a label file, judge the training out of fold, and on a foreign file if there is one; keep both.

    Args:
        config: the configuration.
        labels: the file; None for the bundled headlines.
        transfer: labelled texts from elsewhere.
        out: where to write classifier.npz and card.json; None for `artifacts/sentiment`, from where features take it.
        kind: which classifier.
        progress: called as work goes on.
        until: label the lake's headlines by the moves that followed and had ended by then (pipeline/distant.py),
            instead of reading a file.

    Raises:
        UsageError: a file cannot be read, the directory not be written, or both labels and until are given.
        DataError: the labels cannot train a classifier, or no headline has an outcome that was known by then.
        StoreError: the lake has no targets yet.
    """
    if until is not None and labels is not None:
        raise UsageError(f"labels come from {labels} or from moves until {until}, not from both; leave one out")
    held = _labels(config, labels, until)
    foreign = None if transfer is None else read_labels(transfer)
    progress("training out of fold", 0, 3)
    cards = _in_domain(config, held, kind)
    progress("training on everything", 1, 3)
    trained = replace(_trained(held, kind), known_until="" if until is None else until.isoformat())
    progress("judging", 2, 3)
    if foreign is not None:
        cards += _foreign(config, foreign, trained)
    directory = out or config.data.artifacts / "sentiment"
    file = write_classifier(trained, directory)
    figures = _figures(cards, [held, foreign] if foreign else [held]) | {"classifier": str(file), "kind": kind}
    _write_card(figures, directory / "card.json")
    progress("judging", 3, 3)
    lines = [f"trained on {len(held.texts):,} texts of {held.name}, written to {file}"]
    if until is not None:
        lines.append(
            f"its labels are outcomes: what it says of sessions up to {until} is left missing by tradewind features, "
            "and the figures below are of the same years as the training"
        )
    lines += ["", *_table(cards)]
    return Summary("sentiment train", tuple(lines + _rejected([held, foreign])), figures)


def run_card(config: Config, labels: Path | None, progress: Progress = silent) -> Summary:
    """Judge every scorer on a label file: both lexicons, the classifier in use, and one trained on the file itself.

    The last is judged out of fold. The classifier in use is judged on the texts that it was not trained on.

    Raises:
        UsageError: the file cannot be read.
        DataError: its rows cannot be used, or the classifier in use cannot.
    """
    held = bundled() if labels is None else read_labels(labels)
    progress("the classifier in use", 0, 2)
    in_use = classifier_in_use(config.data.artifacts)
    progress("training out of fold", 1, 2)
    cards, notes = [], []
    try:
        cards += _in_domain(config, held, in_use.kind)
    except DataError as error:
        cards += _lexicons(config, held)
        notes.append(f"nothing trained on {held.name}: {error}")
    if in_use.knows(held.texts).all():
        notes.append(f"{TrainedScorer(in_use).name}, in use, was trained on all of this: only out of fold is shown")
    else:
        cards.append(_card(config, TrainedScorer(in_use), held))
    progress("training out of fold", 2, 2)
    figures = _figures(cards, [held]) | {"notes": notes}
    return Summary("sentiment card", (*_table(cards), *notes, *_rejected([held])), figures)


def _labels(config: Config, labels: Path | None, until: dt.date | None) -> Labelled:
    if until is not None:
        return from_moves(config, Lake.of(config.data), until)
    return bundled() if labels is None else read_labels(labels)


def _trained(held: Labelled, kind: Kind) -> Classifier:
    try:
        return train(held.texts, held.labels, kind, held.name, held.groups)
    except TrainingError as error:
        raise DataError(f"{held.name}: {error}") from None


def _in_domain(config: Config, held: Labelled, kind: Kind) -> list[Card]:
    """Both lexicons, and a classifier trained on the same file, out of fold."""
    try:
        _, said = out_of_fold(held.texts, held.labels, kind, held.groups)
    except TrainingError as error:
        raise DataError(f"{held.name}: {error}") from None
    rows = np.arange(len(held.texts))
    base = TextBlobScorer(config.sentiment.threshold).labels(held.texts)
    name = f"{kind} of {held.name}"
    return [*_lexicons(config, held), judge(name, held, rows, said, "out of fold", baseline=base, **_drawing(config))]


def _foreign(config: Config, foreign: Labelled, trained: Classifier) -> list[Card]:
    """Both lexicons and a classifier on texts from elsewhere."""
    return [*_lexicons(config, foreign), _card(config, TrainedScorer(trained), foreign)]


def _lexicons(config: Config, held: Labelled) -> list[Card]:
    textblob = TextBlobScorer(config.sentiment.threshold)
    return [card(textblob, held, **_drawing(config)), _card(config, VaderScorer(), held)]


def _card(config: Config, scorer: VaderScorer | TrainedScorer, held: Labelled) -> Card:
    return card(scorer, held, TextBlobScorer(config.sentiment.threshold), **_drawing(config))


def _drawing(config: Config) -> dict[str, Any]:
    evidence = config.evidence
    return {"confidence": evidence.confidence, "resamples": evidence.resamples, "seed": config.models.seed}


def _table(cards: list[Card]) -> list[str]:
    lines: list[str] = []
    for name in dict.fromkeys(each.labels for each in cards):
        here = [each for each in cards if each.labels == name]
        first = here[0]
        width = max(len(each.scorer) for each in here) + 2
        lines += [
            f"{name}: {first.rows:,} labelled rows, {first.clusters:,} different texts or stories; "
            f"always saying {first.majority_class} is right in {first.majority:.3f}",
            f"  {'scorer':<{width}}{'figure is':<17}{'accuracy':<23}{'macro-F1':<23}{'over TextBlob':<25}verdict",
        ]
        for each in here:
            over = "" if each.over_baseline is None else f"{each.over_baseline:+}"
            figures = f"{each.domain:<17}{f'{each.accuracy}':<23}{f'{each.macro_f1}':<23}{over:<25}"
            lines.append(f"  {each.scorer:<{width}}{figures}{each.verdict}")
            if each.excluded:
                lines.append(f"    {each.excluded:,} rows left out: it was trained on their texts")
        best = here[-1]
        lines += ["", f"  {best.scorer}, {best.domain}; truth down, answer across ({', '.join(CLASSES)})"]
        truths = zip(CLASSES, best.confusion, strict=True)
        lines += ["    " + f"{truth:<10}" + "".join(f"{n:>8,}" for n in row) for truth, row in truths]
        lines.append("")
    return lines[:-1]


def _rejected(files: Sequence[Labelled | None]) -> list[str]:
    lines: list[str] = []
    for file in files:
        if file is not None and file.rejected:
            lines += ["", f"{file.name}: {len(file.rejected):,} rows cannot be used", *file.rejected[:MOST_SHOWN]]
            if len(file.rejected) > MOST_SHOWN:
                lines.append(f"and {len(file.rejected) - MOST_SHOWN:,} more")
    return lines


def _figures(cards: list[Card], files: Sequence[Labelled]) -> dict[str, Any]:
    return {
        "cards": [each.figures() for each in cards],
        "labels": [
            {
                "name": file.name,
                "sha256": file.sha256,
                "rows": len(file.texts),
                "unusable": len(file.rejected),
                "rejected": list(file.rejected[:MOST_SHOWN]),
            }
            for file in files
        ],
    }


def _write_card(figures: dict[str, Any], target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None
