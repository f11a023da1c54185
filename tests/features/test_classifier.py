"""The trainable classifier: deterministic, kept without pickle, never split through repeated texts."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from textblob.classifiers import NaiveBayesClassifier
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from features import classifier as module
from features import lexicon
from features.classifier import CLASSES, KINDS, Classifier, Kind, TrainingError, fingerprints, out_of_fold, train
from features.classifier_bytes import ClassifierFileError, dumps, loads

ROOT = Path(__file__).resolve().parents[2]
LABELS = pd.read_csv(ROOT / "data" / "labels" / "headlines.csv")
TEXTS, SAID, STORIES = LABELS["text"].tolist(), LABELS["label"].tolist(), LABELS["story"].astype(str).tolist()
FOREIGN = [
    "Zorro Inc raises guidance, shares soar 12%",
    "Fraud probe at Zorro deepens",
    "",
    "!!!",
    "\u4e2d\u6587 \U0001f600",
    "a",
]


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> Classifier:
    kind: Kind = request.param
    return train(TEXTS, SAID, kind, "headlines.csv", STORIES)


def test_probabilities_are_probabilities(trained: Classifier) -> None:
    chances = trained.probabilities(FOREIGN + TEXTS[:20])
    assert chances.shape == (26, 3)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-12)
    assert (chances > 0).all()
    assert trained.probabilities([]).shape == (0, 3)
    assert trained.labels([]).shape == (0,)


def test_the_logistic_one_learns_what_it_was_shown() -> None:
    """Not skill, only that training works: the figure on its own texts is never reported."""
    seen = train(TEXTS, SAID, "logistic", groups=STORIES).labels(TEXTS)
    assert (seen == LABELS["label"].map(CLASSES.index).to_numpy() - 1).mean() > 0.9


def test_out_of_fold_it_beats_chance_on_stories_it_has_not_seen() -> None:
    _, said = out_of_fold(TEXTS, SAID, "logistic", STORIES)
    assert (said == LABELS["label"].map(CLASSES.index).to_numpy() - 1).mean() > 0.5


def test_a_text_scores_the_same_alone_among_others_and_twice(trained: Classifier) -> None:
    together = trained.probabilities([*TEXTS[:50], *FOREIGN, *TEXTS[:50]])
    np.testing.assert_array_equal(together[:50], together[56:])
    np.testing.assert_allclose(
        np.vstack([trained.probabilities([text]) for text in FOREIGN]), together[50:56], rtol=1e-12
    )


def test_what_is_read_back_predicts_the_same_bits(trained: Classifier) -> None:
    again = loads(dumps(trained))
    asked = FOREIGN + TEXTS
    assert again.probabilities(asked).tobytes() == trained.probabilities(asked).tobytes()
    assert again.labels(asked).tobytes() == trained.labels(asked).tobytes()
    assert (again.kind, again.source, again.words, again.letters) == (
        trained.kind, trained.source, trained.words, trained.letters,
    )  # fmt: skip


def test_the_same_labels_give_the_same_bytes(trained: Classifier) -> None:
    assert dumps(train(TEXTS, SAID, trained.kind, "headlines.csv", STORIES)) == dumps(trained)
    assert dumps(loads(dumps(trained))) == dumps(trained)


def test_nothing_in_the_file_needs_pickle(trained: Classifier) -> None:
    with np.load(io.BytesIO(dumps(trained)), allow_pickle=False) as archive:
        assert all(not archive[name].dtype.hasobject for name in archive.files)
        assert json.loads(archive["manifest"].tobytes())["schema"] == 1


def rewritten(content: bytes, **changes: np.ndarray) -> bytes:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        held = {name: archive[name] for name in archive.files}
    out = io.BytesIO()
    np.savez(out, **(held | changes))
    return out.getvalue()


def test_an_altered_file_is_refused(trained: Classifier) -> None:
    whole = dumps(trained)
    with pytest.raises(ClassifierFileError, match="checksum does not match; it was altered"):
        loads(rewritten(whole, bias=np.array([1.0, 2.0, 3.0])))
    newer = np.frombuffer(json.dumps({"schema": 9}).encode(), np.uint8)
    with pytest.raises(ClassifierFileError, match="of schema 9; this version reads 1"):
        loads(rewritten(whole, manifest=newer))
    for broken in (b"", b"no archive", whole[:-200], whole[: len(whole) // 2]):
        with pytest.raises(ClassifierFileError, match="not a text classifier"):
            loads(broken)


def test_too_few_or_unknown_labels_are_refused() -> None:
    with pytest.raises(TrainingError, match="label 'bullish': use negative, neutral, positive"):
        train(TEXTS[:2], ["positive", "bullish"])
    with pytest.raises(TrainingError, match="only 1 different texts are labelled negative; at least 10"):
        train(["Same text"] * 40, ["negative"] * 40)


def test_repeated_texts_and_stories_stay_in_one_fold() -> None:
    texts = [*TEXTS, *(text.upper() + " " for text in TEXTS)]
    said, keys = module._checked(texts, SAID * 2, None)
    for rest, here in module._splits(keys, said):
        assert not set(fingerprints([texts[n] for n in rest])) & set(fingerprints([texts[n] for n in here]))
        assert set(said[rest]) == {0, 1, 2}
    said, keys = module._checked(TEXTS, SAID, STORIES)
    held_out = []
    for rest, here in module._splits(keys, said):
        assert not {STORIES[n] for n in rest} & {STORIES[n] for n in here}
        held_out += here.tolist()
    assert sorted(held_out) == list(range(len(TEXTS)))


def test_it_knows_the_texts_it_was_trained_on(trained: Classifier) -> None:
    assert trained.knows(TEXTS).all()
    assert trained.knows([TEXTS[0].upper() + "  ."]).all()
    assert not trained.knows(FOREIGN).any()


def test_the_logistic_one_is_scikit_learns() -> None:
    """Logits of the untempered fit against scikit-learn's own decision function on the same features."""
    said = np.array([CLASSES.index(label) for label in SAID])
    fitted = module._fit_logistic(TEXTS, said)
    features = module._features(TEXTS, fitted.words, fitted.letters, fitted.idf)
    theirs = LogisticRegression(C=module.INVERSE_PENALTY, max_iter=2000, tol=1e-6).fit(features, said)
    np.testing.assert_allclose(module._softmax(fitted._logits(TEXTS)), theirs.predict_proba(features), atol=1e-6)


def test_naive_bayes_is_textblobs() -> None:
    tokens = [module.tokens_of(text) for text in TEXTS[:90]]
    fitted = module._fit_naive_bayes(TEXTS[:90], np.array([CLASSES.index(label) for label in SAID[:90]]))
    theirs = NaiveBayesClassifier(list(zip(tokens, SAID[:90], strict=True)))
    ours = module._softmax(fitted._logits(FOREIGN[:2]))
    for asked, chances in zip(FOREIGN[:2], ours, strict=True):
        expected = theirs.prob_classify(module.tokens_of(asked))
        np.testing.assert_allclose(chances, [expected.prob(each) for each in CLASSES], rtol=1e-6)


def test_calibration_takes_back_overconfidence() -> None:
    generator = np.random.default_rng(0)
    said = generator.integers(0, 3, 4000)
    logits = np.eye(3)[said] + generator.normal(0, 1, (4000, 3))
    assert module._temperature(logits * 7, said) == pytest.approx(7 * module._temperature(logits, said), rel=1e-3)


def test_predicting_needs_no_scikit_learn(tmp_path: Path) -> None:
    content = tmp_path / "classifier.npz"
    content.write_bytes(dumps(train(TEXTS, SAID, "logistic", groups=STORIES)))
    code = (
        "import sys; sys.modules['sklearn'] = None; from pathlib import Path\n"
        "from features.classifier_bytes import loads\n"
        "print(loads(Path(sys.argv[1]).read_bytes()).probabilities(['profit warning']).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(content)], capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 3)\n", done.stderr


ANALYZER = SentimentIntensityAnalyzer()
SAYINGS = ["good", "not", "BAD!", "great", ":)", "no", "kind", "of", "but", "the", "bomb", "least", "very", "(ok)"]
SAYINGS += ["never", "so", "THIS", "without", "doubt", "shouldn't", "bad", "ass", "yeah", "right"]
SAYINGS += ["\U0001f600", "\u2764"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(SAYINGS), st.text(max_size=5)), max_size=10).map(" ".join))
@example("not good, but great!!")
def test_vader_is_vaders(text: str) -> None:
    expected = ANALYZER.polarity_scores(text)
    found = lexicon.vader([text, text])
    assert [found.compound[1], found.positive[1], found.negative[1]] == [
        expected[k] for k in ("compound", "pos", "neg")
    ]


def test_the_label_file_keeps_its_promises() -> None:
    card = (ROOT / "data" / "labels" / "README.md").read_text()
    assert list(LABELS.columns) == ["text", "label", "story"]
    assert len(LABELS) >= 330
    assert LABELS["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, len(LABELS) // 3)
    assert len(set(fingerprints(TEXTS))) == len(LABELS)
    assert (LABELS.groupby("story").size() == 3).all()
    assert re.search(rf"`headlines.csv`: {len(LABELS)} made-up", card)
    assert "CC0" in card
