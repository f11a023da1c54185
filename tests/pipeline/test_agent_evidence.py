import json

import numpy as np
import pytest

from pipeline.agent_data import Block
from pipeline.agent_evidence import (
    BEATS,
    FEES_BPS,
    NEITHER,
    TOO_FEW,
    WORSE,
    Field,
    Panel,
    breakeven,
    figures,
    judged,
    sentences,
)
from pipeline.evidence.seeds import iqm
from pipeline.evidence.significance import Resampling

RESAMPLING = Resampling(0.95, 0.01, 200, 20, 10, 7)
BLOCKS = (Block("a", 90, 100, 250), Block("b", 240, 250, 500))
T, N, SEEDS = 400, 3, 10
FIELD = Field({"vol_target": 0, "buy_and_hold": 1}, {"ppo": range(2, 12)})


def panel(gain: float, spread: float = 1e-5) -> Panel:
    """Two rules that earn a basis point a session, and ten seeds that earn `gain` more, give or take."""
    generator = np.random.default_rng(1)
    market = 1e-3 * generator.standard_normal((N, T))
    own = np.array([0.0, 0.0, *([gain + spread, gain - spread] * (SEEDS // 2))])
    reward = 1e-4 + own[:, None, None] + market + 2e-4 * generator.standard_normal((2 + SEEDS, N, T))
    reward[:, :, 0], reward[:, 1, :50] = np.nan, np.nan
    wealth = np.exp(np.cumsum(np.nan_to_num(reward.mean(axis=1)), axis=-1))
    return Panel(reward, wealth, np.full(wealth.shape, 0.01), np.full(wealth.shape, 5e-6))


def verdict(held: Panel, resampling: Resampling = RESAMPLING) -> dict:
    return judged(held, FIELD, BLOCKS, 252.0, np.zeros((len(FEES_BPS), 12)), resampling)


@pytest.mark.parametrize(("gain", "expected"), [(2e-4, BEATS), (-2e-4, WORSE), (0.0, NEITHER)])
def test_the_verdict_follows_the_gain(gain: float, expected: str):
    found = verdict(panel(gain))
    assert {row["verdict"] for row in found["comparisons"]} == {expected}
    assert found["sentences"][1].startswith(
        f"PPO {expected} {'any' if expected == NEITHER else 'every'} rule. Against "
    )


def test_a_gain_of_some_lucky_seeds_is_no_gain():
    """Over sessions it is clear, but the seeds disagree: the interval over seeds holds zero."""
    row = verdict(panel(2e-4, spread=4e-4))["comparisons"][0]
    assert 0 < row["low"] < row["high"]
    assert row["seeds_low"] < 0 < row["seeds_high"]
    assert row["verdict"] == NEITHER


def test_too_few_blocks_have_no_verdict():
    found = verdict(panel(1e-2), Resampling(0.95, 0.01, 200, 60, 10, 7))
    assert {row["verdict"] for row in found["comparisons"]} == {TOO_FEW}
    assert found["sentences"][0] == "399 test sessions hold 7 independent blocks: too few for a verdict on any agent."
    assert found["sentences"][1].startswith("PPO has no verdict against every rule. Against the best of them, ")


def test_a_difference_is_that_of_the_interquartile_mean_and_the_rule():
    held = panel(1e-4)
    found = verdict(held)
    objective = 252 * 100 * np.nanmean(held.reward, axis=(1, 2))
    np.testing.assert_allclose(figures(held, 252.0)["objective"], objective)
    for row in found["comparisons"]:
        assert row["difference"] == pytest.approx(iqm(objective[2:]) - objective[FIELD.rules[row["rule"]]])
        assert row["low"] < row["difference"] < row["high"]
        assert row["seeds_low"] < row["difference"] < row["seeds_high"]
    agent = found["strategies"][-1]
    assert agent["objective"] == pytest.approx(iqm(objective[2:]))
    assert agent["seeds"]["objective"] == pytest.approx(objective[2:].tolist())
    assert agent["objective_low"] < agent["objective"] < agent["objective_high"]


def test_figures_are_those_of_the_portfolio_by_hand():
    wealth = np.array([[1.0, 1.1, 1.1 * 0.95]])
    held = Panel(np.zeros((1, 1, 3)), wealth, np.array([[0.0, 0.5, 0.25]]), np.array([[0.0, 1e-3, 1e-3]]))
    found = figures(held, 252.0)
    log = np.log([1.1, 0.95])
    assert found["annual_return"][0] == pytest.approx(np.expm1(252 * log.mean()))
    assert found["annual_volatility"][0] == pytest.approx(log.std() * np.sqrt(252))
    assert found["max_drawdown"][0] == pytest.approx(-0.05)
    assert found["turnover_per_year"][0] == pytest.approx(0.75 / 2 * 252)
    assert found["cost_per_year_percent"][0] == pytest.approx(0.2 / 2 * 252)
    crypto = figures(held, 365.0)
    assert crypto["annual_return"][0] == pytest.approx(np.expm1(365 * log.mean()))
    assert crypto["sharpe"][0] == pytest.approx(found["sharpe"][0] * np.sqrt(365 / 252))


def test_break_even_fees_by_hand():
    assert breakeven(np.array([2.0, 1.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0])) == 1.5
    assert breakeven(np.full(9, 1.0)) is None
    assert breakeven(np.linspace(-1, 3, 9)) == 0.0  # behind where trading is free
    assert breakeven(np.array([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])) == 5.0


def test_fees_are_shown_for_rules_and_the_interquartile_mean():
    fees = np.stack([np.array([0.03, 0.01, *np.full(10, 0.05)]) - bps * 1e-3 for bps in FEES_BPS])
    fees[:, 2:] -= np.array(FEES_BPS)[:, None] * 1e-3
    found = judged(panel(0.0), FIELD, BLOCKS, 252.0, fees, RESAMPLING)["fees"]
    assert found["objective"]["ppo"][:2] == pytest.approx([5.0, 4.8])
    assert found["objective"]["buy_and_hold"][3] == pytest.approx(0.5)
    # 5 - .2 f against 3 - .1 f and 1 - .1 f, in percent.
    assert found["breakeven_bps"]["ppo"] == pytest.approx({"cash": 25.0, "vol_target": 20.0, "buy_and_hold": 40.0})


def test_an_agent_that_beats_every_rule_is_named_first():
    def row(name: str, rule: str, difference: float, verdict: str) -> dict:
        bounds = {"low": difference - 0.5, "high": None}
        return {"algorithm": name, "rule": rule, "difference": difference, "verdict": verdict} | bounds

    rows = [
        row("ppo", "vol_target", 1.0, BEATS),
        row("ppo", "momentum", 2.0, BEATS),
        row("dqn", "vol_target", -1.0, WORSE),
        row("dqn", "momentum", 0.25, NEITHER),
    ]
    assert sentences({"comparisons": rows, "confidence": 0.95}) == [
        "PPO beats every rule, out of sample and after costs (4 comparisons, each at 95%).",
        "PPO beats every rule. Against the best of them, volatility target, the difference is +1.00 points of "
        "certainty-equivalent growth a year [+0.50, \N{EN DASH}].",
        "DQN does not beat momentum; is worse than volatility target. Against the best of them, volatility target, the "
        "difference is \N{MINUS SIGN}1.00 points of certainty-equivalent growth a year "
        "[\N{MINUS SIGN}1.50, \N{EN DASH}].",
    ]
    rows[0]["verdict"] = NEITHER
    first = sentences({"comparisons": rows, "confidence": 0.95})[0]
    assert first == "No agent beats every rule, out of sample and after costs (4 comparisons, each at 95%)."


def test_an_agent_that_never_moves_has_figures_without_a_sharpe_ratio():
    held = panel(0.0)
    still = Panel(held.reward.copy(), held.wealth.copy(), held.turnover, held.costs)
    still.reward[2:] = np.where(np.isfinite(still.reward[2:]), 0.0, np.nan)
    still.wealth[2:] = 1.0
    found = verdict(still)
    assert found["strategies"][-1]["sharpe"] is None
    assert found["strategies"][-1]["objective"] == 0.0
    json.dumps(found, allow_nan=False)
