"""Generated detection scenes: deterministic by seed, no download, no torch.

A scene is a textured, lit, cluttered picture with a few rotated, coloured, partly hidden objects
of the classes in ``CLASS_NAMES``. Object sizes fill COCO's small, medium and large buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from fpcodec.data.backgrounds import (
    FloatImage,
    add_clutter,
    apply_light,
    background,
    finish,
    random_colour,
)
from fpcodec.data.shapes import CLASS_NAMES, Outline, outline, rasterise
from fpcodec.errors import InputError

# Part of every scene's seed: a change of the generator that changes pictures changes it too.
GENERATOR_VERSION = 1
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# left, top, right, bottom of the whole outline; it may reach out of the picture
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneConfig:
    """What scenes look like. Lengths are pixels.

    Attributes:
        size: width and height of the picture.
        min_objects: fewest objects placed.
        max_objects: most objects placed.
        size_shares: chance that an object is small, medium or large (sums to 1).
        min_object_size: square root of the smallest object's box area.
        max_object_size: square root of the largest object's box area.
        min_visible: objects less visible than this share of their whole are not annotated.
        max_clutter: most distractor strokes and blobs.
        max_blur: largest standard deviation of the Gaussian blur, below 1.
        max_noise: largest standard deviation of the noise, grey levels.
        crowding: chance that an object stands half in front of another of its class and size.

    Raises:
        InputError: a field is outside its range.
    """

    size: int = 320
    min_objects: int = 3
    max_objects: int = 12
    size_shares: tuple[float, float, float] = (0.38, 0.34, 0.28)
    min_object_size: float = 8.0
    max_object_size: float = 250.0
    min_visible: float = 0.3
    max_clutter: int = 14
    max_blur: float = 0.8
    max_noise: float = 4.0
    crowding: float = 0.0

    def __post_init__(self) -> None:
        shares = self.size_shares
        _require(self.size >= 64, f"size is {self.size} pixels, give at least 64")
        _require(
            1 <= self.min_objects <= self.max_objects,
            f"min_objects is {self.min_objects}, give 1 to max_objects ({self.max_objects})",
        )
        _require(
            len(shares) == 3 and min(shares) >= 0.0 and abs(sum(shares) - 1.0) < 1e-6,
            f"size_shares are {shares}, give three non-negative numbers that sum to 1",
        )
        _require(
            4.0 <= self.min_object_size < 32.0,
            f"min_object_size is {self.min_object_size} pixels, give 4 to below 32",
        )
        _require(
            self.max_object_size > 96.0,
            f"max_object_size is {self.max_object_size} pixels, give more than 96",
        )
        _require(
            0.0 < self.min_visible <= 1.0,
            f"min_visible is {self.min_visible}, give more than 0 and at most 1",
        )
        _require(self.max_clutter >= 0, f"max_clutter is {self.max_clutter}, give 0 or more")
        _require(0.0 <= self.max_blur < 1.0, f"max_blur is {self.max_blur}, give 0 to below 1")
        _require(self.max_noise >= 0.0, f"max_noise is {self.max_noise}, give 0 or more")
        _require(0.0 <= self.crowding <= 1.0, f"crowding is {self.crowding}, give 0 to 1")


def _require(satisfied: bool, message: str) -> None:
    if not satisfied:
        raise InputError(message)


CROWDED = SceneConfig(
    min_objects=8, max_objects=20, size_shares=(0.15, 0.6, 0.25), max_object_size=160.0,
    crowding=0.7,
)  # fmt: skip
"""Scenes where most objects hide a part of one like them."""
_CROWDED_IOU = (0.4, 0.7)
"""Overlap of the whole boxes of two objects that stand in a crowd."""


@dataclass(frozen=True)
class Scene:
    """One picture and its annotations.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) float32, xyxy pixels, tight around the visible part.
        labels: (N,) int64, indices into ``CLASS_NAMES``.
        visible: (N,) float32, visible share of each object, 0..1.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    visible: NDArray[np.float32]


@dataclass(frozen=True)
class _Placed:
    label: int
    extent: float
    outline: Outline
    box: Box


def generate_scene(seed: int, config: SceneConfig | None = None) -> Scene:
    """Return the scene of a seed: the same bytes on every call and in every process.

    Args:
        seed: non-negative.
        config: defaults to ``SceneConfig()``.

    Raises:
        InputError: the seed is negative.
    """
    _require(seed >= 0, f"seed is {seed}, give 0 or more")
    config = config or SceneConfig()
    rng = np.random.default_rng([GENERATOR_VERSION, seed])
    image = background(rng, config.size)
    image = add_clutter(rng, image, int(rng.integers(0, config.max_clutter + 1)))
    owner = np.full((config.size, config.size), -1, dtype=np.int16)
    light = rng.uniform(0.0, 2.0 * np.pi)
    objects = _place(rng, config)
    whole_area = [
        _paint(rng, image, owner, index, placed, light) for index, placed in enumerate(objects)
    ]
    picture = finish(rng, apply_light(rng, image), config.max_blur, config.max_noise)
    boxes, labels, visible = _annotate(objects, owner, whole_area, config)
    return Scene(picture, boxes, labels, visible)


def _place(rng: np.random.Generator, config: SceneConfig) -> list[_Placed]:
    """Choose classes, sizes and places; the larger come first and so lie further back."""
    count = int(rng.integers(config.min_objects, config.max_objects + 1))
    limits = np.array([config.min_object_size, 32.0, 96.0, config.max_object_size])
    buckets = rng.choice(3, size=count, p=np.array(config.size_shares))
    low, high = np.log(limits[buckets]), np.log(limits[buckets + 1])
    extents = np.exp(low + rng.uniform(size=count) * (high - low))
    order = np.argsort(-extents * np.exp(rng.normal(0.0, 0.25, count)))
    placed: list[_Placed] = []
    for extent in extents[order]:
        # Without crowding nothing is drawn for it: the scenes stay what they were.
        if config.crowding and placed and rng.uniform() < config.crowding:
            candidate = _join_crowd(rng, placed, config.size)
        else:
            candidate = _find_room(rng, float(extent), placed, config.size)
        if candidate is not None:
            placed.append(candidate)
    return placed


def _find_room(
    rng: np.random.Generator, extent: float, placed: list[_Placed], size: int
) -> _Placed | None:
    """Turn a random class into an outline and try places until it hides little of the others."""
    label = int(rng.integers(len(CLASS_NAMES)))
    matrix = _turned(rng, label, extent)
    low, high = _extremes(label, matrix)
    tolerated = rng.uniform(0.0, 0.45)
    margin = 0.15 * extent
    first, last = -low - margin, size - high + margin
    nearest, furthest = np.minimum(first, last), np.maximum(first, last)
    for _ in range(16):
        centre = rng.uniform(nearest, furthest)
        box = (*(low + centre).tolist(), *(high + centre).tolist())
        if all(_overlap(box, other.box) <= tolerated for other in placed):
            return _Placed(label, extent, outline(label).transformed(matrix, centre), box)
    return None


def _join_crowd(rng: np.random.Generator, placed: list[_Placed], size: int) -> _Placed | None:
    """Try places half in front of an object like it, where it hides little of the others."""
    host = placed[int(rng.integers(len(placed)))]
    extent = host.extent * float(np.exp(rng.normal(0.0, 0.1)))
    matrix = _turned(rng, host.label, extent)
    low, high = _extremes(host.label, matrix)
    middle = (np.array(host.box[:2]) + np.array(host.box[2:]) - low - high) / 2
    for _ in range(16):
        angle, wanted = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(*_CROWDED_IOU)
        away = np.array([np.cos(angle), np.sin(angle)])
        # The overlap falls along the way: the first place at which it is no more than wanted.
        for step in np.linspace(0.0, 1.5 * extent, 49):
            centre = middle + step * away
            box = (*(low + centre).tolist(), *(high + centre).tolist())
            if _iou(box, host.box) <= wanted:
                break
        inside = all(0.0 <= edge <= size for edge in box)
        others = (other.box for other in placed if other is not host)
        if inside and all(_iou(box, other) <= _CROWDED_IOU[0] for other in others):
            return _Placed(host.label, extent, outline(host.label).transformed(matrix, centre), box)
    return None


def _turned(rng: np.random.Generator, label: int, extent: float) -> NDArray[np.float64]:
    """A random turn and stretch of a class's outline to a box of area ``extent`` squared."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    stretch = np.exp(rng.uniform(-0.18, 0.18))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([stretch, 1.0 / stretch])
    low, high = _extremes(label, matrix)
    span = high - low
    return np.asarray(matrix * (extent / np.sqrt(span[0] * span[1])))


def _extremes(
    label: int, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest ``(x, y)`` of a class's outline once turned."""
    body = outline(label).body @ matrix
    return body.min(axis=0), body.max(axis=0)


def _iou(box: Box, other: Box) -> float:
    """Return the boxes' intersection as a share of their union."""
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    both = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    shared = _overlap(box, other) * smaller
    return shared / (both - shared)


def _overlap(box: Box, other: Box) -> float:
    """Return the boxes' intersection as a share of the smaller box."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    areas = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return width * height / min(areas)


def _paint(
    rng: np.random.Generator,
    image: FloatImage,
    owner: NDArray[np.int16],
    index: int,
    placed: _Placed,
    light: float,
) -> float:
    """Paint one object into image and owner map; return its area were nothing in front of it."""
    size = image.shape[0]
    x0, y0, x1, y1 = _pixel_window(placed.box)
    width, height = x1 - x0, y1 - y0
    shape = placed.outline.transformed(np.eye(2), np.array([-x0, -y0], dtype=np.float64))
    supersampling = 4 if placed.extent < 48.0 else 2
    mask = rasterise((shape.body,), width, height, supersampling)
    if shape.hole is not None:
        mask = mask - rasterise((shape.hole,), width, height, supersampling)
    accent = rasterise(shape.accents, width, height, supersampling)
    inside = (slice(max(0, -y0), min(height, size - y0)), slice(max(0, -x0), min(width, size - x0)))
    target = (slice(max(0, y0), min(size, y1)), slice(max(0, x0), min(size, x1)))
    body, accented = _colours(rng, image[target])
    shading = _shading(rng, width, height, light)[inside]
    alpha, accent = mask[inside], accent[inside]
    for channel in range(3):  # Broadcasting over a last axis of 3 is several times slower.
        beneath = image[..., channel][target]
        paint = body[channel] + accent * (accented[channel] - body[channel])
        beneath += alpha * (paint * shading - beneath)
    owner[target][alpha >= 0.5] = index
    return float(np.count_nonzero(mask >= 0.5))


def _pixel_window(box: Box) -> tuple[int, int, int, int]:
    """Return the whole pixels around a box, one to spare on each side."""
    left, top, right, bottom = box
    return floor(left) - 1, floor(top) - 1, ceil(right) + 1, ceil(bottom) + 1


def _colours(
    rng: np.random.Generator, beneath: FloatImage
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return body and accent colours: the body apart from what lies beneath, the accent from it."""
    around = beneath[::2, ::2].reshape(-1, 3).mean(axis=0) if beneath.size else np.zeros(3)
    choices = [random_colour(rng, (0.35, 1.0), (0.3, 1.0)) for _ in range(3)]
    body = max(choices, key=lambda colour: float(np.abs(colour - around).sum()))
    luma = float(body @ _LUMA)
    accent_luma = luma + (1.0 if luma < 128.0 else -1.0) * rng.uniform(50.0, 110.0)
    tint = random_colour(rng, (0.0, 0.5), (0.7, 1.0))
    return body, (tint * np.float32(accent_luma / float(tint @ _LUMA))).astype(np.float32)


def _shading(rng: np.random.Generator, width: int, height: int, light: float) -> FloatImage:
    """Return a multiplier, (height, width) float32: brighter towards the scene's light."""
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    down = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    strength = np.float32(rng.uniform(0.05, 0.25))
    slope = np.float32(np.cos(light)) * across + np.float32(np.sin(light)) * down
    return np.asarray(1.0 + strength * slope, dtype=np.float32)


def _annotate(
    objects: list[_Placed], owner: NDArray[np.int16], whole_area: list[float], config: SceneConfig
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Measure what each object shows; leave out the nearly hidden."""
    boxes, labels, visible = [], [], []
    for index, placed in enumerate(objects):
        x0, y0, x1, y1 = _pixel_window(placed.box)
        x0, y0 = max(0, x0), max(0, y0)
        window = owner[y0:y1, x0:x1] == index
        shown = float(window.sum()) / max(whole_area[index], 1.0)
        if shown < config.min_visible:
            continue
        columns, rows = np.flatnonzero(window.any(axis=0)), np.flatnonzero(window.any(axis=1))
        boxes.append((x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1))
        labels.append(placed.label)
        visible.append(min(shown, 1.0))
    return (
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(visible, dtype=np.float32),
    )
