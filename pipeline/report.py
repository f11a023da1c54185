"""The report stage: one self-contained HTML page, verdict first, from what the other stages left behind.

It reads `training.json`, `evidence.json`, `equality.json`, `backtest.json` and `backtest_curves.npz` of the
latest run and the lake's forecasts, targets and news, and writes `artifacts/reports/<run_id>.html`, with a
copy under the stable name `artifacts/report.html`. The same inputs give the same bytes.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from pipeline.config import Config
from pipeline.reporting.inputs import load
from pipeline.reporting.page import render
from pipeline.reporting.verdict import caveats, sentences
from pipeline.summary import Progress, Summary, silent

log = logging.getLogger(__name__)


def run(config: Config, progress: Progress = silent) -> Summary:
    """Write the report of the latest run.

    Returns:
        A summary whose lines are the verdict and the path; figures: report, run_id, status, sentences.

    Raises:
        StoreError: a stage has not run, or what it wrote cannot be read; the command to run is named.
    """
    progress("reading the run", 0, 1)
    inputs = load(config)
    progress("reading the run", 1, 1)
    page = render(inputs, progress)
    run_id = str(inputs.training["run_id"])
    path = config.data.artifacts / "reports" / f"{run_id}.html"
    latest = config.data.artifacts / "report.html"
    for target in (path, latest):
        _write_atomically(target, page)
    log.info("report of run %s: %d bytes at %s", run_id, len(page), path)
    verdict = sentences(inputs)
    return Summary(
        stage="report",
        lines=(*verdict, *caveats(inputs), f"Report: {latest}"),
        figures={
            "report": str(latest),
            "kept": str(path),
            "run_id": run_id,
            "status": inputs.training["status"],
            "sentences": verdict,
        },
    )


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)
