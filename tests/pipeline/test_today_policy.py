"""today by the policy in the bundle: it decides given the weight held, and says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.compact import bundle as bundles
from models.compact.bundle import POLICY, Bundle, BundleError
from models.compact.policy_quantize import quantize_policy
from models.compact.policy_runtime import PolicyScorer
from models.compact.runtime import Scorer
from models.compact.small_policy import HIDDEN, FloatPolicy, Frame
from models.scaling import Scaler
from models.trading.observation import Scaling, names
from pipeline import agent_bundle, today
from pipeline.config import Config
from pipeline.errors import DataError, StoreError
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.pipeline import test_today as plain
from tests.pipeline.trading_fixture import HORIZONS, RUN

SEEN = ("abs_1",)
NAMES = names(HORIZONS, SEEN)
K = len(NAMES)


def half_way() -> FloatPolicy:
    """Half the weight held, half of what the rule wants, a little for abs_1."""
    skip = np.zeros(K + 2, np.float32)
    skip[NAMES.index("rule_weight")], skip[K], skip[K - 1] = 0.5, 0.5 / 10, 0.01
    rate = np.append(np.ones(K), [10, 0]).astype(np.float32)
    layers = tuple(
        (np.random.default_rng(0).normal(0, 0.3, shape).astype(np.float32), np.zeros(HIDDEN, np.float32))
        for shape in ((HIDDEN, K + 2), (HIDDEN, HIDDEN))
    )
    center = np.append(np.zeros(K), [0.5, 0.5]).astype(np.float32)
    frame = Frame(center, rate, np.zeros(HIDDEN, np.float32), skip, np.float32(0.25), np.float32(0), np.float32(1))
    return FloatPolicy(layers, frame)


def put_policy(registry: Registry, features: tuple[str, ...] = SEEN, **changes: Any) -> Bundle:
    scaling = Scaling(tuple(names(HORIZONS, features)), Scaler(np.zeros(K, np.float32), np.ones(K, np.float32)))
    section = {
        "observation": scaling.to_json(),
        "horizons": list(HORIZONS),
        "horizon": 5,
        "target_volatility": 0.1,
        "max_weight": 1.0,
        "features": list(features),
        "limits": {"least": 0.0, "most": 1.0},
        "cost_bps": [5.0],
        "risk_aversion": 3.0,
        "trained": {
            "run_id": RUN,
            "algorithm": "ppo",
            "seeds": [7, 8],
            "last": "2010-05-28",
            "rules": 6,
            "beaten": ["momentum"],
        },
    }
    raw = np.random.default_rng(1).uniform(0, 1, (9, K + 2)).astype(np.float32)
    raw[-1, :K] = np.nan
    scaled = np.hstack([scaling.transform(raw[:, :K]), raw[:, K:]])
    policy = quantize_policy(half_way(), scaled)
    found = agent_bundle.publish(registry, bundles.load(registry.champion()), policy, section | changes, raw, scaled)
    registry.set_champion(found.version)
    return found


def following(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"agent": config.agent.model_copy(update={"use": True} | changes)})


@pytest.fixture
def ready(tmp_path: Path) -> tuple[Config, Lake]:
    config, lake = plain.build(tmp_path)
    put_policy(Registry(config.data.artifacts))
    return following(config), lake


def by_hand(lake: Lake, scorer: PolicyScorer, ticker: str, held: float) -> float:
    """The policy's target from the lake alone."""
    rows = lake.read("features", f"ticker = '{ticker}'", order_by="session")
    x = rows[list(plain.FEATURES)].to_numpy(np.float32)[-64:]
    forecast = Scorer(scorer.bundle).window(x[None], rows["vol"].to_numpy(np.float32)[-1:])
    observed = scorer.observe(forecast, rows[list(SEEN)].to_numpy(np.float32)[-1:], 252.0)
    return float(scorer.targets(scorer.with_own(observed, np.array([held]), 5.0))[0])


def test_weights_are_the_policys_from_what_was_held(ready: tuple[Config, Lake]) -> None:
    config, lake = ready
    lake.replace("positions", plain.position_row(0.9, "2010-06-29"))
    scorer = PolicyScorer(bundles.load(Registry(config.data.artifacts).champion()))
    summary = today.run(config)
    for ticker, held in (("AAA", 0.9), ("BBB", 0.0)):
        row = plain.row_of(summary, ticker)
        assert row["target_weight"] == pytest.approx(by_hand(lake, scorer, ticker, held), abs=1e-5)
        assert row["weight"] == row["target_weight"]
    assert plain.row_of(summary, "AAA")["previous_weight"] == 0.9
    rule = today.run(config.model_copy(update={"agent": config.agent.model_copy(update={"use": False})}))
    row, ruled = (plain.row_of(each, "AAA") for each in (summary, rule))
    assert row["target_weight"] - (ruled["target_weight"] + 0.9) / 2 == pytest.approx(0, abs=0.05)
    assert row["sigma_daily_percent"] == ruled["sigma_daily_percent"]


def test_positions_are_written_as_the_policys_and_held_by_whoever_decides_next(ready: tuple[Config, Lake]) -> None:
    config, lake = ready
    lake.replace("features", plain.feature_rows(plain.sessions_of("2008-01-02", "2010-06-29")))
    first = today.run(config)
    held = lake.read("positions", "fold = 'live'")
    assert held["strategy"].unique().tolist() == ["policy"]
    assert first.figures["strategy"] == "policy"
    lake.replace("features", plain.feature_rows(plain.sessions_of("2008-01-02", "2010-06-30")))
    weight = plain.row_of(first, "AAA")["weight"]
    assert plain.row_of(today.run(config), "AAA")["previous_weight"] == weight
    rule = config.model_copy(update={"agent": config.agent.model_copy(update={"use": False})})
    assert plain.row_of(today.run(rule), "AAA")["previous_weight"] == weight


def test_of_two_live_weights_of_a_session_the_own_one_is_held(ready: tuple[Config, Lake]) -> None:
    config, lake = ready
    both = [plain.position_row(0.2, "2010-06-29"), plain.position_row(0.7, "2010-06-29").assign(strategy="policy")]
    lake.replace("positions", pd.concat(both, ignore_index=True).astype({"strategy": "str"}))
    assert plain.row_of(today.run(config), "AAA")["previous_weight"] == 0.7
    rule = config.model_copy(update={"agent": config.agent.model_copy(update={"use": False})})
    assert plain.row_of(today.run(rule), "AAA")["previous_weight"] == 0.2


def test_a_second_run_decides_the_same(ready: tuple[Config, Lake]) -> None:
    config, lake = ready
    first, versions = today.run(config), lake.versions(("forecasts", "positions"))
    assert today.run(config) == first
    assert lake.versions(("forecasts", "positions")) == versions


def test_stale_tickers_have_no_position_with_a_policy_either(ready: tuple[Config, Lake]) -> None:
    summary = today.run(ready[0])
    row = plain.row_of(summary, "OLD")
    assert (row["target_weight"], row["weight"]) == (0, 0)
    assert "by the policy in the bundle: ppo, 2 seeds as one, trained to 2010-05-28, beats 1 of 6 rules" in "\n".join(
        summary.lines
    )
    assert max(len(line) for line in summary.lines) < 160


def test_another_cost_than_in_training_is_a_warning(ready: tuple[Config, Lake]) -> None:
    lines = "\n".join(today.run(following(ready[0], cost_bps=20.0)).lines)
    assert "warning: at 5 bps a side, agent.cost_bps is 20" in lines


def test_a_missing_value_of_a_feature_is_its_centre(ready: tuple[Config, Lake]) -> None:
    config, lake = ready
    rows = plain.feature_rows(plain.sessions_of("2008-01-02", "2010-06-30"))
    last = rows["session"] == rows["session"].max()
    rows.loc[last & (rows["ticker"] == "AAA"), "abs_1"] = np.nan
    lake.replace("features", rows)
    assert plain.row_of(today.run(config), "AAA")["target_weight"] > 0


def test_a_bundle_without_a_policy_says_what_to_run_and_nothing_is_written(tmp_path: Path) -> None:
    config, lake = plain.build(tmp_path)
    with pytest.raises(StoreError, match="tradewind agent ship"):
        today.run(following(config))
    assert not lake.exists("positions")
    assert today.run(config).figures["strategy"] == "vol_target"


def test_a_feature_that_the_lake_lacks_is_named(tmp_path: Path) -> None:
    config, _ = plain.build(tmp_path)
    put_policy(Registry(config.data.artifacts), ("moon_phase",))
    with pytest.raises(DataError, match=r"no column moon_phase.*tradewind features"):
        today.run(following(config))


def test_a_changed_policy_is_refused(ready: tuple[Config, Lake]) -> None:
    config, _ = ready
    path = Registry(config.data.artifacts).champion() / POLICY[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="checksum"):
        today.run(config)
