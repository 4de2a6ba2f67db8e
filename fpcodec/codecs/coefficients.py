"""The traversal that turns one level's integers into passes of symbols, and back.

Written once: the coder handed in writes, reads, counts or measures. Contexts are integers made
from what the reader already knows: earlier passes over this level, its step map, and the parent
level's planes. ``docs/bitstream.md`` section 5 is the specification.

A level is K components of H x W integers. Components are coded in groups, all positions of a
group before the next group; each position has a *depth*, the number of groups coded there, so
that the zeros after the last non-zero group cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fpcodec.entropy import SymbolCoder, Symbols, Table
from fpcodec.errors import InvalidField

Plane = npt.NDArray[np.int32]

GROUP_SIZES = (1, 1, 2, 4, 8, 16, 32)
"""Components per group; every further group takes 64."""

STEP_CLASSES = 4
"""Step classes a map may hold: 0 coarsest."""

_MAP_SUMS = 4 * (STEP_CLASSES - 1) + 1

_LARGEST = (15, 15, 15, 15, 7, 7, 3)
"""Largest magnitude with a symbol of its own, per group; 3 for further groups."""

_ENERGY_CLASSES = 12
_DEPTH_CLASSES = 7
ESCAPE_LENGTHS = 24
MAX_ESCAPE = (1 << 22) - 1

_DIGITS = np.array([number.bit_length() for number in range(2048)], np.int32)
_HALVES = Table(np.full((1, 2), 1 << 15))


def group_bounds(components: int) -> list[tuple[int, int]]:
    """Component ranges ``[start, stop)`` of the groups of a level."""
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < components:
        size = GROUP_SIZES[len(bounds)] if len(bounds) < len(GROUP_SIZES) else 64
        bounds.append((start, min(start + size, components)))
        start += size
    return bounds


def whole_groups(components: int, count: int) -> int:
    """The least number of leading components, ``count`` or more, that ends with a group."""
    return next((stop for _, stop in group_bounds(components) if stop >= count), 0) if count else 0


def largest_magnitude(group: int) -> int:
    """Largest magnitude coded without an escape in a group."""
    return _LARGEST[group] if group < len(_LARGEST) else _LARGEST[-1]


def table_shapes(components: int) -> dict[str, tuple[int, int]]:
    """Names and (contexts, alphabet) of the tables that a level of K components needs."""
    bounds = group_bounds(components)
    shapes = {
        "map": (3 * (STEP_CLASSES + 1) * _MAP_SUMS, STEP_CLASSES),
        "depth": (3 * STEP_CLASSES * _DEPTH_CLASSES * _DEPTH_CLASSES, len(bounds) + 1),
        "escape": (1, ESCAPE_LENGTHS),
    }
    for group in range(len(bounds)):
        contexts = STEP_CLASSES * 3 * _ENERGY_CLASSES
        shapes[f"group{group}"] = (contexts, 2 * largest_magnitude(group) + 2)
    return shapes


@dataclass(frozen=True)
class LevelPlanes:
    """What a finer level may look at: all of it integers that were coded.

    Attributes:
        depth: Groups coded per position, shape (H, W).
        classes: Step classes, shape (H, W), or None where no map was coded.
    """

    depth: Plane
    classes: Plane | None


@dataclass(frozen=True)
class LevelCode:
    """One level's integers.

    Attributes:
        symbols: Shape (K, H, W), int32.
        classes: Step classes, shape (H, W), int32, or None.
        planes: What finer levels may look at.
    """

    symbols: npt.NDArray[np.int32]
    classes: Plane | None
    planes: LevelPlanes


def code_level(
    coder: SymbolCoder,
    tables: Mapping[str, Table],
    shape: tuple[int, int, int],
    *,
    has_map: bool,
    parent: LevelPlanes | None,
    symbols: npt.NDArray[np.int32] | None = None,
    classes: Plane | None = None,
    depth: Plane | None = None,
) -> LevelCode:
    """Code one level in the direction of ``coder``.

    Args:
        coder: Writes, reads, counts or measures.
        tables: The level's tables, named as ``table_shapes`` names them.
        shape: (K, H, W).
        has_map: Whether a step map is coded.
        parent: The parent level's planes, or None.
        symbols: Shape (K, H, W), int32, or fewer whole groups where the others are zero; None
            when reading.
        classes: Shape (H, W); None when reading or without a map.
        depth: Groups to code per position, shape (H, W); None when reading, or to end with the
            last group that holds a value.

    Raises:
        InvalidField: Bytes that no encoder writes.
    """
    components, height, width = shape
    bounds = group_bounds(components)
    flat = None if symbols is None else symbols.reshape(len(symbols), height * width)
    parent_depth = lift(None if parent is None else parent.depth, height, width)
    step = np.zeros((height, width), np.int32)
    if has_map:
        above = None if parent is None else parent.classes
        parent_class = np.zeros_like(step) if above is None else lift(above, height, width) + 1
        step = _code_map(coder, tables["map"], parent_class, classes)
    if depth is None and flat is not None:
        depth = group_depths(flat, bounds).reshape(height, width)
    depth = _code_depth(coder, tables["depth"], step, parent_depth, depth)
    out = np.zeros((components, height * width), np.int32) if flat is None else flat
    depths, step_flat = depth.ravel(), step.ravel()
    energy = 4 * depth + parent_depth
    for group, (start, stop) in enumerate(bounds):
        where = np.flatnonzero(depths > group)
        if not len(where):
            break
        left = np.minimum(depths[where] - group, 3) - 1
        near = binary_digits(energy.ravel()[where])
        context = (step_flat[where] * 3 + left) * _ENERGY_CLASSES + near
        values = None if flat is None else flat[start:stop, where]
        coded = _code_values(coder, tables, group, context, stop - start, values)
        if flat is None:
            out[start:stop, where] = coded
        level = np.zeros(height * width, np.int32)
        level[where] = (
            np.minimum(np.abs(coded), 255).sum(axis=0, dtype=np.int32) * 16 // (stop - start)
        )
        energy = spread(level.reshape(height, width))
    classes_out = step if has_map else None
    return LevelCode(out.reshape(-1, height, width), classes_out, LevelPlanes(depth, classes_out))


def lift(plane: Plane | None, height: int, width: int) -> Plane:
    """A coarser plane at this level's size: each position takes the cell that covers it."""
    if plane is None:
        return np.zeros((height, width), np.int32)
    rows = np.arange(height) * plane.shape[0] // height
    columns = np.arange(width) * plane.shape[1] // width
    return np.asarray(plane[rows[:, None], columns], np.int32)


def _padded(plane: Plane) -> Plane:
    """The plane with a border of zeros (np.pad takes ten times as long on small planes)."""
    out = np.zeros((plane.shape[0] + 2, plane.shape[1] + 2), np.int32)
    out[1:-1, 1:-1] = plane
    return out


def spread(plane: Plane) -> Plane:
    """Twice the centre plus half of the four neighbours' sum; outside counts as zero."""
    padded = _padded(plane)
    near = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return 2 * plane + near // 2


def binary_digits(energy: Plane) -> Plane:
    """Number of binary digits, at most 11."""
    return _DIGITS[np.minimum(energy, 2047)]


@lru_cache(maxsize=32)
def passes(height: int, width: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Three interlaced passes: even-even, odd-odd, then the rest, each in raster order."""
    rows = np.arange(height)[:, None] & 1
    columns = np.arange(width)[None, :] & 1
    order = np.where(rows != columns, 2, rows).ravel()
    return tuple(np.flatnonzero(order == number) for number in range(3))


def neighbour_sums(plane: Plane, number: int) -> Plane:
    """Sum over the neighbours that earlier passes coded: none, four diagonal, four direct."""
    if number == 0:
        return np.zeros_like(plane)
    padded = _padded(plane)
    if number == 1:
        return padded[:-2, :-2] + padded[:-2, 2:] + padded[2:, :-2] + padded[2:, 2:]
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]


def _code_map(coder: SymbolCoder, table: Table, above: Plane, classes: Plane | None) -> Plane:
    out = np.zeros_like(above)
    for number, where in enumerate(passes(*out.shape)):
        near = neighbour_sums(out, number).ravel()[where]
        context = (number * (STEP_CLASSES + 1) + above.ravel()[where]) * _MAP_SUMS + near
        given = None if classes is None else classes.ravel()[where].astype(np.int32)
        out.ravel()[where] = coder.code(table, context.astype(np.intp), given)
    return out


def group_depths(flat: npt.NDArray[np.int32], bounds: list[tuple[int, int]]) -> Plane:
    """Groups up to the last one that holds a non-zero value, per position of (K, H * W)."""
    depth = np.zeros(flat.shape[1], np.int32)
    for group, (start, stop) in enumerate(bounds):
        if stop <= len(flat):
            depth[flat[start:stop].any(axis=0)] = group + 1
    return depth


_DEPTH_EDGES = np.array([1, 3, 6, 10, 16, 24])


def _code_depth(
    coder: SymbolCoder, table: Table, step: Plane, above: Plane, depth: Plane | None
) -> Plane:
    out = np.zeros_like(step)
    above_class = np.minimum(above, _DEPTH_CLASSES - 1)
    for number, where in enumerate(passes(*out.shape)):
        near = np.searchsorted(_DEPTH_EDGES, neighbour_sums(out, number).ravel()[where], "right")
        context = (number * STEP_CLASSES + step.ravel()[where]) * _DEPTH_CLASSES + near
        context = context * _DEPTH_CLASSES + above_class.ravel()[where]
        given = None if depth is None else depth.ravel()[where].astype(np.int32)
        out.ravel()[where] = coder.code(table, context.astype(np.intp), given)
    return out


def _code_values(
    coder: SymbolCoder,
    tables: Mapping[str, Table],
    group: int,
    context: npt.NDArray[np.int32],
    size: int,
    values: npt.NDArray[np.int32] | None,
) -> npt.NDArray[np.int32]:
    """Code a group at its live positions: component by component, then the escapes."""
    largest = largest_magnitude(group)
    contexts = np.broadcast_to(context.astype(np.intp), (size, len(context))).ravel()
    given = None
    if values is not None:
        given = values.ravel() + largest
        given[(given < 0) | (given > 2 * largest)] = 2 * largest + 1
    coded = coder.code(tables[f"group{group}"], contexts, given)
    out = coded - largest
    escaped = np.flatnonzero(coded == 2 * largest + 1)
    if len(escaped):
        real = None if values is None else values.ravel()[escaped]
        out[escaped] = code_escapes(coder, tables["escape"], largest, len(escaped), real)
    return out.reshape(size, -1)


def code_escapes(
    coder: SymbolCoder, table: Table, largest: int, count: int, values: Symbols | None
) -> Symbols:
    """Values beyond the alphabet: sign, then ``|value| - largest`` as length and bits."""
    zeros = np.zeros(count, np.intp)
    sign = coder.code(_HALVES, zeros, None if values is None else (values < 0).astype(np.int32))
    excess = None if values is None else np.minimum(np.abs(values) - largest, MAX_ESCAPE)
    lengths = coder.code(table, zeros, None if excess is None else _digits(excess) - 1)
    out = np.ones(count, np.int64)
    for bit in range(int(lengths.max()) - 1, -1, -1):
        where = np.flatnonzero(lengths > bit)
        given = None if excess is None else ((excess[where] >> bit) & 1).astype(np.int32)
        out[where] = 2 * out[where] + coder.code(_HALVES, zeros[where], given)
    if out.max() > MAX_ESCAPE:
        raise InvalidField(f"an escaped value exceeds {MAX_ESCAPE}")
    return np.where(sign == 1, -(out + largest), out + largest).astype(np.int32)


def _digits(values: Symbols) -> Symbols:
    _, digits = np.frexp(values.astype(np.float64))  # exact: below 2^53
    return digits.astype(np.int32)
