"""A user's own features: the functions that `[features] own` and `tradewind audit lookahead --module` name.

    [features]
    own = ["my_features.py:my_family"]

What such a function takes and returns stands in features/own.py; `tradewind audit lookahead --module FILE.py:FUNCTION`
says whether it looks ahead.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from features.own import UserFamily
from pipeline.config import Config
from pipeline.errors import UsageError

EXAMPLE = "my_features.py:my_family"


class Named(NamedTuple):
    """What FILE.py:FUNCTION names. file: whole path. family: what errors and reports call it, without its folder."""

    file: Path
    function: str

    @property
    def family(self) -> str:
        """FILE.py:FUNCTION, without the folder."""
        return f"{self.file.name}:{self.function}"

    @classmethod
    def of(cls, name: str, base: Path) -> Named:
        """Split the name.

        Args:
            name: FILE.py:FUNCTION.
            base: the directory that a relative file is taken from.

        Raises:
            UsageError: it is no such name, or there is no such file.
        """
        file, colon, function = name.rpartition(":")
        if not colon or not function.isidentifier() or not file.endswith(".py"):
            raise UsageError(f"own features {name!r}: expected FILE.py:FUNCTION, like {EXAMPLE}")
        path = (base / Path(file).expanduser()).resolve()
        if not path.is_file():
            raise UsageError(f"own features {name}: there is no file {path}; correct the path before the colon")
        return cls(path, function)


def load_function(name: str, base: Path) -> UserFamily:
    """The function that FILE.py:FUNCTION names; its file is imported anew.

    Args:
        name: FILE.py:FUNCTION.
        base: the directory that a relative file is taken from.

    Raises:
        UsageError: the file or the function is not there, or the file cannot be imported.
    """
    named = Named.of(name, base)
    module = _imported(name, named.file)
    found = getattr(module, named.function, None)
    if not callable(found):
        own = sorted(key for key, value in vars(module).items() if _is_own(value, module))
        instead = f"it has {', '.join(own)}" if own else "it has no function at all"
        raise UsageError(f"own features {name}: {named.file.name} has no function {named.function}; {instead}")
    function: UserFamily = found
    return function


def own_families(config: Config) -> tuple[tuple[str, UserFamily], ...]:
    """The families of `[features] own` as `features.table.build` takes them: (name, function), in order.

    Raises:
        UsageError: as `load_function`.
    """
    return tuple((Named.of(name, Path()).family, load_function(name, Path())) for name in config.features.own)


def own_files(config: Config) -> tuple[Path, ...]:
    """The files of `[features] own`, which features depend on as they do on the code shipped.

    Raises:
        UsageError: a file is not there.
    """
    return tuple(dict.fromkeys(Named.of(name, Path()).file for name in config.features.own))


def _imported(name: str, file: Path) -> ModuleType:
    # The digest keeps two files of one name apart.
    called = f"tradewind_own_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(called, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"own features {name}: {file} cannot be imported; it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[called] = module  # dataclasses look their module up
    try:
        with _neighbours_found(file.parent):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[called]
        raise UsageError(
            f"own features {name}: importing {file} failed: {type(error).__name__}: {error}; correct it"
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
