"""Moving mean and maximum: `scipy.ndimage`'s figures, whose import takes longer than a clip."""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


def moving_mean(
    x: NDArray[np.floating],
    size: int,
    *,
    axis: int = 0,
    mode: Literal["edge", "symmetric"] = "edge",
) -> NDArray[np.floating]:
    """Returns the mean over `size` neighbours along an axis.

    Bit for bit `scipy.ndimage.uniform_filter1d` with mode "nearest" (here "edge") or "reflect"
    ("symmetric"): a running sum in float64, in the same order.

    Args:
        x: at least one value along `axis`.
        size: at least 1; of an even number of neighbours one more lies before than after.
        axis: along which the mean is taken.
        mode: how `x` goes on beyond its ends, in `numpy.pad`'s words.

    Returns:
        Shape and dtype of `x`.
    """
    before = size // 2
    lines = np.moveaxis(x, axis, 0).astype(np.float64)
    around = [(before, size - before - 1)] + [(0, 0)] * (lines.ndim - 1)
    padded = np.pad(lines, around, mode)
    changes = np.empty_like(lines)
    changes[0] = np.cumsum(padded[:size], axis=0)[-1]
    changes[1:] = padded[size:] - padded[:-size]
    return np.moveaxis(np.cumsum(changes, axis=0) / size, 0, axis).astype(x.dtype)


def moving_maximum(x: NDArray[Number], size: int) -> NDArray[Number]:
    """Returns the maximum over `size` neighbours; beyond its ends `x` has their values.

    Args:
        x: (n >= 1,).
        size: odd.

    Returns:
        Shape and dtype of `x`.
    """
    padded = np.pad(x, size // 2, "edge")
    maxima: NDArray[Number] = np.lib.stride_tricks.sliding_window_view(padded, size).max(axis=-1)
    return maxima
