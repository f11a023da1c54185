"""A writer killed at any moment: the lake stays readable, and the same rows again make it whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from pipeline.store import Lake

ROUNDS = 4

WRITER = """
import sys
import pandas as pd
from pipeline.store import Lake

rows, lake = pd.read_pickle(sys.argv[1]), Lake(sys.argv[2])
print("ready", flush=True)
while True:
    for year, batch in rows.groupby(rows["session"].dt.year):
        lake.upsert_prices(batch)
    rows = rows.assign(volume=rows["volume"] + 1, ingested_at=rows["ingested_at"] + pd.Timedelta(days=1))
"""
"""Writes every year, then revises every row, for ever."""


def written_and_killed(rows: Path, lake: Path, after: float) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(rows), str(lake)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    time.sleep(after)
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()


@pytest.mark.slow
def test_a_killed_writer_leaves_a_lake_that_can_be_read_and_completed(tmp_path: Path, prices: pd.DataFrame) -> None:
    """Moments differ from run to run; the seed of a failing one is in the message."""
    seed = time.time_ns()
    moment = random.Random(seed)
    prices.to_pickle(tmp_path / "rows.pickle")
    keys = ["ticker", "session"]
    for _ in range(ROUNDS):
        written_and_killed(tmp_path / "rows.pickle", tmp_path / "lake", moment.uniform(0.02, 1.5))
        lake = Lake(tmp_path / "lake")  # its marker, if any, is whole
        held = lake.prices() if lake.exists("prices") else prices.iloc[:0]
        assert not held.duplicated(keys).any(), seed
        # Whatever moment: a row of some version of what was written, never a mixture of two.
        both = held.merge(prices, on=keys, suffixes=("", "_first"))
        assert len(both) == len(held), seed
        assert (both["close"] == both["close_first"]).all(), seed
        versions = both["volume"] - both["volume_first"]
        days = (both["ingested_at"] - both["ingested_at_first"]) / pd.Timedelta(days=1)
        assert ((versions - days).abs() < 1e-6).all(), seed
    lake.upsert_prices(prices.assign(ingested_at=prices["ingested_at"] + pd.Timedelta(days=999)))
    whole = lake.prices()
    figures = [name for name in prices if name != "ingested_at"]
    expected = prices.sort_values(keys)[figures].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole[figures], expected)
    if lake.exists("price_revisions"):
        assert not lake.read("price_revisions").duplicated([*keys, "ingested_at"]).any(), seed
