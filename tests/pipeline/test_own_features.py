"""FILE.py:FUNCTION: what it finds, and what it says where it finds nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.own_features import load_function, own_families, own_files

HONEST = """
from dataclasses import dataclass

@dataclass
class Window:
    n: int = 5

def my_family(prices):
    return {"my_mean": prices.returns.rolling(Window().n).mean()}

def other(prices):
    return {}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(HONEST, encoding="utf-8")
    return path


def config_of(*own: str) -> Config:
    config = Config()
    return config.model_copy(update={"features": config.features.model_copy(update={"own": own})})


def test_a_function_is_found_from_the_directory_given_or_by_its_whole_path(file: Path) -> None:
    for name, base in (("mine.py:my_family", file.parent), (f"{file}:my_family", Path("/"))):
        assert load_function(name, base).__name__ == "my_family"


def test_the_file_is_read_anew(file: Path) -> None:
    before = load_function("mine.py:other", file.parent)
    file.write_text(HONEST.replace("return {}", "return {1: 2}"), encoding="utf-8")
    assert before(None) == {}  # type: ignore[arg-type]
    assert load_function("mine.py:other", file.parent)(None) == {1: 2}  # type: ignore[arg-type, comparison-overlap]


def test_families_are_named_without_their_folder_and_kept_in_order(file: Path) -> None:
    found = own_families(config_of(f"{file}:other", f"{file}:my_family"))
    assert [(name, function.__name__) for name, function in found] == [
        ("mine.py:other", "other"),
        ("mine.py:my_family", "my_family"),
    ]
    assert own_files(config_of(f"{file}:other", f"{file}:my_family")) == (file,)
    assert own_families(Config()) == ()


def test_two_files_of_one_name_are_two(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"def who(prices): return {folder!r}\n", encoding="utf-8")
    first, second = (load_function(f"{folder}/mine.py:who", tmp_path) for folder in ("a", "b"))
    assert (first(None), second(None)) == ("a", "b")  # type: ignore[arg-type, comparison-overlap]


def test_a_file_may_import_its_neighbour_and_leaves_the_path_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("N = 3\n", encoding="utf-8")
    (tmp_path / "mine.py").write_text("from neighbour_of_mine import N\ndef f(prices): return N\n", encoding="utf-8")
    before = list(sys.path)
    assert load_function("mine.py:f", tmp_path)(None) == 3  # type: ignore[arg-type, comparison-overlap]
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.py", HONEST, r"own features 'mine.py': expected FILE.py:FUNCTION, like my_features.py:my_family"),
        ("mine:my_family", HONEST, r"own features 'mine:my_family': expected FILE.py:FUNCTION"),
        ("mine.py:a b", HONEST, r"own features 'mine.py:a b': expected FILE.py:FUNCTION"),
        (":my_family", HONEST, r"own features ':my_family': expected FILE.py:FUNCTION"),
        ("none.py:f", HONEST, r"own features none.py:f: there is no file .*none.py; correct the path"),
        ("mine.py:f", HONEST, r"mine.py has no function f; it has Window, my_family, other"),
        ("mine.py:x", "x = 3\n", r"mine.py has no function x; it has no function at all"),
        ("mine.py:f", "def f(:\n", r"importing .*mine.py failed: SyntaxError: .*; correct it"),
        ("mine.py:f", "import nothing_like_it\n", r"failed: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("mine.py:f", "1 / 0\n", r"importing .*mine.py failed: ZeroDivisionError: division by zero; correct it"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_function(name, tmp_path)
