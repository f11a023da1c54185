"""A task is one stage call plus a retry policy; a flow is a row of such tasks.

A stage is retried only when a provider could not be reached or asked us to slow down: wrong data stays wrong.
What a stage reports becomes a Markdown artifact of its task run, and its progress lines of the run's log.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task

from pipeline.config import Config, load
from pipeline.errors import NetworkError, RateLimitError
from pipeline.summary import Progress, Summary


def run_stages(stages: Sequence[str], config_path: str | None, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Run stages one after another, inside a flow; the first that fails ends it.

    Args:
        stages: names of modules of `pipeline`, each with `run(config, progress) -> Summary`; or module.function, where
            it is not called `run`.
        config_path: the TOML file; None for `tradewind.toml` of the working directory.
        overrides: `section.key=value` strings on top of it.

    Returns:
        One JSON object a stage: stage, lines, figures, left_out.

    Raises:
        TradewindError: whatever the failing stage raised, after its retries.
    """
    flows = read_config(config_path, overrides).flows
    return [
        run_stage.with_options(
            name=stage,
            task_run_name=stage,
            retries=flows.retries,
            retry_delay_seconds=flows.retry_delay_seconds,
        )(stage, config_path, list(overrides))
        for stage in stages
    ]


def read_config(config_path: str | None, overrides: Sequence[str]) -> Config:
    """The configuration that a flow's parameters name."""
    return load(None if config_path is None else Path(config_path), tuple(overrides))


def is_passing_failure(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again can help: the network failed, or the provider asked us to slow down."""
    return isinstance(state.result(raise_on_failure=False), NetworkError | RateLimitError)


@task(retry_condition_fn=is_passing_failure, cache_policy=NO_CACHE)
def run_stage(stage: str, config_path: str | None, overrides: list[str]) -> dict[str, Any]:
    """Run one stage and publish what it reports.

    A stage that left something out completes; the log warns and the artifact lists it.
    """
    module, _, function = stage.partition(".")
    run = getattr(importlib.import_module(f"pipeline.{module}"), function or "run")
    # A stage that keeps the trial ledger asks who started it.
    started_by = {"kind": "flow"} if "kind" in inspect.signature(run).parameters else {}
    summary: Summary = run(read_config(config_path, overrides), logged_progress(), **started_by)
    log = get_run_logger()
    for line in summary.lines:
        log.info("%s", line)
    for reason in summary.left_out:
        log.warning("left out: %s", reason)
    key = f"summary-{summary.stage}".replace(" ", "-")
    create_markdown_artifact(as_markdown(summary), key=key, description=f"What {stage} reports")
    return {
        "stage": summary.stage,
        "lines": list(summary.lines),
        "figures": summary.figures,
        "left_out": list(summary.left_out),
    }


def logged_progress() -> Progress:
    """A progress that logs each new kind of work once, and each further quarter of it."""
    log = get_run_logger()
    reached: dict[str, int] = {}

    def show(what: str, done: int, total: int) -> None:
        quarter = 4 * done // total if total else 0
        if quarter > reached.get(what, -1):
            reached[what] = quarter
            log.info("%s: %d of %d", what, done, total)

    return show


def as_markdown(summary: Summary) -> str:
    """The artifact of a stage: its lines as it printed them, then what it left out."""
    # Headlines and tickers come from outside: an indented block shows them as they are, whatever they hold.
    lines = [f"    {line}" for block in summary.lines for line in block.splitlines()]
    parts = [f"# {summary.stage}", "\n".join(lines)]
    if summary.left_out:
        left_out = [f"    {line}" for reason in summary.left_out for line in reason.splitlines()]
        parts += ["## Left out", "\n".join(left_out)]
    return "\n\n".join(parts)
