"""The lake: repeatable, orderless, point-in-time, crash-safe, and shared by writers at the same moment.

Every test runs twice: in a directory, and against an S3-compatible server.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from features import frames
from pipeline import delta
from pipeline.errors import StoreError
from pipeline.store import Lake, Upserted, empty, news_id
from tests.pipeline.object_store import BUCKET, s3_server

FIRST = pd.Timestamp("2011-12-28")  # batches cross a year, so a partition
DAYS = 8


def bars(cells: Iterable[tuple[str, int]], close: float = 10.0, seen: str = "2012-02-01T12:00Z") -> pd.DataFrame:
    """Price rows of (ticker, day) cells; the close tells cells apart."""
    held = list(cells)
    day = np.array([d for _, d in held], dtype=np.int64)
    session = pd.Series(FIRST + pd.to_timedelta(day, unit="D")).astype(frames.SESSION)
    price = close + day * 0.01
    frame = pd.DataFrame(
        {
            "ticker": [t for t, _ in held], "session": session, "open": price, "high": price, "low": price,
            "close": price, "adj_close": price / 2, "volume": 1000.0, "dividend": 0.0, "split": 1.0, "source": "test",
        }
    )  # fmt: skip
    frame["known_at"] = (frame["session"] + pd.Timedelta(hours=21)).dt.tz_localize("UTC")
    frame["ingested_at"] = pd.Timestamp(seen)
    return frame.astype(frames.COLUMNS["prices"])


def headlines(numbers: Iterable[int], seen: str = "2012-02-01T12:00Z") -> pd.DataFrame:
    held = list(numbers)
    at = pd.Series(pd.Timestamp("2012-01-02T15:00Z") + pd.to_timedelta(np.array(held, dtype=np.int64), unit="h"))
    frame = pd.DataFrame(
        {
            "news_id": [news_id("wire", "", "A", str(n), f"headline {n}") for n in held], "ticker": "A",
            "published_at": at, "known_at": at, "ingested_at": pd.Timestamp(seen), "source": "wire",
            "title": [f"headline {n}" for n in held], "summary": "", "url": "",
        }
    )  # fmt: skip
    return frame.astype(frames.COLUMNS["news"])


def content(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["ingested_at"]).reset_index(drop=True)


class Place:
    """Somewhere to make lakes: a fresh one, or the same one again as another process would open it."""

    def __init__(self, root: str, options: dict[str, str]) -> None:
        self.root, self.options = root, options

    def new(self) -> Lake:
        return self.open(f"{self.root}/{uuid.uuid4().hex}")

    def open(self, root: str) -> Lake:
        return Lake(root, self.options)


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server() as options:
        yield options


@pytest.fixture(scope="module", params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    if request.param == "directory":
        return Place(str(tmp_path_factory.mktemp("lakes")), {})
    return Place(f"s3://{BUCKET}/lakes", request.getfixturevalue("s3"))


@pytest.fixture
def lake(place: Place) -> Lake:
    return place.new()


cells = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, DAYS - 1)), min_size=1, max_size=12, unique=True)


@settings(max_examples=9, deadline=None)
@given(batches=st.lists(cells, min_size=1, max_size=4), data=st.data())
def test_batches_in_any_order_overlap_and_repetition_give_the_same_content(
    place: Place, batches: list[list[tuple[str, int]]], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(batches), max_size=2))
    order = data.draw(st.permutations([*batches, *again]))
    lake = place.new()
    counts = [lake.upsert_prices(bars(batch)) for batch in order]
    distinct = sorted({cell for batch in batches for cell in batch})
    pd.testing.assert_frame_equal(content(lake.prices()), content(bars(distinct)))
    assert sum(count.inserted for count in counts) == len(distinct)
    assert sum(count.revised for count in counts) == 0
    assert not lake.exists("price_revisions")


@settings(max_examples=7, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), min_size=1, max_size=4))
def test_news_collapses_by_its_identity(place: Place, batches: list[list[int]]) -> None:
    lake = place.new()
    for batch in batches:
        lake.add_news(headlines(batch))
    distinct = sorted({number for batch in batches for number in batch})
    assert lake.news()["title"].tolist() == [f"headline {number}" for number in distinct]


def test_the_same_rows_again_leave_every_version_alone(lake: Lake) -> None:
    rows, news = bars([("A", 0), ("A", 5), ("B", 1)]), headlines([1, 2])
    assert lake.upsert_prices(rows) == Upserted(3, 0, 0)
    assert lake.add_news(news) == Upserted(2, 0, 0)
    before = lake.versions(("prices", "news"))
    later = bars([("A", 0), ("A", 5), ("B", 1)], seen="2012-03-01T12:00Z")
    assert lake.upsert_prices(later) == Upserted(0, 0, 3)
    assert lake.add_news(headlines([1, 2], seen="2012-03-01T12:00Z")) == Upserted(0, 0, 2)
    assert lake.versions(("prices", "news")) == before
    assert set(lake.prices()["ingested_at"]) == {pd.Timestamp("2012-02-01T12:00Z")}


def test_counts_add_up(lake: Lake) -> None:
    assert Upserted(1, 2, 3) + Upserted(10, 20, 30) == Upserted(11, 22, 33)
    lake.upsert_prices(bars([("A", 0), ("A", 1)]))
    mixed = pd.concat([bars([("A", 0)]), bars([("A", 1)], close=11.0), bars([("A", 2)])], ignore_index=True)
    assert lake.upsert_prices(mixed) == Upserted(1, 1, 1)


def test_nothing_is_written_for_nothing(lake: Lake) -> None:
    assert lake.upsert_prices(bars([])) == Upserted(0, 0, 0)
    assert lake.add_news(headlines([])) == Upserted(0, 0, 0)
    assert lake.quarantine("prices", [], [], []) == 0
    assert lake.versions(("prices", "news", "quarantine")) == {}
    assert lake.tables.read_marker() is None


# -- revisions and as-of --------------------------------------------------------------------------------------


def test_a_revision_keeps_the_row_it_replaced(lake: Lake) -> None:
    lake.upsert_prices(bars([("A", 0), ("A", 1)], seen="2012-02-01T12:00Z"))
    lake.upsert_prices(bars([("A", 1)], close=20.0, seen="2012-02-02T12:00Z"))
    assert lake.prices()["close"].tolist() == [10.0, 20.01]
    old = lake.read("price_revisions")
    assert old[["ticker", "close"]].to_numpy().tolist() == [["A", 10.01]]
    assert old["replaced_at"].tolist() == [pd.Timestamp("2012-02-02T12:00Z")]


def test_as_of_shows_only_what_was_known(lake: Lake) -> None:
    lake.upsert_prices(bars([("A", day) for day in range(4)], seen="2011-12-30T21:30Z"))
    known = pd.Timestamp("2011-12-29T21:00Z")
    assert lake.prices(known)["session"].max() == pd.Timestamp("2011-12-29")
    assert lake.prices(known - pd.Timedelta(microseconds=1))["session"].max() == pd.Timestamp("2011-12-28")
    lake.add_news(headlines([0, 3]))
    assert lake.news(pd.Timestamp("2012-01-02T17:59:59Z"))["title"].tolist() == ["headline 0"]
    assert len(lake.news(pd.Timestamp("2012-01-02T13:00-05:00"))) == 2  # any zone will do


def test_a_revision_takes_effect_when_we_saw_it(lake: Lake) -> None:
    for close, seen in ((10.0, "2012-02-01"), (11.0, "2012-02-03"), (12.0, "2012-02-05")):
        lake.upsert_prices(bars([("A", 0), ("B", 0)], close=close, seen=f"{seen}T12:00Z"))
    for at, close in (("2012-02-02", 10.0), ("2012-02-04", 11.0), ("2012-02-06", 12.0)):
        assert lake.prices(pd.Timestamp(f"{at}T00:00Z"))["close"].tolist() == [close, close]


deliveries = st.lists(
    st.dictionaries(
        st.tuples(st.sampled_from("AB"), st.integers(0, 3)), st.sampled_from([10.0, 11.0, 12.0]), min_size=1, max_size=5
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=5, deadline=None)
@given(batches=deliveries)
def test_as_of_is_what_one_would_have_read_then(place: Place, batches: list[dict[tuple[str, int], float]]) -> None:
    """Replayed against plain lists: nothing known later, no revision before we saw it, every version once."""
    history: dict[tuple[str, int], list[tuple[pd.Timestamp, float]]] = {}
    first_seen = pd.Timestamp("2012-02-01T12:00Z")
    seen = [first_seen + pd.Timedelta(days=n) for n in range(len(batches))]
    lake = place.new()
    for at, batch in zip(seen, batches, strict=True):
        rows = pd.concat([bars([cell], close, str(at)) for cell, close in batch.items()], ignore_index=True)
        lake.upsert_prices(rows)
        for row in rows.itertuples():
            versions = history.setdefault((row.ticker, row.session), [])
            if not versions or versions[-1][1] != row.close:
                versions.append((at, row.close))
    replaced = sum(len(versions) - 1 for versions in history.values())
    assert replaced == (len(lake.read("price_revisions")) if lake.exists("price_revisions") else 0)
    known = [FIRST.tz_localize("UTC") + pd.Timedelta(days=day, hours=21) for day in (0, 2)]
    for as_of in (*known, *seen, *(at - pd.Timedelta(microseconds=1) for at in seen)):
        found = lake.prices(as_of)
        assert (found["known_at"] <= as_of).all()
        expected = {}
        for (ticker, session), versions in history.items():
            if session.tz_localize("UTC") + pd.Timedelta(hours=21) <= as_of:
                by_then = [close for at, close in versions if at <= as_of]
                expected[ticker, session] = by_then[-1] if by_then else versions[0][1]
        assert dict(zip(zip(found["ticker"], found["session"], strict=True), found["close"], strict=True)) == expected


def test_as_of_without_a_zone_is_refused(lake: Lake) -> None:
    lake.upsert_prices(bars([("A", 0)]))
    with pytest.raises(StoreError, match="has no time zone"):
        lake.prices(pd.Timestamp("2012-01-01"))


# -- quarantine -----------------------------------------------------------------------------------------------


def test_a_rejected_row_is_kept_once_with_its_text(lake: Lake) -> None:
    row = 'AAPL,2012-01-03,"1,5",x\n'
    assert lake.quarantine("prices", ["open is not a number"], [row], ["my.csv"]) == 1
    assert lake.quarantine("prices", ["open is not a number"], [row], ["my.csv"]) == 0
    assert lake.quarantine("prices", ["open is not a number"], [row], ["other.csv"]) == 1
    held = lake.read("quarantine", order_by="source")
    assert held["row"].tolist() == [row, row]
    assert held["source"].tolist() == ["my.csv", "other.csv"]


# -- replace --------------------------------------------------------------------------------------------------


def test_replace_writes_only_what_differs(lake: Lake) -> None:
    rows = pd.DataFrame({"ticker": ["A", "B"], "x": [1.0, np.nan], "created_at": pd.Timestamp("2012-01-01T00:00Z")})
    rows = rows.astype({"ticker": "str", "created_at": frames.INSTANT})
    assert lake.replace("notes", rows)
    again = rows.assign(created_at=pd.Timestamp("2013-01-01T00:00Z")).astype({"created_at": frames.INSTANT})
    assert not lake.replace("notes", again.iloc[::-1])
    assert lake.version("notes") == 0
    assert lake.replace("notes", rows.assign(x=[1.0, 2.0]))
    assert lake.read("notes", order_by="ticker")["x"].tolist() == [1.0, 2.0]


def test_replace_of_a_part_leaves_the_rest(lake: Lake) -> None:
    rows = pd.DataFrame({"run": ["a", "a", "b"], "x": [1.0, 2.0, 3.0]}).astype({"run": "str"})
    lake.replace("notes", rows)
    lake.replace("notes", rows.iloc[:1], where="run = 'a'")
    assert lake.read("notes", order_by="x")["x"].tolist() == [1.0, 3.0]


# -- faults ---------------------------------------------------------------------------------------------------


def test_a_crash_between_revision_and_merge_neither_loses_nor_doubles(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.upsert_prices(bars([("A", 0), ("A", 1)]))
    revised = bars([("A", 1)], close=20.0, seen="2012-02-02T12:00Z")
    original = Lake._keep_replaced

    def crash(self: Lake, held: pd.DataFrame, rows: pd.DataFrame) -> None:
        original(self, held, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "_keep_replaced", crash)
        with pytest.raises(KeyboardInterrupt):
            lake.upsert_prices(revised)
    assert lake.prices()["close"].tolist() == [10.0, 10.01]
    assert lake.prices(pd.Timestamp("2013-01-01T00:00Z"))["close"].tolist() == [10.0, 10.01]
    assert lake.upsert_prices(revised.assign(ingested_at=pd.Timestamp("2012-02-09T12:00Z"))) == Upserted(0, 1, 0)
    assert lake.prices()["close"].tolist() == [10.0, 20.01]
    assert lake.read("price_revisions")["close"].tolist() == [10.01]


def test_writers_at_the_same_moment_all_land(place: Place) -> None:
    root = place.new().root
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def write(ticker: str) -> None:
        try:
            start.wait()
            for day in range(3):
                place.open(root).upsert_prices(bars([(ticker, day), ("SHARED", day)]))
                place.open(root).add_news(headlines([day, ord(ticker)]))
        except BaseException as error:  # noqa: BLE001 - whatever ended the thread is shown below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(ticker,)) for ticker in "ABCD"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    held = place.open(root).prices()
    assert held.groupby("ticker").size().to_dict() == {"A": 3, "B": 3, "C": 3, "D": 3, "SHARED": 3}
    assert len(place.open(root).news()) == 3 + 4
    assert not place.open(root).exists("price_revisions")


def test_another_writer_that_never_stops_is_an_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise CommitFailedError("conflict")

    monkeypatch.setattr(delta.time, "sleep", lambda seconds: None)
    with pytest.raises(StoreError, match="another writer kept committing first"):
        lake.tables.committed(lost)


def test_a_lake_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written: "):
        Lake(tmp_path / "file").upsert_prices(bars([("A", 0)]))


def test_a_store_that_does_not_answer_is_an_error_in_time() -> None:
    """Four tries, not the minutes that the client of the store would take by itself."""
    options = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "x"}
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(StoreError, match=r"the lake at s3://nowhere/lake cannot be read: .*Connection refused"):
        Lake("s3://nowhere/lake", options | keys)
    with pytest.raises(StoreError, match=r"gopher://x/y: unknown kind of object store gopher://; use s3, "):
        Lake("gopher://x/y")


def test_another_schema_is_refused(place: Place) -> None:
    lake = place.new()
    lake.upsert_prices(bars([("A", 0)]))
    lake.tables.write_marker({"schema_version": 99})
    with pytest.raises(StoreError, match=r"has lake schema 99, this program reads 1; .*\[data\] lake"):
        place.open(lake.root)


def test_a_table_that_was_never_written(lake: Lake) -> None:
    assert lake.version("prices") is None
    assert lake.versions() == {}
    with pytest.raises(StoreError, match="has no table prices; run the stage"):
        lake.prices()
    assert list(lake.news().columns) == list(empty("news").columns) == list(frames.COLUMNS["news"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 0.0}, "price above zero"),
        ({"high": 1.0}, "high is the highest"),
        ({"low": 99.0, "high": 99.0}, "low is the lowest"),
        ({"close": np.nan}, "close"),
        ({"volume": 5}, "volume"),
    ],
)
def test_rows_that_break_the_contract_never_reach_the_table(lake: Lake, change: dict[str, float], message: str) -> None:
    with pytest.raises(frames.FrameError, match=message):
        lake.upsert_prices(bars([("A", 0)]).assign(**change))
    assert not lake.exists("prices")


def test_two_rows_of_one_key_are_refused(lake: Lake) -> None:
    with pytest.raises(frames.FrameError, match="ticker"):
        lake.upsert_prices(pd.concat([bars([("A", 0)]), bars([("A", 0)])], ignore_index=True))


def test_prices_lie_in_partitions_of_a_year(lake: Lake) -> None:
    lake.upsert_prices(bars([("A", 0), ("A", 7)]))
    assert lake.tables.open("prices").metadata().partition_columns == ["year"]
    assert "year" not in lake.prices()
    assert lake.prices().dtypes.astype(str).to_dict() == {
        name: str(np.dtype(dtype)) if dtype == "float64" else dtype for name, dtype in frames.COLUMNS["prices"].items()
    }


def test_the_identity_of_news() -> None:
    assert news_id("s", "http://u", "A", "1", "x") == news_id("s", "http://u", "A", "2", "y")
    assert news_id("s", "", "A", "1", "x") != news_id("s", "", "A", "1", "y")
    assert news_id("s", "", "A", "1", "x") != news_id("s", "", "B", "1", "x")
