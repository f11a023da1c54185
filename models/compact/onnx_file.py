"""Reads the constants out of an ONNX file with the standard library and NumPy.

The scorer's base install has no `onnx`, and where ONNX Runtime has no wheel the file itself is still all there is to
score by: a second copy of the weights could differ from the one that was proven. So this reads the few fields of
the protocol buffer that hold the constants and the kinds of nodes (onnx.proto, IR 10), and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compact.bundle import BundleError

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_KIND = 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}
# Wire types of the protocol buffer encoding.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Contents(NamedTuple):
    """Constants by name, and the kinds of the nodes in the file's order."""

    constants: dict[str, npt.NDArray[Any]]
    kinds: tuple[str, ...]


def read(path: Path) -> Contents:
    """The constants and node kinds of an ONNX file.

    Raises:
        BundleError: the file is no ONNX model, or holds a constant of another type or outside the file.
    """
    content = memoryview(path.read_bytes())
    try:
        graph = next(value for number, value in _fields(content) if number == _MODEL_GRAPH)
        parts = list(_fields(graph))
        constants = dict(_tensor(value) for number, value in parts if number == _GRAPH_INITIALIZER)
        kinds = tuple(_text(value, _NODE_KIND) for number, value in parts if number == _GRAPH_NODE)
        if not all(kinds) or not kinds:
            raise ValueError("it has no nodes, or one of no kind")
    except (StopIteration, IndexError, KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{path} is not an ONNX graph of constants that this program reads: {error!r}") from None
    return Contents(constants, kinds)


def _tensor(message: memoryview) -> tuple[str, npt.NDArray[Any]]:
    name, kind, raw, dims = "", 0, memoryview(b""), []
    for number, value in _fields(message):
        if number == _TENSOR_NAME:
            name = str(value, "utf-8")
        elif number == _TENSOR_TYPE:
            kind = int(value)
        elif number == _TENSOR_RAW:
            raw = value
        elif number == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
    return name, np.frombuffer(raw, np.dtype(_TYPES[kind]).newbyteorder("<")).astype(_TYPES[kind]).reshape(dims)


def _text(message: memoryview, wanted: int) -> str:
    return next((str(value, "utf-8") for number, value in _fields(message) if number == wanted), "")


def _packed(values: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(values):
        value, at = _varint(values, at)
        found.append(value)
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """(field number, value) in turn: an int for a number, a memoryview for everything with a length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + length > len(message):
            raise ValueError(f"a field of {length} bytes at byte {at} of {len(message)}")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number of more than 64 bits at byte {at}")
