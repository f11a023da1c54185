"""What a stage reports when it ends, for a person (lines) and for a machine (figures)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) as work goes on; a stage longer than two seconds calls it."""


def silent(what: str, done: int, total: int) -> None:
    """A progress that shows nothing."""


@dataclass(frozen=True)
class Summary:
    """The outcome of one stage.

    Attributes:
        stage: the stage's name.
        lines: what a person reads, one finding a line.
        figures: the same for a machine: JSON values only.
        left_out: what could not be done, each with its reason; not empty means exit code 3 (partial).
    """

    stage: str
    lines: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One JSON object: stage, figures, left_out."""
        return json.dumps(
            {"stage": self.stage, "figures": self.figures, "left_out": self.left_out}, allow_nan=False, default=str
        )
