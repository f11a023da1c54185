import numpy as np
from textblob import TextBlob

from features import sentiment
from features.sentiment import NEGATIVE, NEUTRAL, POSITIVE, classify, score

HEADLINES = [
    "Excellent results, the best quarter ever",
    "Terrible losses and awful guidance",
    "The annual meeting is on Tuesday",
    "",
    "Excellent results, the best quarter ever",
]


def test_scores_are_textblobs():
    found = score(HEADLINES, 0.1)
    expected = [TextBlob(text).sentiment for text in HEADLINES]
    np.testing.assert_array_equal(found.polarity, [p for p, _ in expected])
    np.testing.assert_array_equal(found.subjectivity, [s for _, s in expected])
    np.testing.assert_array_equal(found.label, [POSITIVE, NEGATIVE, NEUTRAL, NEUTRAL, POSITIVE])


def test_each_distinct_text_is_scored_once(monkeypatch):
    asked = []

    def counting(text):
        asked.append(text)
        return TextBlob(text)

    monkeypatch.setattr(sentiment, "TextBlob", counting)
    score(HEADLINES * 3, 0.1)
    assert sorted(asked) == sorted(set(HEADLINES))


def test_a_threshold_itself_is_neutral():
    polarity = np.array([-0.3, -0.1, 0.0, 0.1, 0.1000001])
    np.testing.assert_array_equal(classify(polarity, 0.1), [NEGATIVE, NEUTRAL, NEUTRAL, NEUTRAL, POSITIVE])


def test_no_texts_give_empty_arrays_of_the_right_kind():
    found = score([], 0.1)
    assert found.polarity.shape == found.subjectivity.shape == found.label.shape == (0,)
    assert (found.polarity.dtype, found.label.dtype) == (np.float64, np.int8)
