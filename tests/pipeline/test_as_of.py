"""`data.as_of`: the whole line as it would have run then; and the same line on an object store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import featurize, ingest
from pipeline.config import Config, Data, Universe
from pipeline.store import Lake
from tests.pipeline.object_store import BUCKET, s3_server


def at(config: Config, **data: object) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update=data)})


def features_of(config: Config) -> pd.DataFrame:
    featurize.run(config)
    return Lake(config.data.lake).read("features", order_by="ticker, session")


def test_features_as_of_an_instant_are_those_computed_then(
    small_config: Config, prices: pd.DataFrame, tmp_path: Path
) -> None:
    """Half the sessions are there, then the rest comes and a vendor rewrites what was there: as of then, nothing
    of either is seen."""
    cut = prices["session"].sort_values().iloc[len(prices) // 2]
    then = at(small_config, lake=str(tmp_path / "then"))
    known = prices[prices["session"] <= cut].reset_index(drop=True)
    Lake.of(then.data).upsert_prices(known)
    expected = features_of(then)

    now = at(small_config, lake=str(tmp_path / "now"))
    lake = Lake.of(now.data)
    lake.upsert_prices(known)
    lake.upsert_prices(prices)
    seen = prices["ingested_at"].max() + pd.Timedelta(days=1)
    noise = np.random.default_rng(0).uniform(0.9, 1.1, len(prices))
    rewritten = prices.assign(adj_close=prices["adj_close"] * noise, ingested_at=seen).astype(prices.dtypes)
    assert lake.upsert_prices(rewritten).revised == len(prices)

    instant = pd.Timestamp(known["known_at"].max())
    pd.testing.assert_frame_equal(features_of(at(now, as_of=instant.to_pydatetime())), expected, check_exact=True)
    assert len(features_of(now)) > len(expected)


def test_an_object_store_serves_the_line_as_a_directory_does(tmp_path: Path) -> None:
    universe = Universe(tickers=("IBM", "SPX"))
    local = Config(data=Data(lake=tmp_path / "lake"), universe=universe)
    with s3_server() as options:
        remote = at(local, lake=f"s3://{BUCKET}/lake", storage_options=options)
        summaries = [[ingest.run(config), ingest.run(config), featurize.run(config)] for config in (local, remote)]
        for here, there in zip(*summaries, strict=True):
            assert here.lines == there.lines
            assert here.figures == there.figures
        left, right = (Lake.of(config.data).read("features", order_by="ticker, session") for config in (local, remote))
        pd.testing.assert_frame_equal(left, right, check_exact=True)
