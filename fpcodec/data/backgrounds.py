"""Backgrounds, clutter and light of generated scenes.

All images here are (H, W, 3) float32 with values around 0..255; only the last step of a scene
clips and rounds.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

FloatImage = NDArray[np.float32]
_PATTERNS = ("none", "stripes", "bricks", "checks", "dots")


def smooth_field(rng: np.random.Generator, size: int, cells: int) -> FloatImage:
    """Return value noise: random values on a ``cells`` grid, enlarged to (size, size) float32."""
    grid = rng.uniform(-1.0, 1.0, (cells + 1, cells + 1)).astype(np.float32)
    enlarged = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
    field: FloatImage = np.asarray(enlarged, dtype=np.float32)
    return field


def random_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> NDArray[np.float32]:
    """Return an RGB colour, (3,) float32 in 0..255, of any hue and the given HSV ranges."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
    colour: NDArray[np.float32] = np.array(rgb, dtype=np.float32) * np.float32(255.0)
    return colour


def background(rng: np.random.Generator, size: int) -> FloatImage:
    """Return a textured background without objects: gradient, noise at three scales, a pattern."""
    corners = np.stack([random_colour(rng, (0.05, 0.5), (0.3, 0.85)) for _ in range(2)])
    mix = 0.5 + 0.5 * smooth_field(rng, size, 2)
    texture = np.zeros((size, size), dtype=np.float32)
    for cells, strength in ((6, 14.0), (20, 10.0), (72, 7.0)):
        texture += smooth_field(rng, size, cells) * np.float32(rng.uniform(0.0, strength))
    texture += _pattern(rng, size) * np.float32(rng.uniform(8.0, 32.0))
    image = np.empty((size, size, 3), dtype=np.float32)
    for channel in range(3):  # Broadcasting over a last axis of 3 is several times slower.
        first, last = corners[:, channel]
        image[..., channel] = mix * (last - first) + (texture + first)
    return image


def _pattern(rng: np.random.Generator, size: int) -> FloatImage:
    """Return a man-made texture in -1..1, (size, size): none, stripes, bricks, checks or dots."""
    kind = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    pattern: FloatImage = np.zeros((size, size), dtype=np.float32)
    if kind == "none":
        return pattern
    period = np.float32(rng.uniform(10.0, 48.0))
    angle = rng.uniform(0.0, np.pi)
    ramp = np.arange(size, dtype=np.float32) / period
    u = np.float32(np.cos(angle)) * ramp[None, :] + np.float32(np.sin(angle)) * ramp[:, None]
    v = np.float32(np.cos(angle)) * ramp[:, None] - np.float32(np.sin(angle)) * ramp[None, :]
    if kind == "stripes":
        pattern = np.sin(u * np.float32(2.0 * np.pi))
    elif kind == "bricks":
        row = np.floor(u)
        along = v * np.float32(0.5) + np.float32(0.5) * (row % 2)
        mortar = (u - row < 0.12) | (along - np.floor(along) < 0.06)
        tone = np.sin((row * 12.9898 + np.floor(along) * 78.233) * 43.0) * np.float32(0.5)
        pattern = np.where(mortar, np.float32(-1.0), tone)
    elif kind == "checks":
        pattern = (np.floor(u) + np.floor(v)) % 2 - 0.5
    else:
        distance = (u - np.round(u)) ** 2 + (v - np.round(v)) ** 2
        pattern = np.where(distance < 0.06, np.float32(1.0), np.float32(0.0))
    return pattern.astype(np.float32, copy=False)


def add_clutter(rng: np.random.Generator, image: FloatImage, count: int) -> FloatImage:
    """Return the image with ``count`` strokes and blobs that belong to no class."""
    size = image.shape[0]
    picture = Image.fromarray(_to_uint8(image))
    draw = ImageDraw.Draw(picture)
    for _ in range(count):
        red, green, blue = (int(c) for c in random_colour(rng, (0.1, 0.7), (0.2, 0.9)))
        start = rng.uniform(0.0, size, 2)
        if rng.uniform() < 0.6:
            steps = rng.normal(0.0, size * rng.uniform(0.02, 0.12), (4, 2))
            points = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
            draw.line(
                points.ravel().tolist(),
                fill=(red, green, blue),
                width=int(rng.integers(1, 6)),
                joint="curve",
            )
        else:
            angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, 7))
            radii = rng.uniform(0.25, 1.0, 7) * rng.uniform(3.0, 22.0)
            offsets = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
            draw.polygon((start + offsets).ravel().tolist(), fill=(red, green, blue))
    return np.array(picture, dtype=np.float32)


def apply_light(rng: np.random.Generator, image: FloatImage) -> FloatImage:
    """Return the image under a ramp of light, a vignette, a gain, an offset and a colour cast."""
    size = image.shape[0]
    ramp = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    slope = np.float32(rng.uniform(0.0, 0.22))
    gain = 1.0 + slope * (
        np.float32(np.cos(angle)) * ramp[None, :] + np.float32(np.sin(angle)) * ramp[:, None]
    )
    gain -= np.float32(rng.uniform(0.0, 0.18)) * (ramp[None, :] ** 2 + ramp[:, None] ** 2)
    gain *= np.float32(rng.uniform(0.75, 1.15))
    cast = rng.uniform(0.93, 1.07, 3).astype(np.float32)
    offset = np.float32(rng.uniform(-12.0, 12.0))
    lit = np.empty_like(image)
    for channel in range(3):
        lit[..., channel] = image[..., channel] * (gain * cast[channel]) + offset
    return lit


def finish(
    rng: np.random.Generator, image: FloatImage, max_blur: float, max_noise: float
) -> NDArray[np.uint8]:
    """Blur, add sensor noise, and return the picture, (H, W, 3) uint8.

    Args:
        rng: source of randomness.
        image: (H, W, 3) float32.
        max_blur: largest standard deviation of the blur, pixels (below 1: the kernel is 3 x 3).
        max_noise: largest standard deviation of the noise, grey levels.
    """
    size = image.shape[0]
    picture = Image.fromarray(_to_uint8(image))
    sigma = rng.uniform(0.0, max_blur)
    if sigma > 0.25:
        side = float(np.exp(-0.5 / sigma**2))
        taps = np.outer([side, 1.0, side], [side, 1.0, side])
        picture = picture.filter(ImageFilter.Kernel((3, 3), taps.ravel().tolist(), taps.sum()))
    noise = rng.standard_normal((size, size), dtype=np.float32)
    noise *= np.float32(rng.uniform(0.0, max_noise))
    noisy = np.array(picture, dtype=np.float32)
    for channel in range(3):
        noisy[..., channel] += noise
    return _to_uint8(noisy)


def _to_uint8(image: FloatImage) -> NDArray[np.uint8]:
    """Round and clip; the image given is used up."""
    np.rint(image, out=image)
    return np.clip(image, 0.0, 255.0, out=image).astype(np.uint8)
