"""Shrinking a feature level and blowing it up again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fpcodec.pyramid import Array
from fpcodec.reconstruct.interpolation import resize_bilinear

RESAMPLES = ("seed", "area")
"""``seed``: bilinear both ways, as the published study does. ``area``: means over blocks down."""


def shrunken_size(size: tuple[int, int], ratio: float) -> tuple[int, int]:
    """``(height, width)`` of a level in between: whole parts, at least one cell a side."""
    return max(1, int(size[0] // ratio)), max(1, int(size[1] // ratio))


def degrade(values: Array, ratio: float, resample: str = "seed") -> Array:
    """Resize a level (C, H, W) down by a ratio and back up, float32."""
    if ratio == 1:
        return values
    size = (values.shape[1], values.shape[2])
    small = shrunken_size(size, ratio)
    resize = resize_bilinear if resample == "seed" else resize_area
    return resize_bilinear(resize(values, small), size)


def resize_area(values: Array, size: tuple[int, int]) -> Array:
    """Shrink (C, H, W) to (C, *size) by means over blocks.

    Block ``i`` of ``n`` over a side of ``m`` runs from ``floor(i·m/n)`` to ``ceil((i+1)·m/n)``,
    as in torch's adaptive average pooling.
    """
    rows = _block_means(values.shape[1], size[0])
    columns = _block_means(values.shape[2], size[1])
    return np.ascontiguousarray(rows @ values @ columns.T, np.float32)


def _block_means(length: int, count: int) -> npt.NDArray[np.float32]:
    """The matrix (count, length) that takes means over blocks."""
    matrix = np.zeros((count, length), np.float32)
    for i in range(count):
        start, end = i * length // count, -(-(i + 1) * length // count)
        matrix[i, start:end] = 1 / (end - start)
    return matrix
