"""`tradewind audit lookahead`: what ships passes, what looks ahead is named with its first offending session."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from features import table
from features.alterations import World
from features.audit import cuts
from pipeline import audit as stage
from pipeline import cli
from pipeline.audited import decisions
from pipeline.config import Config
from pipeline.config_text import starter
from pipeline.errors import DataError, LookAheadError, StoreError, TooLittleHistoryError, UsageError
from pipeline.summary import Summary
from tests.conftest import simulate_prices
from tests.pipeline.audit_fixture import audited_config, lake_of, sessions_and_closes, world_of
from tests.pipeline.test_train import MODELS
from tests.pipeline.universe_fixture import days_of, prices_on, under
from tests.pipeline.universe_fixture import lake_of as ingested

SESSIONS = 640
DAYS, CLOSES = sessions_and_closes(SESSIONS)

HONEST = """
import pandas as pd

def honest(prices):
    r = prices.returns
    return {"my_cross": (r.rolling(5).mean() - r.rolling(20).mean()) / r.rolling(20).std(), "my_gap": r - r.shift(1)}

def centred(prices):
    return {"my_centred": prices.returns.rolling(5, center=True).mean(), "my_mean": prices.returns.rolling(5).mean()}

def future(prices):
    return {"my_future": prices.returns.shift(-3)}

def random(prices):
    import numpy as np
    noise = np.random.default_rng().normal(size=prices.close.shape)
    return {"my_noise": pd.DataFrame(noise, prices.close.index, prices.close.columns)}

def breaks(prices):
    return {"my_first": 1 / 0}

def needs_every_bar(prices):
    if prices.close.iloc[-300:].isna().any().any():
        raise ValueError("a bar is missing")
    return {"my_close": prices.returns}

def number(prices):
    return 3

def other_axes(prices):
    return {"my_short": prices.close.iloc[5:]}

def text(prices):
    return {"my_text": prices.close.astype("str")}

def taken(prices):
    return {"ret_1": prices.returns}
"""


@pytest.fixture(scope="module")
def world() -> World:
    return world_of(sessions=SESSIONS)


@pytest.fixture
def config(small_config: Config, tmp_path: Path, world: World) -> Config:
    """Its lake holds the world, and mine.py lies beside."""
    found = audited_config(small_config, tmp_path)
    lake_of(found, world)
    (tmp_path / "mine.py").write_text(HONEST, encoding="utf-8")
    return found


def of_mine(config: Config, function: str, number: int = 3, seed: int = 0) -> Summary:
    return stage.run_lookahead(config, f"{Path(config.data.lake).parent}/mine.py:{function}", number, seed)


def of_families(config: Config, *families: str, universe: object = None) -> Config:
    features = config.features.model_copy(update={"families": families})
    return config.model_copy(update={"features": features, "universe": universe or config.universe})


def outputs(summary: Summary) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in summary.figures["outputs"]}


def cut_sessions(number: int, seed: int) -> list[int]:
    """The positions of the sessions at whose decisions the cuts fall."""
    used_at = decisions(CLOSES, 0)
    return [
        int(np.searchsorted(used_at, np.datetime64(each.tz_localize(None), "us")))
        for each in cuts(used_at, number, seed)
    ]


# -- what ships -----------------------------------------------------------------------------------------------


def test_what_ships_passes_and_every_planted_leak_is_found(config: Config) -> None:
    said: list[tuple[str, int, int]] = []
    summary = stage.run_lookahead(config, number=2, progress=lambda *told: said.append(told))
    found = outputs(summary)
    assert summary.figures["passed"], summary.figures["failures"]
    assert summary.figures["failures"] == []
    assert summary.left_out == ()
    assert {each["status"] for each in found.values()} == {"passed"}
    features = [table.OBSERVED, *(name for names in table.FEATURES.values() for name in names)]
    assert list(found)[: len(features) + 2] == [*features, "vol", "r"]
    assert {f"scaler: {name}" for name in features} <= set(found)
    assert {f"labels before {use} 2007, h={h}" for use in ("validation", "test") for h in (1, 5, 20)} <= set(found)
    parts = ("sigma", "quantiles", "p_up")
    assert {f"forecaster {model}: {part}" for model in MODELS for part in parts} <= set(found)
    assert all(each["compared"] for each in found.values())
    assert [each["found"] for each in summary.figures["planted"]] == [True] * 8
    assert summary.lines[-1] == f"passed: {len(found)} outputs, none looks ahead"
    assert "Planted leaks, which the audit has to find: 8 of 8 found" in summary.lines
    whats = {what: (done, total) for what, done, total in said}
    assert list(whats) == ["auditing features", "finding planted leaks", "auditing labels", "auditing the race"]
    assert all(done == total for done, total in whats.values())


def test_the_same_seed_gives_the_same_words(config: Config) -> None:
    one, two, other = (of_mine(config, "centred", 2, seed) for seed in (1, 1, 2))
    assert one == two
    assert one.lines != other.lines


def test_quick_says_what_it_leaves_out(config: Config) -> None:
    summary = stage.run_lookahead(of_families(config, "returns", "calendar"), quick=True)
    assert summary.figures["passed"]
    assert set(outputs(summary)) == {"observed", "vol", "r", *table.FEATURES["returns"], *table.FEATURES["calendar"]}
    assert "left out by --quick: labels, the scaler and the forecasters" in summary.lines


def test_several_calendars_pass_each_on_its_own_sessions(small_config: Config, tmp_path: Path) -> None:
    calendars = {"24/7": ("BTC",), "none": ("FUND",)}
    config = under(audited_config(small_config, tmp_path), tmp_path, calendars=calendars)
    parts = [
        prices_on(days_of("XNYS", "2005-01-03", "2006-06-30"), ["AAA", "BBB"]),
        prices_on(days_of("24/7", "2005-02-01", "2006-07-01"), ["BTC"], seed=1),
        prices_on(days_of("none", "1999-01-01", "2006-07-01"), ["FUND"], seed=2),
    ]
    ingested(config, pd.concat(parts, ignore_index=True))
    summary = stage.run_lookahead(of_families(config, "returns", "market", "volume", "rank"), quick=True)
    assert summary.figures["passed"], summary.figures["failures"]
    assert {"ret_1 on XNYS", "ret_1 on 24/7", "ret_1 on none"} <= set(outputs(summary))


def test_members_are_the_market_and_only_they_are_audited(config: Config, tmp_path: Path) -> None:
    (tmp_path / "members.csv").write_text("ticker,from,to\nT00,2000-01-03,\nT01,2005-06-01,2006-12-29\n")
    universe = config.universe.model_copy(update={"members": tmp_path / "members.csv"})
    summary = stage.run_lookahead(of_families(config, "market", "beta", universe=universe), quick=True)
    assert summary.figures["passed"], summary.figures["failures"]
    assert summary.figures["tickers"] == ["T00", "T01"]


# -- the user's own -------------------------------------------------------------------------------------------


def test_an_honest_own_feature_passes(config: Config) -> None:
    summary = of_mine(config, "honest")
    assert summary.figures["passed"]
    assert list(outputs(summary)) == ["my_cross", "my_gap"]
    assert summary.lines[-1] == "passed: 2 outputs, none looks ahead"
    assert not any("Planted" in line for line in summary.lines)


@pytest.mark.parametrize(("function", "feature", "back"), [("centred", "my_centred", 1), ("future", "my_future", 2)])
def test_an_own_feature_that_looks_ahead_is_named_with_its_first_session(
    config: Config, function: str, feature: str, back: int
) -> None:
    # Two sessions ahead: the session before the first cut is the first one that sees past it. Three: one earlier.
    first = DAYS[cut_sessions(3, 7)[0] - back]
    summary = of_mine(config, function, seed=7)
    assert not summary.figures["passed"]
    assert summary.figures["failures"] == [f"{feature} (leak, first {first:%Y-%m-%d})"]
    assert outputs(summary)[feature]["first_session"] == f"{first:%Y-%m-%d}"
    assert any(line.startswith(f"  {feature}: leak on {first:%Y-%m-%d} (T0") for line in summary.lines)
    assert summary.lines[-1] == f"FAILED: {feature} (leak, first {first:%Y-%m-%d})"
    others = [each for name, each in outputs(summary).items() if name != feature]
    assert all(each["status"] == "passed" for each in others)


def test_an_own_feature_of_the_configuration_is_audited_with_the_others(config: Config, tmp_path: Path) -> None:
    features = {"families": ("returns",), "own": (f"{tmp_path}/mine.py:centred", f"{tmp_path}/mine.py:honest")}
    settings = config.model_copy(update={"features": config.features.model_copy(update=features)})
    summary = stage.run_lookahead(settings, quick=True)
    assert [name.partition(" ")[0] for name in summary.figures["failures"]] == ["my_centred"]
    assert {"ret_1", "my_mean", "my_cross"} < set(outputs(summary))
    row = next(line for line in summary.lines if line.startswith("  your own features"))
    assert row.endswith("4 of 4  1 leak")


def test_what_is_random_is_not_repeatable(config: Config) -> None:
    summary = of_mine(config, "random")
    assert summary.figures["failures"] == ["my_noise (not repeatable, first 2005-01-03)"]
    text = "\n".join(summary.lines)
    assert "my_noise: not repeatable: two runs on the same rows differ in 1,920 cells, first on 2005-01-03" in text
    assert "seed it, then audit it" in text


def test_what_does_not_follow_from_the_prices_is_said_not_to_be_audited(config: Config, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def blank(prices):\n    return {'my_blank': prices.close * float('nan')}\n", encoding="utf-8"
    )
    summary = of_mine(config, "blank", 2)
    assert summary.figures["passed"]
    note = next(line for line in summary.lines if line.startswith("  note:"))
    assert note.startswith("  note: nothing that was altered moved my_blank, before a cut or after it; what does not")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("absent", UsageError, r"mine.py has no function absent; it has breaks, centred, future, honest"),
        ("breaks", DataError, r"failed on 3 tickers, 2005-01-03 to 2005-12-30: ZeroDivisionError: division by zero"),
        ("needs_every_bar", DataError, r"ValueError: a bar is missing; a feature must stand bars that are missing"),
        ("number", DataError, r"returned int; it must return a dict of name -> DataFrame"),
        ("other_axes", DataError, r"my_short has 247 rows and 3 columns; it must have a row for each of 252 sessions"),
        ("text", DataError, r"my_text holds str.* for T00; it must hold numbers"),
        ("taken", DataError, r"'ret_1' is the name of a shipped feature; give it another name"),
    ],
)
def test_an_own_function_that_cannot_be_used_is_one_clear_error(
    config: Config, function: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        of_mine(config, function)


# -- rows that cannot be audited ------------------------------------------------------------------------------


def test_too_little_history_is_named(small_config: Config, tmp_path: Path) -> None:
    config = audited_config(small_config, tmp_path)
    with pytest.raises(StoreError, match="has no table prices"):
        stage.run_canaries(config)
    lake_of(config, world_of(2, 250, 10))
    message = r"no ticker to audit: of 2 in the lake the longest has 250 sessions, and universe.min_sessions is 300"
    for run in (stage.run_lookahead, stage.run_canaries):
        with pytest.raises(TooLittleHistoryError, match=message):
            run(config)


def test_without_a_test_year_the_race_is_left_out_and_said_so(small_config: Config, tmp_path: Path) -> None:
    config = audited_config(small_config, tmp_path)
    lake_of(config, world_of(2, 320, 50))
    summary = stage.run_lookahead(of_families(config, "returns"), number=2)
    assert summary.figures["passed"]
    (left_out,) = summary.left_out
    assert left_out.startswith("labels, scaler and forecasters: 320 sessions leave no test year after 300 training")


def test_decisions_before_the_close_make_the_sessions_own_bar_a_leak_and_the_report_says_why(config: Config) -> None:
    universe = config.universe.model_copy(update={"decision_lead_minutes": 15})
    summary = stage.run_lookahead(of_families(config, "returns", "calendar", universe=universe), quick=True)
    assert "ret_1 (leak" in summary.figures["failures"][1]
    (note,) = summary.figures["notes"]
    assert note in summary.lines
    assert note.startswith(
        "note: 1,920 of 1,920 bars on XNYS are known only after the decision of their own session, first T00 "
        "2005-01-03 (known 21:00Z, decided 20:45Z)"
    )


# -- the command line -----------------------------------------------------------------------------------------


@pytest.fixture
def directory(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tradewind.toml").write_text(starter(config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(cli.build(), ["audit", *arguments])
    return done.exit_code, done.stdout, done.exception


def test_a_leak_is_exit_code_1_with_its_table(directory: Path) -> None:
    _, text, error = call("lookahead", "--module", "mine.py:centred", "--cuts", "2")
    assert isinstance(error, LookAheadError)
    assert error.exit_code == 1
    assert str(error).startswith("the look-ahead audit did not pass: my_centred (leak, first 200")
    assert "verdict" in text
    assert "  my_centred: leak on 200" in text


def test_passing_is_exit_code_0_and_json_is_one_object(directory: Path) -> None:
    code, text, _ = call("lookahead", "--module", "mine.py:honest", "--cuts", "2", "--seed", "4", "--json")
    figures = json.loads(text)["figures"]
    assert code == 0
    assert (figures["passed"], figures["cuts"], figures["seed"]) == (True, 2, 4)
    assert [each["name"] for each in figures["outputs"]] == ["my_cross", "my_gap"]


def test_canaries_alone(directory: Path) -> None:
    code, text, error = call("canaries", "--cuts", "1")
    assert (code, error) == (0, None)
    assert text.splitlines()[-1] == "passed: every planted leak was found"


def test_one_cut_is_too_few(directory: Path) -> None:
    code, _, _ = call("lookahead", "--cuts", "1")
    assert code == 2


def test_an_audit_that_misses_a_planted_leak_does_not_pass(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import canaries

    tame = replace(canaries.CANARIES[1], make=lambda view: {"centred_5": view.wide.returns})
    monkeypatch.setattr(canaries, "CANARIES", (tame, canaries.CANARIES[3]))
    summary = stage.run_canaries(config)
    assert summary.figures["failures"] == ["planted leak not found: centred window"]
    assert any("NOT FOUND" in line for line in summary.lines)


def test_the_simulator_and_the_world_agree() -> None:
    pd.testing.assert_series_equal(world_of().prices["close"], simulate_prices(3, 640, first="2005-01-03")["close"])
