"""A trainable classification of headlines: probabilities of negative, neutral and positive.

Two kinds share one form. `logistic`: TF-IDF of words, word pairs and letters within words, beside the scores of both
built-in lexicons, in a logistic regression. `naive_bayes`: TextBlob's NaiveBayesClassifier over the words. Either is
calibrated: logits are divided by one temperature, fitted on predictions for texts that were held out.

Training needs scikit-learn (`pip install 'tradewind[train]'`); prediction is numpy and scipy. A classifier remembers
hashes of its training texts, so that nobody can judge it on them by accident. It is kept as bytes, without pickle, by
`features.classifier_bytes`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.optimize import minimize_scalar

from features import lexicon, sentiment

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLASSES: Final = ("negative", "neutral", "positive")
Kind = Literal["logistic", "naive_bayes"]
KINDS: Final[tuple[Kind, ...]] = ("logistic", "naive_bayes")
FOLDS: Final = 5
LETTERS: Final = (3, 4, 5)
INVERSE_PENALTY: Final = 4.0
LEXICON_SCALE: Final = 2.0
LEAST_PER_CLASS: Final = 10
N_LEXICON: Final = 5
LEAN: Final = 0.5
"""How far the choice of one class leans towards rare ones: chances are divided by the class's share to this power."""

_TOKEN: Final = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d[\d.,]*|[%$!?]")


class TrainingError(ValueError):
    """The labelled texts cannot train a classifier; the message says why."""


def tokens_of(text: str) -> list[str]:
    """Words in lower case, `0` for any number, and the marks %, $, ! and ?."""
    return ["0" if token[0].isdigit() else token.replace("\u2019", "'") for token in _TOKEN.findall(text.lower())]


def fingerprints(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """One 64-bit hash a text; texts that differ only in case, blanks, most punctuation or numbers share it."""
    return _hashes([" ".join(tokens_of(text)) for text in texts])


def _hashes(names: Sequence[str]) -> npt.NDArray[np.uint64]:
    digests = [hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8] for name in names]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Attributes:
        kind: `logistic` or `naive_bayes`.
        words: terms over whole words ("profit", "profit warning"); letters: terms within a word (" prof").
        idf: (W + L,) weights of the terms, words first; ones for naive Bayes, which has no letters.
        weights: (W + L + 5, 3) coefficients; the last five rows are those of the lexicon scores.
        bias: (3,). Logits are features @ weights + bias.
        temperature: what logits are divided by.
        shares: (3,) of the training labels.
        trained_on: sorted fingerprints of the training texts.
        source: what the labels are called, like "headlines.csv".
        known_until: the last date, like "2012-12-31", of what its labels were made of; '' where they tell no outcome.
    """

    kind: Kind
    words: tuple[str, ...]
    letters: tuple[str, ...]
    idf: Floats
    weights: Floats
    bias: Floats
    temperature: float = 1.0
    shares: Floats = field(default_factory=lambda: np.full(len(CLASSES), 1 / len(CLASSES)))
    trained_on: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    source: str = ""
    known_until: str = ""

    def probabilities(self, texts: Sequence[str], by_lexicons: Floats | None = None) -> Floats:
        """(n, 3) probabilities of CLASSES, rows summing to 1; equal texts are scored once.

        Args:
            texts: n texts.
            by_lexicons: (n, 5) what `lexicon_scores` gives for them, where it is already known.
        """
        return _softmax(self._logits(texts, by_lexicons) / self.temperature)

    def labels(self, texts: Sequence[str]) -> npt.NDArray[np.int8]:
        """(n,) `features.sentiment`'s NEGATIVE, NEUTRAL or POSITIVE: the likeliest after leaning towards rare ones."""
        return choose(self.probabilities(texts), self.shares)

    def knows(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Whether each text was one of the training texts."""
        return np.isin(fingerprints(texts), self.trained_on)

    def _logits(self, texts: Sequence[str], by_lexicons: Floats | None = None) -> Floats:
        if not len(texts):
            return np.empty((0, len(CLASSES)))
        place, unique = pd.factorize(np.asarray(texts, dtype=object))
        asked = [str(text) for text in unique]
        scores = None if by_lexicons is None else by_lexicons[np.unique(place, return_index=True)[1]]
        if self.kind == "naive_bayes":
            counts, _ = _counts(asked, _positions(self.words), {})
            found = np.asarray((counts > 0) @ self.weights[: len(self.words)]) + self.bias
        else:
            found = _features(asked, self.words, self.letters, self.idf, scores) @ self.weights + self.bias
        return np.asarray(found, dtype=np.float64)[place]


def choose(probabilities: Floats, shares: Floats) -> npt.NDArray[np.int8]:
    """One class a row, as NEGATIVE, NEUTRAL or POSITIVE, by the classes' chances and training shares (see LEAN)."""
    chosen: npt.NDArray[np.int8] = (np.argmax(probabilities / shares**LEAN, axis=1) - 1).astype(np.int8)
    return chosen


def train(
    texts: Sequence[str],
    labels: Sequence[str],
    kind: Kind = "logistic",
    source: str = "",
    groups: Sequence[str] | None = None,
) -> Classifier:
    """Train on all texts, calibrated on predictions for those held out of five folds.

    Args:
        texts: n texts. Repeated ones are kept, and stay in one fold.
        labels: n of CLASSES.
        kind: which classifier.
        source: what to call the labels.
        groups: n names; texts of one group stay in one fold. None = every text by itself.

    Raises:
        TrainingError: an unknown label, or fewer than LEAST_PER_CLASS different texts (groups) of a class.
    """
    said, keys = _checked(texts, labels, groups)
    return _train(texts, said, keys, kind, source)


def out_of_fold(
    texts: Sequence[str],
    labels: Sequence[str],
    kind: Kind = "logistic",
    groups: Sequence[str] | None = None,
) -> tuple[Floats, npt.NDArray[np.int8]]:
    """Probabilities (n, 3) and classes (n,) of each text by a classifier trained, and calibrated, without its fold.

    Raises:
        TrainingError: see `train`.
    """
    said, keys = _checked(texts, labels, groups)
    chances, chosen = np.empty((len(texts), len(CLASSES))), np.empty(len(texts), np.int8)
    for rest, here in _splits(keys, said):
        trained = _train(_at(texts, rest), said[rest], keys[rest], kind, "")
        chances[here] = trained.probabilities(_at(texts, here))
        chosen[here] = choose(chances[here], trained.shares)
    return chances, chosen


def _train(texts: Sequence[str], said: Ints, keys: npt.NDArray[np.uint64], kind: Kind, source: str) -> Classifier:
    held_out = np.empty((len(texts), len(CLASSES)))
    for rest, here in _splits(keys, said):
        held_out[here] = _fit(_at(texts, rest), said[rest], kind)._logits(_at(texts, here))
    return replace(
        _fit(list(texts), said, kind),
        temperature=_temperature(held_out, said),
        shares=np.bincount(said, minlength=len(CLASSES)) / len(said),
        trained_on=np.unique(fingerprints(texts)),
        source=source,
    )


def _splits(keys: npt.NDArray[np.uint64], said: Ints) -> list[tuple[Ints, Ints]]:
    """(rest, held out) of each fold; keys are dealt to the folds class by class, so that each fold sees all classes."""
    unique, first, place = np.unique(keys, return_index=True, return_inverse=True)
    fold = np.empty(len(unique), np.int64)
    fold[np.lexsort((unique, said[first]))] = np.arange(len(unique)) % FOLDS
    return [(np.flatnonzero(fold[place] != n), np.flatnonzero(fold[place] == n)) for n in range(FOLDS)]


def _checked(
    texts: Sequence[str], labels: Sequence[str], groups: Sequence[str] | None
) -> tuple[Ints, npt.NDArray[np.uint64]]:
    """Labels as positions in CLASSES, and one key a row: rows with one key stay together."""
    unknown = sorted(set(labels) - set(CLASSES))
    if unknown:
        raise TrainingError(f"label {unknown[0]!r}: use {', '.join(CLASSES)}")
    said = np.array([CLASSES.index(label) for label in labels], dtype=np.int64)
    keys = fingerprints(texts)
    if groups is not None:
        by_text: dict[np.uint64, np.uint64] = {}
        keys = np.array([by_text.setdefault(*pair) for pair in zip(keys, _hashes(groups), strict=True)], np.uint64)
    for n, name in enumerate(CLASSES):
        there = len(np.unique(keys[said == n]))
        if there < LEAST_PER_CLASS:
            raise TrainingError(
                f"only {there} different texts are labelled {name}; at least {LEAST_PER_CLASS} of each class are needed"
            )
    return said, keys


def _at(items: Sequence[str], positions: Ints) -> list[str]:
    return [items[n] for n in positions]


def _fit(texts: list[str], said: Ints, kind: Kind) -> Classifier:
    return _fit_naive_bayes(texts, said) if kind == "naive_bayes" else _fit_logistic(texts, said)


def _fit_logistic(texts: list[str], said: Ints) -> Classifier:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    words, letters = _terms(texts)
    counted = sparse.hstack(_counts(texts, _positions(words), _positions(letters)), format="csr")
    seen = np.bincount(counted.indices, minlength=counted.shape[1])
    idf = np.log((1 + len(texts)) / (1 + seen)) + 1
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000, tol=1e-6)
    with threadpool_limits(1):  # the order of additions, and so the last bits, would depend on the threads
        regression.fit(_features(texts, words, letters, idf), said)
    weights, bias = np.ascontiguousarray(regression.coef_.T), regression.intercept_
    return Classifier("logistic", words, letters, idf, weights, bias)


def _fit_naive_bayes(texts: list[str], said: Ints) -> Classifier:
    tables = sentiment.naive_bayes([tokens_of(text) for text in texts], [CLASSES[n] for n in said], CLASSES)
    # log2 P = prior + sum(absent) + sum over the present words of (present - absent)
    weights = np.vstack([tables.present - tables.absent, np.zeros((N_LEXICON, len(CLASSES)))]) * np.log(2)
    bias = (tables.prior + tables.absent.sum(0)) * np.log(2)
    ones = np.ones(len(tables.words))
    return Classifier("naive_bayes", tables.words, (), ones, weights, bias)


def _terms(texts: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every word and pair of words; the runs of letters that at least two texts hold."""
    words: set[str] = set()
    letters: Counter[str] = Counter()
    for text in texts:
        tokens = tokens_of(text)
        words.update(tokens, _pairs(tokens))
        letters.update({run for token in tokens for run in _runs(token)})
    return tuple(sorted(words)), tuple(sorted(run for run, n in letters.items() if n > 1))


def _pairs(tokens: list[str]) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(tokens)]


def _runs(token: str) -> list[str]:
    padded = f" {token} "
    return [padded[k : k + n] for n in LETTERS for k in range(len(padded) - n + 1)]


def _positions(terms: tuple[str, ...]) -> dict[str, int]:
    return {term: n for n, term in enumerate(terms)}


def _counts(texts: list[str], words: dict[str, int], letters: dict[str, int]) -> tuple[sparse.csr_array, ...]:
    """(n, W) and (n, L): how often each text holds each term."""
    runs: dict[str, list[int]] = {}
    # A pair is looked up as it is: joining every two words of a text takes longer than all the rest.
    pairs = {(first, second): n for term, n in words.items() for first, space, second in [term.partition(" ")] if space}
    rows: tuple[list[int], list[int]] = ([], [])
    ends: tuple[list[int], list[int]] = ([0], [0])
    for text in texts:
        tokens = tokens_of(text)
        rows[0].extend([words[term] for term in tokens if term in words])
        rows[0].extend([pairs[pair] for pair in pairwise(tokens) if pair in pairs])
        for token in tokens if letters else ():
            if token not in runs:
                runs[token] = [letters[run] for run in _runs(token) if run in letters]
            rows[1].extend(runs[token])
        ends[0].append(len(rows[0]))
        ends[1].append(len(rows[1]))
    found = []
    for at, end, terms in zip(rows, ends, (words, letters), strict=True):
        counts = sparse.csr_array((np.ones(len(at)), at, end), shape=(len(texts), len(terms)))
        counts.sum_duplicates()
        found.append(counts)
    return tuple(found)


def lexicon_scores(texts: Sequence[str]) -> Floats:
    """(n, 5): TextBlob's polarity and subjectivity; VADER's compound, positive and negative share."""
    found: Floats = np.column_stack([sentiment.polarities(texts), *lexicon.vader(texts)])
    return found


def _features(
    texts: list[str], words: tuple[str, ...], letters: tuple[str, ...], idf: Floats, scores: Floats | None = None
) -> sparse.csr_array:
    """(n, W + L + 5): TF-IDF of words and of letters, each of length 1, then the scores of both lexicons."""
    by_word, by_letters = _counts(texts, _positions(words), _positions(letters))
    blocks = [_weighted(by_word, idf[: len(words)]), _weighted(by_letters, idf[len(words) :])]
    scores = lexicon_scores(texts) if scores is None else scores
    return sparse.hstack([*blocks, sparse.csr_array(scores * LEXICON_SCALE)], format="csr")


def _weighted(counts: sparse.csr_array, idf: Floats) -> sparse.csr_array:
    data = (1 + np.log(counts.data)) * idf[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    length = np.sqrt(np.bincount(row, data * data, minlength=counts.shape[0]))
    return sparse.csr_array((data / length[row], counts.indices, counts.indptr), shape=counts.shape)


def _softmax(logits: Floats) -> Floats:
    raised: Floats = np.exp(logits - logits.max(1, keepdims=True))
    raised /= raised.sum(1, keepdims=True)
    return raised


def _temperature(logits: Floats, said: Ints) -> float:
    """What to divide logits by so that held-out labels are likeliest."""

    def surprise(log_temperature: float) -> float:
        chances = _softmax(logits / np.exp(log_temperature))[np.arange(len(said)), said]
        return float(-np.log(np.maximum(chances, 1e-300)).mean())

    return float(np.exp(minimize_scalar(surprise, bounds=(-3.0, 5.0), method="bounded").x))
