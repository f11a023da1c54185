"""A trained classifier as bytes and back: an NPZ archive without pickle, the same bytes for the same classifier.

Members: `manifest` (JSON as UTF-8: schema, kind, source, temperature, sha256 of everything else) and the arrays of
`Classifier`; terms are UTF-8 text, one a line. What is read back predicts the same bits.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.classifier import CLASSES, KINDS, N_LEXICON, Classifier

SCHEMA: Final = 1
_ARRAYS: Final = {
    "words": "|u1", "letters": "|u1", "idf": "<f8", "weights": "<f8", "bias": "<f8", "shares": "<f8",
    "trained_on": "<u8",
}  # fmt: skip


class ClassifierFileError(ValueError):
    """The bytes are no classifier that this version can use; the message says why."""


def dumps(classifier: Classifier) -> bytes:
    """The classifier as the bytes of an NPZ archive."""
    arrays = {
        "words": _lines(classifier.words),
        "letters": _lines(classifier.letters),
        "idf": classifier.idf,
        "weights": classifier.weights,
        "bias": classifier.bias,
        "shares": classifier.shares,
        "trained_on": classifier.trained_on,
    }
    stored = {name: np.ascontiguousarray(arrays[name], dtype=dtype) for name, dtype in _ARRAYS.items()}
    manifest = {
        "schema": SCHEMA,
        "kind": classifier.kind,
        "source": classifier.source,
        "classes": CLASSES,
        "temperature": classifier.temperature,
    }
    if classifier.known_until:
        manifest["known_until"] = classifier.known_until
    manifest["sha256"] = _checksum(manifest, stored)
    held = np.frombuffer(json.dumps(manifest, sort_keys=True).encode(), dtype=np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, manifest=held, **stored)
    return out.getvalue()


def loads(content: bytes) -> Classifier:
    """The classifier that `dumps` wrote.

    Raises:
        ClassifierFileError: other bytes, another schema, a wrong checksum, or arrays that do not fit together.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in ("manifest", *_ARRAYS)}
        manifest = json.loads(stored.pop("manifest").tobytes().decode())
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise ClassifierFileError(f"not a text classifier: {error}; train it again") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        schema = manifest.get("schema") if isinstance(manifest, dict) else manifest
        raise ClassifierFileError(
            f"a text classifier of schema {schema!r}; this version reads {SCHEMA}: train it again"
        )
    if manifest.pop("sha256", None) != _checksum(manifest, stored):
        raise ClassifierFileError("a text classifier whose checksum does not match; it was altered: train it again")
    found = Classifier(
        manifest["kind"],
        _terms(stored["words"]),
        _terms(stored["letters"]),
        stored["idf"],
        stored["weights"],
        stored["bias"],
        manifest["temperature"],
        stored["shares"],
        stored["trained_on"],
        manifest["source"],
        manifest.get("known_until", ""),
    )
    terms = len(found.words) + len(found.letters)
    fits = (
        found.kind in KINDS
        and manifest["classes"] == list(CLASSES)
        and found.idf.shape == (terms,)
        and found.weights.shape == (terms + N_LEXICON, len(CLASSES))
        and found.bias.shape == found.shares.shape == (len(CLASSES),)
    )
    if not fits:
        raise ClassifierFileError("a text classifier whose parts do not fit together; train it again")
    return found


def _checksum(manifest: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for name in _ARRAYS:
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _lines(terms: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    return np.frombuffer("\n".join(terms).encode(), dtype=np.uint8)


def _terms(lines: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    text = lines.tobytes().decode()
    return tuple(text.split("\n")) if text else ()
