"""The body's shape in time: three causal convolutions, and the 64 sessions a forecast depends on."""

from __future__ import annotations

KERNEL = 4
"""Taps of each convolution."""
DILATIONS = (1, 4, 16)
"""Sessions between the taps, from the first convolution to the last."""
FIELD = 1 + (KERNEL - 1) * sum(DILATIONS)
"""Sessions a forecast depends on, its own included: 64."""
