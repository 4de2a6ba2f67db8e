"""Which detections are worth explaining: sure ones that are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.detections import Detections
from fpcodec.evaluation.matching import Floats, iou_matrix, to_xywh


@dataclass(frozen=True)
class Targets:
    """Detections that are right, best score first, and how well they fit.

    Attributes:
        detections: N boxes.
        ious: Overlap with the annotated box that each matches, shape (N,), float64.
    """

    detections: Detections
    ious: Floats


def right_detections(
    found: Detections,
    truths: Floats,
    truth_labels: npt.NDArray[np.int64],
    *,
    limit: int,
    min_score: float = 0.5,
    min_iou: float = 0.5,
) -> Targets:
    """The detections worth explaining: sure, and of the right class at the right place.

    Args:
        found: Of one image.
        truths: Annotated boxes without crowds, shape (M, 4), ``left top width height`` in pixels.
        truth_labels: Their label indices, shape (M,).
        limit: Most detections of an image, the best ones.
        min_score: Detections must score above it.
        min_iou: And overlap an annotated box of their class by more, one detection a box.
    """
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] > min_score]
    ious = iou_matrix(to_xywh(found.boxes[order]), truths)
    ious[found.labels[order][:, None] != truth_labels[None]] = 0
    kept: list[int] = []
    overlaps: list[float] = []
    for row, index in enumerate(order):
        if len(kept) == limit or not ious.shape[1]:
            break
        best = int(ious[row].argmax())
        if ious[row, best] > min_iou:
            kept.append(int(index))
            overlaps.append(float(ious[row, best]))
            ious[:, best] = 0
    chosen = Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
    return Targets(chosen, np.asarray(overlaps, np.float64))
