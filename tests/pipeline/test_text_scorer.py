"""Which scorer gives headlines their class, from `sentiment.scorer` to the features in the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features import frames
from features.classifier import Classifier
from pipeline import featurize
from pipeline.config import Config, load
from pipeline.errors import ConfigError
from pipeline.labelled import FILE, bundled, classifier_in_use, scorer_bytes, scorer_in_use, write_classifier
from pipeline.store import Lake


def with_section(config: Config, name: str, **changes: Any) -> Config:
    return config.model_copy(update={name: getattr(config, name).model_copy(update=changes)})


def headlines(prices: pd.DataFrame) -> pd.DataFrame:
    """A bundled headline on every fifth session of each ticker."""
    rows = prices[prices["ticker"] == "T00"].iloc[::5].reset_index(drop=True)
    texts = bundled().texts
    at = (rows["session"] + pd.Timedelta(hours=15)).dt.tz_localize("UTC").astype(frames.INSTANT)
    news = pd.DataFrame(
        {
            "news_id": [f"n{n}" for n in range(len(rows))],
            "ticker": rows["ticker"],
            **dict.fromkeys(("published_at", "known_at", "ingested_at"), at),
            "source": "test",
            "title": [texts[n % len(texts)] for n in range(len(rows))],
            **dict.fromkeys(("summary", "url"), ""),
        }
    )
    return frames.check("news", news.astype(frames.COLUMNS["news"]))


def test_the_default_is_the_bundled_classifier(small_config: Config) -> None:
    scorer = scorer_in_use(small_config)
    assert isinstance(scorer, Classifier)
    assert scorer.source == "headlines.csv"
    assert scorer_bytes(scorer) == (small_config.data.artifacts / "sentiment" / FILE).read_bytes()


def test_another_classifier_is_used_once_it_is_there(small_config: Config) -> None:
    before = scorer_bytes(scorer_in_use(small_config))
    mine = Classifier("naive_bayes", ("soars",), (), np.ones(1), np.zeros((6, 3)), np.array([0.0, 0.0, 1.0]))
    write_classifier(mine, small_config.data.artifacts / "sentiment")
    assert scorer_bytes(scorer_in_use(small_config)) == scorer_bytes(mine) != before


@pytest.mark.parametrize("name", ["textblob", "vader"])
def test_a_lexicon_needs_no_classifier(small_config: Config, name: str) -> None:
    scorer = scorer_in_use(with_section(small_config, "sentiment", scorer=name))
    assert scorer == name
    assert scorer_bytes(scorer) == name.encode()
    assert not small_config.data.artifacts.exists()


@pytest.mark.parametrize(
    ("features", "trained"),
    [
        ({"families": ("returns",)}, False),
        ({"chosen": ("ret_1", "log_vol")}, False),
        ({"families": ("returns",), "chosen": ("ret_1", "tone_mean")}, True),
    ],
)
def test_nothing_is_trained_for_features_without_text(
    small_config: Config, features: dict[str, Any], trained: bool
) -> None:
    scorer = scorer_in_use(with_section(small_config, "features", **features))
    assert isinstance(scorer, Classifier) == trained == small_config.data.artifacts.exists()


def test_an_unknown_scorer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tradewind.toml").write_text('[sentiment]\nscorer = "finbert"\n')
    with pytest.raises(ConfigError, match=r"sentiment\.scorer"):
        load(tmp_path / "tradewind.toml")


def test_the_table_holds_what_the_scorer_says(small_config: Config, small_lake: Lake, prices: pd.DataFrame) -> None:
    small_lake.add_news(headlines(prices))
    found = {}
    for name in ("trained", "vader", "textblob"):
        featurize.run(with_section(small_config, "sentiment", scorer=name))
        found[name] = small_lake.read("features", order_by="ticker, session")
    one, other = found["trained"], found["textblob"]
    told = one["no_news"] == 0
    assert told.sum() == 180
    first = one.loc[told, ["chance_negative", "chance_neutral", "chance_positive"]].to_numpy()
    expected = classifier_in_use(small_config.data.artifacts).probabilities((bundled().texts * 2)[:180])
    np.testing.assert_allclose(first, expected, atol=1e-6)
    pd.testing.assert_series_equal(other["tone_mean"], other["polarity_mean"], check_names=False)
    pd.testing.assert_series_equal(found["vader"]["tone_mean"], other["compound_mean"], check_names=False)
    for name in ("polarity_mean", "subjectivity_mean", "compound_mean", "news_count", "novelty_20"):
        pd.testing.assert_series_equal(one[name], other[name])


def test_features_follow_a_classifier_that_is_trained_anew(
    small_config: Config, small_lake: Lake, prices: pd.DataFrame
) -> None:
    small_lake.add_news(headlines(prices))
    featurize.run(small_config)
    before = small_lake.read("features", order_by="ticker, session")
    mine = Classifier("naive_bayes", ("soars",), (), np.ones(1), np.zeros((6, 3)), np.array([0.0, 0.0, 1.0]))
    write_classifier(mine, small_config.data.artifacts / "sentiment")
    featurize.run(small_config)
    after = small_lake.read("features", order_by="ticker, session")
    told = after["no_news"] == 0
    assert after.loc[told, "tone_mean"].nunique() == 1 < before.loc[told, "tone_mean"].nunique()
