"""The sections of the configuration that say what a feature is; and what every section is."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """One table of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Family = Literal[
    "returns", "momentum", "volatility", "range", "gap", "market", "beta", "volume", "drawdown", "rank", "calendar",
    "sentiment",
]  # fmt: skip


class Features(Section):
    """Which features the table holds."""

    families: tuple[Family, ...] = Field(
        get_args(Family), description="families of features, in the order of the table; see FEATURES.md"
    )
    chosen: tuple[str, ...] = Field(
        (), description='exactly these features, in this order, like ["log_vol", "ret_5"]; empty = all of the families'
    )
    own: tuple[str, ...] = Field(
        (), description='your own families, like ["my_features.py:my_family"]; FILE.py from the directory of this file'
    )

    @field_validator("families", "chosen", "own")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((name for name in value if value.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is named twice")
        return value


class Sentiment(Section):
    """How a headline becomes positive, neutral or negative."""

    scorer: Literal["trained", "textblob", "vader"] = Field(
        "trained", description="what gives a class: trained (by tradewind sentiment train), textblob or vader"
    )
    threshold: float = Field(0.1, gt=0, lt=1, description="TextBlob's polarity beyond it is positive or negative")
    require_lift: bool = Field(False, description="use text only where it is shown to improve the forecast")
