"""Distilling a policy: what it wants is learned where it stands, with early stopping on later sessions, to the bit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from models.compact.policy_distill import DistilConfig, distil, visit
from models.compact.policy_quantize import quantize_policy
from models.compact.small_policy import FloatPolicy
from models.trading.env import Markets, Rules
from models.trading.market import Costs, Limits
from models.trading.policy import Policy
from models.trading.rules import Banded

S, T, K = 8, 300, 4
RULES = Rules(Costs(5.0, 0.0), Limits(0.0, 1.0), length=60)
QUICK = DistilConfig(observations=12_000, environments=128, epochs=25)


def markets(assets: int = 1) -> Markets:
    generator = np.random.default_rng(0)
    observed = np.zeros((S, T, assets, K))
    for t in range(1, T):
        observed[:, t] = 0.9 * observed[:, t - 1] + 0.4 * generator.normal(size=(S, assets, K))
    observed[..., 3] = 2.0  # never moves
    opens = 100 * np.exp(np.cumsum(generator.normal(0, 0.01, (S, T, assets)), axis=1))
    playable = np.ones((S, T), bool)
    playable[:, -2:] = False
    return Markets(opens, observed.astype(np.float32), playable)


@dataclass(frozen=True)
class Curved(Policy):
    """Half by what is seen, half by what is held, with a bend."""

    def target(self, observation: np.ndarray) -> np.ndarray:
        seen = np.tanh(observation[:, 0].astype(np.float64)) + np.abs(observation[:, 1])
        return np.clip(0.25 + 0.25 * seen + 0.4 * observation[:, -2], 0, 1)[:, None]


def test_a_smooth_policy_is_learned_and_its_int8_form_wants_the_same() -> None:
    found = distil(Curved(), markets(), RULES, QUICK)
    assert found.held_out_error < 0.03
    unseen = visit(Curved(), markets(), RULES, replace(QUICK, observations=5000, seed=9))
    exact = found.policy.target(unseen.observation)[:, 0]
    assert np.abs(exact - unseen.target).mean() < 0.02
    shipped = quantize_policy(found.policy, visit(Curved(), markets(), RULES, QUICK).observation)
    assert np.quantile(np.abs(shipped.target(unseen.observation)[:, 0] - exact), 0.99) <= 0.01


def content(policy: FloatPolicy) -> list[bytes]:
    layers = [each.tobytes() for layer in policy.layers for each in layer]
    return [*layers, policy.frame.head.tobytes(), policy.frame.skip.tobytes(), policy.frame.bias.tobytes()]


def test_the_same_teacher_markets_and_seed_give_the_same_bytes() -> None:
    quick = replace(QUICK, observations=3000, epochs=3)
    one, two = (distil(Curved(), markets(), RULES, quick) for _ in range(2))
    assert content(one.policy) == content(two.policy)
    other = distil(Curved(), markets(), RULES, replace(quick, seed=1))
    assert content(other.policy) != content(one.policy)


def test_leaving_alone_is_wanting_what_is_held() -> None:
    band = Banded(column=0, center=0.5, scale=0.2, band=0.2)
    found = visit(band, markets(), RULES, QUICK)
    own, alone = found.observation[:, -2], np.isnan(band.target(found.observation)[:, 0])
    assert 0.1 < alone.mean() < 0.9
    np.testing.assert_array_equal(found.target[alone], np.clip(own[alone], 0, 1))


def test_weights_that_the_policy_would_not_hold_are_visited_too() -> None:
    flat = Banded(column=3, center=0.5, scale=0.0, band=0.0)  # always one half
    held = visit(flat, markets(), RULES, QUICK).observation[:, -2]
    assert np.percentile(held, 5) < 0.2
    assert np.percentile(held, 95) > 0.8
    assert ((held > 0.45) & (held < 0.55)).mean() > 0.2


def test_half_of_what_is_observed_is_stretched_and_labelled_by_the_teacher() -> None:
    found = visit(Curved(), markets(), RULES, QUICK)
    calm, wild = np.split(found.observation, 2)
    assert wild[:, 0].std() > 1.3 * calm[:, 0].std()
    assert np.abs(wild).max() <= 5
    assert (wild[:, 3] == 2).all()  # what never moves does not begin to
    np.testing.assert_array_equal(wild[:, -1], calm[:, -1])  # nor does the cost
    np.testing.assert_array_equal(found.session[: len(calm)], found.session[len(calm) :])
    np.testing.assert_allclose(found.target, Curved().target(found.observation)[:, 0])


def test_a_column_that_never_moves_gets_no_weight() -> None:
    policy = distil(Curved(), markets(), RULES, replace(QUICK, observations=3000, epochs=2)).policy
    still = [3, K + 1]  # and the cost
    assert (policy.frame.rate[still] == 0).all()
    assert (policy.layers[0][0][:, still] == 0).all()
    assert (policy.frame.skip[still] == 0).all()


def test_early_stopping_reads_the_last_sessions_and_training_does_not() -> None:
    """A teacher that turns round in the last sessions is learned as it was before: none of them is trained on."""
    shown = markets()
    late = np.zeros((S, T, 1, 1), np.float32)
    late[:, int(0.75 * T) :] = 5.0
    timed = Markets(shown.opens, np.concatenate([shown.observed, late], axis=-1), shown.playable)

    @dataclass(frozen=True)
    class Turned(Policy):
        def target(self, observation: np.ndarray) -> np.ndarray:
            return np.where(observation[:, 4] > 4.5, 1.0, 0.0)[:, None]

    found = distil(Turned(), timed, replace(RULES, length=20), replace(QUICK, held_out=0.3))
    assert found.held_out_error > 0.5


def test_what_cannot_be_distilled_is_refused() -> None:
    with pytest.raises(ValueError, match="one asset at a time, these markets have 2"):
        distil(Curved(), markets(assets=2), RULES, QUICK)
    short = Markets(markets().opens[:, :62], markets().observed[:, :62], markets().playable[:, -62:])
    with pytest.raises(ValueError, match="too few sessions"):
        distil(Curved(), short, replace(RULES, length=1), replace(QUICK, held_out=1.0))
