"""compress: int8 proven equal year by year, deaf to the future, repeatable, published whole, whatever the verdict."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from features.panel import Panel
from features.panel import load as load_panel
from models.compact import bundle as bundles
from models.compact.network import Network
from models.compact.runtime import Scorer
from models.receptive_field import FIELD
from pipeline import compress, featurize, score, train
from pipeline.config import Config
from pipeline.errors import DataError, StoreError
from pipeline.evidence import equality
from pipeline.registry import Registry
from pipeline.store import Lake

TABLES = ("prices", "features", "targets", "forecasts")


class Done(NamedTuple):
    config: Config
    lake: Lake
    registry: Registry
    run_id: str
    version: str


def compressed(config: Config) -> Done:
    featurize.run(config)
    train.run(config)
    summary = compress.run(config)
    registry = Registry(config.data.artifacts)
    return Done(config, Lake(config.data.lake), registry, registry.latest_run(), summary.figures["version"])


def panel_of(done: Done, names: tuple[str, ...]) -> Panel:
    return load_panel(done.lake.read("features", order_by="ticker, session"), names)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def heard(small_config: Config) -> Config:
    """The convolution always has a say, so that int8 is put to the proof; two test years, bands as fitted."""
    student = small_config.models.student.model_copy(update={"body_weights": (0.5,)})
    splits = small_config.splits.model_copy(update={"min_train_sessions": 400})
    models = small_config.models.model_copy(update={"student": student, "widths": "pooled"})
    return small_config.model_copy(update={"models": models, "splits": splits})


@pytest.fixture
def done(heard: Config, small_lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Made once; every test has a copy of its own."""
    kept, here = tmp_path_factory.getbasetemp() / "compressed", heard.data.artifacts.parent
    if not (kept / "done").is_dir():
        compressed(heard)
        shutil.copytree(here, kept / "done")
    shutil.rmtree(here)
    shutil.copytree(kept / "done", here)
    registry = Registry(heard.data.artifacts)
    return Done(heard, Lake(heard.data.lake), registry, registry.latest_run(), registry.champion().name)


def test_the_bundle_is_proven_published_and_champion(done: Done) -> None:
    proof = done.registry.read_json(done.run_id, "equality.json")
    training = done.registry.read_json(done.run_id, "training.json")
    assert proof["passed"]
    assert proof["folds"] == training["folds"] == ["2007", "2008"]
    assert proof["integer_body_equal"]
    assert proof["window_panel_max_difference"] <= 1e-5
    assert proof["golden_difference"] <= 1e-5
    assert len(proof["outputs"]) == 4 * len(training["horizons"])
    assert all(row["passed"] for row in proof["outputs"])
    assert len(proof["live_outputs"]) == len(proof["outputs"])
    assert all(row["passed"] for row in proof["live_outputs"])
    assert (proof["method"], [each["method"] for each in proof["tried"]]) == ("ptq", ["ptq"])
    champion = done.registry.champion()
    assert champion.name == proof["bundle_version"] == done.version
    assert proof["bundle_bytes"] == sum(path.stat().st_size for path in champion.iterdir())
    bundle = bundles.load(champion)
    assert list(bundle.feature_names) == training["features"]
    assert bundle.manifest["training"]["tables"] == training["tables"]
    assert Scorer(bundle).self_check() <= 1e-5
    assert [path.name for path in champion.parent.iterdir()] == [champion.name]


def test_every_claim_of_the_table_is_there_and_holds(done: Done) -> None:
    proof = done.registry.read_json(done.run_id, "equality.json")
    pairs = [("student", "scale_skip"), ("pruned", "student"), ("int8", "pruned")]
    decisions = ("centred_r2", "var_95", "var_99", "median_flips")
    rows = {(row["claim"], row["model"], row["against"], row["horizon"]): row for row in proof["claims"]}
    horizons = done.config.target.horizons
    expected: set[tuple[object, ...]] = {
        (claim, *pair, h) for claim in ("pinball", "qlike") for pair in pairs for h in horizons
    }
    expected |= {(claim, "int8", "", h) for claim in decisions for h in horizons}
    expected |= {(claim, "int8", "", None) for claim in ("weight_change", "net_profit")}
    assert set(rows) == expected
    assert all(row["holds"] for key, row in rows.items() if key[1] == "int8" and row["floor"] is not None)
    models = ("scale_skip", "student", "pruned", "int8")
    assert {(row["model"], row["horizon"]) for row in proof["losses"]} == {(m, h) for m in models for h in horizons}
    by_model = {(row["model"], row["horizon"]): row for row in proof["losses"]}
    for h in horizons:
        worse = 100 * (by_model["pruned", h]["pinball"] / by_model["student", h]["pinball"] - 1)
        assert rows["pinball", "pruned", "student", h]["figure"] == pytest.approx(worse)


def test_an_ensemble_that_raced_is_in_the_table(done: Done) -> None:
    """The student's own forecasts, under the name of the ensemble: no difference, and certain."""
    rows = done.lake.read("forecasts", "model = 'student'").assign(model="stack")
    done.lake.replace("forecasts", rows.astype({"model": "str"}), f"run_id = '{done.run_id}' AND model = 'stack'")
    compress.run(done.config)
    proof = done.registry.read_json(done.run_id, "equality.json")
    found = [row for row in proof["claims"] if row["against"] == "stack" and row["claim"] == "pinball"]
    assert [row["horizon"] for row in found] == list(done.config.target.horizons)
    assert all(abs(row["figure"]) < 1e-4 and row["certain"] for row in found)


def promote(done: Done) -> None:
    """The live network is the student that the gate kept back, with the body of the last test year."""
    networks = done.registry.run_dir(done.run_id) / "networks"
    skip, last = Network.load(networks / "candidate_live.npz"), Network.load(networks / "2008.npz")
    notes = json.loads((networks / "candidate_live.json").read_text()) | {"body_weight": 0.5, "epochs": 1}
    replace(last, skip_weight=skip.skip_weight, skip_bias=skip.skip_bias).save(networks / "live.npz")
    (networks / "live.json").write_text(json.dumps(notes))


def test_every_fit_is_as_small_as_its_validation_chose(done: Done) -> None:
    records = done.registry.read_json(done.run_id, "equality.json")["pruning"]["folds"]
    assert [record["fold"] for record in records] == ["2007", "2008", "live"]
    for record in records[:-1]:
        assert record["curve"][0]["widths"] == [8, 8, 8]
        least = min(point["loss_percent"] for point in record["curve"])
        chosen = record["curve"][record["chosen"]]
        assert chosen["loss_percent"] <= least + done.config.compress.prune_tolerance
    assert any(record["chosen"] for record in records[:-1])


def test_what_ships_may_be_pruned_too(done: Done) -> None:
    """The live network here is the baseline: it has no body. In its place the student that the gate kept back."""
    assert "no body to prune" in done.registry.read_json(done.run_id, "equality.json")["pruning"]["folds"][-1]["reason"]
    assert bundles.load(done.registry.champion()).manifest["channels"] == [8, 8, 8]
    promote(done)
    compress.run(done.config)
    live = done.registry.read_json(done.run_id, "equality.json")["pruning"]["folds"][-1]
    manifest = bundles.load(done.registry.champion()).manifest
    assert manifest["channels"] == live["curve"][live["chosen"]]["widths"] != [8, 8, 8]


def with_outliers(done: Done) -> None:
    """The same networks with one channel far out of proportion, which leaves the others of its layer no resolution."""
    for path in (done.registry.run_dir(done.run_id) / "networks").glob("*.npz"):
        network = Network.load(path)
        weight, bias = [w.copy() for w in network.conv_weight], [b.copy() for b in network.conv_bias]
        weight[1][2] *= 3000
        bias[1][2] = 3000 * (abs(bias[1][2]) + 0.1)
        weight[2][:, 2] /= 3000
        head = 10 * network.head_weight
        replace(network, conv_weight=tuple(weight), conv_bias=tuple(bias), head_weight=head).save(path)


def test_what_cannot_be_quantized_as_it_is_is_trained_with_rounding(done: Done) -> None:
    promote(done)
    with_outliers(done)
    whole = done.config.compress.model_copy(update={"prune": ()})
    compress.run(done.config.model_copy(update={"compress": whole}))
    proof = done.registry.read_json(done.run_id, "equality.json")
    assert proof["passed"]
    assert proof["method"] == "qat"
    assert [(each["method"], each["outputs_equal"]) for each in proof["tried"]] == [("ptq", False), ("qat", True)]
    assert proof["tried"][0]["least_r2"] < 0.999 <= proof["tried"][1]["least_r2"]
    manifest = bundles.load(done.registry.champion()).manifest
    assert (manifest["quantized"], manifest["channels"]) == ("qat", [8, 8, 8])


def test_int8_forecasts_the_cells_of_the_student_and_nearly_its_figures(done: Done) -> None:
    keys = ["ticker", "session", "horizon", "fold"]
    order = "ticker, session, horizon"
    student, int8 = (done.lake.read("forecasts", f"model = '{m}'", order_by=order) for m in ("student", "int8"))
    assert len(int8) > 0
    pd.testing.assert_frame_equal(int8[keys], student[keys])
    assert (int8["run_id"] == done.run_id).all()
    assert set(int8["bundle_version"]) == {done.version}
    np.testing.assert_allclose(int8["sigma"], student["sigma"], rtol=0.05)
    assert (int8["sigma"] != student["sigma"]).any()
    quantiles = int8.filter(regex=r"^q\d\d$").to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_a_second_run_leaves_every_file_and_table_as_it_was(done: Done) -> None:
    before, versions = files(done.registry.root), done.lake.versions(TABLES)
    again = compressed(done.config)
    assert again.run_id == done.run_id
    assert again.version == done.version
    assert files(done.registry.root) == before
    assert done.lake.versions(TABLES) == versions


def test_prices_after_a_test_year_do_not_reach_its_int8_forecasts(
    heard: Config, small_lake: Lake, prices: pd.DataFrame, tmp_path: Path
) -> None:
    found = []
    elsewhere = {"lake": tmp_path / "altered" / "lake", "artifacts": tmp_path / "altered" / "artifacts"}
    data = heard.data.model_copy(update=elsewhere)
    altered = prices.copy()
    later = (altered["session"] > pd.Timestamp("2007-12-31")).to_numpy()
    factor = np.exp(np.random.default_rng(0).normal(0.3, 0.2, int(later.sum())))
    for name in ("open", "high", "low", "close", "adj_close", "volume"):
        altered.loc[later, name] *= factor
    Lake(data.lake).upsert_prices(altered)
    for config in (heard, heard.model_copy(update={"data": data})):
        held = compressed(config)
        rows = held.lake.read("forecasts", "model = 'int8'", order_by="ticker, session, horizon")
        found.append(rows.drop(columns=["run_id", "bundle_version", "created_at"]))
    kept = [rows[rows["fold"] == "2007"].reset_index(drop=True) for rows in found]
    assert len(kept[0]) > 200
    pd.testing.assert_frame_equal(kept[0], kept[1], check_exact=True)
    others = [rows.loc[rows["fold"] != "2007", "sigma"].to_numpy() for rows in found]
    assert (others[0] != others[1]).any()


@pytest.fixture
def baseline(small_config: Config, small_lake: Lake) -> Done:
    """A gate that nothing passes."""
    evidence = small_config.evidence.model_copy(update={"min_blocks": 10_000})
    return compressed(small_config.model_copy(update={"evidence": evidence}))


def test_the_baseline_is_a_bundle_that_scores(baseline: Done, tmp_path: Path) -> None:
    assert baseline.registry.read_json(baseline.run_id, "training.json")["status"] == "baseline"
    bundle = bundles.load(baseline.registry.champion())
    assert (bundle.manifest["status"], bundle.manifest["model"]) == ("baseline", "ewma")
    panel = panel_of(baseline, bundle.feature_names)
    Scorer(bundle).self_check()
    found = Scorer(bundle).panel(panel.x, panel.vol)
    n, t = np.nonzero(np.isfinite(panel.vol[:, FIELD - 1 :]))
    vol = panel.vol[n, t + FIELD - 1]
    unit = vol[:, None].astype(float) * np.sqrt(bundle.horizons)
    np.testing.assert_allclose(found.sigma[n, t + FIELD - 1], unit * bundle.sigma_factor, rtol=1e-6)
    shape = np.broadcast_to(bundle.residual_shape, (len(n), *bundle.residual_shape.shape))
    np.testing.assert_allclose(found.quantiles[n, t + FIELD - 1], unit[..., None] * shape, rtol=1e-6)
    assert len(np.unique(found.p_up[n, t + FIELD - 1], axis=0)) == 1
    features = tmp_path / "features.npz"
    featurize.run_and_write(baseline.config, lambda *_: None, features)
    summary = score.run(bundle.directory, features, tmp_path / "out.csv")
    assert summary.figures["rows"] == len(panel.tickers) * len(bundle.horizons)
    assert set(pd.read_csv(tmp_path / "out.csv")["model"]) == {"ewma"}


def test_the_report_of_equality_is_about_the_student_also_where_the_baseline_ships(baseline: Done) -> None:
    proof = baseline.registry.read_json(baseline.run_id, "equality.json")
    assert proof["passed"]
    assert any(row["rule"] == "r2" for row in proof["outputs"])


def test_a_published_bundle_gives_the_live_forecast_of_the_lake(done: Done, tmp_path: Path) -> None:
    """The whole way round: the lake's features, out to a file, scored by the file's reader."""
    bundle = bundles.load(done.registry.champion())
    found = {}
    for kind in ("npz", "csv"):
        features = tmp_path / f"features.{kind}"
        featurize.run_and_write(done.config, lambda *_: None, features)
        score.run(bundle.directory, features, tmp_path / f"{kind}.csv")
        found[kind] = pd.read_csv(tmp_path / f"{kind}.csv")
    pd.testing.assert_frame_equal(found["npz"], found["csv"], rtol=1e-6)
    panel = panel_of(done, bundle.feature_names)
    expected = Scorer(bundle).window(panel.x[:, -FIELD:], panel.vol[:, -1])
    np.testing.assert_allclose(found["npz"]["sigma"], expected.sigma.ravel(), rtol=1e-6)


# -- refusals -------------------------------------------------------------------------------------------------


def test_nothing_trained(small_config: Config) -> None:
    with pytest.raises(StoreError, match="tradewind train"):
        compress.run(small_config)


def test_other_features_than_those_of_the_run(done: Done) -> None:
    families = done.config.features.model_copy(update={"families": ("returns", "volatility")})
    featurize.run(done.config.model_copy(update={"features": families}))
    with pytest.raises(DataError, match=rf"not those of run {done.run_id}; run: tradewind train"):
        compress.run(done.config)


def test_a_fold_that_is_missing(done: Done) -> None:
    fold = done.registry.read_json(done.run_id, "training.json")["folds"][0]
    (done.registry.run_dir(done.run_id) / "networks" / f"{fold}.npz").unlink()
    with pytest.raises(StoreError, match=rf"{fold}\.npz is missing; run: tradewind train"):
        compress.run(done.config)


def test_int8_that_is_not_equal_is_never_champion(done: Done) -> None:
    shutil.rmtree(done.registry.root / "bundles")
    (done.registry.root / "champion").unlink()
    strict = done.config.compress.model_copy(update={"min_r2": 1 - 1e-12, "max_difference": 1e-12})
    with pytest.raises(DataError, match=r"int8 is not equal to float \(.* h=1.*is not made champion"):
        compress.run(done.config.model_copy(update={"compress": strict}))
    proof = done.registry.read_json(done.run_id, "equality.json")
    assert not proof["passed"]
    assert [each["method"] for each in proof["tried"]] == ["ptq", "qat"]
    with pytest.raises(StoreError, match="no bundle has been published yet"):
        done.registry.champion()


def test_a_pruned_network_that_loses_too_much_is_never_champion(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    (done.registry.root / "champion").unlink()
    monkeypatch.setattr(equality, "LOSS_FLOORS", ((1, -50.0), (20, -50.0)))
    with pytest.raises(DataError, match=r"what pruning left loses too much.*--set compress\.prune=\[\]"):
        compress.run(done.config)
    proof = done.registry.read_json(done.run_id, "equality.json")
    assert (proof["passed"], proof["pruned_as_good"], proof["outputs_equal"]) == (False, False, True)
    with pytest.raises(StoreError, match="no bundle has been published yet"):
        done.registry.champion()


def test_another_walk_forward_than_that_of_the_run(done: Done) -> None:
    splits = done.config.splits.model_copy(update={"embargo": 20})
    with pytest.raises(
        DataError, match=r"fold 2007 of \[splits\] trains until .*, that of the run until .*tradewind train"
    ):
        compress.run(done.config.model_copy(update={"splits": splits}))


def test_a_budget_below_every_size(done: Done) -> None:
    budget = done.config.compress.model_copy(update={"max_macs": 10})
    with pytest.raises(DataError, match=r"fold 2007: the smallest body has [\d,]+ multiply-adds.*raise max_macs"):
        compress.run(done.config.model_copy(update={"compress": budget}))
