"""Runs and bundles on disk: whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "artifacts")


def publish(registry: Registry, version: str, text: str) -> None:
    with registry.publishing(version) as directory:
        (directory / "manifest.json").write_text(text)


def files(registry: Registry) -> list[str]:
    return sorted(path.name for path in (registry.root / "bundles").iterdir())


def test_an_empty_registry_says_what_to_run(registry: Registry) -> None:
    with pytest.raises(StoreError, match="tradewind train"):
        registry.latest_run()
    with pytest.raises(StoreError, match="tradewind compress"):
        registry.champion()
    with pytest.raises(StoreError, match=r"run r1 has no evidence\.json"):
        registry.read_json("r1", "evidence.json")
    assert not registry.root.exists()


def test_a_run_is_found_again(registry: Registry) -> None:
    registry.write_json("r1", "evidence.json", {"gain": 1.5, "none": None})
    registry.set_latest_run("r1")
    assert Registry(registry.root).latest_run() == "r1"
    assert registry.read_json("r1", "evidence.json") == {"gain": 1.5, "none": None}


def test_json_has_no_nan(registry: Registry) -> None:
    registry.write_json("r1", "evidence.json", {"gain": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        registry.write_json("r1", "evidence.json", {"gain": float("nan")})
    assert registry.read_json("r1", "evidence.json") == {"gain": 1.0}
    assert [path.name for path in registry.run_dir("r1").iterdir()] == ["evidence.json"]


def test_a_bundle_is_published_whole(registry: Registry) -> None:
    with registry.publishing("v1") as directory:
        (directory / "manifest.json").write_text("{}")
        assert not (registry.root / "bundles" / "v1").exists()
    assert files(registry) == ["v1"]
    registry.set_champion("v1")
    assert registry.champion() == registry.root / "bundles" / "v1"
    assert registry.champion().stat().st_mode & 0o777 == 0o755


def test_a_failure_while_publishing_leaves_what_was_there(registry: Registry) -> None:
    publish(registry, "v1", "old")

    def fail() -> None:
        with registry.publishing("v1") as directory:
            (directory / "manifest.json").write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert (registry.root / "bundles" / "v1" / "manifest.json").read_text() == "old"
    assert files(registry) == ["v1"]


def test_publishing_again_replaces_the_bundle_whole(registry: Registry) -> None:
    with registry.publishing("v1") as directory:
        (directory / "manifest.json").write_text("old")
        (directory / "only_old").write_text("")
    publish(registry, "v1", "new")
    assert [path.name for path in (registry.root / "bundles" / "v1").iterdir()] == ["manifest.json"]
    assert files(registry) == ["v1"]


def test_only_a_published_bundle_can_be_champion(registry: Registry) -> None:
    publish(registry, "v1", "{}")
    registry.set_champion("v1")
    with pytest.raises(StoreError, match="no bundle v2"):
        registry.set_champion("v2")
    assert registry.champion().name == "v1"


def test_a_reader_never_sees_half_a_pointer(registry: Registry) -> None:
    versions = ["a" * 40, "b" * 40]
    for version in versions:
        publish(registry, version, "{}")
    registry.set_champion(versions[0])
    done = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(registry.champion().name)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(200):
        registry.set_champion(versions[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(versions)
