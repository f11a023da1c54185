"""train, compress, backtest, report: from features to a verdict."""

from __future__ import annotations

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, run_stage


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (train, compress, backtest, report):
        app.command()(command)


def train(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Race every model against every baseline, walk-forward, and fit the live one.

    Example: tradewind train --set models.student.epochs=5
    """
    from pipeline import train as stage

    run_stage(stage.run, config, set_, json, verbose)


def compress(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Quantize the latest run to int8, prove it equal, publish the bundle.

    Example: tradewind compress --json
    """
    from pipeline import compress as stage

    run_stage(stage.run, config, set_, json, verbose)


def backtest(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Size positions by the forecast risk, fill at the next open, pay costs, compare.

    Example: tradewind backtest --set backtest.target_volatility=0.12
    """
    from pipeline import backtest as stage

    run_stage(stage.run, config, set_, json, verbose)


def report(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Draw the latest run as one self-contained HTML page.

    Example: tradewind report
    """
    from pipeline import report as stage

    run_stage(stage.run, config, set_, json, verbose)
