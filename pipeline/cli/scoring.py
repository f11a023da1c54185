"""score and today: from a bundle to forecasts and positions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, configure_logging, print_summary, run_stage
from pipeline.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(score)
    app.command()(today)


class Runtime(StrEnum):
    """What computes the forecasts."""

    onnxruntime = "onnxruntime"
    numpy = "numpy"


def score(
    out: Annotated[Path, typer.Option(help="Forecasts to write: .csv, .npz, .parquet or .arrow.")],
    features: Annotated[
        Path | None, typer.Option(help="Feature file: .npz, .csv, .parquet or .arrow; larger than memory if need be.")
    ] = None,
    lake: Annotated[bool, typer.Option("--lake", help="The lake's features instead of a file.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="Directory of the bundle; with --lake the champion if none is named.")
    ] = None,
    every_session: Annotated[bool, typer.Option("--all", help="Score every session, not only the newest.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads that score at a time.")] = 1,
    runtime: Annotated[
        Runtime, typer.Option(help="numpy needs no ONNX Runtime: the same forecasts, slower.")
    ] = Runtime.onnxruntime,
    codes: Annotated[
        bool, typer.Option("--codes", help="Write the features as the bundle's uint8 codes, to be scored faster.")
    ] = False,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Score features with a bundle; a feature file needs only numpy and onnxruntime.

    Example: tradewind score --bundle artifacts/bundles/VERSION --features features.npz --out forecasts.csv
    """
    from pipeline import score as stage

    configure_logging(verbose)
    if lake:
        if features is not None or codes:
            raise UsageError("--lake takes neither --features nor --codes")
        from pipeline.config import load

        settings = load(config, tuple(set_ or ()))
        summary = stage.run_from_lake(settings, out, bundle, every_session, threads, runtime.value)
    elif features is None:
        raise UsageError("name a feature file (--features features.npz), or score the lake's features (--lake)")
    elif bundle is None:
        raise UsageError("name the bundle: --bundle artifacts/bundles/VERSION")
    else:
        if config is not None or set_:
            # Scoring a file takes nothing from the configuration; given one, it is still held to be valid.
            from pipeline.config import load

            load(config, tuple(set_ or ()))
        if codes:
            summary = stage.write_codes(bundle, features, out, every_session)
        else:
            summary = stage.run(bundle, features, out, every_session, threads, runtime.value)
    print_summary(summary, json)


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
