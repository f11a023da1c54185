"""An Optuna study on disk that goes on after a kill as if nothing had happened.

Each trial is drawn by a sampler seeded with the study's seed and the trial's position, from the trials finished
before it; one that was running when the process died is closed as failed and its position is drawn again. So a study
that was killed and resumed tries the same settings as an undisturbed one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from pipeline.errors import TradewindError

LOSSES, REASON = "losses", "reason"
"""Keys of a trial's own notes: its losses fold by fold, and why it failed."""
STARTUP_TRIALS = 10
"""Drawn at random before the estimator has something to go by."""
FEWEST_TO_PRUNE = 5
"""Fewer trials than this on a fold, and none is pruned after it."""


class MedianRule(optuna.pruners.BasePruner):
    """Stop a trial whose mean loss so far is above the median of all trials that got as far (Golovin et al. 2017, 3.2).

    Optuna's own rule compares a trial's best value of any step, and folds are not equally hard.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop after the trial's last fold."""
        step = trial.last_step
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        values = [each.intermediate_values[step] for each in others if step in each.intermediate_values]
        if step is None or len(values) < FEWEST_TO_PRUNE:
            return False
        return bool(trial.intermediate_values[step] > np.median(values))


class Study:
    """Trials of one search, in the order in which they were drawn."""

    def __init__(self, study: optuna.Study, seed: int) -> None:
        self._study, self._seed = study, seed

    @property
    def name(self) -> str:
        """The model and the study's identity."""
        return str(self._study.study_name)

    @property
    def ended(self) -> list[FrozenTrial]:
        """Every trial that is over, also those that were killed."""
        over = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return self._study.get_trials(deepcopy=False, states=over)

    @property
    def position(self) -> int:
        """How many trials came to an end of their own."""
        return sum(not is_killed(trial) for trial in self.ended)

    def close_killed(self) -> None:
        """Close as failed what ran when its process died."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)

    def ask(self, space: Mapping[str, BaseDistribution], first: Mapping[str, Any]) -> optuna.Trial:
        """The next trial; the very first one tries `first`."""
        at = self.position
        self._study.sampler = optuna.samplers.TPESampler(
            seed=int(np.random.SeedSequence([self._seed, at]).generate_state(1)[0]),
            n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=False,
        )  # fmt: skip
        if at == 0 and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial(dict(first))
        return self._study.ask(fixed_distributions=dict(space))

    def alike(self, trial: optuna.Trial) -> list[list[float]]:
        """The losses by fold of an earlier trial of the same settings: they need no second fit."""
        found = [each.user_attrs.get(LOSSES, []) for each in self.ended if each.params == trial.params]
        return max(found, key=len, default=[])

    def finish(self, trial: optuna.Trial, loss: float) -> FrozenTrial:
        """It went through all folds."""
        return self._study.tell(trial, loss)

    def prune(self, trial: optuna.Trial) -> FrozenTrial:
        """It was stopped before its last fold."""
        return self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: optuna.Trial, reason: str) -> FrozenTrial:
        """It has no loss."""
        trial.set_user_attr(REASON, reason)
        return self._study.tell(trial, state=TrialState.FAIL)

    def best(self, most: int) -> list[FrozenTrial]:
        """The finished trials of different settings with the least loss, at most so many; of equals the earlier."""
        finished = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        found: dict[str, FrozenTrial] = {}
        for trial in sorted(finished, key=lambda each: (each.value, each.number)):
            found.setdefault(json.dumps(trial.params, sort_keys=True), trial)
        return list(found.values())[:most]

    def importance(self, fewest: int) -> dict[str, float]:
        """The share of the variance of the loss that each setting explains (fANOVA, Hutter et al. 2014), largest first.

        Empty with fewer finished trials of different settings, or where none makes a difference.
        """
        finished = self.best(len(self.ended))
        if len(finished) < fewest or len({trial.value for trial in finished}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
        return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))


def is_killed(trial: FrozenTrial) -> bool:
    """Whether its process died while it ran: a trial that fails says why first."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs


def digest(identity: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of everything that two trials must share to be compared: JSON values."""
    text = json.dumps({**identity, "optuna": optuna.__version__}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextmanager
def opened(directory: Path, name: str, seed: int) -> Iterator[Study]:
    """The study of this name, made if it is not there, for one process at a time.

    Args:
        directory: of the SQLite file. name: model and identity. seed: of the sampler.

    Raises:
        TradewindError: another process is at it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with (directory / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the file closes, also by a kill
        except BlockingIOError:
            raise TradewindError(f"another process is at the study {name}; wait until it is through") from None
        storage = optuna.storages.RDBStorage(f"sqlite:///{(directory / name).resolve()}.db")
        study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, pruner=MedianRule())
        try:
            held = Study(study, seed)
            held.close_killed()
            yield held
        finally:
            storage.engine.dispose()


def mean_losses(losses: Sequence[Sequence[float]]) -> list[float]:
    """By horizon, over the folds."""
    return [float(np.mean(column)) for column in zip(*losses, strict=True)]
