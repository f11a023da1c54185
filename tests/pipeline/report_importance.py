"""What training found of the feature families, for tests of the report."""

from __future__ import annotations

from typing import Any


def row(family: str, horizon: int | None, lost: float, half: float | None) -> dict[str, Any]:
    low, high = (None, None) if half is None else (lost - half, lost + half)
    return {"family": family, "horizon": horizon, "lost": lost, "low": low, "high": high, "spread": 0.013}


IMPORTANCE = {
    "model": "student",
    "against": "ewma",
    "families": {"returns": ["ret_1"], "volatility": ["log_vol", "vol_5"], "own": ["<b>mine</b>"]},
    "gains": [
        {"horizon": 1, "gain_percent": 0.8, "low": 0.2, "high": 1.4},
        {"horizon": 5, "gain_percent": 1.0, "low": 0.1, "high": 1.9},
    ],
    "rows": [
        *(row("returns", h, -0.01, 0.05) for h in (None, 1, 5)),
        *(row("volatility", h, 0.51, 0.2) for h in (None, 1, 5)),
        *(row("own", h, 0.07, None) for h in (None, 1, 5)),
    ],
    "over": "both",
    "permutations": 3,
    "block_sessions": 21,
}
