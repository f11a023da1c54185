"""What headlines say, by every scorer: both built-in lexicons, and the one in use, which gives the classes.

Scores are rounded to multiples of 2^-32. Sums of such numbers are exact in float64 (up to two million headlines in
one sum), so that no order of rows changes a bit of what is computed from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from features import lexicon, sentiment
from features.classifier import CLASSES, Classifier, choose, lexicon_scores

Floats = npt.NDArray[np.float64]
Lexicon = Literal["textblob", "vader"]
Scorer = Classifier | Lexicon
"""A trained classifier, or one of the lexicons by name."""

CHUNK: Final = 16_384
"""Texts a classifier is given at once; it holds some 200 terms of each."""
_STEP: Final = 2.0**-32


class Tones(NamedTuple):
    """One entry a text, each a multiple of 2^-32.

    Attributes:
        polarity: (n,) TextBlob's, in [-1, 1]. subjectivity: (n,) TextBlob's, in [0, 1].
        compound: (n,) VADER's, in [-1, 1].
        chances: (n, 3) of CLASSES by the scorer in use.
        label: (n,) int8 of `features.sentiment`: NEGATIVE, NEUTRAL or POSITIVE by the scorer in use.
    """

    polarity: Floats
    subjectivity: Floats
    compound: Floats
    chances: Floats
    label: npt.NDArray[np.int8]

    @property
    def tone(self) -> Floats:
        """(n,) chance of positive minus chance of negative, in [-1, 1]."""
        return np.asarray(self.chances[:, 2] - self.chances[:, 0])


def tones(texts: Sequence[str], scorer: Scorer, threshold: float) -> Tones:
    """Score every text by every lexicon and by the scorer in use.

    A lexicon knows no chances: its polarity v is read as chance v of positive (-v of negative), the rest neutral, so
    that its tone is its polarity; TextBlob's class is told by `threshold`, VADER's by that of its authors.

    Args:
        texts: n texts, best different ones: each is scored anew.
        scorer: which gives chances and label.
        threshold: TextBlob's polarity above it is positive, below its negative negative.

    Raises:
        ValueError: `scorer` is neither a classifier nor the name of a lexicon.
    """
    if not isinstance(scorer, Classifier) and scorer not in get_args(Lexicon):
        raise ValueError(f"text scorer {scorer!r}: use a trained classifier, {' or '.join(get_args(Lexicon))}")
    parts = [_scored(texts[n : n + CHUNK], scorer, threshold) for n in range(0, max(len(texts), 1), CHUNK)]
    return Tones(*(np.concatenate(found) for found in zip(*parts, strict=True)))


def on_grid(values: Floats) -> Floats:
    """The nearest multiples of 2^-32: they add up exactly, in any order."""
    return np.asarray(np.rint(values / _STEP) * _STEP)


def _scored(texts: Sequence[str], scorer: Scorer, threshold: float) -> Tones:
    scores = lexicon_scores(texts)
    polarity, subjectivity, compound = scores[:, 0], scores[:, 1], scores[:, 2]
    if isinstance(scorer, Classifier):
        chances = scorer.probabilities(texts, scores)
        label = choose(chances, scorer.shares)
    elif scorer == "textblob":
        chances, label = _as_chances(polarity), sentiment.classify(polarity, threshold)
    else:
        chances, label = _as_chances(compound), sentiment.classify(compound, lexicon.THRESHOLD)
    return Tones(on_grid(polarity), on_grid(subjectivity), on_grid(compound), on_grid(chances), label)


def _as_chances(polarity: Floats) -> Floats:
    found = np.empty((len(polarity), len(CLASSES)))
    found[:, 0], found[:, 2] = np.maximum(-polarity, 0.0), np.maximum(polarity, 0.0)
    found[:, 1] = 1.0 - np.abs(polarity)
    return found
