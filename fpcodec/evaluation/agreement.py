"""How far two sets of detections of one image agree, whatever the truth is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.matching import Floats, iou_matrix, to_xywh


@dataclass(frozen=True)
class Agreement:
    """Agreement of two sets of detections, A and B.

    F1 is ``2 · matched / (count_a + count_b)``: swapping A and B changes nothing.

    Attributes:
        matched: Pairs of boxes of the same label that overlap enough.
        count_a: Boxes of A that score enough.
        count_b: Boxes of B that score enough.
        iou_sum: Sum of the pairs' IoU.
    """

    matched: int = 0
    count_a: int = 0
    count_b: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.matched + other.matched, self.count_a + other.count_a,
            self.count_b + other.count_b, self.iou_sum + other.iou_sum,
        )  # fmt: skip

    @property
    def f1(self) -> float:
        """In [0, 1]; 1 where neither set has a box."""
        count = self.count_a + self.count_b
        return 2 * self.matched / count if count else 1.0

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the matched pairs; None where there is none."""
        return self.iou_sum / self.matched if self.matched else None


def agreement(
    a: Detections, b: Detections, *, min_score: float = 0.3, min_iou: float = 0.5
) -> Agreement:
    """Pair the boxes of two sets of detections of one image.

    Symmetrical by construction. Pairs of the same label with enough overlap are taken greedily,
    best first: a pair's rank is the lower of its two scores, then the higher, then its IoU; a box
    is used once.

    Args:
        a: Detections in image pixels.
        b: Detections of the same image.
        min_score: Boxes below count on neither side.
        min_iou: Least overlap of a pair.

    Raises:
        InputError: A threshold is not in [0, 1].
    """
    if not (0 <= min_score <= 1 and 0 <= min_iou <= 1):
        raise InputError(f"score {min_score} and IoU {min_iou} thresholds must be in [0, 1]")
    keep_a, keep_b = np.flatnonzero(a.scores >= min_score), np.flatnonzero(b.scores >= min_score)
    ious = iou_matrix(to_xywh(a.boxes[keep_a]), to_xywh(b.boxes[keep_b]))
    same = a.labels[keep_a][:, None] == b.labels[keep_b][None]
    rows, columns = np.nonzero(same & (ious >= min_iou))
    pair_ious = ious[rows, columns]
    order = _best_first(a.scores[keep_a[rows]], b.scores[keep_b[columns]], pair_ious)
    used_a: set[int] = set()
    used_b: set[int] = set()
    iou_sum = 0.0
    for pair in order:
        row, column = int(rows[pair]), int(columns[pair])
        if row in used_a or column in used_b:
            continue
        used_a.add(row)
        used_b.add(column)
        iou_sum += float(pair_ious[pair])
    return Agreement(len(used_a), len(keep_a), len(keep_b), iou_sum)


def has_counterpart(
    boxes: Detections, others: Detections, *, min_score: float = 0.3, min_iou: float = 0.5
) -> np.typing.NDArray[np.bool_]:
    """Whether each box is found among the others too: same label, enough overlap, sure enough.

    Args:
        boxes: Detections of an image, of any score.
        others: Detections of the same image; those below ``min_score`` do not count.
        min_score: Least score of a counterpart.
        min_iou: Least overlap with it.

    Returns:
        Shape (N,), bool. A box may be the counterpart of several.
    """
    overlap = iou_matrix(to_xywh(boxes.boxes), to_xywh(others.boxes)) >= min_iou
    same = boxes.labels[:, None] == others.labels[None]
    return np.asarray((overlap & same & (others.scores >= min_score)).any(axis=1), np.bool_)


def total_agreement(pairs: Iterable[tuple[Detections, Detections]]) -> Agreement:
    """Agreement summed over images, so that every box weighs the same."""
    return sum((agreement(a, b) for a, b in pairs), Agreement())


def _best_first(
    scores_a: np.typing.NDArray[np.float32], scores_b: np.typing.NDArray[np.float32], ious: Floats
) -> list[int]:
    low, high = np.minimum(scores_a, scores_b), np.maximum(scores_a, scores_b)
    return [int(i) for i in np.lexsort((-ious, -high, -low))]
