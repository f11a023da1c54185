from __future__ import annotations

import numpy as np
import pytest

from features.bars import Bars, on_grid
from features.targets import label_rows, targets
from tests.features.ragged_fixture import bars_of, ragged


def bars_from(opens: list[float], closes: list[float]) -> Bars:
    logs = np.log(np.array([closes]))
    r = on_grid(np.diff(logs, axis=1, prepend=np.nan))
    day = on_grid(np.log(np.array([opens])) - logs)
    days = np.busday_offset("2020-01-06", np.arange(len(opens)))
    return Bars(np.array(["A"]), days, r, day, day, day, np.exp(logs), np.exp(logs))


def test_open_to_open_by_hand() -> None:
    found = targets(bars_from([10, 11, 12.1, 11, 11], [1] * 5), (1, 2), "open_to_open")
    # Decided at the close of day 0, filled at the open of day 1 (11), valued a session later at 12.1.
    assert found.log_return[0, 0, 0] == pytest.approx(np.log(12.1 / 11))
    assert found.log_return[0, 0, 1] == pytest.approx(np.log(11 / 11), abs=1e-11)
    assert found.rv[0, 0, 1] == pytest.approx((np.log(1.1) ** 2 + np.log(11 / 12.1) ** 2) / 2)
    # Horizon 2 from day 2 needs the open of day 5, which is not there.
    assert np.isnan(found.log_return[0, 2, 1])
    assert np.isnan(found.log_return[0, 3:, 0]).all()


def test_close_to_close_by_hand() -> None:
    found = targets(bars_from([1] * 4, [10, 11, 9.9, 9.9]), (1,), "close_to_close")
    np.testing.assert_allclose(found.log_return[0, :3, 0], np.log([1.1, 0.9, 1.0]), atol=1e-11)
    assert np.isnan(found.log_return[0, 3, 0])


def test_rows_hold_only_what_is_known() -> None:
    bars = bars_from([10, 11, 12, 13, 14, 15], [1] * 6)
    vol = np.array([[np.nan, 0.01, 0.02, 0.02, 0.02, 0.02]])
    rows = label_rows(targets(bars, (1, 2), "open_to_open"), bars, vol, (1, 2))
    days = bars.sessions.astype("datetime64[us]")
    assert list(zip(rows["session"].to_numpy(), rows["horizon"], strict=True)) == [
        (days[1], 1), (days[1], 2), (days[2], 1), (days[2], 2), (days[3], 1),
    ]  # fmt: skip
    assert rows["z"][1] == pytest.approx(np.log(14 / 12) / (0.01 * np.sqrt(2)))


def test_rows_are_sorted_by_ticker_session_and_horizon() -> None:
    bars = bars_of(ragged(3))
    rows = label_rows(targets(bars, (1, 5, 20), "open_to_open"), bars, bars.vol, (1, 5, 20))
    again = rows.sort_values(["ticker", "session", "horizon"], ignore_index=True)
    assert rows.equals(again)
    assert str(rows.dtypes["ticker"]) == "str"


@pytest.mark.parametrize("interval", ["open_to_open", "close_to_close"])
def test_labels_have_the_same_bits_wherever_the_history_starts(interval: str) -> None:
    rows = ragged(0)
    whole, tail = bars_of(rows), bars_of(rows[rows["session"] >= "2006-01-01"])
    at = int(np.searchsorted(whole.sessions, tail.sessions[0]))
    n = np.searchsorted(whole.tickers, tail.tickers)
    one, other = targets(whole, (1, 5, 20), interval), targets(tail, (1, 5, 20), interval)
    for a, b in zip(one, other, strict=True):
        # What reaches back to the first bars, whose returns need an earlier one, is the history's alone.
        assert a[n, at + 5 :].tobytes() == b[:, 5:].tobytes()
