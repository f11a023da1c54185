"""Which columns of a user's file mean which of ours: by data.columns first, then by the names commonly used.

Names are matched without regard to case, spaces and hyphens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from features import frames
from pipeline.errors import DataError
from pipeline.providers import NEWS_COLUMNS
from pipeline.providers.file_paths import FileError

MOST_SHOWN = 30


class Names(NamedTuple):
    """The columns of one table.

    Attributes:
        known: ours.
        needed: those of them that a file must have.
        aliases: what else they are commonly called.
        twins: our name in the other table -> here, so that one data.columns serves both.
    """

    known: tuple[str, ...]
    needed: tuple[str, ...]
    aliases: Mapping[str, str]
    twins: Mapping[str, str]


PRICES = Names(
    ("ticker", "session", *frames.PRICE_FIGURES),
    ("session", "open", "high", "low", "close"),
    {
        **dict.fromkeys(("date", "datetime"), "session"), "symbol": "ticker",
        **dict.fromkeys(("adjclose", "adjusted_close"), "adj_close"),
        "dividends": "dividend", **dict.fromkeys(("splits", "stock_splits"), "split"),
    },
    {"published_at": "session"},
)  # fmt: skip
NEWS = Names(
    tuple(name for name in NEWS_COLUMNS if name != "known_at"),
    ("published_at", "title"),
    {
        **dict.fromkeys(("date", "time", "datetime", "published"), "published_at"), "symbol": "ticker",
        "headline": "title", "link": "url",
    },
    {"session": "published_at"},
)  # fmt: skip


def plain(name: str) -> str:
    """The name in lower case, spaces and hyphens as underscores."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def listed(found: Sequence[str]) -> str:
    """Names of columns for an error: on one line, not without end."""
    texts = [name.encode("utf-8", "backslashreplace").decode() for name in found[:MOST_SHOWN]]
    shown = [" ".join(text.split())[:60] for text in texts]
    more = [f"and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
    return ", ".join([*shown, *more]) or "none"


class Columns:
    """The columns of one file under our names.

    Attributes:
        found: as the file calls them.
        ours: those of our columns that the file has.
        passed_over: its column -> ours, where data.columns names another one for it.

    Raises:
        FileError: two columns mean the same.
    """

    def __init__(self, found: Sequence[str], names: Names, mapping: Mapping[str, str]) -> None:
        self.found, self._names = tuple(found), names
        self._mapped = {
            name: target
            for column, given in mapping.items()
            if (target := names.twins.get(given, given)) in names.known
            for name in meant(column, found)
        }
        self._targets = set(self._mapped.values())
        by_name = {name: self(name) for name in found}
        self.ours = {name for name in by_name.values() if name}
        self.passed_over = {name: self._common(name) for name in found if not self(name) and self._common(name)}
        self._refuse_duplicates(by_name)

    def __call__(self, name: str) -> str | None:
        """Our name of the file's column; None if it is not used."""
        if name in self._mapped:
            return self._mapped[name]
        target = self._common(name)
        return target if target and target not in self._targets else None

    def require(self, needed: Sequence[str]) -> None:
        """Check that the file has these columns of ours.

        Raises:
            FileError: it lacks one.
        """
        for name in needed:
            if name not in self.ours:
                also = [alias for alias, target in self._names.aliases.items() if target == name]
                other = f" (or {', '.join(also)})" if also else ""
                raise FileError(f"no column {name}{other}; found {listed(self.found)}")

    def _common(self, name: str) -> str:
        target = self._names.aliases.get(plain(name), plain(name))
        return target if target in self._names.known else ""

    def _refuse_duplicates(self, by_name: Mapping[str, str | None]) -> None:
        counted = Counter(by_name[name] or plain(name) for name in self.found if name not in self.passed_over)
        twice = sorted(name for name, times in counted.items() if times > 1 and name)
        if twice:
            named = listed(twice[:1])
            raise FileError(f"more than one column means {named}; found {listed(self.found)}")


def meant(column: str, found: Sequence[str]) -> list[str]:
    """The columns found that a name in data.columns stands for: the very name, else those alike."""
    return [column] if column in found else [name for name in found if plain(name) == plain(column)]


def check_mapping(mapping: Mapping[str, str], found: Mapping[Path, Sequence[str]]) -> None:
    """Check data.columns against the columns of all files that can be read.

    Raises:
        DataError: a target is no column of ours; a column is in no file.
    """
    known = tuple(dict.fromkeys(PRICES.known + NEWS.known))
    for column, target in mapping.items():
        if target not in known:
            raise DataError(f"data.columns: {column!r} = {target!r}: we have no such column; ours: {', '.join(known)}")
    for column in mapping:
        if found and not any(meant(column, names) for names in found.values()):
            there = list(dict.fromkeys(name for names in found.values() for name in names))
            raise DataError(f"data.columns: no file has a column {column!r}; found {listed(there)}")
