"""The column contract of every table of the lake, checked with pandera.

A *session* is an exchange trading day: `datetime64[us]` at midnight, no time zone. Every other time is
`datetime64[us, UTC]`. Text is pandas' `str`. A frame that breaks its contract is a `FrameError`, which names
the column and the first offending value; nothing is coerced silently.
"""

from __future__ import annotations

from typing import Final

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError, SchemaErrors

SESSION: Final = "datetime64[us]"
INSTANT: Final = "datetime64[us, UTC]"

QUANTILES = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
QUANTILE_COLUMNS = ("q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99")


class FrameError(ValueError):
    """A table does not keep its contract."""


def _columns(spec: dict[str, str], nullable: tuple[str, ...] = ()) -> dict[str, pa.Column]:
    return {name: pa.Column(dtype, nullable=name in nullable) for name, dtype in spec.items()}


PRICE_FIGURES = ("open", "high", "low", "close", "adj_close", "volume", "dividend", "split")

_price_columns = {
    "ticker": "str",
    "session": SESSION,
    **dict.fromkeys(PRICE_FIGURES, "float64"),
    "source": "str",
    "known_at": INSTANT,
    "ingested_at": INSTANT,
}

PRICES = pa.DataFrameSchema(
    _columns(_price_columns),
    checks=[
        pa.Check(lambda f: f["low"] > 0, name="price above zero"),
        pa.Check(
            lambda f: (f["high"] >= f[["open", "close", "low"]].max(axis=1) * (1 - 1e-9)), name="high is the highest"
        ),
        pa.Check(lambda f: f["low"] <= f[["open", "close"]].min(axis=1) * (1 + 1e-9), name="low is the lowest"),
    ],
    unique=["ticker", "session"],
    strict=True,
    ordered=True,
)

REVISIONS = pa.DataFrameSchema(
    _columns({**_price_columns, "replaced_at": INSTANT}), strict=True, ordered=True
)

NEWS = pa.DataFrameSchema(
    _columns(
        {
            "news_id": "str",
            "ticker": "str",
            "published_at": INSTANT,
            "known_at": INSTANT,
            "ingested_at": INSTANT,
            "source": "str",
            "title": "str",
            "summary": "str",
            "url": "str",
        }
    ),
    unique=["news_id"],
    strict=True,
    ordered=True,
)

QUARANTINE = pa.DataFrameSchema(
    _columns(
        {"row_id": "str", "table": "str", "reason": "str", "source": "str", "row": "str", "quarantined_at": INSTANT}
    ),
    unique=["row_id"],
    strict=True,
    ordered=True,
)

FORECASTS = pa.DataFrameSchema(
    _columns(
        {
            "run_id": "str",
            "model": "str",
            "bundle_version": "str",
            "fold": "str",
            "ticker": "str",
            "session": SESSION,
            "horizon": "int32",
            "sigma": "float64",
            **dict.fromkeys(QUANTILE_COLUMNS, "float64"),
            "p_up": "float64",
            "calibrated": "bool",
            "created_at": INSTANT,
        }
    ),
    strict=True,
    ordered=True,
)

POSITIONS = pa.DataFrameSchema(
    _columns(
        {
            "run_id": "str",
            "strategy": "str",
            "fold": "str",
            "ticker": "str",
            "session": SESSION,
            "weight": "float64",
        }
    ),
    strict=True,
    ordered=True,
)

TABLES: dict[str, pa.DataFrameSchema] = {
    "prices": PRICES,
    "price_revisions": REVISIONS,
    "news": NEWS,
    "quarantine": QUARANTINE,
    "forecasts": FORECASTS,
    "positions": POSITIONS,
}


def check(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract of `table`, with exactly the contract's columns in order.

    Raises:
        FrameError: a column is missing or extra, has another dtype, holds a null or breaks a rule.
    """
    try:
        checked: pd.DataFrame = TABLES[table].validate(frame)
    except (SchemaError, SchemaErrors) as error:
        raise FrameError(f"table {table}: {error}") from error
    return checked
