"""What `tradewind tune` searches: for each model the keys of its section, and the values tried.

Epochs, patience and everything that training itself chooses on its validation slice (weights of the body, number of
trees) are left to training. A value of the configuration that lies outside is taken in, so that a search always knows
the present settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from pipeline.config import Config
from pipeline.config_features import Section
from pipeline.errors import UsageError

DIGITS = 3
"""A number found is rounded to so many significant digits before it is tried: it can be pasted as it was tried."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both in; whole ones if both are; log: each factor counts alike."""

    low: float
    high: float
    log: bool = True

    def holding(self, value: float) -> Range:
        """Wide enough for `value`; zero has no logarithm."""
        return replace(self, low=min(self.low, value), high=max(self.high, value), log=self.log and value > 0)

    def distribution(self) -> BaseDistribution:
        """As Optuna draws from it."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def encode(self, value: float) -> float:
        """A value of the configuration as Optuna holds it."""
        return value

    def decode(self, drawn: float, present: float) -> float:
        """What Optuna drew as a value of the configuration; `present` comes back as it is."""
        return drawn if isinstance(drawn, int) or drawn == present else float(f"{drawn:.{DIGITS}g}")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of several values, without an order; lists are values too."""

    options: tuple[Any, ...]

    def holding(self, value: Any) -> Choice:
        """With `value` among the options."""
        return self if value in self.options else Choice((*self.options, value))

    def distribution(self) -> BaseDistribution:
        """As Optuna draws from it: JSON texts, since it knows no lists."""
        return CategoricalDistribution([self.encode(option) for option in self.options])

    def encode(self, value: Any) -> str:
        """A value of the configuration as Optuna holds it."""
        return json.dumps(value)

    def decode(self, drawn: str, present: Any) -> Any:
        """What Optuna drew as a value of the configuration."""
        return next(option for option in self.options if self.encode(option) == drawn)

    def __str__(self) -> str:
        return " | ".join(self.encode(option) for option in self.options)


Space = Mapping[str, Range | Choice]

_TRAINING: dict[str, Range | Choice] = {"weight_decay": Range(0.01, 1.0), "dropout": Range(0.0, 0.5, log=False)}
_NETWORK: dict[str, Range | Choice] = {**_TRAINING, "body_features": Choice((0, 16, 32))}
_RECURRENT: dict[str, Range | Choice] = {
    "learning_rate": Range(3e-5, 2e-3),
    **_NETWORK,
    "width": Range(16, 96),
    "warm_up": Choice((21, 42, 63, 126)),
}
SPACES: dict[str, Space] = {
    "scale": {
        "alphas": Choice(
            ((30.0, 300.0, 3000.0), (300.0, 3000.0, 30000.0), (3000.0, 30000.0, 300000.0), (300.0,), (3000.0,))
        ),
        "half_life_sessions": Range(250, 10_000),
    },
    "student": {
        "width": Range(8, 64),
        "learning_rate": Range(3e-5, 3e-3),
        "weight_decay": _TRAINING["weight_decay"],
    },
    "regression": {
        "l1_shares": Choice(((0.1, 0.5, 0.9), (0.1,), (0.5,), (0.9,))),
        "penalties": Choice(
            (
                (0.3, 0.1, 0.03, 0.01, 0.003, 0.001),
                (0.1, 0.03, 0.01),
                (0.03, 0.01, 0.003, 0.001, 0.0003),
                (0.003, 0.001, 0.0003, 0.0001),
            )
        ),
        "location_penalties": Choice(((10.0, 1.0, 0.1), (10.0,), ())),
    },
    "boosting": {
        "learning_rate": Range(0.02, 0.2),
        "iterations": Range(50, 400),
        "leaves": Range(3, 32),
        "leaf_rows": Range(50, 2000),
        "l2": Range(1.0, 300.0),
        "features": Range(0.2, 1.0, log=False),
    },
    "lstm": {**_RECURRENT, "layers": Choice((1, 2))},
    "seq2seq": {**_RECURRENT, "decoder_width": Range(8, 48)},
    "transformer": {
        "learning_rate": Range(1e-5, 1e-3),
        **_NETWORK,
        "width": Choice((32, 64, 96)),
        "heads": Choice((2, 4, 8)),
        "layers": Choice((1, 2, 3)),
        "window": Choice((16, 32, 64)),
    },
    "convolution": {
        "learning_rate": Range(3e-5, 2e-3),
        **_NETWORK,
        "width": Range(16, 96),
        "kernel": Choice((2, 3, 4)),
        "dilations": Choice(((1, 2, 4, 8), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32))),
    },
}
"""Model -> key of its section under [models] -> what is tried."""


def of(config: Config, model: str) -> Space:
    """The space of a model, wide enough for the present settings.

    Raises:
        UsageError: no such model, or none that can be tuned.
    """
    if model not in SPACES:
        raise UsageError(f"there is nothing to tune for {model!r}; the models are {', '.join(SPACES)}")
    section = _section(config, model)
    return {key: part.holding(getattr(section, key)) for key, part in SPACES[model].items()}


def encoded(space: Space, config: Config, model: str) -> dict[str, Any]:
    """The present settings as Optuna holds them."""
    section = _section(config, model)
    return {key: part.encode(getattr(section, key)) for key, part in space.items()}


def decoded(space: Space, drawn: Mapping[str, Any], config: Config, model: str) -> dict[str, Any]:
    """What Optuna drew as values of the model's section."""
    section = _section(config, model)
    return {key: part.decode(drawn[key], getattr(section, key)) for key, part in space.items()}


def applied(config: Config, model: str, settings: Mapping[str, Any]) -> Config:
    """The configuration with these values in the model's section.

    Raises:
        ValueError: the section does not take a value.
    """
    section = _section(config, model)
    try:
        tried = type(section).model_validate({**section.model_dump(), **settings})
    except ValidationError as error:
        raise ValueError(f"models.{model} does not take {dict(settings)}: {error}") from None
    return config.model_copy(update={"models": config.models.model_copy(update={model: tried})})


def toml(model: str, settings: Mapping[str, Any]) -> str:
    """The section to paste into tradewind.toml."""
    rows = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join([f"[models.{model}]", *rows])


def _section(config: Config, model: str) -> Section:
    found: Section = getattr(config.models, model)
    return found
