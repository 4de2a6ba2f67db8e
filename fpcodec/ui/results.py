"""Pictures that are looked at, and what was found out about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.evaluation.agreement import Agreement
from fpcodec.explain.heatmaps import to_image
from fpcodec.pyramid import Array, ImageGeometry, Pyramid
from fpcodec.ui.rivals import PictureFile

SHOWN_SIDE = 512
"""Longer side of the pictures on the page, in pixels."""


@dataclass
class Subject:
    """One picture, with what no control changes.

    Attributes:
        name: For people.
        image: Shape (H, W, 3), uint8, RGB.
        pyramid: The edge's features, all coded levels.
        unsplit: What the whole detector finds.
        boxes_bytes: What its boxes alone take.
        files: Picture files of it; empty until they were made.
        seen: What a full frame's answer held, for ``auto``; None until it is needed.
        brought: Whether the visitor brought it; else it is one of the page's scenes.
    """

    name: str
    image: Image
    pyramid: Pyramid
    unsplit: Detections
    boxes_bytes: int
    files: list[PictureFile] = field(default_factory=list)
    seen: Detections | None = None
    brought: bool = False

    @cached_property
    def shown(self) -> Image:
        """The picture as the page shows it: its longer side has SHOWN_SIDE pixels."""
        picture = PillowImage.fromarray(self.image)
        return np.array(picture.resize(self.geometry.image_size, PillowImage.Resampling.BICUBIC))

    @cached_property
    def scale(self) -> float:
        """Shown pixels per image pixel."""
        return float(SHOWN_SIDE / max(self.image.shape[:2]))

    @cached_property
    def geometry(self) -> ImageGeometry:
        """Of the shown picture in the network's input."""
        height, width = self.image.shape[:2]
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        return replace(self.pyramid.geometry, image_size=size)


@dataclass(frozen=True)
class LevelReport:
    """What became of one level.

    Attributes:
        name: Of the level.
        stride: Network pixels per cell.
        fate: ``sent``, ``recovered`` or ``derived``.
        source: The level that it is derived from; empty for the others.
        sent_bytes: Of its chunk; 0 where it was not sent.
        edge: Mean activation of each cell at the edge, shape (H, W); None where the edge has none.
        server: The same as the server sees it.
    """

    name: str
    stride: int
    fate: str
    source: str
    sent_bytes: int
    edge: Array | None
    server: Array


@dataclass(frozen=True)
class Reasons:
    """Why a detection is what it is, by ODAM.

    Attributes:
        level: The level it came from.
        heat: Shape (height, width) of the shown picture, in [0, 1].
    """

    level: str
    heat: Array


@dataclass(frozen=True)
class Result:
    """One picture at one operating point.

    Attributes:
        frame: The ``.fpc`` frame.
        quality: That was asked for, or found for the budget.
        found: The split detections.
        levels: A report on every level, finest first.
        pyramid: The levels as the server has them.
        geometry: Of the shown picture.
        agreed: Agreement of the split detections with the unsplit ones.
        split_confirmed: Per split box, whether the whole detector has it too.
        unsplit_confirmed: Per unsplit box, whether the split detector has it too.
        bits: Level name to bits per position, (H, W).
        took_ms: Coding, answer, recovery and this report together.
    """

    frame: bytes
    quality: float
    found: Detections
    levels: tuple[LevelReport, ...]
    pyramid: Pyramid
    geometry: ImageGeometry
    agreed: Agreement
    split_confirmed: npt.NDArray[np.bool_]
    unsplit_confirmed: npt.NDArray[np.bool_]
    bits: Mapping[str, Array]
    took_ms: float

    @property
    def header_bytes(self) -> int:
        """Bytes of the frame outside its levels."""
        return len(self.frame) - sum(level.sent_bytes for level in self.levels)

    @cached_property
    def bits_per_pixel(self) -> Array:
        """Bits per pixel of the network's input, over the shown picture, all levels added up."""
        width, height = self.geometry.image_size
        total = np.zeros((height, width), np.float32)
        for name, bits in self.bits.items():
            stride = self.pyramid.spec[name].stride
            total += to_image(bits / np.float32(stride**2), self.geometry, stride)
        return total
