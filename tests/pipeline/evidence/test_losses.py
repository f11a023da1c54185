from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from models.decode import QUANTILES
from pipeline.evidence import losses, metrics
from tests.pipeline.evidence.race_fixture import HORIZONS, Market, race


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(sessions=300)


def found_of(market: Market, forecasts: dict) -> list[losses.Outcome]:
    return losses.outcomes(forecasts, market.log_return, market.rv, market.vol, HORIZONS)


def test_a_cell_that_one_model_lacks_is_judged_for_none(market: Market) -> None:
    forecasts = race(market)
    forecasts["ewma"].sigma[2, 150, 0] = np.nan
    forecasts["har"].quantiles[3, 160, 0, 4] = np.nan
    forecasts["garch"].sigma[4, 170, 0] = 0.0
    forecasts["always_up"].p_up[5, 180, 0] = np.nan
    one, five = found_of(market, forecasts)
    missing = [(2, 150), (3, 160), (4, 170), (5, 180)]
    assert not any(one.cells[cell] for cell in missing)
    assert one.cells.sum() == 6 * 200 - len(missing)
    assert five.cells.sum() == 6 * 200  # another horizon is not touched
    each = losses.cell_losses("student", forecasts["student"], one)
    assert all((np.isfinite(loss) == one.cells).all() for name, loss in each.items() if name != "volatile80")


def test_a_model_without_forecasts_is_named(market: Market) -> None:
    forecasts = race(market)
    forecasts["student"].p_up[:, :, 1] = np.nan
    message = r"at horizon 5 no cell is forecast by all of .*; student has the fewest, 0 of 1200 whose outcome is known"
    with pytest.raises(ValueError, match=message):
        found_of(market, forecasts)


def test_quantiles_of_a_naive_direction_are_not_judged(market: Market) -> None:
    forecasts = race(market)
    forecasts["always_up"].quantiles[:] = np.nan
    forecasts["market_momentum"].sigma[:] = np.nan
    found = found_of(market, forecasts)
    assert found[0].cells.sum() == 6 * 200
    kept = losses.series(forecasts, found)
    measures = {key.split("|")[1] for key in kept if key.startswith("always_up|")}
    assert measures == {"brier", "error", "rank"}


def test_volatile_sessions_are_the_highest_third_by_mean_log_volatility(market: Market) -> None:
    (one, _) = found_of(market, race(market))
    judged = one.cells.any(0)
    level = np.log(market.vol).mean(0)
    expected = judged & (level >= np.sort(level[judged])[-(judged.sum() // 3) - 1])
    assert abs(int(one.volatile.sum()) - judged.sum() / 3) <= 1
    assert (one.volatile & ~expected).sum() == 0
    inside = losses.cell_losses("ewma", race(market)["ewma"], one)
    assert (np.isfinite(inside["volatile80"]) == (one.cells & one.volatile)).all()


def test_losses_of_one_cell_by_hand(market: Market) -> None:
    forecasts = race(market)
    one, five = found_of(market, forecasts)
    forecast, n, t = forecasts["student"], 2, 140
    each = losses.cell_losses("student", forecast, five)
    actual, quantiles = market.log_return[n, t, 1], forecast.quantiles[n, t, 1]
    unit = market.vol[n, t] * np.sqrt(5)
    pinball = [max(tau * (actual - q), (tau - 1) * (actual - q)) for tau, q in zip(QUANTILES, quantiles, strict=True)]
    assert each["pinball"][n, t] == pytest.approx((pinball[2] + pinball[4] + pinball[6]) / 3 / unit)
    widths = [0.03, 0.045, 0.1, 0.2, 0.25, 0.2, 0.1, 0.045, 0.03]
    assert each["crps"][n, t] == pytest.approx(2 * np.dot(pinball, widths) / unit)
    ratio = market.rv[n, t, 1] / (forecast.sigma[n, t, 1] ** 2 / 5)
    assert each["qlike"][n, t] == pytest.approx(ratio - np.log(ratio) - 1)
    decay = (quantiles[1] - quantiles[0]) / np.log(5)
    var, shortfall = quantiles[1], quantiles[1] - decay
    breach = max(var - actual, 0)
    assert each["fz95"][n, t] == pytest.approx(-breach / (0.05 * shortfall) + var / shortfall + np.log(-shortfall) - 1)
    assert losses.pinball(forecast, five)[n, t] == each["pinball"][n, t]
    assert one.at == 0


def test_a_shortfall_that_is_no_loss_has_no_joint_loss(market: Market) -> None:
    forecasts = race(market)
    forecasts["student"].quantiles[1, 150, 0] = 0.001
    found = found_of(market, forecasts)
    kept = losses.series(forecasts, found)
    assert "student|fz95|1" not in kept
    assert "student|fz95|5" in kept
    assert "ewma|fz95|1" in kept


def test_rank_is_spearmans_of_each_session(market: Market) -> None:
    forecasts = race(market)
    found = found_of(market, forecasts)
    rank = losses.series(forecasts, found)["student|rank|1"]
    for t in (110, 200, 299):
        expected = spearmanr(forecasts["student"].p_up[:, t, 0], market.log_return[:, t, 0]).statistic
        assert rank.sums[t] == pytest.approx(expected)
    assert rank.counts[:100].sum() == 0
    assert losses.series(forecasts, found)["always_up|rank|1"].counts.sum() == 0  # it orders nobody


def test_the_joint_loss_is_least_at_the_truth() -> None:
    """Consistency by simulation: of normal returns, wrong tails lose more on average."""
    actual = np.random.default_rng(0).normal(size=200_000)
    var, shortfall = -1.6448536, -2.0627128
    at = [
        metrics.fz0(actual, np.array(v), np.array(e), 0.05).mean()
        for v, e in (
            (var, shortfall),
            (1.2 * var, 1.2 * shortfall),
            (0.8 * var, 0.8 * shortfall),
            (var, 1.4 * shortfall),
        )
    ]
    assert at[0] == min(at)
