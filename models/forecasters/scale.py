"""The scale skip: ridge on log|z| of the session's features, with a constant location and a logistic p_up.

Writing z = s(x) e with e independent of x gives log|z| = log s(x) + log|e|: a linear regression of log|z| on
the features estimates log s up to a constant, which the residual shape restores. It is the first model, and the
frozen foundation under every network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, Ridge

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

Z_FLOOR = 0.15
"""|z| below it counts as this much: the log of a tiny move says nothing of the scale."""


@dataclass(frozen=True)
class ScaleSkip:
    """A fitted skip: log-scale and logit of p_up, each linear in the scaled features.

    weight, up_weight: (F, H) float64; bias, up_bias: (H,) float64.
    """

    weight: Float64
    bias: Float64
    up_weight: Float64
    up_bias: Float64

    def log_scale(self, x: Float32) -> Float64:
        """(..., F) scaled features -> (..., H) log-scale in z units."""
        return np.asarray(x @ self.weight + self.bias)

    def outputs(self) -> tuple[Float32, Float32]:
        """Weight (F, H*4) and bias (H*4,) of the network's skip: location 0, log-scale down = up, logit p_up."""
        features, horizons = self.weight.shape
        weight = np.zeros((features, horizons, 4), dtype=np.float32)
        bias = np.zeros((horizons, 4), dtype=np.float32)
        weight[:, :, 1] = weight[:, :, 2] = self.weight
        bias[:, 1] = bias[:, 2] = self.bias
        weight[:, :, 3], bias[:, 3] = self.up_weight, self.up_bias
        return weight.reshape(features, -1), bias.reshape(-1)


def fit_scale_skip(
    x: Float32, z: Float64, age: Float64, alpha: float, half_life: float, up_penalty: float = 1e4
) -> ScaleSkip:
    """Fit one ridge and one logistic regression a horizon.

    Args:
        x: (n, F) scaled features, finite.
        z: (n, H) targets in units of volatility, NaN where not known; those rows are left out for that horizon.
        age: (n,) sessions before the end of training; a row weighs 2 ** (-age / half_life).
        alpha: ridge penalty, in rows of weight one.
        half_life: sessions after which a row weighs half.
        up_penalty: L2 penalty of the logistic regression: direction is shrunk hard.

    Raises:
        ValueError: a horizon has no known target.
    """
    recency = 0.5 ** (age / half_life)
    scales, ups = [], []
    for h in range(z.shape[1]):
        known = np.isfinite(z[:, h])
        if not known.any():
            raise ValueError(f"no known target for horizon number {h} in the training slice")
        xh, zh, wh = x[known].astype(np.float64), z[known, h], recency[known]
        logs = np.log(np.maximum(np.abs(zh), Z_FLOOR))
        ridge = Ridge(alpha=alpha, solver="cholesky").fit(xh, logs, sample_weight=wh)
        scales.append((ridge.coef_, ridge.intercept_))
        ups.append(_fit_up(xh, zh > 0, wh, up_penalty))
    return ScaleSkip(
        np.stack([w for w, _ in scales], axis=1),
        np.array([b for _, b in scales]),
        np.stack([w for w, _ in ups], axis=1),
        np.array([b for _, b in ups]),
    )


def _fit_up(x: Float64, up: npt.NDArray[np.bool_], weight: Float64, penalty: float) -> tuple[Float64, float]:
    share = float(np.average(up, weights=weight))
    if share in (0.0, 1.0):  # one class only: a constant, a little inside (0, 1)
        share = min(max(share, 0.01), 0.99)
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share)))
    model = LogisticRegression(C=1 / penalty, solver="newton-cholesky", max_iter=50)
    model.fit(x, up, sample_weight=weight)
    return model.coef_[0], float(model.intercept_[0])
