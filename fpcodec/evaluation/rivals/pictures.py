"""Sending the picture: the rival of sending features.

By default a picture is sent at the size the network itself looks at, without padding: more pixels
would be wasted, and the comparison would flatter features.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import features

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import InputError, MissingDependency
from fpcodec.evaluation.rivals import jpeg_xl
from fpcodec.pyramid import ImageGeometry

DEFAULT_QUALITIES = {"jpeg": 75, "webp": 80, "avif": 75, "jxl": 90, "png": 0}
"""The encoders' own defaults; ``png`` is lossless and ignores its quality."""

CHROMAS = {
    "jpeg": ("4:2:0", "4:4:4"),
    "webp": ("4:2:0",),
    "avif": ("4:2:0", "4:4:4"),
    "jxl": ("4:4:4",),
    "png": ("4:4:4",),
}
"""Codec to the chroma samplings it can be asked for, the default first."""

AVIF_SPEED = 7
WEBP_METHOD = 6

PICTURE_CODECS = tuple(CHROMAS)

_TEXT = re.compile(
    r"([a-z]+)(?::([0-9]{1,3}))?(?::(4:?2:?0|4:?4:?4))?(?::s([0-9]{1,2}))?"
    r"(?:@(original|network|[0-9.]+))?",
    re.ASCII,
)


@dataclass(frozen=True)
class PictureFormat:
    """An image codec at one quality, chroma sampling and picture size.

    ``jpeg`` has optimised Huffman tables and is the smaller of one scan and progressive scans,
    ``webp`` is lossy with method 6 (Pillow cannot ask for its sharp chroma): their slowest.
    ``jxl`` runs at effort 7, which needs 2 % more bytes at equal PSNR than effort 9 in a fifth of
    its time. ``avif`` runs at speed 7, so that a grid of it can be paid for: at equal PSNR speed 6
    needs 4 % fewer bytes in twice the time, speed 4 9 % fewer in ten times, speed 2 12 % fewer in
    thirty times (``benchmarks/picture_speed.py``); ``speed`` asks for these. Files carry no
    metadata.

    Attributes:
        codec: ``jpeg``, ``webp``, ``avif``, ``jxl`` or ``png``.
        quality: 0..100 on the codec's own scale; ``jxl`` begins at 11; ``png`` ignores it.
        chroma: ``4:2:0`` or ``4:4:4``; None for the codec's first in CHROMAS. ``jxl`` has a colour
            transform of its own at full resolution, called ``4:4:4``.
        size: ``network`` for the network's content size, ``original`` for the image's, or a factor
            in (0, 1] of the network's.
        speed: Of ``avif``, 0 (slowest) to 10; None for AVIF_SPEED, and for every other codec.
    """

    codec: str
    quality: int
    chroma: str | None = None
    size: str | float = "network"
    speed: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in CHROMAS:
            raise InputError(f"picture codec {self.codec!r} is not one of {', '.join(CHROMAS)}")
        least = jpeg_xl.LEAST_QUALITY if self.codec == "jxl" else 0
        if not least <= self.quality <= 100:
            raise InputError(f"{self.codec} quality {self.quality} is not in {least}..100")
        known = CHROMAS[self.codec]
        if self.chroma is None:
            object.__setattr__(self, "chroma", known[0])
        if self.chroma not in known:
            raise InputError(f"{self.codec} has no chroma {self.chroma}; use {' or '.join(known)}")
        if self.speed is not None and (self.codec != "avif" or not 0 <= self.speed <= 10):
            raise InputError(f"{self.codec} has no speed {self.speed}; only avif has, 0 to 10")
        if isinstance(self.size, str):
            if self.size not in ("network", "original"):
                raise InputError(
                    f"picture size {self.size!r} is not network, original or a factor such as 0.5"
                )
        elif not 0 < self.size <= 1:
            raise InputError(f"picture size {self.size} is not in (0, 1] of the network's")
        elif self.size == 1:
            object.__setattr__(self, "size", "network")

    @classmethod
    def parse(cls, text: str) -> PictureFormat:
        """Read ``webp`` (the encoder's default quality), ``webp:60``, ``avif:50:444:s4@0.75``.

        Raises:
            InputError: The codec is unknown, or a value is out of range.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InputError(f"picture {text!r} is not like webp:80, jpeg:75:444 or avif:50@0.75")
        codec, quality, chroma, speed, size = match.groups()
        try:
            scale = size if size in (None, "original", "network") else float(size)
        except ValueError as error:
            raise InputError(f"picture size {size!r} is no number; use a factor: 0.5") from error
        return cls(
            codec,
            DEFAULT_QUALITIES.get(codec, 0) if quality is None else int(quality),
            None if chroma is None else ":".join(chroma.replace(":", "")),
            "network" if scale is None else scale,
            None if speed is None else int(speed),
        )

    @property
    def name(self) -> str:
        """Such as ``avif 4:4:4 q50 @0.75``; the default chroma and size are left unsaid."""
        quality = () if self.codec == "png" else (f"q{self.quality}",)
        return " ".join((self.codec, *self._encoder_words, *quality, *self._size_words))

    @property
    def family(self) -> str:
        """What the qualities of one curve share, such as ``avif 4:4:4 @0.75``."""
        return " ".join((self.codec, *self._encoder_words, *self._size_words))

    @property
    def _encoder_words(self) -> tuple[str, ...]:
        chroma = self.chroma or ""
        speed = () if self.speed in (None, AVIF_SPEED) else (f"speed{self.speed}",)
        return (*((chroma,) if chroma in CHROMAS[self.codec][1:] else ()), *speed)

    @property
    def _size_words(self) -> tuple[str, ...]:
        if isinstance(self.size, str):
            return () if self.size == "network" else (f"@{self.size}",)
        return (f"@{self.size:g}",)

    def picture(self, image: Image, geometry: ImageGeometry) -> Image:
        """What is sent of an image: resized as ``size`` says, bilinear.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
            geometry: The detector's for this image.
        """
        if self.size == "original":
            return image
        factor = 1.0 if isinstance(self.size, str) else self.size
        width, height = (max(1, round(side * factor)) for side in geometry.content_size)
        return _resized(image, (width, height))

    @property
    def pillow_options(self) -> dict[str, Any]:
        """What Pillow's ``save`` is given; empty for ``jxl``."""
        subsampling = {"4:4:4": 0, "4:2:0": 2}[self.chroma or "4:2:0"]
        options: dict[str, dict[str, Any]] = {
            "jpeg": {"quality": self.quality, "optimize": True, "subsampling": subsampling},
            "webp": {"quality": self.quality, "method": WEBP_METHOD, "lossless": False},
            # One tile and one thread: more of either costs bytes or flatters times.
            "avif": {"quality": self.quality, "subsampling": self.chroma,
                     "speed": AVIF_SPEED if self.speed is None else self.speed,
                     "max_threads": 1, "autotiling": False},
            "png": {"optimize": True},
        }  # fmt: skip
        return options.get(self.codec, {})

    @property
    def encoder_options(self) -> dict[str, Any]:
        """What the encoder is told, JSON-able, for records."""
        if self.codec != "jxl":
            return self.pillow_options
        return {"distance": jpeg_xl.distance(self.quality), "effort": jpeg_xl.EFFORT}

    def encode(self, picture: Image) -> bytes:
        """The bytes of the image file.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.

        Raises:
            MissingDependency: The codec is not installed.
        """
        if self.codec == "jxl":
            return jpeg_xl.encode(picture, self.quality)
        if self.codec in ("webp", "avif") and not features.check(self.codec):
            raise MissingDependency(
                f"this Pillow has no {self.codec}; install a wheel from PyPI: pip install Pillow"
            )
        image = PillowImage.fromarray(np.ascontiguousarray(picture))
        if self.codec != "jpeg":
            return self._saved(image)
        # Progressive scans save bytes at high qualities and cost some at low ones.
        return min((self._saved(image, progressive=x) for x in (False, True)), key=len)

    def _saved(self, image: PillowImage.Image, **more: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, self.codec.upper(), **self.pillow_options, **more)
        return buffer.getvalue()


def decode_picture(data: bytes) -> Image:
    """The pixels of an image file's bytes, shape (H, W, 3), uint8, RGB.

    Raises:
        InputError: The bytes are not an image that can be read.
        MissingDependency: They are JPEG XL, whose package is not installed.
    """
    if data.startswith(jpeg_xl.SIGNATURES):
        return jpeg_xl.decode(data)
    try:
        with PillowImage.open(io.BytesIO(data)) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as error:
        raise InputError(f"{len(data)} bytes are not a readable image: {error}") from error


def content_picture(image: Image, geometry: ImageGeometry) -> Image:
    """The picture as the network sees it, without padding.

    Bilinear with Pillow, which the ONNX adapter uses too: there a lossless file of this picture
    gives the network the very pixels that the full image gives it.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        geometry: The detector's for this image.

    Returns:
        Shape (content height, content width, 3), uint8, RGB.
    """
    return _resized(image, geometry.content_size)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    picture = PillowImage.fromarray(np.ascontiguousarray(image))
    if picture.size != size:
        picture = picture.resize(size, PillowImage.Resampling.BILINEAR)
    return np.array(picture)


def detect_in_picture(
    detector: Detector, picture: Image, image_size: tuple[int, int]
) -> Detections:
    """Run the whole detector on a received picture; boxes in pixels of the original image.

    Args:
        detector: Both halves.
        picture: Of any size, shape (H, W, 3), uint8, RGB; the detector resizes it to its own.
        image_size: ``(width, height)`` of the original image in pixels.
    """
    found = detector.detect(detector.extract(picture))
    # Boxes come in the picture's pixels, whatever the detector did to its size.
    scale = np.array(image_size, np.float32) / np.array(picture.shape[1::-1], np.float32)
    limit = np.array(image_size * 2, np.float32)
    boxes = np.clip(found.boxes * np.tile(scale, 2), 0, limit)
    return Detections(boxes.astype(np.float32), found.scores, found.labels)


def _grid() -> Iterator[PictureFormat]:
    for codec, qualities in _GRID_QUALITIES.items():
        for chroma in CHROMAS[codec]:
            yield from (PictureFormat(codec, quality, chroma) for quality in qualities)
        for size in _GRID_SIZES[codec]:
            yield from (PictureFormat(codec, quality, size=size) for quality in qualities)


_GRID_QUALITIES: dict[str, tuple[int, ...]] = {
    "jpeg": (15, 25, 40, 55, 70, 85, 95),
    "webp": (5, 15, 30, 45, 60, 75, 90),
    "avif": (25, 35, 45, 55, 65, 80),
    "jxl": (15, 30, 45, 60, 75, 90),
}
_GRID_SIZES: dict[str, tuple[str | float, ...]] = {
    "jpeg": ("original", 0.75, 0.5),
    "webp": ("original", 0.75, 0.5),
    # These two make up nearly all of the encoding time.
    "avif": ("original", 0.75),
    "jxl": ("original", 0.75),
}

PICTURE_GRID = tuple(_grid())
"""The pictures of a default run."""
