"""Features for the light scorer, read a few tickers at a time, so that a file may be larger than memory.

Feature files are what `tradewind features --out FILE` writes: NPZ (x, vol, ticker, session, feature), or rows of
ticker, session, vol and one column a feature as CSV, or as Parquet or Arrow with the `arrow` extra. Only keys and
volatilities of the whole file are held. NumPy and the standard library.

NPZ may also hold features that were coded for one bundle (`tradewind score --codes`): x_u8 (N, T, Fb) uint8, coding
(the bundle's digest of what the codes mean), and `last` (R, F) float32 at the cells `n`, `t` (R,), ordered by ticker
and session, that can be scored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.errors import DataError
from pipeline.npz import UNREADABLE, Member

Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Cells(NamedTuple):
    """Features of some cells. x: (..., F) float32 raw, or (..., Fb) uint8 codes with `last` (..., F) beside them."""

    x: npt.NDArray[Any]
    last: Float32 | None


class Features(Protocol):
    """Features of N tickers on T common sessions; NaN = missing.

    Attributes:
        source: what messages call it.
        is_coded: whether they are uint8 codes. cell_bytes: what one ticker's features of one session take.
        tickers: (N,) str. sessions: (T,) datetime64[D], ascending. vol: (N, T) float32.
    """

    source: str
    is_coded: bool
    cell_bytes: int
    tickers: npt.NDArray[np.str_]
    sessions: npt.NDArray[np.datetime64]
    vol: Float32

    def windows(self, n: Ints, t: Ints, length: int) -> Cells:
        """(B,) positions of tickers, ascending, and sessions -> the `length` sessions up to each: (B, length, F)."""

    def panel(self, rows: slice, field: int) -> Cells:
        """Some tickers in full: (k, T, F); `last`, with codes, (k, T - field + 1, F). In ascending order of tickers.

        field: sessions that a forecast reads.
        """

    def close(self) -> None:
        """Let go of the file."""


def check(features: Features) -> None:
    """Refuse keys and volatilities that cannot be used.

    Raises:
        DataError: sessions not ascending, a ticker twice, a volatility that is infinite, zero or negative.
    """
    if not (np.diff(features.sessions) > np.timedelta64(0, "D")).all():
        raise DataError(f"{features.source}: sessions must be ascending")
    if len(set(features.tickers.tolist())) != len(features.tickers):
        raise DataError(f"{features.source} holds a ticker twice")
    wrong = (features.vol <= 0) | np.isinf(features.vol)
    if wrong.any():
        n, t = (int(at) for at in np.argwhere(wrong)[0])
        raise DataError(
            f"{features.source}: vol of {features.tickers[n]} on {features.sessions[t]} is {features.vol[n, t]:g}; a "
            "volatility is above zero, or missing"
        )


def positions(source: str, header: list[str], names: tuple[str, ...]) -> list[int]:
    """Where each of `names` is among the columns of `header`.

    Raises:
        DataError: some are not there, by name.
    """
    missing = [name for name in names if name not in header]
    if missing:
        raise DataError(
            f"{source} lacks {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}, which the bundle needs"
        )
    return [header.index(name) for name in names]


class NpzFeatures:
    """An NPZ file, read where it lies.

    Args:
        path: the file.
        names: the bundle's features, in its order.
        coding: what the bundle's codes mean, "" if it takes none.

    Raises:
        DataError: no readable NPZ, an array missing or of another shape, a feature missing, codes of another bundle.
    """

    def __init__(self, path: Path, names: tuple[str, ...], coding: str) -> None:
        self.source = str(path)
        try:
            held = np.load(path, allow_pickle=False)
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            with held:
                self._open(path, held, names, coding)
        except UNREADABLE as error:
            raise DataError(f"{path} is not a readable NPZ without pickle: {error}") from None

    def _open(self, path: Path, held: Any, names: tuple[str, ...], coding: str) -> None:
        self.is_coded = coded = "x_u8" in held
        wanted = ("x_u8", "coding", "last", "n", "t") if coded else ("x",)
        missing = [key for key in (*wanted, "vol", "ticker", "session", "feature") if key not in held]
        if missing:
            raise DataError(f"{path} has no array {missing[0]}; it holds {', '.join(held.files)}")
        self.tickers, self.sessions = held["ticker"].astype(str), held["session"].astype("datetime64[D]")
        self.vol = held["vol"].astype(np.float32, copy=False)
        features = [str(name) for name in held["feature"]]
        self._x, self._last = Member(path, wanted[0]), Member(path, "last") if coded else None
        shape = (len(self.tickers), len(self.sessions))
        widths = () if coded else (len(features),)
        if (
            self.vol.shape != shape
            or len(self._x.shape) != 3
            or self._x.shape != (*shape, *widths, *self._x.shape[2:])[:3]
        ):
            raise DataError(f"{path}: x is {self._x.shape} and vol {self.vol.shape}, not tickers x sessions x features")
        self.cell_bytes = self._x.shape[-1] * self._x.dtype.itemsize
        order = positions(str(path), features, names)
        self._order = None if order == list(range(len(features))) else np.array(order)
        if coded:
            self._check_codes(held, coding, len(features))

    def _check_codes(self, held: Any, coding: str, features: int) -> None:
        if held["coding"].tolist() != [coding]:
            raise DataError(
                f"{self.source} was coded for a bundle with other features or scaling; code it again: tradewind score "
                "--codes"
            )
        self._cells = held["n"].astype(np.int64) * len(self.sessions) + held["t"].astype(np.int64)
        if self._x.dtype != np.uint8:
            raise DataError(f"{self.source}: x_u8 is {self._x.dtype}, not uint8")
        if self._last is None or self._last.shape != (len(self._cells), features) or (np.diff(self._cells) <= 0).any():
            raise DataError(f"{self.source}: last, n and t are not one row a cell, by ticker and session")

    def windows(self, n: Ints, t: Ints, length: int) -> Cells:
        """See `Features`."""
        whole = self._x.shape[1]
        parts = [self._read(self._x, i * whole + j - length + 1, length) for i, j in zip(n, t, strict=True)]
        return Cells(self._ordered(np.stack(parts)), self._last_at(n * whole + t))

    def panel(self, rows: slice, field: int) -> Cells:
        """See `Features`."""
        first, stop, _ = rows.indices(len(self.tickers))
        whole, width = self._x.shape[1:]
        x = self._read(self._x, first * whole, (stop - first) * whole).reshape(stop - first, whole, width)
        if self._last is None:
            return Cells(self._ordered(x), None)
        known = np.isfinite(self.vol[rows, field - 1 :])
        n, t = np.nonzero(known)
        last = np.full((*known.shape, self._last.shape[1]), np.nan, np.float32)
        last[n, t] = self._last_at((n + first) * whole + t + field - 1)
        return Cells(x, last)

    def close(self) -> None:
        """See `Features`."""
        for member in (self._x, self._last):
            if member is not None:
                member.close()

    def _last_at(self, cells: Ints) -> Float32 | None:
        if self._last is None:
            return None
        at = np.searchsorted(self._cells, cells)
        if len(cells) and (at[-1] >= len(self._cells) or (self._cells[at] != cells).any()):
            raise DataError(f"{self.source} was coded for each ticker's newest session; code it again with --all")
        first = int(at[0]) if len(at) else 0
        rows = self._read(self._last, first, int(at[-1]) + 1 - first if len(at) else 0)
        return np.asarray(self._ordered(rows[at - first]))

    def _ordered(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if x.dtype == np.uint8:
            return x
        return (x if self._order is None else np.take(x, self._order, axis=-1)).astype(np.float32, copy=False)

    def _read(self, member: Member, first: int, count: int) -> npt.NDArray[Any]:
        try:
            return member.rows(first, count)
        except UNREADABLE as error:
            raise DataError(f"{self.source} is not a readable NPZ without pickle: {error}") from None
