"""Anchor boxes of dense heads, as torchvision and detectron2 lay them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fpcodec.detectors.layouts.levels import HeadLevel
from fpcodec.pyramid import Array

FAMILIES = ("torchvision", "detectron2")


def level_anchors(
    level: HeadLevel,
    network_size: tuple[int, int],
    sizes: Sequence[float],
    ratios: Sequence[float],
    family: str,
    offset: float = 0.0,
) -> Array:
    """Anchors of one level, cell by cell, (H * W * anchors, 4), ``x1 y1 x2 y2``, float32.

    An anchor of size ``a`` and ratio ``r`` is ``a / sqrt(r)`` wide and ``a sqrt(r)`` high.
    torchvision takes the ratios one by one, each in all sizes, cuts sizes and rounds corners to
    whole pixels, and puts cells ``side // cells`` apart. detectron2 takes the sizes one by one,
    rounds nothing, and puts cells a stride apart.

    Args:
        level: Which.
        network_size: ``(width, height)`` of the network input.
        sizes: Square roots of the areas in pixels.
        ratios: Height over width.
        family: One of FAMILIES.
        offset: Of the centres, in cells: 0 a cell's corner, 0.5 its middle.
    """
    shape = np.sqrt(np.asarray(ratios, np.float32))
    if family == "torchvision":
        area = np.asarray([int(size) for size in sizes], np.float32)
        wide, high = ((1 / shape)[:, None] * area).ravel(), (shape[:, None] * area).ravel()
        step = np.asarray([network_size[0] // level.width, network_size[1] // level.height])
    else:
        area = np.asarray(sizes, np.float32)[:, None]
        wide, high = (area / shape).ravel(), (area * shape).ravel()
        step = np.asarray([level.stride, level.stride])
    base = np.stack([-wide, -high, wide, high], axis=1) / np.float32(2)
    if family == "torchvision":
        base = base.round()
    centre = ((level.cells + offset) * step).astype(np.float32)
    return np.asarray((np.tile(centre, 2)[:, None] + base[None]).reshape(-1, 4), np.float32)
