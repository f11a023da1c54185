"""The user's own files: CSV or Parquet prices; CSV, JSONL or Parquet news."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.providers import BARS, Delivery, Rejected
from pipeline.providers.validation import usable_news, usable_prices
from pipeline.summary import Progress

REQUIRED = ("session", "open", "high", "low", "close")
SYNONYMS = {
    "date": "session", "adj close": "adj_close", "adjusted_close": "adj_close", "symbol": "ticker",
    "dividends": "dividend", "stock splits": "split", "time": "published_at", "datetime": "published_at",
    "headline": "title", "text": "title", "link": "url",
}  # fmt: skip


class Files:
    """Prices and news from the files that `[data] prices` and `[data] news` name."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def fetch(self, progress: Progress) -> Delivery:
        """Every usable row of every file.

        Raises:
            DataError: no file is named, a file is missing, lacks a column, or holds no usable row.
        """
        data = self._config.data
        if not data.prices:
            raise DataError('data.provider is "files" but data.prices names none; run: tradewind init --prices FILE')
        paths = [Path(name) for name in (*data.prices, *data.news)]
        prices, news, rejected, notes = [], [], list[Rejected](), list[str]()
        for done, path in enumerate(paths):
            progress("reading files", done, len(paths))
            if done < len(data.prices):
                prices.append(self._prices(path, rejected, notes))
            else:
                news.append(_news(path, rejected))
        progress("reading files", len(paths), len(paths))
        bars = self._merged(pd.concat(prices, ignore_index=True), rejected)
        wanted = self._config.universe.tickers
        held = set(bars["ticker"])
        failed = {
            ticker: f"not in {', '.join(Path(p).name for p in data.prices)}" for ticker in wanted if ticker not in held
        }
        if wanted:
            bars = bars[bars["ticker"].isin(wanted)].reset_index(drop=True)
        items = pd.concat(news, ignore_index=True) if news else pd.DataFrame()
        return Delivery("files", bars, items, tuple(rejected), failed, tuple(dict.fromkeys(notes)))

    def _prices(self, path: Path, rejected: list[Rejected], notes: list[str]) -> pd.DataFrame:
        text = read_text(path)
        missing = [name for name in REQUIRED if name not in text.columns]
        if missing:
            raise DataError(f"{path} has no column {missing[0]}; it has {', '.join(map(str, text.columns))}")
        if "ticker" not in text.columns:
            text["ticker"] = path.stem.upper()
        if "adj_close" not in text.columns:
            text["adj_close"] = text["close"]
            notes.append(f"{path.name} has no adj_close: close is taken as adjusted for splits and dividends")
        for name, default in (("volume", "0"), ("dividend", "0"), ("split", "1")):
            text[name] = text[name].where(text[name] != "", default) if name in text.columns else default
        # Yahoo's own files write 0 for "no split".
        text["split"] = text["split"].where(~text["split"].isin(("0", "0.0")), "1")
        kept, bad = usable_prices(text, self._config.universe.calendar, path.name)
        rejected += bad
        if kept.empty:
            raise DataError(_nothing_usable(path, bad))
        return kept

    def _merged(self, bars: pd.DataFrame, rejected: list[Rejected]) -> pd.DataFrame:
        """Two files may hold the same bar: the first file's is kept, the other is quarantined."""
        repeated = bars.duplicated(["ticker", "session"])
        if repeated.any():
            rows = bars.loc[repeated, list(BARS)].to_json(orient="records", lines=True, date_format="iso").splitlines()
            reason = "duplicate (ticker, session): an earlier file's is kept"
            rejected += [Rejected("prices", reason, "files", row) for row in rows]
        kept = bars[~repeated].sort_values(["ticker", "session"], ignore_index=True)
        return kept


def read_text(path: Path) -> pd.DataFrame:
    """A CSV, JSONL or Parquet file as text, columns by our names (case and common synonyms aside).

    Raises:
        DataError: missing, empty or unreadable file, unknown suffix, a column twice.
    """
    if not path.is_file():
        raise DataError(f"no file at {path}")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        elif path.suffix in (".jsonl", ".ndjson"):
            frame = pd.read_json(path, lines=True, dtype=False, convert_dates=False)
        elif path.suffix == ".csv":
            frame = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
        else:
            raise DataError(f"{path}: the suffix must be .csv, .jsonl or .parquet")
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parsing errors are ValueErrors
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    names = [str(name).strip().lower() for name in frame.columns]
    frame.columns = pd.Index([SYNONYMS.get(name, name).replace(" ", "_") for name in names])
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has the column {twice[0]} twice; it has {', '.join(names)}")
    if frame.empty:
        raise DataError(f"{path} holds no rows")
    return frame.astype("str").where(frame.notna(), "")


def _news(path: Path, rejected: list[Rejected]) -> pd.DataFrame:
    text = read_text(path).rename(columns={"session": "published_at"})
    missing = [name for name in ("published_at", "title") if name not in text.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]}; it has {', '.join(map(str, text.columns))}")
    for name, default in (("ticker", ""), ("summary", ""), ("url", ""), ("source", path.stem)):
        if name not in text.columns:
            text[name] = default
    kept, bad = usable_news(text, path.name)
    rejected += bad
    if kept.empty:
        raise DataError(_nothing_usable(path, bad))
    return kept


def _nothing_usable(path: Path, bad: list[Rejected]) -> str:
    reason, n = Counter(row.reason for row in bad).most_common(1)[0]
    first = next(row.row for row in bad if row.reason == reason)
    return f"{path} holds no usable row: {n:,} of {len(bad):,} because {reason}, like {first[:160]}"
