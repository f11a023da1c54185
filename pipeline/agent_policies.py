"""Policies and learning curves on disk: one NPZ file without pickle, the same bytes for the same policies.

A policy is a frozen dataclass of arrays, numbers, words, tuples and further such dataclasses. Its arrays lie in the
file by number; what holds them together is a text of JSON. Only classes of `models.trading` are made from it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.trading.policy import Curve, Policy
from pipeline import npz
from pipeline.errors import StoreError

Arrays = dict[str, npt.NDArray[Any]]

TRUSTED = ("models.trading",)
"""Packages whose classes may be made from a file."""
_CONTENTS = "contents"


class Agent(NamedTuple):
    """One agent of a block: what it learned and how it went."""

    algorithm: str
    block: str
    seed: int
    policy: Policy
    curve: Curve


def write(path: Path, agents: Sequence[Agent]) -> None:
    """Write agents whole or not at all.

    Raises:
        TypeError: a policy is not made of what can be written.
    """
    arrays: Arrays = {}
    entries = [
        {"algorithm": a.algorithm, "block": a.block, "seed": a.seed, "policy": _packed(a.policy, arrays)}
        | {"steps": _kept(a.curve.steps, arrays), "reward": _kept(a.curve.reward, arrays)}
        for a in agents
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.npz")
    arrays[_CONTENTS] = np.array(json.dumps(entries))
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.replace(path)


def read(path: Path, trusted: Sequence[str] = TRUSTED) -> list[Agent]:
    """The agents of a file.

    Args:
        path: written by `write`. trusted: packages whose classes may be made.

    Raises:
        StoreError: the file is missing or damaged, or names a class of another package.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            entries = json.loads(str(file[_CONTENTS]))
            arrays = {name: file[name] for name in file.files}
        return [
            Agent(
                str(entry["algorithm"]),
                str(entry["block"]),
                int(entry["seed"]),
                _unpacked(entry["policy"], arrays, trusted),
                Curve(arrays[entry["steps"]], arrays[entry["reward"]]),
            )
            for entry in entries
        ]
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run: tradewind agent train") from None
    except (*npz.UNREADABLE, TypeError, AttributeError, ImportError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it and run: tradewind agent train") from error


def _kept(array: npt.NDArray[Any], arrays: Arrays) -> str:
    if array.dtype.hasobject:
        raise TypeError("an array of objects cannot be written")
    name = f"a{len(arrays)}"
    arrays[name] = array
    return name


def _packed(value: Any, arrays: Arrays) -> Any:
    """As JSON; arrays are put aside."""
    if isinstance(value, np.ndarray):
        return {"array": _kept(value, arrays)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _packed(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "parts": parts}
    if isinstance(value, tuple):
        items = [_packed(item, arrays) for item in value]
        if hasattr(value, "_fields"):
            return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "items": items}
        return {"tuple": items}
    if isinstance(value, np.generic):
        return {"array": _kept(np.asarray(value), arrays), "scalar": True}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a policy of {type(value).__name__} cannot be written")


def _unpacked(held: Any, arrays: Mapping[str, npt.NDArray[Any]], trusted: Sequence[str]) -> Any:
    if not isinstance(held, dict):
        return held
    if "array" in held:
        array = arrays[held["array"]]
        return array[()] if held.get("scalar") else array
    if "tuple" in held:
        return tuple(_unpacked(item, arrays, trusted) for item in held["tuple"])
    module, _, name = held["class"].partition(":")
    if not any(module == package or module.startswith(f"{package}.") for package in trusted):
        raise ValueError(f"it names a class of {module}")
    made = getattr(importlib.import_module(module), name)
    if "items" in held:
        return made(*(_unpacked(item, arrays, trusted) for item in held["items"]))
    return made(**{key: _unpacked(part, arrays, trusted) for key, part in held["parts"].items()})
