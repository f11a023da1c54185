"""Polarity, subjectivity and class of headlines, by TextBlob's lexicon. The only importer of textblob.

TextBlob averages the polarity of the words it knows; on labelled financial sentences it is no better than the
majority class, so its classes are features to be judged by an ablation, never a signal taken on trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from textblob import TextBlob

Floats = npt.NDArray[np.float64]

POSITIVE, NEUTRAL, NEGATIVE = 1, 0, -1


class Scores(NamedTuple):
    """One entry a text.

    polarity: (n,) float64 in [-1, 1]. subjectivity: (n,) float64 in [0, 1].
    label: (n,) int8, POSITIVE, NEUTRAL or NEGATIVE.
    """

    polarity: Floats
    subjectivity: Floats
    label: npt.NDArray[np.int8]


def score(texts: Sequence[str], threshold: float) -> Scores:
    """Score every text; equal texts are scored once.

    Args:
        texts: n texts; one without a known word (an empty one too) scores 0 and is neutral.
        threshold: polarity above it is positive, below its negative negative, either bound itself neutral.
    """
    place, unique = pd.factorize(np.asarray(texts, dtype=object))
    pairs = [TextBlob(str(text)).sentiment for text in unique]
    scored: Floats = np.array([(p, s) for p, s in pairs], dtype=np.float64).reshape(-1, 2)[place]
    polarity, subjectivity = scored[:, 0], scored[:, 1]
    return Scores(polarity, subjectivity, classify(polarity, threshold))


def classify(polarity: Floats, threshold: float) -> npt.NDArray[np.int8]:
    """The class of each polarity: POSITIVE above `threshold`, NEGATIVE below its negative, else NEUTRAL."""
    return (polarity > threshold).astype(np.int8) - (polarity < -threshold).astype(np.int8)
