"""JPEG XL through pyjpegxl (BSD-3, libjxl in the wheel): Pillow has none.

Of the other wheels, pylibjxl 0.5 codes in the picture's own RGB instead of XYB, which makes files
far larger; imagecodecs holds numpy at 2 or above, which training cannot have; pillow-jxl-plugin is
GPL-3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError, MissingDependency
from fpcodec.pyramid import MAX_IMAGE_PIXELS

SIGNATURES = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")
"""How a bare codestream and a container begin."""

LEAST_QUALITY = 11
"""Below it the distance is above the 15 at which pyjpegxl begins to read a percentage."""

EFFORTS = {7: "Squirrel", 8: "Kitten", 9: "Tortoise"}
EFFORT = 7


def distance(quality: int) -> float:
    """libjxl's Butteraugli distance for a quality (``JxlEncoderDistanceFromQuality``)."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53.0 / 3000.0 * quality * quality - 23.0 / 20.0 * quality + 25.0


def encode(picture: Image, quality: int, effort: int = EFFORT) -> bytes:
    """A bare codestream in XYB colour; quality 100 is lossless.

    Args:
        picture: Shape (H, W, 3), uint8, RGB.
        quality: LEAST_QUALITY..100.
        effort: Of EFFORTS.

    Raises:
        MissingDependency: pyjpegxl is not installed.
    """
    package = _package()
    pixels = np.ascontiguousarray(picture)
    speed = getattr(package.EncoderSpeed, EFFORTS[effort])
    if quality == 100:
        return bytes(package.encode_from_numpy(pixels, lossless=True, speed=speed))
    return bytes(package.encode_from_numpy(pixels, quality=distance(quality), speed=speed))


def decode(data: bytes) -> Image:
    """The pixels of a JPEG XL file, shape (H, W, 3), uint8, RGB.

    Raises:
        InputError: The bytes are not a readable JPEG XL picture in RGB.
        MissingDependency: pyjpegxl is not installed.
    """
    package = _package()
    try:
        probed = package.probe(data)
        if probed.width * probed.height > MAX_IMAGE_PIXELS:
            raise InputError(
                f"picture of {probed.width}x{probed.height} is above {MAX_IMAGE_PIXELS:,} pixels"
            )
        pixels = package.decode_to_numpy(data, dtype="uint8")[1]
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{len(data)} bytes are not a readable image: {error}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"JPEG XL picture has shape {pixels.shape}, not three channels; use RGB")
    return np.asarray(pixels)


def _package() -> Any:
    try:
        import pyjpegxl
    except ImportError as error:
        raise MissingDependency(
            "JPEG XL needs pyjpegxl (Python 3.11 or later); "
            "install it: pip install 'fpcodec[bench]'"
        ) from error
    # Its bytes do not depend on threads, but times do.
    pyjpegxl.set_num_threads(1)
    return pyjpegxl
