"""What compression found, for tests of the report."""

from __future__ import annotations

from typing import Any

from tests.pipeline.report_pieces import HORIZONS

PAIRS = (("student", "stack"), ("student", "scale_skip"), ("pruned", "student"), ("int8", "pruned"))
DECISIONS = {"centred_r2": 0.9995, "var_95": 99.97, "var_99": 99.99, "median_flips": 0.4}


def equality() -> dict[str, Any]:
    """equality.json"""
    outputs = [
        {
            "output": name,
            "horizon": h,
            "r2": 0.99981 if name != "location" else None,
            "max_difference": 4.1e-5,
            "passed": True,
            "rule": "r2" if name != "location" else "max_difference",
        }
        for name in ("location", "scale_down", "scale_up", "logit")
        for h in HORIZONS
    ]
    return {
        "folds": [str(year) for year in range(2006, 2014)],
        "outputs": outputs,
        "window_panel_max_difference": 2.4e-7,
        "integer_body_equal": True,
        "passed": True,
        "bundle_version": "20130329-7-a1",
        "live_outputs": outputs,
        "method": "ptq",
        "ranges": "minmax",
        "tried": [{"method": "ptq", "outputs_equal": True, "least_r2": 0.99981}],
        "source": "pruned",
        "pruned_as_good": True,
        "pruning": {"max_macs": 0, "folds": pruned_folds()},
        "claims": claims(),
        "losses": [
            {"model": model, "horizon": h, "pinball": 0.3, "qlike": 0.4}
            for model in ("scale_skip", "stack", "student", "pruned", "int8")
            for h in HORIZONS
        ],
        "bundle_bytes": 61_440,
        "int8_nodes": ["Conv", "Conv", "Conv"],
    }


def claims() -> list[dict[str, Any]]:
    """Of every kind; all hold, the ensemble's at the longest horizon not for certain."""
    rows = [
        claim(measure, h, 0.1, 0.3 if model == "student" and h == HORIZONS[-1] else 0.12, 0.2, model, against)
        for model, against in PAIRS
        for measure in ("pinball", "qlike")
        for h in HORIZONS
    ]
    rows += [claim(name, h, figure, figure, 1.0) for name, figure in DECISIONS.items() for h in HORIZONS]
    rows.append(claim("weight_change", None, 0.04, 0.06, 1.0))
    return [*rows, {**claim("net_profit", None, -0.3, 0.1, 2.0), "low": -0.7, "unit": "bp"}]


def claim(
    name: str, horizon: int | None, figure: float, high: float, floor: float, model: str = "int8", against: str = ""
) -> dict[str, Any]:
    judged = name != "qlike"
    return {
        "claim": name,
        "model": model,
        "against": against,
        "horizon": horizon,
        "figure": figure,
        "low": figure - 0.02,
        "high": high,
        "floor": floor if judged else None,
        "at_least": name in ("centred_r2", "var_95", "var_99"),
        "unit": "" if name == "centred_r2" else "%",
        "holds": True if judged else None,
        "certain": high <= floor if judged else None,
    }


def pruned_folds() -> list[dict[str, Any]]:
    """Two bodies, one of them pruned, and a fit that is the skip alone."""
    curve = [
        {
            "widths": [w, w, w],
            "window_macs": macs,
            "panel_macs": 9,
            "weight_bytes": 9,
            "pinball": [0.3],
            "loss_percent": at,
        }
        for w, macs, at in ((32, 86_016, 0.0), (16, 43_000, 0.01), (8, 12_000, 0.2))
    ]
    return [
        {"fold": "2006", "body_weight": 1.0, "curve": curve, "chosen": 1, "reason": ""},
        {
            "fold": "2007",
            "body_weight": 0.5,
            "curve": curve,
            "chosen": 0,
            "reason": "validation asks for the whole body",
        },
        {"fold": "live", "body_weight": 0.0, "curve": [], "chosen": None, "reason": "the skip alone"},
    ]
