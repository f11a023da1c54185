import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import backtest
from pipeline.errors import DataError, StoreError
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.pipeline.trading_fixture import LAST, RUN, build, config_at, price_rows, sessions_of

FIGURES = (
    "annual_return", "annual_volatility", "sharpe", "sharpe_low", "sharpe_high", "max_drawdown",
    "realised_vol_p05", "realised_vol_p95", "turnover_per_year", "cost_per_year_percent", "breakeven_bps",
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory):
    config, prices = build(tmp_path_factory.mktemp("backtest"))
    return config, prices, backtest.run(config)


def row_of(content: dict, strategy: str, scope: str) -> dict:
    return next(r for r in content["strategies"] if (r["strategy"], r["scope"]) == (strategy, scope))


def curves_of(config) -> dict[tuple[str, str], np.ndarray]:
    with np.load(Registry(config.data.artifacts).run_dir(RUN) / "backtest_curves.npz") as file:
        assert file["wealth"].shape == (len(file["strategy"]), len(file["sessions"]))
        assert file["realised_vol"].shape == file["wealth"].shape
        keys = zip(file["strategy"].tolist(), file["scope"].tolist(), strict=True)
        return dict(zip(keys, file["wealth"], strict=True))


def test_every_strategy_in_every_scope_has_its_figures(done):
    config, _, _ = done
    content = Registry(config.data.artifacts).read_json(RUN, "backtest.json")
    keys = {(r["strategy"], r["scope"]) for r in content["strategies"]}
    assert keys == {(s, g) for s in backtest.STRATEGIES for g in ("portfolio", "AAA", "BBB", "CCC")}
    assert all(name in row for row in content["strategies"] for name in FIGURES)
    assert content["costs"] == {"half_spread_bps": 2.0, "commission_bps": 1.0}
    assert (content["first"], content["last"]) == ("2008-01-02", LAST)
    assert content["model"] == "int8"
    assert "hindsight" in row_of(content, "constant", "portfolio")["label"]


def test_targeting_a_known_volatility_holds_it(done):
    _, _, summary = done
    for scope in ("AAA", "BBB", "CCC"):
        held, other = (row_of(summary.figures, s, scope) for s in ("vol_target", "buy_and_hold"))
        assert held["annual_volatility"] == pytest.approx(0.10, abs=0.015)
        width, against = (r["realised_vol_p95"] - r["realised_vol_p05"] for r in (held, other))
        assert width < against / 3


def test_the_constant_exposure_has_the_same_volatility(done):
    _, _, summary = done
    for scope in ("portfolio", "AAA"):
        held, constant = (row_of(summary.figures, s, scope) for s in ("vol_target", "constant"))
        assert constant["annual_volatility"] == pytest.approx(held["annual_volatility"], rel=2e-3)


def test_bought_and_held_is_the_adjusted_price_less_one_cost(done):
    config, prices, _ = done
    aaa = prices[(prices["ticker"] == "AAA") & (prices["session"] >= "2008-01-02")]
    opens = (aaa["open"] * aaa["adj_close"] / aaa["close"]).to_numpy()
    wealth = curves_of(config)["buy_and_hold", "AAA"]
    np.testing.assert_allclose(wealth[1:], opens[1:] / opens[1] / 1.0003, rtol=1e-9)


def test_a_ticker_that_ended_stays_closed(done):
    config, _, _ = done
    wealth = curves_of(config)["vol_target", "CCC"]
    ended = np.isfinite(wealth).nonzero()[0][-1]
    after = sessions_of("2008-01-02")[ended]
    assert pd.Timestamp("2009-09-30") < after < pd.Timestamp("2009-10-15")


def test_a_late_ticker_starts_at_one(done):
    config, _, _ = done
    wealth = curves_of(config)["vol_target", "BBB"]
    assert wealth[np.isfinite(wealth)][0] == 1
    assert sessions_of("2008-01-02")[np.isfinite(wealth)][0] == pd.Timestamp("2008-10-01")


def test_positions_are_the_weights_decided(done):
    config, _, _ = done
    rows = Lake(config.data.lake).read("positions")
    assert set(rows["strategy"]) == set(backtest.STRATEGIES)
    assert set(rows["fold"]) == {"2008", "2009", "2010"}
    assert (rows["fold"] == rows["session"].dt.year.astype("str")).all()
    assert rows["weight"].between(0, 1).all()
    assert not rows.duplicated(["strategy", "ticker", "session"]).any()
    assert (rows.loc[rows["strategy"] == "buy_and_hold", "weight"] == 1).all()
    forecasts = Lake(config.data.lake).read("forecasts", "model = 'int8' AND horizon = 5 AND ticker = 'AAA'")
    held = rows[(rows["strategy"] == "vol_target") & (rows["ticker"] == "AAA")]
    both = held.merge(forecasts, on="session")
    expected = np.clip(0.10 / (both["sigma"] / np.sqrt(5) * np.sqrt(252)), 0, 1)
    np.testing.assert_allclose(both["weight"], expected)
    assert len(both) == len(held)


def test_a_second_run_changes_nothing(done):
    config, _, _ = done
    registry, lake = Registry(config.data.artifacts), Lake(config.data.lake)
    path = registry.run_dir(RUN) / "backtest.json"
    before, version, curves = path.read_bytes(), lake.version("positions"), curves_of(config)
    backtest.run(config)
    assert path.read_bytes() == before
    assert lake.version("positions") == version
    for key, wealth in curves_of(config).items():
        assert wealth.tobytes() == curves[key].tobytes()


def test_later_prices_and_forecasts_change_no_earlier_wealth(tmp_path: Path):
    config, prices = build(tmp_path)
    backtest.run(config)
    before = curves_of(config)
    cut = pd.Timestamp("2009-06-01")
    later = prices[prices["session"] >= cut].copy()
    later[["open", "high", "low", "close", "adj_close"]] *= 1.7
    lake = Lake(config.data.lake)
    lake.upsert_prices(later.reset_index(drop=True))
    forecasts = lake.read("forecasts")
    forecasts.loc[forecasts["session"] >= cut, "sigma"] *= 3
    lake.replace("forecasts", forecasts)
    backtest.run(config)
    n = int(sessions_of("2008-01-02").searchsorted(cut))
    after = curves_of(config)
    for key in before:
        if key[0] != "constant":  # it looks back over everything, and says so
            assert before[key][:n].tobytes() == after[key][:n].tobytes(), key
            assert before[key].tobytes() != after[key].tobytes()


def test_costs_lower_every_return(tmp_path: Path):
    config, _ = build(tmp_path, {"AAA": ("2007-01-03", LAST)})
    rule = config.backtest.model_copy(update={"half_spread_bps": 0.0, "commission_bps": 0.0})
    free = config.model_copy(update={"backtest": rule})
    cheap, dear = backtest.run(free).figures, backtest.run(config).figures
    for strategy in ("vol_target", "ewma_target", "buy_and_hold"):
        one, other = (row_of(figures, strategy, "AAA") for figures in (cheap, dear))
        assert one["annual_return"] > other["annual_return"]
        assert one["cost_per_year_percent"] == 0 < other["cost_per_year_percent"]


def test_a_kept_baseline_is_backtested_by_its_own_rows(tmp_path: Path):
    config, _ = build(tmp_path, {"AAA": ("2007-01-03", LAST)}, status="baseline")
    figures = backtest.run(config).figures
    assert figures["model"] == "ewma"
    held, ewma = (row_of(figures, s, "AAA") for s in ("vol_target", "ewma_target"))
    assert held["annual_return"] == ewma["annual_return"]


def test_the_summary_reads_and_parses(done):
    _, _, summary = done
    assert summary.lines[0].startswith("backtest of int8: 2008-01-02 to 2010-06-30, fills at the next open")
    assert summary.lines[0].endswith("3 bps a side")
    assert len(summary.lines) == 7
    assert summary.lines[-1] == summary.figures["luck"]["sentence"]
    assert json.loads(summary.to_json())["figures"]["run_id"] == RUN


def test_live_positions_are_left_alone(tmp_path: Path):
    config, _ = build(tmp_path, {"AAA": ("2007-01-03", LAST)})
    backtest.run(config)
    lake = Lake(config.data.lake)
    rows = lake.read("positions")
    lake.replace("positions", pd.concat([rows, rows.tail(1).assign(fold="live")], ignore_index=True))
    backtest.run(config)
    assert (lake.read("positions")["fold"] == "live").sum() == 1


def test_nothing_trained_is_an_error(tmp_path: Path):
    with pytest.raises(StoreError, match="tradewind train"):
        backtest.run(config_at(tmp_path))


def test_missing_forecasts_name_the_command(tmp_path: Path):
    config, _ = build(tmp_path, {"AAA": ("2007-01-03", LAST)})
    lake = Lake(config.data.lake)
    lake.replace("forecasts", lake.read("forecasts", "model = 'ewma'"))
    with pytest.raises(StoreError, match=r"forecasts of int8.*tradewind compress"):
        backtest.run(config)


def test_forecasts_without_prices_are_an_error(tmp_path: Path):
    config, _ = build(tmp_path, {"AAA": ("2007-01-03", LAST)})
    lake = Lake(config.data.lake)
    lake.replace("prices", price_rows("ZZZ", sessions_of("2009-01-02", "2009-02-02"), 1))
    with pytest.raises(DataError, match="price"):
        backtest.run(config)


def leaves(config, ticker: str, first: str, last: str) -> None:
    """Take the forecasts of a ticker away, though it goes on trading."""
    lake = Lake(config.data.lake)
    forecasts = lake.read("forecasts")
    gone = (forecasts["ticker"] == ticker) & forecasts["session"].between(first, last)
    assert gone.any()
    lake.replace("forecasts", forecasts[~gone].reset_index(drop=True))


def test_a_ticker_that_leaves_the_universe_is_sold_and_may_come_back(tmp_path: Path):
    lives = {"AAA": ("2007-01-03", LAST), "BBB": ("2007-01-03", LAST)}
    config, _ = build(tmp_path, lives)
    backtest.run(config)
    before = curves_of(config)
    leaves(config, "BBB", "2009-03-02", "2009-08-31")
    backtest.run(config)
    after = curves_of(config)
    days = sessions_of("2008-01-02")
    # The first bar without a forecast is that of 03-02: sold at the open of 03-03, bought on 09-02 for the forecast
    # of 09-01.
    out = (days >= "2009-03-03") & (days <= "2009-09-02")
    for strategy in ("vol_target", "ewma_target", "buy_and_hold"):
        flat = after[strategy, "BBB"][out]
        assert len(set(flat[:-1].tolist())) == 1, strategy
        held = days < "2009-03-03"
        assert after[strategy, "BBB"][held].tobytes() == before[strategy, "BBB"][held].tobytes()
        assert after[strategy, "AAA"].tobytes() == before[strategy, "AAA"].tobytes()
        assert after[strategy, "BBB"][-1] != flat[0]
    # Meanwhile the portfolio is the other ticker, whole.
    moves = [np.diff(np.log(after["buy_and_hold", scope]))[out[1:]] for scope in ("portfolio", "AAA")]
    np.testing.assert_allclose(moves[0][1:-1], moves[1][1:-1], rtol=1e-9)
    rows = Lake(config.data.lake).read("positions", "ticker = 'BBB'")
    assert not rows["session"].between("2009-03-02", "2009-08-31").any()


def test_a_ticker_that_leaves_for_good_ends_in_cash(tmp_path: Path):
    config, _ = build(tmp_path, {"AAA": ("2007-01-03", LAST), "BBB": ("2007-01-03", LAST)})
    leaves(config, "BBB", "2009-03-02", LAST)
    backtest.run(config)
    days, after = sessions_of("2008-01-02"), curves_of(config)
    known = np.isfinite(after["vol_target", "BBB"])
    assert days[known][-1] == pd.Timestamp("2009-03-02")  # the last one listed is 02-27, closed an open later
    assert days[np.isfinite(after["vol_target", "AAA"])][-1] == days[-1]


def test_a_halt_is_no_leaving(tmp_path: Path):
    config, prices = build(tmp_path, {"AAA": ("2007-01-03", LAST), "BBB": ("2007-01-03", LAST)})
    leaves(config, "BBB", "2009-03-02", "2009-03-04")
    lake = Lake(config.data.lake)
    halted = (prices["ticker"] == "BBB") & prices["session"].between("2009-03-02", "2009-03-04")
    lake.replace("prices", prices[~halted].reset_index(drop=True))
    backtest.run(config)
    held = curves_of(config)["buy_and_hold", "BBB"]
    days = sessions_of("2008-01-02")
    span = (days >= "2009-02-27") & (days <= "2009-03-06")
    opens = prices[(prices["ticker"] == "BBB") & prices["session"].isin(pd.to_datetime(["2009-02-27", "2009-03-06"]))]
    ratio = opens["open"].iloc[1] / opens["open"].iloc[0]
    np.testing.assert_allclose(held[span][-1] / held[span][0], ratio, rtol=1e-9)


def test_the_universe_is_told(tmp_path: Path):
    config, _ = build(tmp_path, {"AAA": ("2007-01-03", LAST)})
    assert backtest.run(config).figures["universe_note"].startswith("Universe chosen with hindsight: its tickers are")
    registry = Registry(config.data.artifacts)
    facts = {"members": "m.csv", "hindsight": False, "tickers": 1, "spells": 1, "missing": []}
    registry.write_json(RUN, "training.json", {**registry.read_json(RUN, "training.json"), "universe": facts})
    note = backtest.run(config).figures["universe_note"]
    assert note.startswith("Universe dated by m.csv: 1 tickers in 1 spells, all of them with prices. All strategies")
