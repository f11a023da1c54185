"""A bundle is used only if every byte and every key of it is what was sealed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.compact.bundle import FILES, MANIFEST, SCHEMA_VERSION, TWINS, BundleError, load, seal
from models.compact.runtime import Runtime, Scorer
from models.decode import QUANTILES
from tests.models.compact import bundle_fixture as small

HERE = Path(__file__).resolve().parent
REQUIRED = sorted(set(small.manifest()) - {"created_at"})


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("bundle") / "v1").directory


@pytest.fixture
def copy(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "v1"))


def rewrite(directory: Path, change: Callable[[dict[str, Any]], Any], reseal: bool) -> None:
    """Edit the manifest, as a hand would, or as another writer would who knows how to seal."""
    held = json.loads((directory / MANIFEST).read_text())
    change(held)
    if reseal:
        held.pop("manifest_sha256")
        held["manifest_sha256"] = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
    (directory / MANIFEST).write_text(json.dumps(held))


def test_what_was_sealed_is_read_back(sealed: Path) -> None:
    bundle = load(sealed)
    assert (bundle.version, bundle.horizons, bundle.feature_names) == ("v1", small.HORIZONS, small.FEATURES)
    assert bundle.body_features.tolist() == [3, 1, 2]
    np.testing.assert_array_equal(bundle.scaler.center, np.float32(small.CENTER))
    np.testing.assert_array_equal(bundle.scaler.scale, np.float32(small.SCALE))
    assert bundle.scaler.limit == 5.0
    assert bundle.residual_shape.tolist() == [list(small.SHAPE)] * 2
    assert bundle.sigma_factor.tolist() == [1.1, 0.9]
    assert tuple(bundle.manifest["quantiles"]) == QUANTILES
    assert bundle.manifest["schema_version"] == SCHEMA_VERSION == 2
    assert bundle.has_twins
    assert bundle.takes_time_first
    for name in (*FILES, *TWINS):
        assert bundle.manifest["files"][name] == hashlib.sha256((sealed / name).read_bytes()).hexdigest()
    assert sorted(path.name for path in sealed.iterdir()) == sorted([*FILES, *TWINS, MANIFEST])


def test_another_universe_is_named(tmp_path: Path) -> None:
    trained = [f"T{n}" for n in range(8)]
    bundle = small.write(tmp_path / "v1", training={"run_id": "r1", "tickers": trained})
    assert bundle.universe == tuple(trained)
    assert bundle.other_universe(reversed(trained)) == ()
    (strange,) = bundle.other_universe([*trained, "ZZZ"])
    assert "trained on another universe of 8 tickers: ZZZ not in training; market and cross-sectional" in strange
    (both,) = bundle.other_universe(["ZZZ", "T0"])
    assert "ZZZ not in training; T1, T2, T3, T4, T5 and 2 more not here" in both


def test_a_bundle_that_does_not_name_its_universe_says_nothing_of_it(sealed: Path) -> None:
    assert load(sealed).universe == ()
    assert load(sealed).other_universe(["ZZZ"]) == ()


def test_sealing_twice_gives_the_same_bytes(sealed: Path, tmp_path: Path) -> None:
    again = small.write(tmp_path / "v1").directory
    for name in (*FILES, *TWINS, MANIFEST):
        assert (again / name).read_bytes() == (sealed / name).read_bytes(), name


@pytest.mark.parametrize("name", [*FILES, *TWINS])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_flipped_bit_is_found(copy: Path, name: str, where: float) -> None:
    content = bytearray((copy / name).read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{re.escape(name)} does not match its checksum: .*damaged"):
        load(copy)


@pytest.mark.parametrize("name", [*FILES, *TWINS])
def test_a_cut_file_is_found(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(BundleError, match=rf"{re.escape(name)} does not match its checksum"):
        load(copy)


@pytest.mark.parametrize("name", [*FILES, *TWINS])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"lacks {re.escape(name)}"):
        load(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(status="baseline"),
        lambda m: m["sizing"].update(max_weight=10.0),
        lambda m: m["features"][0].update(scale=2.0),
        lambda m: m["files"].update({"panel.onnx": "0" * 64}),
        lambda m: m.update(files=None),
        lambda m: m.update(surplus=1),
        lambda m: m.pop("manifest_sha256"),
    ],
)
def test_an_edited_manifest_is_found(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewrite(copy, change, reseal=False)
    with pytest.raises(BundleError, match=r"manifest\.json does not match its own checksum: it was changed after"):
        load(copy)


def test_the_layout_of_the_manifest_does_not_matter(copy: Path) -> None:
    held = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(dict(reversed(held.items())), indent=7))
    assert load(copy).version == "v1"


def test_no_bundle_at_all(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"is no bundle: it has no manifest\.json"):
            load(directory)


@pytest.mark.parametrize("text", ["", "{", "\xff", '{"schema_version": 1, "limit": NaN}', "1e999x"])
def test_a_manifest_that_is_not_json(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"manifest\.json is not valid JSON"):
        load(copy)


@pytest.mark.parametrize("found", [3, 0, "1", None])
def test_another_schema_is_refused(copy: Path, found: object) -> None:
    rewrite(copy, lambda m: m.update(schema_version=found), reseal=True)
    with pytest.raises(BundleError, match=f"has bundle schema {found}, this program reads 1 and 2; install the"):
        load(copy)


@pytest.mark.parametrize("runtime", ["onnxruntime", "numpy"])
def test_a_bundle_of_the_previous_schema_scores_as_it_did(runtime: Runtime) -> None:
    """Written and scored by the last program of schema 1; its panel graph has channels before time."""
    bundle = load(HERE / "schema_1")
    assert (bundle.manifest["schema_version"], bundle.has_twins, bundle.takes_time_first) == (1, False, False)
    scorer = Scorer(bundle, runtime=runtime)
    assert scorer.self_check() <= 1e-5
    with np.load(HERE / "schema_1_forecasts.npz") as held:
        found = scorer.panel(held["x"], held["vol"])
        for name, values in zip(found._fields, found, strict=True):
            np.testing.assert_allclose(values, held[name], rtol=1e-5, atol=1e-8)
    with pytest.raises(BundleError, match="has no graphs for uint8 features; write it again: tradewind compress"):
        bundle.codes(small.raw(0, 1, 64))


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}"])
def test_json_that_is_no_manifest(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match="has bundle schema None"):
        load(copy)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(copy: Path, key: str) -> None:
    rewrite(copy, lambda m: m.pop(key), reseal=True)
    with pytest.raises(BundleError, match=rf"manifest\.json has no key {key}$"):
        load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["features"].append(m["features"][0]), "names a feature twice"),
        (lambda m: m["body_features"].append("moon"), "body_features names moon, which is no feature"),
        (lambda m: m["residual_shape"].pop(), r"residual_shape is \(1, 9\), not horizons x quantiles"),
        (lambda m: m["sigma_factor"].pop(), r"sigma_factor is \(1,\), not horizons"),
        (lambda m: m.update(receptive_field=128), "receptive field of 128 sessions, this program reads 64"),
        (lambda m: m["features"][1].pop("center"), "feature abs_1 has no center"),
        (lambda m: m["features"][1].update(scale=0), "feature abs_1 has scale 0"),
        (lambda m: m["sizing"].pop("max_weight"), "sizing has no max_weight"),
        (lambda m: m.pop("codes"), r"lists window_u8\.onnx, but its key codes has no scale and zero_point"),
        (lambda m: m["codes"].pop("scale"), "its key codes has no scale and zero_point"),
        (lambda m: m["files"].pop("panel.onnx"), r"panel\.onnx does not match its checksum"),
        (lambda m: m["files"].update({"../golden.npz": "0" * 64}), r"names \.\./golden\.npz, which is outside"),
        (lambda m: m["files"].update({"policy.onnx": "0" * 64}), r"lacks policy\.onnx"),
    ],
)
def test_a_manifest_that_contradicts_itself(copy: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    rewrite(copy, change, reseal=True)
    with pytest.raises(BundleError, match=message):
        load(copy)


def test_keys_and_files_of_a_later_writer_are_ignored_but_held_to_their_checksum(copy: Path) -> None:
    (copy / "surface.onnx").write_bytes(b"later")
    digest = hashlib.sha256(b"later").hexdigest()
    rewrite(copy, lambda m: (m.update(novelty={"a": 1}), m["files"].update({"surface.onnx": digest})), reseal=True)
    assert load(copy).version == "v1"
    (copy / "surface.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"surface\.onnx does not match its checksum"):
        load(copy)


def test_a_bundle_without_twins_is_sealed_without(copy: Path) -> None:
    for name in TWINS:
        (copy / name).unlink()
    bundle = seal(copy, small.manifest())
    assert (bundle.has_twins, bundle.coding) == (False, "")


def test_codes_are_told_apart_by_what_they_mean(sealed: Path, tmp_path: Path) -> None:
    features = small.manifest()["features"]
    features[1] = features[1] | {"scale": 3.0}
    other = small.write(tmp_path / "v1", features=features)
    skip_only = small.manifest()["features"]
    skip_only[0] = skip_only[0] | {"scale": 3.0}
    same = small.write(tmp_path / "v2", features=skip_only)
    assert load(sealed).coding == same.coding != other.coding


def test_codes_by_hand(sealed: Path) -> None:
    """gap, abs_1, log_vol; 254 codes over +-5 scaled, 127 is zero and missing, beyond the limit is winsorised."""
    bundle = load(sealed)
    raw = np.array([0, 0.5 + 2 * 2.5, np.nan, 0.01 * 100, 0], np.float32)
    np.testing.assert_array_equal(bundle.codes(raw), np.array([254, 127 + 64, 127], np.uint8))


@pytest.mark.parametrize("name", [*FILES, *TWINS])
def test_nothing_unfinished_is_sealed(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"cannot be sealed: {re.escape(name)} has not been written"):
        seal(copy, small.manifest())


def test_the_documented_schema_is_the_schema(sealed: Path) -> None:
    text = (HERE.parents[2] / "BUNDLE.md").read_text()
    assert f"This page is its schema, {SCHEMA_VERSION}." in text
    for name in (*FILES, *TWINS, MANIFEST, *load(sealed).manifest):
        assert f"`{name}`" in text, name
