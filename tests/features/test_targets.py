from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.prices import Wide
from features.targets import label_rows, targets


def wide_of(opens: list[float], closes: list[float]) -> Wide:
    index = pd.date_range("2020-01-06", periods=len(opens), freq="B")
    o, c = (pd.DataFrame({"A": values}, index=index) for values in (opens, closes))
    return Wide(o, o, o, c, o)


def test_open_to_open_by_hand() -> None:
    found = targets(wide_of([10, 11, 12.1, 11, 11], [1] * 5), (1, 2), "open_to_open")
    # Decided at the close of day 0, filled at the open of day 1 (11), valued a session later at 12.1.
    assert found.log_return[0, 0, 0] == pytest.approx(np.log(12.1 / 11))
    assert found.log_return[0, 0, 1] == pytest.approx(np.log(11 / 11))
    assert found.rv[0, 0, 1] == pytest.approx((np.log(1.1) ** 2 + np.log(11 / 12.1) ** 2) / 2)
    # Horizon 2 from day 2 needs the open of day 5, which is not there.
    assert np.isnan(found.log_return[2, 0, 1])
    assert np.isnan(found.log_return[3:, 0, 0]).all()


def test_close_to_close_by_hand() -> None:
    found = targets(wide_of([1] * 4, [10, 11, 9.9, 9.9]), (1,), "close_to_close")
    np.testing.assert_allclose(found.log_return[:3, 0, 0], np.log([1.1, 0.9, 1.0]))
    assert np.isnan(found.log_return[3, 0, 0])


def test_rows_hold_only_what_is_known() -> None:
    wide = wide_of([10, 11, 12, 13, 14, 15], [1] * 6)
    vol = pd.DataFrame({"A": [np.nan, 0.01, 0.02, 0.02, 0.02, 0.02]}, index=wide.open.index)
    rows = label_rows(targets(wide, (1, 2), "open_to_open"), vol, (1, 2))
    assert rows[["session", "horizon"]].values.tolist() == [
        [wide.open.index[1], 1], [wide.open.index[1], 2], [wide.open.index[2], 1], [wide.open.index[2], 2],
        [wide.open.index[3], 1],
    ]  # fmt: skip
    assert rows["z"][1] == pytest.approx(np.log(14 / 12) / (0.01 * np.sqrt(2)))
