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


PRICE_FIGURES = ("open", "high", "low", "close", "adj_close", "volume", "dividend", "split")

_PRICES: dict[str, str] = {
    "ticker": "str",
    "session": SESSION,
    **dict.fromkeys(PRICE_FIGURES, "float64"),
    "source": "str",
    "known_at": INSTANT,
    "ingested_at": INSTANT,
}

COLUMNS: dict[str, dict[str, str]] = {
    "prices": _PRICES,
    "price_revisions": {**_PRICES, "replaced_at": INSTANT},
    "news": {
        "news_id": "str",
        "ticker": "str",
        "published_at": INSTANT,
        "known_at": INSTANT,
        "ingested_at": INSTANT,
        **dict.fromkeys(("source", "title", "summary", "url"), "str"),
    },
    "quarantine": {
        **dict.fromkeys(("row_id", "table", "reason", "source", "row"), "str"),
        "quarantined_at": INSTANT,
    },
    "state": {**dict.fromkeys(("key", "value"), "str"), "updated_at": INSTANT},
    "forecasts": {
        **dict.fromkeys(("run_id", "model", "bundle_version", "fold", "ticker"), "str"),
        "session": SESSION,
        "horizon": "int32",
        "sigma": "float64",
        **dict.fromkeys(QUANTILE_COLUMNS, "float64"),
        "p_up": "float64",
        "calibrated": "bool",
        "created_at": INSTANT,
    },
    "positions": {
        **dict.fromkeys(("run_id", "strategy", "fold", "ticker"), "str"),
        "session": SESSION,
        "weight": "float64",
    },
    "trials": {
        **dict.fromkeys(("entry_id", "trial_id", "run_id", "kind", "settings_digest", "settings", "data"), "str"),
        **dict.fromkeys(("data_versions", "code"), "str"),
        "seed": "int64",
        **dict.fromkeys(("measure", "by_horizon", "figures", "verdict"), "str"),
        "started_at": INSTANT,
        "recorded_at": INSTANT,
    },
}
"""Column -> dtype of every table with a fixed contract, in the order of the columns."""

_UNIQUE = {
    "prices": ["ticker", "session"],
    "news": ["news_id"],
    "quarantine": ["row_id"],
    "state": ["key"],
    "trials": ["entry_id"],
}

_RULES = {
    "prices": [
        pa.Check(lambda f: f["low"] > 0, name="price above zero"),
        pa.Check(lambda f: f["high"] >= f[["open", "close"]].max(axis=1) * (1 - 1e-9), name="high is the highest"),
        pa.Check(lambda f: f["low"] <= f[["open", "close"]].min(axis=1) * (1 + 1e-9), name="low is the lowest"),
    ]
}

TABLES: dict[str, pa.DataFrameSchema] = {
    table: pa.DataFrameSchema(
        {name: pa.Column(dtype, nullable=False) for name, dtype in columns.items()},
        checks=_RULES.get(table),
        unique=_UNIQUE.get(table),
        strict=True,
        ordered=True,
        name=table,
    )
    for table, columns in COLUMNS.items()
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
