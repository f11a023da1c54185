from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config, Universe
from pipeline.errors import DataError
from pipeline.providers import PRICE_COLUMNS, Delivery, Held, checks, sample
from pipeline.summary import silent

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def delivery() -> Delivery:
    return next(sample.deliver(Config(), silent, Held()))


def test_seven_tickers_with_the_ranges_of_the_data_card(delivery: Delivery) -> None:
    found = delivery.prices.groupby("ticker")["session"].agg(["min", "max", "size"])
    spans = {
        ticker: (f"{row['min']:%Y-%m-%d}", f"{row['max']:%Y-%m-%d}", row["size"]) for ticker, row in found.iterrows()
    }
    assert spans == {
        "AAPL": ("2000-03-01", "2013-03-01", 3270),
        "FB": ("2012-05-18", "2013-03-01", 196),
        "GOOG": ("2004-08-19", "2013-03-01", 2148),
        "IBM": ("2000-03-01", "2013-03-01", 3270),
        "IXIC": ("1999-01-04", "2018-12-31", 5031),
        "MSFT": ("2000-03-01", "2013-03-01", 3270),
        "SPX": ("1999-01-04", "2018-12-31", 5031),
    }
    card = (ROOT / "data" / "sample" / "README.md").read_text()
    for ticker in ("AAPL", "FB", "GOOG", "IBM", "MSFT"):
        first, last, rows = spans[ticker]
        assert f"| {ticker} | {first} | {last} | {rows:,} |" in card


def test_every_row_passes_the_checks_of_the_users_own_files(delivery: Delivery) -> None:
    good, why = checks.check_prices(delivery.prices, Universe())
    assert (why == "").all()
    pd.testing.assert_frame_equal(good, delivery.prices)
    assert {name: str(dtype) for name, dtype in delivery.prices.dtypes.items()} == PRICE_COLUMNS


def test_the_known_figures(delivery: Delivery) -> None:
    rows = delivery.prices.set_index(["ticker", "session"]).sort_index()
    adjusted = rows.loc["AAPL", "adj_close"].pct_change()
    assert adjusted[pd.Timestamp("2000-09-29")] == pytest.approx(-0.519, abs=0.001)
    split = pd.Timestamp("2005-02-28")
    assert rows.loc["AAPL", "close"].pct_change()[split] == pytest.approx(-0.5, abs=0.03)
    assert abs(adjusted[split]) < 0.03
    assert rows.loc[("SPX", pd.Timestamp("2008-10-13")), "close"] == pytest.approx(1003.35)
    assert set(rows.loc["SPX", "source"]) == {"arch"}


def test_all_its_headlines_are_simulated(delivery: Delivery) -> None:
    assert len(delivery.news) > 5000
    assert set(delivery.news["source"]) == {"simulated"}
    assert "" in set(delivery.news["ticker"])
    assert "every headline is simulated" in delivery.notes[0]


def test_the_file_is_small_and_says_nothing_new(delivery: Delivery) -> None:
    file = ROOT / "data" / "sample" / "prices.parquet"
    assert file.stat().st_size < 500_000
    assert len(pd.read_parquet(file)) == 12_154


def test_the_builder_gives_the_same_rows() -> None:
    source = pytest.importorskip("bokeh_sampledata")
    raw = pd.read_csv(Path(source.__file__).parent / "_data" / "stocks.csv.gz").sort_values(["Ticker", "Date"])
    built = pd.read_parquet(ROOT / "data" / "sample" / "prices.parquet")
    for theirs, ours in (("Open", "open"), ("Adj Close", "adj_close"), ("Volume", "volume")):
        np.testing.assert_array_equal(raw[theirs].to_numpy(), built[ours].to_numpy())


def test_a_missing_sample_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "PLACES", (tmp_path / "a.parquet", tmp_path / "b.parquet"))
    with pytest.raises(DataError, match=r"the sample is not there, neither .*a\.parquet nor .*b\.parquet; reinstall"):
        next(sample.deliver(Config(), silent, Held()))


def test_an_installed_wheel_is_looked_at_first() -> None:
    package, checkout = sample.PLACES
    assert package.parts[-3:] == ("pipeline", "sample", "prices.parquet")
    assert checkout == ROOT / "data" / "sample" / "prices.parquet"
    assert '"data/sample" = "pipeline/sample"' in (ROOT / "pyproject.toml").read_text()
