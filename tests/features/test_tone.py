"""Scores of headlines by each scorer, on a grid on which sums are exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import lexicon, sentiment, tone
from features.classifier import Classifier, lexicon_scores, train
from features.tone import on_grid, tones

TEXTS = ["Excellent results", "Terrible losses", "The meeting is on Tuesday", "", "a very good, but risky :) plan"]
WORDS = {"negative": "falls", "neutral": "meets", "positive": "rises"}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    pairs = [(f"firm {chr(97 + n)} {word}", label) for n in range(12) for label, word in WORDS.items()]
    return train(*zip(*pairs, strict=True))


def test_a_lexicon_s_polarity_is_its_tone():
    for name, polarity, limit in (
        ("textblob", sentiment.polarities(TEXTS)[:, 0], 0.1),
        ("vader", lexicon.vader(TEXTS).compound, lexicon.THRESHOLD),
    ):
        found = tones(TEXTS, name, 0.1)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.tone, polarity, atol=2**-32)
        np.testing.assert_array_equal(found.chances.sum(1), 1)
        np.testing.assert_array_equal(found.label, sentiment.classify(polarity, limit))


def test_a_classifier_gives_its_own(classifier: Classifier):
    found = tones(TEXTS, classifier, 0.1)
    np.testing.assert_allclose(found.chances, classifier.probabilities(TEXTS), atol=2**-33)
    np.testing.assert_array_equal(found.label, classifier.labels(TEXTS))
    np.testing.assert_allclose(found.polarity, sentiment.polarities(TEXTS)[:, 0], atol=2**-33)


def test_known_lexicon_scores_change_no_bit(classifier: Classifier):
    texts = [TEXTS[n] for n in (4, 0, 4, 1, 3, 0)]
    again = classifier.probabilities(texts, lexicon_scores(texts))
    assert again.tobytes() == classifier.probabilities(texts).tobytes()


def test_chunks_change_no_bit(classifier: Classifier, monkeypatch: pytest.MonkeyPatch):
    whole = tones(TEXTS, classifier, 0.1)
    monkeypatch.setattr(tone, "CHUNK", 2)
    for one, other in zip(tones(TEXTS, classifier, 0.1), whole, strict=True):
        assert one.tobytes() == other.tobytes()


def test_no_texts(classifier: Classifier):
    for scorer in (classifier, "textblob", "vader"):
        assert [len(part) for part in tones([], scorer, 0.1)] == [0] * 5  # type: ignore[arg-type]


def test_another_scorer_is_refused():
    with pytest.raises(ValueError, match="text scorer 'finbert': use a trained classifier, textblob or vader"):
        tones(TEXTS, "finbert", 0.1)  # type: ignore[arg-type]


@given(st.lists(st.floats(-1, 1), max_size=200), st.randoms())
def test_sums_on_the_grid_are_exact(values: list[float], random):
    rounded = on_grid(np.array(values)).tolist()
    np.testing.assert_allclose(rounded, values, atol=2**-33, rtol=0)
    exact = math.fsum(rounded)
    random.shuffle(rounded)
    assert sum(rounded) == exact
