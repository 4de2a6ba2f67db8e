"""Detections: what a detector finds in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError, LimitExceeded

MAX_MASK_VALUES = 1 << 30
"""Most mask pixels of one image, all boxes together: a declared image size must not fill memory."""

SCALES = ("small", "medium", "large")
"""COCO's object scales: box areas below 32², up to 96², and above, in image pixels."""

_SCALE_EDGES = (32.0**2, 96.0**2)


@dataclass(frozen=True)
class Detections:
    """Boxes found in one image, best first.

    Attributes:
        boxes: Shape (N, 4), float32, ``x1 y1 x2 y2`` in pixels of the original image.
        scores: Shape (N,), float32, in [0, 1].
        labels: Shape (N,), int64, indices into the detector's ``labels``.
        masks: Shape (N, H, W), bool, over the original image, or None where there are none.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4) or self.labels.shape != (count,):
            raise InputError(
                f"detections disagree: boxes {self.boxes.shape}, scores {self.scores.shape}, "
                f"labels {self.labels.shape}"
            )

    @staticmethod
    def require_room(count: int, image_size: tuple[int, int]) -> None:
        """Check that masks of so many boxes may be allocated.

        Args:
            count: Boxes.
            image_size: ``(width, height)`` in pixels.

        Raises:
            LimitExceeded: They would hold more than ``MAX_MASK_VALUES`` pixels.
        """
        if count * image_size[0] * image_size[1] > MAX_MASK_VALUES:
            raise LimitExceeded(
                f"masks of {count} boxes on {image_size[0]}x{image_size[1]} pixels exceed "
                f"{MAX_MASK_VALUES} pixels in all; send a smaller image"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def areas(self) -> npt.NDArray[np.float32]:
        """Box areas in square image pixels, shape (N,)."""
        sides = np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 0)
        return np.asarray(sides[:, 0] * sides[:, 1], np.float32)

    @property
    def scale_indices(self) -> npt.NDArray[np.intp]:
        """Index into SCALES of each box, shape (N,)."""
        return np.digitize(self.areas, _SCALE_EDGES)

    def scales(self, min_score: float = 0.3) -> tuple[str, ...]:
        """COCO scales of the boxes that score at least ``min_score``, in SCALES' order."""
        index = self.scale_indices[self.scores >= min_score]
        return tuple(scale for i, scale in enumerate(SCALES) if (index == i).any())

    def to_dicts(self, labels: Sequence[str] = ()) -> list[dict[str, Any]]:
        """JSON-able list of boxes, with label names where they are known."""
        return [
            {
                "box": [round(float(value), 2) for value in box],
                "score": round(float(score), 4),
                "label": labels[label] if 0 <= label < len(labels) else str(int(label)),
            }
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]
