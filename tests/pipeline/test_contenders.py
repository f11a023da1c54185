"""The race's forecasters: made from the configuration, fitted fold by fold, the user's own beside the shipped ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.decode import QUANTILES, Forecast
from models.forecasters.ensemble import SeedEnsembleConfig
from models.forecasters.lstm import LSTMConfig
from pipeline import contenders
from pipeline.config import Config, load
from pipeline.config_models import Models, Own
from pipeline.errors import DataError, UsageError
from pipeline.walkforward import Dataset
from tests.pipeline.text_fixture import folds, universe

MINE = '''
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.forecasters.calibration import calibrate


@dataclass(frozen=True)
class MyModel:
    """Twice the volatility is no more likely than half of it: one scale for all."""

    level: float = 0.0
    touch: str = ""
    slip: int = 0

    def fit(self, training):
        if self.touch:
            with Path(self.touch).open("a") as file:
                file.write("fitted\\n")
        if self.level < 0:
            raise ValueError(f"level is {self.level}; it must not be negative")
        cells = np.where(np.isfinite(training.inputs.vol), self.level, np.nan)[..., None]
        scale = cells.repeat(len(training.horizons), axis=-1)
        return Fitted(self.level, self.slip, calibrate(training, scale, training.slices.train_end), training.horizons)


@dataclass(frozen=True)
class Fitted:
    level: float
    slip: int
    calibration: object
    horizons: tuple
    choices = {"level": "mine"}

    def forecast(self, inputs):
        scale = np.where(np.isfinite(inputs.vol), self.level, np.nan)[..., None].repeat(len(self.horizons), axis=-1)
        found = self.calibration.forecast(scale, inputs, self.horizons)
        return found._replace(sigma=found.sigma[:, self.slip :])


class NoFit:
    pass
'''


@pytest.fixture(scope="module")
def data() -> Dataset:
    return universe(scale=0.3)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text(MINE)
    return path


def with_own(model: object, **settings: object) -> Config:
    own = {"mine": Own(model=str(model), settings=settings)}
    return Config(models=Models(race=(), own=own, processes=1))


def same(one: Forecast, other: Forecast) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


def test_a_section_makes_its_forecaster() -> None:
    config = load(None, ("models.lstm.width=8", "models.scale.alphas=[10.0]", "models.lstm.epochs=3"))
    assert contenders.forecaster(config, "lstm") == LSTMConfig(alphas=(10.0,), width=8, epochs=3)
    several = load(None, ("models.seeds=3",))
    assert contenders.forecaster(several, "lstm") == SeedEnsembleConfig(LSTMConfig(), 3)


@pytest.mark.parametrize("name", [*contenders.ALWAYS, *contenders.NETWORKS, "regression", "boosting"])
def test_the_defaults_of_a_section_are_those_of_its_forecaster(name: str) -> None:
    made = contenders.forecaster(Config(), name)
    assert made == type(made)()


def test_every_shipped_learner_races_and_forecasts_the_test_years_alone(data: Dataset) -> None:
    quick = load(
        None,
        (
            "models.processes=1", 'models.garch.forms=["pooled"]', "models.boosting.iterations=10",
            *(f"models.{name}.epochs=1" for name in contenders.NETWORKS),
            *(f"models.{name}.width=8" for name in contenders.NETWORKS),
            'models.race=["regression", "boosting", "lstm", "transformer", "convolution", "seq2seq"]',
        ),
    )  # fmt: skip
    last = folds(data)[-1:]
    names = (*contenders.ALWAYS, *contenders.learners(quick))
    found, choices, _ = contenders.enter(data, last, quick, names)
    assert list(found) == list(names)
    test = slice(last[0].test_start, last[0].test_end)
    for name, forecast in found.items():
        assert np.isfinite(forecast.sigma[:, test]).all(), name
        assert np.isnan(forecast.sigma[:, : test.start]).all()
        assert (np.diff(forecast.quantiles[:, test], axis=-1) >= 0).all()
        assert choices[name]["2009"] is not None


def test_a_model_of_yours_is_fitted_on_every_fold(data: Dataset, mine: Path) -> None:
    found, choices, _ = contenders.enter(data, folds(data), with_own(f"{mine}:MyModel"), ("mine",))
    assert choices == {"mine": {fold.name: {"level": "mine"} for fold in folds(data)}}
    covered = [np.isfinite(found["mine"].sigma[:, fold.test_start : fold.test_end]).all() for fold in folds(data)]
    assert all(covered)
    assert found["mine"].quantiles.shape == (*data.z.shape, len(QUANTILES))


def test_a_module_on_the_path_names_a_model_too(data: Dataset) -> None:
    config = with_own("models.forecasters.naive:AlwaysUpConfig")
    fold = folds(data)[:1]
    ours = contenders.enter(data, fold, config, ("always_up",))[0]["always_up"]
    assert same(contenders.enter(data, fold, config, ("mine",))[0]["mine"], ours)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("none.py:MyModel", {}, r"models\.own\.mine .*none\.py:MyModel: there is no file"),
        ("my_model.py:Gone", {}, r"my_model\.py has no class Gone; it has Fitted, MyModel, NoFit"),
        ("my_model.py:NoFit", {}, r"models\.own\.mine: .*NoFit has no method fit; see models/forecasters/interface"),
        ("my_model.py:MyModel", {"depth": 3}, r"cannot be made of \{'depth': 3\}: .*depth"),
        ("my_model.py:MyModel", {"slip": 1}, r"mine forecast sigma, quantiles and p_up of shapes .* were asked for"),
        ("no_such_package:MyModel", {}, r"no_such_package:MyModel cannot be imported: .*install it"),
        ("my_model", {}, r"expected FILE\.py:CLASS or MODULE:CLASS, like my_model\.py:MyModel"),
    ],
)
def test_a_model_that_cannot_be_used_says_why(
    data: Dataset, mine: Path, name: str, settings: dict[str, object], message: str
) -> None:
    given = mine.parent / name if ".py" in name else name
    with pytest.raises(UsageError, match=message):
        contenders.enter(data, folds(data)[:1], with_own(given, **settings), ("mine",))


def test_a_fit_that_fails_names_model_fold_and_reason(data: Dataset, mine: Path) -> None:
    with pytest.raises(DataError, match=r"mine cannot be fitted for 2006: level is -1\.0; it must not be negative"):
        contenders.enter(data, folds(data), with_own(f"{mine}:MyModel", level=-1.0), ("mine",))


def test_what_a_killed_race_had_finished_is_not_fitted_again(data: Dataset, mine: Path, tmp_path: Path) -> None:
    log, work = tmp_path / "log", tmp_path / "work"
    config = with_own(f"{mine}:MyModel", touch=str(log))
    first = contenders.enter(data, folds(data)[:2], config, ("mine",), work=work)
    again = contenders.enter(data, folds(data)[:3], config, ("mine",), work=work)
    assert log.read_text().count("fitted") == 3
    one, other = first[0]["mine"], again[0]["mine"]
    seen = slice(0, folds(data)[1].test_end)
    assert same(Forecast(*(v[:, seen] for v in one)), Forecast(*(v[:, seen] for v in other)))
    (work / "mine" / "2006" / "choices.json").unlink()  # killed before it was whole
    contenders.enter(data, folds(data)[:3], config, ("mine",), work=work)
    assert log.read_text().count("fitted") == 4


def test_two_processes_give_the_bytes_of_one(data: Dataset) -> None:
    names = ("har", "regression")
    found = [contenders.enter(data, folds(data)[:2], load(None, (f"models.processes={n}",)), names)[0] for n in (1, 2)]
    assert all(same(found[0][name], found[1][name]) for name in names)


def test_a_muted_feature_moves_no_forecast(data: Dataset) -> None:
    config, fold = load(None, ("models.processes=1",)), folds(data)[:1]
    silent = {fold[0].name: (4,)}
    x = data.panel.x.copy()
    x[..., 4] = 7.0
    other = Dataset(
        type(data.panel)(*(x if name == "x" else getattr(data.panel, name) for name in data.panel.__annotations__)),
        *(getattr(data, name) for name in Dataset.__annotations__ if name != "panel"),
    )
    found = [contenders.enter(each, fold, config, ("regression",), silent)[0]["regression"] for each in (data, other)]
    assert same(*found)


def test_weights_of_the_stack_rest_on_earlier_years(data: Dataset) -> None:
    config = load(None, ("models.processes=1",))
    members, *_ = contenders.enter(data, folds(data), config, ("har", "regression"))
    weights = contenders.stacked(data, folds(data), members).weights
    np.testing.assert_allclose(weights[0], 0.5)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    altered = data.log_return.copy()
    altered[:, folds(data)[-1].test_start :] *= 5
    moved = Dataset(data.panel, data.horizons, altered, data.rv, data.z, data.relative_variance, data.known_after, 21)
    np.testing.assert_array_equal(contenders.stacked(moved, folds(data), members).weights, weights)


def test_a_refit_at_every_second_slice_forecasts_two_with_one_fit(data: Dataset) -> None:
    all_of = folds(data)
    two = contenders.sharing(all_of, 2)
    assert [(f.name, f.train_end, f.test_end) for f in two] == [
        (all_of[i].name, all_of[i].train_end, all_of[i + 1].test_end) for i in (0, 2)
    ]
    assert contenders.sharing(all_of, 1) == all_of
    apart = [all_of[0], all_of[2]]
    assert contenders.sharing(apart, 2) == apart
    config = load(None, ("models.processes=1",))
    found = contenders.enter(data, two, config, ("regression",))[0]["regression"]
    first = contenders.enter(data, all_of[:1], config, ("regression",))[0]["regression"]
    test = slice(all_of[0].test_start, all_of[0].test_end)
    np.testing.assert_array_equal(found.sigma[:, test], first.sigma[:, test])
    assert np.isfinite(found.sigma[:, all_of[1].test_start : all_of[1].test_end]).all()
