"""The race on a small simulated universe: honest about the future, repeatable, and refusing what it must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import featurize, ingest, train
from pipeline.config import Config
from pipeline.config_models import BASELINES, NAIVE_DIRECTIONS
from pipeline.errors import StoreError, TooLittleHistoryError
from pipeline.evidence import ledger
from pipeline.providers import Delivery, Held
from pipeline.providers.simulated import headlines
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress
from tests.conftest import MakePrices

MODELS = {*BASELINES, *NAIVE_DIRECTIONS, "scale_skip", "student"}


def run_all(config: Config, prices: pd.DataFrame) -> tuple[Lake, str]:
    """Prices and the headlines that recap them, through features and training."""

    def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
        bars = prices.drop(columns=["known_at", "ingested_at"])
        yield Delivery(bars, headlines(bars, "XNYS", 0))

    ingest.run(config, provider=deliver)
    lake = Lake(config.data.lake)
    featurize.run(config)
    train.run(config)
    return lake, Registry(config.data.artifacts).latest_run()


def elsewhere(config: Config, name: str) -> Config:
    root = Path(config.data.lake).parent / name
    data = config.data.model_copy(update={"lake": root / "lake", "artifacts": root / "artifacts"})
    return config.model_copy(update={"data": data})


def with_teacher(config: Config, learner: str) -> Config:
    """A race of this learner, and a student whose body is always used."""
    student = config.models.student.model_copy(update={"body_weights": (1.0,), "learning_rate": 0.01})
    return config.model_copy(
        update={"models": config.models.model_copy(update={"race": (learner,), "student": student})}
    )


def test_who_taught_the_student_is_recorded(small_config: Config, prices: pd.DataFrame) -> None:
    config = with_teacher(small_config, "regression")
    _, run_id = run_all(config, prices)
    registry = Registry(config.data.artifacts)
    networks, choices = registry.run_dir(run_id) / "networks", registry.read_json(run_id, "choices.json")
    names = [*registry.read_json(run_id, "training.json")["folds"], "live"]
    assert list(choices["student"]) == list(choices["regression"]) == names
    taught = []
    for name in names:
        notes = json.loads((networks / f"{name}.json").read_text())
        candidate = networks / f"candidate_{name}.json"
        notes = json.loads(candidate.read_text()) if candidate.is_file() else notes
        assert {key: notes[key] for key in choices["student"][name]} == choices["student"][name]
        is_taught = bool(notes["taught_share"] or notes["teacher_weight"])
        assert set(notes["teachers"]) == ({"scale_skip", "regression"} if is_taught else set())
        taught.append(bool(notes["teachers"]))
    assert any(taught)


def test_every_model_forecasts_the_same_cells_and_the_verdict_is_written(
    small_config: Config, prices: pd.DataFrame
) -> None:
    lake, run_id = run_all(small_config, prices)
    rows = lake.read("forecasts")
    sizes = rows.groupby("model")["sigma"].size()
    assert set(sizes.index) == MODELS
    assert sizes.nunique() == 1
    quantiles = rows.filter(regex=r"^q\d\d$").to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    registry = Registry(small_config.data.artifacts)
    evidence = registry.read_json(run_id, "evidence.json")
    assert evidence["gate"]["sentence"]
    assert {g["against"] for g in evidence["gains"]} == {"ewma", "unconditional", "har", "garch", "scale_skip"}
    assert all(g["low"] <= g["gain_percent"] <= g["high"] for g in evidence["gains"])
    training = registry.read_json(run_id, "training.json")
    assert training["status"] in ("promoted", "baseline")
    assert set(training["tables"]) == {"prices", "news", "features", "targets"}


def test_a_universe_chosen_with_hindsight_is_said_to_be(small_config: Config, prices: pd.DataFrame) -> None:
    Lake(small_config.data.lake).upsert_prices(prices)
    featurize.run(small_config)
    summary = train.run(small_config)
    assert summary.lines[-1].startswith("Universe chosen with hindsight: its tickers are those known today")
    registry = Registry(small_config.data.artifacts)
    training = registry.read_json(registry.latest_run(), "training.json")
    assert training["universe"] == {"members": None, "hindsight": True}


def test_a_dated_universe_is_recorded_and_keeps_who_ended(
    small_config: Config, tmp_path: Path, prices: pd.DataFrame
) -> None:
    path = tmp_path / "members.csv"
    path.write_text("ticker,from,to\nT00,2000-01-03,\nT01,2000-01-03,2008-03-31\nLEH,2000-01-03,2008-09-15\n")
    ended = prices[~((prices["ticker"] == "T00") & (prices["session"] > "2008-05-15"))].reset_index(drop=True)
    config = small_config.model_copy(update={"universe": small_config.universe.model_copy(update={"members": path})})
    lake = Lake(config.data.lake)
    lake.upsert_prices(ended)
    featurize.run(config)
    summary = train.run(config)
    assert "2 have no prices" not in summary.lines[-1]
    assert "3 tickers in 3 spells; 1 have no prices in the lake (LEH)" in summary.lines[-1]
    registry = Registry(config.data.artifacts)
    training = registry.read_json(registry.latest_run(), "training.json")
    facts = {"members": "members.csv", "hindsight": False, "tickers": 3, "spells": 3, "missing": ["LEH"]}
    assert training["universe"] == facts
    assert training["left_out"] == [{"ticker": "T02", "reason": "in no spell of universe.members"}]
    last = lake.read("forecasts").groupby("ticker")["session"].max()
    assert last.to_dict() == {"T00": pd.Timestamp("2008-05-15"), "T01": pd.Timestamp("2008-03-31")}


def test_a_second_run_changes_nothing(small_config: Config, prices: pd.DataFrame) -> None:
    lake, run_id = run_all(small_config, prices)
    tables = ("prices", "features", "targets", "forecasts")
    versions = lake.versions(tables)
    directory = Registry(small_config.data.artifacts).run_dir(run_id)
    before = {path.name: path.read_bytes() for path in directory.rglob("*.*")}
    _, again = run_all(small_config, prices)
    assert again == run_id
    assert lake.versions(tables) == versions
    assert {path.name: path.read_bytes() for path in directory.rglob("*.*")} == before


def test_every_look_at_the_test_years_is_in_the_ledger(small_config: Config, prices: pd.DataFrame) -> None:
    lake, run_id = run_all(small_config, prices)
    (first,) = ledger.read(lake).to_dict("records")
    assert (first["run_id"], first["kind"], first["measure"]) == (run_id, "cli", "pinball_gain_percent")
    train.run(small_config)
    assert ledger.count(lake) == (1, 0)  # the same look, not another one
    splits = small_config.splits.model_copy(update={"embargo": small_config.splits.embargo + 1})
    summary = train.run(small_config.model_copy(update={"splits": splits}), kind="flow")
    assert ledger.count(lake) == (2, 0)
    assert ledger.read(lake)["kind"].tolist() == ["cli", "flow"]
    assert any(line.startswith("trial 2 of the ledger") for line in summary.lines)


@pytest.mark.parametrize(("cut", "learner"), [("2008-02-01", None), ("2008-06-02", None), ("2008-06-02", "regression")])
def test_an_altered_future_changes_no_earlier_forecast_of_any_model(
    small_config: Config, prices: pd.DataFrame, cut: str, learner: str | None
) -> None:
    config, racing = (with_teacher(small_config, learner), {learner, "stack"}) if learner else (small_config, set())
    later = prices["session"] >= pd.Timestamp(cut)
    altered = prices.copy()
    factor = np.exp(np.random.default_rng(0).normal(0.5, 0.3, int(later.sum())))
    for name in ("open", "high", "low", "close", "adj_close", "volume"):
        altered.loc[later, name] *= factor
    found = []
    for name, rows in (("base", prices), ("altered", altered)):
        lake, _ = run_all(elsewhere(config, name), rows)
        kept = lake.read("forecasts", f"session < DATE '{cut}'", order_by="model, ticker, session, horizon")
        found.append(kept.drop(columns=["run_id", "created_at"]))
    assert len(found[0]) > 0
    assert set(found[0]["model"]) == MODELS | racing
    pd.testing.assert_frame_equal(found[0], found[1], check_exact=True)
    # The headlines moved with the prices they recap.
    titles = [set(Lake(elsewhere(config, name).data.lake).news()["title"]) for name in ("base", "altered")]
    assert titles[0] != titles[1]
    later_rows = [
        Lake(elsewhere(config, name).data.lake).read("forecasts", f"session >= DATE '{cut}'")["sigma"].sum()
        for name in ("base", "altered")
    ]
    assert later_rows[0] != later_rows[1]


def test_the_gate_keeps_the_baseline_where_there_is_nothing_to_find(
    small_config: Config, make_prices: MakePrices
) -> None:
    prices = make_prices(tickers=2, sessions=1000, seed=11)
    generator = np.random.default_rng(3)
    steps = generator.normal(0, 0.01, len(prices) // 2)
    close = 50 * np.exp(np.cumsum(steps))
    for ticker in prices["ticker"].unique():
        own = prices["ticker"] == ticker
        for name in ("open", "close", "adj_close"):
            prices.loc[own, name] = close
        prices.loc[own, "high"], prices.loc[own, "low"] = close * 1.001, close * 0.999
    _, run_id = run_all(small_config, prices)
    registry = Registry(small_config.data.artifacts)
    training = registry.read_json(run_id, "training.json")
    assert training["status"] == "baseline"
    networks = registry.run_dir(run_id) / "networks"
    assert (networks / "candidate_live.npz").is_file()
    live = json.loads((networks / "live.json").read_text())
    assert live["residual_shape"] == live["baseline"]["residual_shape"]
    assert "baseline ships" in registry.read_json(run_id, "evidence.json")["gate"]["sentence"]


def test_too_little_history_is_named(small_config: Config, make_prices: MakePrices) -> None:
    Lake(small_config.data.lake).upsert_prices(make_prices(tickers=2, sessions=450))
    featurize.run(small_config)
    with pytest.raises(TooLittleHistoryError, match="450 sessions leave no test year after 500 training sessions"):
        train.run(small_config)
    short = small_config.universe.model_copy(update={"min_sessions": 600})
    with pytest.raises(TooLittleHistoryError, match=r"no ticker has 600 sessions .* the longest is T00 with 450"):
        featurize.run(small_config.model_copy(update={"universe": short}))


def test_training_before_features_says_what_to_run(small_config: Config) -> None:
    with pytest.raises(StoreError, match="has no table features"):
        train.run(small_config)
