"""Shipping agents: the best algorithm, equal in int8 out of sample, in a new version of the bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.compact import bundle as bundles
from models.compact.bundle import POLICY, Bundle, BundleError
from models.compact.policy_distill import DistilConfig
from models.compact.policy_runtime import PolicyScorer
from models.compact.runtime import Scorer
from pipeline import agent, agent_bundle, agent_int8, agent_policies
from pipeline.agent_data import LIVE, task_of
from pipeline.config import Config
from pipeline.errors import DataError, StoreError
from pipeline.registry import Registry
from pipeline.store import Lake
from pipeline.summary import Summary
from tests.models.compact import bundle_fixture as small
from tests.models.compact.networks import random_network
from tests.pipeline import agent_fixture as made
from tests.pipeline.trading_fixture import HORIZONS, RUN, config_at

QUICK = DistilConfig(observations=6000, environments=64, epochs=12)


def put_champion(registry: Registry, run_id: str = RUN) -> Bundle:
    """A bundle of the horizons of the lake's forecasts."""
    body = np.array([small.FEATURES.index(name) for name in small.BODY])
    shape = {"features": len(small.FEATURES), "horizons": len(HORIZONS), "body": len(body)}
    student = replace(random_network(**shape), body_features=body)
    calibration = {"residual_shape": [list(small.SHAPE)] * len(HORIZONS), "sigma_factor": [1.0] * len(HORIZONS)}
    training = {"training": {"run_id": run_id}, "horizons": list(HORIZONS), "version": run_id}
    found = small.write(registry.root / "bundles" / run_id, student, **calibration, **training)
    registry.set_champion(run_id)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("agents")
    config, _ = made.trained(root)
    made.evaluated(config)
    put_champion(Registry(config.data.artifacts))
    return root


@pytest.fixture(scope="module")
def shipped(home: Path) -> tuple[Config, Summary]:
    config = made.configured(config_at(home))
    return config, agent_bundle.ship(config, trusted=made.TRUSTED, distilling=QUICK)


def test_the_new_version_scores_and_decides_and_the_old_one_stays(shipped: tuple[Config, Summary]) -> None:
    config, summary = shipped
    registry = Registry(config.data.artifacts)
    old, new = bundles.load(registry.root / "bundles" / RUN), bundles.load(registry.champion())
    assert summary.figures["version"] == new.version
    assert new.version.startswith(f"{RUN}-policy-")
    assert not old.has_policy
    for name in (*bundles.FILES, *bundles.TWINS):
        assert (new.directory / name).read_bytes() == (old.directory / name).read_bytes()
    assert Scorer(new).self_check() <= 1e-5
    assert {key: new.manifest[key] for key in old.manifest if key not in ("version", "files", "manifest_sha256")} == {
        key: old.manifest[key] for key in old.manifest if key not in ("version", "files", "manifest_sha256")
    }
    for runtime in ("onnxruntime", "numpy"):
        assert PolicyScorer(new, runtime).self_check() <= 1e-5
    assert not list((registry.root / "bundles").glob(".*"))


def test_the_section_says_what_it_was_trained_on(shipped: tuple[Config, Summary]) -> None:
    config, summary = shipped
    section = bundles.load(Registry(config.data.artifacts).champion()).manifest["policy"]
    assert section["trained"]["run_id"] == RUN
    assert section["trained"]["algorithm"] == summary.figures["algorithm"]
    assert section["trained"]["seeds"] == agent.seeds_of(config)
    assert section["trained"]["rules"] == 6
    assert f" beats {len(section['trained']['beaten'])} of 6 rules" in summary.lines[-1]
    assert section["cost_bps"] == [config.agent.cost_bps]
    assert section["risk_aversion"] == config.agent.risk_aversion
    assert section["limits"] == {"least": 0.0, "most": config.backtest.max_weight}
    assert section["horizons"] == list(HORIZONS)
    assert (section["trained"]["first"], section["base_version"]) == ("2008-01-02", RUN)
    assert section["equality"]["target_change"]["figure"] == summary.figures["claims"][0]["figure"]


def test_int8_equals_float_out_of_sample_with_intervals(shipped: tuple[Config, Summary]) -> None:
    config, summary = shipped
    change, profit, far, cost = summary.figures["claims"]
    assert (change["claim"], change["against"], change["floor"]) == ("target_change", "float", 1.0)
    assert 0 < change["low"] <= change["figure"] <= change["high"] <= 1
    assert (profit["claim"], profit["unit"]) == ("net_profit", "bp")
    assert profit["low"] < profit["figure"] < profit["high"]
    assert (far["floor"], cost["floor"]) == (None, None)
    assert far["figure"] > change["figure"]  # distilling loses more than int8
    assert summary.figures["integer_body_equal"]
    assert summary.figures["n"] > 500
    held = json.loads((Registry(config.data.artifacts).run_dir(RUN) / agent_bundle.SHIPPED).read_text())
    assert held["claims"] == summary.figures["claims"]
    assert held["bundle_version"] == summary.figures["version"]
    assert any("beats" in line for line in summary.lines)


def test_the_policy_is_the_mean_of_its_seeds_as_far_as_distilling_goes(shipped: tuple[Config, Summary]) -> None:
    config, summary = shipped
    registry = Registry(config.data.artifacts)
    task, scorer = task_of(config, Lake.of(config.data), registry), PolicyScorer(bundles.load(registry.champion()))
    agents = agent_policies.read(registry.run_dir(RUN) / agent.POLICIES, made.TRUSTED)
    members = [each.policy for each in agents if (each.algorithm, each.block) == (summary.figures["algorithm"], LIVE)]
    assert len(members) == config.agent.seeds
    t, n = (at[-200:] for at in np.nonzero(task.ready))
    raw = scorer.with_own(task.observed[t, n], np.full(200, 0.4), config.agent.cost_bps)
    scaled = agent_int8.observations(task, task.blocks[-1], slice(None), np.full(task.ready.shape, 0.4))
    seen = scaled.reshape(*task.ready.shape, -1)[t, n]
    wanted = np.clip(np.mean([member.target(seen)[:, 0] for member in members], axis=0), 0, 1)
    assert np.abs(scorer.targets(raw) - wanted).mean() < 0.02


def test_the_best_algorithm_ships() -> None:
    rows = [
        {"strategy": "momentum", "kind": "rule", "objective": 9.0},
        {"strategy": "dqn", "kind": "agent", "objective": 1.0},
        {"strategy": "ppo", "kind": "agent", "objective": 2.0},
        {"strategy": "genetic", "kind": "agent", "objective": None},
    ]
    assert agent_bundle.best({"strategies": rows}) == "ppo"
    with pytest.raises(StoreError, match="no agent with an objective"):
        agent_bundle.best({"strategies": rows[:1]})


def test_shipping_again_gives_the_same_version_to_the_byte(shipped: tuple[Config, Summary]) -> None:
    config, summary = shipped
    directory = Path(summary.figures["path"])
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    again = agent_bundle.ship(config, trusted=made.TRUSTED, distilling=QUICK)  # the champion has a policy already
    assert again.figures["version"] == summary.figures["version"]
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert after[POLICY[0]] == before[POLICY[0]]
    assert after["manifest.json"] == before["manifest.json"]


@pytest.fixture
def copy(home: Path, shipped: tuple[Config, Summary], tmp_path: Path) -> Config:
    shutil.copytree(home, tmp_path / "home")
    config = made.configured(config_at(tmp_path / "home"))
    Registry(config.data.artifacts).set_champion(RUN)
    return config


def test_what_does_not_equal_float_is_not_shipped(copy: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decay is tried; the record stays, the champion too."""
    tried: list[float] = []

    def off(config: object, made: object, resampling: object) -> dict[str, object]:
        tried.append(1)
        return {"claims": [], "passed": False, "n": 1}

    monkeypatch.setattr(agent_int8, "compared", off)
    registry = Registry(copy.data.artifacts)
    with pytest.raises(DataError, match="not equal to the float one"):
        agent_bundle.ship(copy, trusted=made.TRUSTED, distilling=replace(QUICK, observations=600, epochs=1))
    assert len(tried) == len(agent_bundle.DECAYS)
    assert registry.champion().name == RUN
    assert registry.read_json(RUN, agent_bundle.SHIPPED)["bundle_version"] is None


def test_what_is_missing_is_named_with_its_command(copy: Config) -> None:
    registry = Registry(copy.data.artifacts)
    for name, command in ((agent.EVALUATED, "evaluate"), (agent.TRAINED, "train")):
        (registry.run_dir(RUN) / name).unlink()
        with pytest.raises(StoreError, match=f"run: tradewind agent {command}"):
            agent_bundle.ship(copy, trusted=made.TRUSTED, distilling=QUICK)


def test_agents_of_other_settings_and_bundles_of_other_runs_are_refused(copy: Config) -> None:
    other = made.configured(config_at(Path(copy.data.artifacts).parent), risk_aversion=9.0)
    with pytest.raises(StoreError, match="other data or by other settings"):
        agent_bundle.ship(other, trusted=made.TRUSTED, distilling=QUICK)
    put_champion(Registry(copy.data.artifacts), "r0000")
    with pytest.raises(DataError, match="run: tradewind compress"):
        agent_bundle.ship(copy, trusted=made.TRUSTED, distilling=QUICK)


def test_use_is_no_setting_of_training(copy: Config) -> None:
    """Switching it on must not make the agents strangers."""
    used = made.configured(config_at(Path(copy.data.artifacts).parent), use=True)
    quick = replace(QUICK, observations=2000, epochs=8)
    assert agent_bundle.ship(used, trusted=made.TRUSTED, distilling=quick).figures["passed"]


def test_a_policy_that_fails_its_golden_file_is_never_published(
    copy: Config, monkeypatch: pytest.MonkeyPatch, shipped: tuple[Config, Summary]
) -> None:
    def broken(self: PolicyScorer) -> float:
        raise BundleError("differs")

    monkeypatch.setattr(PolicyScorer, "self_check", broken)
    registry = Registry(copy.data.artifacts)
    version = shipped[1].figures["version"]
    shutil.rmtree(registry.root / "bundles" / version)
    with pytest.raises(BundleError, match="differs"):
        agent_bundle.ship(copy, trusted=made.TRUSTED, distilling=QUICK)
    assert not (registry.root / "bundles" / version).exists()
    assert registry.champion().name == RUN
