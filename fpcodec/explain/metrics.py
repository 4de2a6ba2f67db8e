"""What a heat map is worth beside the truth: does it lie on its object, and on no other?

The measures of ODAM (Zhao and Chan, ICLR 2023) and, before it, of Zhang et al. (pointing game,
2018) and Wang et al. (energy pointing game, 2020). Maps are over the original image, (H, W), not
negative; boxes are ``x1 y1 x2 y2`` in its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError
from fpcodec.explain.heatmaps import normalised
from fpcodec.pyramid import Array

Box = Sequence[float] | npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

VEA_THRESHOLDS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def peak(heatmap: Array) -> tuple[int, int]:
    """``(x, y)`` of the highest pixel; the first from the top where several are."""
    _check(heatmap)
    y, x = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    return int(x), int(y)


def has_one_peak(heatmap: Array) -> bool:
    """Whether one pixel alone is highest: ODAM's evaluation leaves out maps without."""
    _check(heatmap)
    return int((heatmap == heatmap.max()).sum()) == 1


def pointing_game_box(heatmap: Array, box: Box) -> bool:
    """Whether the highest pixel lies strictly inside the box."""
    x, y = peak(heatmap)
    x1, y1, x2, y2 = _corners(box)
    return x1 < x < x2 and y1 < y < y2


def pointing_game_mask(heatmap: Array, box: Box, mask: Mask) -> bool:
    """Whether the highest pixel lies on the object's mask, and strictly inside its box."""
    _check_mask(heatmap, mask)
    x, y = peak(heatmap)
    return pointing_game_box(heatmap, box) and bool(mask[y, x])


def energy_in_box(heatmap: Array, box: Box) -> float:
    """Share of the map's sum within the box, whose sides are rounded outwards; 0 of no map."""
    return energy_in_mask(heatmap, box_mask(box, (heatmap.shape[1], heatmap.shape[0])))


def energy_in_mask(heatmap: Array, mask: Mask) -> float:
    """Share of the map's sum on the mask; 0 of a map of zeros."""
    _check(heatmap)
    _check_mask(heatmap, mask)
    total = float(heatmap.sum(dtype=np.float64))
    return float(heatmap[mask].sum(dtype=np.float64)) / total if total > 0 else 0.0


def compactness(heatmap: Array, box: Box) -> float:
    """Root mean squared distance from the highest pixel, in half diagonals of the box.

    Lower is tighter; NaN for a map of zeros.

    Raises:
        InputError: The box has no area.
    """
    _check(heatmap)
    x1, y1, x2, y2 = _corners(box)
    if x2 <= x1 or y2 <= y1:
        raise InputError(f"box {x1:g} {y1:g} {x2:g} {y2:g} has no area to measure against")
    values = heatmap.astype(np.float64)
    total = values.sum()
    if total <= 0:
        return float("nan")
    x, y = peak(heatmap)
    squared_x = (np.arange(heatmap.shape[1]) - x) ** 2
    squared_y = (np.arange(heatmap.shape[0]) - y) ** 2
    moment = values.sum(axis=0) @ squared_x + values.sum(axis=1) @ squared_y
    return float(np.sqrt(moment / (total * ((x2 - x1) ** 2 + (y2 - y1) ** 2) / 4)))


def visual_explanation_accuracy(heatmap: Array, mask: Mask) -> npt.NDArray[np.float64]:
    """IoU of the mask with the stretched map above each of VEA_THRESHOLDS, shape (9,)."""
    _check(heatmap)
    _check_mask(heatmap, mask)
    stretched = normalised(heatmap)
    found = []
    for threshold in VEA_THRESHOLDS:
        hot = stretched > threshold
        union = int((hot | mask).sum())
        found.append(int((hot & mask).sum()) / union if union else 0.0)
    return np.asarray(found)


def object_discrimination_index(heatmap: Array, own: int, objects: Sequence[Mask]) -> float:
    """Share of the energy on any object that lies on other objects; lower is better.

    What the own object shares with another counts as the other's.

    Args:
        heatmap: Of one object.
        own: Its position among the objects.
        objects: Masks of all objects of the image, or their boxes as ``box_mask`` gives them.

    Returns:
        In [0, 1]; 0 where there is no other object, NaN where no object has any energy.

    Raises:
        InputError: There is no such object, or a mask is of another size.
    """
    _check(heatmap)
    if not 0 <= own < len(objects):
        raise InputError(f"object {own} is not among {len(objects)}, counted from 0")
    for mask in objects:
        _check_mask(heatmap, mask)
    others = np.zeros(heatmap.shape, bool)
    for i, mask in enumerate(objects):
        if i != own:
            others |= mask
    on_any = float(heatmap[others | objects[own]].sum(dtype=np.float64))
    if len(objects) == 1:
        return 0.0
    return float(heatmap[others].sum(dtype=np.float64)) / on_any if on_any > 0 else float("nan")


def map_correlation(first: Array, second: Array) -> float:
    """Pearson's correlation of two maps of one image, pixel by pixel.

    Returns:
        In [-1, 1]; NaN where a map is flat.

    Raises:
        InputError: The maps differ in size.
    """
    _check(first)
    _check(second)
    if first.shape != second.shape:
        raise InputError(
            f"maps {first.shape} and {second.shape} differ in size; bring both to the image's"
        )
    a, b = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (first, second))
    spread = float(np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()))
    return float(np.clip((a * b).sum() / spread, -1, 1)) if spread > 0 else float("nan")


def box_mask(box: Box, size: tuple[int, int]) -> Mask:
    """The pixels of a box in an image of ``(width, height)``: rounded outwards, clipped."""
    x1, y1, x2, y2 = _corners(box)
    width, height = size
    mask = np.zeros((height, width), bool)
    rows = slice(max(0, int(np.floor(y1))), max(0, int(np.ceil(y2))))
    mask[rows, max(0, int(np.floor(x1))) : max(0, int(np.ceil(x2)))] = True
    return mask


def _corners(box: Box) -> tuple[float, float, float, float]:
    values = np.asarray(box, np.float64)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise InputError(f"box {box} is not four finite numbers x1 y1 x2 y2")
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2


def _check(heatmap: Array) -> None:
    if heatmap.ndim != 2 or not heatmap.size:
        raise InputError(f"a map has shape (H, W) and at least one pixel, not {heatmap.shape}")
    if not np.isfinite(heatmap).all() or heatmap.min() < 0:
        raise InputError("the map holds negative, NaN or infinite values; give a map in [0, 1]")


def _check_mask(heatmap: Array, mask: Mask) -> None:
    if mask.shape != heatmap.shape or mask.dtype != np.bool_:
        raise InputError(
            f"mask {mask.shape} {mask.dtype} is not the map's {heatmap.shape} in bool; "
            "bring both to the image's size"
        )
