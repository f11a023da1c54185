"""The audit itself, on outputs whose look-ahead is known: what moves before the cut is found, to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.alterations import Alteration, World
from features.audit import AuditError, Cells, Verdict, audit, cuts

DAYS = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-21"))
CLOSES = (DAYS + np.timedelta64(21, "h")).astype("datetime64[us]")
CUT = pd.Timestamp(CLOSES[9], tz="UTC")
TICKERS = np.array(["AA", "BB"])


def world() -> World:
    generator = np.random.default_rng(0)
    prices = pd.DataFrame(
        {
            "ticker": np.repeat(TICKERS, len(DAYS)),
            "session": np.tile(DAYS.astype("datetime64[us]"), 2),
            "close": generator.normal(size=2 * len(DAYS)),
            "known_at": pd.Series(np.tile(CLOSES, 2)).dt.tz_localize("UTC"),
        }
    )
    return World(prices, pd.DataFrame())


def doubled(tables: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    prices = tables.prices.copy()
    prices.loc[prices["known_at"] > cut, "close"] *= 2
    return tables._replace(prices=prices)


def gone(tables: World, cut: pd.Timestamp, generator: np.random.Generator) -> World:
    return tables._replace(prices=tables.prices[tables.prices["known_at"] <= cut])


DOUBLED, GONE = Alteration("doubled", "prices", doubled), Alteration("gone", "prices", gone)


def closes(tables: World) -> pd.DataFrame:
    return tables.prices.pivot(index="session", columns="ticker", values="close")


def cells(frame: pd.DataFrame) -> Cells:
    sessions = frame.index.to_numpy().astype("datetime64[D]")
    used_at = (sessions + np.timedelta64(21, "h")).astype("datetime64[us]")
    return Cells(sessions, np.asarray(frame.columns, dtype=str), used_at, frame.to_numpy())


def judged(make: Callable[[pd.DataFrame], pd.DataFrame], *alterations: Alteration) -> Verdict:
    return audit(lambda tables: {"x": cells(make(closes(tables)))}, world(), [CUT], alterations or (DOUBLED,))["x"]


@given(lag=st.integers(-8, 8))
@settings(max_examples=17, deadline=None)
def test_a_shift_is_a_leak_from_the_session_on_that_first_sees_past_the_cut(lag: int) -> None:
    verdict = judged(lambda x: x.shift(lag))
    if lag >= 0:
        assert verdict.status == "passed"
        assert verdict.reacted
    else:
        assert verdict.status == "leak"
        assert verdict.first is not None
        assert verdict.first.session == DAYS[9 + lag + 1]
        assert verdict.first.cells == 2 * -lag


def test_one_bit_is_a_leak() -> None:
    def make(x: pd.DataFrame) -> pd.DataFrame:
        y = x.copy()
        y.iloc[3, 1] = np.nextafter(1.0, 2.0 if x.iloc[-1, 0] == closes(world()).iloc[-1, 0] else 0.0)
        return y

    verdict = judged(make)
    assert verdict.first is not None
    assert (verdict.first.session, verdict.first.ticker, verdict.first.cells) == (DAYS[3], "BB", 1)
    assert 0 < verdict.first.difference < 1e-15


def test_nan_is_nan_whatever_its_bits_and_no_value() -> None:
    strange = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]

    def either(x: pd.DataFrame) -> pd.DataFrame:
        return x * 0 + (np.nan if x.iloc[-1, 0] == closes(world()).iloc[-1, 0] else strange)

    assert judged(either).status == "passed"
    came = judged(lambda x: x * 0 if x.iloc[-1, 0] == closes(world()).iloc[-1, 0] else x * np.nan)
    assert came.first is not None
    assert "a value came or went" in came.sentence()


def test_a_cell_or_an_output_that_comes_or_goes_is_moved() -> None:
    without_last = judged(lambda x: x.iloc[: len(x) // 2], GONE)  # half of what there is: five sessions of ten
    assert without_last.first is not None
    assert without_last.first.session == DAYS[5]

    def subject(tables: World) -> dict[str, Cells]:
        found = {"x": cells(closes(tables))}
        return found if len(tables.prices) == len(world().prices) else found | {"new": cells(closes(tables))}

    verdicts = audit(subject, world(), [CUT], (GONE,))
    assert {name: verdict.status for name, verdict in verdicts.items()} == {"x": "passed", "new": "leak"}


def test_the_first_cell_over_all_cuts_and_alterations_is_named() -> None:
    at = [pd.Timestamp(CLOSES[t], tz="UTC") for t in (15, 4, 12)]
    verdict = audit(lambda tables: {"x": cells(closes(tables).shift(-1))}, world(), at, (GONE, DOUBLED))["x"]
    assert verdict.first is not None
    assert verdict.first.session == DAYS[4]
    assert verdict.shown_by == ["prices gone", "prices doubled"]
    assert verdict.sentence() == (
        "x: leak on 2020-01-05 (AA): 2 cells moved when prices known after 2020-01-05 21:00:00Z were gone (a value "
        "came or went)"
    )


def test_what_differs_between_two_runs_is_not_judged() -> None:
    generator = np.random.default_rng()
    verdict = judged(lambda x: x * 0 + generator.normal())
    assert verdict.status == "unsteady"
    assert verdict.sentence().startswith("x: not repeatable: two runs on the same rows differ in 40 cells, first on")


def test_cells_used_later_than_their_session_are_compared_when_used() -> None:
    def subject(tables: World) -> dict[str, Cells]:
        found = cells(closes(tables).shift(-1))
        later, never = found.used_at + np.timedelta64(1, "D"), np.full(found.used_at.shape, np.datetime64("NaT", "us"))
        return {"label": found._replace(used_at=later), "never": found._replace(used_at=never)}

    verdicts = audit(subject, world(), [CUT], (DOUBLED, GONE))
    assert [verdict.status for verdict in verdicts.values()] == ["passed", "passed"]
    assert verdicts["label"].compared == 36
    assert verdicts["never"].sentence() == "never: passed, 0 cells compared; it has no value before any cut"


def test_the_order_of_axes_and_of_dimensions_is_no_matter() -> None:
    def subject(tables: World) -> dict[str, Cells]:
        found = cells(closes(tables).shift(-1))
        turned = found._replace(sessions=found.sessions[::-1], used_at=found.used_at[::-1], values=found.values[::-1])
        deep = found._replace(values=np.stack([found.values * 0, found.values], axis=-1)[..., None])
        one = np.broadcast_to(found.used_at[:, None], found.values.shape)
        return {"plain": found, "turned": turned, "deep": deep, "by cell": found._replace(used_at=one)}

    verdicts = audit(subject, world(), [CUT], (DOUBLED,))
    assert {verdict.first and (verdict.first.session, verdict.first.ticker) for verdict in verdicts.values()} == {
        (DAYS[9], "AA")
    }


def test_progress_counts_every_run() -> None:
    told: list[tuple[int, int]] = []
    prepared = Alteration("doubled after", "prices", doubled, gone)
    audit(lambda t: {}, world(), [CUT, CUT], (DOUBLED, prepared), progress=lambda *done: told.append(done))
    assert told == [(i, 8) for i in range(1, 9)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 2)), r"x is float64 of shape \(3, 2\); expected numbers of shape \(20, 2\): a row a session"),
        (np.full((20, 2), "a"), r"x is <U1 of shape \(20, 2\)"),
    ],
)
def test_what_cannot_be_compared_is_named(values: np.ndarray, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        audit(lambda t: {"x": cells(closes(t))._replace(values=values)}, world(), [CUT], (DOUBLED,))


@given(sessions=st.integers(3, 3000), number=st.integers(1, 12), seed=st.integers(0, 99))
def test_cuts_are_decisions_one_early_and_the_others_spread(sessions: int, number: int, seed: int) -> None:
    used_at = np.datetime64("2000-01-03T21:00", "us") + np.arange(sessions) * np.timedelta64(1, "D")
    at = cuts(used_at, number, seed)
    places = [int(np.searchsorted(used_at, np.datetime64(cut.tz_localize(None), "us"))) for cut in at]
    assert at == cuts(used_at, number, seed)
    assert places == sorted(set(places))
    assert 1 <= len(places) <= number
    assert places[0] < max(2, 0.05 * sessions)
    assert places[-1] < sessions - 1
    if sessions > 100 * number:
        assert len(places) == number
        assert np.diff(places).max(initial=0) <= 2 * sessions / max(number - 1, 1) + 1


def test_two_sessions_are_too_few_to_cut() -> None:
    with pytest.raises(AuditError, match="2 sessions are too few to cut; an audit needs 3 at least"):
        cuts(CLOSES[:2], 3, 0)
