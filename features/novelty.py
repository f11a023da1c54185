"""How new a session's headlines are: the share of their words that the ticker's recent headlines did not hold.

Old news told again is read by fewer, and moves prices less and for a shorter time (Tetlock 2011, "All the News
That's Fit to Reprint", Review of Financial Studies 24, who measures it by the words that stories share).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from features.classifier import tokens_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_WORDS: Final = 4_000_000
"""Words looked at in one piece, and with them the memory: about 40 bytes each."""


class Words(NamedTuple):
    """The different words of each of n texts.

    Attributes:
        ids: (W,) one text after the other. ends: (n + 1,) where each begins and ends. known: how many words there are.
    """

    ids: Ints
    ends: Ints
    known: int


def words_of(texts: Sequence[str]) -> Words:
    """Words are runs of letters, in lower case; numbers and marks are left aside."""
    known: dict[str, int] = {}
    ids: list[int] = []
    ends = [0]
    for text in texts:
        ids.extend({known.setdefault(token, len(known)) for token in tokens_of(text) if token[0].isalpha()})
        ends.append(len(ids))
    return Words(np.array(ids, dtype=np.int64), np.array(ends, dtype=np.int64), len(known))


def novelty(row: Ints, t: Ints, text: Ints, words: Words, years: Ints, window: int, most: int = MOST_WORDS) -> Floats:
    """For each headline the novelty of its (row, session): new words / words, each counted once a session.

    A word is new where no headline of the row held it in the `window` sessions before, as far as they lie in the same
    calendar year or the year before. Headlines of the same session are not compared with each other.

    Args:
        row: (n,) whose headline it is, from 0. t: (n,) its session. text: (n,) its text in `words`.
        words: of the texts.
        years: (T,) calendar year of each session.
        window: sessions looked back.
        most: words to look at in one piece.

    Returns:
        (n,) in [0, 1]; 0 where the session's headlines hold no word. The order of headlines is of no matter.
    """
    out = np.zeros(len(row))
    weight = np.bincount(t, np.diff(words.ends)[text], minlength=len(years))
    for start, end in pairwise(_pieces(weight, most)):
        inside = np.flatnonzero((t >= start - window) & (t < end))
        asked = inside[t[inside] >= start]
        shares = _shares(row[inside], t[inside], text[inside], words, years, window)
        out[asked] = shares[t[inside] >= start]
    return out


def _pieces(weight: npt.NDArray[np.number], most: int) -> Iterator[int]:
    """Borders between sessions, with at most `most` words (or one session) from one to the next."""
    held = 0.0
    yield 0
    for t, here in enumerate(weight.tolist()):
        if held and held + here > most:
            yield t
            held = 0.0
        held += here
    yield len(weight)


def _shares(row: Ints, t: Ints, text: Ints, words: Words, years: Ints, window: int) -> Floats:
    """See `novelty`."""
    sessions, cell = len(years), row * len(years) + t
    lengths = np.diff(words.ends)[text]
    held = np.repeat(np.arange(len(text)), lengths)  # (W,) which headline holds each word
    at = np.arange(len(held)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + words.ends[text][held]
    # One number for (row, word, session), so that sorting puts the sessions of a row's word next to each other.
    seen = np.sort((row[held] * words.known + words.ids[at]) * sessions + t[held])
    seen = seen[np.append(True, seen[1:] != seen[:-1])[: len(seen)]]
    pair, when = np.divmod(seen, sessions)
    new = np.ones(len(seen), dtype=bool)
    same = pair[1:] == pair[:-1]
    near = (when[1:] - when[:-1] <= window) & (years[when[1:]] - years[when[:-1]] <= 1)
    new[1:] = ~(same & near)
    cells, place = np.unique(cell, return_inverse=True)
    of = np.searchsorted(cells, pair // max(words.known, 1) * sessions + when)
    shares = np.bincount(of, new, len(cells)) / np.maximum(np.bincount(of, minlength=len(cells)), 1)
    return np.asarray(shares[place])
