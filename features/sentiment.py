"""Polarity, subjectivity and class of headlines, by TextBlob's lexicon. The only importer of textblob.

TextBlob averages the polarity of the words it knows; on labelled financial sentences it is no better than the
majority class, so its classes are features to be judged by an ablation, never a signal taken on trust.

`polarities` returns what `TextBlob(text).sentiment` returns, bit for bit, and takes a fraction of its time.
TextBlob splits a text at blanks and treats every piece by itself, so the words of a piece are found once and kept.
Only two of its rules look across a blank: emoticons and "(!)" may be written with blanks inside. A text in which
one of them can occur is handed to TextBlob itself.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from textblob import TextBlob
from textblob._text import (
    ABBREVIATIONS,
    EMOTICONS,
    EOS,
    PUNCTUATION,
    RE_ABBR1,
    RE_ABBR2,
    RE_ABBR3,
    RE_EMOTICONS,
    RE_SARCASM,
    replacements,
)
from textblob.classifiers import NaiveBayesClassifier
from textblob.en import sentiment as lexicon

Floats = npt.NDArray[np.float64]
Pair = tuple[float, float]

POSITIVE, NEUTRAL, NEGATIVE = 1, 0, -1
MOST_PIECES: Final = 300_000
"""Pieces kept in memory (about 100 MB); beyond it all are forgotten and found anew."""


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
    scored = polarities(str(text) for text in unique)[place]
    polarity, subjectivity = scored[:, 0], scored[:, 1]
    return Scores(polarity, subjectivity, classify(polarity, threshold))


def classify(polarity: Floats, threshold: float) -> npt.NDArray[np.int8]:
    """The class of each polarity: POSITIVE above `threshold`, NEGATIVE below its negative, else NEUTRAL."""
    return (polarity > threshold).astype(np.int8) - (polarity < -threshold).astype(np.int8)


def polarities(texts: Iterable[str]) -> Floats:
    """`TextBlob(text).sentiment` of each text: (n, 2) polarity and subjectivity, the same bits.

    TextBlob's lexicon is read once, at import: a later `annotate` is not seen.
    """
    found = array("d")
    for text in texts:
        found.extend(_assess(text.split()) or TextBlob(text).sentiment)
        if len(_MEMO) > MOST_PIECES:
            _MEMO.clear()
    return np.frombuffer(found, dtype=np.float64).reshape(-1, 2)


class _Known(NamedTuple):
    """A word of the lexicon; `modifies` says that it strengthens or weakens the next one ("very")."""

    polarity: float
    subjectivity: float
    intensity: float
    modifies: bool
    is_ly: bool
    negates: bool


class _Unknown(NamedTuple):
    """A word that is not in the lexicon, by what it does to the words around it; `mood` is an emoticon's polarity."""

    negates: bool
    ends_negation: bool
    ends_modifier: bool
    exclaims: bool
    mood: float | None


class _Odd(NamedTuple):
    """A piece that may be part of an emoticon written with blanks.

    heads: how it begins, or all of it, where that can be the end or the middle of one.
    unsplit: it holds TextBlob's own mark of a paragraph: only TextBlob may judge the text.
    """

    words: tuple[_Known | _Unknown, ...]
    heads: tuple[str, ...]
    unsplit: bool


_Found = tuple[_Known | _Unknown, ...] | _Odd | Literal[0] | None
"""What a piece amounts to: its words; or only that a negation ends (0), or a negation and a modifier (None)."""


@lru_cache(maxsize=10_000)
def _unknown(word: str) -> _Unknown:
    mood = None if word.isalpha() or word in PUNCTUATION else _MOODS.get(word)
    return _Unknown(word in lexicon.negations, len(word.strip("'")) > 1, len(word) > 2, word == "!", mood)


def _vocabulary() -> dict[str, _Known | _Unknown]:
    """Every word that can score or negate; a negation that is no entry of the lexicon is an unknown word."""
    found: dict[str, _Known | _Unknown] = {word: _unknown(word) for word in lexicon.negations}
    for word, senses in lexicon.items():
        polarity, subjectivity, intensity = senses[None]
        modifies, is_ly = any(tag in senses for tag in lexicon.modifiers), bool(lexicon.modifier(word))
        found[word] = _Known(polarity, subjectivity, intensity, modifies, is_ly, word in lexicon.negations)
    return found


_EMOTICONS: Final = [(emoticon, mood) for (_, mood), each in EMOTICONS.items() for emoticon in each]
# TextBlob takes the first of those that are equal in lower case.
_MOODS: Final = {"(!)": 0.0} | {emoticon.lower(): mood for emoticon, mood in reversed(_EMOTICONS)}
_VOCABULARY: Final = _vocabulary()
_ACROSS: Final = (*(emoticon for emoticon, _ in _EMOTICONS), "(!)")
_TAILS: Final = frozenset(e[k:] for e in _ACROSS for k in range(1, len(e)))
_MIDDLES: Final = frozenset(e[k:j] for e in _ACROSS for k in range(1, len(e)) for j in range(k + 1, len(e)))
_JOINS: Final = frozenset((e[:k], e[k:j]) for e in _ACROSS for k in range(1, len(e)) for j in range(k + 1, len(e) + 1))
_QUOTES: Final = ("\u201c", "\u201d", "\u2018", "\u2019", "'", '"')
_QUOTED: Final = frozenset(_QUOTES)
# Most pieces hold none of these; every emoticon, quotation and exclamation holds one, an address need not (tested).
_HINT: Final = re.compile("[!\u2665" + "".join(_QUOTES) + r"]|:(?!//|$)|[=;*<>°](?!$)|8-?[)Dd]|[Xx]-?[Dd]|[oO][_.][oO]")
_EDGES: Final = PUNCTUATION.replace(".", "")
_EDGE_HEADS: Final = frozenset(part[0] for part in _TAILS | _MIDDLES) & set(_EDGES)
_ENDS: Final = tuple(PUNCTUATION)
_BEGINS_HEAD: Final = frozenset(part[0] for part in _TAILS | _MIDDLES)
_RESET: Final = _unknown("any")
_ALONE: Final[dict[tuple[_Known | _Unknown, ...], Literal[0] | None]] = {(_RESET,): None, (_unknown("to"),): 0}


class _Memo(dict[str, _Found]):
    """Pieces met before."""

    def __missing__(self, piece: str) -> _Found:
        if piece.isalpha() and len(piece) > 2 and piece[-1] != "D":
            known = _VOCABULARY.get(piece.lower())
            found: _Found = None if known is None else (known,)
        elif piece[-1] == "," and piece[:-1].isalpha() and len(piece) > 3:
            found = self[piece[:-1]]  # a comma has no effect
        else:
            found = None if _only_resets(piece) else _read(piece)
        self[piece] = found
        return found


_MEMO: Final = _Memo()


def _only_resets(piece: str) -> bool:
    """Whether it is one longer unknown word in plain punctuation; False where that takes a closer look."""
    core = piece.strip(PUNCTUATION)
    if len(core) < 3 or piece[0] in _EDGE_HEADS or core.lower() in _VOCABULARY or core == EOS:
        return False
    return _HINT.search(piece) is None


def _read(piece: str) -> _Found:
    tokens = find_tokens(piece)
    heads = _heads(tokens) if piece[0] in _BEGINS_HEAD else ()
    if _HINT.search(piece) is not None:
        text = " ".join(tokens)
        if RE_EMOTICONS.search(text) is not None or RE_SARCASM.search(text) is not None:
            tokens = " ".join(lexicon.tokenizer(piece)).split()
    words: list[_Known | _Unknown] = []
    for token in tokens:
        lower = token.lower()
        word = _VOCABULARY.get(lower) or (_RESET if len(lower) > 2 and lower not in _MOODS else _unknown(lower))
        if word is not _RESET or not words or words[-1] is not _RESET:
            words.append(word)
    found = tuple(words)
    if heads or EOS in tokens:
        return _Odd(found, heads, EOS in tokens)
    return _ALONE.get(found, found)


def _heads(tokens: list[str]) -> tuple[str, ...]:
    begins = ["".join(tokens[:n]) for n in range(1, min(len(tokens), 4) + 1)]
    whole = begins[-1] if len(begins) == len(tokens) else ""
    return tuple(head for head in begins if head in _TAILS or (head == whole and head in _MIDDLES))


def find_tokens(piece: str) -> list[str]:
    """The words and punctuation marks of a text without blanks, like `textblob.en.parser.find_tokens`.

    Unlike there, emoticons and "(!)" stay in parts.
    """
    if piece.isalnum():
        return [piece]
    if not _QUOTED.isdisjoint(piece):
        for contraction, apart in replacements.items():
            piece = piece.replace(contraction, apart)
        for quote in _QUOTES:
            piece = piece.replace(quote, f" {quote} ")
    tokens: list[str] = []
    for word in piece.split():
        core = word.lstrip(_EDGES)
        tokens += word[: len(word) - len(core)]
        core, tail = _without_tail(core)
        tokens += [core] if core else []
        tokens += reversed(tail)
    return tokens


def _without_tail(word: str) -> tuple[str, list[str]]:
    """Take trailing punctuation off a word, last mark first; the full stop of an abbreviation stays."""
    tail = []
    while word.endswith(_ENDS):
        if word[-1] != ".":
            tail.append(word[-1])
            word = word[:-1]
        if word.endswith("..."):
            tail.append("...")
            word = word[:-3].rstrip(".")
        if word.endswith("."):
            if word in ABBREVIATIONS or any(rule.match(word) for rule in (RE_ABBR1, RE_ABBR2, RE_ABBR3)):
                break
            tail.append(".")
            word = word[:-1]
    return word, tail


def _assess(pieces: list[str]) -> Pair | None:
    """The averages over the known words of a text; None where TextBlob itself must look.

    The rules and the order of arithmetic are those of `textblob._text.Sentiment.assessments`.
    """
    told = list(map(_MEMO.__getitem__, pieces))
    if not any(told):
        return 0.0, 0.0
    assessed: list[list[float]] = []  # polarity, subjectivity, -0.5 where negated else 1
    intensity, negation = 1.0, False
    modifier: _Known | None = None
    for at, words in enumerate(told):
        if not words:
            negation = False
            modifier = None if words is None else modifier
            continue
        if isinstance(words, _Odd):
            if words.unsplit or (at and _may_join(pieces[:at], words.heads)):
                return None
            words = words.words
        for word in words:
            if isinstance(word, _Known):
                if modifier is None:
                    assessed.append([word.polarity, word.subjectivity, 1.0])
                else:
                    assessed[-1][0] = max(-1.0, min(word.polarity * intensity, +1.0))
                    assessed[-1][1] = max(-1.0, min(word.subjectivity * intensity, +1.0))
                intensity = 1.0 / word.intensity if negation else word.intensity
                assessed[-1][2] = -0.5 if negation else assessed[-1][2]
                modifier, negation = word if word.modifies else None, word.negates
                continue
            negation = word.negates or (negation and not word.ends_negation)
            if negation and modifier is not None and modifier.is_ly:
                assessed[-1][2], negation = -0.5, False
            elif word.ends_modifier:
                modifier = None
            if word.exclaims and assessed:
                assessed[-1][0] = max(-1.0, min(assessed[-1][0] * 1.25, +1.0))
            if word.mood is not None:
                assessed.append([word.mood, 1.0, 1.0])
                intensity = 1.0
    return _means(assessed) if assessed else (0.0, 0.0)


def _may_join(before: list[str], heads: Iterable[str]) -> bool:
    """Whether what was said before can be the beginning of an emoticon that goes on with one of the heads."""
    said = "".join(before[-4:])
    return any((said[-n:], head) in _JOINS for head in heads for n in range(1, 5))


def _means(assessed: list[list[float]]) -> Pair:
    polarity = subjectivity = 0.0
    for p, s, sign in assessed:  # not sum(): from Python 3.12 on it compensates, which TextBlob does not
        polarity += p * sign
        subjectivity += s
    return polarity / len(assessed), subjectivity / len(assessed)


class NaiveBayes(NamedTuple):
    """TextBlob's naive Bayes classifier as tables: log2 P(class) + the sum over all words of log2 P(word or not).

    words: V words. prior: (K,). present, absent: (V, K), each word's log2 likelihood within a class.
    """

    words: tuple[str, ...]
    prior: Floats
    present: Floats
    absent: Floats


def naive_bayes(tokens: Sequence[Sequence[str]], labels: Sequence[str], classes: Sequence[str]) -> NaiveBayes:
    """Train `textblob.classifiers.NaiveBayesClassifier` on token lists and take out its probabilities.

    Args:
        tokens: n lists of words, without punctuation.
        labels: n labels, each of `classes`, each class at least once.
        classes: K classes, in the order of the columns.
    """
    trained = NaiveBayesClassifier(list(zip(map(list, tokens), labels, strict=True))).classifier
    words = tuple(sorted({word for text in tokens for word in text}))
    # nltk keeps the distributions private; a test compares the tables with the classifier's own probabilities.
    given, prior = trained._feature_probdist, trained._label_probdist

    def table(value: bool) -> Floats:
        return np.array([[given[c, f"contains({word})"].logprob(value) for c in classes] for word in words])

    return NaiveBayes(words, np.array([prior.logprob(c) for c in classes]), table(True), table(False))
