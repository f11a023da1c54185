"""Labels from moves: what followed a headline and had ended in time, and nothing that came later."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from features.classifier import train
from features.classifier_bytes import dumps, loads
from features.news import NAMES, SCORED
from pipeline import cli, featurize, ingest
from pipeline.config import Config
from pipeline.distant import NEUTRAL_BAND, from_moves
from pipeline.errors import DataError, UsageError
from pipeline.labelled import bundled, read_classifier
from pipeline.providers import Delivery, Held
from pipeline.sentiment import run_train
from pipeline.store import Lake
from pipeline.summary import Progress

UNTIL = dt.date(2007, 3, 30)
WORDS = ("alpha", "beta", "gamma", "delta", "omega")


def told_of(prices: pd.DataFrame) -> np.ndarray:
    """Which rows have a headline."""
    return np.arange(len(prices)) % 2 == 0


def told(prices: pd.DataFrame) -> pd.DataFrame:
    """A headline for one ticker or two each session, hours before its close, in words that mean nothing."""
    some = prices[told_of(prices)].reset_index(drop=True)
    published = some["session"].dt.tz_localize("UTC") + pd.Timedelta(hours=15)
    generator = np.random.default_rng(1)
    chosen = generator.choice(WORDS, (len(some), 3))
    title = [f"{' '.join(words)} {ticker}" for words, ticker in zip(chosen, some["ticker"], strict=True)]
    columns = {"ticker": some["ticker"], "published_at": published, "known_at": published, "title": title}
    return pd.DataFrame(columns).assign(source="test", summary="", url="")


def filled(config: Config, prices: pd.DataFrame, news: pd.DataFrame | None = None) -> Lake:
    headlines = told(prices) if news is None else news

    def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
        yield Delivery(prices.drop(columns=["known_at", "ingested_at"]), headlines)

    ingest.run(config, provider=deliver)
    featurize.run(config)
    return Lake(config.data.lake)


def elsewhere(config: Config, name: str) -> Config:
    root = Path(config.data.lake).parent / name
    data = config.data.model_copy(update={"lake": str(root / "lake"), "artifacts": root / "artifacts"})
    return config.model_copy(update={"data": data})


def test_a_label_is_the_sign_of_the_move_that_followed(small_config: Config, prices: pd.DataFrame) -> None:
    lake = filled(small_config, prices)
    found = from_moves(small_config, lake, UNTIL)
    rows = told(prices).assign(session=prices.loc[told_of(prices), "session"].to_numpy())
    z = lake.read("targets", "horizon = 1").merge(rows[["ticker", "session", "title"]], on=["ticker", "session"])
    sessions = np.sort(prices["session"].unique())
    ends = sessions[np.searchsorted(sessions, z["session"]) + 2]  # open to open, one session ahead
    z = z[ends <= np.datetime64(UNTIL)].sort_values(["session", "ticker", "title"])
    expected = np.where(z["z"] > NEUTRAL_BAND, "positive", np.where(z["z"] < -NEUTRAL_BAND, "negative", "neutral"))
    assert found.texts == z["title"].tolist()
    assert found.labels == expected.tolist()
    assert found.groups == z["session"].dt.strftime("%Y-%m-%d").tolist()
    assert set(found.labels) == {"negative", "neutral", "positive"}


def test_what_came_after_changes_no_bit_of_the_classifier(small_config: Config, prices: pd.DataFrame) -> None:
    later = prices["session"] > pd.Timestamp(UNTIL)
    altered = prices.copy()
    factor = np.exp(np.random.default_rng(0).normal(0.5, 0.3, int(later.sum())))
    for name in ("open", "high", "low", "close", "adj_close"):
        altered.loc[later, name] *= factor
    news = told(prices)
    other = news.copy()
    other.loc[news["known_at"] > pd.Timestamp(UNTIL, tz="UTC") + pd.Timedelta(days=1), "title"] = "another story"
    kept = []
    for name, rows, headlines in (("base", prices, news), ("altered", altered, other)):
        config = elsewhere(small_config, name)
        lake = filled(config, rows, headlines)
        found = from_moves(config, lake, UNTIL)
        run_train(config, None, kind="naive_bayes", until=UNTIL)
        kept.append((found, dumps(read_classifier(config.data.artifacts / "sentiment"))))
        everything = from_moves(config, lake, dt.date(2008, 12, 31))
        kept[-1] += (everything.labels,)
    assert kept[0][:2] == kept[1][:2]
    assert kept[0][2] != kept[1][2]


def test_what_it_says_of_sessions_that_it_learned_from_is_missing(small_config: Config, prices: pd.DataFrame) -> None:
    lake = filled(small_config, prices)
    before = lake.read("features", order_by="ticker, session")
    summary = run_train(small_config, None, kind="naive_bayes", until=UNTIL)
    assert read_classifier(small_config.data.artifacts / "sentiment").known_until == "2007-03-30"
    assert "what it says of sessions up to 2007-03-30 is left missing" in "\n".join(summary.lines)
    featurize.run(small_config)
    after = Lake(small_config.data.lake).read("features", order_by="ticker, session")
    learned = after["session"] <= pd.Timestamp(UNTIL)
    assert after.loc[learned, list(SCORED)].isna().all(axis=None)
    assert after.loc[~learned, list(SCORED)].notna().all(axis=None)
    others = [name for name in before.columns if name not in SCORED]
    pd.testing.assert_frame_equal(after[others], before[others], check_exact=True)
    assert set(SCORED) < set(NAMES)


def test_the_date_survives_the_file_and_changes_no_other_file() -> None:
    held = bundled()
    trained = train(held.texts[:150], held.labels[:150], "naive_bayes")
    assert loads(dumps(trained)).known_until == ""
    dated = replace(trained, known_until="2007-03-30")
    assert loads(dumps(dated)).known_until == "2007-03-30"
    assert dumps(dated) != dumps(trained) == dumps(replace(dated, known_until=""))


def test_errors_say_what_to_do(small_config: Config, prices: pd.DataFrame, tmp_path: Path) -> None:
    lake = filled(small_config, prices)
    with pytest.raises(DataError, match=r"no headline has an outcome over 1 sessions that was known by 2005-01-04"):
        from_moves(small_config, lake, dt.date(2005, 1, 4))
    with pytest.raises(UsageError, match=r"from a.csv or from moves until 2007-03-30, not from both"):
        run_train(small_config, Path("a.csv"), until=UNTIL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from-moves"], "--from-moves and --until go together"),
        (["--until", "2007-03-30"], "--from-moves and --until go together"),
        (["--from-moves", "--until", "March"], "--until 'March': use a date like 2012-12-31"),
    ],
)
def test_the_command_refuses_half_of_it(options: list[str], message: str) -> None:
    done = CliRunner().invoke(cli.build(), ["sentiment", "train", *options])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
