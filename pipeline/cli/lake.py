"""ingest and features: from providers to the tables of the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, run_stage


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(ingest)
    app.command()(features)


def ingest(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Fetch prices and news into the lake; running it again changes nothing.

    Example: tradewind ingest --set universe.tickers='["AAPL","IBM"]'
    """
    from pipeline import ingest as stage

    run_stage(stage.run, config, set_, json, verbose)


def features(
    out: Annotated[Path | None, typer.Option("--out", help="Also write the scorer's .npz, .csv or .parquet.")] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Compute every feature and target of the lake's prices and news.

    Example: tradewind features --out features.npz
    """
    from pipeline import featurize as stage

    if out is None:
        run_stage(stage.run, config, set_, json, verbose)
    else:
        run_stage(lambda settings, progress: stage.run_and_write(settings, progress, out), config, set_, json, verbose)
