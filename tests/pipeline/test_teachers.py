"""What students are taught: the stack of their own fold over its training sessions, and nothing they could not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.decode import Forecast
from models.forecasters.ensemble import combine
from pipeline import racing, walkforward
from pipeline.config import Config, load
from pipeline.racing import Race
from pipeline.teachers import Kept, Teachers
from pipeline.walkforward import Dataset
from tests.pipeline.text_fixture import dataset, folds, universe

QUICK = (
    "models.processes=1", 'models.garch.forms=["pooled"]', 'models.race=["regression"]', "models.student.epochs=6",
    "models.student.width=4", "models.student.learning_rate=0.01", "compress.body_features=4",
    "models.student.body_weights=[1.0]", "models.student.teacher_weights=[1.0]",
)  # fmt: skip


def quick(*more: str) -> Config:
    return load(None, (*QUICK, *more))


@pytest.fixture(scope="module")
def data() -> Dataset:
    """The scale also follows a feature of three sessions ago, so that there is something for a body to learn."""
    plain = universe(scale=0.3)
    z = plain.z.copy()
    z[:, 3:] *= np.exp(0.8 * plain.panel.x[:, :-3, 2, None])
    return dataset(plain.panel, z)


def run(data: Dataset, config: Config, work: Path | None = None) -> Race:
    live = walkforward.splits.live_fold(len(data.panel.sessions), 120, data.purge)
    return racing.race(data, folds(data), config, live, work=work)


def forecast(value: float, sessions: int) -> Forecast:
    """Normal quantiles of this sigma everywhere."""
    normal = np.array([-2.33, -1.64, -1.28, -0.67, 0, 0.67, 1.28, 1.64, 2.33])
    sigma = np.full((1, sessions, 1), value)
    return Forecast(sigma, sigma[..., None] * normal, np.full_like(sigma, 0.5))


def kept(value: float, train_end: int, length: int) -> Kept:
    return Kept.of(forecast(value, length), train_end, None)


def test_a_fold_is_taught_by_what_was_fitted_last_before_its_slices_ended(data: Dataset) -> None:
    fold = replace(folds(data)[0], fit_end=250, train_end=400)
    fits = [kept(1.0, 200, 350), kept(2.0, 400, 520), kept(3.0, 401, 700)]
    weights = {200: np.array([[0.5], [0.5]]), 400: np.array([[1.0], [0.0]]), 401: np.array([[0.0], [1.0]])}
    teachers = Teachers({"a": fits, "b": [kept(4.0, 200, 700)]}, weights)
    taught = teachers.of(fold)
    assert taught.final.sigma.shape == (1, 400, 1)
    np.testing.assert_allclose(taught.final.sigma, 2.0)
    assert taught.early is not None
    assert taught.early.sigma.shape == (1, 250, 1)
    np.testing.assert_allclose(taught.early.sigma, 2.0)  # the mean in logs of 1 and 4
    assert teachers.weights_of(fold) == {"a": [1.0], "b": [0.0]}


def test_what_a_model_did_not_forecast_nobody_is_taught(data: Dataset) -> None:
    fold = replace(folds(data)[0], fit_end=150, train_end=400)
    teachers = Teachers({"a": [kept(1.0, 200, 350)]}, {400: np.ones((1, 1))})
    taught = teachers.of(fold)
    assert taught.final.sigma.shape[1] == 350
    assert taught.early is None
    with pytest.raises(ValueError, match=f"no teacher was fitted by the end of the training slice of {fold.name}"):
        teachers.of(replace(fold, train_end=199))


def test_a_file_holds_what_memory_would(tmp_path: Path) -> None:
    found = forecast(0.3, 9)
    inside, outside = (Kept.of(found, 5, path) for path in (None, tmp_path / "deep" / "past.npz"))
    assert (inside.length, outside.length) == (9, 9)
    for one, other, given in zip(inside.read(7), outside.read(7), found, strict=True):
        assert one.tobytes() == other.tobytes()
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, given[:, :7], rtol=1e-6)


def test_students_are_taught_by_the_stack_of_their_fold(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    fit = walkforward.fit_student

    def watched(training, config, teacher=None):  # type: ignore[no-untyped-def]
        if teacher is not None:
            seen[training.slices.train_end] = teacher
        return fit(training, config, teacher)

    monkeypatch.setattr(walkforward, "fit_student", watched)
    raced = run(data, quick())
    names = [*(fold.name for fold in folds(data)), "live"]
    assert [each.fold.name for each in raced.students] == names
    assert list(seen) == [each.fold.train_end for each in raced.students]
    assert list(raced.choices["student"]) == list(raced.choices["regression"]) == list(raced.choices["stack"]) == names
    assert all(each.student.is_taught for each in raced.students[-2:])
    for each in raced.students:
        by_horizon = raced.choices["stack"][each.fold.name]
        of_stack = {m: [by_horizon[str(h)][m] for h in data.horizons] for m in by_horizon["1"]}
        assert each.teachers == (of_stack if each.student.is_taught else {})
        teacher = seen[each.fold.train_end]
        assert teacher.final.sigma.shape == (4, each.fold.train_end, 2)
        assert np.isfinite(teacher.final.sigma).all()
    # A later fold chooses by models that were fitted before its validation.
    assert [seen[each.fold.train_end].early is None for each in raced.students] == [True, False, False, False, False]


def test_between_refits_the_teacher_is_that_of_the_last_one(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    found = racing.contenders.forecaster

    def watched(config: Config, name: str) -> object:
        if name == "regression":
            fits.append(0)
        return found(config, name)

    monkeypatch.setattr(racing.contenders, "forecaster", watched)
    raced = run(data, quick("models.refit_every=2"))
    assert len(fits) == 3  # two groups of two, and the live one
    assert all(each.student.is_taught for each in raced.students[-2:])


@pytest.mark.parametrize("switch", ["models.race=[]", "models.student.teacher_weights=[0.0]"])
def test_without_a_teacher_students_are_as_ever(data: Dataset, switch: str) -> None:
    config = quick(switch)
    raced = run(data, config)
    plain = walkforward.fit_folds(data, folds(data), walkforward.student_config(config))
    for one, other in zip(raced.students, plain, strict=False):
        assert one.student.network.head_weight.tobytes() == other.student.network.head_weight.tobytes()
        assert (one.student.teacher_weight, one.teachers) == (0.0, {})
    assert "live" not in raced.choices.get("regression", {})


def test_progress_counts_every_fit_and_a_killed_race_goes_on(data: Dataset, tmp_path: Path) -> None:
    config, counts = quick(), []
    live = walkforward.splits.live_fold(len(data.panel.sessions), 120, data.purge)
    first = racing.race(data, folds(data), config, live, work=tmp_path, progress=counts.append)
    assert sorted(set(counts)) == list(range(racing.fits(config, folds(data), live) + 1))
    (tmp_path / "regression" / "2008" / "past.npz").unlink()  # killed before it was whole
    again = run(data, config, tmp_path)
    for one, other in zip(first.students, again.students, strict=True):
        assert one.student.network.head_weight.tobytes() == other.student.network.head_weight.tobytes()


def test_an_altered_future_moves_no_student_before_it(data: Dataset) -> None:
    cut = folds(data)[2].test_start + 40
    panel, z = data.panel, data.z.copy()
    x = panel.x.copy()
    x[:, cut:] += 1.0
    for h, known in enumerate(data.known_after):
        z[:, cut - known + 1 :, h] *= 3  # what is known at the cut and after
    altered = dataset(replace(panel, x=x), z)
    found = [run(each, quick()).forecasts for each in (data, altered)]
    for name in ("stack", "student"):
        for one, other in zip(found[0][name], found[1][name], strict=True):
            assert one[:, :cut].tobytes() == other[:, :cut].tobytes()
    assert np.isfinite(found[0]["student"].sigma[:, cut - 40 : cut]).all()
    later = slice(folds(data)[3].test_start, None)
    assert not np.array_equal(found[0]["student"].sigma[:, later], found[1]["student"].sigma[:, later], equal_nan=True)


def test_the_combination_is_the_ensemble_s() -> None:
    fits = [kept(1.0, 5, 9), kept(3.0, 5, 9)]
    weights = np.array([[0.25], [0.75]])
    fold = walkforward.splits.Fold("x", 2, 3, 5, 6, 9)
    found = Teachers({"a": fits[:1], "b": fits[1:]}, {5: weights}).of(fold).final
    expected = combine([fit.read(5) for fit in fits], weights)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(found, expected, strict=True))
