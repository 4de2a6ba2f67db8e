"""Odam-NMS: suppression that asks, besides how two boxes overlap, whether they have one reason.

Zhao and Chan, "ODAM: Gradient-based instance-specific visual explanations for object detection",
ICLR 2023. Two boxes that overlap much both stay if their heat maps are unlike: they are two
objects, one before the other. Two that overlap little lose the lower one if their maps are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.detectors.decoding import batched_nms
from fpcodec.errors import InputError
from fpcodec.pyramid import Array

MAX_CANDIDATES = 300
"""Of an image that may have heat maps: each costs time."""


@dataclass(frozen=True)
class OdamRule:
    """When the lower of two boxes of one class is dropped.

    Likeness is the cosine between two maps, in [0, 1]. An infinite ``high`` with a ``low`` of minus
    infinity is plain suppression.

    Attributes:
        low: Of boxes that overlap more than the detector's threshold the lower one stays where the
            likeness is below this. 0.2 is what the paper's FCOS has, 0.3 its Faster R-CNN.
        high: Of the others the lower one goes where the likeness is not below this; 0.8 and 0.7.
        candidates: The best boxes, so many, have heat maps. A pair of which one has none is judged
            by its overlap alone.
        stride: Network pixels per cell of the grid that maps are compared on: 8 for the paper's
            Faster R-CNN, 16 for its FCOS.

    Raises:
        InputError: A number is out of its range.
    """

    low: float = 0.2
    high: float = 0.8
    candidates: int = 100
    stride: int = 8

    def __post_init__(self) -> None:
        if np.isnan(self.low) or np.isnan(self.high) or self.low > self.high:
            raise InputError(
                f"odam low {self.low} and high {self.high}: give two numbers, low not above high"
            )
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise InputError(f"odam candidates {self.candidates} is not in 1..{MAX_CANDIDATES}")
        if not 1 <= self.stride <= 64:
            raise InputError(f"odam stride {self.stride} is not in 1..64 pixels")


def likeness(maps: Array) -> Array:
    """Cosine between every two maps; 0 beside a map of zeros.

    Args:
        maps: Shape (M, H, W), not negative.

    Returns:
        Shape (M, M), float32.
    """
    flat = maps.reshape(len(maps), int(np.prod(maps.shape[1:]))).astype(np.float64)
    # By its peak first: the squares of small values must not vanish.
    flat /= np.maximum(flat.max(axis=1, initial=0, keepdims=True), np.finfo(np.float64).tiny)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray(flat @ flat.T, np.float32)


def odam_nms(
    boxes: Array,
    scores: Array,
    labels: npt.NDArray[np.int64],
    alike: Array,
    iou_threshold: float,
    rule: OdamRule,
    max_kept: int | None = None,
) -> npt.NDArray[np.int64]:
    """Greedy suppression within each class, by overlap and by likeness of heat maps.

    With a ``high`` above every likeness and a ``low`` below every one it is
    ``decoding.batched_nms`` to the bit.

    Args:
        boxes: Shape (N, 4), float32, ``x1 y1 x2 y2``.
        scores: Shape (N,), float32.
        labels: Shape (N,), int64; boxes of different labels never suppress each other.
        alike: Likeness of the maps of the M best boxes, best first, shape (M, M), M <= N.
        iou_threshold: Overlap above which two boxes need different reasons.
        rule: Its thresholds.
        max_kept: Stop after this many boxes; None for all. The first ones are the same.

    Returns:
        Indices of the boxes kept, best first, shape (K,), int64.

    Raises:
        InputError: The likeness is not square, or of more boxes than there are.
    """
    if alike.ndim != 2 or alike.shape[0] != alike.shape[1] or len(alike) > len(boxes):
        raise InputError(
            f"likeness {alike.shape} is not that of some of {len(boxes)} boxes with each other"
        )

    def judge(
        best: int, rest: npt.NDArray[np.int64], overlaps: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        if best >= len(alike):
            return overlaps
        drop, known = overlaps.copy(), rest < len(alike)
        found = alike[best, rest[known]]
        drop[known] = np.where(drop[known], found >= rule.low, found >= rule.high)
        return np.asarray(drop, np.bool_)

    return batched_nms(boxes, scores, labels, iou_threshold, max_kept, judge)


def best_first(scores: Array, count: int) -> npt.NDArray[np.int64]:
    """Indices of the best boxes, in the order in which ``odam_nms`` takes them."""
    return np.asarray(np.argsort(-scores, kind="stable")[:count], np.int64)
