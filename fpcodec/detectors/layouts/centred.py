"""Layouts whose graph has decoded its boxes: centre and sides in network pixels."""

from __future__ import annotations

from typing import Any

from fpcodec.detectors.layouts.maths import Maths


def centred_boxes(values: Any, stride: Any, maths: Maths) -> Any:
    """Corners of boxes in network pixels, (M, 4).

    Args:
        values: Centre and sides in strides, (M, 4).
        stride: Of their level; a number, or one per row (M, 1).
        maths: Of the arrays.
    """
    centre, half = values[:, :2] * stride, values[:, 2:4] * (stride / 2)
    return maths.join([centre - half, centre + half], 1)
