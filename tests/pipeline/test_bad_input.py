"""Input that nobody would train on: a clear error that says what to do, or an exclusion that is counted and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from models.forecasters.body import Body
from models.forecasters.fit import FitConfig, Supervision, fit
from models.forecasters.interface import Inputs, Slices, Training
from models.forecasters.student import StudentConfig, fit_student
from pipeline import exclusions, featurize, train
from pipeline.config import Config
from pipeline.config_models import Own
from pipeline.errors import DataError, TooLittleHistoryError
from pipeline.registry import Registry
from pipeline.store import Lake
from tests.conftest import simulate_prices

ALL = ("T00", "T01")


def still(prices: pd.DataFrame, tickers: tuple[str, ...], first: str = "2000", last: str = "2020") -> pd.DataFrame:
    """The same rows, with one price carried forward from `first` to `last`."""
    rows = prices.copy()
    frozen = rows["ticker"].isin(list(tickers)) & rows["session"].between(pd.Timestamp(first), pd.Timestamp(last))
    rows.loc[frozen, ["open", "high", "low", "close"]] = 50.0
    rows.loc[frozen, "adj_close"] = 25.0
    return rows


def with_models(config: Config, race: tuple[str, ...] = (), **sections: dict[str, Any]) -> Config:
    """The race, with other settings of some models."""
    changed = {name: getattr(config.models, name).model_copy(update=keys) for name, keys in sections.items()}
    return config.model_copy(update={"models": config.models.model_copy(update={"race": race, **changed})})


def with_section(config: Config, section: str, **keys: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=keys)})


def trained(config: Config, prices: pd.DataFrame) -> dict[str, Any]:
    """training.json after prices -> features -> train."""
    Lake(config.data.lake).upsert_prices(prices.reset_index(drop=True))
    featurize.run(config)
    summary = train.run(config)
    registry = Registry(config.data.artifacts)
    training: dict[str, Any] = registry.read_json(registry.latest_run(), "training.json")
    assert set(training["exclusions"]["sentences"]) <= set(summary.lines)
    return training


def test_what_cannot_be_used_is_counted_said_and_not_judged(small_config: Config) -> None:
    """Two sound tickers; T02 halted from June 2007 on, T03 always, T04 young; no volume; a spring without sessions; and
    a second test year that has just begun."""
    prices = simulate_prices(tickers=5, sessions=1011)
    prices["volume"] = 0.0
    prices = still(still(prices, ("T02",), "2007-06-01"), ("T03",))
    young = (prices["ticker"] == "T04") & (prices["session"] < "2007-08-01")
    spring = prices["session"].between("2006-03-01", "2006-04-28")
    lstm, regression = {"epochs": 1, "width": 8, "warm_up": 150}, {"l1_shares": (0.5,), "location_penalties": ()}
    config = with_models(small_config, ("regression", "lstm"), lstm=lstm, regression=regression)
    training = trained(config, prices[~young & ~spring])
    _counted(config, training)
    _said(training)
    _not_judged(config, training)


def _counted(config: Config, training: dict[str, Any]) -> None:
    found = training["exclusions"]
    assert training["folds"] == ["2008", "2009"]
    assert training["tickers"] == ["T00", "T01", "T02", "T04"]
    assert [row["ticker"] for row in training["left_out"]] == ["T03"]
    assert "a price that never moves" in training["left_out"][0]["reason"]
    assert [row["ticker"] for row in found["halted"]] == ["T02", "T03"]
    # the 20th bar without a move: the first of them still moved to the price that stands
    assert (found["halted"][0]["first"], found["halted"][0]["last"]) == ("2007-06-29", training["last_session"])
    volume = {"volume_z_20", "volume_z_60", "amihud_20"}
    assert volume <= set(found["features_without_values"]["2008"])
    assert found["without_outcomes"] == [{"fold": "2009", "horizons": [5, 20]}]
    assert found["breaks"] == [["2006-02-28", "2006-05-01"]]
    short = {(row["model"], row["what"]): row["tickers"] for row in found["tickers_by_model"]}
    assert short["lstm", "short_tickers"] == {"2008": 2, "2009": 1, "live": 1}  # T03; at first T04
    choices = Registry(config.data.artifacts).read_json(training["run_id"], "choices.json")
    assert volume <= set(choices["lstm"]["2008"]["constant_features"])
    assert volume <= set(choices["regression"]["2008"]["constant_features"])


def _said(training: dict[str, Any]) -> None:
    text = "\n".join(training["exclusions"]["sentences"])
    assert "T02 stood still for at least 20 bars on 385 sessions between 2007-06-29 and 2009-01-0" in text
    assert "No value before the test of 2008, so nothing learnt from: volume_z_20, volume_z_60" in text
    assert "The test of 2009 has no known outcome of horizon 5, 20 and counts for nothing there." in text
    assert "No session between 2006-02-28 and 2006-05-01: nothing is tested there." in text
    assert "lstm in 2008, 2009, live: up to 2 tickers with too few bars to fill the model's context" in text


def _not_judged(config: Config, training: dict[str, Any]) -> None:
    """A price that stands still is neither forecast nor judged."""
    lake = Lake(config.data.lake)
    frozen = lake.read("features", "ticker = 'T03' OR ticker = 'T02' AND session >= DATE '2007-06-29'")
    assert len(frozen) > 1000
    assert frozen["vol"].isna().all()
    rows = lake.read("forecasts")
    assert set(rows["ticker"]) == {"T00", "T01", "T04"}
    assert set(rows["model"]) >= {"regression", "lstm", "stack", "student", "garch"}
    figures = rows[["sigma", "p_up", *(name for name in rows.columns if name[0] == "q")]].to_numpy()
    assert np.isfinite(figures).all()
    assert (rows["sigma"] > 1e-3).all()
    evidence = Registry(config.data.artifacts).read_json(training["run_id"], "evidence.json")
    cells = rows[(rows["model"] == "student") & (rows["horizon"] == 1)]
    last_known = 3 * 2  # sessions at the end whose next-open return is not known, of three tickers
    assert evidence["samples"][0]["n_cells"] == len(cells) - last_known


def test_prices_that_never_move_are_an_error(small_config: Config) -> None:
    with pytest.raises(DataError, match=r"no ticker can be forecast: the prices of T00, T01 never move for 20 bars"):
        trained(small_config, still(simulate_prices(2, 800), ALL))


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2000", "2007-12-20", "the student cannot be fitted for 2008: no price moves in its 728 sessions of training"),
        ("2007-05-01", "2007-12-20", r"for 2008: no known target of horizon 1 in the validation slice of 120 sessions"),
        ("2007-12-01", "2020", r"no outcome of horizon 1 is known .* 2008 .*; T00, T01 stood still for some time"),
    ],
)
def test_prices_that_stop_moving_for_all_are_an_error(
    small_config: Config, first: str, last: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        trained(small_config, still(simulate_prices(2, 800), ALL, first, last))


def test_a_horizon_longer_than_the_test_is_an_error(small_config: Config) -> None:
    config = with_section(small_config, "target", horizons=(1, 60))
    wanted = (
        r"no outcome of horizon 60 is known in the test slices 2008 from 2008-01-02 to .*, 46 sessions; ingest more "
        r"history or leave 60 out of target.horizons"
    )
    with pytest.raises(TooLittleHistoryError, match=wanted):
        trained(config, simulate_prices(2, 800))


def test_a_history_shorter_than_what_is_trained_on_is_an_error(small_config: Config) -> None:
    config = with_section(small_config, "target", horizons=(1, 60))
    config = with_section(config, "splits", min_train_sessions=200, validation_sessions=400)
    wanted = "nothing is left to fit on before the test slice 2007, .* validation takes 400 and the purge 61"
    with pytest.raises(TooLittleHistoryError, match=wanted):
        trained(config, simulate_prices(2, 560))


def test_a_network_that_needs_more_sessions_than_there_are_is_an_error(small_config: Config) -> None:
    config = with_section(small_config, "splits", min_train_sessions=400)
    config = with_models(config, ("lstm",), lstm={"epochs": 1, "width": 8, "warm_up": 450})
    wanted = "lstm cannot be fitted for 2007: the fit slice has 336 sessions and the network needs 450 as context"
    with pytest.raises(DataError, match=wanted):
        trained(config, simulate_prices(2, 560))


def test_tickers_that_are_all_too_short_for_a_network_are_an_error(small_config: Config) -> None:
    prices = simulate_prices(4, 860)
    halves = (prices["session"] < "2006-06-01") == prices["ticker"].isin(["T00", "T01"])
    config = with_models(small_config, ("lstm",), lstm={"epochs": 1, "width": 8, "warm_up": 400})
    with pytest.raises(DataError, match="lstm cannot be fitted for 2008: no ticker has more than 400 bars"):
        trained(config, prices[halves])


def test_no_fold_without_sessions(small_config: Config) -> None:
    config = with_section(small_config, "splits", first_test=pd.Timestamp("2012-01-01").date())
    with pytest.raises(TooLittleHistoryError, match="800 sessions leave no test year after 500 training sessions"):
        trained(config, simulate_prices(2, 800))


def test_a_diverging_loss_is_an_error(small_config: Config) -> None:
    config = with_models(small_config, student={"learning_rate": 0.99, "epochs": 30, "patience": 30})
    wanted = r"the student cannot be fitted for 2008: \w+ loss is (inf|nan) .* epoch \d+; lower the learning rate"
    with pytest.raises(DataError, match=wanted):
        trained(config, simulate_prices(3, 860))
    config = with_models(small_config, ("lstm",), lstm={"epochs": 3, "width": 8, "learning_rate": 1e30})
    with pytest.raises(
        DataError, match=r"lstm cannot be fitted for 2008: validation loss is (inf|nan) after epoch \d; lower"
    ):
        train.run(config)


def test_a_model_that_forecasts_nothing_is_named(small_config: Config, tmp_path: Path) -> None:
    path = tmp_path / "silent.py"
    path.write_text(
        "import numpy as np\n"
        "from models.decode import Forecast\n"
        "class Silent:\n"
        "    choices = {}\n"
        "    def fit(self, training):\n"
        "        self.horizons = len(training.horizons)\n"
        "        return self\n"
        "    def forecast(self, inputs):\n"
        "        shape = (*inputs.vol.shape, self.horizons)\n"
        "        return Forecast(np.full(shape, np.nan), np.full((*shape, 9), np.nan), np.full(shape, np.nan))\n"
    )
    own = {"silent": Own(model=f"{path}:Silent")}
    config = small_config.model_copy(update={"models": small_config.models.model_copy(update={"own": own})})
    wanted = r"the race cannot be judged: at horizon 1 no cell is forecast by all of .*; silent has the fewest, 0 of"
    with pytest.raises(DataError, match=wanted):
        trained(config, simulate_prices(2, 800))


def test_members_of_an_ensemble_count_the_same_tickers() -> None:
    choices = {"lstm": {"2008": {"members": [{"short_tickers": 2}, {"short_tickers": 2}]}}, "own": {"2008": None}}
    assert exclusions._tickers_by_model(choices) == [{"model": "lstm", "what": "short_tickers", "tickers": {"2008": 2}}]


def test_a_body_reads_no_feature_that_never_moved_in_training() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 400, 4)).astype(np.float32)
    x[..., 2] = 0  # missing until after training
    z = generator.standard_normal((3, 400, 1))
    config = StudentConfig((100.0,), 500.0, 4, 4, (0.0, 1.0), FitConfig(1, 1, 1e-3, 0.1, 0))
    ones = np.ones((3, 400))
    training = Training(Inputs(x, ones, ones), z, z**2, (1,), ("a", "b", "c", "d"), Slices(280, 300, 400), 500.0, 0)
    found = fit_student(training, config)
    assert found.network.body_features.tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match="all 4 features are constant in training"):
        fit_student(replace(training, inputs=Inputs(np.ones_like(x), ones, ones)), config)


class Brittle(Body):
    """Trains well, and is not a number where it is only looked at."""

    context = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        out = x[:, self.context :, :1, None] * self.weight
        return out if self.training else out * torch.nan


def test_a_validation_loss_that_is_not_finite_is_an_error() -> None:
    x = torch.randn(2, 60, 1, generator=torch.Generator().manual_seed(0))
    data = Supervision(x, torch.zeros(2, 60, 1, 4), x, torch.linspace(-1, 1, 9)[None])
    with pytest.raises(FloatingPointError, match="validation loss is nan after epoch 0; lower the learning rate"):
        fit(Brittle(), data, slice(0, 40), slice(40, 60), FitConfig(2, 2, 1e-3, 0.1, 0))
