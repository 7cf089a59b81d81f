"""Powers as decibels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TINY = 1e-20
"""-200 dB: keeps logarithms finite."""


def db(power: float) -> float:
    """Returns a power in dB relative to 1, at least -200."""
    return float(10 * np.log10(max(power, TINY)))


def rounded_db(power: NDArray[np.float64]) -> tuple[float, ...]:
    """Returns powers in dB relative to 1, to a tenth, at least -200."""
    return tuple((10 * np.log10(np.maximum(power, TINY))).round(1).tolist())
