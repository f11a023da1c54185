"""Ingestions killed at random moments, and two at the same time: nothing lost, nothing doubled."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from pipeline import ingest
from pipeline.config import Config, Data
from pipeline.store import Lake

ROUNDS = 8
CLOCKS = ["ingested_at", "replaced_at", "quarantined_at", "updated_at"]
KEYS = {
    "prices": "ticker, session",
    "price_revisions": "ticker, session",
    "news": "news_id",
    "quarantine": "row_id",
}
Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that start in milliseconds: the one they fork from has imported everything and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.ingest", "pipeline.providers.files"])
    first = context.Process(target=len, args=((),))
    first.start()
    first.join()
    return context


def as_csv(rows: pd.DataFrame, file: Path) -> None:
    columns = ["ticker", "session", "open", "high", "low", "close", "adj_close", "volume"]
    rows[columns].rename(columns={"session": "date"}).to_csv(file, index=False, date_format="%Y-%m-%d")


def config_of(root: Path, lake: Path) -> Config:
    return Config(data=Data(provider="files", prices=(str(root / "*.csv"),), news=(str(root / "*.jsonl"),), lake=lake))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, prices: pd.DataFrame) -> tuple[Path, Path]:
    """Yesterday's files and today's: new bars, revised bars, bad rows, more headlines."""
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    cut = prices["session"].quantile(0.7)
    revised = prices.assign(volume=prices["volume"].where(prices["session"].dt.day > 3, prices["volume"] + 1))
    as_csv(prices[prices["session"] <= cut], before / "prices.csv")
    for (name, year), rows in revised.groupby(["ticker", revised["session"].dt.year]):
        as_csv(rows, after / f"{name}-{year}.csv")
    with (after / "T00-2005.csv").open("a") as file:
        file.writelines(f"T00,2009-01-{day:02d},1,1,2,1,1,1\n" for day in range(1, 29))
    for folder, several in ((before, 300), (after, 600)):
        lines = [
            f'{{"published_at": "2006-01-{1 + n % 28:02d}T{n % 24:02d}:00Z", "ticker": "T00", "title": "headline {n}"}}'
            for n in range(several)
        ]
        (folder / "wire.jsonl").write_text("\n".join(lines) + "\n")
    return before, after


def content(lake: Path) -> Tables:
    """Every table that ingestion writes, without the times at which it happened to run."""
    held = Lake(lake)
    return {
        table: held.read(table, order_by=key).drop(columns=CLOCKS, errors="ignore")
        for table, key in KEYS.items()
        if held.exists(table)
    }


def files(lake: Path, besides: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The files of a lake, relative to it; without those of an earlier look."""
    return frozenset(path.relative_to(lake) for path in lake.rglob("*.*")) - besides


def assert_same(found: Tables, expected: Tables, said: object) -> None:
    assert set(found) == set(expected), said
    for table, rows in expected.items():
        pd.testing.assert_frame_equal(found[table], rows, obj=f"{table} ({said})")


@pytest.mark.slow
def test_killed_at_any_moment_the_lake_is_readable_and_a_second_run_completes_it(
    tmp_path: Path, sources: tuple[Path, Path], processes: multiprocessing.context.ForkServerContext
) -> None:
    """Moments differ from run to run; the seed of a failing one is in the message."""
    before, after = sources
    ingest.run(config_of(before, tmp_path / "yesterday"))
    shutil.copytree(tmp_path / "yesterday", tmp_path / "undisturbed")
    then = files(tmp_path / "yesterday")
    undisturbed = processes.Process(target=ingest.run, args=(config_of(after, tmp_path / "undisturbed"),))
    undisturbed.start()
    started = time.monotonic()
    undisturbed.join()
    whole = time.monotonic() - started
    assert undisturbed.exitcode == 0
    written = [(tmp_path / "undisturbed" / name).stat().st_mtime for name in files(tmp_path / "undisturbed", then)]
    writing = max(written) - min(written)
    old, expected = content(tmp_path / "yesterday"), content(tmp_path / "undisturbed")
    assert all(len(expected[table]) for table in KEYS)
    seed, killed, midway = time.time_ns(), 0, 0
    moment = random.Random(seed)
    for n in range(3 * ROUNDS):  # one that ended before its moment came does not count
        if killed >= ROUNDS and midway >= 2:
            break
        lake = tmp_path / f"lake{n}"
        shutil.copytree(tmp_path / "yesterday", lake)
        writer = processes.Process(target=ingest.run, args=(config_of(after, lake),))
        writer.start()
        if n % 2:
            time.sleep(moment.uniform(0, whole))
        else:  # while it writes, which is the smaller part of the time
            while not files(lake, then) and writer.is_alive():
                time.sleep(0.001)
            time.sleep(moment.uniform(0, writing))
        writer.kill()
        writer.join()
        killed += writer.exitcode == -signal.SIGKILL
        left = content(lake)
        sizes = [{table: len(rows) for table, rows in tables.items()} for tables in (old, left, expected)]
        midway += sizes[0] != sizes[1] != sizes[2]
        assert set(left) >= {"prices", "news"}, seed
        assert len(left["prices"]) >= len(old["prices"]), seed
        assert not left["prices"].duplicated(["ticker", "session"]).any(), seed
        ingest.run(config_of(after, lake))
        assert_same(content(lake), expected, seed)
        shutil.rmtree(lake)
    assert killed >= ROUNDS, f"only {killed} were still running when their moment came"
    assert midway >= 2, f"only {midway} of {killed} were killed between their first write and their last"


@pytest.mark.slow
def test_a_first_ingestion_killed_at_any_moment(
    tmp_path: Path, sources: tuple[Path, Path], processes: multiprocessing.context.ForkServerContext
) -> None:
    _, after = sources
    ingest.run(config_of(after, tmp_path / "undisturbed"))
    expected = content(tmp_path / "undisturbed")
    seed = time.time_ns()
    moment = random.Random(seed)
    for n in range(ROUNDS // 2):
        lake = tmp_path / f"lake{n}"
        writer = processes.Process(target=ingest.run, args=(config_of(after, lake),))
        writer.start()
        time.sleep(moment.uniform(0.05, 0.6))
        writer.kill()
        writer.join()
        content(lake)  # whatever is there can be read
        ingest.run(config_of(after, lake))
        assert_same(content(lake), expected, seed)


@pytest.mark.slow
def test_two_ingestions_at_once_both_complete(
    tmp_path: Path, sources: tuple[Path, Path], processes: multiprocessing.context.ForkServerContext
) -> None:
    _, after = sources
    ingest.run(config_of(after, tmp_path / "alone"))
    expected = content(tmp_path / "alone")
    for n in range(3):
        lake = tmp_path / f"lake{n}"
        pair = [processes.Process(target=ingest.run, args=(config_of(after, lake),)) for _ in range(2)]
        for each in pair:
            each.start()
        for each in pair:
            each.join()
        assert [each.exitcode for each in pair] == [0, 0]
        assert_same(content(lake), expected, n)
