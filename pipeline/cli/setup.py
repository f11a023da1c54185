"""init, doctor and quickstart: from an empty directory to a first report."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import (
    ConfigFile,
    Json,
    Overrides,
    Verbose,
    configure_logging,
    print_summary,
    progress_bar,
)
from pipeline.errors import DataError, PartialError, TradewindError, UsageError
from pipeline.summary import Summary

if TYPE_CHECKING:
    from pipeline.config import Config

FEWEST_TICKERS, MOST_TICKERS = 2, 500
STAGES = ("ingest", "featurize", "train", "compress", "backtest", "report", "today")
DEFAULT_DIRECTORY = Path("quickstart")

PriceFiles = Annotated[
    list[Path] | None,
    typer.Option("--prices", help="Daily prices: CSV, JSONL or Parquet; file, folder or glob; repeatable."),
]
NewsFiles = Annotated[
    list[Path] | None,
    typer.Option("--news", help="Headlines: CSV, JSONL or Parquet; file, folder or glob; repeatable."),
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (init, doctor, quickstart):
        app.command()(command)


def init(
    prices: PriceFiles = None,
    news: NewsFiles = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    config: Annotated[
        Path | None, typer.Option("--out", "--config", help="File to write; default: tradewind.toml.")
    ] = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Write a commented configuration: for the bundled sample, or for your own files.

    Example: tradewind init --prices my.csv --news headlines.csv
    """
    from pipeline.config import DEFAULT_FILE, defaults
    from pipeline.config_text import starter

    configure_logging(verbose)
    target = Path(DEFAULT_FILE) if config is None else config
    if target.is_dir():
        raise UsageError(f"{target} is a directory; name a file, like {target / DEFAULT_FILE}")
    if target.exists() and not force:
        raise UsageError(f"{target} is there already; --force replaces it")
    settings = defaults((*_source(prices, news, target.resolve().parent), *(set_ or ())))
    tickers, is_all = _tickers_of(settings, prices, news) if prices else ([], True)
    _write(target, starter(settings))
    lines = [f"{target} written: provider {settings.data.provider}"]
    if tickers:
        several = f"{'' if is_all else 'at least '}{len(tickers)} tickers"
        lines.append(f"{several}: {', '.join(tickers[:10])}{', ...' if len(tickers) > 10 else ''}")
    lines.append("next: tradewind ingest, features, train, compress, backtest, report, today")
    print_summary(Summary("init", tuple(lines), {"config": str(target), "tickers": tickers}), json)


def doctor(config: ConfigFile = None, set_: Overrides = None, json: Json = False, verbose: Verbose = 0) -> None:
    """Check versions, extras, calendar, lake, network and flow server; exit 1 if something required is broken.

    Example: tradewind doctor --json
    """
    from pipeline.doctor import examine

    configure_logging(verbose)
    settings: Config | None = None
    try:
        from pipeline.config import load
    except ModuleNotFoundError:  # the base alone is installed; the packages' check says so
        pass
    else:
        settings = load(config, tuple(set_ or ()))
    summary = examine(settings)
    print_summary(summary, json)
    if summary.figures["broken"]:
        raise TradewindError(f"broken: {', '.join(summary.figures['broken'])}; see above what to do")


def quickstart(
    tickers: Annotated[str | None, typer.Option("--tickers", help="Tickers, like SPY,AAPL; from Yahoo.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="First year or date, like 2010.")] = None,
    prices: PriceFiles = None,
    news: NewsFiles = None,
    sample: Annotated[bool, typer.Option("--sample", help="The bundled sample instead of Yahoo.")] = False,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where configuration, lake and report are kept.")
    ] = DEFAULT_DIRECTORY,
    config: ConfigFile = None,
    set_: Overrides = None,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run the whole line once, from prices to the report and today's positions, in this process.

    Example: tradewind quickstart --tickers SPY,AAPL --since 2010
    """
    from pipeline.config import defaults, load

    configure_logging(verbose)
    chosen = _chosen(tickers, since, prices, news, sample, directory if config is None else config.parent)
    if config is None:
        if not (tickers or prices or sample):
            raise UsageError("name your tickers (--tickers SPY,AAPL), your files (--prices my.csv), or --sample")
        if prices:
            _tickers_of(defaults((*chosen, *(set_ or ()))), prices, news)
        settings = load(_own_file(directory, (*chosen, *(set_ or ()))))
    else:
        settings = load(config, (*chosen, *(set_ or ())))
    _report_all(_run_all(settings, as_json=json), json)


def _chosen(
    tickers: str | None,
    since: str | None,
    prices: Sequence[Path] | None,
    news: Sequence[Path] | None,
    sample: bool,
    base: Path,
) -> list[str]:
    """The options as `--set` overrides; relative file names are as seen from `base`."""
    from pipeline.config_text import toml_value

    if sample and prices:
        raise UsageError("--sample and --prices exclude each other")
    overrides = _source(prices, news, base.resolve())
    if not prices and (sample or tickers):
        overrides.append(f'data.provider="{"sample" if sample else "yahoo"}"')
    if tickers:
        names = tuple(name.strip() for name in tickers.split(",") if name.strip())
        overrides.append(f"universe.tickers={toml_value(names)}")
    if since:
        if re.fullmatch(r"\d{4}", since):
            since += "-01-01"
        overrides.append(f"universe.since={since}")
    return overrides


def _source(prices: Sequence[Path] | None, news: Sequence[Path] | None, base: Path) -> list[str]:
    from pipeline.config_text import toml_value

    if news and not prices:
        raise UsageError("--news needs --prices: headlines without prices give nothing to forecast")
    if not prices:
        return []
    named = {"prices": prices, "news": news or []}
    files = {key: tuple(Path(os.path.relpath(path, base)).as_posix() for path in paths) for key, paths in named.items()}
    return ['data.provider="files"', *(f"data.{key}={toml_value(paths)}" for key, paths in files.items())]


def _tickers_of(config: Config, prices: Sequence[Path], news: Sequence[Path] | None) -> tuple[list[str], bool]:
    """The tickers of the price files, as far as they are looked at, and whether these are all; the columns of all
    files are checked on the way. Relative names are as seen from the working directory.

    Raises:
        DataError: a file is missing or lacks a column; fewer than 2 or more than 500 tickers.
    """
    from pipeline.providers import files

    named = {"prices": tuple(map(str, prices)), "news": tuple(map(str, news or ()))}
    config = config.model_copy(update={"data": config.data.model_copy(update=named)})
    tickers, is_all = files.tickers(config, MOST_TICKERS)
    if len(tickers) > MOST_TICKERS or (is_all and len(tickers) < FEWEST_TICKERS):
        raise DataError(
            f"{', '.join(named['prices'])}: {len(tickers)} tickers; from {FEWEST_TICKERS} to {MOST_TICKERS} can be used"
        )
    return tickers, is_all


def _own_file(directory: Path, overrides: tuple[str, ...]) -> Path:
    """The directory's configuration, written on the first run; one universe a directory."""
    from pipeline.config import DEFAULT_FILE, defaults
    from pipeline.config_text import starter

    file, text = directory / DEFAULT_FILE, starter(defaults(overrides))
    if not file.is_file():
        _write(file, text)
    elif file.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{file} holds other settings; name another directory with --dir, or run it as it is: --config {file}"
        )
    return file


def _run_all(config: Config, as_json: bool) -> list[Summary]:
    """Every stage in turn; a partial one does not stop the next."""
    summaries = []
    for name in STAGES:
        module = importlib.import_module(f"pipeline.{name}")
        with progress_bar() as progress:
            summary: Summary = module.run(config, progress)
        summaries.append(summary)
        if not as_json:
            lines = [f"  {line}" for text in summary.lines for line in text.splitlines()]
            print("\n".join(["", name, *lines]), flush=True)
    return summaries


def _report_all(summaries: Sequence[Summary], as_json: bool) -> None:
    report = next(summary.figures["report"] for summary in summaries if summary.stage == "report")
    left_out = tuple(f"{summary.stage}: {reason}" for summary in summaries for reason in summary.left_out)
    figures = {"report": report, "stages": {summary.stage: summary.figures for summary in summaries}}
    lines = ("", f"The report is at {report}")
    whole = Summary("quickstart", lines, figures, left_out)
    try:
        print_summary(whole, as_json)
    except PartialError as error:
        raise PartialError(f"{error}; everything else is done") from None


def _write(target: Path, text: str) -> None:
    """Write a whole file or none.

    Raises:
        UsageError: the place cannot be written.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None
