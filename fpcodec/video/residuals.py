"""The traversal of one level of an inter frame: what changes against the reference, and how.

Written once for all directions, as ``codecs.coefficients`` is for frames of their own. Contexts
are integers that the reader has: the reference, what the previous frame changed, the coarser level
of this frame, and earlier passes. ``docs/bitstream.md`` section 9 is the specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.base import Integers
from fpcodec.codecs.coefficients import (
    Plane,
    binary_digits,
    code_escapes,
    group_bounds,
    group_depths,
    largest_magnitude,
    lift,
    neighbour_sums,
    passes,
    spread,
)
from fpcodec.errors import InvalidField
from fpcodec.video.adaptive import (
    ABOVE,
    ACTIVITY,
    DEPTHS,
    ENERGY,
    LIVE,
    MAGNITUDE,
    NEAR,
    LearningCoder,
)

LARGEST_INTEGER = 1 << 23
"""No integer of a stream is larger: changes add up over frames."""


@dataclass(frozen=True)
class LevelState:
    """One level as it stands after a frame; its arrays are not written to.

    Attributes:
        symbols: Shape (K, H, W), int32.
        classes: Step classes, shape (H, W), int32, or None for a level without a step map.
        activity: What the frame coded per position, shape (H, W), int32: 0 nothing, 1 a step
            class alone, 2 changes of integers too.
    """

    symbols: Integers
    classes: Plane | None
    activity: Plane

    @classmethod
    def still(cls, symbols: Integers, classes: Plane | None) -> LevelState:
        """A level of which no change is known."""
        return cls(symbols, classes, np.zeros(symbols.shape[1:], np.int32))


def predict(reference: LevelState, classes: Plane | None) -> Integers:
    """What the integers are expected to be: the reference's, 0 where the step class changed."""
    if classes is None or reference.classes is None:
        return reference.symbols
    return np.where(classes == reference.classes, reference.symbols, 0)


def code_changes(
    coder: LearningCoder,
    reference: LevelState,
    above: Plane | None,
    target: LevelState | None,
) -> LevelState:
    """Code one level in the direction of ``coder``.

    Args:
        coder: Writes, reads or measures.
        reference: The level after the previous frame.
        above: Activity of the nearest coarser level in this frame, or None.
        target: What to code; None when reading. Its activity is not looked at.

    Returns:
        The level after this frame; when coding, ``target`` with its activity.

    Raises:
        InvalidField: Bytes that no encoder writes.
    """
    count, height, width = reference.symbols.shape
    bounds = group_bounds(count)
    changed, residual = None, None
    if target is not None:
        residual = (target.symbols - predict(reference, target.classes)).reshape(count, -1)
        other = np.zeros((height, width), bool)
        if target.classes is not None:
            other = target.classes != reference.classes
        changed = (residual.any(axis=0) | other.ravel()).astype(np.int32)
    flags = _code_flags(coder, reference, lift(above, height, width), changed)
    where = np.flatnonzero(flags)
    classes = _code_classes(coder, reference, where, target)
    symbols = predict(reference, classes).reshape(count, -1)
    depth = np.zeros(height * width, np.int32)
    if len(where):
        given = None if residual is None else group_depths(residual, bounds)[where]
        depth[where] = _code_depths(coder, reference, classes, where, given)
        if depth.max() > len(bounds):
            raise InvalidField(f"a depth of {depth.max()} is above the {len(bounds)} groups")
        changes = _code_groups(coder, symbols, depth.reshape(height, width), residual, bounds)
        symbols = symbols + changes
        if np.abs(symbols).max(initial=0) > LARGEST_INTEGER:
            raise InvalidField(f"an integer exceeds {LARGEST_INTEGER} after this frame")
    activity = (flags + (depth > 0)).astype(np.int32).reshape(height, width)
    return LevelState(symbols.reshape(count, height, width), classes, activity)


def _code_flags(
    coder: LearningCoder, reference: LevelState, above: Plane, given: Plane | None
) -> Plane:
    """Which positions are coded at all, shape (H * W,)."""
    height, width = above.shape
    live = (reference.symbols != 0).any(axis=0).astype(np.int32)
    if reference.classes is not None:
        live = live + (reference.classes > 0)
    known = (np.minimum(above, ABOVE - 1) * ACTIVITY + _nearby(reference.activity)) * LIVE + live
    out = np.zeros((height, width), np.int32)
    for number, where in enumerate(passes(height, width)):
        near = neighbour_sums(out, number).ravel()[where]
        context = (number * NEAR + near) * (ABOVE * ACTIVITY * LIVE) + known.ravel()[where]
        out.ravel()[where] = coder.code("flag", context, None if given is None else given[where])
    return out.ravel()


def _nearby(activity: Plane) -> Plane:
    """3 where the previous frame coded the position, else by how many of its eight neighbours it
    did: 0 none, 1 one or two, 2 more."""
    coded = np.zeros((activity.shape[0] + 2, activity.shape[1] + 2), np.int32)
    coded[1:-1, 1:-1] = activity > 0
    rows = coded[:-2] + coded[1:-1] + coded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    beside = (around > 0).astype(np.int32) + (around > 2)
    return np.where(activity > 0, 3, beside).astype(np.int32)


def _code_classes(
    coder: LearningCoder,
    reference: LevelState,
    where: npt.NDArray[np.intp],
    target: LevelState | None,
) -> Plane | None:
    if reference.classes is None:
        return None
    before = reference.classes.ravel()
    out = before.copy()
    if len(where):
        given = None
        if target is not None and target.classes is not None:
            given = target.classes.ravel()[where]
        out[where] = coder.code("class", before[where], given)
    return np.asarray(out.reshape(reference.classes.shape), np.int32)


def _code_depths(
    coder: LearningCoder,
    reference: LevelState,
    classes: Plane | None,
    where: npt.NDArray[np.intp],
    given: Plane | None,
) -> Plane:
    """Groups up to the last one that holds a change, for every coded position."""
    count = len(reference.symbols)
    flat = reference.symbols.reshape(count, -1)[:, where]
    before = np.minimum(group_depths(flat, group_bounds(count)), DEPTHS - 1)
    kind = np.zeros(len(where), np.int32)
    if classes is not None and reference.classes is not None:
        now = classes.ravel()[where]
        kind = 2 * now + (now != reference.classes.ravel()[where])
    return coder.code("depth", kind * DEPTHS + before, given)


def _code_groups(
    coder: LearningCoder,
    expected: Integers,
    depth: Plane,
    residual: Integers | None,
    bounds: Sequence[tuple[int, int]],
) -> Integers:
    """The changes, shape (K, H * W), group by group as in a frame of its own."""
    out = np.zeros_like(expected)
    depths, energy = depth.ravel(), 4 * depth
    for group, (start, stop) in enumerate(bounds):
        where = np.flatnonzero(depths > group)
        if not len(where):
            break
        left = np.minimum(depths[where] - group, 3) - 1
        near = np.minimum(binary_digits(energy.ravel()[where]), ENERGY - 1)
        before = expected[start:stop, where]
        # A change towards larger magnitudes is positive, whichever sign the integer has.
        sign = np.where(before < 0, -1, 1).astype(np.int32)
        magnitude = np.minimum(np.abs(before), MAGNITUDE - 1)
        context = (left * ENERGY + near)[None] * MAGNITUDE + magnitude
        given = None if residual is None else (residual[start:stop, where] * sign).ravel()
        values = _code_values(coder, group, context.ravel(), given).reshape(sign.shape)
        out[start:stop, where] = values * sign
        level = np.zeros(depth.size, np.int32)
        total = np.minimum(np.abs(values), 255).sum(axis=0, dtype=np.int32)
        level[where] = total * 16 // (stop - start)
        energy = spread(level.reshape(depth.shape))
    return out


def _code_values(coder: LearningCoder, group: int, context: Plane, given: Plane | None) -> Plane:
    largest = largest_magnitude(group)
    escape = 2 * largest + 1
    symbols = None
    if given is not None:
        symbols = np.where(np.abs(given) > largest, escape, given + largest).astype(np.int32)
    coded = coder.code(f"group{group}", context, symbols)
    out = coded - largest
    escaped = np.flatnonzero(coded == escape)
    if len(escaped):
        real = None if given is None else given[escaped]
        own = coder.named("escape")
        out[escaped] = code_escapes(own, own.table, largest, len(escaped), real)
    return np.asarray(out, np.int32)
