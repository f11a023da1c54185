import numpy as np
import pytest

from pipeline.evidence import performance
from pipeline.evidence.performance import SharpeDraws

NAN = np.nan


def curves(C: int, T: int, drift: float = 0.0) -> np.ndarray:
    steps = drift + 0.01 * np.random.default_rng(5).standard_normal((C, T))
    return np.exp(np.cumsum(steps, axis=1))


def draws(wealth: np.ndarray, block: int = 20, seed: int = 1, min_blocks: int = 5) -> SharpeDraws:
    return SharpeDraws(wealth, block, 500, min_blocks, 0.95, seed)


def test_a_steady_growth_by_hand():
    wealth = np.exp(0.001 * np.arange(253))[None]
    assert performance.annual_return(wealth)[0] == pytest.approx(np.expm1(0.252))
    assert performance.annual_volatility(wealth)[0] == pytest.approx(0, abs=1e-9)
    assert np.isnan(performance.sharpe(wealth)[0])
    assert performance.max_drawdown(wealth)[0] == 0


def test_up_and_down_by_hand():
    wealth = np.array([1.0, 1.1, 0.99, 1.089, 0.9801])
    r = np.array([0.1, -0.1, 0.1, -0.1])
    np.testing.assert_allclose(performance.simple_returns(wealth), [NAN, *r])
    assert performance.annual_return(wealth) == pytest.approx(np.exp(252 / 4 * np.log(0.9801)) - 1)
    assert performance.annual_volatility(wealth) == pytest.approx(np.log1p(r).std() * np.sqrt(252))
    assert performance.sharpe(wealth) == pytest.approx(0, abs=1e-9)
    assert performance.max_drawdown(wealth) == pytest.approx(0.9801 / 1.1 - 1)


def test_outside_a_life_nothing_counts():
    wealth = curves(1, 100)
    padded = np.hstack([np.full((1, 7), NAN), wealth, np.full((1, 5), NAN)])
    for measure in (performance.annual_return, performance.annual_volatility, performance.sharpe):
        np.testing.assert_allclose(measure(padded), measure(wealth))
    np.testing.assert_allclose(performance.max_drawdown(padded), performance.max_drawdown(wealth))


def test_rolling_volatility_is_trailing():
    wealth = curves(2, 60)
    rolling = performance.rolling_volatility(wealth, 20)
    assert np.isnan(rolling[:, :20]).all()
    r = np.diff(np.log(wealth), axis=1)
    np.testing.assert_allclose(rolling[:, 20], r[:, :20].std(axis=1) * np.sqrt(252))
    altered = wealth.copy()
    altered[:, 41:] *= 2
    np.testing.assert_array_equal(performance.rolling_volatility(altered, 20)[:, :41], rolling[:, :41])
    assert np.isnan(performance.rolling_volatility(wealth[:, :10], 20)).all()


def test_the_interval_holds_the_estimate_and_shrinks_with_time():
    short, long = curves(1, 500), curves(1, 4000)
    found = [draws(w).interval() for w in (short, long)]
    for wealth, bounds in zip((short, long), found, strict=True):
        assert bounds.low[0] < performance.sharpe(wealth)[0] < bounds.high[0]
    assert found[1].high[0] - found[1].low[0] < 0.6 * (found[0].high[0] - found[0].low[0])


def test_the_same_seed_gives_the_same_interval():
    wealth = curves(2, 400)
    one, two, other = (draws(wealth, seed=s).interval() for s in (1, 1, 2))
    np.testing.assert_array_equal(one.low, two.low)
    assert (one.low != other.low).any()


def test_too_few_blocks_give_no_verdict():
    wealth = curves(2, 120)
    wealth[1, :60] = NAN
    bounds = draws(wealth, block=20, min_blocks=5).interval()
    assert np.isfinite(bounds.low).tolist() == [True, False]


def test_a_gain_is_paired():
    base = curves(1, 800)[0]
    r = np.diff(np.log(base), prepend=0)
    wealth = np.stack([base, np.exp(np.cumsum(r + 0.0005))])
    found = draws(wealth)
    gain = found.gain(np.array([0, 0]))
    assert gain.low[0] == gain.high[0] == 0
    assert gain.low[1] > 0  # a small sure gain shows although each interval is wide
    assert found.interval().low[1] < found.interval().high[0]
