"""The proof of equality: what a run's small models do out of sample beside the big ones, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.panel import align
from models.compact.network import Network
from models.compact.runtime import target_weights
from models.decode import QUANTILES, Forecast
from models.receptive_field import FIELD
from models.trading.market import Costs
from models.trading.sizing import target_weight
from models.trading.sleeves import Sleeves
from pipeline import int8, traded, walkforward
from pipeline.config import Config
from pipeline.evidence import equality, race
from pipeline.evidence.race import FOUNDATION
from pipeline.int8 import Compared, Method
from pipeline.store import Lake
from pipeline.trained import Trained
from pipeline.walkforward import Dataset

Float64 = npt.NDArray[np.float64]

ENSEMBLE = "stack"
WINDOW_TOLERANCE = 1e-5


def gate(
    config: Config, data: Dataset, compared: Sequence[Compared], live: Trained, network: Network, method: Method
) -> dict[str, Any]:
    """What a bundle is held back for: outputs, graphs or a live network that differ from float.

    The live network has no test slice: its int8 outputs are compared on the training data that set its ranges, which
    is the least that what ships must stand.

    Args:
        compared: the test slices. live: as training left it. network: the live one to quantize.
        method: how all of them were quantized.
    """
    c = config.compress
    exact, found = (_pooled(data, compared, which) for which in ("exact", "int8"))
    integers, calibration = int8.quantized(data, live, network, config, method)
    end = int(np.searchsorted(data.panel.sessions, np.datetime64(live.notes["train_last"]))) + 1
    known = np.isfinite(data.panel.vol[:, end - calibration.shape[1] + FIELD - 1 : end])
    shown = [
        y[known].astype(np.float64)
        for y in (network.forward_panel(calibration), int8.run_panel(integers, calibration)[0])
    ]
    rows = equality.outputs(exact, found, data.horizons, c.min_r2, c.max_difference)
    live_rows = equality.outputs(shown[0], shown[1], data.horizons, c.min_r2, c.max_difference)
    window_difference = max(each.window_difference for each in compared)
    same_body = all(each.same_body for each in compared)
    outputs_equal = all(row["passed"] for row in (*rows, *live_rows))
    return {
        "outputs": rows,
        "live_outputs": live_rows,
        "outputs_equal": outputs_equal,
        "window_panel_max_difference": window_difference,
        "integer_body_equal": same_body,
        "n": len(exact),
        "passed": outputs_equal and same_body and window_difference <= WINDOW_TOLERANCE,
    }


def claims(
    config: Config, lake: Lake, data: Dataset, compared: Sequence[Compared], run_id: str, training: dict[str, Any]
) -> dict[str, Any]:
    """The table of equality: losses of every model, and every claim with its interval and floor.

    Args:
        lake: has the run's forecasts of the ensemble, where it raced one, and the prices.
        compared: the test slices. training: the run's training.json.
    """
    forecasts = _forecasts(lake, data, compared, run_id)
    vol, resampling = data.panel.vol.astype(np.float64), walkforward.resampling(config)
    losses = race.losses(forecasts, data.log_return, data.rv, vol, data.horizons)
    source = "pruned" if "pruned" in forecasts else "student"
    small, int8_made = forecasts[source], forecasts["int8"]
    pairs: dict[tuple[str, str], float | None] = {
        **({("student", ENSEMBLE): None} if ENSEMBLE in forecasts else {}),
        ("student", FOUNDATION): None,
        **({("pruned", "student"): None} if source == "pruned" else {}),
        ("int8", source): equality.ROUNDING_FLOOR,
    }
    sizing = _sizing(config, training["sessions_per_year"])
    weights = [target_weights(each.sigma, data.horizons, sizing) for each in (small, int8_made)]
    outputs = [_whole_outputs(data, compared, which) for which in ("exact", "int8")]
    rows = [
        *equality.loss_claims(losses, data.horizons, pairs, resampling),
        *equality.output_claims(outputs[0], outputs[1], data.horizons, config.compress.min_r2, resampling),
        *equality.decision_claims(small, int8_made, data.log_return, data.horizons, resampling),
        equality.weight_claim(weights[0], weights[1], resampling),
        _profit(config, lake, data, run_id, training, (small, int8_made)),
    ]
    return {
        "source": source,
        "losses": [
            {
                "model": model,
                "horizon": h,
                **{m: float(np.nanmean(losses[f"{model}|{m}|{h}"])) for m in ("pinball", "qlike")},
            }
            for model in forecasts
            for h in data.horizons
        ],
        "claims": rows,
        "pruned_as_good": all(row["holds"] for row in rows if (row["claim"], row["model"]) == ("pinball", "pruned")),
    }


def int8_forecast(data: Dataset, compared: Sequence[Compared]) -> Forecast:
    """The int8 forecasts on the panel's axes, NaN outside the test slices."""
    return _whole(data, compared, "int8")


def _forecasts(lake: Lake, data: Dataset, compared: Sequence[Compared], run_id: str) -> dict[str, Forecast]:
    """The scale skip of the run, its ensemble if it has one, student, pruned if any fold is, int8."""
    found = {}
    for model in (FOUNDATION, ENSEMBLE):
        rows = lake.read("forecasts", f"run_id = '{run_id}' AND model = '{model}'")
        if not len(rows):
            continue
        columns = [f"q{round(100 * level):02d}" for level in QUANTILES]
        quantiles = np.stack([align(data.panel, rows, name, data.horizons) for name in columns], axis=-1)
        sigma, p_up = (align(data.panel, rows, name, data.horizons) for name in ("sigma", "p_up"))
        found[model] = Forecast(sigma, quantiles, p_up)
    found["student"] = _whole(data, compared, "student")
    if any("pruned" in each.forecasts for each in compared):
        found["pruned"] = _whole(data, compared, "pruned", "student")
    return found | {"int8": _whole(data, compared, "int8")}


def _profit(
    config: Config,
    lake: Lake,
    data: Dataset,
    run_id: str,
    training: dict[str, Any],
    pair: tuple[Forecast, Forecast],
) -> dict[str, Any]:
    """Both traded as the backtest trades, costs on, in one portfolio of equal sleeves."""
    # Its own weights, those of the trailing baseline, are there before any bundle is.
    setting = traded.setting_of(config, lake, run_id, training | {"status": "baseline"})
    rule, at = config.backtest, data.horizons.index(setting.horizon)
    costs = Costs(rule.half_spread_bps, rule.commission_bps)
    sleeves = Sleeves(setting.opens, setting.listed, costs, rule.band, pooled=True, own=setting.own)
    weights = []
    for forecast in pair:
        frame = pd.DataFrame(
            forecast.sigma[..., at].T, index=pd.DatetimeIndex(data.panel.sessions), columns=data.panel.tickers
        )
        sigma = frame.reindex(index=setting.sessions, columns=list(setting.tickers)).to_numpy(float)
        weights.append(target_weight(sigma, setting.horizon, rule.target_volatility, rule.max_weight, setting.years))
    wealth = sleeves.run(np.stack(weights)).wealth[:, 0]  # (2, T)
    return equality.profit_claim(wealth[0], wealth[1], setting.year, walkforward.resampling(config))


def _sizing(config: Config, sessions_per_year: float) -> Mapping[str, Any]:
    b = config.backtest
    return {
        "target_volatility": b.target_volatility,
        "horizon": b.horizon,
        "max_weight": b.max_weight,
        "sessions_per_year": sessions_per_year,
    }


def _pooled(data: Dataset, compared: Sequence[Compared], which: str) -> Float64:
    """(n, H, 4) outputs of every test cell with a volatility."""
    parts = []
    for each in compared:
        known = np.isfinite(data.panel.vol[:, each.fold.test_start : each.fold.test_end])
        parts.append(getattr(each, which)[known])
    return np.concatenate(parts).astype(np.float64)


def _whole_outputs(data: Dataset, compared: Sequence[Compared], which: str) -> Float64:
    """(N, T, H, 4) outputs, NaN outside the test cells with a volatility."""
    out = np.full((*data.z.shape, 4), np.nan)
    for each in compared:
        test = slice(each.fold.test_start, each.fold.test_end)
        known = np.isfinite(data.panel.vol[:, test])[..., None, None]
        out[:, test] = np.where(known, getattr(each, which), np.nan)
    return out


def _whole(data: Dataset, compared: Sequence[Compared], model: str, instead: str = "") -> Forecast:
    """A model on the panel's axes; `instead` where a fold has none of it."""
    out = walkforward.blank(data)
    for each in compared:
        found = each.forecasts.get(model) or each.forecasts[instead]
        for whole, part in zip(out, found, strict=True):
            whole[:, each.fold.test_start : each.fold.test_end] = part
    return out
