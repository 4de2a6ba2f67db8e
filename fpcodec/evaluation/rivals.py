"""The two honest rivals of sending features: sending the picture, and sending the boxes.

A picture is sent at the size the network itself looks at, without padding: more pixels would be
wasted, and the comparison would flatter features.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import features

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import InputError, MissingDependency
from fpcodec.pyramid import ImageGeometry

PICTURE_FORMATS = ("jpeg", "webp", "avif", "png")

DEFAULT_QUALITIES = {"jpeg": 75, "webp": 80, "avif": 75, "png": 0}
"""Pillow's own defaults; ``png`` is lossless and ignores its quality."""

_MOST_BOXES = 0xFFFF


@dataclass(frozen=True)
class PictureFormat:
    """An image format at one quality.

    ``jpeg`` has optimised Huffman tables, ``webp`` is lossy with method 6, ``avif`` runs at
    speed 6; all keep Pillow's default 4:2:0 chroma. ``png`` is lossless.

    Attributes:
        name: One of PICTURE_FORMATS.
        quality: 0..100 as Pillow takes it.
    """

    name: str
    quality: int

    def __post_init__(self) -> None:
        if self.name not in PICTURE_FORMATS:
            raise InputError(
                f"picture format {self.name!r} is not one of {', '.join(PICTURE_FORMATS)}"
            )
        if not 0 <= self.quality <= 100:
            raise InputError(f"{self.name} quality {self.quality} is not in 0..100")

    @classmethod
    def parse(cls, text: str) -> PictureFormat:
        """Read ``webp`` (Pillow's default quality) or ``webp:60``.

        Raises:
            InputError: The format is unknown or the quality is not in 0..100.
        """
        name, colon, quality = text.partition(":")
        if not colon:
            return cls(name, DEFAULT_QUALITIES.get(name, 0))
        if not quality.isascii() or not quality.isdigit():
            raise InputError(f"picture quality {quality!r} is not a whole number; use {name}:80")
        return cls(name, int(quality))

    def encode(self, picture: Image) -> bytes:
        """The bytes of the image file.

        Args:
            picture: Shape (H, W, 3), uint8, RGB.

        Raises:
            MissingDependency: This Pillow cannot write the format.
        """
        if self.name in ("webp", "avif") and not features.check(self.name):
            raise MissingDependency(
                f"this Pillow has no {self.name}; install a wheel from PyPI: pip install Pillow"
            )
        options: dict[str, dict[str, Any]] = {
            "jpeg": {"quality": self.quality, "optimize": True},
            "webp": {"quality": self.quality, "method": 6, "lossless": False},
            "avif": {"quality": self.quality, "speed": 6},
            "png": {"optimize": True},
        }
        buffer = io.BytesIO()
        PillowImage.fromarray(picture).save(buffer, self.name.upper(), **options[self.name])
        return buffer.getvalue()


def decode_picture(data: bytes) -> Image:
    """The pixels of an image file's bytes, shape (H, W, 3), uint8, RGB.

    Raises:
        InputError: The bytes are not an image that Pillow reads.
    """
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
    picture = PillowImage.fromarray(np.ascontiguousarray(image))
    if picture.size != geometry.content_size:
        picture = picture.resize(geometry.content_size, PillowImage.Resampling.BILINEAR)
    return np.array(picture)


def detect_in_picture(
    detector: Detector, picture: Image, image_size: tuple[int, int]
) -> Detections:
    """Run the whole detector on a received picture; boxes in pixels of the original image.

    Args:
        detector: Both halves.
        picture: At the content size, shape (H, W, 3), uint8, RGB.
        image_size: ``(width, height)`` of the original image in pixels.
    """
    found = detector.detect(detector.extract(picture))
    # Boxes come in the picture's pixels, whatever the detector did to its size.
    scale = np.array(image_size, np.float32) / np.array(picture.shape[1::-1], np.float32)
    limit = np.array(image_size * 2, np.float32)
    boxes = np.clip(found.boxes * np.tile(scale, 2), 0, limit)
    return Detections(boxes.astype(np.float32), found.scores, found.labels)


def pack_boxes(
    detections: Detections, image_size: tuple[int, int], min_score: float = 0.05
) -> bytes:
    """Boxes alone, as small as is easily done.

    One flag byte (bit 0: deflated, bit 1: labels of two bytes), then, deflated if that is
    smaller: image width and height, the number of boxes (two bytes each, little-endian), all
    labels, all scores (one byte), and the corners as shares of the image (two bytes each), left
    edges first.

    Args:
        detections: Of the whole detector, in image pixels.
        image_size: ``(width, height)`` of the image in pixels.
        min_score: Boxes below are left out.

    Raises:
        InputError: There are more than 65,535 boxes, or a label is outside 0..65,535.
    """
    keep = detections.scores >= min_score
    boxes, labels = detections.boxes[keep], detections.labels[keep]
    if len(boxes) > _MOST_BOXES or (len(labels) and not 0 <= labels.min() <= labels.max() < 65536):
        raise InputError(f"{len(boxes)} boxes cannot be packed: two bytes hold count and label")
    wide = bool(len(labels)) and int(labels.max()) > 255
    corners = boxes / np.array(image_size * 2, np.float32)
    body = b"".join(
        part.tobytes()
        for part in (
            np.array([*image_size, len(boxes)], "<u2"),
            labels.astype("<u2" if wide else "u1"),
            np.round(np.clip(detections.scores[keep], 0, 1) * 255).astype("u1"),
            np.round(np.clip(corners, 0, 1) * 65535).astype("<u2").T,
        )
    )
    deflater = zlib.compressobj(9, wbits=-15)
    squeezed = deflater.compress(body) + deflater.flush()
    deflated = len(squeezed) < len(body)
    return bytes([deflated | wide << 1]) + (squeezed if deflated else body)


def unpack_boxes(data: bytes) -> Detections:
    """Read what ``pack_boxes`` wrote.

    Raises:
        InputError: The bytes are not such a packet.
    """
    if not data or data[0] > 3:
        raise InputError(f"{len(data)} bytes are not packed boxes")
    body = data[1:]
    if data[0] & 1:
        longest = 6 + _MOST_BOXES * 11
        inflater = zlib.decompressobj(wbits=-15)
        try:
            body = inflater.decompress(body, longest + 1)
        except zlib.error as error:
            raise InputError(f"packed boxes cannot be inflated: {error}") from error
    label_bytes = 2 if data[0] & 2 else 1
    count = int.from_bytes(body[4:6], "little")
    if len(body) < 6 or len(body) != 6 + count * (label_bytes + 9):
        raise InputError(f"packed boxes hold {len(body)} bytes, which {count} boxes do not take")
    labels, scores, corners = np.split(
        np.frombuffer(body[6:], np.uint8), [count * label_bytes, count * (label_bytes + 1)]
    )
    image_size = np.frombuffer(body[:4], "<u2").astype(np.float32)
    shares = corners.view("<u2").reshape(4, count).T.astype(np.float32) / 65535
    return Detections(
        (shares * np.tile(image_size, 2)).astype(np.float32),
        scores.astype(np.float32) / np.float32(255),
        labels.view("<u2" if label_bytes == 2 else "u1").astype(np.int64),
    )
