"""ingest and features: from providers to the tables of the lake; and what the lake itself holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, print_summary, run_stage

Limit = Annotated[int, typer.Option("--limit", min=1, help="Most rows to show.")]
Out = Annotated[Path | None, typer.Option("--out", help="A CSV file for all of them.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(ingest)
    app.command()(features)
    lake = typer.Typer(
        help="What the lake holds, what was revised or refused, and compacting it.", no_args_is_help=True
    )
    for command in (status, revisions, quarantine, compact):
        lake.command()(command)
    app.add_typer(lake, name="lake")


def ingest(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Fetch prices and news into the lake; running it again changes nothing.

    Example: tradewind ingest --set universe.tickers='["AAPL","IBM"]'
    """
    from pipeline import ingest as stage

    run_stage(stage.run, config, set_, json, verbose)


def features(
    out: Annotated[Path | None, typer.Option("--out", help="Also write the scorer's .npz, .csv or .parquet.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show every shipped feature and compute nothing.")] = False,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Compute every feature and target of the lake's prices and news.

    Example: tradewind features --out features.npz
    """
    from pipeline import featurize as stage
    from pipeline.features_text import listing

    if list_:
        print_summary(listing(), json)
    elif out is None:
        run_stage(stage.run, config, set_, json, verbose)
    else:
        run_stage(lambda settings, progress: stage.run_and_write(settings, progress, out), config, set_, json, verbose)


def status(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Every table with its version and size, every ticker with its range and missing sessions.

    Example: tradewind lake status
    """
    from pipeline import upkeep

    run_stage(upkeep.status, config, set_, json, verbose)


def revisions(
    ticker: Annotated[str | None, typer.Option("--ticker", help="Only this one.")] = None,
    limit: Limit = 20,
    out: Out = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """The prices that a vendor changed after we had them: before, after, and when we saw it.

    Example: tradewind lake revisions --ticker AAPL
    """
    from pipeline import upkeep

    run_stage(lambda settings, _: upkeep.revisions(settings, ticker, limit, out), config, set_, json, verbose)


def quarantine(
    table: Annotated[str | None, typer.Option("--table", help="Only rows meant for prices or news.")] = None,
    limit: Limit = 20,
    out: Out = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """The rows that could not be used, with their reason and their text as received.

    Example: tradewind lake quarantine --out rejected.csv
    """
    from pipeline import upkeep

    run_stage(lambda settings, _: upkeep.quarantine(settings, table, limit, out), config, set_, json, verbose)


def compact(
    vacuum_days: Annotated[
        int | None,
        typer.Option("--vacuum-days", min=0, help="Also delete what no version of the last so many days needs."),
    ] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Merge the small files that many runs leave; every recorded version stays readable unless vacuumed.

    Example: tradewind lake compact
    """
    from pipeline import upkeep

    run_stage(lambda settings, progress: upkeep.compact(settings, vacuum_days, progress), config, set_, json, verbose)
