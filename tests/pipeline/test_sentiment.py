"""Label files, cards and `tradewind sentiment`, from the file to what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from features.classifier import CLASSES
from pipeline.config import Config, Data
from pipeline.errors import DataError, UsageError
from pipeline.evidence import text_card
from pipeline.evidence.text_card import card, judge
from pipeline.labelled import Labelled, bundled, classifier_in_use, read_classifier, read_labels
from pipeline.sentiment import run_card, run_train

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the labelled texts in {SHARED}")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=Data(artifacts=tmp_path / "artifacts"))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def some_labels(path: Path, n: int = 60) -> Path:
    """Headlines of our own file, by score and under other column names."""
    held = bundled()
    scores = [{"negative": -0.7, "neutral": 0.1, "positive": 0.4}[label] for label in held.labels[:n]]
    pd.DataFrame({"Headline": [f"{t} today" for t in held.texts[:n]], "sentiment": scores}).to_csv(path, index=False)
    return path


def test_labels_and_scores_are_read_alike(tmp_path: Path) -> None:
    by_label = read_labels(write(tmp_path / "a.csv", "text,label\nup,Positive \ndown,negative\nflat,NEUTRAL\n"))
    rows = [{"title": "up", "score": 0.11}, {"title": "down", "score": -1}, {"title": "flat", "score": -0.1}]
    by_score = read_labels(write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows))))
    pd.DataFrame(rows).to_parquet(tmp_path / "c.parquet")
    for found in (by_label, by_score, read_labels(tmp_path / "c.parquet")):
        assert (found.texts, found.labels) == (["up", "down", "flat"], ["positive", "negative", "neutral"])
        assert found.rejected == ()


def test_rows_that_cannot_be_used_are_counted_and_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,score\nfine,0.5\nhigh,1.5\n" ",0.1\nword,abc\nnothing,\n"two, parts",-0.3\n')
    found = read_labels(path)
    assert found.texts == ["fine", "two, parts"]
    assert found.rejected == (
        "row 2: score is not a number from -1 to 1: high | 1.5",
        "row 3: no text:   | 0.1",
        "row 4: score is not a number from -1 to 1: word | abc",
        "row 5: score is not a number from -1 to 1: nothing | ",
    )


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.txt", "x", UsageError, "use a .csv, .jsonl or .parquet file"),
        ("a.csv", "", DataError, "cannot be parsed"),
        ("a.csv", "words,label\nup,positive\n", DataError, "has the columns words, label; needed are text or headline"),
        ("a.csv", "text,label\nup,bullish\n", DataError, "no usable row among 1; the first: label is not negative"),
        ("a.csv", "text,label\n", DataError, "no usable row among 0"),
        ("a.jsonl", "{not json}", DataError, "cannot be parsed"),
        ("a.parquet", "no parquet", DataError, "cannot be parsed"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, name: str, content: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_labels(write(tmp_path / name, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no label file at .*nix\.csv"):
        read_labels(tmp_path / "nix.csv")


def labelled(texts: list[str], labels: list[str]) -> Labelled:
    return Labelled("made.csv", texts, labels, None, (), "")


@dataclass(frozen=True)
class Parrot:
    """Says a fixed class; claims to have been trained on `seen`."""

    says: int
    seen: frozenset[str] = field(default_factory=frozenset)
    learned: bool = True
    name: str = "parrot"

    def labels(self, texts: Sequence[str]) -> npt.NDArray[np.int8]:
        return np.full(len(texts), self.says, np.int8)

    def knows(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        return np.array([text in self.seen for text in texts])


def drawn(n: int = 400) -> tuple[Labelled, npt.NDArray[np.int8]]:
    generator = np.random.default_rng(3)
    truth = generator.choice(3, n, p=[0.3, 0.2, 0.5])
    said = np.where(generator.random(n) < 0.6, truth, generator.choice(3, n)).astype(np.int8) - np.int8(1)
    texts = [f"text {'abcdefghij'[k % 10]}{'klmnopqrst'[k // 10 % 10]}{'uvwxyz'[k // 100]}" for k in range(n)]
    return labelled(texts, [CLASSES[k] for k in truth]), said


def test_a_cards_figures_are_scikit_learns() -> None:
    held, said = drawn()
    found = judge("drawn", held, np.arange(400), said, "out of fold")
    truth = np.array([CLASSES.index(label) for label in held.labels])
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, said + 1))
    assert found.macro_f1.value == pytest.approx(f1_score(truth, said + 1, average="macro"))
    assert found.confusion == confusion_matrix(truth, said + 1).tolist()
    assert (found.majority_class, found.majority) == ("positive", np.mean(truth == 2))
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert found.verdict == "beats the majority class"


def test_repeating_every_text_narrows_no_interval() -> None:
    held, said = drawn()
    once = judge("x", held, np.arange(400), said, "out of fold")
    thrice = judge("x", labelled(held.texts * 3, held.labels * 3), np.arange(1200), np.tile(said, 3), "out of fold")
    assert (thrice.clusters, thrice.rows) == (400, 1200)
    assert (thrice.accuracy, thrice.macro_f1, thrice.lift) == (once.accuracy, once.macro_f1, once.lift)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = labelled(drawn(300)[0].texts, [CLASSES[0]] * 300)
    covered = 0
    for _ in range(200):
        said = np.where(generator.random(300) < 0.7, -1, 1).astype(np.int8)
        found = judge("x", held, np.arange(300), said, "out of fold", resamples=400)
        covered += found.accuracy.low <= 0.7 <= found.accuracy.high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_difference_to_the_baseline_is_paired() -> None:
    held, said = drawn()
    same = judge("x", held, np.arange(400), said, "out of fold", baseline=said)
    assert same.over_baseline == text_card.Figure(0.0, 0.0, 0.0)


def test_always_saying_the_commonest_class_beats_nothing() -> None:
    held, _ = drawn()
    found = card(Parrot(1), held)
    assert (found.lift.value, found.verdict) == (0.0, "does not beat the majority class")


def test_too_few_texts_give_no_verdict() -> None:
    held, said = drawn(90)
    assert judge("x", held, np.arange(90), said, "out of fold").verdict == "no verdict: fewer than 100 different texts"


def test_texts_it_was_trained_on_are_left_out_and_the_rest_is_transfer() -> None:
    held, _ = drawn()
    found = card(Parrot(1, frozenset(held.texts[:150])), held)
    assert (found.rows, found.excluded, found.domain) == (250, 150, "transfer")
    assert card(Parrot(1, learned=False), held).domain == "nothing learned"
    with pytest.raises(DataError, match=r"parrot was trained on every text of made\.csv; judge it out of fold"):
        card(Parrot(1, frozenset(held.texts)), held)


def domains(cards: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(each["labels"], each["domain"]) for each in cards]


def test_training_keeps_the_classifier_and_its_card(tmp_path: Path, config: Config) -> None:
    out = tmp_path / "out"
    summary = run_train(config, None, some_labels(tmp_path / "other.csv"), out)
    assert domains(summary.figures["cards"]) == [
        ("headlines.csv", "nothing learned"), ("headlines.csv", "nothing learned"), ("headlines.csv", "out of fold"),
        ("other.csv", "nothing learned"), ("other.csv", "nothing learned"), ("other.csv", "transfer"),
    ]  # fmt: skip
    assert json.loads((out / "card.json").read_text()) == json.loads(summary.to_json())["figures"]
    assert read_classifier(out).source == "headlines.csv"
    assert not list(out.glob(".*"))
    first = (out / "classifier.npz").read_bytes()
    run_train(config, None, None, out)
    assert (out / "classifier.npz").read_bytes() == first


def test_the_default_is_trained_once_and_judged_only_out_of_fold_on_its_own_labels(config: Config) -> None:
    summary = run_card(config, None)
    assert domains(summary.figures["cards"])[-1] == ("headlines.csv", "out of fold")
    assert "transfer" not in [domain for _, domain in domains(summary.figures["cards"])]
    assert "in use, was trained on all of this: only out of fold is shown" in "\n".join(summary.lines)
    kept = config.data.artifacts / "sentiment" / "classifier.npz"
    written = kept.stat().st_mtime_ns
    assert classifier_in_use(config.data.artifacts).source == "headlines.csv"
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"classifier\.npz: not a text classifier: .*; train it again"):
        classifier_in_use(config.data.artifacts)


def test_a_file_too_small_to_train_on_is_still_judged(tmp_path: Path, config: Config) -> None:
    summary = run_card(config, some_labels(tmp_path / "few.csv", 12))
    assert [domain for _, domain in domains(summary.figures["cards"])] == ["nothing learned"] * 2 + ["transfer"]
    assert "nothing trained on few.csv: few.csv: only 4 different texts are labelled negative" in summary.lines[-1]


def test_without_a_classifier_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no text classifier at .* tradewind sentiment train"):
        read_classifier(tmp_path)


def tradewind(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("tradewind")), "sentiment", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_commands(tmp_path: Path) -> None:
    done = tradewind(
        "train", "--labels", str(some_labels(tmp_path / "l.csv", 120)), "--kind", "naive_bayes", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "trained on 120 texts of l.csv" in done.stdout
    assert (tmp_path / "artifacts" / "sentiment" / "classifier.npz").is_file()
    shown = tradewind("card", "--json", cwd=tmp_path)
    cards = json.loads(shown.stdout)["figures"]["cards"]
    assert [each["scorer"] for each in cards] == [
        "TextBlob, +-0.1", "VADER, +-0.05", "naive_bayes of headlines.csv", "naive_bayes of l.csv",
    ]  # fmt: skip
    wrong = tradewind("train", "--kind", "svm", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (2, "error: --kind 'svm': use logistic or naive_bayes\n")


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "other"), [("semeval2017_t5_headlines", "fiqa_posts"), ("fiqa_posts", "semeval2017_t5_headlines")]
)
def test_in_domain_it_beats_textblobs_thresholds_by_far(tmp_path: Path, config: Config, file: str, other: str) -> None:
    summary = run_train(config, SHARED / f"{file}.parquet", SHARED / f"{other}.parquet", tmp_path / "out")
    inside, foreign = summary.figures["cards"][2], summary.figures["cards"][5]
    assert inside["domain"] == "out of fold"
    assert inside["over_baseline"]["value"] >= 0.15
    assert inside["over_baseline"]["low"] > 0.15
    assert inside["verdict"] == "beats the majority class"
    assert foreign["domain"] == "transfer"
