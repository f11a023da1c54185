"""The bundle: a directory that holds everything the scorer needs, checked before it is used (BUNDLE.md).

    manifest.json    what was trained on what, features in order with their scaling, calibration, sizing, checksums
    window.onnx      the latest session, one window a row
    panel.onnx       whole histories
    window_u8.onnx   the same two for features that are stored as uint8; a bundle may lack them
    panel_u8.onnx
    golden.npz       inputs and outputs of the graphs, for the self-check
    policy.onnx      an agent's target weights (models/compact/policy_runtime.py); a bundle may lack it, and
    policy_golden.npz    what it must make of given observations

Standard library and NumPy only; nothing is unpickled. This program writes schema 2 and reads 1 and 2; it refuses any
other. Within a schema a later writer may add keys and files: keys not known are ignored, files not known are held to
their checksum and ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decode import QUANTILES
from models.receptive_field import FIELD
from models.scaling import Scaler

SCHEMA_VERSION = 2
READABLE = (1, 2)
"""In schema 1 the panel graph takes x as (N, Fb, T), and there are no graphs for uint8."""
MANIFEST = "manifest.json"
FILES = ("window.onnx", "panel.onnx", "golden.npz")
TWINS = ("window_u8.onnx", "panel_u8.onnx")
POLICY = ("policy.onnx", "policy_golden.npz")
MOST_NAMED = 5


class BundleError(ValueError):
    """A bundle cannot be trusted or used; the message names the file or the key."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    directory: Path
    manifest: Mapping[str, Any]

    @property
    def version(self) -> str:
        """The bundle's version."""
        return str(self.manifest["version"])

    @property
    def horizons(self) -> tuple[int, ...]:
        """Sessions ahead."""
        return tuple(self.manifest["horizons"])

    @cached_property
    def universe(self) -> tuple[str, ...]:
        """The tickers it was trained on, () in bundles that do not say."""
        return tuple(self.manifest["training"].get("tickers", ()))

    def other_universe(self, tickers: Iterable[str]) -> tuple[str, ...]:
        """A warning if `tickers` are another universe than that of training; () if they are the same."""
        scored, trained = set(tickers), set(self.universe)
        if scored == trained or not trained:
            return ()
        strange, absent = sorted(scored - trained), sorted(trained - scored)
        parts = ([f"{_some(strange)} not in training"] if strange else []) + (
            [f"{_some(absent)} not here"] if absent else []
        )
        return (
            f"warning: bundle {self.version} was trained on another universe of {len(trained)} tickers: "
            f"{'; '.join(parts)}; market and cross-sectional features mean something else there, train on this one",
        )

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The F features in the order of the graphs' `last` input."""
        return tuple(feature["name"] for feature in self.manifest["features"])

    @cached_property
    def body_features(self) -> npt.NDArray[np.int64]:
        """Positions among the features of the convolution's inputs."""
        return np.array([self.feature_names.index(name) for name in self.manifest["body_features"]], dtype=np.int64)

    @cached_property
    def scaler(self) -> Scaler:
        """The scaling of the training slice."""
        features = self.manifest["features"]
        return Scaler(
            np.array([f["center"] for f in features], dtype=np.float32),
            np.array([f["scale"] for f in features], dtype=np.float32),
            float(self.manifest["limit"]),
        )

    @property
    def has_twins(self) -> bool:
        """Whether there are graphs for features stored as uint8."""
        return all(name in self.manifest["files"] for name in TWINS)

    @property
    def has_policy(self) -> bool:
        """Whether there is an agent's policy beside the forecasts."""
        return "policy" in self.manifest

    @property
    def takes_time_first(self) -> bool:
        """Whether the panel graph takes x as (N, T, Fb), else as (N, Fb, T)."""
        return int(self.manifest["schema_version"]) > 1

    @cached_property
    def body_scaler(self) -> Scaler:
        """The scaling of the convolution's inputs alone."""
        whole, chosen = self.scaler, self.body_features
        return Scaler(whole.center[chosen], whole.scale[chosen], whole.limit)

    def scaled_body(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(..., F) raw features -> (..., Fb) scaled, winsorised, finite: the convolution's inputs."""
        return self.body_scaler.transform(np.take(x, self.body_features, axis=-1))

    @cached_property
    def coding(self) -> str:
        """What uint8 features mean: a digest of the body features' names, scaling and codes; "" without twins."""
        if not self.has_twins:
            return ""
        held = self.body_scaler
        meaning = [
            self.manifest["body_features"], held.center.tolist(), held.scale.tolist(), held.limit,
            self.manifest["codes"],
        ]  # fmt: skip
        return _sha256(json.dumps(meaning, sort_keys=True).encode())

    def codes(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """(..., F) raw features -> (..., Fb) uint8 codes of the body's: scaled, winsorised, missing = zero point.

        Raises:
            BundleError: the bundle has no graphs for uint8.
        """
        if not self.has_twins:
            raise BundleError(f"{self.directory} has no graphs for uint8 features; write it again: tradewind compress")
        from models.compact.integer import codes  # which a first forecast from floats need not wait for

        held = self.manifest["codes"]
        return codes(self.scaled_body(x), np.float32(held["scale"]), np.uint8(held["zero_point"]))

    @cached_property
    def residual_shape(self) -> npt.NDArray[np.float64]:
        """(H, 9) quantiles of the standardised residual."""
        return np.array(self.manifest["residual_shape"])

    @cached_property
    def sigma_factor(self) -> npt.NDArray[np.float64]:
        """(H,) standard deviation of the standardised residual."""
        return np.array(self.manifest["sigma_factor"])


def load(directory: Path) -> Bundle:
    """Read a bundle after checking its schema and the checksum of every file.

    Raises:
        BundleError: no manifest, another schema, a file missing or changed, a key missing or inconsistent.
    """
    directory = Path(directory)
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise BundleError(f"{directory} is no bundle: it has no {MANIFEST}") from None
    except ValueError as error:
        raise BundleError(f"{directory / MANIFEST} is not valid JSON: {error}") from None
    found = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if found not in READABLE:
        wanted = " and ".join(map(str, READABLE))
        raise BundleError(
            f"{directory} has bundle schema {found}, this program reads {wanted}; install the tradewind that wrote it, "
            "or write it again: tradewind compress"
        )
    if manifest.get("manifest_sha256") != _manifest_digest(manifest):
        raise BundleError(f"{directory / MANIFEST} does not match its own checksum: it was changed after writing")
    for name in sorted({*FILES, *(manifest.get("files") or ())}):
        _verify(directory, name, manifest)
    _consistent(directory, manifest)
    return Bundle(directory, manifest)


def seal(directory: Path, manifest: dict[str, Any]) -> Bundle:
    """Add schema and checksums to `manifest`, write it beside the files already there, and load the result.

    Raises:
        BundleError: a file of the bundle has not been written: one twin without the other, or half a policy.
    """
    optional = [group for group in (TWINS, POLICY) if any((directory / name).is_file() for name in group)]
    names = (*FILES, *(name for group in optional for name in group))
    for name in names:
        if not (directory / name).is_file():
            raise BundleError(f"{directory} cannot be sealed: {name} has not been written")
    sealed = {
        "schema_version": SCHEMA_VERSION,
        **manifest,
        "quantiles": list(QUANTILES),
        "files": {name: _sha256((directory / name).read_bytes()) for name in names},
    }
    sealed["manifest_sha256"] = _manifest_digest(sealed)
    (directory / MANIFEST).write_text(json.dumps(sealed, indent=1, allow_nan=False), encoding="utf-8")
    return load(directory)


def _some(tickers: list[str]) -> str:
    shown = ", ".join(tickers[:MOST_NAMED])
    return shown if len(tickers) <= MOST_NAMED else f"{shown} and {len(tickers) - MOST_NAMED:,} more"


def _verify(directory: Path, name: str, manifest: dict[str, Any]) -> None:
    path = directory / name
    if path.parent != directory or path.name != name:
        raise BundleError(f"{directory / MANIFEST} names {name}, which is outside the bundle")
    expected = (manifest.get("files") or {}).get(name)
    if not path.is_file():
        raise BundleError(f"{directory} lacks {name}")
    if _sha256(path.read_bytes()) != expected:
        raise BundleError(f"{path} does not match its checksum: it was changed or damaged after writing")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON value")


def _consistent(directory: Path, manifest: dict[str, Any]) -> None:
    path = directory / MANIFEST
    needed = (
        "version", "status", "model", "features", "limit", "body_features", "horizons", "residual_shape",
        "sigma_factor", "receptive_field", "target", "decision", "training", "sizing",
    )  # fmt: skip
    for key in needed:
        if key not in manifest:
            raise BundleError(f"{path} has no key {key}")
    _consistent_features(path, manifest)
    horizons = len(manifest["horizons"])
    for key, wanted, axes in (
        ("residual_shape", (horizons, len(QUANTILES)), "horizons x quantiles"),
        ("sigma_factor", (horizons,), "horizons"),
    ):
        if np.shape(manifest[key]) != wanted:
            raise BundleError(f"{path}: {key} is {np.shape(manifest[key])}, not {axes}")
    if manifest["receptive_field"] != FIELD:
        raise BundleError(
            f"{path} has a receptive field of {manifest['receptive_field']} sessions, this program reads {FIELD}"
        )
    if TWINS[0] in manifest["files"] and {"scale", "zero_point"} - set(manifest.get("codes", ())):
        raise BundleError(f"{path} lists {TWINS[0]}, but its key codes has no scale and zero_point")
    parts = [name for name in POLICY if name in manifest["files"]] + (["key policy"] if "policy" in manifest else [])
    if 0 < len(parts) <= len(POLICY):
        raise BundleError(f"{path} has {' and '.join(parts)}, but not all of a policy: key policy, {', '.join(POLICY)}")
    for key in ("target_volatility", "horizon", "max_weight"):
        if key not in manifest["sizing"]:
            raise BundleError(f"{path}: sizing has no {key}")


def _consistent_features(path: Path, manifest: dict[str, Any]) -> None:
    for feature in manifest["features"]:
        for key in ("name", "center", "scale"):
            if key not in feature:
                raise BundleError(f"{path}: feature {feature.get('name')} has no {key}")
        if not feature["scale"] > 0:
            raise BundleError(f"{path}: feature {feature['name']} has scale {feature['scale']}")
    names = [feature["name"] for feature in manifest["features"]]
    if len(set(names)) != len(names):
        raise BundleError(f"{path} names a feature twice")
    unknown = set(manifest["body_features"]) - set(names)
    if unknown:
        raise BundleError(f"{path}: body_features names {min(unknown)}, which is no feature")


def _manifest_digest(manifest: dict[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return _sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
