"""Outlines of the object classes that generated scenes contain.

Every class is a list of unit-scale polygons. The outline alone names the class at 8 pixels; the
accents repeat the hint at larger sizes. Colour and rotation carry no class information.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]

CLASS_NAMES: tuple[str, ...] = ("ball", "crate", "star", "ring", "cross", "cone")


@dataclass(frozen=True)
class Outline:
    """Polygons of one class, each (K, 2) float64 xy around the origin.

    Attributes:
        body: the silhouette.
        hole: cut out of the silhouette (None: nothing is).
        accents: painted over the body in the second colour, clipped by it.
    """

    body: Points
    hole: Points | None
    accents: tuple[Points, ...]

    def transformed(self, matrix: NDArray[np.float64], offset: Points) -> Outline:
        """Return the outline under ``x -> x @ matrix + offset``."""
        return Outline(
            self.body @ matrix + offset,
            None if self.hole is None else self.hole @ matrix + offset,
            tuple(accent @ matrix + offset for accent in self.accents),
        )


def outline(label: int) -> Outline:
    """Return the unit-scale outline of class ``label`` (an index into ``CLASS_NAMES``)."""
    return _OUTLINES[label]


def rasterise(
    polygons: tuple[Points, ...], width: int, height: int, supersampling: int
) -> NDArray[np.float32]:
    """Fill polygons and return their coverage, (height, width) float32 in 0..1."""
    canvas = Image.new("L", (width * supersampling, height * supersampling))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        # Pillow includes the pixel that a vertex falls into: its centre lies half a pixel inside.
        draw.polygon((polygon * supersampling - 0.5).ravel().tolist(), fill=255)
    return np.asarray(canvas.reduce(supersampling), dtype=np.float32) / 255.0


def _arc(radius: float, start: float, stop: float, count: int) -> Points:
    angles = np.linspace(start, stop, count)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _circle(radius: float) -> Points:
    return _arc(radius, 0.0, 2.0 * np.pi, 48)[:-1]


def _bar(start: tuple[float, float], stop: tuple[float, float], width: float) -> Points:
    first, last = np.array(start), np.array(stop)
    along = (last - first) / np.hypot(*(last - first))
    side = np.array([-along[1], along[0]]) * width / 2.0
    return np.stack([first + side, last + side, last - side, first - side])


def _star(outer: float, inner: float) -> Points:
    angles = np.arange(10) * np.pi / 5.0 - np.pi / 2.0
    radii = np.where(np.arange(10) % 2 == 0, outer, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _plus(reach: float, half_width: float) -> Points:
    r, h = reach, half_width
    corners = [(-h, -r), (h, -r), (h, -h), (r, -h), (r, h), (h, h)]
    corners += [(h, r), (-h, r), (-h, h), (-r, h), (-r, -h), (-h, -h)]
    return np.array(corners, dtype=np.float64)


def _wedges(count: int, inner: float, share: float) -> tuple[Points, ...]:
    turns = np.arange(count) * 2.0 * np.pi / count
    width = share * 2.0 * np.pi / count
    return tuple(
        np.concatenate([_arc(1.05, t, t + width, 8), _arc(inner, t + width, t, 8)]) for t in turns
    )


def _crate() -> Outline:
    corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
    edges = [
        _bar((x0, y0), (x1, y1), 0.44)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    diagonals = [_bar((-0.9, -0.9), (0.9, 0.9), 0.26), _bar((-0.9, 0.9), (0.9, -0.9), 0.26)]
    return Outline(np.array(corners), None, (*edges, *diagonals))


def _cone() -> Outline:
    apex, base = -1.0, 0.85
    bands = []
    for top, bottom in ((-0.35, 0.0), (0.35, 0.65)):
        narrow, wide = ((y - apex) / (base - apex) for y in (top, bottom))
        bands.append(np.array([(-narrow, top), (narrow, top), (wide, bottom), (-wide, bottom)]))
    return Outline(np.array([(0.0, apex), (1.0, base), (-1.0, base)]), None, tuple(bands))


_OUTLINES: tuple[Outline, ...] = (
    Outline(_circle(1.0), None, _wedges(3, 0.0, 0.5)),
    _crate(),
    Outline(_star(1.0, 0.42), None, (_star(0.55, 0.23),)),
    Outline(_circle(1.0), _circle(0.55), _wedges(4, 0.5, 0.4)),
    Outline(_plus(1.0, 0.32), None, (_plus(0.8, 0.12),)),
    _cone(),
)
