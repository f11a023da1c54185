"""The card of a text scorer: how well it classifies labelled texts, against the majority class, with intervals.

Texts repeated in a file are one observation: the bootstrap draws clusters, never rows. Whether a figure is skill in
the scorer's own domain is part of the card: `out of fold` for labels of the domain it learned from, `transfer` for
anybody else's, `nothing learned` for a lexicon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from features.classifier import CLASSES, fingerprints
from pipeline.errors import DataError
from pipeline.labelled import Labelled

Labels = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]
Domain = Literal["out of fold", "transfer", "nothing learned"]

LEAST_CLUSTERS: Final = 100


class Scorer(Protocol):
    """What a card judges."""

    @property
    def name(self) -> str:
        """How to call it."""
        ...

    @property
    def learned(self) -> bool:
        """Whether it learned from labels, so that others' texts are foreign to it."""
        ...

    def labels(self, texts: Sequence[str]) -> Labels:
        """(n,) -1, 0 or 1 for negative, neutral or positive."""
        ...

    def knows(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(n,) whether it was trained on the text."""
        ...


@dataclass(frozen=True)
class Figure:
    """An estimate and its bootstrap interval."""

    value: float
    low: float
    high: float

    def __format__(self, sign: str) -> str:
        return f"{self.value:{sign}.3f} [{self.low:{sign}.3f}, {self.high:{sign}.3f}]"


@dataclass(frozen=True)
class Card:
    """One scorer on one file.

    Attributes:
        scorer, labels: their names.
        domain: what the figures may be called.
        rows, clusters: labelled rows, and different texts (or stories) among them; intervals rest on the latter.
        excluded: rows left out because the scorer was trained on their text.
        accuracy, macro_f1: shares from 0 to 1.
        majority: the accuracy of always saying the commonest class; majority_class is its name.
        lift: accuracy minus majority, the majority class chosen anew in each resample.
        over_baseline: macro-F1 minus that of the baseline scorer on the same rows, paired; None for the baseline.
        confusion: [truth][said], rows and columns in the order of CLASSES.
        verdict: "beats the majority class", "does not beat ...", or that there are too few texts.
    """

    scorer: str
    labels: str
    domain: Domain
    rows: int
    clusters: int
    excluded: int
    accuracy: Figure
    macro_f1: Figure
    majority: float
    majority_class: str
    lift: Figure
    over_baseline: Figure | None
    confusion: list[list[int]]
    verdict: str

    def figures(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self)


def card(
    scorer: Scorer,
    labelled: Labelled,
    baseline: Scorer | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 7,
) -> Card:
    """Judge a scorer on labels; rows it was trained on are left out, so that a learned scorer is always on transfer.

    Raises:
        DataError: the scorer was trained on every text.
    """
    known = scorer.knows(labelled.texts)
    rows = np.flatnonzero(~known)
    if not len(rows):
        raise DataError(
            f"{scorer.name} was trained on every text of {labelled.name}; judge it out of fold or elsewhere"
        )
    texts = [labelled.texts[n] for n in rows]
    domain: Domain = "transfer" if scorer.learned else "nothing learned"
    base = None if baseline is None else baseline.labels(texts)
    said = scorer.labels(texts)
    drawing: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    return judge(scorer.name, labelled, rows, said, domain, baseline=base, **drawing)


def judge(
    name: str,
    labelled: Labelled,
    rows: npt.NDArray[np.int64],
    said: Labels,
    domain: Domain,
    *,
    baseline: Labels | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 7,
) -> Card:
    """The card of given answers.

    Args:
        name: the scorer's.
        labelled: the file.
        rows: (m,) positions in it that were judged.
        said: (m,) answers to them.
        domain: what they may be called.
        baseline: (m,) answers of the baseline to the same rows.
        confidence: level of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same for every scorer, so that differences are paired.
    """
    truth = np.array([CLASSES.index(labelled.labels[n]) for n in rows])
    prints = fingerprints(labelled.texts) if labelled.groups is None else np.array(labelled.groups)
    _, cluster = np.unique(prints[rows], return_inverse=True)
    n_clusters = int(cluster.max()) + 1
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), resamples)
    counts = _confusions(truth, said, cluster)
    drawn = (draws @ counts).reshape(-1, len(CLASSES), len(CLASSES))
    whole = counts.sum(0).reshape(1, len(CLASSES), len(CLASSES))

    def figure(value: Floats, values: Floats) -> Figure:
        low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Figure(float(value[0]), float(low), float(high))

    over = None
    if baseline is not None:
        others = _confusions(truth, baseline, cluster)
        theirs = (draws @ others).reshape(drawn.shape)
        gain = macro_f1(whole) - macro_f1(others.sum(0).reshape(whole.shape))
        over = figure(gain, macro_f1(drawn) - macro_f1(theirs))
    lift = figure(accuracy(whole) - majority(whole), accuracy(drawn) - majority(drawn))
    verdict = "beats the majority class" if lift.low > 0 else "does not beat the majority class"
    return Card(
        name, labelled.name, domain, len(rows), n_clusters, len(labelled.texts) - len(rows),
        figure(accuracy(whole), accuracy(drawn)), figure(macro_f1(whole), macro_f1(drawn)),
        float(majority(whole)[0]), CLASSES[int(whole[0].sum(1).argmax())], lift, over, whole[0].tolist(),
        verdict if n_clusters >= LEAST_CLUSTERS else f"no verdict: fewer than {LEAST_CLUSTERS} different texts",
    )  # fmt: skip


def accuracy(confusion: npt.NDArray[np.int64]) -> Floats:
    """(R, 3, 3) counts of [truth][said] -> (R,)."""
    found: Floats = np.trace(confusion, axis1=1, axis2=2) / confusion.sum((1, 2))
    return found


def majority(confusion: npt.NDArray[np.int64]) -> Floats:
    """(R,) share of the commonest class."""
    found: Floats = confusion.sum(2).max(1) / confusion.sum((1, 2))
    return found


def macro_f1(confusion: npt.NDArray[np.int64]) -> Floats:
    """(R,) F1 averaged over the classes that are true or said anywhere, each counting the same."""
    hit = np.diagonal(confusion, axis1=1, axis2=2)
    either = confusion.sum(1) + confusion.sum(2)
    f1 = np.divide(2.0 * hit, either, out=np.full(hit.shape, np.nan), where=either > 0)
    found: Floats = np.nanmean(f1, axis=1)
    return found


def _confusions(truth: npt.NDArray[np.int64], said: Labels, cluster: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(C, 9): the counts of [truth][said] within each cluster."""
    cells = len(CLASSES) ** 2
    at = cluster * cells + truth * len(CLASSES) + (said.astype(np.int64) + 1)
    return np.bincount(at, minlength=(int(cluster.max()) + 1) * cells).reshape(-1, cells)
