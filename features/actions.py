"""Corporate actions: one-session total returns from prices and the vendor's listed dividends and splits.

Vendors differ: one leaves `close` raw, another has divided it by every later split; `adj_close` may be exact,
rounded to cents, or absent (equal to `close`). So every return is decided by its own two bars, the ticker's last one
and this one, and checked against `adj_close`:

    raw              (close_t * split + dividend) / close_{t-1}
    split-adjusted   (close_t + dividend) / close_{t-1}

A listed action takes the one nearer to the vendor's adj_t / adj_{t-1}. Without one the close ratio is taken, unless
adj_close moved beyond its rounding: then the vendor knows an action that it did not list, and its ratio is taken.
A vendor that rebases the whole of adj_close, as each new dividend makes it do, changes no return.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HALF_CENT = 0.005
HALF_MICRO = 0.5e-6
FEW_DECIMALS = 1e4
"""A price of at most four decimals may be one in cents, or one in cents rebased; one of more was never rounded to
cents, and small actions can be told in it whatever its level."""
RELATIVE = 1e-6
"""On top of the rounding: figures stored in single precision."""
IMPLIED_DECIMALS = 9
"""Of the log of an unlisted action: beyond them a rebased adj_close gives other bits."""

MISMATCH_COLUMNS = ("ticker", "session", "expected_return", "adj_return", "dividend", "split")


class Bars(NamedTuple):
    """Two prices of the same bars, (n,) each and above zero."""

    close: Floats
    adj_close: Floats


class Listed(NamedTuple):
    """What the vendor lists for bars, (n,) each; `any`: a dividend or a split."""

    dividend: Floats
    split: Floats
    any: Bools


class Gross(NamedTuple):
    """(n,) total returns of a session.

    ratio: 1 + return. mismatch: an action is listed that adj_close contradicts. unlisted: adj_close knows an action
    that is not listed.
    """

    ratio: Floats
    mismatch: Bools
    unlisted: Bools


class Adjusted(NamedTuple):
    """Total returns with every action in, and what the vendor contradicts itself about.

    gross: on the index of the rows, 1 + total return since the ticker's bar before, from these two bars alone; NaN on
    its first one. mismatches: MISMATCH_COLUMNS by ticker and session, simple returns. unlisted: the
    session of every return that rests on adj_close alone.
    """

    gross: pd.Series
    mismatches: pd.DataFrame
    unlisted: pd.DatetimeIndex


def adjust(rows: pd.DataFrame) -> Adjusted:
    """The total returns of rows of the `prices` table, in any order, one a (ticker, session)."""
    ticker, _ = pd.factorize(rows["ticker"])
    order = np.lexsort((rows["session"].to_numpy(), ticker))
    owner = ticker[order]
    close, adj_close, dividend, split = (
        rows[name].to_numpy(dtype=np.float64)[order] for name in ("close", "adj_close", "dividend", "split")
    )
    follows = owner[1:] == owner[:-1]
    bars = Bars(close, adj_close)
    now, before = Bars(*(part[1:][follows] for part in bars)), Bars(*(part[:-1][follows] for part in bars))
    found = gross_returns(now, before, dividend[1:][follows], split[1:][follows])
    at = np.flatnonzero(follows) + 1
    gross = np.full(len(rows), np.nan)
    gross[order[at]] = found.ratio
    which = found.mismatch
    contradicted = rows.iloc[order[at[which]]]
    mismatches = pd.DataFrame(
        {
            "ticker": contradicted["ticker"].to_numpy(),
            "session": contradicted["session"].to_numpy(),
            "expected_return": found.ratio[which] - 1,
            "adj_return": (now.adj_close / before.adj_close)[which] - 1,
            "dividend": dividend[at[which]],
            "split": split[at[which]],
        }
    )
    mismatches = mismatches.sort_values(["ticker", "session"], ignore_index=True)
    unlisted = pd.DatetimeIndex(rows["session"].iloc[order[at[found.unlisted]]])
    return Adjusted(pd.Series(gross, index=rows.index), mismatches, unlisted)


def gross_returns(now: Bars, before: Bars, dividend: Floats, split: Floats) -> Gross:
    """1 + total return of each bar over the ticker's bar before it.

    Args:
        now, before: the two bars.
        dividend: a share, in the currency of the close, 0 = none.
        split: new shares for an old one, 1 = none.
    """
    close_ratio = now.close / before.close
    adj_move = np.log(now.adj_close / before.adj_close)
    implied = adj_move - np.log(close_ratio)
    listed = (dividend > 0) | (split != 1)
    # Nothing is to be decided for nearly all bars: none listed, and adj_close moved as the close did.
    open_ = np.flatnonzero(listed | (np.abs(implied) > RELATIVE))
    found = Gross(close_ratio, np.zeros(len(close_ratio), dtype=bool), np.zeros(len(close_ratio), dtype=bool))
    now, before = (Bars(*(part[open_] for part in bars)) for bars in (now, before))
    decided = _decided(now, before, Listed(dividend[open_], split[open_], listed[open_]), adj_move[open_])
    for whole, part in zip(found, decided, strict=True):
        whole[open_] = part
    return found


def _decided(now: Bars, before: Bars, action: Listed, adj_move: Floats) -> Gross:
    """`gross_returns` in full."""
    dividend, split, listed = action
    close_ratio = now.close / before.close
    implied = adj_move - np.log(close_ratio)
    tolerance = RELATIVE + sum(_rounding(part) for part in (*now, *before))
    silent = np.abs(implied) <= tolerance
    unlisted = ~listed & ~silent
    ratio = np.where(unlisted, close_ratio * np.exp(np.round(implied, IMPLIED_DECIMALS)), close_ratio)
    raw, own = (now.close * factor + dividend for factor in (split, 1.0))
    raw_gap, own_gap = (_gap(adj_move, now.close * factor, before.close, dividend) for factor in (split, 1.0))
    takes_raw = np.where(silent, _explains(raw / before.close, own / before.close), raw_gap < own_gap)
    ratio = np.where(listed, np.where(takes_raw, raw, own) / before.close, ratio)
    mismatch = listed & (np.where(takes_raw, raw_gap, own_gap) > tolerance)
    return Gross(ratio, mismatch, unlisted)


def _explains(raw: Floats, own: Floats) -> Bools:
    """Whether an adj_close that shows no action hides one: the close fell by the split, so that only the raw ratio is
    an everyday return. A vendor whose close is split-adjusted shows none either, and is believed in doubt."""
    explains: Bools = np.abs(np.log(raw)) < np.abs(np.log(own)) / 2
    return explains


def _gap(adj_move: Floats, worth: Floats, close_before: Floats, dividend: Floats) -> Floats:
    """How far the log return of adj_close lies outside what a dividend may be booked as: added to the price it leaves
    behind, or (Yahoo, CRSP) taken off the price before; they differ by dividend times return."""
    added = np.log((worth + dividend) / close_before)
    left = close_before - dividend
    taken = np.log(worth / np.where(left > 0, left, worth / (worth + dividend) * close_before))
    gap: Floats = np.maximum(np.maximum(np.minimum(added, taken) - adj_move, adj_move - np.maximum(added, taken)), 0.0)
    return gap


def _rounding(price: Floats) -> Floats:
    """How much rounding may have moved the log of a price."""
    scaled = price * FEW_DECIMALS
    half = np.where(np.abs(scaled - np.round(scaled)) < 1e-5, HALF_CENT, HALF_MICRO)
    moved: Floats = -np.log1p(-np.minimum(half / price, 0.9))
    return moved
