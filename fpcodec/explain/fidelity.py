"""Whether a detection seen through a codec is still explained as before.

The maps are ODAM's (Zhao and Chan, ICLR 2023); how much of one lies on other objects is their
object discrimination index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fpcodec.detections import Detections
from fpcodec.detectors.decoding import batched_nms
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.explain.metrics import Mask, map_correlation, object_discrimination_index
from fpcodec.pyramid import Array

MIN_SCORE, MIN_IOU, NMS_IOU, MOST_BOXES = 0.1, 0.5, 0.5, 100


@dataclass(frozen=True)
class Fidelity:
    """One object's map before and after.

    Attributes:
        correlation: Pearson's, over the image's pixels; NaN where a map is flat.
        odi_shift: Object discrimination index after less before: above 0 the map came to lie more
            on other objects. NaN where a map lies on no object.
    """

    correlation: float
    odi_shift: float


def find_again(
    found: Detections, box: Sequence[float], label: int, *, min_score: float = MIN_SCORE,
    min_iou: float = MIN_IOU,
) -> int | None:  # fmt: skip
    """Which detection is an object that was detected before; None where it was lost.

    Args:
        found: Detections after coding, best first; doubles are suppressed first.
        box: ``x1 y1 x2 y2`` as it was detected before, in image pixels.
        label: Its label index.
        min_score: It must still score above it.
        min_iou: And overlap the box by more.
    """
    kept = batched_nms(found.boxes, found.scores, found.labels, NMS_IOU, MOST_BOXES)
    kept = kept[(found.scores[kept] > min_score) & (found.labels[kept] == label)]
    if not len(kept):
        return None
    before = to_xywh(np.asarray(box, np.float32)[None])
    overlaps = iou_matrix(to_xywh(found.boxes[kept]), before)[:, 0]
    best = int(overlaps.argmax())
    return int(kept[best]) if overlaps[best] > min_iou else None


def compare_maps(before: Array, after: Array, own: int, objects: Sequence[Mask]) -> Fidelity:
    """Compare two maps (H, W) of one object over the original image.

    Args:
        before: Of the features as they were.
        after: Of what the server saw.
        own: The object's position among the objects.
        objects: Masks of all objects of the image.

    Raises:
        InputError: Maps or masks differ in size, or there is no such object.
    """
    shift = object_discrimination_index(after, own, objects) - object_discrimination_index(
        before, own, objects
    )
    return Fidelity(map_correlation(before, after), shift)
