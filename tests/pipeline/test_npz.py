"""Arrays of NPZ files in pieces: what is read is what NumPy reads, what is written NumPy reads back."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import npz

KINDS = ("<f4", ">f4", "<f8", "|u1", "<U5", "<M8[D]")


def arrays(kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 200, shape)
    return values.astype("<M8[D]") if kind == "<M8[D]" else values.astype(kind)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS), st.lists(st.integers(1, 6), min_size=2, max_size=3), st.booleans(), st.booleans(),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=5), st.integers(0, 1000),
)  # fmt: skip
def test_any_piece_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, kind: str, shape: list[int], packed: bool, fortran: bool,
    pieces: list[tuple[int, int]], seed: int,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    x = arrays(kind, tuple(shape), seed)
    (np.savez_compressed if packed else np.savez)(path, other=np.zeros(3), x=np.asfortranarray(x) if fortran else x)
    member, rows = npz.Member(path, "x"), x.reshape(-1, x.shape[-1])
    assert (member.shape, member.dtype) == (x.shape, x.dtype)
    for first, count in pieces:
        first %= len(rows)
        count = min(count, len(rows) - first)
        np.testing.assert_array_equal(member.rows(first, count), rows[first : first + count])
    member.close()


@pytest.mark.parametrize("packed", [False, True])
def test_a_piece_beyond_the_end_is_an_error(tmp_path: Path, packed: bool) -> None:
    (np.savez_compressed if packed else np.savez)(tmp_path / "x.npz", x=np.zeros((4, 3)))
    with pytest.raises(EOFError, match=r"x\.npy ends early"):
        npz.Member(tmp_path / "x.npz", "x").rows(2, 3_000)


@pytest.mark.parametrize("pieces", [[(0, 1000)], [(0, 1), (1, 998), (999, 1)]])
def test_a_damaged_array_is_found_when_it_was_read_through(tmp_path: Path, pieces: list[tuple[int, int]]) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((1000, 3)))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[10_000] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    member = npz.Member(tmp_path / "x.npz", "x")
    for piece in pieces[:-1]:
        member.rows(*piece)
    with pytest.raises(zipfile.BadZipFile, match=r"Bad CRC-32 for file 'x\.npy'"):
        member.rows(*pieces[-1])


def test_objects_and_absent_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([[None, 1]], dtype=object))
    with pytest.raises(ValueError, match="array x holds objects"):
        npz.Member(tmp_path / "x.npz", "x")
    with pytest.raises(KeyError, match=r"y\.npy"):
        npz.Member(tmp_path / "x.npz", "y")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(KINDS), min_size=1), st.lists(st.integers(0, 5)))
def test_pieces_written_are_one_array(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, str], lengths: list[int]
) -> None:
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    lengths = [1, *lengths]
    pieces: list[dict[str, Any]] = [
        {name: arrays(kind, (n, 2) if name > "b" else (n,), i) for name, kind in kinds.items()}
        for i, n in enumerate(lengths)
    ]
    writer = npz.Writer(path)
    for piece in pieces:
        writer.append(piece)
    writer.close()
    with np.load(path, allow_pickle=False) as held:
        assert set(held.files) == set(kinds)
        for name in kinds:
            expected = np.concatenate([piece[name] for piece in pieces])
            assert held[name].dtype == np.dtype(kinds[name])
            np.testing.assert_array_equal(held[name], expected)
    assert [file.name for file in path.parent.iterdir()] == ["x.npz"]


def test_the_same_arrays_are_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("a.npz", "b.npz"):
        writer = npz.Writer(tmp_path / name)
        writer.append({"x": np.arange(5)})
        writer.close()
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    writer = npz.Writer(tmp_path / "x.npz")
    writer.append({"x": np.zeros(2, np.float32)})
    with pytest.raises(TypeError, match="Cannot cast array"):
        writer.append({"x": np.zeros(2, np.float64)})


def test_what_numpy_wrote_into_memory_is_no_different(tmp_path: Path) -> None:
    """A local header whose extra field is not that of the central directory."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6.0).reshape(3, 2))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        info = zipfile.ZipInfo("x.npy")
        info.extra = b"\x99\x99\x04\x00abcd"
        archive.writestr(info, buffer.getvalue())
    np.testing.assert_array_equal(npz.Member(tmp_path / "x.npz", "x").rows(1, 2), [[2, 3], [4, 5]])
