"""The explicit, ordered list of features, and the one function that builds their table."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from features import own as own_features
from features.bars import PAIR, Bars, pair_of
from features.catalogue import names_by_family
from features.news import News, sentiment_features
from features.own import FeatureError, UserFamily
from features.panel import KEYS, Float32, Panel
from features.prices import FAMILIES
from features.trailing import Array

__all__ = ["FEATURES", "OBSERVED", "FeatureError", "News", "build", "names"]

OBSERVED = "observed"
SENTIMENT = "sentiment"

FEATURES = names_by_family()
"""Family -> its features, in the order of the table. A name here and not in its family's function is an error."""


def names(families: Sequence[str], chosen: Sequence[str] = (), own: Sequence[str] = ()) -> tuple[str, ...]:
    """The feature columns of the table, `observed` first.

    Args:
        families: shipped families, in order; left aside where `chosen` is given.
        chosen: exactly these features, in this order; empty = all of the families, then all own ones.
        own: the names of the user's own features.

    Raises:
        FeatureError: a chosen name is unknown (the nearest one is named) or chosen twice.
    """
    if not chosen:
        return (OBSERVED, *(name for family in families for name in FEATURES[family]), *own)
    known = [OBSERVED, *_shipped(), *own]
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise FeatureError(f"unknown feature {name!r}; did you mean {near}? All: tradewind features --list")
        if list(chosen).count(name) > 1:
            raise FeatureError(f"feature {name!r} is chosen twice; name it once")
    return (OBSERVED, *(name for name in chosen if name != OBSERVED))


def build(
    bars: Bars,
    news: News,
    families: Sequence[str],
    own: Sequence[tuple[str, UserFamily]] = (),
    chosen: Sequence[str] = (),
    first: int | None = None,
) -> Panel:
    """Every feature of every ticker and session, each known at the session's decision time.

    `observed` is 1 where the ticker traded; every other feature is NaN where it did not, and during its warm-up.
    Calendar years are computed two by two, each pair from its own bars and those of the year before it
    (features/bars.py): the bars of three years give the last one the same bits as the whole history does.

    Args:
        bars: prices on the exchange's sessions.
        news: headlines and the clock they are assigned by.
        families: shipped families wanted, in order.
        own: the user's families (features/own.py): what to call each, and its function.
        chosen: see `names`.
        first: the first calendar year wanted; None = that of the first bar.

    Returns:
        The panel of all tickers and of the sessions of `bars` from January 1 of `first` on; `vol` is `Bars.scale` of
        each year and `r` is `Bars.r`.

    Raises:
        FeatureError: `chosen` or an own family cannot be used.
    """
    pairs = np.unique(bars.years - bars.years % PAIR)
    pairs = pairs if first is None else pairs[pairs >= pair_of(first)]
    since = int(np.searchsorted(bars.years, pairs[0])) if len(pairs) else len(bars.years)
    shape = len(bars.tickers), len(bars.years) - since
    ordered: tuple[str, ...] = () if own else names(families, chosen)
    x, end = np.empty((*shape, len(ordered)), np.float32), 0
    vol, r = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for year in pairs:
        span = bars.span(int(year))
        mine = own_features.compute(span, own, (OBSERVED, *KEYS, *_shipped()))
        if year == pairs[0]:
            mine_first = tuple(mine)
            ordered = names(families, chosen, mine_first)
            x = np.empty((*shape, len(ordered)), np.float32)
            text = {name: values[:, since:] for name, values in _sentiment(bars, news, ordered).items()}
        _same_names(mine_first, tuple(mine), int(pairs[0]), int(year))
        part = slice(end, end + span.keep)
        _fill(x[:, part], ordered, span, mine | {name: values[:, part] for name, values in text.items()})
        vol[:, part], r[:, part], end = span.scale, span.now(span.r), part.stop
    before = 0 if first is None else int(np.searchsorted(bars.years[since:], first))
    sessions = bars.sessions[since + before :]
    return Panel(bars.tickers, sessions, ordered, x[:, before:], vol[:, before:], r[:, before:])


def _same_names(before: tuple[str, ...], now: tuple[str, ...], first: int, year: int) -> None:
    if before != now:
        raise FeatureError(
            f"own features gave {', '.join(now)} from {year} on, but {', '.join(before)} from {first} on; give the "
            "same names in the same order, whatever the prices"
        )


def _fill(x: Float32, ordered: Sequence[str], span: Bars, given: Mapping[str, Array | Float32]) -> None:
    """Write the features of a year: those given, and those of the families.

    Args:
        x: (N, span.keep, F), written.
        ordered: F names.
        given: own and sentiment features, (N, span.keep).
    """
    # A feature after the other, then all turned at once: writing single cells far apart is slower than computing them.
    block = np.empty((len(ordered), *x.shape[:2]), dtype=np.float32)
    places = dict(zip(ordered, range(len(ordered)), strict=True))
    for name, values in _computed(ordered, span, given):
        block[places.pop(name)] = values
    assert not places, f"no family computes {', '.join(places)}"
    for n in range(len(x)):  # a ticker at a time stays in the processor's cache
        x[n] = block[:, n].T
    x[~span.now(span.traded)] = np.nan


def _computed(
    ordered: Sequence[str], span: Bars, given: Mapping[str, Array | Float32]
) -> Iterator[tuple[str, Array | Float32]]:
    wanted = set(ordered)
    yield OBSERVED, np.ones(span.v.shape)
    yield from ((name, values) for name, values in given.items() if name in wanted)
    for family, compute in FAMILIES.items():
        if wanted.intersection(FEATURES[family]):
            yield from ((name, values) for name, values in compute(span).items() if name in wanted)


def _sentiment(bars: Bars, news: News, ordered: Sequence[str]) -> dict[str, Float32]:
    """(N, S) of each sentiment feature wanted."""
    wanted = [name for name in FEATURES[SENTIMENT] if name in ordered]
    if not wanted:
        return {}
    found = sentiment_features(news, bars.tickers.tolist(), pd.DatetimeIndex(bars.sessions.astype("datetime64[us]")))
    return {name: found[name] for name in wanted}


def _shipped() -> list[str]:
    return [name for family in FEATURES.values() for name in family]
