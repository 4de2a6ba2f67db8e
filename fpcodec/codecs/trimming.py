"""Leaving out of a frame what matters least, a group of a position at a time.

One quality is one byte on the wire, and a step of it may change the frame by more than a budget
allows. Between two qualities lies the better one with some of its last groups left out: fewer
symbols, the same format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.coefficients import group_bounds, group_depths

_MAP = -1
"""Stands for a position's step class among its groups: the last thing to go."""

_LAST = 1 << 62


class Trimmer:
    """Drops parts of quantised levels in a fixed order.

    Positions of the coarsest step class go first; there the ends of positions, each from some
    group on, whose integers sum up to least. A position's step class goes after all its groups.

    Args:
        levels: By name, what is coded when nothing is dropped.
        group_bits: Level name to, per group, the bits of each position that has it, in raster
            order; None where they are not known.

    Attributes:
        saved_bits: How many bits the first parts seem to take with them, shape (parts + 1,); what
            their neighbours' contexts gain or lose is not in it.
    """

    def __init__(
        self,
        levels: Mapping[str, QuantisedLevel],
        group_bits: Mapping[str, Sequence[npt.NDArray[np.float64]]] | None = None,
    ) -> None:
        self._levels = dict(levels)
        self._depths = {name: _depths(level) for name, level in levels.items()}
        bits = group_bits or {}
        parts = [
            self._list_parts(index, name, bits.get(name)) for index, name in enumerate(self._levels)
        ]
        level, position, group, step_class, size, saved = (
            np.concatenate(x) for x in zip(*parts, strict=True)
        )
        order = np.lexsort((position, size, -group, step_class))
        self._level, self._position, self._group = level[order], position[order], group[order]
        self.saved_bits = np.concatenate([[0.0], np.cumsum(saved[order])])

    @property
    def parts(self) -> int:
        """How much there is to drop."""
        return len(self._level)

    def drop(self, count: int) -> dict[str, QuantisedLevel]:
        """The levels without their first ``count`` parts."""
        out = {}
        for index, (name, level) in enumerate(self._levels.items()):
            here = self._level[:count] == index
            position, group = self._position[:count][here], self._group[:count][here]
            cut = np.bincount(position[group != _MAP], minlength=self._depths[name].size)
            kept = self._depths[name] - cut.astype(np.int32)
            symbols = _truncate(level, kept)
            classes = level.classes
            if classes is not None:
                classes = classes.copy()
                classes.ravel()[position[group == _MAP]] = 0
            depth = None if level.depth is None else kept.reshape(level.depth.shape)
            out[name] = replace(level, symbols=symbols, classes=classes, depth=depth)
        return out

    def _list_parts(
        self, index: int, name: str, bits: Sequence[npt.NDArray[np.float64]] | None
    ) -> tuple[npt.NDArray[Any], ...]:
        """Level index, position, group, step class, size and bits of everything that can go."""
        level, depth = self._levels[name], self._depths[name]
        classes = np.zeros(depth.size, np.int64)
        if level.classes is not None:
            classes = level.classes.ravel().astype(np.int64)
        ends = _end_sizes(level, int(depth.max(initial=0)))
        where = [np.flatnonzero(depth > group) for group in range(len(ends))]
        sizes = [end[x] for end, x in zip(ends, where, strict=True)]
        where.append(np.flatnonzero(classes))
        sizes.append(np.full(len(where[-1]), _LAST))
        position, size = np.concatenate(where), np.concatenate(sizes)
        groups = [*range(len(ends)), _MAP]
        group = np.repeat(np.array(groups, np.int64), [len(x) for x in where])
        saved = (
            np.ones(len(position))
            if bits is None
            else np.concatenate([*bits, np.ones(len(where[-1]))])
        )
        level_index = np.full(len(position), index)
        return level_index, position, group, classes[position], size, saved


def _depths(level: QuantisedLevel) -> npt.NDArray[np.int32]:
    if level.depth is not None:
        return np.asarray(level.depth.ravel(), np.int32)
    bounds = group_bounds(level.components or len(level.symbols))
    return group_depths(_flat(level.symbols), bounds)


def _end_sizes(level: QuantisedLevel, groups: int) -> list[npt.NDArray[np.int64]]:
    """Per group the sum of magnitudes from it on, at every position."""
    flat = _flat(level.symbols)
    ends: list[npt.NDArray[np.int64]] = []
    total = np.zeros(flat.shape[1], np.int64)
    bounds = group_bounds(level.components or len(flat))[:groups]
    for start, stop in reversed(bounds):
        total = total + np.abs(flat[start:stop]).sum(axis=0, dtype=np.int64)
        ends.append(total)
    return ends[::-1]


def _flat(symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """A view (K, H * W), of no components too."""
    count, height, width = symbols.shape
    return symbols.reshape(count, height * width)


def _truncate(level: QuantisedLevel, depth: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The integers, zero from each position's depth on."""
    flat = _flat(level.symbols).copy()
    for group, (start, stop) in enumerate(group_bounds(len(flat))):
        flat[start:stop, depth <= group] = 0
    return np.asarray(flat.reshape(level.symbols.shape), np.int32)
