"""The policy of a bundle: proven before use, refused when damaged, the same by name and by either runtime."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compact import bundle as bundles
from models.compact.bundle import FILES, MANIFEST, POLICY, TWINS, BundleError, load, seal
from models.compact.policy_runtime import PolicyScorer
from models.compact.runtime import Runtime, Scorer
from models.decode import Forecast
from models.trading.observation import OWN, observe
from models.trading.sizing import target_weight
from tests.models.compact import bundle_fixture as small
from tests.models.compact import policy_fixture as made

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write(tmp_path_factory.mktemp("bundle") / "v1").directory


@pytest.fixture(scope="module")
def scorer(sealed: Path) -> PolicyScorer:
    return PolicyScorer(load(sealed))


@pytest.fixture
def copy(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "v1"))


def rewrite(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """As another writer would who knows how to seal."""
    held = json.loads((directory / MANIFEST).read_text())
    change(held)
    held.pop("manifest_sha256")
    held["manifest_sha256"] = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
    (directory / MANIFEST).write_text(json.dumps(held))


def test_targets_are_those_of_the_policy_that_was_written(scorer: PolicyScorer) -> None:
    raw = made.raw(1, 400, missing=0.1)
    scaled = np.hstack([made.scaling().transform(raw[:, : made.K]), raw[:, made.K :]])
    found = scorer.targets(raw)
    assert found.shape == (400,)
    np.testing.assert_allclose(found, made.integers().target(scaled)[:, 0], atol=1e-5)
    assert made.LEAST <= found.min() < found.max() <= made.MOST


@given(st.integers(0, 1000), st.integers(1, 50))
@settings(deadline=None, max_examples=40)
def test_both_runtimes_want_the_same_alone_and_together(scorer: PolicyScorer, seed: int, rows: int) -> None:
    other, raw = PolicyScorer(scorer.bundle, "numpy"), made.raw(seed, rows, missing=0.2)
    together = scorer.targets(raw)
    np.testing.assert_allclose(other.targets(raw), together, atol=1e-5)
    np.testing.assert_allclose(scorer.targets(raw[:1]), together[:1], atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "numpy"])
def test_the_golden_observations_are_decided_as_they_were(sealed: Path, runtime: Runtime) -> None:
    assert PolicyScorer(load(sealed), runtime).self_check() <= 1e-5


@pytest.mark.parametrize(("row", "value"), [(0, 0.1), (0, np.nan), (5, 0.1)])
def test_golden_targets_of_another_policy_are_refused(copy: Path, row: int, value: float) -> None:
    """One is moved, one taken away, one put where the policy has none."""
    with np.load(copy / POLICY[1]) as held:
        observation, weights = held["observation"], held["weights"]
    weights[row] = weights[row] + value if row == 0 else value
    np.savez_compressed(copy / POLICY[1], observation=observation, weights=weights)
    changed = seal(copy, dict(load_manifest(copy)))
    with pytest.raises(BundleError, match=r"policy_golden\.npz"):
        PolicyScorer(changed).self_check()


def load_manifest(directory: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((directory / MANIFEST).read_text())
    return held


@pytest.mark.parametrize("name", POLICY)
def test_a_changed_or_missing_file_is_refused_by_name(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{name} does not match its checksum"):
        load(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}"):
        load(copy)


@pytest.mark.parametrize("name", POLICY)
def test_half_a_policy_cannot_be_sealed(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"cannot be sealed: {name}"):
        seal(copy, load_manifest(copy))


def test_files_without_a_section_and_a_section_without_files_are_refused(copy: Path) -> None:
    rewrite(copy, lambda held: held.pop("policy"))
    with pytest.raises(BundleError, match="not all of a policy"):
        load(copy)
    for name in POLICY:
        (copy / name).unlink()
    rewrite(
        copy, lambda held: held.update(policy={}, files={n: d for n, d in held["files"].items() if n not in POLICY})
    )
    with pytest.raises(BundleError, match="not all of a policy"):
        load(copy)


def test_a_bundle_without_a_policy_loads_and_says_how_to_get_one(tmp_path: Path) -> None:
    plain = small.write(tmp_path / "v1")
    assert not plain.has_policy
    assert Scorer(plain).self_check() <= 1e-5
    with pytest.raises(BundleError, match="tradewind agent ship"):
        PolicyScorer(plain)


def test_the_schema_before_still_loads_and_can_be_given_a_policy(tmp_path: Path) -> None:
    directory = Path(shutil.copytree(HERE / "schema_1", tmp_path / "v1"))
    assert not load(directory).has_policy
    made.write_files(directory)
    rewritten = seal(directory, {**load_manifest(directory), "policy": made.section(horizons=[1, 5])})
    assert rewritten.manifest["schema_version"] == 1
    assert Scorer(rewritten).self_check() <= 1e-5


def test_a_reader_that_knows_no_policies_reads_the_rest(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the program before this one: the files are only held to their checksum."""
    monkeypatch.setattr(bundles, "POLICY", ())
    bundle = load(sealed)
    assert set(POLICY) < set(bundle.manifest["files"])
    assert set(bundle.manifest["files"]) == {*FILES, *TWINS, *POLICY}
    assert Scorer(bundle).self_check() <= 1e-5


def test_columns_are_found_by_name_whatever_their_order(scorer: PolicyScorer) -> None:
    raw = made.raw(2, 30)
    order = np.random.default_rng(0).permutation(raw.shape[1])
    shuffled = np.hstack([raw[:, order], np.ones((30, 1), np.float32)])
    shown = [*(scorer.names[i] for i in order), "more"]
    np.testing.assert_array_equal(scorer.targets(shuffled, shown), scorer.targets(raw))
    with pytest.raises(BundleError, match="observes rule_weight, which is not there"):
        scorer.targets(shuffled, [name.replace("rule_weight", "x") for name in shown])
    with pytest.raises(BundleError, match=r"must be \(rows, \d+\), got"):
        scorer.targets(shuffled)
    with pytest.raises(BundleError, match=r"must be \(rows, \d+\), got"):
        scorer.targets(raw[0])


def test_a_missing_feature_is_its_centre_and_a_missing_forecast_leaves_alone(scorer: PolicyScorer) -> None:
    raw = made.raw(3, 20)
    at = made.NAMES.index("gap")
    missing, centred = raw.copy(), raw.copy()
    missing[:, at], centred[:, at] = np.nan, made.scaling().scaler.center[at]
    np.testing.assert_allclose(scorer.targets(missing), scorer.targets(centred), atol=1e-5)
    for column in range(made.K - len(made.FEATURES)):
        unknown = raw.copy()
        unknown[4, column] = np.nan
        found = scorer.targets(unknown)
        assert np.flatnonzero(np.isnan(found)).tolist() == [4]
        np.testing.assert_allclose(np.delete(found, 4), np.delete(scorer.targets(raw), 4), atol=1e-5)


@pytest.mark.parametrize("column", [-1, -2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_or_cost_that_is_not_known_is_refused(scorer: PolicyScorer, column: int, value: float) -> None:
    raw = made.raw(3, 20)
    raw[7, column] = value
    with pytest.raises(BundleError, match="not finite"):
        scorer.targets(raw)


def test_a_walk_is_its_decisions_one_by_one_and_holds_where_nothing_is_known(scorer: PolicyScorer) -> None:
    observed = np.stack([made.raw(seed, 4)[:, : made.K] for seed in range(9)], axis=1)  # (4, 9, K)
    observed[2, 3] = np.nan
    first = np.array([0, 0.3, -0.2, 1.0])
    found = scorer.walk(observed, first, 5)
    held = first
    for t in range(9):
        wanted = scorer.targets(scorer.with_own(observed[:, t], held, 5))
        held = np.where(np.isnan(wanted), held, wanted)
        np.testing.assert_array_equal(found[:, t], held)
    assert found[2, 3] == found[2, 2]
    assert (scorer.walk(observed[:, :4], first, 5) == found[:, :4]).all()  # nothing of later sessions


def test_what_is_observed_of_a_forecast_is_what_training_observes(scorer: PolicyScorer) -> None:
    generator = np.random.default_rng(0)
    shape = (6, len(small.HORIZONS))
    forecast = Forecast(
        generator.uniform(0.01, 0.03, shape), np.sort(generator.normal(size=(*shape, 9))), np.full(shape, 0.5)
    )
    features = generator.normal(size=(6, 2)).astype(np.float32)
    weight = target_weight(forecast.sigma[:, 1], 5, 0.1, 0.8, 365.0)
    found = scorer.observe(forecast, features, 365.0)
    np.testing.assert_array_equal(found, observe(forecast, weight, features, small.HORIZONS, 5, 0.1, 365.0))
    assert np.unique(weight).size > 1
    assert scorer.features == made.FEATURES
    own = scorer.with_own(found, weight, 20)[:, -len(OWN) :]
    np.testing.assert_allclose(own, np.stack([weight, np.full(6, 2.0)], axis=1), rtol=1e-6)
    with pytest.raises(BundleError, match="observes 2 features, got 1"):
        scorer.observe(forecast, features[:, :1])


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda held: held["policy"].pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((_without(key), f"policy has no {key}") for key in ("observation", "horizons", "features", "limits")),
        (lambda held: held["policy"]["observation"]["columns"][2].pop("scale"), "policy has no scale"),
        (lambda held: held["policy"]["observation"]["columns"][2].update(scale=0), "every scale above zero"),
        (lambda held: held["policy"]["observation"]["columns"].reverse(), "this program makes"),
        (lambda held: held["policy"].update(features=["tone", "gap"]), "this program makes"),
        (lambda held: held["policy"]["limits"].update(least=1.0), "has limits"),
        (lambda held: held.update(horizons=[1, 20]), "the bundle of"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(copy, change)
    with pytest.raises(BundleError, match=message):
        PolicyScorer(load(copy))


def test_threads_share_a_scorer(scorer: PolicyScorer) -> None:
    parts = [made.raw(seed, 200) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(scorer.targets, parts))
    for part, targets in zip(parts, found, strict=True):
        np.testing.assert_array_equal(targets, scorer.targets(part))


def test_golden_observations_are_not_unpickled(copy: Path) -> None:
    np.savez_compressed(copy / POLICY[1], observation=np.array([{}], object), weights=np.zeros(1))
    changed = seal(copy, load_manifest(copy))
    with pytest.raises(BundleError, match="allow_pickle=False"):
        PolicyScorer(changed).self_check()


DECIDE = """
import sys
from pathlib import Path
import numpy as np
from models.compact.bundle import BundleError, load
from models.compact.policy_runtime import PolicyScorer
scorer = PolicyScorer(load(Path({directory!r})), {runtime!r})
assert scorer.self_check() <= 1e-5
heavy = {{'torch', 'gymnasium', 'stable_baselines3', 'sklearn', 'pandas', 'pydantic', 'onnx', 'typer'}}
print(sorted(heavy & set(sys.modules)), 'onnxruntime' in sys.modules)
"""


@pytest.mark.parametrize(("runtime", "imported"), [("onnxruntime", True), ("numpy", False)])
def test_only_numpy_and_onnx_runtime_are_imported(sealed: Path, runtime: str, imported: bool) -> None:
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    code = DECIDE.format(directory=str(sealed), runtime=runtime)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, f"[] {imported}"), done.stderr


def test_the_documented_section_is_the_section() -> None:
    text = (HERE.parents[2] / "BUNDLE.md").read_text()
    section = made.section()
    for name in (*POLICY, *section, *section["trained"], "least", "most", "center", "scale", "limit", "base_version"):
        assert f"`{name}`" in text, name
