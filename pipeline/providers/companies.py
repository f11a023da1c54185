"""Which companies a headline names: by configured words, by $AAPL, by (NASDAQ: AAPL)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

EXCHANGES = r"(?:NASDAQ|Nasdaq|NYSE|Nyse|AMEX|ARCA|BATS|CBOE|OTC|TSX|LSE|LON|ETR|FRA|EPA|ASX|TSE|TYO|HKEX|HKG|SIX)"
SHORT = 3
"""A word of more characters is found in capitals or not; a shorter one (IBM, GE) as it is written only."""


@dataclass(frozen=True)
class Companies:
    """Finds tickers in headlines, all headlines at once.

    A word counts when it stands alone: Apple in "Apple's", not in "Pineapple". A ticker of one letter counts behind an
    exchange only, (NYSE: F), since $M may be money. BRK-B is also found as BRK.B.

    Attributes:
        words: ticker -> words that name it.
        symbols: tickers found by their symbol.
    """

    words: Mapping[str, Iterable[str]]
    symbols: Iterable[str]
    _by_word: dict[str, list[str]] = field(init=False, default_factory=dict, repr=False)
    _by_symbol: dict[str, list[str]] = field(init=False, default_factory=dict, repr=False)
    _pattern: re.Pattern[str] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        for ticker, words in self.words.items():
            for word in filter(None, (" ".join(word.split()) for word in words)):
                self._by_word.setdefault(_key(word), []).append(ticker)
        for ticker in dict.fromkeys(filter(None, self.symbols)):
            self._by_symbol.setdefault(ticker.replace(".", "-"), []).append(ticker)
        object.__setattr__(self, "_pattern", self._compiled())

    def _compiled(self) -> re.Pattern[str] | None:
        if not self._by_word and not self._by_symbol:
            return None
        symbols = [symbol for symbol in self._by_symbol if len(symbol) > 1]
        long = [word for word in self._by_word if len(word) > SHORT]
        short = [word for word in self._by_word if len(word) <= SHORT]
        # The exchange comes first: in (NASDAQ: AAPL) no company called Nasdaq is named. $BRK is not in $BRK.B.
        return re.compile(
            rf"(?<!\w)(?:{EXCHANGES}[A-Za-z]*\s*:\s*(?P<listed>{_symbols(self._by_symbol)})(?!\w|[.-][A-Z])"
            rf"|\$(?P<cash>{_symbols(symbols)})(?!\w|[.-][A-Z])"
            rf"|(?P<word>(?i:{_any(long)})|{_any(short)})(?!\w))"
        )

    def named(self, titles: pd.Series) -> pd.Series:
        """The tickers that each title names.

        Args:
            titles: text with single blanks.

        Returns:
            Tickers under the index of `titles`, which repeats for a title that names several and lacks those that
            name none; a ticker once a title, in the order of mention.
        """
        if self._pattern is None or titles.empty:
            return pd.Series([], index=titles.index[:0], dtype="str", name="ticker")
        found = titles.str.extractall(self._pattern)
        symbols = found["listed"].fillna(found["cash"]).str.replace(".", "-").map(self._by_symbol)
        exact, folded = found["word"].map(self._by_word), found["word"].str.lower().map(self._by_word)
        tickers = symbols.astype(object).fillna(exact.astype(object)).fillna(folded.astype(object)).explode().dropna()
        at = tickers.index.get_level_values(0)
        once = ~pd.DataFrame({"at": at, "ticker": tickers.to_numpy()}).duplicated().to_numpy()
        return pd.Series(tickers.to_numpy()[once], index=at[once], dtype="str", name="ticker")


def _key(word: str) -> str:
    return word.lower() if len(word) > SHORT else word


def _any(texts: Iterable[str]) -> str:
    """One of these, the longest first; never, if there are none."""
    ordered = sorted(texts, key=lambda text: (-len(text), text))
    return "|".join(map(re.escape, ordered)) or r"(?!)"


def _symbols(symbols: Iterable[str]) -> str:
    return _any(symbols).replace(r"\-", "[-.]")
