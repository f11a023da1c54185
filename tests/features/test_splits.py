from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.splits import Dates, Fold, Refit, fixed, live_fold, nested, walk_forward

REFITS = st.sampled_from(get_args(Refit))


def weekdays(first: str, n: int) -> np.ndarray:
    return np.busday_offset(np.datetime64(first), np.arange(n), roll="forward").astype("datetime64[D]")


def dates(name: str, validation: str, test: str, end: str) -> Dates:
    return Dates(name, np.datetime64(validation), np.datetime64(test), np.datetime64(end))


STOCKNET = dates("stocknet", "2015-08-01", "2015-10-01", "2016-01-01")


def as_dates(sessions: np.ndarray, folds: list[Fold]) -> list[tuple[str, ...]]:
    """Name, then the last session to fit on, first and last of validation, first and last of the test."""
    return [
        (f.name, *(str(sessions[at]) for at in (f.fit_end - 1, f.validation_start, f.train_end - 1)),
         str(sessions[f.test_start]), str(sessions[f.test_end - 1]))
        for f in folds
    ]  # fmt: skip


# -- golden tables of dates, counted by hand on a calendar of weekdays -----------------------------------------
# purge 5 sessions = one week, embargo 5 = another, validation 20 = four weeks.

GOLDEN: dict[Refit, list[tuple[str, ...]]] = {
    "year": [
        ("2013", "2012-11-12", "2012-11-20", "2012-12-17", "2013-01-01", "2013-12-31"),
        ("2014", "2013-11-12", "2013-11-20", "2013-12-17", "2014-01-01", "2014-04-30"),
    ],
    "half_year": [
        ("2013H1", "2012-11-12", "2012-11-20", "2012-12-17", "2013-01-01", "2013-06-28"),
        ("2013H2", "2013-05-10", "2013-05-20", "2013-06-14", "2013-07-01", "2013-12-31"),
        ("2014H1", "2013-11-12", "2013-11-20", "2013-12-17", "2014-01-01", "2014-04-30"),
    ],
    "quarter": [
        ("2013Q1", "2012-11-12", "2012-11-20", "2012-12-17", "2013-01-01", "2013-03-29"),
        ("2013Q2", "2013-02-08", "2013-02-18", "2013-03-15", "2013-04-01", "2013-06-28"),
        ("2013Q3", "2013-05-10", "2013-05-20", "2013-06-14", "2013-07-01", "2013-09-30"),
        ("2013Q4", "2013-08-12", "2013-08-20", "2013-09-16", "2013-10-01", "2013-12-31"),
        ("2014Q1", "2013-11-12", "2013-11-20", "2013-12-17", "2014-01-01", "2014-03-31"),
        ("2014Q2", "2014-02-10", "2014-02-18", "2014-03-17", "2014-04-01", "2014-04-30"),
    ],
}


@pytest.mark.parametrize("refit", GOLDEN)
def test_golden_dates(refit: Refit) -> None:
    sessions = weekdays("2012-01-02", 608)
    assert str(sessions[-1]) == "2014-04-30"
    folds = walk_forward(sessions, min_train=250, validation=20, purge=5, embargo=5, refit=refit)
    assert as_dates(sessions, folds) == GOLDEN[refit]


def test_golden_months() -> None:
    sessions = weekdays("2012-01-02", 608)
    folds = walk_forward(sessions, 250, 20, 5, 5, refit="month")
    assert [f.name for f in folds] == [f"2013-{m:02d}" for m in range(1, 13)] + [f"2014-{m:02d}" for m in range(1, 5)]
    april = ("2013-04", "2013-02-08", "2013-02-18", "2013-03-15", "2013-04-01", "2013-04-30")
    assert as_dates(sessions, folds)[3] == april


def test_golden_positions() -> None:
    # 2000-01-03 is a Monday; 2000 has 260 weekdays from it, 2001 has 261, 2002 has 261.
    sessions = weekdays("2000-01-03", 800)
    folds = walk_forward(sessions, min_train=400, validation=100, purge=21, embargo=5)
    assert folds == [
        Fold("2002", fit_end=374, validation_start=395, train_end=495, test_start=521, test_end=782),
        Fold("2003", fit_end=635, validation_start=656, train_end=756, test_start=782, test_end=800),
    ]


def test_golden_protocol() -> None:
    # The dates of StockNet fall on a Saturday, a Thursday and a Friday; one-session labels, known two sessions later.
    sessions = weekdays("2014-01-01", 522)
    assert as_dates(sessions, fixed(sessions, [STOCKNET], purge=2, embargo=0)) == [
        ("stocknet", "2015-07-29", "2015-08-03", "2015-09-28", "2015-10-01", "2015-12-31")
    ]
    assert as_dates(sessions, fixed(sessions, [STOCKNET], purge=21, embargo=5)) == [
        ("stocknet", "2015-07-02", "2015-08-03", "2015-08-25", "2015-10-01", "2015-12-31")
    ]


def test_several_fixed_splits() -> None:
    sessions = weekdays("2012-01-02", 608)
    first = dates("first", "2013-01-01", "2013-03-01", "2013-06-01")
    second = dates("second", "2013-06-01", "2013-09-01", "2014-01-01")
    assert as_dates(sessions, fixed(sessions, [first, second], 5, 5)) == [
        ("first", "2012-12-24", "2013-01-01", "2013-02-14", "2013-03-01", "2013-05-31"),
        ("second", "2013-05-24", "2013-06-03", "2013-08-16", "2013-09-02", "2013-12-31"),
    ]


def test_nested_blocks_fill_the_last_third() -> None:
    assert nested(900, blocks=3, purge=21, embargo=5) == [
        Fold("inner 1", fit_end=410, validation_start=431, train_end=574, test_start=600, test_end=700),
        Fold("inner 2", fit_end=485, validation_start=506, train_end=674, test_start=700, test_end=800),
        Fold("inner 3", fit_end=560, validation_start=581, train_end=774, test_start=800, test_end=900),
    ]


# -- properties ------------------------------------------------------------------------------------------------


def assert_no_label_reaches_over(folds: list[Fold], longest: int, embargo: int) -> None:
    """A label of session t reads the sessions up to t + longest."""
    for fold in folds:
        assert fold.fit_end > 0
        assert (fold.fit_end - 1) + longest < fold.validation_start < fold.train_end
        assert (fold.train_end - 1) + longest + embargo < fold.test_start < fold.test_end


@given(REFITS, st.integers(620, 1500), st.integers(50, 200), st.integers(1, 30), st.integers(0, 20))
def test_no_label_of_a_slice_reaches_the_next(refit: Refit, n: int, validation: int, purge: int, embargo: int) -> None:
    folds = walk_forward(weekdays("2000-01-03", n), 250, validation, purge, embargo, refit=refit)
    assert_no_label_reaches_over(folds, purge, embargo)
    assert folds[0].train_end >= 250
    assert folds[-1].test_end == n
    for earlier, later in pairwise(folds):
        assert earlier.test_end == later.test_start  # every session is tested once
    assert len({fold.name for fold in folds}) == len(folds)
    assert max(len(fold.name) for fold in folds) <= 8  # what the forecasts table has been given


@given(REFITS, st.integers(0, 3))
def test_a_slice_never_depends_on_the_sessions_after_it(refit: Refit, cut: int) -> None:
    sessions = weekdays("2000-01-03", 1200)
    folds = walk_forward(sessions, 400, 100, 21, 5, refit=refit)
    known = sessions[: folds[min(cut, len(folds) - 1)].test_end]
    assert walk_forward(known, 400, 100, 21, 5, refit=refit) == folds[: min(cut, len(folds) - 1) + 1]


@given(st.integers(1, 30), st.integers(0, 20), st.integers(0, 60), st.integers(0, 60))
def test_no_label_of_a_fixed_slice_reaches_the_next(purge: int, embargo: int, later: int, longer: int) -> None:
    sessions = weekdays("2000-01-03", 600)
    validation = np.datetime64("2001-01-01") + np.timedelta64(later, "D")
    test = validation + np.timedelta64(90 + longer, "D")
    first = Dates("a", validation, test, test + np.timedelta64(30, "D"))
    second = Dates("b", first.end, first.end + np.timedelta64(90, "D"), first.end + np.timedelta64(150, "D"))
    folds = fixed(sessions, [first, second], purge, embargo)
    assert_no_label_reaches_over(folds, purge, embargo)
    for fold, given_dates in zip(folds, (first, second), strict=True):
        published = sessions[fold.test_start : fold.test_end]
        assert (published >= given_dates.test).all()
        assert (published < given_dates.end).all()
        assert ((sessions >= given_dates.test) & (sessions < given_dates.end)).sum() == len(published)
        assert (sessions[: fold.fit_end] < given_dates.validation).all()


@given(st.integers(200, 3000), st.integers(1, 5), st.integers(1, 30), st.integers(0, 20))
def test_nested_folds_stay_inside(end: int, blocks: int, purge: int, embargo: int) -> None:
    folds = nested(end, blocks, purge, embargo)
    assert_no_label_reaches_over(folds, purge, embargo)
    assert folds[-1].test_end == end
    assert len({fold.test_end - fold.test_start for fold in folds}) == 1
    for earlier, later in pairwise(folds):
        assert earlier.test_end == later.test_start


# -- the rest --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("refit", "name"), [("year", "2003"), ("quarter", "2003Q2"), ("month", "2003-06")])
def test_first_test_date_is_kept(refit: Refit, name: str) -> None:
    sessions = weekdays("2000-01-03", 1300)
    folds = walk_forward(sessions, 250, 100, 21, 5, np.datetime64("2003-06-16"), refit)
    assert (str(sessions[folds[0].test_start]), folds[0].name) == ("2003-06-16", name)


def test_live_fold_trains_to_the_end() -> None:
    fold = live_fold(1000, validation=100, purge=21)
    # The last 21 sessions have no label for the longest horizon yet.
    assert fold.train_end == 1000 - 21
    assert fold.test_start == fold.test_end == 1000


@pytest.mark.parametrize("refit", get_args(Refit))
def test_too_little_history_is_named(refit: Refit) -> None:
    period = refit.replace("_", " ")
    with pytest.raises(ValueError, match=f"300 sessions leave no test {period} after 1000 training sessions"):
        walk_forward(weekdays("2000-01-03", 300), 1000, 100, 21, 5, refit=refit)


def test_nothing_to_fit_on_names_the_date() -> None:
    message = (
        r"nothing is left to fit on before the test slice 2001, from 2001-01-01: of 234 training sessions validation "
        r"takes 220 and the purge 21"
    )
    with pytest.raises(ValueError, match=message):
        walk_forward(weekdays("2000-01-03", 600), 200, 220, 21, 5)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ([], "the protocol has no splits"),
        (
            [dates("a", "2015-10-01", "2015-08-01", "2016-01-01")],
            r"a \(validation from 2015-10-01, test from 2015-08-01 to 2016-01-01\) are not in the order",
        ),
        ([STOCKNET, dates("b", "2015-11-01", "2015-12-01", "2016-01-01")], "begins before that of stocknet"),
        (
            [dates("a", "2015-03-01", "2015-05-01", "2015-06-01"), replace(STOCKNET, name="a")],
            "the names of the splits, a, a, are not distinct",
        ),
        (
            [dates("a", "2013-08-01", "2014-10-01", "2015-01-01")],
            r"a \(.*\) has no session left to fit on: the sessions held run from 2014-01-01 to 2015-12-31, the purge",
        ),
        ([dates("a", "2015-08-01", "2015-08-20", "2016-01-01")], r"test from 2015-08-20 .* no session left of valid"),
        ([dates("a", "2015-08-01", "2015-12-05", "2015-12-06")], "no session left to test on"),
        (
            [dates("a", "2015-08-01", "2015-10-01", "2016-02-01")],
            "sessions held run from 2014-01-01 to 2015-12-31: they do not reach the end of a",
        ),
    ],
)  # fmt: skip
def test_impossible_protocols_name_their_dates(protocol: list[Dates], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fixed(weekdays("2014-01-01", 522), protocol, 21, 5)


def test_a_protocol_without_sessions() -> None:
    with pytest.raises(ValueError, match="no sessions are held: they do not reach the end of stocknet"):
        fixed(weekdays("2014-01-01", 0), [STOCKNET], 21, 5)


def test_a_training_slice_too_short_for_inner_folds() -> None:
    with pytest.raises(ValueError, match="a training slice of 60 sessions cannot be cut into 3 inner folds"):
        nested(60, 3, 21, 5)
