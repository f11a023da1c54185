"""The section of the configuration that says how trading agents learn."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field, field_validator

from pipeline.config_features import Section

Algorithm = Literal["q_table", "dqn", "ppo", "genetic"]


class Agent(Section):
    """Trading agents: how they learn to hold exposure, and what they pay."""

    use: bool = Field(
        False,
        description="whether today's weights are those of the bundle's policy, and the retrain flow trains one",
    )
    algorithms: tuple[Algorithm, ...] = Field(
        ("q_table", "dqn", "ppo", "genetic"), min_length=1, description="that learn, each on the same steps and seeds"
    )
    seeds: int = Field(10, ge=2, le=100, description="agents of each algorithm; one alone is no figure")
    steps: int = Field(200_000, ge=1000, description="environment steps of each agent on each training slice")
    environments: int = Field(256, ge=1, le=65536, description="episodes that run side by side")
    episode_sessions: int = Field(
        126, ge=5, le=2520, description="sessions of an episode, cut from anywhere in training"
    )
    risk_aversion: float = Field(
        3.0, ge=0, description="of the reward g - risk_aversion / 2 g^2 of a session's log growth g, net of costs"
    )
    cost_bps: float = Field(5.0, ge=0, le=300, description="cost a side, in basis points of value traded")
    levels: int = Field(11, ge=2, le=101, description="weights between 0 and backtest.max_weight on the discrete grid")
    first_test: dt.date | None = Field(
        None, description="earliest session of the agents' test; none = after two test years of the race"
    )
    refit_years: int = Field(2, ge=1, le=20, description="test years after which agents learn anew from all before")
    features: tuple[str, ...] = Field(
        ("vol_change_20", "ret_20", "drawdown_250"), description="features seen beside the forecast; see FEATURES.md"
    )
    pretrain: Literal["band", "target", "none"] = Field(
        "band", description="what DQN and PPO imitate first: the volatility target with a tuned band, without one, none"
    )

    @field_validator("algorithms", "features")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("one is named twice")
        return value

    @field_validator("first_test", mode="before")
    @classmethod
    def _date(cls, value: object) -> object:
        if isinstance(value, bool | int | float):  # pydantic would read seconds since 1970
            raise ValueError("expected a date, like 2010-01-01")
        return value
