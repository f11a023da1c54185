from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from models.trading.env import Batch, Markets, Rules
from models.trading.genetic import Arena, GeneticConfig
from models.trading.market import Costs, Limits
from models.trading.policy import play
from models.trading.policy_network import PolicyNetwork, fresh
from tests.models.trading import learning
from tests.models.trading.known_markets import Known, banded, random_walk, signalled

BUDGET = 1_000_000
SMALL = replace(GeneticConfig(), members=8, elite=2, sessions=10)


def portfolio(seed: int = 0) -> tuple[Markets, Rules]:
    generator = np.random.default_rng(seed)
    opens = 100 * np.exp(np.cumsum(0.02 * generator.standard_normal((3, 40, 4)), axis=1))
    playable = np.repeat(np.arange(40)[None] < 38, 3, axis=0)
    observed = generator.standard_normal((3, 40, 4, 2)).astype(np.float32)
    return Markets(opens, observed, playable), Rules(Costs(5.0, 0.0), Limits(0.0, 1.0, 1.0), length=12)


@pytest.mark.parametrize("make", [signalled, banded])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_reaches_nine_tenths_of_what_can_be_gained(make: Callable[[], Known], seed: int) -> None:
    known = make()
    assert known.share(learning.trained(GeneticConfig(), known, BUDGET, seed).policy) >= 0.9


def test_on_a_random_walk_trading_shrinks_towards_none() -> None:
    known = random_walk()
    found = play(learning.trained(GeneticConfig(), known, BUDGET).policy, known.unseen, known.rules, 256, 0)
    assert found.turnover.mean() < 0.1 * learning.random_turnover(known)
    assert found.reward.mean() > -0.1


def test_the_same_seed_gives_the_same_bytes() -> None:
    learning.check_same_seed_same_bytes(SMALL, 3_000)


def test_what_comes_after_training_is_not_learned() -> None:
    learning.check_the_future_is_not_learned(SMALL, 3_000)


def test_every_step_counts_towards_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    learning.check_the_budget_is_kept(SMALL, 4_000, monkeypatch)


def test_with_more_budget_a_generation_plays_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    known, sizes = signalled(), []
    play_round = Arena.play

    def watched(arena: Arena, network: PolicyNetwork, population: np.ndarray) -> np.ndarray:
        sizes.append((len(population), arena.steps))
        return play_round(arena, network, population)

    monkeypatch.setattr(Arena, "play", watched)
    few = replace(SMALL, generations=5, final=0.0)
    # 8 members x 4 stretches x 10 sessions; then 8 x 12 x 10, five times; then what is left of four times.
    for budget, expected in ((700, [(8, 40)] * 2), (5_000, [(8, 120)] * 5), (1_500, [(8, 40)] * 4)):
        few.learn(known.markets, known.rules, budget, 0)
        assert sizes == expected
        sizes.clear()


def test_without_a_final_the_fittest_of_the_last_generation_is_kept() -> None:
    known = signalled()
    found = replace(SMALL, final=0.0).learn(known.markets, known.rules, 320, 5)
    network = fresh(known.markets, known.rules, 5)
    assert isinstance(found.policy, PolicyNetwork)
    # One generation: the population as it was drawn, which `Arena` judges alike for the same seed.
    generator = np.random.default_rng((5, 1))
    drawn = generator.standard_normal((8, network.flat().size))
    signs = np.sign(drawn) == np.sign(found.policy.flat())
    assert signs.all(axis=1).sum() == 1
    at = int(signs.all(axis=1).argmax())
    unit = found.policy.flat() / drawn[at]
    fitness = Arena(known.markets, known.rules, 4, 10, 5).play(network, (unit * drawn).astype(np.float32))
    assert fitness.argmax() == at


def test_equal_members_are_equally_fit_and_each_plays_as_if_alone() -> None:
    markets, rules = portfolio()
    networks = [fresh(markets, rules, seed) for seed in range(3)]
    population = np.stack([networks[k].flat() for k in (0, 1, 2, 0)])
    fitness = Arena(markets, rules, 5, 12, 7).play(networks[0], population)
    assert fitness[0] == fitness[3]
    assert len(set(fitness[:3].tolist())) == 3
    for k, network in enumerate(networks):
        alone = Arena(markets, rules, 5, 12, 7).play(network, population[k : k + 1])
        np.testing.assert_allclose(alone, fitness[k], rtol=1e-4)


def test_fitness_is_the_mean_reward_in_the_environment() -> None:
    markets, rules = portfolio()
    network = fresh(markets, rules, 2)
    arena = Arena(markets, rules, 6, 9, 3)
    fitness = arena.play(network, network.flat()[None])
    generator = np.random.default_rng((3, 2))
    starts = markets.starts(9)
    at = starts[generator.integers(len(starts), size=6)]
    batch = Batch(markets, rules, 6, 0)
    seen = batch.begin(at, rules.limits.clip(generator.uniform(0, 1, (6, 4))))
    rewards = []
    for _ in range(9):
        step = batch.step(network.target(seen))
        rewards.append(step.reward)
        seen = step.observation
    np.testing.assert_allclose(fitness, np.mean(rewards), rtol=1e-5)


def test_a_ruined_member_earns_nothing_afterwards() -> None:
    opens = np.array([10.0, 10, 10, 2, 90, 90, 90, 90])[None, :, None]
    markets = Markets(opens, np.zeros((1, 8, 1, 1), np.float32), np.arange(8)[None] < 6)
    rules = Rules(Costs(0.0, 0.0), Limits(0.0, 2.0), length=6, random_weight=False)
    network = fresh(markets, rules, 0)
    reckless = np.zeros_like(network.flat())
    reckless[-1] = 20.0  # the bias of the head: always the most
    # Ruined in its second step of six; begun anew in cash, it would be ruined once more.
    fitness = Arena(markets, rules, 3, 6, 0).play(network, reckless[None])
    assert fitness[0] == pytest.approx(100 * np.log(1e-3) / 6)


def test_every_round_is_played_on_other_stretches() -> None:
    markets, rules = portfolio()
    arena, network = Arena(markets, rules, 4, 12, 0), fresh(markets, rules, 0)
    assert arena.play(network, network.flat()[None]) != arena.play(network, network.flat()[None])


def breed(config: GeneticConfig, size: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    population = generator.standard_normal((config.members, 50)).astype(np.float32)
    fitness = generator.standard_normal(config.members)
    children = config.breed(population, fitness, np.full(50, size, np.float32), np.random.default_rng(2))
    return population, fitness, children


def test_the_elite_lives_on_unchanged_best_first() -> None:
    population, fitness, children = breed(GeneticConfig(), size=0.3)
    np.testing.assert_array_equal(children[:8], population[np.argsort(-fitness)[:8]])
    assert children.shape == population.shape
    assert children.dtype == np.float32
    assert not (children[8:, None] == population).any()


def test_without_mutation_every_weight_of_a_child_is_from_its_parents() -> None:
    population, _, children = breed(replace(GeneticConfig(), crossover=1.0))
    from_member = children[8:, None] == population[None]  # (C, P, W)
    assert from_member.any(axis=1).all()
    parents = from_member.any(axis=2).sum(axis=1)
    assert set(parents.tolist()) <= {1, 2}
    assert (parents == 2).mean() > 0.8
    mixed = from_member[parents == 2].mean(axis=2)
    assert 0.4 < mixed[mixed > 0].mean() < 0.6


def test_without_crossover_a_child_is_one_parent_and_its_mutation() -> None:
    population, _, children = breed(replace(GeneticConfig(), crossover=0.0), size=0.1)
    away = np.abs(children[8:, None] - population[None]).max(axis=2).min(axis=1)
    assert (away < 0.5).all()
    nearest = np.abs(children[8:, None] - population[None]).max(axis=2).argmin(axis=1)
    moved = children[8:] - population[nearest]
    assert moved.std() == pytest.approx(0.1, rel=0.1)


def test_in_a_tournament_of_all_the_fittest_has_every_child() -> None:
    population, fitness, children = breed(replace(GeneticConfig(), tournament=32))
    np.testing.assert_array_equal(children[8:], np.repeat(population[[fitness.argmax()]], 24, axis=0))


def test_the_fitter_a_member_the_more_children_it_has() -> None:
    config = replace(GeneticConfig(), members=600, crossover=0.0)
    population, fitness, children = breed(config)
    family = (children[8:, None, 0] == population[None, :, 0]).argmax(axis=1)
    better = fitness[family] > np.median(fitness)
    # The best of four is above the median 15 times in 16.
    assert better.mean() == pytest.approx(15 / 16, abs=0.04)


def test_it_learns_a_portfolio_within_its_limits() -> None:
    markets, rules = portfolio()
    policy = SMALL.learn(markets, rules, 2_000, 0).policy
    found = play(policy, markets, rules, 5, 0)
    assert found.wanted.shape == (5, 12, 4)
    assert found.wanted.min() >= 0
    assert found.wanted.max() <= 1


def test_a_budget_without_a_generation_is_an_error() -> None:
    known = signalled()
    with pytest.raises(ValueError, match="a budget of 240 steps is too small: a generation takes 320"):
        SMALL.learn(known.markets, known.rules, 300, 0)


def test_an_elite_as_large_as_the_population_is_an_error() -> None:
    known = signalled()
    with pytest.raises(ValueError, match="elite 8 and tournament 4 must fit 8 members"):
        replace(SMALL, elite=8).learn(known.markets, known.rules, 3_000, 0)
