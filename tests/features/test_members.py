from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.members import MembersError, mask, spells

WEEK = pd.date_range("2013-03-04", "2013-03-10")


def rows_of(*lines: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=["ticker", "from", "to"], index=range(2, 2 + len(lines)), dtype="str")


def test_both_ends_belong_and_an_open_end_lasts() -> None:
    found = spells(
        rows_of((" B ", "2013-03-06", ""), ("A", "2013-03-08", "2013-03-08"), ("A", "2013-01-01", "2013-03-05"))
    )
    assert found["ticker"].tolist() == ["A", "A", "B"]
    assert found["last"].isna().tolist() == [False, False, True]
    inside = mask(found, ["B", "C", "A"], WEEK)
    assert inside.T.astype(int).tolist() == [[0, 0, 1, 1, 1, 1, 1], [0] * 7, [1, 1, 0, 0, 1, 0, 0]]


def test_spells_between_sessions_hold_none() -> None:
    found = spells(
        rows_of(("A", "2013-03-09", "2013-03-10"), ("A", "2014-01-01", ""), ("A", "2000-01-01", "2001-01-01"))
    )
    assert not mask(found, ["A"], WEEK[:5]).any()


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        ([("A", "2013-03-01", ""), ("", "2013-03-01", "")], 3, "no ticker"),
        ([("A", "", "2013-03-01")], 2, r"from is empty; a spell needs its first session, like 2013-03-01"),
        ([("A", "1.3.2013", "")], 2, r"from '1.3.2013' is no date like 2013-03-01"),
        ([("A", "2013-03-01", "2013-02-30")], 2, r"to '2013-02-30' is no date like 2013-03-01"),
        ([("A", "2013-03-01", "2013-02-01")], 2, r"to 2013-02-01 lies before from 2013-03-01"),
        (
            [("A", "2013-03-01", "2013-04-01"), ("B", "2013-01-01", ""), ("A", "2013-04-01", "")],
            4,
            r"A joins on 2013-04-01, but its spell from 2013-03-01 lasts to 2013-04-01",
        ),
        (
            [("A", "2013-04-01", "2013-05-01"), ("A", "2013-03-01", "")],
            2,
            r"A joins on 2013-04-01, but its spell from 2013-03-01 is still open",
        ),
    ],
)
def test_a_spell_that_cannot_be_is_named(lines: list[tuple[str, str, str]], line: int, reason: str) -> None:
    with pytest.raises(MembersError, match=reason) as caught:
        spells(rows_of(*lines))
    assert caught.value.line == line


def test_a_file_of_another_kind_is_named() -> None:
    with pytest.raises(MembersError, match=r"no column from, to; the columns are ticker, from, to"):
        spells(pd.DataFrame({"ticker": ["A"], "since": ["2013-03-01"]}))
    with pytest.raises(MembersError, match="no ticker in it"):
        spells(rows_of())
    with pytest.raises(MembersError, match="a column is there twice: ticker, ticker, from, to"):
        spells(pd.DataFrame([["A", "B", "2013-03-01", ""]], columns=["ticker", "ticker", "from", "to"]))


DAYS = st.lists(st.integers(0, 60), min_size=2, max_size=8, unique=True).map(sorted)


@given(DAYS, DAYS, st.booleans())
def test_as_asking_each_day_would(one: list[int], two: list[int], is_open: bool) -> None:
    days = pd.date_range("2013-01-01", periods=70)
    lines = []
    for ticker, ends in (("A", one), ("B", two)):
        pairs = list(zip(ends[::2], ends[1::2], strict=False))
        lines += [(ticker, f"{days[a]:%Y-%m-%d}", f"{days[b]:%Y-%m-%d}") for a, b in pairs]
    if is_open:
        lines.append(("B", "2013-03-10", ""))
    inside = mask(spells(rows_of(*lines)), ["A", "B"], days)
    asked = [
        [any(t == n and f <= d and (d <= u or not u) for n, f, u in lines) for t in "AB"]
        for d in days.strftime("%Y-%m-%d")
    ]
    np.testing.assert_array_equal(inside, asked)
