"""tune: search a model's settings."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, run_stage


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(tune)


def tune(
    model: Annotated[
        str,
        typer.Argument(
            help="scale, student, regression, boosting, lstm, transformer, convolution or seq2seq.", metavar="MODEL"
        ),
    ],
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many in all; those of earlier calls count.")] = 30,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Begin no trial after so long.")
    ] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Search a model's settings on the sessions before the first test slice, and print the section to paste.

    Three inner folds in the last third of those sessions judge each trial by its pinball loss beside trailing EWMA;
    a trial that does badly on the first folds is stopped there. Nothing later is read, so that the race's own test
    years stay out of every choice. The first trial is the present settings; every trial is counted in the ledger.

    The study is kept under artifacts/tune: the same command goes on after a kill or a timeout, and with more --trials.
    Other data, settings or code begin another study.

    Example: tradewind tune lstm --trials 30 --timeout 3600
    """
    from pipeline import tune as stage

    work = partial(stage.run, model=model, trials=trials, timeout=timeout)
    run_stage(lambda settings, progress: work(settings, progress=progress), config, set_, json, verbose)
