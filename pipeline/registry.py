"""Runs and bundles on disk: what training leaves for compression, and which bundle is the champion.

artifacts/runs/<run_id>/        networks and evidence of one training run (written by the stages)
artifacts/latest_run            the run_id of the last complete training run
artifacts/bundles/<version>/    published bundles, never changed afterwards
artifacts/champion              the version that scores
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError


class Registry:
    """The artifacts under one directory; every pointer changes by an atomic rename."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def run_dir(self, run_id: str) -> Path:
        """The directory of a run, made if needed."""
        path = self.root / "runs" / run_id
        path.mkdir(parents=True, exist_ok=True)
        return path

    def latest_run(self) -> str:
        """The last complete training run.

        Raises:
            StoreError: nothing has been trained yet.
        """
        return self._pointer("latest_run", "nothing has been trained yet; run: tradewind train")

    def set_latest_run(self, run_id: str) -> None:
        """Declare a training run complete."""
        self._point("latest_run", run_id)

    def write_json(self, run_id: str, name: str, content: dict[str, Any]) -> Path:
        """Write one JSON file of a run, atomically; NaN is refused, since JSON has none."""
        path = self.run_dir(run_id) / name
        _write_atomically(path, json.dumps(content, indent=1, allow_nan=False))
        return path

    def read_json(self, run_id: str, name: str) -> dict[str, Any]:
        """Read one JSON file of a run.

        Raises:
            StoreError: the stage that writes it has not run.
        """
        path = self.root / "runs" / run_id / name
        if not path.is_file():
            raise StoreError(f"run {run_id} has no {name}; run the stage that writes it first")
        content: dict[str, Any] = json.loads(path.read_text())
        return content

    @contextmanager
    def publishing(self, version: str) -> Iterator[Path]:
        """A directory to write a bundle into; on success it becomes `bundles/<version>`, else it is removed.

        A version that is there already is replaced whole.
        """
        target = self.root / "bundles" / version
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{version}.", dir=target.parent))
        try:
            yield staging
            staging.chmod(0o755)
            if target.exists():
                old = Path(tempfile.mkdtemp(prefix=".old.", dir=target.parent))
                target.rename(old / version)
                staging.rename(target)
                shutil.rmtree(old)
            else:
                staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def champion(self) -> Path:
        """The directory of the bundle that scores.

        Raises:
            StoreError: no bundle has been published yet.
        """
        version = self._pointer("champion", "no bundle has been published yet; run: tradewind compress")
        return self.root / "bundles" / version

    def set_champion(self, version: str) -> None:
        """Let a published bundle score from now on.

        Raises:
            StoreError: there is no such bundle.
        """
        if not (self.root / "bundles" / version / "manifest.json").is_file():
            raise StoreError(f"no bundle {version} under {self.root / 'bundles'}")
        self._point("champion", version)

    def _pointer(self, name: str, otherwise: str) -> str:
        path = self.root / name
        if not path.is_file():
            raise StoreError(otherwise)
        return path.read_text().strip()

    def _point(self, name: str, value: str) -> None:
        _write_atomically(self.root / name, value + "\n")


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(temporary).replace(path)
