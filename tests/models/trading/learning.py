"""What every learner is held to, as checks that the tests of each call with its settings."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from models.trading.env import Batch
from models.trading.policy import Learned, Learner, play
from tests.models.trading.known_markets import Known, signalled


def trained(learner: Learner, known: Known, budget: int, seed: int = 0) -> Learned:
    return learner.learn(known.markets, known.rules, budget, seed)


def check_same_seed_same_bytes(learner: Learner, budget: int) -> None:
    """Policy, curve, and every target, trade and reward of unseen episodes."""
    known = signalled()
    one, two, other = (trained(learner, known, budget, seed) for seed in (3, 3, 4))
    assert pickle.dumps(one) == pickle.dumps(two)
    assert pickle.dumps(one) != pickle.dumps(other)
    plays = [play(each.policy, known.unseen, known.rules, 64, 0) for each in (one, two)]
    assert [part.tobytes() for part in plays[0]] == [part.tobytes() for part in plays[1]]


def check_the_future_is_not_learned(learner: Learner, budget: int) -> None:
    """What comes after the training slice is altered: the policy stays the same, bit for bit."""
    known, cut = signalled(), 150
    playable = known.markets.playable.copy()
    playable[:, cut + 1 :] = False
    before = replace(known.markets, playable=playable)
    # The last decision is taken at `cut`, filled and held to the open of cut + 2; the observation of cut + 1 ends it.
    opens, observed = before.opens.copy(), before.observed.copy()
    opens[:, cut + 3 :] *= 5
    observed[:, cut + 2 :] = 9.0
    after = replace(before, opens=opens, observed=observed)
    one, two = (learner.learn(each, known.rules, budget, 1) for each in (before, after))
    assert pickle.dumps(one) == pickle.dumps(two)
    opens = before.opens.copy()
    opens[:, cut - 100 : cut + 3 : 2] *= 5
    assert pickle.dumps(learner.learn(replace(before, opens=opens), known.rules, budget, 1)) != pickle.dumps(one)


def check_the_budget_is_kept(learner: Learner, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every environment step counts, and most of the budget is used; the progress ends at one."""
    taken: list[int] = []
    shares: list[float] = []
    step = Batch.step

    def counted(batch: Batch, target: np.ndarray) -> object:
        taken.append(batch.environments)
        return step(batch, target)

    monkeypatch.setattr(Batch, "step", counted)
    known = signalled()
    found = learner.learn(known.markets, known.rules, budget, 0, shares.append)
    assert 0.8 * budget < sum(taken) <= budget
    assert found.curve.steps[-1] <= sum(taken)
    assert (np.diff(found.curve.steps) > 0).all()
    assert len(found.curve.reward) == len(found.curve.steps)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def random_turnover(known: Known) -> float:
    """Of a step of weights drawn at random."""

    class Coin:
        generator = np.random.default_rng(0)

        def target(self, observation: np.ndarray) -> np.ndarray:
            return self.generator.uniform(-1, 1, (len(observation), 1))

    return float(play(Coin(), known.unseen, known.rules, 256, 0).turnover.mean())
