"""Novelty against a plain reference with sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.novelty import novelty, words_of

YEARS = np.repeat([2011, 2012, 2014], [3, 5, 4])


def shares(row: list[int], t: list[int], texts: list[str], window: int, most: int = 10**6) -> list[float]:
    at = np.arange(len(texts))
    years = np.asarray(YEARS, dtype=np.int64)
    found = novelty(np.array(row, np.int64), np.array(t, np.int64), at, words_of(texts), years, window, most)
    return found.tolist()


def reference(row: list[int], t: list[int], texts: list[str], window: int) -> list[float]:
    said: dict[tuple[int, int], set[str]] = {}
    for n, s, text in zip(row, t, texts, strict=True):
        said.setdefault((n, s), set()).update(word for word in text.lower().split() if word.isalpha())
    found = []
    for n, s in zip(row, t, strict=True):
        earlier = [u for u in range(max(0, s - window), s) if YEARS[s] - YEARS[u] <= 1]
        old = set().union(*(said.get((n, u), set()) for u in earlier))
        words = said[n, s]
        found.append(len(words - old) / len(words) if words else 0.0)
    return found


def test_words_told_before_are_not_new():
    texts = ["Profit rises", "profit falls", "Profit falls 12 %", "profit falls", "12 %"]
    assert shares([0, 0, 0, 1, 0], [0, 1, 2, 2, 4], texts, 2) == [1, 0.5, 0, 1, 0]
    assert shares([0, 0], [0, 1], ["a story", "a story"], 0) == [1, 1], "nothing is looked back at"


def test_a_session_is_one_text():
    assert shares([0, 0, 0], [3, 4, 4], ["one two", "two three", "three four one"], 2) == [1, 0.5, 0.5]


@settings(max_examples=150, deadline=None)
@given(
    items=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, len(YEARS) - 1),
            st.lists(st.sampled_from(["alpha", "Beta", "gamma", "delta", "7", "%"]), max_size=4).map(" ".join),
        ),
        max_size=40,
    ),
    window=st.integers(0, 6),
    most=st.sampled_from([1, 5, 10**6]),
)
def test_as_the_reference_says_in_pieces_of_any_size(items: list[tuple[int, int, str]], window: int, most: int):
    row, t, texts = ([item[i] for item in items] for i in range(3))
    assert shares(row, t, texts, window, most) == pytest.approx(reference(row, t, texts, window), abs=0)
