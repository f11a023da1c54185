"""From the entries of data.prices and data.news, each a file, a folder or a glob, to the files that they mean."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import DataError

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")
_MAGIC = frozenset("*?[")


class FileError(DataError):
    """A file cannot be used, or not to its end; the message lacks the file's name."""


def suffix(path: Path) -> str:
    """The one of SUFFIXES that the file's name ends with, in any case; '' if none."""
    name = path.name.lower()
    return max((known for known in SUFFIXES if name.endswith(known)), key=len, default="")


def label(path: Path) -> str:
    """The file's name as text that UTF-8 can hold."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def stem(path: Path) -> str:
    """The file's name without its known suffix: SPY of SPY.csv.gz."""
    name = label(path)
    return name[: len(name) - len(suffix(path))] or name


def expanded(entries: Sequence[str], key: str) -> list[Path]:
    """The files of all entries in their order, each once; those of a folder or a glob sorted.

    A folder stands for every file of a known suffix in it and below; a glob for those that it matches, and for the
    folders among its matches that bear a known suffix. Hidden files are passed over, as a shell does.

    Args:
        entries: files, folders or globs; what exists under the very name is no glob.
        key: the key of the configuration they come from.

    Raises:
        DataError: an entry matches nothing, or a file has an unknown suffix.
    """
    files: dict[str, Path] = {}
    for entry in entries:
        for file in _files(Path(entry), key):
            files.setdefault(os.path.realpath(file), file)  # Path.resolve raises on links in a ring
    return list(files.values())


def _files(path: Path, key: str) -> list[Path]:
    try:
        if path.is_dir():
            return _of_folder(path)
        if path.exists() or not _MAGIC & set(str(path)):
            return [_of_known_format(path)]
        return _of_glob(path, key)
    except (OSError, ValueError) as error:  # a name too long or with a NUL, a pattern like a**
        raise DataError(f"{key}: {str(path)!r} cannot be looked up: {error}") from None


def _of_folder(folder: Path) -> list[Path]:
    found = sorted(file for file in _below(folder) if suffix(file))
    if not found:
        raise DataError(f"{folder}: no file in this folder ends in {', '.join(SUFFIXES)}")
    return found


def _below(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise DataError(f"{error.filename}: the folder cannot be read: {error.strerror}")

    visited = set()
    for place, folders, names in os.walk(folder, onerror=stop, followlinks=True):
        if (real := os.path.realpath(place)) in visited:  # links in a ring
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _of_known_format(path: Path) -> Path:
    if not suffix(path) and (path.suffix or path.exists()):
        raise DataError(f"{path}: unknown format {path.suffix!r}; use {', '.join(SUFFIXES)}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    return path


def _of_glob(path: Path, key: str) -> list[Path]:
    root, pattern = _split(path)
    hits = sorted(hit for hit in root.glob(pattern) if not _is_hidden(hit.relative_to(root)))
    known = [hit for hit in hits if suffix(hit)]
    files = [file for hit in known for file in (_of_folder(hit) if hit.is_dir() else [hit])]
    if not files:
        others = [hit.name for hit in hits if not hit.is_dir()]
        met = f"only {others[0]} and the like, of no known format ({', '.join(SUFFIXES)})" if others else "no file"
        raise DataError(f"{key}: {str(path)!r} matches {met}")
    return files


def _split(path: Path) -> tuple[Path, str]:
    """The part that exists as it is written, and the pattern below it; `**` at the end means files too."""
    root = Path(path.anchor)
    parts = list(path.parts[1:] if path.anchor else path.parts)
    while len(parts) > 1 and (root / parts[0]).exists():
        root /= parts.pop(0)
    if parts[-1] == "**":
        parts.append("*")
    return root, "/".join(parts)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
