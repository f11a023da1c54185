"""What every command shares: its options, its logging, its progress, how its summary is printed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.summary import Progress, Summary

if TYPE_CHECKING:
    from pipeline.config import Config

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; default: tradewind.toml of this directory, if there.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one key; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="More log; twice for everything.")]


def run_stage(
    stage: Callable[[Config, Progress], Summary],
    config: Path | None,
    overrides: list[str] | None,
    as_json: bool,
    verbose: int,
) -> Summary:
    """Read the configuration, run one stage under a progress bar, print its summary.

    Raises:
        PartialError: the stage left something out; its summary has been printed.
    """
    from pipeline.config import load

    configure_logging(verbose)
    settings = load(config, tuple(overrides or ()))
    with progress_bar() as progress:
        summary = stage(settings, progress)
    print_summary(summary, as_json)
    return summary


def print_summary(summary: Summary, as_json: bool) -> None:
    """Print to stdout; what was left out is also an exit code.

    Raises:
        PartialError: something was left out.
    """
    from pipeline.errors import PartialError

    print(summary.to_json() if as_json else "\n".join(summary.lines))
    if summary.left_out:
        raise PartialError(f"{summary.stage} left out {len(summary.left_out)}: " + "; ".join(summary.left_out))


def configure_logging(verbose: int) -> None:
    """Warnings by default, -v for progress of the work, -vv for everything; always to stderr."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr where that is a terminal; elsewhere a line at each new kind of work."""
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        seen: set[str] = set()

        def show_line(what: str, done: int, total: int) -> None:
            if what not in seen:
                seen.add(what)
                print(f"  {what} ...", file=sys.stderr, flush=True)

        yield show_line


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
