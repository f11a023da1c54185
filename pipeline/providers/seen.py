"""Which (ticker, session) have come already, over any number of batches, in a bit each."""

from __future__ import annotations

import numpy as np
import pandas as pd

FIRST_DAY = np.datetime64("1900-01-01", "us")
PAGE = 1024
"""Days in a page of the bitmap; a ticker has the pages that its sessions lie in: 20 years are about 1 kB."""
_MOST_PAGES = 1 << 20


class Seen:
    """Marks (ticker, session), and tells the first from the later ones."""

    def __init__(self) -> None:
        self._tickers: dict[str, int] = {}
        self._slots: dict[int, int] = {}
        self._bits = np.zeros((16, PAGE // 8), dtype="uint8")

    def first(self, tickers: pd.Series, sessions: pd.Series) -> np.ndarray:
        """Whether each (ticker, session) is new; all are marked.

        Args:
            tickers: text.
            sessions: datetime64[us] from 1900 on; no (ticker, session) twice.

        Returns:
            (len(tickers),) bool.
        """
        codes, names = pd.factorize(tickers)
        ticker = np.array([self._tickers.setdefault(name, len(self._tickers)) for name in names], dtype="int64")
        days = ((sessions.to_numpy() - FIRST_DAY) // np.timedelta64(1, "D")).astype("int64")
        pages, at = np.unique(ticker[codes] * _MOST_PAGES + days // PAGE, return_inverse=True)
        slots = np.array([self._slots.setdefault(page, len(self._slots)) for page in pages.tolist()], dtype="int64")
        while len(self._bits) < len(self._slots):
            self._bits = np.vstack([self._bits, np.zeros_like(self._bits)])
        day = days % PAGE
        slot, byte, bit = slots[at], day // 8, (1 << (day % 8)).astype("uint8")
        is_new: np.ndarray = (self._bits[slot, byte] & bit) == 0
        np.bitwise_or.at(self._bits, (slot, byte), bit)
        return is_new
