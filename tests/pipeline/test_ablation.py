"""With and without text: what is found, what is not, and that no fold decides by what it could not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from features.table import FEATURES
from models.compact.network import Network
from pipeline import ablation, cli, featurize, ingest, lift, train, walkforward
from pipeline.config import Config
from pipeline.errors import StoreError, UsageError
from pipeline.evidence import text_lift
from pipeline.providers import Delivery, Held
from pipeline.providers.simulated import headlines
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Progress
from pipeline.walkforward import Dataset
from tests.pipeline import text_fixture as made


def decisions(data: Dataset) -> list[lift.Decision]:
    folds = made.folds(data)
    live = walkforward.splits.live_fold(len(data.panel.sessions), 120, data.purge)
    losses = lift.measured(data, folds, made.SETTINGS)
    return list(lift.decide(data, [*folds, live], losses, made.RESAMPLING).values())


def altered(data: Dataset, start: int, by: float) -> Dataset:
    """Everything from position `start` on is another story, in which text foretells the scale."""
    x, z = data.panel.x.copy(), data.z.copy()
    x[:, start:, 1:] = np.random.default_rng(5).normal(0, 1, x[:, start:, 1:].shape)
    z[:, start:] *= np.exp(by * x[:, start:, 4, None])
    return made.dataset(replace(data.panel, x=x), z)


# -- what is found ----------------------------------------------------------------------------------------------


def compared(data: Dataset) -> dict[str, object]:
    losses = lift.measured(data, made.folds(data), made.SETTINGS)
    assert losses is not None
    return text_lift.compare(losses, data.horizons, made.RESAMPLING)


@pytest.mark.parametrize(("scale", "direction"), [(0.4, 0.0), (0.0, 0.5), (0.0, 0.0)])
def test_text_is_credited_with_what_it_foretells_and_with_nothing_else(scale: float, direction: float) -> None:
    found = compared(made.universe(scale, direction))
    assert (found["scale"]["verdict"] == "better with text") == (scale > 0)
    assert (found["direction"]["verdict"] == "better with text") == (direction > 0)
    better = {row["part"] for row in found["rows"] if row["verdict"] == "better with text"}
    assert better == {part for part, size in (("scale", scale), ("direction", direction)) if size}
    for row in found["rows"]:
        assert row["low"] <= row["gain_percent"] <= row["high"]
    json.dumps(found, allow_nan=False)


def test_too_few_blocks_get_no_verdict_whatever_the_figures() -> None:
    data = made.universe(scale=0.4)
    losses = lift.measured(data, made.folds(data), made.SETTINGS)
    assert losses is not None
    found = text_lift.compare(losses, data.horizons, replace(made.RESAMPLING, block_sessions=200))
    assert {row["verdict"] for row in found["rows"]} == {"too few blocks for a verdict"}
    assert found["scale"]["low"] > 0
    assert found["n_effective_blocks"] < 10


def test_without_text_features_or_headlines_there_is_nothing_to_ablate(small_config: Config, small_lake: Lake) -> None:
    data = made.universe()
    x = data.panel.x.copy()
    x[..., list(made.TEXT)] = 0
    silent = made.dataset(replace(data.panel, x=x), data.z)
    assert lift.measured(silent, made.folds(silent), made.SETTINGS) is None
    assert lift.card(small_config, small_lake, silent, None)["sentence"] == lift.NOTHING_LEARNED
    plain = made.dataset(replace(data.panel, x=x[..., :3], feature_names=made.NAMES[:3]), data.z)
    assert lift.measured(plain, made.folds(plain), made.SETTINGS) is None
    assert lift.card(small_config, small_lake, plain, None)["sentence"] == lift.NO_TEXT
    assert all(each.reason == "its training slice holds no headline to learn from" for each in decisions(silent))


def test_folds_before_the_first_headline_are_not_judged() -> None:
    data = made.universe(scale=0.4)
    x, begins = data.panel.x.copy(), made.folds(data)[1].test_start
    x[:, :begins, list(made.TEXT)] = 0
    data = made.dataset(replace(data.panel, x=x), data.z)
    losses = lift.measured(data, made.folds(data), made.SETTINGS)
    assert losses is not None
    judged = np.isfinite(losses["with_text|pinball|1"]).any(0)
    assert not judged[: made.folds(data)[2].test_start].any()
    assert judged[made.folds(data)[2].test_start :].sum() > 400


# -- muted features ---------------------------------------------------------------------------------------------


def test_a_muted_fold_forecasts_as_if_there_were_no_such_columns() -> None:
    data = made.universe(scale=0.4)
    fold = made.folds(data)[0]
    fit = partial(walkforward.fit_folds, folds=[fold], config=made.SETTINGS)
    muted = fit(data, muted={fold.name: made.TEXT})[0]
    assert muted.muted == made.TEXT
    network = muted.student.network
    x = muted.scaler.transform(data.panel.x[:, fold.test_start - 63 : fold.test_end])
    other = x.copy()
    other[..., list(made.TEXT)] = 3.0
    assert (network.forward_panel(x) == network.forward_panel(other)).all()
    columns = replace(data.panel, x=data.panel.x[..., :3], feature_names=made.NAMES[:3])
    dropped = fit(made.dataset(columns, data.z))[0].student
    np.testing.assert_allclose(network.skip_weight[:3], dropped.skip_network.skip_weight, atol=1e-6)
    np.testing.assert_allclose(muted.student.shape, dropped.shape, atol=1e-6)
    assert np.abs(fit(data)[0].student.skip_network.skip_weight[4]).max() > 0.1


def test_a_deaf_network_ignores_text_in_its_convolution_too() -> None:
    generator = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.3, shape).astype(np.float32)

    sizes = ((6, 4, 4), (6, 6, 4), (6, 6, 4))
    weights, biases = tuple(some(*size) for size in sizes), (some(6), some(6), some(6))
    network = Network(weights, biases, some(6, 8), some(8), some(5, 8), some(8), np.array([0, 1, 3, 4]))
    x = some(2, 80, 5)
    other = x.copy()
    other[..., list(made.TEXT)] += 1
    deaf = walkforward.deaf(network, made.TEXT)
    assert (deaf.forward_panel(x) == deaf.forward_panel(other)).all()
    assert (network.forward_panel(x) != network.forward_panel(other)).any()
    x[..., list(made.TEXT)] = 0  # where there is no text, hearing or not is the same
    np.testing.assert_allclose(deaf.forward_panel(x), network.forward_panel(x), atol=1e-6)
    assert walkforward.deaf(network, ()) is network


# -- nested decisions -------------------------------------------------------------------------------------------


def test_text_that_helps_is_used_once_enough_is_known_and_noise_never() -> None:
    first, *later = decisions(made.universe(scale=0.4))
    assert not first.used
    assert first.reason == "no earlier fold's outcomes are known yet"
    assert [each.fold for each in later if each.used] == ["2007", "2008", "2009", "live"]
    assert all(each.lift is not None and each.lift.low > 0 for each in later)
    assert not any(each.used for each in decisions(made.universe()))
    worse = decisions(made.universe(direction=0.5))
    assert not any(each.used for each in worse)  # a lift of the direction is none of the scale


@pytest.mark.parametrize("number", range(1, 4))
def test_no_fold_decides_by_its_own_test_slice_or_by_outcomes_that_were_not_known(number: int) -> None:
    data = made.universe(seed=3)
    fold = made.folds(data)[number]
    before, after = decisions(data), decisions(altered(data, fold.train_end, 1.0))
    assert after[: number + 1] == before[: number + 1]
    assert after[number + 1 :] != before[number + 1 :]
    # An outcome known only after training ended may be anything, although its session lies within the slice.
    late = lift.measured(data, made.folds(data), made.SETTINGS)
    assert late is not None
    for name, values in late.items():
        known = made.KNOWN_AFTER[made.HORIZONS.index(int(name[-1]))]
        values[:, fold.train_end - known :] = 99.0
    assert lift.decide(data, [fold], late, made.RESAMPLING)[fold.name] == before[number]
    last = before[number].last
    assert last == str(data.panel.sessions[fold.train_end - min(made.KNOWN_AFTER) - 1])


def test_too_few_known_blocks_mean_no_text() -> None:
    data = made.universe(scale=0.4)
    losses = lift.measured(data, made.folds(data), made.SETTINGS)
    strict = replace(made.RESAMPLING, min_blocks=30)
    found = lift.decide(data, made.folds(data), losses, strict)
    assert not found["2008"].used
    assert found["2008"].reason.endswith("independent blocks are fewer than 30")
    assert found["2009"].used


# -- the stages -------------------------------------------------------------------------------------------------


@pytest.fixture
def lake(small_config: Config, prices: pd.DataFrame) -> Lake:
    """With prices, headlines that recap them, and features."""

    def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
        bars = prices.drop(columns=["known_at", "ingested_at"])
        yield Delivery(bars, headlines(bars, "XNYS", 0))

    ingest.run(small_config, provider=deliver)
    featurize.run(small_config)
    return Lake(small_config.data.lake)


def test_the_table_is_printed_kept_and_called_plumbing_where_headlines_are_simulated(
    small_config: Config, lake: Lake
) -> None:
    summary = ablation.run(small_config)
    text = "\n".join(summary.lines)
    assert "Simulated text: plumbing only." in text
    assert "what sentiment.require_lift would decide:" in text
    for label in ablation.LABELS.values():
        assert label in text
    kept = json.loads((small_config.data.artifacts / "sentiment" / "ablation.json").read_text())
    assert kept["simulated"] is True
    assert {row["part"] for row in kept["rows"]} == {"scale", "direction"}
    assert set(kept["features"]) <= set(FEATURES["sentiment"])
    assert 0 < kept["coverage"]["cells"] < kept["coverage"]["sessions"] <= 1
    json.loads(summary.to_json())


def test_training_measures_the_same(small_config: Config, lake: Lake) -> None:
    train.run(small_config)
    registry = Registry(small_config.data.artifacts)
    evidence = registry.read_json(registry.latest_run(), "evidence.json")["text_ablation"]
    found = ablation.measure(small_config)
    assert {key: found[key] for key in evidence} == evidence


def test_training_says_what_it_decided_and_keeps_the_list_of_features(small_config: Config, lake: Lake) -> None:
    plain = train.run(small_config)
    sentiment = small_config.sentiment.model_copy(update={"require_lift": True})
    evidence = small_config.evidence.model_copy(update={"min_blocks": 1000})
    config = small_config.model_copy(update={"sentiment": sentiment, "evidence": evidence})
    summary = train.run(config)
    registry = Registry(config.data.artifacts)
    assert summary.figures["run_id"] != plain.figures["run_id"]
    runs = [registry.read_json(each.figures["run_id"], "training.json") for each in (plain, summary)]
    assert runs[0]["text"] == {"require_lift": False, "folds": [], "sentence": ""}
    assert runs[0]["features"] == runs[1]["features"]
    text = runs[1]["text"]
    assert [each["fold"] for each in text["folds"]] == [*runs[1]["folds"], "live"]
    assert not any(each["used"] for each in text["folds"])
    assert "it is used in 0 of" in text["sentence"]
    assert "The live model runs without text" in text["sentence"]
    assert text["sentence"] in summary.lines
    names = [name for name in runs[1]["features"] if name in FEATURES["sentiment"]]
    for fold in (*runs[1]["folds"], "live"):
        notes = registry.read_json(summary.figures["run_id"], f"networks/{fold}.json")
        assert notes["muted"] == names


def test_errors_say_what_to_do(small_config: Config, lake: Lake, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    data = small_config.data.model_copy(update={"artifacts": blocked})
    with pytest.raises(UsageError, match=r"blocked/sentiment/ablation.json cannot be written"):
        ablation.run(small_config.model_copy(update={"data": data}))
    empty = small_config.data.model_copy(update={"lake": str(tmp_path / "empty")})
    with pytest.raises(StoreError, match="has no table features; run the stage that writes it first"):
        ablation.run(small_config.model_copy(update={"data": empty}))


def test_the_command_prints_json(small_config: Config, lake: Lake, tmp_path: Path) -> None:
    settings = {
        "data.provider": '"files"', "data.lake": f'"{small_config.data.lake}"',
        "data.artifacts": f'"{small_config.data.artifacts}"', "splits.min_train_sessions": "500",
        "splits.validation_sessions": "120", "evidence.resamples": "200", "universe.min_sessions": "300",
    }  # fmt: skip
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = CliRunner().invoke(cli.build(), ["sentiment", "ablation", "--json", *overrides])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["stage"] == "sentiment ablation"
    assert found["figures"]["rows"]
