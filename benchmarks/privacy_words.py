"""Generated scenes with words of known heights on them, to measure how large text must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from fpcodec.data.scenes import SceneConfig, generate_scene
from fpcodec.detectors.base import Image

HEIGHTS = (8, 12, 16, 24, 32, 48, 64)
"""Of capital letters, in pixels of the network's input."""

SIDE = 416
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXY346789"
"""Without those that look like another."""

_FIRST_SCENE = 50_000


@dataclass(frozen=True)
class Word:
    """A word in a scene.

    Attributes:
        text: Lower case.
        box: ``x1 y1 x2 y2`` of its plate, in pixels.
        height: Of its capitals, in pixels.
    """

    text: str
    box: tuple[float, float, float, float]
    height: int


@dataclass(frozen=True)
class WordScene:
    """A scene of 416 pixels and its words, one of each height.

    Attributes:
        picture: Shape (416, 416, 3), uint8, RGB.
        words: In rising height.
    """

    picture: Image
    words: tuple[Word, ...]


def word_scenes(count: int, seed: int) -> Iterator[WordScene]:
    """Scenes by number and seed: dark on light plates and the other way round."""
    for number in range(count):
        generator = np.random.default_rng([seed, number])
        scene = generate_scene(_FIRST_SCENE + number, SceneConfig(size=SIDE))
        canvas = PillowImage.fromarray(scene.image)
        draw = ImageDraw.Draw(canvas)
        words, top = [], 6
        for height in HEIGHTS:
            text = "".join(generator.choice(list(_LETTERS), 5))
            font = font_of(height)
            left, above, right, below = draw.textbbox((0, 0), text, font=font)
            margin = max(2, height // 6)
            wide, high = right - left + 2 * margin, below - above + 2 * margin
            x = int(generator.integers(4, max(5, SIDE - 4 - wide)))
            ink, plate = ((20, 20, 20), (235, 235, 235))[:: generator.choice((-1, 1))]
            draw.rectangle((x, top, x + wide - 1, top + high - 1), fill=plate)
            draw.text((x + margin - left, top + margin - above), text, font=font, fill=ink)
            words.append(Word(text.lower(), (x, top, x + wide, top + high), height))
            top += int(high) + 6
        yield WordScene(np.asarray(canvas, np.uint8), tuple(words))


def font_of(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, of the size whose capitals have this height in pixels."""
    return min(
        (ImageFont.load_default(size) for size in range(height, 2 * height)),
        key=lambda font: abs(font.getbbox("H")[3] - font.getbbox("H")[1] - height),
    )
