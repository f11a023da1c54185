"""Robust scaling of features: the one implementation, for training and for the scorer. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

WINSOR_LIMIT = 5.0
_IQR_OF_NORMAL = 1.349


@dataclass(frozen=True)
class Scaler:
    """Centre and scale of each feature, in training units.

    center, scale: (F,) float32, scale above zero. limit: scaled values are winsorised to +-limit.
    """

    center: Float32
    scale: Float32
    limit: float = WINSOR_LIMIT

    @classmethod
    def fit(cls, x: Float32) -> Scaler:
        """Median and interquartile range / 1.349 of (rows, F) raw training features, NaN and infinities ignored.

        A feature whose middle half is one value (a flag, or all missing) keeps its units: centre 0, scale 1.
        """
        if x.ndim != 2 or not len(x):
            raise ValueError(f"a scaler needs (rows, features) with at least one row, got shape {x.shape}")
        finite = np.isfinite(x)
        known = np.where(finite, x, np.where(finite.any(0), np.float32(np.nan), np.float32(0)))
        low, center, high = np.nanpercentile(known, (25, 50, 75), axis=0)
        spread = ((high - low) / _IQR_OF_NORMAL).astype(np.float32)
        flat = spread <= 0
        return cls(np.where(flat, 0, center).astype(np.float32), np.where(flat, 1, spread).astype(np.float32))

    def transform(self, x: Float32) -> Float32:
        """(..., F) raw -> scaled, winsorised, always finite: NaN, the missing value, becomes 0."""
        scaled = np.asarray(x, dtype=np.float32) - self.center
        scaled /= self.scale
        np.clip(scaled, -self.limit, self.limit, out=scaled)
        np.copyto(scaled, np.float32(0), where=np.isnan(scaled))
        return scaled
