"""The command line: small files, one a group, found through the entry-point group `tradewind.commands`.

Only typer and the standard library are imported here; a command imports its stage when it runs, so that
`tradewind score` starts as fast as the scorer. Its group is found by name: searching the entry points alone takes a
quarter of the time that numpy and ONNX Runtime need to start. Results go to stdout, logs and progress to stderr.
Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 partial.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import typer

GROUP = "tradewind.commands"
QUICK = "score"


def build(command: str = "") -> typer.Typer:
    """The application with every registered group's commands, in the order of the groups' names.

    Args:
        command: what the user asked for; if it is `score`, its own group alone is built.
    """
    app = typer.Typer(
        name="tradewind",
        help="Honest risk forecasts for prices and news, from ingestion to a small int8 scorer.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for register in _groups(command):
        register(app)
    return app


def main() -> None:
    """Run the command line; an expected error is one line on stderr and its exit code."""
    from models.compact.bundle import BundleError
    from pipeline.errors import TradewindError

    try:
        build(sys.argv[1] if len(sys.argv) > 1 else "")()
    except TradewindError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"error: this command needs {error.name}: pip install 'tradewind[{extra}]'", file=sys.stderr)
        sys.exit(1)


def _groups(command: str) -> Iterator[Callable[[typer.Typer], None]]:
    if command == QUICK:
        from pipeline.cli import scoring

        yield scoring.register
        return
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        yield point.load()


_EXTRA_OF = {
    "pyarrow": "arrow",
    **dict.fromkeys(
        (
            "arch",
            "deltalake",
            "exchange_calendars",
            "feedparser",
            "httpx",
            "jinja2",
            "matplotlib",
            "pandas",
            "pandera",
            "pydantic",
            "scipy",
            "textblob",
            "vaderSentiment",
            "yfinance",
        ),
        "pipeline",
    ),
    **dict.fromkeys(("gymnasium", "onnx", "optuna", "sklearn", "stable_baselines3", "threadpoolctl", "torch"), "train"),
    "prefect": "flows",
}
