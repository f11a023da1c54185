"""Ingestion as a whole, for any rows: each one received is used or quarantined, and the order of arrival is nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from features import frames
from pipeline import ingest
from pipeline.config import Config, Data
from pipeline.errors import UnknownTickerError
from pipeline.providers import Delivery, Held, Rejected
from pipeline.providers.checks import check_prices
from pipeline.store import Lake
from pipeline.summary import Progress, Summary, silent

FIGURES = ("1", "2.5", "0", "-1", "nan", "inf", "1e400", "1,5", "", "x", "\ud800")
DATES = ("2013-02-28", "2013-03-01", "2013-03-02", "2013-03-04", "0001-01-01", "9999-12-31", "soon", "")

rows_of_text = st.fixed_dictionaries(
    {
        "ticker": st.sampled_from(["A", "B", "", " A", "it's"]),
        "session": st.sampled_from(DATES),
        **{name: st.sampled_from(FIGURES) for name in frames.PRICE_FIGURES},
    }
)
good_rows = st.builds(
    lambda ticker, day, close: {
        "ticker": ticker,
        "session": f"2013-03-{day:02d}",
        **dict.fromkeys(("open", "high", "low", "close", "adj_close"), close),
        **{"volume": "7", "dividend": "", "split": ""},
    },
    st.sampled_from("AB"),
    st.sampled_from((1, 4, 5, 6)),
    st.just("3"),
)
batches_of_rows = st.lists(st.lists(rows_of_text | good_rows, min_size=1, max_size=6), min_size=1, max_size=4)


def delivered(batches: list[list[dict[str, str]]]) -> ingest.Provider:
    """A provider of these batches; each is judged on its own, as one download would be."""

    def deliver(config: Config, progress: Progress, held: Held) -> Iterator[Delivery]:
        for batch in batches:
            raw = pd.DataFrame(batch, dtype=object).assign(source="test")
            good, why = check_prices(raw, config.universe)
            bad = [Rejected("prices", reason, "test", str(batch[at])) for at, reason in enumerate(why) if reason]
            yield Delivery(good, rejected=tuple(bad))

    return deliver


def run(root: str, batches: list[list[dict[str, str]]]) -> Summary | None:
    """None if not one row could be used."""
    try:
        return ingest.run(Config(data=Data(lake=Path(root))), silent, delivered(batches))
    except UnknownTickerError:
        return None


@settings(max_examples=15, deadline=None)
@given(batches_of_rows)
def test_rows_used_and_rows_quarantined_are_the_rows_received(batches: list[list[dict[str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        summary = run(root, batches)
        if summary is None:
            return
        used = sum(summary.figures["prices"].values())
        assert used + summary.figures["quarantined"] == sum(len(batch) for batch in batches)
        lake = Lake(root)
        assert len(lake.prices()) == summary.figures["prices"]["inserted"]
        texts = set(lake.read("quarantine")["row"]) if lake.exists("quarantine") else set()
        assert len(texts) <= summary.figures["quarantined"]
        assert bool(texts) == bool(summary.figures["quarantined"])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(good_rows, min_size=1, max_size=5), min_size=1, max_size=4), st.data())
def test_batches_in_any_order_and_number_leave_the_same_lake(
    batches: list[list[dict[str, str]]], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(batches), max_size=2))
    order = data.draw(st.permutations([*batches, *again]))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert run(one, batches) is not None
        assert run(other, order) is not None
        assert run(other, batches) is not None
        left, right = (Lake(root).prices().drop(columns="ingested_at") for root in (one, other))
        pd.testing.assert_frame_equal(left, right)
        assert not Lake(other).exists("price_revisions")
