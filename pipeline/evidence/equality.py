"""Is the int8 model the float model? Judged output by output, centred, and on the decisions that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

OUTPUTS = ("location", "scale_down", "scale_up", "logit")
HARDLY_MOVES = 1e-4
"""An output with less standard deviation than this is judged by its largest difference: R2 would divide by it."""


def outputs(
    exact: Array, found: Array, horizons: tuple[int, ...], min_r2: float, max_difference: float
) -> list[dict[str, Any]]:
    """One row an output and horizon.

    Args:
        exact, found: (n, H, 4) float and int8 outputs on the same out-of-sample cells.
        horizons: H sessions ahead.
        min_r2: least centred R2, 1 - mean((found - exact)^2) / var(exact).
        max_difference: largest difference of an output that hardly moves.
    """
    rows = []
    for k, name in enumerate(OUTPUTS):
        for i, h in enumerate(horizons):
            a, b = exact[:, i, k].astype(np.float64), found[:, i, k].astype(np.float64)
            difference = float(np.abs(b - a).max())
            moves = float(a.std()) >= HARDLY_MOVES
            r2 = float(1 - ((b - a) ** 2).mean() / a.var()) if moves else None
            rows.append(
                {
                    "output": name,
                    "horizon": h,
                    "r2": r2,
                    "max_difference": difference,
                    "rule": "r2" if moves else "max_difference",
                    "passed": bool(r2 >= min_r2 if r2 is not None else difference <= max_difference),
                }
            )
    return rows


def relative_change(exact: Array, found: Array) -> Array:
    """|found - exact| / exact where exact is above zero, else 0: the change of a target weight."""
    return np.divide(np.abs(found - exact), exact, out=np.zeros_like(exact), where=exact > 0)
