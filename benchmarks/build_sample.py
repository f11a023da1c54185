"""Build data/sample/prices.parquet from the public-domain figures in the PyPI package bokeh_sampledata 2026.1.

Run from the repository root: `python benchmarks/build_sample.py`. The same package gives the same file.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import bokeh_sampledata
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE_VERSION = "2026.1"
LARGEST_BYTES = 500_000
OUT = Path(__file__).resolve().parent.parent / "data" / "sample" / "prices.parquet"
NAMES = {"Ticker": "ticker", "Date": "session", "Adj Close": "adj_close"}


def sample() -> pd.DataFrame:
    """The figures as supplied, by (ticker, session): ticker, session, open, high, low, close, adj_close, volume."""
    source = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
    rows = pd.read_csv(source).rename(columns=NAMES).rename(columns=str.lower)
    rows["session"] = pd.to_datetime(rows["session"])
    columns = ["ticker", "session", "open", "high", "low", "close", "adj_close", "volume"]
    return rows[columns].sort_values(["ticker", "session"], ignore_index=True)


def write(rows: pd.DataFrame, out: Path) -> None:
    """Write Parquet, zstd, dates as dates."""
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    names = table.schema.names
    table = table.set_column(names.index("session"), "session", table.column("session").cast(pa.date32()))
    table = table.set_column(names.index("ticker"), "ticker", table.column("ticker").cast(pa.string()))
    pq.write_table(table, out, compression="zstd", compression_level=19)
    size = out.stat().st_size
    if size > LARGEST_BYTES:
        raise SystemExit(f"{out} has {size:,} bytes, more than {LARGEST_BYTES:,}")


def main() -> None:
    if version("bokeh_sampledata") != PACKAGE_VERSION:
        raise SystemExit(f"needs bokeh_sampledata=={PACKAGE_VERSION}, found {version('bokeh_sampledata')}")
    rows = sample()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write(rows, OUT)
    print(rows.groupby("ticker")["session"].agg(["min", "max", "size"]).to_string())
    print(f"{OUT.relative_to(OUT.parents[2])}: {len(rows):,} rows, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
