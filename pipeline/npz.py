"""NPZ files read and written in pieces, so that an array may be larger than memory. NumPy and the standard library."""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

UNREADABLE = (ValueError, OSError, EOFError, KeyError, struct.error, zipfile.BadZipFile, zlib.error)
"""What reading a damaged file may raise."""
COPY_BYTES = 1 << 20


class Member:
    """One array of an NPZ file, read in pieces; its rows are those of all axes but the last, flattened.

    A piece of a stored array is read where it lies, a compressed one is read through. The checksum of what was read
    from beginning to end is compared.

    Raises:
        UNREADABLE: from any method, if the file or the array cannot be read.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._archive = zipfile.ZipFile(path)
        self._info = self._archive.getinfo(f"{name}.npy")
        self._stream = self._archive.open(self._info)
        version = np.lib.format.read_magic(self._stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        self.shape, self._is_fortran, self.dtype = readers[version](self._stream)
        if self.dtype.hasobject:
            raise ValueError(f"array {name} holds objects")
        self._start = self._stream.tell()
        self._row = int(np.prod(self.shape[-1:])) * self.dtype.itemsize
        self._whole: npt.NDArray[Any] | None = None
        self._file = path.open("rb") if self._info.compress_type == zipfile.ZIP_STORED else None
        if self._file is not None:
            self._file.seek(self._info.header_offset + 26)
            lengths = struct.unpack("<2H", self._file.read(4))
            self._base = self._info.header_offset + 30 + sum(lengths)
            header = os.pread(self._file.fileno(), self._start, self._base)
            self._checksum, self._checked = zlib.crc32(header), self._start

    def rows(self, first: int, count: int) -> npt.NDArray[Any]:
        """(count, last axis) from row `first`."""
        if self._is_fortran:  # a row's values are not together
            return self._in_memory()[first : first + count]
        at, size = self._start + first * self._row, count * self._row
        content = self._unpacked(at, size) if self._file is None else self._stored(self._file.fileno(), at, size)
        if len(content) != size:
            raise EOFError(f"{self._info.filename} ends early")
        return np.frombuffer(content, self.dtype).reshape(count, *self.shape[-1:])

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._archive.close()
        if self._file is not None:
            self._file.close()

    def _in_memory(self) -> npt.NDArray[Any]:
        if self._whole is None:
            with self._archive.open(self._info) as stream:
                whole = np.lib.format.read_array(stream, allow_pickle=False)
            self._whole = np.ascontiguousarray(whole).reshape(-1, *self.shape[-1:])
        return self._whole

    def _stored(self, file: int, at: int, size: int) -> bytes:
        content = os.pread(file, size, self._base + at)
        if at == self._checked:
            self._checksum, self._checked = zlib.crc32(content, self._checksum), at + len(content)
            if self._checked == self._info.file_size and self._checksum != self._info.CRC:
                raise zipfile.BadZipFile(f"Bad CRC-32 for file {self._info.filename!r}")
        return content

    def _unpacked(self, at: int, size: int) -> bytes:
        if self._stream.tell() > at:
            self._stream = self._archive.open(self._info)
        while (behind := at - self._stream.tell()) > 0:
            if not self._stream.read(min(1 << 20, behind)):
                raise EOFError(f"{self._info.filename} ends early")
        return self._stream.read(size)


class Writer:
    """An NPZ file without pickle, each array grown along its first axis.

    An array's length stands before its values, so they wait in unnamed files beside the target until `close`.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        self._kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._lengths: dict[str, int] = {}

    def append(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Add to the first axis; dtype and other axes are those of an array's first piece.

        Raises:
            TypeError: values that do not fit into the first piece's dtype.
        """
        for name, values in arrays.items():
            if name not in self._files:
                file = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - the stack closes it
                self._files[name] = self._stack.enter_context(file)
                self._kinds[name], self._lengths[name] = (values.dtype, values.shape[1:]), 0
            self._files[name].write(values.astype(self._kinds[name][0], casting="safe", copy=False).tobytes())
            self._lengths[name] += len(values)

    def close(self) -> None:
        """Write the file."""
        with self._stack, zipfile.ZipFile(self._path, "w", allowZip64=True) as archive:
            for name, file in self._files.items():
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # no clock: the same bytes each time
                dtype, axes = self._kinds[name]
                header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype))
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header | {"shape": (self._lengths[name], *axes)})
                    file.seek(0)
                    while content := file.read(COPY_BYTES):
                        member.write(content)
