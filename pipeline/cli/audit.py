"""audit: does anything look ahead?"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, run_stage
from pipeline.summary import Summary

Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the cuts and of what is altered after them.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    audit = typer.Typer(
        help="Alter the future and compare bytes before it: does anything look ahead?", no_args_is_help=True
    )
    audit.command()(lookahead)
    audit.command("canaries")(planted)
    app.add_typer(audit, name="audit")


def lookahead(
    module: Annotated[
        str | None,
        typer.Option("--module", metavar="FILE.py:FUNCTION", help="Audit only this function of your own features."),
    ] = None,
    cuts: Annotated[
        int | None, typer.Option("--cuts", min=2, help="Cuts for features; default 5, with --quick 2.")
    ] = None,
    seed: Seed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Features and planted leaks only, with two cuts.")] = False,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Alter prices and news after random instants and compare, byte by byte, what was decided before.

    Audited are every feature (your own of [features] own too), the labels, the scaler and every forecaster of the
    race. Features get --cuts random cuts, one of them early, where warm-ups end; at each, prices and news differ in
    nine ways. Labels get a cut at the first use of every training slice. The race is trained anew for every other
    future: that is the slow part, so it gets two test years and two cuts in each, one at the first decision. Eight
    planted leaks run beside; the audit has to find them all. The bundled sample takes about a minute; --quick, or
    --module for one function of yours, seconds.

    A leak is named with its first offending session. Exit code 0: all passed; 1: a leak, or an output that two runs
    on the same rows give differently; 3: passed, but too little history for a race.

    Example: tradewind audit lookahead --module my_features.py:my_family --cuts 10
    """
    from pipeline import audit as stage

    work = partial(stage.run_lookahead, module=module, number=cuts, seed=seed, quick=quick)
    _accept(run_stage(lambda settings, progress: work(settings, progress=progress), config, set_, json, verbose))


def planted(
    cuts: Annotated[int, typer.Option("--cuts", min=1, help="Cuts for each planted leak.")] = 1,
    seed: Seed = 0,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Plant eight well-known leaks, and see that the audit finds each: its feature and its first offending session.

    Example: tradewind audit canaries --seed 3
    """
    from pipeline import audit as stage

    work = partial(stage.run_canaries, number=cuts, seed=seed)
    _accept(run_stage(lambda settings, progress: work(settings, progress=progress), config, set_, json, verbose))


def _accept(summary: Summary) -> None:
    """Raise LookAheadError if the audit did not pass."""
    from pipeline.errors import LookAheadError

    failed = summary.figures["failures"]
    if failed:
        more = f"; {len(failed) - 1} more in the table" if len(failed) > 1 else ""
        raise LookAheadError(f"the look-ahead audit did not pass: {failed[0]}{more}")
