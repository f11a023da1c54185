"""Every agent of a walk-forward: algorithm x block x seed, each fit kept when it is done.

A fit lies in the run directory under a fingerprint of all that shapes it; one that is there is not done again, so a
killed training goes on where it was, and more seeds or another algorithm cost only what is new. Fits share the
processors: one process a fit, the same bytes with any number of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from joblib import Parallel, cpu_count, delayed
from threadpoolctl import threadpool_limits

from models import trading
from models.trading.env import Markets, Rules
from models.trading.policy import Learner
from pipeline import agent_policies
from pipeline.agent_policies import TRUSTED, Agent
from pipeline.config import Config
from pipeline.errors import DataError


class Lesson(NamedTuple):
    """What the agents of one block learn from. name: of the block. digest: of the markets."""

    name: str
    markets: Markets
    digest: str


class Fit(NamedTuple):
    """One agent to be. seed: of everything random. learner: with its settings."""

    algorithm: str
    lesson: Lesson
    seed: int
    learner: Learner

    def fingerprint(self, rules: Rules, steps: int) -> str:
        """Of all that shapes what it learns."""
        parts = (
            self.algorithm, self.lesson.digest, self.seed, repr(self.learner), repr(rules), steps, code_digest()
        )  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def file(self, directory: Path, rules: Rules, steps: int) -> Path:
        """Where it is kept."""
        return directory / f"{self.algorithm}-{self.lesson.name}-{self.seed}-{self.fingerprint(rules, steps)}.npz"


@cache
def code_digest() -> str:
    """Of every source file that shapes what an agent learns."""
    root = Path(trading.__path__[0])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(root.glob("*.py")))).hexdigest()[:24]


def learn(
    fits: Sequence[Fit],
    rules: Rules,
    config: Config,
    directory: Path,
    progress: Callable[[int], None] = lambda done: None,
    trusted: Sequence[str] = TRUSTED,
) -> list[Agent]:
    """Do the fits that are not done yet; all of them, in their order.

    Args:
        fits: of all blocks. rules: of the task. config: steps, threads, processes.
        directory: where finished fits are kept. progress: called with how many are done.
        trusted: packages whose policies may be read back.

    Raises:
        DataError: an algorithm cannot learn from a block; both are named with the reason.
        StoreError: a finished fit cannot be read back.
    """
    steps = config.agent.steps
    files = [fit.file(directory, rules, steps) for fit in fits]
    missing = [(fit, file) for fit, file in zip(fits, files, strict=True) if not file.is_file()]
    done = len(fits) - len(missing)
    progress(done)
    threads = config.models.threads
    wanted = config.models.processes or max(1, cpu_count() // threads)
    run = Parallel(n_jobs=max(1, min(wanted, len(missing))), return_as="generator_unordered")
    for count, _ in enumerate(run(delayed(_fit)(fit, rules, steps, threads, file) for fit, file in missing), start=1):
        progress(done + count)
    return [agent for file in files for agent in agent_policies.read(file, trusted)]


def _fit(fit: Fit, rules: Rules, steps: int, threads: int, file: Path) -> None:
    lesson = fit.lesson
    try:
        with threadpool_limits(threads):
            learned = fit.learner.learn(lesson.markets, rules, steps, fit.seed)
    except (ValueError, FloatingPointError) as error:
        raise DataError(f"{fit.algorithm} cannot learn from the sessions before {lesson.name}: {error}") from error
    agent_policies.write(file, [Agent(fit.algorithm, lesson.name, fit.seed, learned.policy, learned.curve)])


def identity(digests: Sequence[str], config: Config) -> str:
    """Of the agents that learn from lessons of these digests by these settings: what belongs together has the same."""
    return "-".join([*(digest[:8] for digest in digests), settings_digest(config)])


def settings_of(config: Config) -> dict[str, object]:
    """What shapes every agent beside the data: JSON values."""
    found: dict[str, object] = config.agent.model_dump(mode="json", exclude={"algorithms", "seeds", "use"})
    sizing = ("target_volatility", "horizon", "max_weight", "band")
    return found | {name: getattr(config.backtest, name) for name in sizing}


def settings_digest(config: Config) -> str:
    """Of `settings_of`, who learns, and the code."""
    who = [list(config.agent.algorithms), config.agent.seeds, config.models.seed, code_digest()]
    return hashlib.sha256(json.dumps([settings_of(config), *who], sort_keys=True).encode()).hexdigest()[:16]
