from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.splits import live_fold, walk_forward


def weekdays(first: str, n: int) -> np.ndarray:
    return np.busday_offset(np.datetime64(first), np.arange(n), roll="forward").astype("datetime64[D]")


def test_golden_folds() -> None:
    # 2000-01-03 is a Monday; 2000 has 260 weekdays from it, 2001 has 261, 2002 has 261.
    sessions = weekdays("2000-01-03", 800)
    folds = walk_forward(sessions, min_train=400, validation=100, purge=21, embargo=5)
    assert [f.name for f in folds] == ["2002", "2003"]
    first = folds[0]
    assert (first.test_start, first.test_end) == (521, 782)
    assert str(sessions[first.test_start]) == "2002-01-01"
    assert first.train_end == 521 - 21 - 5
    assert first.validation_start == 495 - 100
    assert first.fit_end == 395 - 21
    assert (folds[1].test_start, folds[1].test_end) == (782, 800)


@given(st.integers(300, 1500), st.integers(50, 200), st.integers(1, 30), st.integers(0, 20))
def test_slices_never_touch(n: int, validation: int, purge: int, embargo: int) -> None:
    folds = walk_forward(weekdays("2000-01-03", n), 250, validation, purge, embargo) if n > 600 else []
    for fold in folds:
        assert fold.fit_end + purge <= fold.validation_start < fold.train_end
        assert fold.train_end + purge + embargo <= fold.test_start < fold.test_end
    for earlier, later in pairwise(folds):
        assert earlier.test_end == later.test_start


def test_first_test_date_is_kept() -> None:
    sessions = weekdays("2000-01-03", 1300)
    folds = walk_forward(sessions, 250, 100, 21, 5, np.datetime64("2003-06-16"))
    assert str(sessions[folds[0].test_start]) == "2003-06-16"


def test_live_fold_trains_to_the_end() -> None:
    fold = live_fold(1000, validation=100, purge=21)
    # The last 21 sessions have no label for the longest horizon yet.
    assert fold.train_end == 1000 - 21
    assert fold.test_start == fold.test_end == 1000


def test_too_little_history_is_named() -> None:
    with pytest.raises(ValueError, match="300 sessions leave no test year after 1000 training sessions"):
        walk_forward(weekdays("2000-01-03", 300), 1000, 100, 21, 5)
