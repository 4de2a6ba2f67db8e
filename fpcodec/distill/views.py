"""Views of photographs: what a student is shown, each of them drawn once.

A distilled network needs no labels, so a view may be anything that the teacher can be asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageEnhance

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.images import load_image

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True)
class ViewConfig:
    """How far views go from the photographs.

    Attributes:
        size: ``(width, height)`` of a view in pixels.
        plain: Share of views that are a photograph as the detector sees it, mirrored or not.
        mosaics: Share of views that four photographs share.
        scale: Furthest that a photograph is enlarged or reduced.
        colour: Furthest that brightness, contrast and colour go, either way.
        grey: Of what no photograph covers, 0..255.
    """

    size: tuple[int, int]
    plain: float = 0.25
    mosaics: float = 0.25
    scale: float = 1.6
    colour: float = 0.25
    grey: int = 114

    def __post_init__(self) -> None:
        if not (self.plain >= 0 and self.mosaics >= 0 and self.plain + self.mosaics <= 1):
            raise InputError(
                f"{self.plain} plain views and {self.mosaics} mosaics are no shares; use 0 to 1 "
                "together"
            )
        if self.scale < 1 or not 0 <= self.colour < 1:
            raise InputError(
                f"scale {self.scale} must be 1 or more, colour {self.colour} from 0 to below 1"
            )


class Views:
    """Draws views.

    Args:
        paths: Of the photographs.
        config: How far they go.
    """

    def __init__(self, paths: Sequence[Path], config: ViewConfig) -> None:
        if not paths:
            raise InputError("there is no photograph to draw views of; name a folder with some")
        self.paths, self.config = tuple(paths), config

    def draw(self, rng: np.random.Generator) -> Image:
        """One view, (height, width, 3) uint8 RGB.

        Raises:
            InputError: A photograph cannot be read.
        """
        config = self.config
        kind = rng.random()
        if kind < config.mosaics:
            return self._mosaic(rng)
        canvas = PillowImage.new("RGB", config.size, (config.grey,) * 3)
        if kind < config.mosaics + config.plain:
            picture = self._mirrored(rng)
            factor = min(config.size[0] / picture.width, config.size[1] / picture.height)
            _paste(canvas, picture, factor, (0.0, 0.0))
        else:
            self._scatter(canvas, (0, 0, *config.size), rng)
        return self._finished(canvas, rng)

    def _mosaic(self, rng: np.random.Generator) -> Image:
        """Four photographs around a point near the middle."""
        width, height = self.config.size
        canvas = PillowImage.new("RGB", (width, height), (self.config.grey,) * 3)
        x, y = (int(side * rng.uniform(0.35, 0.65)) for side in (width, height))
        for box in ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)):
            self._scatter(canvas, box, rng)
        return self._finished(canvas, rng)

    def _scatter(
        self, canvas: PillowImage.Image, box: tuple[int, int, int, int], rng: np.random.Generator
    ) -> None:
        """A photograph at a scale and a place of chance, cut off at a box's edges."""
        width, height = box[2] - box[0], box[3] - box[1]
        picture = self._mirrored(rng)
        fit = min(width / picture.width, height / picture.height)
        factor = fit * float(np.exp(rng.uniform(-1, 1) * np.log(self.config.scale)))
        room = (width - factor * picture.width, height - factor * picture.height)
        tile = PillowImage.new("RGB", (width, height), (self.config.grey,) * 3)
        _paste(tile, picture, factor, (room[0] * rng.random(), room[1] * rng.random()))
        canvas.paste(tile, box[:2])

    def _mirrored(self, rng: np.random.Generator) -> PillowImage.Image:
        path = self.paths[int(rng.integers(len(self.paths)))]
        picture = PillowImage.fromarray(load_image(path))
        if rng.random() < 0.5:
            picture = picture.transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT)
        return picture

    def _finished(self, canvas: PillowImage.Image, rng: np.random.Generator) -> Image:
        for enhance in _ENHANCERS:
            strength = 1 + self.config.colour * rng.uniform(-1, 1)
            if rng.random() < 0.5:
                canvas = enhance(canvas).enhance(strength)
        drawn: Image = np.asarray(canvas, np.uint8)
        return drawn


def _paste(
    canvas: PillowImage.Image,
    picture: PillowImage.Image,
    factor: float,
    place: tuple[float, float],
) -> None:
    """Lay a picture, resized, at ``(x, y)`` of a canvas; what lies outside is cut off."""
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    resized = picture.resize(size, PillowImage.Resampling.BILINEAR)
    canvas.paste(resized, (round(place[0]), round(place[1])))
