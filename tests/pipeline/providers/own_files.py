"""Files of prices and headlines for the tests, and what the provider makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import Config, Data, Universe
from pipeline.providers import Delivery, Held
from pipeline.providers.files import deliver, together
from pipeline.providers.tabular import CHUNK_ROWS
from pipeline.summary import silent

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume"
GOOD = "2013-03-01,10,11,9,10.5,5.25,1000"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config_of(
    *prices: Path, news: tuple[Path, ...] = (), columns: dict[str, str] | None = None, **universe: Any
) -> Config:
    data = Data(provider="files", prices=tuple(map(str, prices)), news=tuple(map(str, news)), columns=columns or {})
    return Config(data=data, universe=Universe(**universe))


def delivered(*prices: Path, chunk_rows: int = CHUNK_ROWS, **options: Any) -> Delivery:
    """Everything that is delivered, as one batch."""
    return together(list(deliver(config_of(*prices, **options), silent, Held(), chunk_rows)))


def news_of(tmp_path: Path, path: Path, calendar: str = "XNYS") -> Delivery:
    return delivered(write(tmp_path / "P.csv", HEADER, GOOD), news=(path,), calendar=calendar)
