"""The tree at the end of the README: every file once, each with a line on what it is for."""

from __future__ import annotations

import subprocess
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether one of the plain patterns that our .gitignore uses matches the path or a folder above it."""
    parts = path.split("/")
    for pattern in patterns:
        rooted, name = pattern.startswith("/"), pattern.strip("/")
        candidates = parts[:1] if rooted else parts
        folders = candidates[:-1] if pattern.endswith("/") and len(candidates) == len(parts) else candidates
        if any(fnmatch(part, name) for part in folders):
            return True
    return False


def project_files() -> set[str]:
    """What git tracks; in an unpacked archive, everything that .gitignore does not name."""
    if (ROOT / ".git").exists():
        done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return {path for path in done.stdout.splitlines() if (ROOT / path).exists()}
    patterns = [line.strip() for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip()]
    files = (file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*") if file.is_file())
    return {path for path in files if not path.startswith(".git/") and not ignored(path, patterns)}


def tree_rows() -> list[tuple[str, str]]:
    block = (ROOT / "README.md").read_text().split("<!-- tree -->")[1].split("<!-- /tree -->")[0]
    rows = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith("```")]
    return [(path, description.strip()) for path, _, description in (row.partition("  ") for row in rows)]


def test_the_tree_lists_every_file_once() -> None:
    listed = [path for path, _ in tree_rows()]
    files = project_files()
    assert sorted(set(listed) - files) == [], "listed, but not there"
    assert sorted(files - set(listed)) == [], "there, but not listed"
    assert len(listed) == len(set(listed))


def test_every_file_is_described() -> None:
    assert [path for path, description in tree_rows() if not description] == []


def test_what_is_ignored() -> None:
    patterns = [".venv/", "*.egg-info/", "__pycache__/", ".coverage", "/lake/"]
    assert ignored(".venv/bin/python", patterns)
    assert ignored("tests/__pycache__/a.pyc", patterns)
    assert ignored("tradewind.egg-info/PKG-INFO", patterns)
    assert ignored(".coverage", patterns)
    assert ignored("lake/prices/0.parquet", patterns)
    assert not ignored("pipeline/cli/lake.py", patterns)
    assert not ignored("pipeline/lake/x.py", patterns)
    assert not ignored("tests/lake/x.py", patterns)
