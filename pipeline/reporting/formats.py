"""How figures are written: a true minus, signs where they are news, brackets, a dash for unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

UNKNOWN = "–"  # noqa: RUF001

MODEL_LABELS = {
    "unconditional": "Unconditional",
    "ewma": "Trailing EWMA",
    "har": "HAR",
    "garch": "GARCH",
    "always_up": "Always up",
    "market_momentum": "Market momentum",
    "scale_skip": "Scale regression",
    "regression": "Elastic net",
    "boosting": "Boosted trees",
    "lstm": "LSTM",
    "transformer": "Transformer",
    "convolution": "Convolution",
    "seq2seq": "LSTM, horizon by horizon",
    "stack": "Stack of the learners",
    "student": "Student network",
    "pruned": "Pruned student",
    "int8": "Int8 student",
}

STRATEGY_LABELS = {
    "vol_target": "Volatility target (forecast)",
    "ewma_target": "Volatility target (EWMA)",
    "constant": "Constant exposure, equal volatility",
    "buy_and_hold": "Buy and hold",
}

AGENT_LABELS = {"q_table": "Tabular Q-learning", "dqn": "DQN", "ppo": "PPO", "genetic": "Genetic search"}

OUTPUT_LABELS = {
    "location": "location",
    "scale_down": "log-scale, down side",
    "scale_up": "log-scale, up side",
    "logit": "logit of up",
}


@dataclass(frozen=True)
class Table:
    """A table ready to be shown: every cell is text (escaped by the template).

    Attributes:
        caption: what the table says, in one line.
        head: column names.
        rows: cells as text, one tuple a row.
        left: how many leading columns are text (left-aligned); the rest are numbers.
        strong: indices of the rows that matter most.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    strong: tuple[int, ...] = ()


def known(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number (JSON null and NaN are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 2, sign: bool = False) -> str:
    """`value` with `digits` decimals and thousands separators; a dash when unknown."""
    if not known(value):
        return UNKNOWN
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not any(c in "123456789" for c in text):  # no negative zero
        text = text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: Any, digits: int = 1, sign: bool = True) -> str:
    """`value` in percent units (1.2 means 1.2%)."""
    return number(value, digits, sign) + ("%" if known(value) else "")


def fraction(value: Any, digits: int = 1, sign: bool = False) -> str:
    """`value` as a fraction (0.012 means 1.2%)."""
    return percent(value * 100, digits, sign) if known(value) else UNKNOWN


def interval(low: Any, high: Any, digits: int = 1, unit: str = "%", sign: bool = True) -> str:
    """`[low, high]` with its unit; a dash when either end is unknown."""
    if not (known(low) and known(high)):
        return UNKNOWN
    return f"[{number(low, digits, sign)}{unit}, {number(high, digits, sign)}{unit}]"


def p_value(value: Any) -> str:
    """A p-value to three decimals, `<0.001` below that."""
    if not known(value):
        return UNKNOWN
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def drawdown(value: Any) -> str:
    """A largest fall, always with a minus, whatever the sign it was stored with."""
    return fraction(-abs(value), sign=True) if known(value) else UNKNOWN


def sessions(count: int) -> str:
    """`1 session`, `5 sessions`."""
    return f"{count} session" if count == 1 else f"{count:,} sessions"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else "none"


def model_label(model: str) -> str:
    """The name a reader sees for a model."""
    return MODEL_LABELS.get(model, model.replace("_", " ").capitalize())


def inside(label: str) -> str:
    """A label as it reads in the middle of a sentence: its first letter small, acronyms as they are."""
    return label if label[:2].isupper() else label[:1].lower() + label[1:]


def scaled(value: Any, factor: float) -> float | None:
    """`value` times `factor`; None when unknown."""
    return value * factor if known(value) else None


def pivot(
    caption: str,
    corner: str,
    by: str,
    label: Callable[[str], str],
    rows: list[dict[str, Any]],
    cell: Callable[[dict[str, Any]], str],
) -> Table:
    """A table of one row for each value of `by`, named by `label`, and one column for each horizon."""
    horizons = sorted({row["horizon"] for row in rows})
    names = list(dict.fromkeys(str(row[by]) for row in rows))
    cells = {(str(row[by]), row["horizon"]): cell(row) for row in rows}
    lines = tuple((label(name), *(cells.get((name, h), UNKNOWN) for h in horizons)) for name in names)
    return Table(caption, (corner, *(sessions(h) for h in horizons)), lines)
