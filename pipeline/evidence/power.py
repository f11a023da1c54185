"""What the gate lets through, by simulation: noise at its nominal level, a planted gain as often as data allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm

from pipeline.evidence import race
from pipeline.evidence.significance import POWER, Resamples, Resampling

Array = npt.NDArray[np.float64]


class Share(NamedTuple):
    """Successes out of n with the exact binomial interval of their chance (Clopper and Pearson 1934)."""

    successes: int
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Promotions:
    """How often the gate promoted the candidate on simulated panels.

    Attributes:
        promoted: of all panels, with its binomial interval.
        gains: (panels,) gain over the best baseline in percent, as measured.
        detectable: (panels,) smallest gain that each panel's data would have shown four times in five, in percent.
    """

    promoted: Share
    gains: Array
    detectable: Array


def share(successes: int, n: int, confidence: float = 0.95) -> Share:
    """The binomial interval of a share.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} trials are no share")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return Share(successes, n, low, high)


def promotions(
    losses_of: Callable[[int], Mapping[str, Array]],
    seeds: Iterable[int],
    candidate: str,
    horizons: tuple[int, ...],
    resampling: Resampling,
) -> Promotions:
    """Run the gate on one simulated panel a seed.

    Args:
        losses_of: seed -> losses keyed `model|pinball|horizon`, (N, T) with NaN = none, of the candidate and all of
            `config_models.BASELINES`.
        seeds: of the panels. candidate: name of the model at the gate. horizons: judged together.
        resampling: of the gate, its level among them.
    """
    passed, gains, detectable = 0, [], []
    for seed in seeds:
        losses = losses_of(seed)
        found = race.gate(Resamples(losses, resampling), losses, candidate, horizons, resampling)
        passed += found["passed"]
        gains.append(found["gain_percent"])
        detectable.append(found["smallest_detectable_percent"])
    return Promotions(share(passed, len(gains)), np.array(gains), np.array(detectable))


def normal_power(gain: Array, detectable: float, level: float) -> Array:
    """Chance that a true gain passes a gate of `level`, if measured gains are normal.

    Args:
        gain: (...) in percent. detectable: the gain that passes four times in five, in percent. level: one-sided.
    """
    spread = detectable / (norm.ppf(1 - level) + norm.ppf(POWER))
    return np.asarray(norm.cdf(gain / spread - norm.ppf(1 - level)))
