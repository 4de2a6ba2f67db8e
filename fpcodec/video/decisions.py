"""What an encoder changes of a level, and what it leaves as it stands: bytes against error.

None of this is part of the format: a decoder reads whatever was decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.codecs.base import Integers
from fpcodec.codecs.coefficients import Plane, group_bounds
from fpcodec.pyramid import Array
from fpcodec.video.config import VideoConfig
from fpcodec.video.residuals import LevelState

ROUNDING = 0.4
"""A magnitude rounds up from 0.6 of a step, as in frames of their own."""

# What it costs about, in bits: a position that is coded, an integer that changes, one that does not
# in a group that is coded.
_POSITION_BITS, _CHANGE_BITS, _ZERO_BITS = 4.0, 5.0, 0.15

_LARGEST = 1 << 21  # leaves room for a change from any integer to any other
_MAX_CHANGE = (1 << 22) - 1


@dataclass(frozen=True)
class LevelGoal:
    """What one level should be, and how far the reference is from it.

    Attributes:
        reference: The level after the previous frame, at this frame's quality.
        classes: Step classes after this frame, shape (H, W), or None.
        scaled: Components in steps of these classes, shape (K, H * W), float32.
        same: Positions whose class stays, shape (H * W,).
        error: Squared error of leaving everything, shape (H * W,), float32; of no meaning where
            the class does not stay.
    """

    reference: LevelState
    classes: Plane | None
    scaled: Array
    same: npt.NDArray[np.bool_]
    error: Array

    @classmethod
    def of(
        cls,
        reference: LevelState,
        components: Array,
        steps: Array,
        importance: Array | None,
        thresholds: Array,
        config: VideoConfig,
    ) -> LevelGoal:
        """Measure a level against the reference.

        Args:
            reference: The level after the previous frame, at this frame's quality.
            components: Shape (K, H, W), float32.
            steps: Shape (classes, K), float32.
            importance: Shape (H, W), float32; None for a level without step classes.
            thresholds: Shape (classes - 1,), float32.
            config: How far importance must move before a class does.
        """
        count = len(components)
        flat = components.reshape(count, -1)
        classes, same = None, np.ones(flat.shape[1], np.bool_)
        kind = np.zeros(flat.shape[1], np.int32)
        if reference.classes is not None and importance is not None:
            lowest = np.searchsorted(thresholds, importance - np.float32(config.rise))
            highest = np.searchsorted(thresholds, importance + np.float32(config.fall))
            classes = np.clip(reference.classes, lowest, highest).astype(np.int32)
            same = (classes == reference.classes).ravel()
            kind = classes.ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = flat / np.ascontiguousarray(steps.T)[:, kind]
        scaled = np.clip(np.nan_to_num(scaled, copy=False), -_LARGEST, _LARGEST)
        error = ((scaled - reference.symbols.reshape(count, -1)) ** 2).sum(axis=0)
        return cls(reference, classes, scaled, same, np.asarray(error, np.float32))


def decide(goal: LevelGoal, tolerance: float) -> LevelState:
    """Choose a level's integers.

    A position is left as it stands where coding it would spare less error than its bits are worth;
    so is every integer of one that is coded, and the groups at its end. A position whose class
    changes is always coded: the class tells the receiver where to look.

    Args:
        goal: What the level should be.
        tolerance: Squared steps of error that one saved bit may cost.
    """
    reference = goal.reference
    flat = reference.symbols.reshape(len(reference.symbols), -1)
    # Nobody gains more than all the error there is.
    where = np.flatnonzero(~goal.same | (goal.error > tolerance * _POSITION_BITS))
    out = flat.copy()
    expected = np.where(goal.same[where], flat[:, where], 0)
    out[:, where] = _choose(goal.scaled[:, where], expected, goal.same[where], tolerance)
    symbols = out.reshape(reference.symbols.shape)
    return LevelState.still(np.ascontiguousarray(symbols, np.int32), goal.classes)


def _choose(
    scaled: Array, expected: Integers, same: npt.NDArray[np.bool_], tolerance: float
) -> Integers:
    """Integers of the positions that may be coded, shape (K, N)."""
    rounded = np.trunc(scaled + np.copysign(np.float32(ROUNDING), scaled)).astype(np.int32)
    change = np.clip(rounded - expected, -_MAX_CHANGE, _MAX_CHANGE)
    kept_error = (scaled - expected) ** 2
    new_error = (scaled - (expected + change)) ** 2
    worth = kept_error - new_error > tolerance * _CHANGE_BITS
    change = np.where(worth, change, 0)
    gain = np.where(worth, kept_error - new_error, 0) - tolerance * (
        _CHANGE_BITS * worth + _ZERO_BITS
    )
    # Groups end where the sum of what they gain is greatest; a new class costs no more for them.
    bounds = group_bounds(len(scaled))
    gains = np.stack([gain[start:stop].sum(axis=0) for start, stop in bounds])
    totals = np.cumsum(gains, axis=0)
    best = totals.argmax(axis=0)
    depth = np.where(
        totals.max(axis=0) > np.where(same, tolerance * _POSITION_BITS, 0), best + 1, 0
    )
    for group, (start, stop) in enumerate(bounds):
        change[start:stop, depth <= group] = 0
    return np.asarray(expected + change, np.int32)
