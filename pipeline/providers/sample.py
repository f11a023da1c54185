"""The bundled sample: real public-domain prices, two indices of the `arch` package, simulated headlines."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from features import frames
from features.news import calendar_sessions
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.providers import BARS, Delivery, simulated
from pipeline.summary import Progress

STOCKS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
INDICES = ("IXIC", "SPX")


class Sample:
    """AAPL, IBM, MSFT, GOOG, FB 2000-2013 and the S&P 500 and NASDAQ Composite 1999-2018."""

    def __init__(self, config: Config) -> None:
        self._wanted = config.universe.tickers or (*STOCKS, *INDICES)

    def fetch(self, progress: Progress) -> Delivery:
        """All wanted tickers, with headlines after each close."""
        progress("reading the sample", 0, 2)
        parts = [self._stocks(), *(self._index(ticker) for ticker in INDICES if ticker in self._wanted)]
        rows = pd.concat(parts, ignore_index=True)
        rows = rows[rows["ticker"].isin(self._wanted)].sort_values(["ticker", "session"], ignore_index=True)
        rows = rows.astype({"ticker": "str", **dict.fromkeys(frames.PRICE_FIGURES, "float64")})[list(BARS)]
        unknown = [ticker for ticker in self._wanted if ticker not in (*STOCKS, *INDICES)]
        failed = dict.fromkeys(unknown, f"the sample holds {', '.join((*STOCKS, *INDICES))}")
        progress("reading the sample", 1, 2)
        if rows.empty:
            return Delivery("sample", rows, pd.DataFrame(), failed=failed)
        sessions, closes = calendar_sessions("XNYS", rows["session"].min(), rows["session"].max())
        news = simulated.headlines(rows, pd.Series(closes, index=sessions))
        progress("reading the sample", 2, 2)
        notes = ("headlines are SIMULATED price recaps: plumbing only", "the tickers were chosen with hindsight")
        return Delivery("sample", rows, news, failed=failed, notes=notes)

    def _stocks(self) -> pd.DataFrame:
        rows = pd.read_parquet(sample_file())
        return rows.assign(dividend=0.0, split=1.0, session=rows["session"].astype(frames.SESSION))

    def _index(self, ticker: str) -> pd.DataFrame:
        if ticker == "SPX":
            from arch.data import sp500 as source
        else:
            from arch.data import nasdaq as source
        rows = source.load().rename_axis("session").reset_index()
        rows.columns = pd.Index([str(name).lower().replace(" ", "_") for name in rows.columns])
        return rows.assign(
            ticker=ticker, dividend=0.0, split=1.0, session=rows["session"].astype(frames.SESSION)
        )


def sample_file() -> Path:
    """The Parquet file: beside the installed package, or in a source checkout.

    Raises:
        DataError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for path in (package / "sample" / "prices.parquet", package.parent / "data" / "sample" / "prices.parquet"):
        if path.is_file():
            return path
    raise DataError("the sample prices are not installed; reinstall tradewind, or run benchmarks/build_sample.py")
