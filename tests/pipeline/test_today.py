import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.frames import QUANTILE_COLUMNS
from features.panel import load
from models.compact import bundle as bundles
from models.compact import export
from models.compact.bundle import BundleError
from models.compact.network import Network
from models.compact.runtime import Scorer
from models.decode import QUANTILES
from models.receptive_field import FIELD
from pipeline import today
from pipeline.errors import DataError, StoreError
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.pipeline.trading_fixture import HORIZONS, RUN, config_at, sessions_of, volatility

SHAPE = [-2.6, -1.7, -1.3, -0.6, 0.0, 0.6, 1.3, 1.7, 2.6]
LIVES = {"AAA": 0, "BBB": 2, "OLD": 300}  # sessions behind the newest
FEATURES = ("observed", "abs_1", "log_vol")


def network() -> Network:
    """Scales rise with abs_1; the convolution is silent."""
    width, outputs = 4, 4 * len(HORIZONS)
    skip = np.zeros((len(FEATURES), outputs), np.float32)
    skip[1, 1::4] = skip[1, 2::4] = 0.2
    return Network(
        conv_weight=(np.zeros((width, 1, 4), np.float32), *(np.zeros((width, width, 4), np.float32),) * 2),
        conv_bias=(np.zeros(width, np.float32),) * 3,
        head_weight=np.zeros((width, outputs), np.float32),
        head_bias=np.zeros(outputs, np.float32),
        skip_weight=skip,
        skip_bias=np.zeros(outputs, np.float32),
        body_features=np.array([1]),
    )


def publish(registry: Registry, version: str = "v1", features: tuple[str, ...] = FEATURES) -> None:
    net, x = network(), np.random.default_rng(0).standard_normal((4, FIELD, len(FEATURES))).astype(np.float32)
    manifest = {
        "version": version,
        "status": "promoted",
        "model": "int8",
        "created_at": "2010-07-01T00:00:00Z",
        "features": [{"name": name, "center": 0.0, "scale": 1.0} for name in features],
        "limit": 5.0,
        "body_features": [features[1]],
        "horizons": list(HORIZONS),
        "residual_shape": [SHAPE] * len(HORIZONS),
        "sigma_factor": [1.0] * len(HORIZONS),
        "receptive_field": FIELD,
        "target": {"interval": "open_to_open"},
        "decision": {"calendar": "XNYS", "lead_minutes": 0},
        "training": {"run_id": RUN, "tickers": list(LIVES)},
        "sizing": {"target_volatility": 0.1, "horizon": 5, "max_weight": 1.0, "band": 0.05},
    }
    with registry.publishing(version) as directory:
        export.save(export.window_graph(net), directory / "window.onnx")
        export.save(export.panel_graph(net), directory / "panel.onnx")
        np.savez(directory / "golden.npz", x=x, y=net.forward_window(np.clip(x, -5, 5)))
        bundles.seal(directory, manifest)
    registry.set_champion(version)


def feature_rows(sessions: pd.DatetimeIndex, lives: dict[str, int] = LIVES) -> pd.DataFrame:
    vol = volatility(len(sessions))
    parts = []
    for seed, (ticker, behind) in enumerate(lives.items()):
        rows = pd.DataFrame({"ticker": ticker, "session": sessions, "vol": vol, "observed": 1.0})
        rows["abs_1"] = np.abs(np.random.default_rng(seed).standard_normal(len(rows)))
        rows["log_vol"] = np.log(vol)
        parts.append(rows.iloc[: len(rows) - behind])
    frame = pd.concat(parts, ignore_index=True)
    return frame.astype({"ticker": "str"} | dict.fromkeys(("vol", *FEATURES), "float32"))


def build(root: Path, last: str = "2010-06-30", lives: dict[str, int] = LIVES):
    config = config_at(root)
    lake = Lake(config.data.lake)
    lake.replace("features", feature_rows(sessions_of("2008-01-02", last), lives))
    publish(Registry(config.data.artifacts))
    return config, lake


def position_row(weight: float, session: str, fold="live", run_id=RUN + "-live", ticker="AAA") -> pd.DataFrame:
    row = {"run_id": run_id, "strategy": "vol_target", "fold": fold, "ticker": ticker}
    frame = pd.DataFrame([row], dtype="str")
    return frame.assign(session=pd.to_datetime([session]).astype("datetime64[us]"), weight=weight)


def row_of(summary, ticker: str) -> dict:
    return next(row for row in summary.figures["tickers"] if row["ticker"] == ticker)


def test_the_forecasts_are_the_bundles(tmp_path: Path):
    config, lake = build(tmp_path)
    today.run(config)
    rows = lake.read("forecasts", "fold = 'live'", order_by="ticker, horizon")
    assert set(rows["ticker"]) == {"AAA", "BBB"}
    assert (rows["run_id"].unique().tolist(), rows["model"].unique().tolist()) == ([RUN + "-live"], ["int8"])
    panel = load(lake.read("features"), FEATURES)
    scorer = Scorer(bundles.load(Registry(config.data.artifacts).champion()))
    for n, ticker, behind in ((0, "AAA", 0), (1, "BBB", 2)):
        end = len(panel.sessions) - behind
        expected = scorer.window(panel.x[n : n + 1, end - FIELD : end], panel.vol[n : n + 1, end - 1])
        held = rows[rows["ticker"] == ticker]
        assert (held["session"] == pd.Timestamp(panel.sessions[end - 1])).all()
        assert held["horizon"].tolist() == list(HORIZONS)
        np.testing.assert_allclose(held["sigma"], expected.sigma[0])
        np.testing.assert_allclose(held[list(QUANTILE_COLUMNS)], expected.quantiles[0])


def test_a_ticker_that_was_not_in_training_is_named(tmp_path: Path):
    config, _ = build(tmp_path, lives={**LIVES, "ZZZ": 0})
    lines = today.run(config).lines
    assert "ZZZ not in training" in lines[-1]
    config, _ = build(tmp_path / "same")
    assert "training" not in today.run(config).lines[-1]


def test_the_table_by_hand(tmp_path: Path):
    config, lake = build(tmp_path)
    row = row_of(today.run(config), "AAA")
    held = lake.read("forecasts", "ticker = 'AAA' AND fold = 'live'", order_by="horizon").set_index("horizon")
    assert row["sigma_daily_percent"] == pytest.approx(100 * held.loc[1, "sigma"])
    assert row["band80_low_percent"] == pytest.approx(100 * np.expm1(held.loc[5, "q10"]))
    assert row["band80_high_percent"] == pytest.approx(100 * np.expm1(held.loc[5, "q90"]))
    assert row["var95_percent"] == pytest.approx(100 * (1 - np.exp(held.loc[1, "q05"])))
    expected = min(0.10 / (held.loc[5, "sigma"] / np.sqrt(5) * np.sqrt(252)), 1)
    assert row["target_weight"] == pytest.approx(expected)
    assert (row["session"], row["age_sessions"], row["note"]) == ("2010-06-30", 0, "")
    assert row["age_days"] == (pd.Timestamp.now("UTC").date() - pd.Timestamp("2010-06-30").date()).days


def test_a_stale_ticker_is_shown_with_its_age_and_no_position(tmp_path: Path):
    config, lake = build(tmp_path)
    summary = today.run(config)
    row = row_of(summary, "OLD")
    assert (row["age_sessions"], row["target_weight"], row["weight"]) == (300, 0, 0)
    assert row["sigma_daily_percent"] is None
    assert row["note"] == "stale: 300 sessions behind the newest, no position"
    assert lake.read("positions", "ticker = 'OLD'")["weight"].tolist() == [0]
    assert row_of(summary, "BBB")["age_sessions"] == 2
    assert row_of(summary, "BBB")["target_weight"] > 0


def test_a_price_that_stands_still_has_no_position(tmp_path: Path):
    config, lake = build(tmp_path)
    rows = lake.read("features")
    newest = sorted(rows["session"].unique())
    rows["r"] = np.where((rows["ticker"] == "AAA") & (rows["session"] > newest[-23]), 0, 0.01).astype(np.float32)
    # 22 bars without a move: the features of the last three have no volatility
    rows.loc[(rows["ticker"] == "AAA") & (rows["session"] > newest[-4]), "vol"] = np.nan
    lake.replace("features", rows)
    row = row_of(today.run(config), "AAA")
    assert (row["target_weight"], row["weight"], row["sigma_daily_percent"]) == (0, 0, None)
    assert row["note"] == "its price has not moved for 20 bars, no position"
    assert row_of(today.run(config), "BBB")["target_weight"] > 0


@pytest.mark.parametrize(("behind", "scored"), [(5, True), (6, False)])
def test_five_sessions_behind_is_the_limit(tmp_path: Path, behind: int, scored: bool):
    config, _ = build(tmp_path, lives={"AAA": 0, "BBB": behind})
    assert (row_of(today.run(config), "BBB")["target_weight"] > 0) == scored


def test_a_history_shorter_than_the_window_is_said_to_be(tmp_path: Path):
    config, _ = build(tmp_path, last="2008-03-31")
    row = row_of(today.run(config), "AAA")
    assert row["note"] == "fewer than 64 sessions, no position"
    assert row["target_weight"] == 0


def test_a_second_run_changes_nothing(tmp_path: Path):
    config, lake = build(tmp_path)
    first = today.run(config)
    versions = lake.versions(("forecasts", "positions"))
    assert today.run(config) == first
    assert lake.versions(("forecasts", "positions")) == versions


def test_the_next_session_adds_and_keeps(tmp_path: Path):
    config, lake = build(tmp_path, last="2010-06-29")
    today.run(config)
    lake.replace("features", feature_rows(sessions_of("2008-01-02", "2010-06-30")))
    summary = today.run(config)
    positions = lake.read("positions", "fold = 'live'")
    assert not positions.duplicated(["run_id", "ticker", "session"]).any()
    assert sorted(positions["session"].unique()) == [pd.Timestamp("2010-06-29"), pd.Timestamp("2010-06-30")]
    row = row_of(summary, "AAA")
    first = positions[(positions["ticker"] == "AAA") & (positions["session"] == "2010-06-29")]
    assert row["previous_weight"] == first["weight"].item()
    assert row["change"] == row["weight"] - row["previous_weight"]


def test_inside_the_band_the_position_is_kept(tmp_path: Path):
    config, lake = build(tmp_path)
    target = row_of(today.run(config), "AAA")["target_weight"]
    lake.replace("positions", position_row(target - 0.03, "2010-06-28"))
    row = row_of(today.run(config), "AAA")
    assert row["weight"] == row["previous_weight"] == target - 0.03
    assert (row["change"], row["note"]) == (0, "held: within 0.05 of its target")
    lake.replace("positions", position_row(target - 0.2, "2010-06-28"))
    row = row_of(today.run(config), "AAA")
    assert row["weight"] == row["target_weight"]
    assert row["change"] == pytest.approx(0.2)


def test_a_live_position_goes_before_a_simulated_one(tmp_path: Path):
    config, lake = build(tmp_path)
    lake.replace("positions", position_row(0.11, "2010-06-29", "2010", RUN))
    assert row_of(today.run(config), "AAA")["previous_weight"] == 0.11
    both = [position_row(0.11, "2010-06-29", "2010", RUN), position_row(0.77, "2010-06-29")]
    lake.replace("positions", pd.concat(both, ignore_index=True))
    assert row_of(today.run(config), "AAA")["previous_weight"] == 0.77


def test_what_the_backtest_held_long_ago_is_no_position(tmp_path: Path):
    config, lake = build(tmp_path)
    rows = [position_row(0.4, "2009-03-02", "2009", RUN, ticker=t) for t in ("AAA", "OLD")]
    lake.replace("positions", pd.concat(rows, ignore_index=True))
    summary = today.run(config)
    assert row_of(summary, "AAA")["previous_weight"] is None
    assert row_of(summary, "OLD")["change"] is None


def test_later_positions_and_features_do_not_reach_back(tmp_path: Path):
    config, lake = build(tmp_path, last="2010-06-29")
    before = row_of(today.run(config), "AAA")
    lake.replace("features", feature_rows(sessions_of("2008-01-02", "2010-06-30")))
    today.run(config)
    lake.replace("features", feature_rows(sessions_of("2008-01-02", "2010-06-29")))
    assert row_of(today.run(config), "AAA") == before


def test_the_csv_holds_the_table(tmp_path: Path):
    config, _ = build(tmp_path)
    out = tmp_path / "deep" / "today.csv"
    summary = today.run(config, out=out)
    table = pd.read_csv(out)
    assert list(table["ticker"]) == ["AAA", "BBB", "OLD"]
    assert table["target_weight"].iloc[0] == pytest.approx(row_of(summary, "AAA")["target_weight"], rel=1e-5)
    assert summary.lines[-1] == f"table written to {out}"
    assert [path.name for path in out.parent.iterdir()] == ["today.csv"]


def test_the_summary_reads_and_parses(tmp_path: Path):
    config, _ = build(tmp_path)
    summary = today.run(config)
    assert "bundle v1 (promoted), newest session 2010-06-30" in summary.lines[0]
    assert [line.split()[0] for line in summary.lines[2:]] == ["AAA", "BBB", "OLD"]
    assert json.loads(summary.to_json())["figures"]["bundle"] == "v1"
    assert max(len(line) for line in summary.lines) < 160


def test_nothing_published_is_an_error(tmp_path: Path):
    with pytest.raises(StoreError, match="tradewind compress"):
        today.run(config_at(tmp_path))


def test_no_features_is_an_error(tmp_path: Path):
    config = config_at(tmp_path)
    publish(Registry(config.data.artifacts))
    with pytest.raises(StoreError, match="features"):
        today.run(config)


def test_a_feature_the_lake_lacks_is_named(tmp_path: Path):
    config, _ = build(tmp_path)
    publish(Registry(config.data.artifacts), "v2", ("observed", "abs_1", "moon_phase"))
    with pytest.raises(DataError, match=r"moon_phase.*bundle v2.*tradewind train"):
        today.run(config)


def test_a_changed_bundle_is_refused(tmp_path: Path):
    config, _ = build(tmp_path)
    graph = Registry(config.data.artifacts).champion() / "window.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match="checksum"):
        today.run(config)


def test_levels_and_columns_fit():
    assert [f"q{round(100 * level):02d}" for level in QUANTILES] == list(QUANTILE_COLUMNS)


def test_a_ticker_that_left_the_universe_has_no_position(tmp_path: Path):
    config, _ = build(tmp_path)
    path = tmp_path / "members.csv"
    path.write_text("ticker,from,to\nAAA,2000-01-03,\nBBB,2000-01-03,2010-06-28\nOLD,2000-01-03,\n")
    config = config.model_copy(update={"universe": config.universe.model_copy(update={"members": path})})
    summary = today.run(config)
    assert row_of(summary, "AAA")["target_weight"] > 0
    row = row_of(summary, "BBB")
    assert (row["target_weight"], row["weight"]) == (0, 0)
    assert row["note"] == "left the universe after 2010-06-28, no position"
    assert row_of(summary, "OLD")["note"].startswith("stale: 300 sessions")
