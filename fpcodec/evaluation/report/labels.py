"""Puts names beside curves, where they cover as little as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fpcodec.evaluation.curves import Floats

_GAP_PX = 7.0
_SAMPLES_PER_SEGMENT = 24
_LABEL_COST, _LINE_COST, _EDGE_COST, _FAR_COST = 400.0, 3.0, 1e4, 0.5

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


@dataclass(frozen=True)
class Name:
    """A name to place.

    Attributes:
        text: What stands there.
        colour: As ``#rrggbb``.
        points: Shape (points, 2): the curve that it names, in data coordinates, least bytes first.
        bold: Whether it stands out.
    """

    text: str
    colour: str
    points: Floats
    bold: bool = False


def place_names(
    axis: Any, names: Sequence[Name], lines: Sequence[Floats], size: float, texts: Sequence[Any]
) -> None:
    """Write each name near the low end of its curve.

    Args:
        axis: Its limits and place are final.
        names: The most important first: they choose first.
        lines: Every curve that should stay visible, shape (points, 2), in data coordinates.
        size: Of the font, in points.
        texts: Already there, to keep clear of.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(axis.figure)
    renderer = canvas.get_renderer()
    frame = axis.get_window_extent(renderer)
    inside: Box = (frame.x0, frame.y0, frame.x1, frame.y1)
    covered = np.concatenate([_samples(axis.transData.transform(x)) for x in lines])
    extents = [text.get_window_extent(renderer) for text in texts]
    taken: list[Box] = [(x.x0, x.y0, x.x1, x.y1) for x in extents]
    for name in names:
        written = axis.text(
            0, 0, name.text, color=name.colour, fontsize=size, transform=None, ha="left",
            va="bottom", fontweight="bold" if name.bold else "normal", in_layout=False, zorder=6,
        )  # fmt: skip
        extent = written.get_window_extent(renderer)
        anchors = [x for x in axis.transData.transform(name.points) if _holds(inside, x)]
        box = _best_box(extent.width, extent.height, anchors, inside, covered, taken)
        if box is None:
            written.remove()
            continue
        taken.append(box)
        corner = axis.transAxes.inverted().transform(box[:2])
        written.set_transform(axis.transAxes)
        written.set_position(tuple(corner))


def _samples(points: Floats) -> Floats:
    """Points along a line in pixels, dense enough that none slips through a name."""
    if len(points) < 2:
        return np.asarray(points)
    share = np.linspace(0, 1, _SAMPLES_PER_SEGMENT)[:, None]
    return np.concatenate([a + share * (b - a) for a, b in pairwise(points)])


def _holds(box: Box, point: Floats) -> bool:
    return bool(box[0] - 1 <= point[0] <= box[2] + 1 and box[1] - 1 <= point[1] <= box[3] + 1)


def _best_box(
    width: float, height: float, anchors: Sequence[Floats], inside: Box, covered: Floats,
    taken: Sequence[Box],
) -> Box | None:  # fmt: skip
    best, least = None, float("inf")
    for rank, (x, y) in enumerate(anchors):
        for dx in (-width - _GAP_PX, -width / 2, _GAP_PX):
            for dy in (-height - _GAP_PX, -height / 2, _GAP_PX):
                if dx == -width / 2 and dy == -height / 2:
                    continue
                box = (x + dx, y + dy, x + dx + width, y + dy + height)
                cost = _cost(box, inside, covered, taken) + _FAR_COST * rank
                if cost < least:
                    best, least = box, cost
    return best


def _cost(box: Box, inside: Box, covered: Floats, taken: Sequence[Box]) -> float:
    outside = box[0] < inside[0] or box[1] < inside[1] or box[2] > inside[2] or box[3] > inside[3]
    x, y = covered[:, 0], covered[:, 1]
    hits = (x > box[0] - 4) & (x < box[2] + 4) & (y > box[1] - 3) & (y < box[3] + 3)
    clashes = sum(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in taken
    )
    return _EDGE_COST * outside + _LABEL_COST * clashes + _LINE_COST * int(hits.sum())
