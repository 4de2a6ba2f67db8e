"""Levels of a head: the places that the rows of a detector's outputs stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.pyramid import PyramidSpec


@dataclass(frozen=True)
class HeadLevel:
    """One level of a head.

    Attributes:
        name: The cut's name of it; a level that the head makes itself is ``p`` and a number.
        stride: Network pixels per cell.
        height: Rows of cells.
        width: Cells of a row.
    """

    name: str
    stride: int
    height: int
    width: int

    @property
    def count(self) -> int:
        """Number of cells."""
        return self.height * self.width

    @property
    def cells(self) -> npt.NDArray[np.int64]:
        """Column and row of each cell, row by row, (H * W, 2)."""
        y, x = np.divmod(np.arange(self.count), self.width)
        return np.stack([x, y], axis=1)


def head_levels(
    spec: PyramidSpec, network_size: tuple[int, int], strides: Sequence[int] = ()
) -> tuple[HeadLevel, ...]:
    """Levels of a head, finest first.

    Args:
        spec: The pyramid at the cut.
        network_size: ``(width, height)`` of the network input.
        strides: Of the head's levels; none for those of the pyramid.
    """
    width, height = network_size
    names = {level.stride: level.name for level in spec.levels}
    return tuple(
        HeadLevel(names.get(x) or _name(x, spec.names), x, -(-height // x), -(-width // x))
        for x in strides or [level.stride for level in spec.levels]
    )


def _name(stride: int, taken: Sequence[str]) -> str:
    """``p6`` for 64, as detectron2 has it; ``s48`` where there is no such name."""
    name = f"p{stride.bit_length() - 1}"
    return name if stride == 1 << (stride.bit_length() - 1) and name not in taken else f"s{stride}"


def describe(levels: Sequence[HeadLevel]) -> str:
    """Names and sizes for a message: ``p3 52x52, p4 26x26``."""
    return ", ".join(f"{x.name} {x.width}x{x.height}" for x in levels)
