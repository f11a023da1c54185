"""What a backtest is worth after all that was tried: counted, deflated by hand, and the choice of a model by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis, norm, skew

from models.trading.sizing import target_weight
from pipeline import backtest, deflation
from pipeline.config import Config
from pipeline.evidence import ledger, overfitting
from pipeline.evidence.ledger import Trial
from pipeline.registry import Registry
from pipeline.reporting import inputs, strategy
from pipeline.reporting.formats import UNKNOWN
from pipeline.store import Lake
from pipeline.traded import raced_weights, setting_of
from tests.pipeline.report_fixture import build as report_run
from tests.pipeline.trading_fixture import FIRST, LAST, NOW, RUN, build, forecast_rows, sessions_of, volatility

MODELS = {"ewma": 25, "garch": 5, "har": 12, "scale_skip": 2, "student": 0}
"""Model -> how many sessions its sigma lags behind the true one."""
LIVES = {"AAA": (FIRST, LAST), "BBB": ("2008-10-01", LAST)}


def trial(number: int, kind: str, measure: str = "pinball_gain_percent") -> Trial:
    return Trial(
        run_id=f"run{number}",
        kind=kind,
        settings={"number": number},
        data="data",
        data_versions={},
        seed=1,
        measure=measure,
        by_horizon={1: 0.5},
        verdict="none",
        started_at=NOW,
        code="code",
    )


def enter(config: Config, models: dict[str, int] | None = None) -> None:
    """Forecasts of a race of models beside those of the fixture."""
    lake = Lake(config.data.lake)
    held = lake.read("forecasts")
    every = sessions_of()
    sigma = pd.Series(volatility(len(every)), index=every)
    added = []
    for model, lag in (models or MODELS).items():
        for ticker, rows in held[(held["model"] == "int8") & (held["horizon"] == 5)].groupby("ticker"):
            days = pd.DatetimeIndex(rows["session"])
            added.append(forecast_rows(model, str(ticker), days, sigma.shift(lag).loc[days].to_numpy()))
    kept = held[~held["model"].isin(list(models or MODELS))]
    lake.replace("forecasts", pd.concat([kept, *added], ignore_index=True))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A backtest of a race of five models, after three configurations and a search of two settings."""
    found, _ = build(tmp_path_factory.mktemp("deflation"), LIVES)
    enter(found)
    kinds = ("cli", "cli", "flow", "tune", "tune")
    ledger.append(Lake(found.data.lake), [trial(n, kind) for n, kind in enumerate(kinds)])
    backtest.run(found)
    return found


def luck_of(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = Registry(config.data.artifacts).read_json(RUN, "backtest.json")["luck"]
    return found


def returns_of(config: Config, strategy: str) -> np.ndarray:
    with np.load(Registry(config.data.artifacts).run_dir(RUN) / "backtest_curves.npz") as file:
        at = (file["strategy"] == strategy) & (file["scope"] == "portfolio")
        wealth = file["wealth"][at][0]
    return wealth[1:] / wealth[:-1] - 1


def chance(r: np.ndarray, trials: int) -> float:
    """The deflated Sharpe ratio, written out from the paper with the variance of no skill."""
    sharpe, euler = r.mean() / r.std(ddof=1), 0.5772156649015329
    best = ((1 - euler) * norm.ppf(1 - 1 / trials) + euler * norm.ppf(1 - 1 / (trials * np.e))) / np.sqrt(len(r) - 1)
    spread = 1 - skew(r) * sharpe + (kurtosis(r, fisher=False) - 1) / 4 * sharpe**2
    return float(norm.cdf((sharpe - best) * np.sqrt(len(r) - 1) / np.sqrt(spread)))


def test_every_strategy_is_deflated_by_all_trials(config: Config) -> None:
    luck = luck_of(config)
    assert (luck["trials"], luck["forecaster_trials"]) == (5, {"cli": 2, "flow": 1, "tune": 2})
    assert [row["strategy"] for row in luck["strategies"]] == list(backtest.STRATEGIES)
    constant = returns_of(config, "constant")
    for row in luck["strategies"]:
        r = returns_of(config, row["strategy"])
        assert row["sharpe"]["probability"] == pytest.approx(chance(r, 5), abs=1e-9)
        assert row["sharpe"]["annual"] == pytest.approx(r.mean() / r.std(ddof=1) * np.sqrt(252))
        if row["strategy"] == "constant":
            assert row["gain"] is None
        else:
            assert row["gain"]["probability"] == pytest.approx(
                chance(r * constant.std() / r.std() - constant, 5), abs=1e-9
            )
            assert row["gain"]["deviation_of"] == "independent trials without skill"


def test_a_backtest_by_another_rule_is_one_more_trial(tmp_path: Path) -> None:
    config, _ = build(tmp_path, {"AAA": (FIRST, LAST)})
    lake = Lake(config.data.lake)
    ledger.append(lake, [trial(0, "flow")])
    backtest.run(config, kind="flow")
    backtest.run(config)
    first = luck_of(config)
    assert (first["trials"], first["further_rules"]) == (1, 0)
    (row,) = ledger.read(lake).query("measure == 'sharpe'").to_dict("records")
    assert (row["run_id"], row["kind"]) == (RUN, "flow")
    r = returns_of(config, "vol_target")
    assert ledger.sharpes(lake) == pytest.approx([r.mean() / r.std()])
    rule = config.backtest.model_copy(update={"target_volatility": 0.15})
    backtest.run(config.model_copy(update={"backtest": rule}))
    second = luck_of(config)
    assert (second["trials"], second["further_rules"], second["recorded_sharpes"]) == (2, 1, 2)
    for before, after in zip(first["strategies"], second["strategies"], strict=True):
        if before["strategy"] == "buy_and_hold":  # the same curve, one more trial
            assert after["sharpe"]["probability"] < before["sharpe"]["probability"]
    # The rule of before again: nothing new was tried.
    backtest.run(config)
    assert luck_of(config)["trials"] == 2


def test_the_choice_of_a_model_by_its_backtest(config: Config) -> None:
    models = luck_of(config)["models"]
    assert models["models"] == sorted(MODELS)
    lake = Lake(config.data.lake)
    setting = setting_of(config, lake, RUN, Registry(config.data.artifacts).read_json(RUN, "training.json"))
    weights = raced_weights(config, lake, RUN, setting)
    assert list(weights) == sorted(MODELS)
    np.testing.assert_array_equal(weights["ewma"], setting.weights[1])
    np.testing.assert_array_equal(weights["student"], setting.weights[0])  # int8 knows the true sigma, as it does
    curves = np.stack([_portfolio(config, setting.opens, each) for each in weights.values()], axis=1)
    np.testing.assert_allclose(np.diff(curves[:, -1]) / curves[:-1, -1], returns_of(config, "vol_target"), atol=1e-9)
    assert (models["blocks"], models["splits"], models["sessions"]) == (16, 12_870, len(curves) - 1)
    found = overfitting.backtest_overfitting(np.diff(curves, axis=0) / curves[:-1], 16)
    assert models["probability"] == pytest.approx(found.probability, abs=1e-3)
    assert 0 < found.probability < 1


def _portfolio(config: Config, opens: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One portfolio of equal sleeves, open by open in a plain loop; NaN opens are tickers not listed yet."""
    rate = (config.backtest.half_spread_bps + config.backtest.commission_bps) / 1e4
    wealth, held, curve = 1.0, np.zeros(opens.shape[1]), [1.0]
    for t in range(len(opens) - 1):
        listed = np.isfinite(weights[t])
        moves = np.where(held > 0, opens[t + 1] / opens[t], 1.0)
        held = held * moves
        wealth = wealth + held.sum() - (held / moves).sum()
        share = 1 / listed.sum()
        target = np.where(listed, np.nan_to_num(weights[t]) * share, 0.0)
        trade = np.abs(held / wealth - target) > config.backtest.band * share
        after = wealth
        for _ in range(60):  # costs come out of what the weights are taken of
            after = wealth - rate * np.abs(np.where(trade, target * after - held, 0.0)).sum()
        held, wealth = np.where(trade, target * after, held), after
        curve.append(wealth)
    return np.array(curve)


def test_models_that_cannot_be_ranked_are_left_aside(config: Config, tmp_path: Path) -> None:
    other, _ = build(tmp_path, {"AAA": (FIRST, LAST)})
    enter(other, {**MODELS, "boosting": 2, "always_up": 3, "lstm": 9})
    lake = Lake(other.data.lake)
    rows = lake.read("forecasts")
    gap = (rows["model"] == "lstm") & (rows["session"] == rows["session"].median())
    assert gap.any()
    lake.replace("forecasts", rows[~gap].reset_index(drop=True))
    backtest.run(other)
    models = luck_of(other)["models"]
    # boosting trades as scale_skip does, always_up has no sigma of its own, lstm misses a session
    assert models["models"] == sorted({*MODELS, "boosting"} - {"scale_skip"})
    assert models["same_as_another"] == ["scale_skip"]


@pytest.mark.parametrize(
    ("models", "sessions", "reason"),
    [(3, 500, "3 models with curves of their own are fewer than 4"), (5, 100, "100 sessions are fewer than 120")],
)
def test_too_little_to_rank_is_said(models: int, sessions: int, reason: str) -> None:
    r = np.random.default_rng(1).normal(0, 0.01, (models, sessions))
    curves = np.cumprod(np.hstack([np.ones((models, 1)), 1 + r]), axis=1)
    raced = {f"m{n}": curve for n, curve in enumerate(curves)}
    wealth = dict.fromkeys(backtest.STRATEGIES, curves[0])
    found = deflation.judged(wealth, raced, deflation.Tried(3, {"cli": 3}, 0, np.array([])), 0.95, 252)
    assert found["models"]["reason"] == reason
    assert found["sentence"].endswith(f"; no probability of overfitting among models: {reason}.")
    assert all(row["gain"] is None for row in found["strategies"])  # nothing is gained over oneself


def test_a_portfolio_that_never_moved_is_said_to_be() -> None:
    wealth = dict.fromkeys(backtest.STRATEGIES, np.ones(300))
    found = deflation.judged(wealth, {}, deflation.Tried(1, {}, 0, np.array([])), 0.95, 252)
    assert found["sentence"].startswith("After 1 trial: the portfolio never moved")
    assert all(row["sharpe"] is None for row in found["strategies"])


def test_a_model_that_is_better_everywhere_is_no_luck() -> None:
    r = np.random.default_rng(2).normal(0, 0.01, (6, 800))
    r[2] += 0.004
    raced = {f"m{n}": np.cumprod(1 + each) for n, each in enumerate(r)}
    wealth = dict.fromkeys(backtest.STRATEGIES, raced["m2"])
    found = deflation.judged(wealth, raced, deflation.Tried(10, {"cli": 10}, 0, np.array([])), 0.95, 252)
    assert found["models"]["probability"] == 0
    assert found["strategies"][0]["sharpe"]["verdict"] == "shown"
    assert "(shown at 95%)" in found["sentence"]


def test_more_exposure_is_no_gain() -> None:
    r = np.random.default_rng(4).normal(0.001, 0.01, 700)
    wealth = {name: np.cumprod(1 + (2 * r if name == "buy_and_hold" else r)) for name in backtest.STRATEGIES}
    found = deflation.judged(wealth, {}, deflation.Tried(3, {"cli": 3}, 0, np.array([])), 0.95, 252)
    by_name = {row["strategy"]: row for row in found["strategies"]}
    assert by_name["buy_and_hold"]["gain"] is None
    assert by_name["buy_and_hold"]["sharpe"]["probability"] == pytest.approx(
        by_name["constant"]["sharpe"]["probability"]
    )


def test_weights_are_those_of_the_sizing_rule(config: Config) -> None:
    lake = Lake(config.data.lake)
    setting = setting_of(config, lake, RUN, Registry(config.data.artifacts).read_json(RUN, "training.json"))
    weights = raced_weights(config, lake, RUN, setting)["garch"]
    rows = lake.read("forecasts", "model = 'garch' AND horizon = 5 AND ticker = 'AAA'").set_index("session")["sigma"]
    expected = target_weight(rows.reindex(setting.sessions).to_numpy(), 5, 0.10, 1.0)
    np.testing.assert_array_equal(weights[:, 0], expected)


def test_the_report_shows_it(tmp_path: Path) -> None:
    loaded = inputs.load(report_run(tmp_path))
    plain = strategy.strategy_table(loaded)
    r = np.random.default_rng(3).normal(0.0005, 0.01, (4, 600))
    wealth = {name: np.cumprod(1 + each) for name, each in zip(backtest.STRATEGIES, r, strict=True)}
    luck = deflation.judged(wealth, {}, deflation.Tried(34, {"flow": 3, "tune": 30}, 1, np.array([])), 0.95, 252)
    table = strategy.strategy_table(replace(loaded, backtest={**loaded.backtest, "luck": luck}))
    assert table.head == (*plain.head, "Deflated", "Gain, deflated")
    first, constant = luck["strategies"][0], luck["strategies"][2]
    assert table.rows[0] == (
        *plain.rows[0],
        f"{first['sharpe']['probability']:.0%}",
        f"{first['gain']['probability']:.0%}",
    )
    assert table.rows[2][-2:] == (f"{constant['sharpe']['probability']:.0%}", UNKNOWN)
    counted = "Trials in the ledger: 3 trained by the flow, 30 tried by a search and 1 by another rule of the backtest"
    assert f"{counted}; their Sharpe ratios are taken to spread as those of independent trials" in table.caption
    assert table.caption.endswith(luck["sentence"])
