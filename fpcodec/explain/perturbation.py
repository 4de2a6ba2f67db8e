"""Deletion and insertion: does the detector lose an object with the pixels its map calls hot?

Petsiuk et al., "RISE", BMVC 2018, as ODAM (Zhao and Chan, ICLR 2023) asks it of single objects: the
number of pixels goes by the object's area, not the image's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.pyramid import Array

BUDGETS = ("object", "image")
STEPS = 100
LOOK_EVERY = 10
MIN_IOU = 0.5

Detect = Callable[[Image], Detections]
"""From an RGB image (H, W, 3) to its detections in that image's pixels."""


@dataclass(frozen=True)
class Target:
    """The object whose map is tried.

    Attributes:
        box: ``x1 y1 x2 y2`` in pixels of the image.
        label: Index into the detector's labels.
    """

    box: tuple[float, float, float, float]
    label: int


@dataclass(frozen=True)
class Curve:
    """Score of the object while pixels change.

    Attributes:
        pixels: Shape (11,): changed by then.
        scores: Shape (11,): of the best detection of the same class that overlaps by more than
            half. For deletion relative to the first.
    """

    pixels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]

    @property
    def area(self) -> float:
        """Mean score along the curve, by the trapezoidal rule; low is good for deletion."""
        return float((self.scores[1:] + self.scores[:-1]).mean() / 2)


def deletion(
    detect: Detect, image: Image, heatmap: Array, target: Target, *, budget: str = "object",
    seed: int = 0,
) -> Curve:  # fmt: skip
    """Replace the hottest pixels by random colours, a hundredth of the budget at a time.

    Args:
        detect: The detector, image in, detections out.
        image: At the size of the network's input, so that a pixel is a pixel.
        heatmap: Shape (h, w), of any size; brought to the image's by bicubic interpolation.
        target: Its box in pixels of ``image``.
        budget: ``object``: as many pixels as the box has; ``image``: all.
        seed: Of the colours.

    Returns:
        Eleven scores divided by the first.

    Raises:
        InputError: The detector does not find the object in the untouched image, or the map, the
            image, the budget or the box cannot be used.
    """
    colours = np.random.default_rng(seed).integers(0, 256, image.shape, np.uint8)
    curve = _follow(detect, image, colours, heatmap, target, budget)
    first = float(curve.scores[0])
    if first <= 0:
        raise InputError(
            f"the untouched image has no detection of label {target.label} that overlaps box "
            f"{target.box}; give a detection of this detector"
        )
    return Curve(curve.pixels, curve.scores / first)


def insertion(
    detect: Detect, image: Image, heatmap: Array, target: Target, *, budget: str = "object"
) -> Curve:
    """Put the hottest pixels on black, a hundredth of the budget at a time; see ``deletion``.

    Returns:
        Eleven scores as they are; the first, of a black image, is zero and not asked for.
    """
    black = np.zeros_like(image)
    return _follow(detect, black, image, heatmap, target, budget, first=0.0)


def _follow(
    detect: Detect, before: Image, after: Image, heatmap: Array, target: Target, budget: str,
    first: float | None = None,
) -> Curve:  # fmt: skip
    """Scores while pixels of one image turn into another's, hottest first."""
    if before.ndim != 3 or before.shape[2] != 3 or before.dtype != np.uint8:
        raise InputError(f"image {before.shape} {before.dtype} is not (H, W, 3) uint8; give RGB")
    height, width = before.shape[:2]
    per_step = _pixels_per_step(target, (width, height), budget)
    order = _hottest_first(heatmap, (width, height))
    current = before.copy().reshape(-1, 3)
    source = after.reshape(-1, 3)
    pixels, scores = [0], [_score(detect, before, target) if first is None else first]
    for step in range(LOOK_EVERY, STEPS + 1, LOOK_EVERY):
        done = min(step * per_step, len(order))
        chosen = order[pixels[-1] : done]
        current[chosen] = source[chosen]
        pixels.append(done)
        scores.append(_score(detect, current.reshape(before.shape).copy(), target))
    return Curve(np.asarray(pixels, np.int64), np.asarray(scores, np.float64))


def _pixels_per_step(target: Target, size: tuple[int, int], budget: str) -> int:
    if budget not in BUDGETS:
        raise InputError(f"budget {budget!r} is not one of {', '.join(BUDGETS)}")
    x1, y1, x2, y2 = target.box
    if not (x2 > x1 and y2 > y1):
        raise InputError(f"box {target.box} has no area; give x1 y1 x2 y2")
    area = (x2 - x1) * (y2 - y1) if budget == "object" else size[0] * size[1]
    return max(1, int(area) // STEPS)


def _hottest_first(heatmap: Array, size: tuple[int, int]) -> npt.NDArray[np.intp]:
    """Indices of an image's pixels, row by row, by falling heat; ties from the top."""
    values = np.asarray(heatmap, np.float32)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(f"a map has shape (H, W) and finite values, not {values.shape}")
    picture = PillowImage.fromarray(values)
    if picture.size != size:
        picture = picture.resize(size, PillowImage.Resampling.BICUBIC)
    return np.argsort(-np.asarray(picture).reshape(-1), kind="stable")


def _score(detect: Detect, image: Image, target: Target) -> float:
    """Of the best detection of the target's class that overlaps it by more than half."""
    found = detect(image)
    box = np.asarray([target.box], np.float32)
    overlap = iou_matrix(to_xywh(found.boxes), to_xywh(box))[:, 0]
    same = (found.labels == target.label) & (overlap > MIN_IOU)
    return float(found.scores[same].max()) if same.any() else 0.0
