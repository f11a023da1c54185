"""score and today: from a bundle to forecasts and positions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, configure_logging, print_summary, run_stage


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(score)
    app.command()(today)


def score(
    bundle: Annotated[Path, typer.Option(help="Directory of the bundle.")],
    features: Annotated[Path, typer.Option(help="Feature file: .npz, .csv or .parquet.")],
    out: Annotated[Path, typer.Option(help="Forecasts to write: .csv, .npz or .parquet.")],
    every_session: Annotated[bool, typer.Option("--all", help="Score every session, not only the newest.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one scoring call.")] = 1,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Score a feature file with a bundle; needs only numpy and onnxruntime.

    Example: tradewind score --bundle artifacts/bundles/VERSION --features features.npz --out forecasts.csv
    """
    from pipeline import score as stage

    configure_logging(verbose)
    if config is not None or set_:
        # The scorer takes nothing from the configuration; given one, it is still held to be valid.
        from pipeline.config import load

        load(config, tuple(set_ or ()))
    print_summary(stage.run(bundle, features, out, every_session, threads), json)


def today(
    out: Annotated[Path | None, typer.Option("--out", help="CSV file for the table.")] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Show every ticker's risk and position for the newest session in the lake.

    Example: tradewind today --out today.csv
    """
    from pipeline import today as stage

    run_stage(lambda settings, progress: stage.run(settings, progress, out), config, set_, json, verbose)
