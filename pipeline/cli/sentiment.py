"""sentiment: train a text classifier, see what each text scorer is worth, and what text adds to the forecast."""

from __future__ import annotations

import datetime as dt
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, Json, Overrides, Verbose, run_stage

Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="CSV, JSONL or Parquet: text, and label (negative, neutral, positive) or score (-1 to 1). "
        "Default: the bundled headlines.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    sentiment = typer.Typer(
        help="Train a text classifier, judge text scorers, and measure what text adds.", no_args_is_help=True
    )
    sentiment.command()(train)
    sentiment.command()(card)
    sentiment.command()(ablation)
    app.add_typer(sentiment, name="sentiment")


def train(
    labels: Labels = None,
    transfer: Annotated[
        Path | None, typer.Option("--transfer", metavar="FILE", help="Labelled texts from elsewhere, to judge it on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to; default: sentiment/ of the artifacts.")
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="logistic or naive_bayes (TextBlob's).")] = "logistic",
    from_moves: Annotated[
        bool, typer.Option("--from-moves", help="Label the lake's headlines by the moves that followed.")
    ] = False,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="With --from-moves: last day a move may end.")
    ] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Train on a label file, and show its figures out of fold and on foreign texts.

    Example: tradewind sentiment train --labels headlines.csv --transfer posts.csv
    """
    from features.classifier import KINDS
    from pipeline import sentiment as stage
    from pipeline.errors import UsageError

    if kind not in KINDS:
        raise UsageError(f"--kind {kind!r}: use {' or '.join(KINDS)}")
    if from_moves != (until is not None):
        raise UsageError("--from-moves and --until go together, like --from-moves --until 2012-12-31")
    try:
        last = None if until is None else dt.date.fromisoformat(until)
    except ValueError:
        raise UsageError(f"--until {until!r}: use a date like 2012-12-31") from None
    work = partial(stage.run_train, labels=labels, transfer=transfer, out=out, kind=kind, until=last)
    run_stage(lambda settings, progress: work(settings, progress=progress), config, set_, json, verbose)


def card(
    labels: Labels = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What TextBlob, VADER and trained classifiers are worth on a label file, with intervals.

    Example: tradewind sentiment card --labels headlines.csv
    """
    from pipeline import sentiment as stage

    run_stage(lambda settings, progress: stage.run_card(settings, labels, progress), config, set_, json, verbose)


def ablation(
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What the headlines add to the forecast of scale and of direction, out of sample, with intervals.

    Example: tradewind sentiment ablation --json
    """
    from pipeline import ablation as stage

    run_stage(stage.run, config, set_, json, verbose)
