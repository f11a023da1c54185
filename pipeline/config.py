"""The configuration: one TOML file, typed and frozen; an unknown key is an error that names the nearest one.

The starter file of `tradewind init` and the reference in CONFIG.md are both generated from these models
(pipeline/config_text.py), so a key cannot exist without its description. Relative paths are taken from the
directory of the file.
"""

from __future__ import annotations

import datetime as dt
import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from pipeline.config_agent import Agent
from pipeline.config_features import Features, Section, Sentiment
from pipeline.config_models import Models
from pipeline.errors import ConfigError

DEFAULT_FILE = "tradewind.toml"


class Feed(Section):
    """One RSS or Atom feed."""

    url: str = Field(description="http or https address")
    ticker: str = Field("", description="the ticker all its items belong to; empty = by companies, else the market")


class Rss(Section):
    """News feeds, read beside whatever the provider delivers."""

    feeds: tuple[Feed, ...] = Field(
        (), description='RSS or Atom feeds, like [{ url = "https://...", ticker = "AAPL" }]'
    )
    companies: dict[str, tuple[str, ...]] = Field(
        {}, description='ticker -> words that name it in a headline, like { AAPL = ["Apple", "iPhone"] }'
    )
    unmatched: Literal["market", "drop"] = Field(
        "market", description="a headline that names no company: news of the market, or not kept"
    )
    timeout_seconds: float = Field(20.0, gt=0, description="longest wait for a feed to connect or to send")
    max_bytes: int = Field(10_000_000, ge=1000, description="a longer feed is refused")


class Data(Section):
    """Where prices and news come from, and where the lake and the artifacts are kept."""

    provider: Literal["sample", "files", "yahoo"] = Field("sample", description="where prices and news come from")
    prices: tuple[str, ...] = Field(
        (), description="files provider: CSV, JSONL or Parquet of prices; file, folder, glob"
    )
    news: tuple[str, ...] = Field((), description="files provider: CSV, JSONL or Parquet of headlines; likewise")
    columns: dict[str, str] = Field({}, description='files provider: your column -> ours, like { Datum = "session" }')
    lake: str = Field("lake", description="directory of the Delta tables, or an object store like s3://bucket/lake")
    storage_options: dict[str, str] = Field(
        {}, description="options of the object store, like AWS_ENDPOINT_URL; secrets belong in the environment"
    )
    as_of: dt.datetime | None = Field(
        None, description="use only what was known then, like 2013-03-01T16:00:00-05:00; none = everything"
    )
    artifacts: Path = Field(Path("artifacts"), description="directory of bundles and reports")
    attempts: int = Field(4, ge=1, le=10, description="tries of each request, with backoff")
    concurrency: int = Field(4, ge=1, le=16, description="yahoo provider: most requests at one time")
    recheck_sessions: int = Field(
        10, ge=1, le=250, description="yahoo provider: held sessions asked for again, to see what was revised"
    )
    yahoo_news: bool = Field(True, description="yahoo provider: also ask for each ticker's news")
    searches: tuple[str, ...] = Field((), description='yahoo provider: also search news, like ["stock market"]')
    rss: Rss = Rss()

    @field_validator("lake", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator("as_of")
    @classmethod
    def _zoned(cls, value: dt.datetime | None) -> dt.datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a time zone, like 2013-03-01T16:00:00-05:00")
        return value


class Universe(Section):
    """Which tickers, which sessions, on which exchange's clock."""

    tickers: tuple[str, ...] = Field((), description="tickers to ingest; empty = all that the provider has")
    since: dt.date | None = Field(None, description="first session wanted, like 2010-01-01; none = all")
    until: dt.date | None = Field(None, description="last session wanted; none = the latest")
    calendar: str = Field("XNYS", description="exchange_calendars name, 24/7, or none: the data's own dates")
    calendars: dict[str, tuple[str, ...]] = Field(
        {}, description='tickers on another calendar, like { "24/7" = ["BTC-USD"], XLON = ["VOD.L"] }'
    )
    members: Path | None = Field(
        None, description="CSV of ticker, from, to: who belonged to the universe when; none = chosen with hindsight"
    )
    min_sessions: int = Field(750, ge=300, description="a ticker with fewer sessions is listed and left out")
    decision_lead_minutes: int = Field(
        0, ge=0, le=300, description="news later than this before the close counts for the next session; bars do not"
    )

    @field_validator("tickers")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or not all(ticker.strip() == ticker != "" for ticker in value):
            raise ValueError("tickers must be distinct, without blanks")
        return value

    @field_validator("calendars")
    @classmethod
    def _on_one_calendar(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        named = [ticker for tickers in value.values() for ticker in tickers]
        twice = sorted({ticker for ticker in named if named.count(ticker) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is on more than one calendar")
        return value

    def calendar_of(self, ticker: str) -> str:
        """The calendar whose sessions the ticker trades on."""
        return next((name for name, tickers in self.calendars.items() if ticker in tickers), self.calendar)

    @field_validator("since", "until", mode="before")
    @classmethod
    def _date(cls, value: object) -> object:
        if isinstance(value, bool | int | float):  # pydantic would read seconds since 1970
            raise ValueError("expected a date, like 2010-01-01")
        return value


class Target(Section):
    """What is forecast."""

    horizons: tuple[int, ...] = Field((1, 5, 20), description="sessions ahead")
    interval: Literal["open_to_open", "close_to_close"] = Field(
        "open_to_open", description="log return from the next open to the open h sessions later, or close to close"
    )

    @field_validator("horizons")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or max(value) > 60 or list(value) != sorted(set(value)):
            raise ValueError("horizons must be ascending whole numbers from 1 to 60")
        return value


class FixedSplit(Section):
    """One split by its dates, each the first that belongs to its slice; training begins with the first session."""

    name: str = Field(max_length=32, pattern=r"^[\w.-]+$", description="letters, digits, dot, dash, underscore")
    validation: dt.date = Field(description="first session of validation")
    test: dt.date = Field(description="first session of the test")
    end: dt.date = Field(description="first session after the test")


class Splits(Section):
    """Purged walk-forward: train on the past, leave a gap, test on the next year."""

    min_train_sessions: int = Field(1000, ge=200, description="sessions before the first test year")
    validation_sessions: int = Field(500, ge=120, description="last training sessions kept for choices and calibration")
    embargo: int = Field(5, ge=0, le=60, description="sessions dropped on top of the purge (the longest horizon)")
    first_test: dt.date | None = Field(None, description="earliest test session; none = as early as training allows")
    refit: Literal["year", "half_year", "quarter", "month"] = Field(
        "year", description="length of a test slice: everything is fitted anew at the start of each"
    )
    fixed: tuple[FixedSplit, ...] = Field(
        (),
        description="dates of a published protocol instead of the walk-forward, like "
        '[{ name = "2016", validation = 2015-01-01, test = 2016-01-01, end = 2017-01-01 }]',
    )


class Compress(Section):
    """From the trained student to the int8 bundle."""

    body_features: int = Field(32, ge=4, le=32, description="most features the convolution reads")
    prune: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.5, 0.25, 0.125),
        description="shares of the body's multiply-adds tried; validation chooses; empty = only max_macs",
    )
    max_macs: int = Field(0, ge=0, description="most multiply-adds of the body for one window; 0 = no bound")
    prune_tolerance: float = Field(
        0.05, ge=0, description="percent of validation pinball that a smaller body may be worse than the best one"
    )
    prune_epochs: int = Field(3, ge=1, le=100, description="passes over the training sessions after channels have left")
    ranges: Literal["minmax", "percentile", "mse"] = Field(
        "minmax", description="end of an int8 range: largest activation, 99.99th percentile, or least squared error"
    )
    calibration_sessions: int = Field(1500, ge=64, description="last training sessions that set the int8 ranges")
    min_r2: float = Field(0.999, gt=0, lt=1, description="least centred R2 of every int8 output against float")
    max_difference: float = Field(1e-4, gt=0, description="largest difference of an output that hardly moves")


class Backtest(Section):
    """Next-open fills, costs on."""

    target_volatility: float = Field(0.10, gt=0, lt=1, description="annual volatility each ticker is sized to")
    horizon: int = Field(5, ge=1, description="horizon of the sigma that sizes the position, in sessions")
    max_weight: float = Field(1.0, gt=0, le=10, description="largest weight of a ticker within its sleeve")
    band: float = Field(0.05, ge=0, lt=1, description="no trade while the weight is within this of its target")
    half_spread_bps: float = Field(2.0, ge=0, description="half the bid-ask spread, in basis points of value traded")
    commission_bps: float = Field(1.0, ge=0, description="commission, in basis points of value traded")


class Evidence(Section):
    """Intervals and the gate."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of every interval shown")
    gate_level: float = Field(0.01, gt=0, lt=0.5, description="one-sided level at which a model is promoted")
    resamples: int = Field(2000, ge=200, description="block-bootstrap resamples")
    block_sessions: int = Field(60, ge=5, description="mean length of a bootstrap block, in sessions")
    min_blocks: int = Field(10, ge=2, description="fewer independent blocks than this: no verdict is given")


class Flows(Section):
    """The Prefect server and its schedules."""

    port: int = Field(4200, ge=1024, le=65535, description="port of the Prefect server on 127.0.0.1")
    timezone: str = Field("America/New_York", description="time zone of the schedules")
    daily_cron: str = Field("30 18 * * 1-5", description="when the daily flow runs")
    retrain_cron: str = Field("0 6 * * 6", description="when the retrain flow runs")
    retries: int = Field(2, ge=0, le=10, description="retries of a task that met a network failure")
    retry_delay_seconds: float = Field(30.0, ge=0, description="wait before a retry")


class Config(Section):
    """The whole file."""

    data: Data = Data()
    universe: Universe = Universe()
    features: Features = Features()
    sentiment: Sentiment = Sentiment()
    target: Target = Target()
    splits: Splits = Splits()
    models: Models = Models()
    compress: Compress = Compress()
    backtest: Backtest = Backtest()
    agent: Agent = Agent()
    evidence: Evidence = Evidence()
    flows: Flows = Flows()

    @property
    def purge(self) -> int:
        """Sessions between the last training decision and the first test decision: the longest horizon, plus
        the session on which a position decided at the close is opened."""
        return max(self.target.horizons) + 1


def load(path: Path | None = None, overrides: tuple[str, ...] = ()) -> Config:
    """Read the file, apply `--set section.key=value` overrides, and return the validated configuration.

    Args:
        path: the TOML file; None reads `tradewind.toml` of the working directory if there, else all defaults.
        overrides: `section.key=value` strings; the value is read as TOML, else taken as a string.

    Raises:
        ConfigError: missing file, TOML syntax, unknown key (the nearest valid one is named), wrong value.
    """
    if path is None:
        path = Path(DEFAULT_FILE)
        raw: dict[str, Any] = _read(path) if path.is_file() else {}
    else:
        raw = _read(path)
    config = _validated(raw, overrides, str(path))
    return _anchored(config, path.resolve().parent)


def defaults(overrides: tuple[str, ...] = ()) -> Config:
    """The defaults with `--set` overrides on top, no file read, relative paths as they are given.

    Raises:
        ConfigError: unknown key (the nearest valid one is named), wrong value.
    """
    return _validated({}, overrides, "--set")


def sections(config: Section, prefix: str = "") -> list[tuple[str, Section]]:
    """Every table of the file with its heading, depth first."""
    found: list[tuple[str, Section]] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            found += [(prefix + name, value), *sections(value, f"{prefix}{name}.")]
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file at {path}; write one with: tradewind init") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _validated(raw: dict[str, Any], overrides: tuple[str, ...], origin: str) -> Config:
    for override in overrides:
        _override(raw, override)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, origin)) from None


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {override!r}: expected section.key=value, like --set target.horizons=[1,5]")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = raw
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override!r}: {part} is a value, not a section")
    table[parts[-1]] = value


def _explain(error: ValidationError, origin: str) -> str:
    reasons = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        near = _nearest(where)
        if item["type"] == "tuple_type":
            reasons.append(f'{where} = {item["input"]!r}: expected a list, like ["A", "B"]')
        elif item["type"] == "extra_forbidden" and _names_a_model(item["loc"], item["input"], near):
            models = [heading for heading, _ in sections(Models())]
            reasons.append(f"unknown model {item['loc'][1]}; the models are {', '.join(models)}")
        elif item["type"] == "extra_forbidden":
            reasons.append(f"unknown key {where}; did you mean {near or _nearest(where, cutoff=0.0)}?")
        else:
            reasons.append(f"{where} = {item['input']!r}: {item['msg'].removeprefix('Value error, ')}")
    return f"{origin}: " + "; ".join(reasons)


def _names_a_model(location: tuple[int | str, ...], given: object, near: str | None) -> bool:
    """Whether an unknown key is meant as a model: a table under `models`, or a key there like none of its keys."""
    return len(location) == 2 and location[0] == "models" and (isinstance(given, dict) or near is None)


def _nearest(where: str, cutoff: float = 0.8) -> str | None:
    """The known key closest to `where`; never the section that holds it, for that one was right."""
    known = [key for key in _known_keys() if not where.startswith(f"{key}.")]
    return next(iter(difflib.get_close_matches(where, known, n=1, cutoff=cutoff)), None)


def _known_keys() -> list[str]:
    found = sections(Config())
    keys = [f"{heading}.{name}" for heading, section in found for name in type(section).model_fields]
    return [heading for heading, _ in found] + keys


def _anchored(config: Config, base: Path) -> Config:
    """Relative paths belong to the file that names them, not to the directory of the caller."""
    data, universe = config.data, config.universe
    anchored = {
        "lake": data.lake if "://" in data.lake else str(base / data.lake),
        "artifacts": base / data.artifacts,
        "prices": tuple(str(base / p) for p in data.prices),
        "news": tuple(str(base / p) for p in data.news),
    }
    members = {} if universe.members is None else {"members": base / universe.members}
    own = {"own": tuple(str(base / name) for name in config.features.own)}
    mine = {
        name: each.model_copy(update={"model": str(base / each.model)}) if ".py:" in each.model else each
        for name, each in config.models.own.items()
    }
    return config.model_copy(
        update={
            "data": data.model_copy(update=anchored),
            "universe": universe.model_copy(update=members),
            "features": config.features.model_copy(update=own),
            "models": config.models.model_copy(update={"own": mine}),
        }
    )
