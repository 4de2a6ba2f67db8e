"""From an image to a network's input, described by data so that a profile can carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.pyramid import MAX_IMAGE_PIXELS, MAX_SIDE, Array, ImageGeometry

MODES = ("letterbox", "resize")
ALIGNMENTS = ("top_left", "center")
CHANNEL_ORDERS = ("rgb", "bgr")
INTERPOLATIONS = ("bilinear",)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a network's input: ``(pixels * value_scale - mean) / std``.

    Attributes:
        size: ``(width, height)`` of the network input in pixels.
        mode: ``letterbox`` keeps the image's ratio and pads; ``resize`` stretches.
        align: Where a letterboxed image lies: ``top_left`` (as YOLOX does) or ``center``.
        channel_order: ``rgb`` or ``bgr``.
        value_scale: Factor on pixel values 0..255, 1/255 for networks that want 0..1.
        mean: Subtracted per channel, in the network's channel order, after ``value_scale``.
        std: Divides per channel, in the network's channel order.
        pad_value: Grey of the padding, 0..255, before ``value_scale``.
        interpolation: ``bilinear``: Pillow's, which averages when it shrinks. OpenCV's, which
            most detectors were trained with, does not, and differs by a few grey levels.
    """

    size: tuple[int, int]
    mode: str = "letterbox"
    align: str = "top_left"
    channel_order: str = "rgb"
    value_scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad_value: int = 114
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", MODES),
            ("align", ALIGNMENTS),
            ("channel_order", CHANNEL_ORDERS),
            ("interpolation", INTERPOLATIONS),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"preprocess {name} {getattr(self, name)!r} is not one of {', '.join(allowed)}"
                )
        if len(self.size) != 2 or not all(1 <= side <= MAX_SIDE for side in self.size):
            raise InputError(f"preprocess size {self.size} is not two sides in 1..{MAX_SIDE}")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise InputError("preprocess mean and std have three values each, one per channel")
        values = (self.value_scale, *self.mean, *self.std)
        if not np.isfinite(values).all() or min(self.std) <= 0 or self.value_scale == 0:
            raise InputError("preprocess values are finite, std positive and value_scale not 0")
        if not 0 <= self.pad_value <= 255:
            raise InputError(f"preprocess pad_value {self.pad_value} is not in 0..255")

    def geometry(self, image_size: tuple[int, int]) -> ImageGeometry:
        """How an image of ``(width, height)`` pixels lies in the network's input.

        Integer arithmetic alone, so that edge and server agree without sending it.

        Raises:
            InputError: A side is outside 1..MAX_SIDE.
        """
        width, height = image_size
        if not all(1 <= side <= MAX_SIDE for side in image_size):
            raise InputError(f"image size {image_size} has a side outside 1..{MAX_SIDE}")
        across, down = self.size
        if self.mode == "resize":
            content = self.size
        elif width * down >= height * across:
            content = (across, max(1, height * across // width))
        else:
            content = (max(1, width * down // height), down)
        offset = (0, 0)
        if self.align == "center":
            offset = ((across - content[0]) // 2, (down - content[1]) // 2)
        return ImageGeometry((width, height), self.size, content, offset)

    def __call__(
        self, image: Image, max_pixels: int = MAX_IMAGE_PIXELS
    ) -> tuple[Array, ImageGeometry]:
        """Lay an image into the network's input.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
            max_pixels: Most pixels accepted.

        Returns:
            The input, shape (1, 3, height, width), float32, contiguous; and its geometry.

        Raises:
            InputError: The image is empty, too large, or not uint8 (H, W, 3).
        """
        check_image(image, max_pixels)
        geometry = self.geometry((image.shape[1], image.shape[0]))
        across, down = self.size
        content = PillowImage.fromarray(np.ascontiguousarray(image))
        if content.size != geometry.content_size:
            content = content.resize(geometry.content_size, PillowImage.Resampling.BILINEAR)
        canvas = np.full((down, across, 3), self.pad_value, np.uint8)
        left, top = geometry.offset
        wide, high = geometry.content_size
        canvas[top : top + high, left : left + wide] = np.asarray(content)
        if self.channel_order == "bgr":
            canvas = canvas[:, :, ::-1]
        tensor = np.empty((1, 3, down, across), np.float32)
        tensor[0] = canvas.transpose(2, 0, 1)
        if self.value_scale != 1.0:
            tensor *= np.float32(self.value_scale)
        if any(self.mean) or self.std != (1.0, 1.0, 1.0):
            tensor -= np.asarray(self.mean, np.float32)[:, None, None]
            tensor /= np.asarray(self.std, np.float32)[:, None, None]
        return tensor, geometry

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocess:
        """Read the form that ``to_dict`` writes; absent keys take their defaults.

        Raises:
            InputError: A key is unknown, ``size`` is missing, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = [key for key in data if key not in known]
        if unknown:
            raise InputError(f"preprocess has no {', '.join(unknown)}; it has {', '.join(known)}")
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in data.items()
        }
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"preprocess description cannot be used: {error}") from error


def check_image(image: Image, max_pixels: int = MAX_IMAGE_PIXELS) -> None:
    """Check that an array is an image an adapter can use.

    Raises:
        InputError: It is empty, not uint8 (H, W, 3), or above a limit.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f"image is a {type(image).__name__}; give a numpy uint8 (H, W, 3) array")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image has shape {image.shape}; give (H, W, 3) in RGB")
    if image.dtype != np.uint8:
        raise InputError(f"image is {image.dtype}; give uint8 values in 0..255")
    height, width = image.shape[:2]
    if height == 0 or width == 0:
        raise InputError(f"image is empty ({width}x{height}); give at least one pixel")
    if max(height, width) > MAX_SIDE:
        raise InputError(f"image is {width}x{height}; no side may exceed {MAX_SIDE}: shrink it")
    if height * width > max_pixels:
        raise InputError(
            f"image has {height * width} pixels, above the limit of {max_pixels}; shrink it"
        )


def yolox_preprocess(size: tuple[int, int] = (416, 416)) -> Preprocess:
    """YOLOX's input since version 0.1.1: top-left letterbox, BGR, 0..255, padded with 114."""
    return Preprocess(size=size, mode="letterbox", align="top_left", channel_order="bgr")
