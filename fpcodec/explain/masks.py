"""Random masks for black-box saliency: coarse coin tosses, smoothly enlarged, randomly shifted.

Petsiuk et al., "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError
from fpcodec.pyramid import Array

MAX_GRID = 256
"""Most cells a side of the coarse grid."""


@dataclass(frozen=True)
class MaskSource:
    """An endless row of masks of one size; mask ``i`` is the same whoever asks for it, and when.

    Attributes:
        shape: ``(rows, columns)`` of a mask.
        grid: Cells a side of the coarse grid, in 1..256.
        keep: Probability that a cell is 1: the mean of all masks.
        seed: Of the coin tosses and shifts, not negative.
    """

    shape: tuple[int, int]
    grid: int
    keep: float
    seed: int

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise InputError(f"masks of {self.shape} rows and columns are empty; use 1 or more")
        if not 1 <= self.grid <= MAX_GRID:
            raise InputError(f"mask grid {self.grid} is not in 1..{MAX_GRID}; 16 is usual")
        if not 0 < self.keep < 1:
            raise InputError(
                f"share of cells kept {self.keep} is not between 0 and 1; 0.5 is usual"
            )
        if self.seed < 0:
            raise InputError(f"mask seed {self.seed} is negative; use 0 or more")

    def draw(self, indices: range) -> Array:
        """The masks of these indices.

        Returns:
            Shape (len(indices), rows, columns), float32, in [0, 1].
        """
        masks = np.empty((len(indices), *self.shape), np.float32)
        enlarge = [self._enlargement(side) for side in self.shape]
        for mask, index in zip(masks, indices, strict=True):
            # A generator per mask: no mask depends on how many were drawn before it.
            generator = np.random.default_rng([self.seed, index])
            coarse = (generator.random((self.grid, self.grid)) < self.keep).astype(np.float32)
            row, column = (int(generator.integers(self._cell(side))) for side in self.shape)
            rows = enlarge[0][row : row + self.shape[0]]
            columns = enlarge[1][column : column + self.shape[1]]
            np.minimum(rows @ coarse @ columns.T, 1, out=mask)
        return masks

    def _cell(self, side: int) -> int:
        """Pixels a side of an enlarged cell: shifts lie within one."""
        return -(-side // self.grid)

    def _enlargement(self, side: int) -> Array:
        # One cell more than the mask needs, so that every shift stays inside.
        enlarged = (self.grid + 1) * self._cell(side)
        places = (np.arange(enlarged) + 0.5) * (self.grid / enlarged) - 0.5
        return interpolation(places, self.grid)


def interpolation(places: npt.NDArray[np.floating[Any]], count: int) -> Array:
    """The matrix that reads ``count`` samples, linearly between them, at fractional places.

    Args:
        places: Shape (M,), in samples; 0 is the first sample's centre. Beyond the first and the
            last sample their values go on.
        count: Samples.

    Returns:
        Shape (M, count), float32, rows summing to 1; ``A @ x @ B.T`` resizes a map bilinearly.
    """
    inside = np.clip(places, 0, count - 1)
    low = np.floor(inside).astype(np.int64)
    high = np.minimum(low + 1, count - 1)
    matrix = np.zeros((len(places), count), np.float32)
    at = np.arange(len(places))
    matrix[at, low] = 1 - (inside - low)
    matrix[at, high] += inside - low
    return matrix
