"""A user's own features: the functions that `[features] own` and `tradewind audit lookahead --module` name.

    [features]
    own = ["my_features.py:my_family"]

What such a function takes and returns stands in features/own.py; `tradewind audit lookahead --module FILE.py:FUNCTION`
says whether it looks ahead.
"""

from __future__ import annotations

from pathlib import Path

from features.own import UserFamily
from pipeline.config import Config
from pipeline.own_code import Named

EXAMPLE = "my_features.py:my_family"


def load_function(name: str, base: Path) -> UserFamily:
    """The function that FILE.py:FUNCTION names; its file is imported anew.

    Args:
        name: FILE.py:FUNCTION.
        base: the directory that a relative file is taken from.

    Raises:
        UsageError: the file or the function is not there, or the file cannot be imported.
    """
    function: UserFamily = _named(name, base).load("function")
    return function


def own_families(config: Config) -> tuple[tuple[str, UserFamily], ...]:
    """The families of `[features] own` as `features.table.build` takes them: (name, function), in order.

    Raises:
        UsageError: as `load_function`.
    """
    return tuple((_named(name, Path()).short, load_function(name, Path())) for name in config.features.own)


def own_files(config: Config) -> tuple[Path, ...]:
    """The files of `[features] own`, which features depend on as they do on the code shipped.

    Raises:
        UsageError: a file is not there.
    """
    return tuple(dict.fromkeys(_named(name, Path()).file for name in config.features.own))


def _named(name: str, base: Path) -> Named:
    return Named.of("own features", name, base, "FUNCTION", EXAMPLE)
