"""Polarity of headlines by VADER's lexicon and rules, made for social media: the second built-in lexicon.

`vader` returns what `SentimentIntensityAnalyzer().polarity_scores` returns. A text without a word of its lexicon
scores 0 by its rules, which is seen at once.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from vaderSentiment.vaderSentiment import NEGATE, SentimentIntensityAnalyzer

Floats = npt.NDArray[np.float64]

THRESHOLD: Final = 0.05
"""VADER's authors call a compound above it positive, below its negative negative."""
MOST_PIECES: Final = 300_000


class Vader(NamedTuple):
    """One entry a text: compound (n,) in [-1, 1]; the shares of the text that are positive and negative, (n,)."""

    compound: Floats
    positive: Floats
    negative: Floats


def vader(texts: Sequence[str]) -> Vader:
    """Score every text; equal texts are scored once; one without a known word scores 0."""
    place, unique = pd.factorize(np.asarray(texts, dtype=object))
    rows = [_score(str(text)) for text in unique]
    if len(_KNOWN) > MOST_PIECES:
        _KNOWN.clear()
    if len(_NEGATES) > MOST_PIECES:
        _NEGATES.clear()
    scored: Floats = np.array(rows, dtype=np.float64).reshape(-1, 3)[place]
    return Vader(scored[:, 0], scored[:, 1], scored[:, 2])


class _Memo(dict[str, bool]):
    """Whether VADER knows the word in a piece of text."""

    def __missing__(self, piece: str) -> bool:
        stripped = piece.strip(string.punctuation)
        found = self[piece] = (piece if len(stripped) <= 2 else stripped).lower() in _VADER.lexicon
        return found


class _Whole(str):
    """Text that VADER's search for emoji passes over at once: to be used where every character is ASCII."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        yield str(self)


class _Near(SentimentIntensityAnalyzer):  # type: ignore[misc]
    """VADER, shown a word's neighbourhood where its rules read no more: they put all they are shown in lower case."""

    def _negation_check(self, valence: float, words: list[str], start_i: int, i: int) -> Any:
        near = words[i - start_i - 1 : i + 1]
        if not any(map(_NEGATES.__getitem__, near[:-1])):
            return valence
        return super()._negation_check(valence, near, start_i, start_i + 1)

    def _special_idioms_check(self, valence: float, words: list[str], i: int) -> Any:
        return super()._special_idioms_check(valence, words[i - 3 : i + 3], 3)


class _Negations(dict[str, bool]):
    """Whether a word has a part in VADER's rules of negation."""

    def __missing__(self, word: str) -> bool:
        lower = word.lower()
        found = self[word] = lower in NEGATE or lower in ("so", "this") or "n't" in lower
        return found


_NEGATES: Final = _Negations()
_VADER: Final = _Near()
_KNOWN: Final = _Memo()


def _score(text: str) -> tuple[float, float, float]:
    # Emoji, which VADER replaces by words first, are never ASCII.
    if text.isascii() and not any(map(_KNOWN.__getitem__, text.split())):
        return 0.0, 0.0, 0.0
    scores = _VADER.polarity_scores(_Whole(text) if text.isascii() else text)
    return scores["compound"], scores["pos"], scores["neg"]
