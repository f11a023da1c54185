"""The user's own code, by name: FILE.py:NAME, imported anew from its file."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from pipeline.errors import UsageError


class Named(NamedTuple):
    """What FILE.py:NAME names. file: whole path. name: of the function or class. what: of the errors' first words."""

    file: Path
    name: str
    what: str

    @property
    def short(self) -> str:
        """FILE.py:NAME, without the folder."""
        return f"{self.file.name}:{self.name}"

    @classmethod
    def of(cls, what: str, given: str, base: Path, kind: str, example: str) -> Named:
        """Split the name.

        Args:
            what: names the setting in errors, like `own features`. given: FILE.py:NAME.
            base: the directory that a relative file is taken from.
            kind: FUNCTION or CLASS. example: of a right name.

        Raises:
            UsageError: it is no such name, or there is no such file.
        """
        file, colon, name = given.rpartition(":")
        if not colon or not name.isidentifier() or not file.endswith(".py"):
            raise UsageError(f"{what} {given!r}: expected FILE.py:{kind}, like {example}")
        path = (base / Path(file).expanduser()).resolve()
        if not path.is_file():
            raise UsageError(f"{what} {given}: there is no file {path}; correct the path before the colon")
        return cls(path, name, f"{what} {given}")

    def load(self, noun: str) -> Callable[..., Any]:
        """What is named, its file imported anew.

        Args:
            noun: function or class, for the errors.

        Raises:
            UsageError: it is not there, or the file cannot be imported.
        """
        module = _imported(self)
        found = getattr(module, self.name, None)
        if not callable(found):
            own = sorted(key for key, value in vars(module).items() if _is_own(value, module))
            instead = f"it has {', '.join(own)}" if own else f"it has no {noun} at all"
            raise UsageError(f"{self.what}: {self.file.name} has no {noun} {self.name}; {instead}")
        made: Callable[..., Any] = found
        return made


def _imported(named: Named) -> ModuleType:
    # The digest keeps two files of one name apart.
    called = f"tradewind_own_{named.file.stem}_{hashlib.sha256(str(named.file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(called, named.file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{named.what}: {named.file} cannot be imported; it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[called] = module  # dataclasses look their module up
    try:
        with _neighbours_found(named.file.parent):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[called]
        raise UsageError(
            f"{named.what}: importing {named.file} failed: {type(error).__name__}: {error}; correct it"
        ) from error
    return module


@contextmanager
def _neighbours_found(folder: Path) -> Iterator[None]:
    """While it lasts, modules beside the file can be imported; last in the order, so that they hide no package."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _is_own(value: object, module: ModuleType) -> bool:
    """Whether it is a function of the module, imported from nowhere."""
    return callable(value) and getattr(value, "__module__", "") == module.__name__
