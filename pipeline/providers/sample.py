"""The bundled sample: five stocks 2000-2013, two indices 1999-2018, and simulated headlines about them.

See data/sample/README.md. The indices belong to the installed package `arch` and are read from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from arch.data import nasdaq, sp500

from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.providers import PRICE_COLUMNS, Delivery, Held
from pipeline.providers.simulated import headlines
from pipeline.summary import Progress

_PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (_PACKAGE / "sample" / "prices.parquet", _PACKAGE.parent / "data" / "sample" / "prices.parquet")
"""Where the stocks lie: in an installed wheel, in a source checkout."""

INDICES = {"SPX": sp500, "IXIC": nasdaq}
NOTE = "sample: real prices; every headline is simulated from the prices themselves"


def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
    """All seven tickers and their simulated headlines, whatever range is asked for.

    A headline is drawn from the whole history, so it is the same in every range.
    """
    progress("reading the sample", 0, 2)
    prices = pd.concat([_stocks(), *(_index(ticker) for ticker in INDICES)], ignore_index=True)
    prices = prices.assign(dividend=0.0, split=1.0)[list(PRICE_COLUMNS)].astype(PRICE_COLUMNS)
    progress("simulating headlines", 1, 2)
    news = headlines(prices, config.universe.calendar, config.models.seed)
    progress("simulating headlines", 2, 2)
    yield Delivery(prices, news, notes=(NOTE,))


def _stocks() -> pd.DataFrame:
    for place in PLACES:
        if place.is_file():
            return pd.read_parquet(place).assign(source="sample")
    raise DataError(f"the sample is not there, neither {PLACES[0]} nor {PLACES[1]}; reinstall tradewind")


def _index(ticker: str) -> pd.DataFrame:
    rows: pd.DataFrame = INDICES[ticker].load().rename_axis("session").reset_index()
    rows.columns = pd.Index([str(name).lower().replace(" ", "_") for name in rows.columns])
    return rows.assign(ticker=ticker, source="arch")
