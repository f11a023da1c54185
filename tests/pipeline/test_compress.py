"""compress: int8 proven equal year by year, deaf to the future, repeatable, published whole, whatever the verdict."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from features.panel import Panel
from features.panel import load as load_panel
from models.compact import bundle as bundles
from models.compact.network import FIELD
from models.compact.runtime import Scorer
from pipeline import compress, featurize, score, train
from pipeline.config import Config
from pipeline.errors import DataError, StoreError
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Summary

TABLES = ("prices", "features", "targets", "forecasts")


class Done(NamedTuple):
    config: Config
    lake: Lake
    registry: Registry
    run_id: str
    summary: Summary


def compressed(config: Config) -> Done:
    featurize.run(config)
    train.run(config)
    summary = compress.run(config)
    registry = Registry(config.data.artifacts)
    return Done(config, Lake(config.data.lake), registry, registry.latest_run(), summary)


def panel_of(done: Done, names: tuple[str, ...]) -> Panel:
    return load_panel(done.lake.read("features", order_by="ticker, session"), names)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def heard(small_config: Config) -> Config:
    """The convolution always has a say, so that int8 is put to the proof; two test years."""
    student = small_config.models.student.model_copy(update={"body_weights": (0.5,)})
    splits = small_config.splits.model_copy(update={"min_train_sessions": 400})
    models = small_config.models.model_copy(update={"student": student})
    return small_config.model_copy(update={"models": models, "splits": splits})


@pytest.fixture
def done(heard: Config, small_lake: Lake) -> Done:
    return compressed(heard)


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
    assert [row["horizon"] for row in proof["pinball"]] == training["horizons"]
    assert proof["weight_change_p99"] < 0.01
    champion = done.registry.champion()
    assert champion.name == proof["bundle_version"] == done.summary.figures["version"]
    assert proof["bundle_bytes"] == sum(path.stat().st_size for path in champion.iterdir())
    bundle = bundles.load(champion)
    assert list(bundle.feature_names) == training["features"]
    assert bundle.manifest["training"]["tables"] == training["tables"]
    assert Scorer(bundle).self_check() <= 1e-5
    assert [path.name for path in champion.parent.iterdir()] == [champion.name]


def test_int8_forecasts_the_cells_of_the_student_and_nearly_its_figures(done: Done) -> None:
    keys = ["ticker", "session", "horizon", "fold"]
    order = "ticker, session, horizon"
    student, int8 = (done.lake.read("forecasts", f"model = '{m}'", order_by=order) for m in ("student", "int8"))
    assert len(int8) > 0
    pd.testing.assert_frame_equal(int8[keys], student[keys])
    assert (int8["run_id"] == done.run_id).all()
    assert set(int8["bundle_version"]) == {done.summary.figures["version"]}
    np.testing.assert_allclose(int8["sigma"], student["sigma"], rtol=0.02)
    assert (int8["sigma"] != student["sigma"]).any()
    quantiles = int8.filter(regex=r"^q\d\d$").to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_a_second_run_leaves_every_file_and_table_as_it_was(done: Done) -> None:
    before, versions = files(done.registry.root), done.lake.versions(TABLES)
    again = compressed(done.config)
    assert again.run_id == done.run_id
    assert again.summary == done.summary
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
    assert not done.registry.read_json(done.run_id, "equality.json")["passed"]
    with pytest.raises(StoreError, match="no bundle has been published yet"):
        done.registry.champion()
