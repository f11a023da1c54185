"""The search spaces: keys that exist, values that the sections take, present settings always inside."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution

from pipeline import contenders, search_space, walkforward
from pipeline.config import Config, load
from pipeline.errors import UsageError
from pipeline.search_space import SPACES, Choice, Range

MODELS = sorted(SPACES)


def with_settings(model: str, **settings: Any) -> Config:
    return search_space.applied(Config(), model, settings)


def ends(part: Range | Choice) -> tuple[Any, ...]:
    return part.options if isinstance(part, Choice) else (part.low, part.high)


@pytest.mark.parametrize("model", MODELS)
def test_the_defaults_lie_inside(model: str) -> None:
    assert search_space.of(Config(), model) == SPACES[model]


@pytest.mark.parametrize("model", MODELS)
def test_every_end_is_taken_by_its_section_and_makes_a_model(model: str) -> None:
    for key, part in SPACES[model].items():
        for value in ends(part):
            config = with_settings(model, **{key: value})
            assert getattr(getattr(config.models, model), key) == value
            if model in ("scale", "student"):
                walkforward.student_config(config)
            else:
                made = contenders.forecaster(config, model)
                if hasattr(made, "network"):
                    made.network(8, (1, 5))


@pytest.mark.parametrize("model", MODELS)
def test_all_combinations_of_the_transformer_and_its_like_can_be_built(model: str) -> None:
    widths, heads = SPACES[model].get("width"), SPACES[model].get("heads")
    if isinstance(widths, Choice) and isinstance(heads, Choice):
        for width in widths.options:
            for several in heads.options:
                contenders.forecaster(with_settings(model, width=width, heads=several), model).network(8, (1, 5))
    else:
        assert heads is None


@pytest.mark.parametrize("model", MODELS)
def test_present_settings_survive_the_way_to_optuna_and_back(model: str) -> None:
    config = Config()
    space = search_space.of(config, model)
    drawn = search_space.encoded(space, config, model)
    for key, part in space.items():
        distribution = part.distribution()
        assert distribution.to_external_repr(distribution.to_internal_repr(drawn[key])) == drawn[key]
    section = getattr(config.models, model)
    assert search_space.decoded(space, drawn, config, model) == {key: getattr(section, key) for key in space}


def test_the_pasted_section_is_what_was_tried(tmp_path: Any) -> None:
    settings = {"learning_rate": 3.17e-05, "width": 24, "layers": 2, "warm_up": 21}
    file = tmp_path / "tradewind.toml"
    file.write_text(search_space.toml("lstm", settings))
    assert load(file).models == with_settings("lstm", **settings).models
    lists = {"l1_shares": (0.1, 0.5), "location_penalties": ()}
    assert tomllib.loads(search_space.toml("regression", lists)) == {
        "models": {"regression": {"l1_shares": [0.1, 0.5], "location_penalties": []}}
    }


def test_a_setting_outside_is_taken_in() -> None:
    config = with_settings("lstm", learning_rate=0.0123456, width=7, warm_up=50)
    space = search_space.of(config, "lstm")
    assert space["learning_rate"] == Range(3e-5, 0.0123456)
    assert space["width"] == Range(7, 96)
    assert space["warm_up"] == Choice((21, 42, 63, 126, 50))
    drawn = search_space.encoded(space, config, "lstm")
    found = search_space.decoded(space, drawn, config, "lstm")
    assert found["learning_rate"] == 0.0123456  # not rounded: it is the present one


def test_zero_takes_the_logarithm_away() -> None:
    space = search_space.of(with_settings("lstm", weight_decay=0.0), "lstm")
    assert space["weight_decay"] == Range(0.0, 1.0, log=False)


@given(st.floats(3e-5, 2e-3))
def test_numbers_are_rounded_to_three_digits(drawn: float) -> None:
    found = Range(3e-5, 2e-3).decode(drawn, present=4e-4)
    assert found == pytest.approx(drawn, rel=5.1e-3)
    assert len(f"{found:.10e}".partition("e")[0].rstrip("0").replace(".", "")) <= 3


def test_whole_numbers_stay_whole() -> None:
    assert Range(16, 96).distribution().to_external_repr(17.0) == 17
    assert isinstance(Choice(((1,), (2,))).distribution(), CategoricalDistribution)


def test_what_cannot_be_tuned_is_named() -> None:
    with pytest.raises(UsageError, match="there is nothing to tune for 'garch'; the models are scale, student, regr"):
        search_space.of(Config(), "garch")


def test_a_value_that_the_section_refuses_is_named() -> None:
    with pytest.raises(ValueError, match=r"models.scale does not take \{'half_life_sessions': 3\}"):
        with_settings("scale", half_life_sessions=3)
