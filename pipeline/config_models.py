"""The sections of the configuration that say which forecasters race and how each is made."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeFloat, field_validator

from pipeline.config_features import Section

Learner = Literal["regression", "boosting", "lstm", "transformer", "convolution", "seq2seq"]

BASELINES = ("unconditional", "ewma", "har", "garch")
"""What every model must beat: always in the race."""
NAIVE_DIRECTIONS = ("always_up", "market_momentum")
"""Models of p_up alone: their quantiles are nobody's claim and are not judged."""
RESERVED = (*BASELINES, *NAIVE_DIRECTIONS, "scale_skip", "stack", "student", "int8")


class Scale(Section):
    """The scale skip: ridge on log|z|."""

    alphas: tuple[float, ...] = Field(
        (300.0, 3000.0, 30000.0), description="ridge penalties tried; chosen on the validation slice"
    )
    half_life_sessions: int = Field(2500, ge=250, description="older sessions weigh less: half after this many")


class Student(Section):
    """The causal convolution on top of the scale skip."""

    width: int = Field(32, ge=4, le=256, description="channels of each convolution")
    epochs: int = Field(20, ge=1, le=200, description="most passes over the training sessions")
    patience: int = Field(5, ge=1, description="passes without a better validation loss before stopping")
    learning_rate: float = Field(3e-4, gt=0, lt=1, description="peak of AdamW's schedule")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's decoupled weight decay")
    body_weights: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0), description="weights of the body tried on top of the skip; chosen on validation"
    )
    teacher_weights: tuple[NonNegativeFloat, ...] = Field(
        (10.0,),
        min_length=1,
        description="weights of matching the race's stack, beside the labels; chosen on validation; [0] = labels alone",
    )
    noise: float = Field(0.0, ge=0, le=1, description="standard deviation of noise on scaled features in training")


class Har(Section):
    """The baseline of heterogeneous autoregression on squared returns."""

    windows: tuple[int, ...] = Field((1, 5, 22), min_length=1, description="sessions of its averages")


class Garch(Section):
    """The baseline of GARCH with filtered historical residuals."""

    forms: tuple[Literal["pooled", "gjr", "garch"], ...] = Field(
        ("pooled", "gjr", "garch"), min_length=1, description="tried on validation: one GJR for all, or one a ticker"
    )
    distribution: Literal["t", "normal"] = Field("t", description="of the innovations in the likelihood")


class Regression(Section):
    """Elastic net on log|z|, with a ridge location where validation asks for one."""

    l1_shares: tuple[float, ...] = Field((0.1, 0.5, 0.9), min_length=1, description="of the penalty that is absolute")
    penalties: tuple[float, ...] = Field(
        (0.3, 0.1, 0.03, 0.01, 0.003, 0.001), min_length=1, description="over the smallest that leaves no feature in"
    )
    location_penalties: tuple[float, ...] = Field(
        (10.0, 1.0, 0.1), description="of the location's ridge, hardest first; empty = no location"
    )


class Boosting(Section):
    """Histogram gradient boosting on top of the scale skip, with a location of trees where validation clearly asks."""

    iterations: int = Field(200, ge=10, le=5000, description="most trees; how many count is chosen on validation")
    leaves: int = Field(16, ge=2, le=256, description="most leaves of a tree")
    leaf_rows: int = Field(1000, ge=1, description="fewest rows of a leaf")
    learning_rate: float = Field(0.05, gt=0, le=1, description="weight of each tree")
    location_weights: tuple[float, ...] = Field(
        (0.25, 0.5, 1.0), description="of the location's trees, the best must win clearly; empty = no location"
    )
    l2: float = Field(10.0, ge=0, description="penalty of a leaf's value")
    features: float = Field(0.5, gt=0, le=1, description="share of the features a split may choose from")
    rows: int = Field(150_000, ge=1000, description="most rows of a fit; of more, sessions are thinned evenly")


class Network(Section):
    """What every network is trained by."""

    body_features: int = Field(0, ge=0, description="most features the network reads, the skip's strongest; 0 = all")
    epochs: int = Field(20, ge=1, le=500, description="most passes over the training sessions")
    patience: int = Field(5, ge=1, description="passes without a better validation loss before stopping")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's decoupled weight decay")
    location_penalties: tuple[float, ...] = Field(
        (10.0, 0.003), min_length=1, description="of the squared location, hardest first; a weaker one must win clearly"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="share of units left out in training")


class Lstm(Network):
    """The LSTM on top of the scale skip."""

    learning_rate: float = Field(4e-4, gt=0, lt=1, description="peak of AdamW's schedule")
    width: int = Field(48, ge=2, le=1024, description="width of the state")
    layers: int = Field(1, ge=1, le=8, description="layers")
    warm_up: int = Field(63, ge=1, le=500, description="sessions that the state is warmed up on")


class Transformer(Network):
    """The causal Transformer with a sliding window on top of the scale skip."""

    learning_rate: float = Field(1e-4, gt=0, lt=1, description="peak of AdamW's schedule")
    width: int = Field(64, ge=2, le=1024, description="width; over the heads an even number")
    heads: int = Field(4, ge=1, le=64, description="heads of attention")
    layers: int = Field(2, ge=1, le=16, description="layers")
    window: int = Field(32, ge=2, le=512, description="sessions that a session attends to, itself included")


class Convolution(Network):
    """The causal convolution of teacher size on top of the scale skip."""

    learning_rate: float = Field(3e-4, gt=0, lt=1, description="peak of AdamW's schedule")
    width: int = Field(64, ge=2, le=1024, description="channels")
    kernel: int = Field(3, ge=2, le=16, description="taps of a convolution")
    dilations: tuple[int, ...] = Field((1, 2, 4, 8, 16, 32), min_length=1, description="of each block")


class Seq2Seq(Network):
    """The LSTM that writes the horizons one after another."""

    learning_rate: float = Field(4e-4, gt=0, lt=1, description="peak of AdamW's schedule")
    width: int = Field(48, ge=2, le=1024, description="width of the encoder's state")
    decoder_width: int = Field(24, ge=2, le=1024, description="width of the decoder's state")
    warm_up: int = Field(63, ge=1, le=500, description="sessions that the state is warmed up on")


class Own(Section):
    """One of the user's own models."""

    model: str = Field(description="its class, like my_model.py:MyModel or my_package.models:MyModel")
    settings: dict[str, Any] = Field({}, description="keyword arguments of the class")


class Models(Section):
    """The forecasters in the race, beside the baselines that always run."""

    seed: int = Field(7, ge=0, description="seed of every random choice")
    threads: int = Field(1, ge=1, le=64, description="threads of each fit; part of what 'same bytes' means")
    processes: int = Field(0, ge=0, le=256, description="fits at one time; 0 = one a core; no byte depends on it")
    race: tuple[Learner, ...] = Field(
        ("regression", "boosting", "lstm", "transformer"), description="learners in the race, in this order"
    )
    refit_every: int = Field(1, ge=1, description="learners are fitted anew at every so many test slices")
    widths: Literal["pooled", "volatility_group", "adaptive"] = Field(
        "adaptive", description="of the student's bands: as fitted, by volatility of the session, or by coverage so far"
    )
    seeds: int = Field(1, ge=1, le=50, description="networks averaged over so many seeds")
    own: dict[str, Own] = Field(
        {}, description='your own models in the race, like { mine = { model = "my_model.py:MyModel" } }'
    )
    scale: Scale = Scale()
    student: Student = Student()
    har: Har = Har()
    garch: Garch = Garch()
    regression: Regression = Regression()
    boosting: Boosting = Boosting()
    lstm: Lstm = Lstm()
    transformer: Transformer = Transformer()
    convolution: Convolution = Convolution()
    seq2seq: Seq2Seq = Seq2Seq()

    @field_validator("race")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a learner is named twice")
        return value

    @field_validator("own")
    @classmethod
    def _free_names(cls, value: dict[str, Own]) -> dict[str, Own]:
        taken = (*RESERVED, *get_args(Learner))
        for name in value:
            if name in taken or not name.isidentifier():
                raise ValueError(f"{name!r} cannot name a model of yours; take another word than {', '.join(taken)}")
        return value
