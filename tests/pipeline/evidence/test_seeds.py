import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import trim_mean

from pipeline.evidence.seeds import interquartile, iqm, middle

BY_HAND = (
    ([7.0], 7.0),
    ([1.0, 3.0], 2.0),
    ([1.0, 2.0, 9.0], 4.0),  # three seeds: nothing is cut
    ([9.0, 1.0, 2.0, 4.0], 3.0),
    ([5.0, -90.0, 6.0, 4.0, 80.0], 5.0),
    ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 99.0], 4.5),  # ten seeds: two on each side
    ([1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 50.0, 50.0], 2.5),
)


@pytest.mark.parametrize(("scores", "expected"), BY_HAND)
def test_the_interquartile_mean_by_hand(scores: list[float], expected: float):
    assert iqm(np.array(scores)) == pytest.approx(expected)
    assert np.array(scores)[middle(np.array(scores))].mean() == pytest.approx(expected)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e3, 1e3)))
def test_it_is_the_quarter_trimmed_mean_of_scipy(scores: np.ndarray):
    assert iqm(scores) == pytest.approx(trim_mean(scores, 0.25), abs=1e-9)


def test_one_wild_seed_moves_it_by_nothing():
    scores = np.arange(10.0)
    wild = scores.copy()
    wild[9] = 1e6
    assert iqm(scores) == iqm(wild)


def by_loops(scores: np.ndarray, weights: np.ndarray, resamples: int, confidence: float, seed: int) -> list[float]:
    """The same in plain Python: its own trimming, weighting and quantile, the draws as documented."""
    M, R = scores.shape
    draws = np.random.default_rng(seed).integers(R, size=(resamples, M, R)).tolist()
    found = []
    for drawn in draws:
        runs = [sum(weights[m] * scores[m][drawn[m][r]] for m in range(M)) / sum(weights) for r in range(R)]
        kept = sorted(runs)[R // 4 : R - R // 4]
        found.append(sum(kept) / len(kept))
    found.sort()

    def quantile(level: float) -> float:
        at = level * (len(found) - 1)
        low = int(at)
        high = min(low + 1, len(found) - 1)
        return found[low] + (at - low) * (found[high] - found[low])

    return [quantile((1 - confidence) / 2), quantile((1 + confidence) / 2)]


@pytest.mark.parametrize("shape", [(1, 10), (3, 10), (4, 5)])
def test_the_interval_is_that_of_an_independent_implementation(shape: tuple[int, int]):
    scores = np.random.default_rng(3).standard_normal(shape)
    weights = np.arange(1.0, shape[0] + 1)
    found = interquartile(scores, weights, 400, 0.9, seed=5)
    np.testing.assert_allclose(found[1:], by_loops(scores, weights, 400, 0.9, 5))
    assert found.value == pytest.approx(float(trim_mean((weights[:, None] * scores).sum(0) / weights.sum(), 0.25)))


def test_blocks_are_resampled_on_their_own():
    """Seeds that are good in one block and bad in the other: together they are alike, drawn apart they are not."""
    scores = np.array([[1.0, -1.0] * 5, [-1.0, 1.0] * 5])
    found = interquartile(scores, np.ones(2), 500, 0.95, seed=1)
    assert found.value == 0
    assert found.low < -0.1 < 0.1 < found.high


def test_seeds_that_are_all_alike_have_an_interval_of_no_width():
    assert interquartile(np.full((2, 10), 3.0), np.ones(2), 100, 0.95, seed=1) == (3.0, 3.0, 3.0)


def test_a_wider_spread_and_fewer_seeds_have_a_wider_interval():
    scores = np.random.default_rng(0).standard_normal((1, 20))

    def width(part: np.ndarray) -> float:
        found = interquartile(part, np.ones(1), 1000, 0.95, seed=2)
        return found.high - found.low

    assert width(3 * scores) == pytest.approx(3 * width(scores))
    assert width(scores[:, :5]) > width(scores)


@pytest.mark.parametrize("scores", [np.array([[1.0, np.nan]]), np.empty((2, 0))])
def test_a_score_that_is_missing_is_refused(scores: np.ndarray):
    with pytest.raises(ValueError, match="finite score"):
        interquartile(scores, np.ones(len(scores)), 10, 0.95, seed=0)
