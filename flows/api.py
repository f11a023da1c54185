"""What the Prefect server knows, asked over its REST interface with the standard library alone.

Importing prefect takes more than a second; `tradewind up`, `down` and `status` do without it.
"""

from __future__ import annotations

import datetime as dt
import json
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import ServerError

# The server is on loopback: no proxy of the environment has any business in between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Deployment:
    """One flow on its schedule: when it runs next (ISO 8601, UTC), None if it is paused."""

    flow: str
    name: str
    cron: str
    timezone: str
    paused: bool
    next_run: str | None


@dataclass(frozen=True)
class Run:
    """One run of a flow, or of a task in it: how it ended and how many seconds it took."""

    flow: str
    name: str
    task: str | None
    state: str
    attempts: int
    started: str | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def healthy(url: str) -> bool:
    """Whether the server answers and says that it is well."""
    try:
        return _request(f"{url}/api/health") is True
    except ServerError:
        return False


def registered(url: str, version: str) -> int:
    """How many deployments of that version the server has and does not hold paused."""
    try:
        rows = _request(f"{url}/api/deployments/filter", {})
    except ServerError:
        return 0
    return sum(row["version"] == version and not row["paused"] for row in rows)


def deployments(url: str) -> list[Deployment]:
    """Every deployment, by flow."""
    names = _flow_names(url)
    found = []
    for row in _request(f"{url}/api/deployments/filter", {}):
        schedule = row["schedules"][0]["schedule"] if row["schedules"] else {}
        filters = {"deployment_id": {"any_": [row["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
        due = _flow_runs(url, filters, "EXPECTED_START_TIME_ASC", 1)
        next_run = due[0]["expected_start_time"] if due else None
        flow = names.get(row["flow_id"], "?")
        timezone = schedule.get("timezone", "UTC")
        found.append(Deployment(flow, row["name"], schedule.get("cron", ""), timezone, row["paused"], next_run))
    return sorted(found, key=lambda deployment: deployment.flow)


def last_runs(url: str, limit: int = 10) -> list[Run]:
    """The latest flow runs that started, newest first, without their tasks."""
    names = _flow_names(url)
    rows = _flow_runs(url, {"start_time": {"is_null_": False}}, "START_TIME_DESC", limit)
    return [_run(row, names.get(row["flow_id"], "?")) for row in rows]


def flow_run(url: str, flow_run_id: str) -> list[Run]:
    """One flow run, then its task runs in the order in which they started."""
    names = _flow_names(url)
    (row,) = _flow_runs(url, {"id": {"any_": [flow_run_id]}}, "START_TIME_DESC", 1)
    flow = names.get(row["flow_id"], "?")
    filters = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
    tasks = _request(f"{url}/api/task_runs/filter", filters)
    return [_run(row, flow), *(_run(task, flow, task["name"]) for task in tasks)]


def close_unfinished(url: str) -> None:
    """Mark as crashed the runs that were going on when an earlier server was stopped or killed."""
    for row in _flow_runs(url, {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}, "START_TIME_DESC", 200):
        state = {"type": "CRASHED", "message": "the server was stopped during this run"}
        _request(f"{url}/api/flow_runs/{row['id']}/set_state", {"state": state, "force": True})


def run_table(runs: list[Run]) -> str:
    """Flow runs and task runs as an aligned table; tasks are indented under their flow."""
    rows = [("run", "state", "attempts", "seconds", "started")]
    for run in runs:
        name = f"{run.flow} ({run.name})" if run.task is None else f"  {run.task}"
        started = "" if run.started is None else _local(run.started)
        rows.append((name, run.state, str(run.attempts), f"{run.seconds:.1f}", started))
    return table(rows, right=(2, 3))


def deployment_table(found: list[Deployment]) -> str:
    """Deployments with their schedule and next run, as an aligned table."""
    rows = [("deployment", "schedule", "next run")]
    for one in found:
        due = "paused" if one.paused else "none" if one.next_run is None else _local(one.next_run)
        rows.append((f"{one.flow}/{one.name}", f"{one.cron} {one.timezone}", due))
    return table(rows)


def table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> str:
    """Rows of text as aligned columns, two spaces apart; the columns in `right` are flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        aligned = (cell.rjust(width) if at in right else cell.ljust(width) for at, (cell, width) in enumerate(cells))
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _run(row: dict[str, Any], flow: str, task: str | None = None) -> Run:
    seconds = row["total_run_time"] or row["estimated_run_time"] or 0.0
    return Run(flow, row["name"], task, row["state_name"], row["run_count"], row["start_time"], round(seconds, 3))


def _flow_names(url: str) -> dict[str, str]:
    return {row["id"]: row["name"] for row in _request(f"{url}/api/flows/filter", {})}


def _flow_runs(url: str, filters: dict[str, Any], sort: str, limit: int) -> list[dict[str, Any]]:
    body = {"flow_runs": filters, "sort": sort, "limit": limit}
    rows: list[dict[str, Any]] = _request(f"{url}/api/flow_runs/filter", body)
    return rows


def _request(address: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with _OPENER.open(request, timeout=10) as response:
            return json.load(response)
    except (OSError, ValueError) as error:
        raise ServerError(f"the flow server did not answer at {address}: {error}") from error


def _local(instant: str) -> str:
    return dt.datetime.fromisoformat(instant).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
