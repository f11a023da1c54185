"""The JSON files of a finished run, by the contract, with synthetic figures."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tests.pipeline.report_importance import IMPORTANCE
from tests.pipeline.report_race import (
    BASELINES,
    BEST,
    HORIZONS,
    MODELS,
    TICKERS,
    direction_gains,
    direction_rows,
    figures,
    gains_of,
    race,
)

RUN = "20130329-7"
CREATED = "2013-03-29T21:00:00+00:00"
STRATEGIES = {
    "vol_target": "Volatility target (forecast)",
    "ewma_target": "Volatility target (EWMA)",
    "constant": "Constant exposure, equal volatility (set with hindsight)",
    "buy_and_hold": "Buy and hold",
}


def training(status: str, data_label: str) -> dict[str, Any]:
    """training.json"""
    return {
        "run_id": RUN,
        "seed": 7,
        "features": ["observed", "ret_1", "vol_5", "range_20"],
        "horizons": list(HORIZONS),
        "tables": {"prices": 0, "news": 0, "features": 0},
        "tickers": list(TICKERS),
        "left_out": [{"ticker": "FB", "reason": "196 sessions, 750 needed"}],
        "calendar": "XNYS",
        "decision_lead_minutes": 0,
        "target_interval": "open_to_open",
        "folds": [str(year) for year in range(2006, 2014)],
        "chosen": "student" if status == "promoted" else "ewma",
        "status": status,
        "created_at": CREATED,
        "data_label": data_label,
        "exclusions": {"sentences": ["HALT stood still for 30 sessions from 2015-03-02."]},
    }


def evidence(status: str, sessions: pd.DatetimeIndex) -> dict[str, Any]:
    """evidence.json"""
    passed = status == "promoted"
    losses = [
        {
            "model": m,
            "horizon": h,
            "pinball": 0.31 - 0.001 * k,
            "crps": 0.62 - 0.002 * k,
            "qlike": 0.5 - 0.01 * k,
            "coverage80": 0.79 + 0.001 * k,
            "brier": 0.2495,
            "fz95": -3.1,
            "fz99": None if m == "lstm" else -2.6,
            "accuracy": 0.521,
            "n": 5400,
        }
        for h in HORIZONS
        for k, m in enumerate(MODELS)
    ]
    means = {**gains_of(passed), BEST: 0.0}
    gains = [
        {"model": model, "against": against, "horizon": h, "measure": measure}
        | figures((means[model] - means[against]) * k * (1 + 0.04 * h), 0.45 * k * (1 + 0.05 * h))
        for h in HORIZONS
        for model in MODELS[len(BASELINES) :]
        for against in (*BASELINES, "scale_skip")
        if against != model
        for measure, k in (("pinball", 1.0), ("qlike", 9.0), ("brier", 0.01))
    ]
    gains[-1].update(low=None, high=None, p_value=None, verdict="too few blocks")
    gain = 1.12 if passed else -0.2
    return {
        "primary": "pinball",
        "baseline": "ewma",
        "confidence": 0.95,
        "gate_level": 0.01,
        "block_sessions": 60,
        "n_sessions": len(sessions),
        "n_effective_blocks": 31,
        "first": f"{sessions[0]:%Y-%m-%d}",
        "last": f"{sessions[-1]:%Y-%m-%d}",
        "tickers": list(TICKERS),
        "horizons": list(HORIZONS),
        "models": list(MODELS),
        "losses": losses,
        "gains": gains,
        "gate": {
            "model": "student",
            "against": BEST,
            "measure": "pinball",
            "gain_percent": gain,
            "low": gain - 0.5,
            "high": gain + 0.5,
            "level": 0.01,
            "passed": passed,
            "smallest_detectable_percent": 0.6,
            "sentence": f"student against {BEST}: {gain:+.2f}% of pinball loss; passed: {passed}.",
        },
        **race(passed),
        "direction": {
            "sentence": "Direction: no model beats always-up at any horizon.",
            "rows": direction_rows(),
            "gains": direction_gains(),
        },
        "widths": {"method": "pooled", "sentence": "The 80 % band is as fitted: pooled widths."},
        "importance": IMPORTANCE,
        "text_ablation": {
            "sentence": "Text saves +0.01 % [-0.05, +0.07] of the scale forecast's pinball loss: no difference shown.",
            "first": "2015-01-02",
            "last": "2016-12-30",
            "coverage": {"cells": 0.25, "sessions": 0.5},
            "rows": [
                {
                    "part": part,
                    "measure": measure,
                    "horizon": 5,
                    "model": "with_text",
                    "against": "without_text",
                    "with_text": 0.2712,
                    "without_text": 0.2713,
                    "gain_percent": 0.01,
                    "low": -0.05,
                    "high": 0.07,
                    "p_value": None,
                    "blocks": 12.3,
                    "verdict": "no difference shown",
                }
                for part, measure in (("scale", "pinball"), ("direction", "rank"))
            ],
        },
    }
