"""Which companies a headline names."""

from __future__ import annotations

import pandas as pd
import pytest

from pipeline.providers.companies import Companies

WORDS = {
    "AAPL": ["Apple", "iPhone"], "GE": ["GE"], "GOOG": ["Google"], "GOOGL": ["Google"], "BAC": ["Bank of America"],
    "USA": ["America"], "NDAQ": ["Nasdaq"], "KO": ["Coca-Cola", "  "], "F": [], "BRK-B": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("title", "tickers"),
    [
        ("Apple's results", ["AAPL"]),
        ("APPLE and apple and iphone", ["AAPL"]),
        ("Pineapple prices", []),
        ("GE to split", ["GE"]),
        ("ge ist nicht GEx", []),
        ("Google and Apple meet", ["GOOG", "GOOGL", "AAPL"]),
        ("Bank of America cuts", ["BAC"]),
        ("America first", ["USA"]),
        ("$AAPL up, $MSFT down", ["AAPL", "MSFT"]),
        ("US$AAPL, $AAPLX, AAPL", []),
        ("Ford loses $F", []),
        ("Ford (NYSE: F) and (NasdaqGS:MSFT)", ["F", "MSFT"]),
        ("Berkshire (NYSE: BRK.B), $BRK-B", ["BRK-B"]),
        ("Berkshire (NYSE: BRK.A)", []),
        ("Listed (NASDAQ: AAPL) today", ["AAPL"]),
        ("Nasdaq closes higher", ["NDAQ"]),
        ("coca-cola, Coca.Cola", ["KO"]),
        ("Nothing here", []),
    ],
)
def test_who_is_named(title: str, tickers: list[str]) -> None:
    found = Companies(WORDS, (*WORDS, "MSFT")).named(pd.Series(["Weather", title], index=[7, 3], dtype="str"))
    assert found.tolist() == tickers
    assert set(found.index) <= {3}


def test_nobody_to_look_for() -> None:
    titles = pd.Series(["Apple", "$AAPL"], dtype="str")
    assert Companies({}, ()).named(titles).empty
    assert Companies({"AAPL": [" "]}, ()).named(titles).empty


def test_words_are_no_patterns() -> None:
    titles = pd.Series(["AT&T and C3.ai", "C3Xai", "Yum! Brands"], dtype="str")
    words = {"T": ["AT&T"], "AI": ["C3.ai"], "YUM": ["Yum!"], "X": [".*"]}
    found = Companies(words, ()).named(titles)
    assert list(zip(found.index, found, strict=True)) == [(0, "T"), (0, "AI"), (2, "YUM")]
