"""The fast path is TextBlob: the same bits for every text, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textblob import TextBlob
from textblob._text import ABBREVIATIONS, EMOTICONS, PUNCTUATION
from textblob.classifiers import NaiveBayesClassifier
from textblob.en import sentiment as lexicon

from features import sentiment
from features.sentiment import NEGATIVE, NEUTRAL, POSITIVE, classify, naive_bayes, polarities, score

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TEXTS = [
    ("semeval2017_t5_headlines", "headline"),
    ("fiqa_posts", "text"),
    ("cnbc_headlines_timed", "headline"),
    ("cnbc_headlines_timed", "description"),
    ("djia_headlines", "headline"),
    ("tweets20_tweets", "text"),
]
HEADLINES = [
    "Excellent results, the best quarter ever",
    "Terrible losses and awful guidance",
    "The annual meeting is on Tuesday",
    "",
    "Excellent results, the best quarter ever",
]
WORDS = sorted(lexicon.keys())
FACES = sorted({face for faces in EMOTICONS.values() for face in faces})
MARKS = [
    *PUNCTUATION,
    "...",
    "!!",
    "(!)",
    "( ! )",
    "?!",
    "“",
    "”",
    "\u2018",
    "\u2019",
    "—",
    "END-OF-SENTENCE",
    "&amp;",
    "://",
]
SMALL = ["no", "not", "n't", "never", "isn't", "don't", "a", "to", "the", "is", "I'm", "it's", "really", "very", "Acme"]
BLANKS = ["", "", " ", " ", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\x1c", "\x85", "\u00a0", "\u2003", "\x0b", "\u200b"]
part = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(WORDS).map(str.upper),
    st.sampled_from(SMALL),
    st.sampled_from(MARKS),
    st.sampled_from(FACES),
    st.sampled_from(FACES).map(" ".join),
    st.tuples(st.sampled_from(FACES), st.integers(1, 4)).map(lambda cut: f"{cut[0][: cut[1]]} {cut[0][cut[1] :]}"),
    st.sampled_from(FACES).map(str.lower),
    st.sampled_from(sorted(ABBREVIATIONS)),
    st.from_regex(r"[A-Z]?[0-9]{1,4}[%.)]?", fullmatch=True),
    st.text(max_size=4),
    st.characters(categories=("Cc", "Cf", "Zs", "Lm", "Po", "So")),
)
text = st.lists(st.tuples(part, st.sampled_from(BLANKS)), max_size=14).map(lambda p: "".join(a + b for a, b in p))


def textblobs(texts: list[str]) -> np.ndarray:
    return np.array([tuple(TextBlob(each).sentiment) for each in texts], dtype=np.float64).reshape(-1, 2)


def assert_same_bits(texts: list[str]) -> None:
    found, expected = polarities(texts), textblobs(texts)
    wrong = np.flatnonzero((found.view(np.int64) != expected.view(np.int64)).any(1))
    assert [(texts[n], found[n], expected[n]) for n in wrong[:5]] == []


@settings(max_examples=3000, deadline=None)
@given(text)
@example("not really a good result")
@example("really not good, hardly the best !")
@example("a very ( ! ) good year : ) ! and worse")
@example("profit up (2018) good : - D")
@example("> : ( no good")
@example("good : '''( bad")
@example("good :' ''( bad")
@example("LXD, good")
@example("good : END-OF-SENTENCE ) bad")
@example("don't call it good\n\n: ) great")
@example("very 8) good")
@example("good!!! (!) never \u2018bad\u2019")
def test_it_equals_textblob_on_fuzzed_texts(fuzzed: str) -> None:
    assert_same_bits([fuzzed])


@settings(max_examples=1500, deadline=None)
@given(st.text(alphabet=":;=-)(!3DPp8xXo_O.°<>'\" /\\|[]{}*^csS a", max_size=12))
def test_it_equals_textblob_on_scattered_emoticons(fuzzed: str) -> None:
    assert_same_bits([f"very good {fuzzed} bad", fuzzed])


def test_every_word_of_the_lexicon() -> None:
    frames = ("{0}", "not {0}", "really {0}!", "{1}, (not '{0}') {0}.")
    assert_same_bits([frame.format(word, word.title()) for word in WORDS for frame in frames])


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the labelled and timed texts in {SHARED}")
@pytest.mark.parametrize(("file", "column"), TEXTS)
def test_it_equals_textblob_on_every_real_text(file: str, column: str) -> None:
    texts = pd.read_parquet(SHARED / f"{file}.parquet", columns=[column])[column].dropna().astype(str)
    assert_same_bits(list(dict.fromkeys(texts)))


def test_what_the_shortcuts_rest_on() -> None:
    """No word of the lexicon begins or ends with punctuation, every emoticon is seen by the quick look."""
    assert [word for word in WORDS if word.strip(PUNCTUATION) != word] == []
    assert [face for face in FACES if not sentiment._HINT.search(face)] == []
    assert all(None in senses for senses in lexicon.values())


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentiment, "MOST_PIECES", 10)
    texts = [f"good result of company{n}" for n in range(100)]
    np.testing.assert_array_equal(polarities(texts), textblobs(texts))
    assert len(sentiment._MEMO) <= 14


def test_scores_are_textblobs() -> None:
    found = score(HEADLINES, 0.1)
    expected = textblobs(HEADLINES)
    np.testing.assert_array_equal(found.polarity, expected[:, 0])
    np.testing.assert_array_equal(found.subjectivity, expected[:, 1])
    np.testing.assert_array_equal(found.label, [POSITIVE, NEGATIVE, NEUTRAL, NEUTRAL, POSITIVE])


def test_each_distinct_text_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def listening(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return polarities(asked)

    monkeypatch.setattr(sentiment, "polarities", listening)
    score(HEADLINES * 3, 0.1)
    assert sorted(asked) == sorted(set(HEADLINES))


def test_a_threshold_itself_is_neutral() -> None:
    polarity = np.array([-0.3, -0.1, 0.0, 0.1, 0.1000001])
    np.testing.assert_array_equal(classify(polarity, 0.1), [NEGATIVE, NEUTRAL, NEUTRAL, NEUTRAL, POSITIVE])


def test_no_texts_give_empty_arrays_of_the_right_kind() -> None:
    found = score([], 0.1)
    assert found.polarity.shape == found.subjectivity.shape == found.label.shape == (0,)
    assert (found.polarity.dtype, found.label.dtype) == (np.float64, np.int8)


def test_naive_bayes_tables_are_textblobs_probabilities() -> None:
    classes = ("negative", "neutral", "positive")
    tokens = [["profit", "up"], ["profit", "down"], ["meeting", "on", "tuesday"], ["loss", "down"], ["record", "up"]]
    labels = ["positive", "negative", "neutral", "negative", "positive"]
    tables = naive_bayes(tokens, labels, classes)
    theirs = NaiveBayesClassifier(list(zip(tokens, labels, strict=True)))
    for asked in (["profit", "down", "unknown"], [], ["up", "up", "record"]):
        here = np.array([word in asked for word in tables.words])
        logs = tables.prior + np.where(here[:, None], tables.present, tables.absent).sum(0)
        expected = theirs.prob_classify(asked)
        found = np.exp2(logs) / np.exp2(logs).sum()
        np.testing.assert_allclose(found, [expected.prob(each) for each in classes], rtol=1e-9)
