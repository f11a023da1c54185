import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.trading.market import Costs
from models.trading.sleeves import Sleeves
from pipeline import agent, agent_policies, agent_trades, deflation
from pipeline.agent_data import task_of
from pipeline.agent_trades import RULES
from pipeline.config import Config
from pipeline.errors import DataError, StoreError, TooLittleHistoryError, UsageError
from pipeline.evidence import ledger
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.pipeline.agent_fixture import (
    TRUSTED,
    Copycat,
    Hopeless,
    configured,
    evaluated,
    learners,
    trained,
)
from tests.pipeline.trading_fixture import LAST, RUN, build, config_at, sessions_of

FILES = (agent.TRAINED, agent.POLICIES, agent.CURVES, agent.EVALUATED, agent.WEALTH)
CUT = pd.Timestamp("2010-03-01")
"""Inside the second test block."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("agent")
    config, trained_summary = trained(root)
    return root, config, trained_summary, evaluated(config)


def home(config: Config) -> Path:
    return Registry(config.data.artifacts).run_dir(RUN)


def fits(root: Path) -> int:
    return len((root / "log").read_text().splitlines())


def wealth_of(config: Config) -> dict[tuple[str, int], np.ndarray]:
    with np.load(home(config) / agent.WEALTH) as file:
        keys = zip(file["strategy"].tolist(), file["seed"].tolist(), strict=True)
        return dict(zip(keys, file["wealth"], strict=True))


def altered_after(config: Config, prices: pd.DataFrame, cut: pd.Timestamp) -> None:
    """Other prices and other forecasts from a session on."""
    lake = Lake(config.data.lake)
    later = prices[prices["session"] >= cut].copy()
    later[["open", "high", "low", "close", "adj_close"]] *= 1.7
    lake.upsert_prices(later.reset_index(drop=True))
    forecasts = lake.read("forecasts")
    late = forecasts["session"] >= cut
    forecasts.loc[late, "sigma"] *= 3
    forecasts.loc[late, "p_up"] = 0.9
    lake.replace("forecasts", forecasts)


# -- what is trained ------------------------------------------------------------------------------------------


def test_every_algorithm_learns_in_every_block_by_every_seed(done):
    root, config, summary, _ = done
    held = agent_policies.read(home(config) / agent.POLICIES, TRUSTED)
    expected = [
        (name, block, seed)
        for name in ("q_table", "genetic")
        for block in ("2009", "2010", "live")
        for seed in range(7, 11)
    ]
    assert [each[:3] for each in held] == expected
    assert fits(root) == len(expected)
    with np.load(home(config) / agent.CURVES, allow_pickle=False) as file:
        assert list(zip(file["algorithm"], file["block"], file["seed"], strict=True)) == expected
        assert file["length"].tolist() == [2] * len(expected)
        assert len(file["steps"]) == len(file["reward"]) == 2 * len(expected)
    assert summary.lines[0] == "agents of run r0001: 8, each on 2 test blocks and live; 2,000 steps, 5 bps a side"


def test_training_ends_before_the_test_by_the_purge_and_the_embargo(done):
    _, config, summary, _ = done
    first, second, live = summary.figures["blocks"]
    days = sessions_of("2008-01-02")
    for block, start in ((first, "2009-07-01"), (second, "2010-01-04")):
        assert block["test_first"] == start
        gap = days.searchsorted(pd.Timestamp(start)) - days.searchsorted(pd.Timestamp(block["train_last"]))
        assert gap == config.purge + config.splits.embargo + 1
    assert (first["test_last"], second["test_last"]) == ("2009-12-31", LAST)
    assert live == {"name": "live", "train_first": "2008-01-02", "train_last": LAST}


def test_the_task_is_what_the_lake_says(done):
    _, config, _, _ = done
    task = task_of(config, Lake.of(config.data), Registry(config.data.artifacts))
    expected = ("log_vol_h1", "log_vol_h5", "log_vol_h20", "q10", "q90", "p_up_h1", "p_up_h5", "p_up_h20")
    assert task.columns == (*expected, "rule_weight")
    rows = Lake(config.data.lake).read("forecasts", "model = 'int8' AND horizon = 5 AND ticker = 'AAA'")
    t, n = task.setting.sessions.get_indexer(pd.DatetimeIndex(rows["session"])), task.setting.tickers.index("AAA")
    sigma = rows["sigma"].to_numpy()
    seen = task.observed[t, n]
    np.testing.assert_allclose(seen[:, 1], np.log(sigma * np.sqrt(252 / 5) / 0.10), rtol=1e-5)
    np.testing.assert_allclose(seen[:, 3], -1.3, rtol=1e-5)  # q10 in units of sigma
    np.testing.assert_allclose(seen[:, 8], np.clip(0.10 / (sigma * np.sqrt(252 / 5)), 0, 1), rtol=1e-5)
    assert not task.ready[:, task.setting.tickers.index("BBB")][task.setting.sessions < "2008-10-01"].any()


def test_a_market_holds_nothing_from_the_end_of_training_on(done):
    _, config, _, _ = done
    task = task_of(config, Lake.of(config.data), Registry(config.data.artifacts))
    block = task.blocks[0]
    markets = task.markets(block)
    assert np.isfinite(markets.opens).sum(axis=(1, 2)).max() <= block.train_end
    playable = task.ready[: block.train_end]
    # The last two sessions of training have no fill, or no open after it, within training.
    assert markets.playable.sum() == playable[: block.train_end - 2].sum()
    last = {float(x) for x in task.setting.opens[block.train_end - 1]}
    assert last & {float(x) for x in markets.opens.ravel()}
    after = {float(x) for x in task.setting.opens[block.train_end :].ravel() if np.isfinite(x)}
    assert not after & {float(x) for x in markets.opens.ravel()}


# -- no look-ahead, same bytes, resumption ------------------------------------------------------------------------


def test_a_changed_future_changes_no_agent_and_no_trade_before_it(tmp_path: Path):
    config, prices = build(tmp_path)
    config = configured(config)
    agent.train(config, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    evaluated(config)
    before, kept = wealth_of(config), agent_policies.read(home(config) / agent.POLICIES, TRUSTED)
    rules, files = (json.loads((home(config) / agent.TRAINED).read_text())[key] for key in ("rules", "scaling"))
    count = fits(tmp_path)
    altered_after(config, prices, CUT)
    agent.train(config, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    assert fits(tmp_path) == count + 8  # only the live agents learn anew
    evaluated(config)
    again = agent_policies.read(home(config) / agent.POLICIES, TRUSTED)
    for one, other in zip(kept, again, strict=True):
        same = one.policy.gain.tobytes() == other.policy.gain.tobytes()
        assert same == (one.block != "live"), one[:3]
    content = json.loads((home(config) / agent.TRAINED).read_text())
    assert content["rules"][:2] == rules[:2]
    assert {name: content["scaling"][name] for name in ("2009", "2010")} == {n: files[n] for n in ("2009", "2010")}
    assert content["scaling"]["live"] != files["live"]
    n = int(sessions_of("2009-07-01").searchsorted(CUT))
    after = wealth_of(config)
    assert set(after) == set(before)
    for key, wealth in before.items():
        assert wealth[:n].tobytes() == after[key][:n].tobytes(), key
        assert wealth.tobytes() != after[key].tobytes() or (key[0] == "constant" and wealth[-1] == 1), key


def test_the_same_seed_gives_the_same_bytes(done, tmp_path: Path):
    _, config, _, _ = done
    other, _ = trained(tmp_path)
    evaluated(other)
    for name in FILES:
        assert (home(config) / name).read_bytes() == (home(other) / name).read_bytes(), name


def test_another_seed_gives_other_agents(done, tmp_path: Path):
    _, config, _, _ = done
    other = config.model_copy(update={"models": config.models.model_copy(update={"seed": 100})})
    other = other.model_copy(update={"data": configured(build(tmp_path)[0]).data})
    agent.train(other, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    one, two = (agent_policies.read(home(each) / agent.POLICIES, TRUSTED) for each in (config, other))
    assert all(a.policy.gain.tobytes() != b.policy.gain.tobytes() for a, b in zip(one, two, strict=True))


def test_what_is_trained_is_not_trained_again_and_more_seeds_cost_only_what_is_new(tmp_path: Path):
    config, first = trained(tmp_path, algorithms=("genetic",), seeds=2)
    assert fits(tmp_path) == 6
    again = agent.train(config, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    assert fits(tmp_path) == 6
    assert again.figures == first.figures
    more = configured(config, algorithms=("q_table", "genetic"), seeds=3)
    agent.train(more, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    assert fits(tmp_path) == 6 + 3 + 9
    dearer = configured(config, algorithms=("genetic",), seeds=2, cost_bps=7.0)
    agent.train(dearer, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    assert fits(tmp_path) == 18 + 6


@pytest.mark.slow
def test_processes_change_no_byte(done, tmp_path: Path):
    _, config, _, _ = done
    other = configured(build(tmp_path)[0])
    other = other.model_copy(update={"models": other.models.model_copy(update={"processes": 2})})
    agent.train(other, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    assert (home(config) / agent.POLICIES).read_bytes() == (home(other) / agent.POLICIES).read_bytes()


def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(done, tmp_path: Path):
    _, config, _, _ = done
    other = configured(build(tmp_path)[0])
    (tmp_path / "die_after").write_text("9")
    code = "import sys; from tests.pipeline.agent_fixture import again; again(sys.argv[1])"
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert child.returncode == -signal.SIGKILL
    assert len(list((home(other) / "agents").glob("*.npz"))) == 8  # the ninth died in its fit
    assert not (home(other) / agent.TRAINED).exists()
    (tmp_path / "die_after").unlink()
    agent.train(other, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    assert fits(tmp_path) == 24 + 1
    for name in (agent.TRAINED, agent.POLICIES, agent.CURVES):
        assert (home(config) / name).read_bytes() == (home(other) / name).read_bytes(), name
    assert ledger.count(Lake(other.data.lake), ledger.AGENT).trials == 8


# -- the ledger -----------------------------------------------------------------------------------------------


def test_every_seed_is_a_trial_once_and_the_deflated_ratio_counts_it(done):
    root, config, _, summary = done
    lake = Lake(config.data.lake)
    rows = ledger.read(lake)
    assert ledger.count(lake, ledger.AGENT).trials == 8
    assert sorted(rows.drop_duplicates("trial_id")["seed"]) == sorted([7, 8, 9, 10] * 2)
    assert {json.loads(settings)["algorithm"] for settings in rows["settings"]} == {"q_table", "genetic"}
    assert rows["verdict"].tolist().count("evaluated") == 8
    tried = deflation.tried(lake)
    assert (tried.trials, tried.agents, tried.kinds, tried.rules) == (8, 8, {}, 0)
    assert len(tried.sharpes) == 8
    assert (summary.figures["deflated"]["trials"], summary.figures["deflated"]["agents"]) == (8, 8)
    agent.train(config, learners=learners(root / "log"), trusted=TRUSTED)
    evaluated(config)
    pd.testing.assert_frame_equal(ledger.read(lake), rows)


def test_the_recorded_sharpe_ratio_is_that_of_the_portfolio(done):
    _, config, _, _ = done
    held = {}
    for row in ledger.read(Lake(config.data.lake)).to_dict("records"):
        held |= {(json.loads(row["settings"])["algorithm"], row["seed"]): json.loads(row["figures"])}
    for key, wealth in wealth_of(config).items():
        if key[1] >= 0:
            r = np.diff(wealth[np.isfinite(wealth)]) / wealth[np.isfinite(wealth)][:-1]
            assert held[key]["sharpe"] == pytest.approx(r.mean() / r.std())


# -- the evaluation -------------------------------------------------------------------------------------------


def test_every_rule_and_every_algorithm_has_its_figures(done):
    _, config, _, summary = done
    rows = {row["strategy"]: row for row in summary.figures["strategies"]}
    assert list(rows) == [*RULES, "q_table", "genetic"]
    assert all(len(rows[name]["seeds"]["objective"]) == 4 for name in ("q_table", "genetic"))
    assert len(summary.figures["comparisons"]) == 2 * len(RULES)
    assert set(wealth_of(config)) == {(name, -1) for name in RULES} | {
        (name, seed) for name in ("q_table", "genetic") for seed in range(7, 11)
    }
    assert summary.figures == json.loads((home(config) / agent.EVALUATED).read_text()) | {"run_id": RUN}


def test_the_volatility_target_is_that_of_the_backtest_at_the_agents_cost(done):
    _, config, _, _ = done
    task = task_of(config, Lake.of(config.data), Registry(config.data.artifacts))
    at = int(task.setting.sessions.searchsorted(pd.Timestamp("2009-07-01")))
    sleeves = Sleeves(
        task.setting.opens[at:], task.setting.listed[at:], Costs(4.0, 1.0), 0.05, True, task.setting.own[at:]
    )
    expected = sleeves.run(task.setting.weights[:1, at:]).wealth[0, 0]
    np.testing.assert_allclose(wealth_of(config)["vol_target", -1], expected, rtol=1e-12)


def test_a_policy_that_follows_the_rule_earns_what_the_rule_earns(tmp_path: Path):
    config = configured(build(tmp_path)[0], algorithms=("ppo",), seeds=2, pretrain="band")
    agent.train(config, learners={"ppo": lambda wanted: Copycat(wanted.teacher)}, trusted=TRUSTED)
    found = evaluated(config).figures
    rows = {row["strategy"]: row for row in found["strategies"]}
    for name in ("objective", "annual_return", "sharpe", "turnover_per_year", "cost_per_year_percent"):
        assert rows["ppo"][name] == pytest.approx(rows["vol_target_band"][name], rel=1e-6)
    pair = next(row for row in found["comparisons"] if row["rule"] == "vol_target_band")
    assert pair["difference"] == pytest.approx(0, abs=1e-9)
    assert pair["verdict"] == "does not beat"


def test_pretraining_on_the_plain_rule_or_on_none(tmp_path: Path):
    config, _ = build(tmp_path)
    for pretrain, expected in (("target", 0.0), ("none", None)):
        made = []
        settings = configured(config, algorithms=("dqn",), seeds=2, pretrain=pretrain)

        def make(wanted, made=made):
            made.append(wanted.teacher)
            return Copycat(wanted.teacher or agent.agent_trades.Banded(0, 0.0, 1.0, 0.5))

        agent.train(settings, learners={"dqn": make}, trusted=TRUSTED)
        assert {getattr(teacher, "band", None) for teacher in made} == {expected}


def test_a_higher_fee_earns_less_and_each_fee_is_there(done):
    _, _, _, summary = done
    fees = summary.figures["fees"]
    for name in (*RULES, "q_table", "genetic"):
        assert np.all(np.diff(fees["objective"][name]) <= 1e-12), name
    at = fees["bps"].index(5.0)
    rows = {row["strategy"]: row for row in summary.figures["strategies"]}
    assert fees["objective"]["momentum"][at] == pytest.approx(rows["momentum"]["objective"])
    assert fees["objective"]["genetic"][at] == pytest.approx(rows["genetic"]["objective"])


def test_the_table_is_told_again_by_compare(done):
    _, config, _, summary = done
    assert agent.compare(config).lines == summary.lines
    assert summary.lines[0].startswith("agents on the forecasts of int8: 2009-07-01 to 2010-06-30, 3 tickers, 4 seeds")
    assert all(line in summary.lines for line in summary.figures["sentences"])
    assert json.loads(summary.to_json())["stage"] == "agent evaluate"


# -- what can go wrong ------------------------------------------------------------------------------------------


def test_nothing_trained_names_the_command(tmp_path: Path):
    config = configured(config_at(tmp_path))
    for stage in (agent.train, agent.evaluate, agent.compare):
        with pytest.raises(StoreError, match="run: tradewind train"):
            stage(config)


def test_no_agents_and_no_evaluation_name_the_command(tmp_path: Path):
    config = configured(build(tmp_path)[0], algorithms=("genetic",), seeds=2)
    for stage in (agent.evaluate, agent.compare):
        with pytest.raises(StoreError, match=r"no agents have been trained on run r0001; run: tradewind agent train"):
            stage(config)
    agent.train(config, learners=learners(tmp_path / "log"), trusted=TRUSTED)
    with pytest.raises(StoreError, match=r"not been evaluated; run: tradewind agent evaluate"):
        agent.compare(config)


def test_agents_of_other_settings_are_not_evaluated(tmp_path: Path):
    config, _ = trained(tmp_path, algorithms=("genetic",), seeds=2)
    evaluated(config)
    for other in (
        configured(config, algorithms=("genetic",), seeds=2, risk_aversion=1.0),
        configured(config, algorithms=("genetic",), seeds=3),
        configured(config, algorithms=("genetic",), seeds=2, first_test="2010-01-04"),
    ):
        with pytest.raises(StoreError, match=r"by other settings; run: tradewind agent train"):
            evaluated(other)
    agent.train(
        configured(config, algorithms=("genetic",), seeds=3), learners=learners(tmp_path / "log"), trusted=TRUSTED
    )
    with pytest.raises(StoreError, match=r"trained anew; run: tradewind agent evaluate"):
        agent.compare(config)


def test_an_algorithm_that_cannot_learn_is_named(tmp_path: Path):
    config = configured(build(tmp_path)[0], algorithms=("dqn",))
    with pytest.raises(DataError, match=r"dqn cannot learn from the sessions before 2009: nothing to see"):
        agent.train(config, learners={"dqn": lambda wanted: Hopeless()})


def test_too_little_history_says_what_to_change(tmp_path: Path):
    config, _ = build(tmp_path)
    with pytest.raises(TooLittleHistoryError, match=r"agent.first_test"):
        agent.train(configured(config, first_test="2008-01-15"))
    with pytest.raises(TooLittleHistoryError, match=r"agent.first_test"):
        agent.train(configured(config, first_test="2012-01-02"))
    with pytest.raises(TooLittleHistoryError, match=r"block 2009 .*lower agent.episode_sessions"):
        agent.train(configured(config, episode_sessions=1000))


def test_a_feature_that_is_not_there_names_its_neighbour(tmp_path: Path):
    config, prices = build(tmp_path)
    with pytest.raises(StoreError, match=r"no table features; run: tradewind features"):
        agent.train(configured(config, features=("ret_20",)))
    rows = prices[["ticker", "session"]].assign(ret_20=np.float32(0.5), vol=0.01)
    Lake(config.data.lake).replace("features", rows)
    with pytest.raises(UsageError, match=r"names 'ret_2', which is not in the features table; did you mean ret_20\?"):
        agent.train(configured(config, features=("ret_2",)))
    task = task_of(configured(config, features=("ret_20",)), Lake.of(config.data), Registry(config.data.artifacts))
    assert task.columns[-1] == "ret_20"
    assert (task.observed[..., -1][task.ready] == 0.5).all()


def test_how_many_tickers_are_traded_together_changes_no_byte(done, monkeypatch: pytest.MonkeyPatch):
    _, config, _, _ = done
    task = task_of(config, Lake.of(config.data), Registry(config.data.artifacts))
    targets = np.random.default_rng(0).uniform(0, 1, (2, *task.setting.opens[agent_trades.tested(task)].shape))
    whole, tuned = agent_trades.alone(task, targets, np.zeros(2)), agent_trades.tuned(task, task.blocks[0])
    monkeypatch.setattr(agent_trades, "TICKERS_AT_ONCE", 2)
    assert agent_trades.alone(task, targets, np.zeros(2)).tobytes() == whole.tobytes()
    assert agent_trades.tuned(task, task.blocks[0]) == tuned
