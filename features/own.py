"""A user's own features: functions of `Wide`, called year by year under the anchoring rule, their answers checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from features.bars import PAIR, Bars
from features.prices import Wide
from features.trailing import Array

UserFamily = Callable[[Wide], Mapping[str, pd.DataFrame]]

EXAMPLE = """\
import pandas as pd
from features.prices import Wide


def my_family(prices: Wide) -> dict[str, pd.DataFrame]:
    r = prices.returns
    fast, slow = (r.rolling(n, min_periods=n).mean() for n in (10, 50))
    return {"my_cross": (fast - slow) / r.rolling(50, min_periods=50).std()}
"""
"""A module with a family of one feature."""


MOST = float(np.finfo(np.float32).max)
"""What is larger, or infinite, cannot be held by the table, and is missing."""


class FeatureError(ValueError):
    """Features that cannot be made: a user's function that fails or returns something else, an unknown name."""


def compute(bars: Bars, own: Sequence[tuple[str, UserFamily]], taken: Sequence[str]) -> dict[str, Array]:
    """name -> (N, bars.keep) float64 of every own family, in order, NaN = missing.

    Args:
        bars: the span of a year.
        own: name of the family (what errors call it) and its function.
        taken: names that the shipped features have.

    Raises:
        FeatureError: a function fails, its answer is no table of numbers on the sessions and tickers it was given, or
            a name is taken.
    """
    found: dict[str, Array] = {}
    wide = Wide.of(bars) if own else None
    for family, function in own:
        answer = _called(family, function, wide)
        for name, frame in answer.items():
            if name in taken or name in found:
                whose = "a shipped feature" if name in taken else "another of your own features"
                raise FeatureError(f"own features {family}: {name!r} is the name of {whose}; give it another name")
            found[name] = bars.now(_values(f"own features {family}: {name}", frame, wide))
    return found


def _called(family: str, function: UserFamily, wide: Any) -> Mapping[str, pd.DataFrame]:
    try:
        answer: Any = function(wide)
    except Exception as error:
        raise FeatureError(
            f"own features {family} failed on {wide.close.shape[1]} tickers, {wide.close.index[0]:%Y-%m-%d} to "
            f"{wide.close.index[-1]:%Y-%m-%d}: {type(error).__name__}: {error}; a feature must stand bars that are "
            f"missing and tickers that start late, and sees {PAIR + 1} calendar years at a time"
        ) from error
    if not isinstance(answer, Mapping) or not answer:
        what = "an empty one" if isinstance(answer, Mapping) else type(answer).__name__
        raise FeatureError(
            f"own features {family} returned {what}; it must return a dict of "
            "name -> DataFrame, a row a session and a column a ticker, on the axes of prices.close"
        )
    strange = next((name for name in answer if not isinstance(name, str) or not name.isidentifier()), None)
    if strange is not None:
        raise FeatureError(f"own features {family}: {strange!r} cannot be a column; name it like my_momentum_20")
    return answer


def _values(what: str, frame: Any, wide: Any) -> Array:
    """(N, S) of a frame.

    Raises:
        FeatureError: no frame, other axes, or no numbers.
    """
    if not isinstance(frame, pd.DataFrame):
        raise FeatureError(f"{what} is a {type(frame).__name__}; it must be a DataFrame on the axes of prices.close")
    expected = wide.close
    if frame.shape != expected.shape:
        raise FeatureError(
            f"{what} has {frame.shape[0]} rows and {frame.shape[1]} columns; it must have a row for each of "
            f"{expected.shape[0]} sessions and a column for each of {expected.shape[1]} tickers, as prices.close"
        )
    for axis, given, wanted in (("rows", frame.index, expected.index), ("columns", frame.columns, expected.columns)):
        if not given.equals(wanted):
            at = next(i for i, (a, b) in enumerate(zip(given, wanted, strict=True)) if a != b)
            raise FeatureError(
                f"{what} has other {axis} than prices.close, first {given[at]!s} instead of {wanted[at]!s}; "
                "keep its index and columns"
            )
    wrong = next((str(c) for c, dtype in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)), None)
    if wrong is not None:
        raise FeatureError(f"{what} holds {frame[wrong].dtype} for {wrong}; it must hold numbers, NaN where missing")
    values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.abs(values) <= MOST, values, np.nan).T
