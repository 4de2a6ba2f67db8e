"""Heat maps: float32 arrays (H, W), finite and non-negative unless a function says otherwise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from fpcodec.errors import InputError
from fpcodec.pyramid import MAX_SIDE, Array, ImageGeometry

_STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)
_HEAT = ((40, 20, 90), (150, 30, 110), (225, 75, 50), (250, 165, 20), (255, 250, 150))
"""Colours of growing lightness, so that the order survives print and colour blindness."""


def normalised(heatmap: npt.NDArray[np.floating]) -> Array:
    """Stretch a map to [0, 1] by its smallest and largest value; a flat map becomes zeros.

    Raises:
        InputError: The map is empty, not two-dimensional, or holds NaN or infinity.
    """
    values = _checked(heatmap)
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return np.zeros_like(values)
    # In double precision: the span of float32 values may overflow or underflow float32.
    stretched = (values.astype(np.float64) - low) / (high - low)
    return np.asarray(stretched, np.float32)


def resize(heatmap: npt.NDArray[np.floating], size: tuple[int, int]) -> Array:
    """Bilinear resize, with a wider filter where it shrinks; values stay in their range.

    Args:
        heatmap: Shape (h, w).
        size: ``(width, height)`` of the result.

    Raises:
        InputError: The map is no map, or a side is out of range.
    """
    values = _checked(heatmap)
    return _resample(values, size, (0.0, 0.0, float(values.shape[1]), float(values.shape[0])))


def to_image(
    heatmap: npt.NDArray[np.floating], geometry: ImageGeometry, stride: int | None = None
) -> Array:
    """Bring a map over the padded network input to the original image, padding cut off.

    Args:
        heatmap: Shape (h, w): a level's grid, or any other grid over the network's input.
        geometry: How the image lies in that input.
        stride: Network pixels per cell, where the last cells reach past the input (a level of
            stride 64 over 800 pixels has 13 cells); None where the grid just covers the input.

    Returns:
        Shape (height, width) of the original image, bilinear.

    Raises:
        InputError: The map is no map, or the stride leaves a part of the image without cells.
    """
    values = _checked(heatmap)
    box: list[float] = []
    for axis in (0, 1):
        cells, side = values.shape[1 - axis], geometry.network_size[axis]
        cell = side / cells if stride is None else float(stride)
        first, length = geometry.offset[axis], geometry.content_size[axis]
        if first + length > cells * cell * (1 + 1e-6):
            raise InputError(
                f"{cells} cells of {cell:g} pixels do not cover {first + length} pixels of the "
                "network's input; give the stride of the map's own level"
            )
        box += [first / cell, min((first + length) / cell, float(cells))]
    return _resample(values, geometry.image_size, (box[0], box[2], box[1], box[3]))


def centroid(heatmap: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Centre of mass ``(x, y)`` in pixels from the top left corner; pixel 0 has its at 0.5.

    A map of zeros has its centre in the middle.

    Raises:
        InputError: The map is no map or has a negative value.
    """
    values = _checked(heatmap).astype(np.float64)
    if values.min() < 0:
        raise InputError("a map with negative values has no centre of mass; normalise it first")
    height, width = values.shape
    # By its peak first: a sum of denormal values keeps its meaning.
    peak = values.max()
    if peak <= 0:
        return width / 2, height / 2
    values /= peak
    total = values.sum()
    x = float(values.sum(axis=0) @ (np.arange(width) + 0.5) / total)
    y = float(values.sum(axis=1) @ (np.arange(height) + 0.5) / total)
    return x, y


def blend(
    image: npt.NDArray[np.uint8], heatmap: npt.NDArray[np.floating], strength: float = 0.85
) -> npt.NDArray[np.uint8]:
    """Lay a map over a picture: hot in colour, cold the picture itself, greyed and darkened.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        heatmap: Shape (h, w) in [0, 1]; resized to the picture.
        strength: Opacity of the hottest place, 0 to 1.

    Returns:
        Shape (H, W, 3), uint8, RGB.

    Raises:
        InputError: The image is no RGB image, the map is no map, or the strength out of range.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image {image.shape} {image.dtype} is not (H, W, 3) uint8; give RGB")
    if not 0 <= strength <= 1:
        raise InputError(f"strength {strength} is not in 0..1")
    height, width = image.shape[:2]
    heat = np.clip(resize(heatmap, (width, height)), 0, 1)
    colours = _coloured(heat)
    grey = image.astype(np.float32) @ np.asarray((0.299, 0.587, 0.114), np.float32)
    # Greyed, so that the picture's own colours are not taken for heat.
    base = 0.75 * (0.35 * image + 0.65 * grey[..., None])
    # The opacity grows fast at first: half the heat should be seen as half, not as a tint.
    opacity = (strength * np.minimum(1.0, 1.6 * heat) * np.sqrt(heat))[..., None]
    mixed = (1 - opacity) * base + opacity * colours
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def in_colour(heatmap: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """A map of values in [0, 1] alone, in the colours of ``blend``: (H, W) to (H, W, 3).

    Raises:
        InputError: The map is no map.
    """
    return np.asarray(np.rint(_coloured(np.clip(_checked(heatmap), 0, 1))), np.uint8)


def heat_colour(value: float) -> tuple[int, int, int]:
    """The colour that ``blend`` gives a value in [0, 1], before it is laid over a picture."""
    red, green, blue = (round(float(np.interp(value, _STOPS, x))) for x in zip(*_HEAT, strict=True))
    return red, green, blue


def _coloured(heat: Array) -> npt.NDArray[np.float64]:
    channels = [np.interp(heat, _STOPS, channel) for channel in zip(*_HEAT, strict=True)]
    return np.stack(channels, axis=2)


def _checked(heatmap: npt.NDArray[np.floating]) -> Array:
    values = np.asarray(heatmap)
    if values.ndim != 2 or not values.size:
        raise InputError(f"a map has shape (H, W) and at least one pixel, not {values.shape}")
    if not np.isfinite(values).all():
        raise InputError("the map holds NaN or infinite values; check what it was made from")
    return np.asarray(values, np.float32)


def _resample(
    values: Array, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Array:
    """Bilinear from a box, in cells, of the map."""
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise InputError(f"map size {size} has a side outside 1..{MAX_SIDE}")
    picture = Image.fromarray(values)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box), np.float32)
