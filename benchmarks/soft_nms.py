"""Soft-NMS, a rival of Odam-NMS: overlapping boxes lose score and stay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fpcodec.pyramid import Array

MIN_SCORE = 1e-3
"""A box whose score falls below it is dropped, as in the authors' code."""


def batched_soft_nms(
    boxes: Array, scores: Array, labels: npt.NDArray[np.int64], sigma: float, max_kept: int
) -> tuple[npt.NDArray[np.int64], Array]:
    """Gaussian soft-NMS within each class (Bodla et al., "Soft-NMS", ICCV 2017).

    The best box is kept, the score of each other box of its class multiplied by
    ``exp(-iou**2 / sigma)``, and so on with those that are left.

    Args:
        boxes: Shape (N, 4), float32, ``x1 y1 x2 y2``.
        scores: Shape (N,), float32.
        labels: Shape (N,), int64.
        sigma: Width of the Gaussian; towards 0 every overlap suppresses.
        max_kept: Stop after this many boxes.

    Returns:
        Indices of the boxes kept, best first, and the scores that are left to them.
    """
    left = scores.astype(np.float64)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    remaining = np.arange(len(scores))
    kept: list[int] = []
    final: list[float] = []
    while len(remaining) and len(kept) < max_kept:
        at = int(left[remaining].argmax())
        best = int(remaining[at])
        kept.append(best)
        final.append(float(left[best]))
        remaining = np.delete(remaining, at)
        low = np.maximum(boxes[best, :2], boxes[remaining, :2])
        high = np.minimum(boxes[best, 2:], boxes[remaining, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1, dtype=np.float64)
        union = areas[best] + areas[remaining] - shared
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        iou[labels[remaining] != labels[best]] = 0
        left[remaining] *= np.exp(-(iou**2) / sigma)
        remaining = remaining[left[remaining] >= MIN_SCORE]
    return np.asarray(kept, np.int64), np.asarray(final, np.float32)
