"""D-RISE: which places of an image, or of a pyramid, a detection depends on.

Petsiuk et al., "Black-box explanation of object detectors via saliency maps", CVPR 2021, for masks
on the image. Masks on the pyramid follow the feature-drift study of E. Tsykunov (2023): backbone
and pyramid run once, and only the head sees what a mask leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import InputError
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.explain.heatmaps import to_image
from fpcodec.explain.masks import MaskSource, interpolation
from fpcodec.pyramid import Array, Pyramid, derive

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with masks done and masks in all."""

MAX_MASKS = 1_000_000
MAX_CHUNK_BYTES = 64 << 20
"""Most memory of a chunk of masks, or one mask where that is more; 12 bytes a mask pixel."""

MAX_MAP_VALUES = 1 << 26
"""Most saliency values of one call, all targets together: 512 MiB of sums."""


@dataclass(frozen=True)
class SaliencyConfig:
    """How saliency is estimated.

    Attributes:
        masks: Trials; all targets of an image share them.
        grid: Cells a side of the masks' coarse grid.
        keep: Probability that a cell stays.
        seed: Of the masks.
        chunk: Most masks in memory at once. Changes nothing but the rounding of the sums.
        fill: Grey level 0 to 255 that masked places of an image take.
    """

    masks: int = 1000
    grid: int = 16
    keep: float = 0.5
    seed: int = 0
    chunk: int = 32
    fill: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.masks <= MAX_MASKS:
            raise InputError(f"{self.masks} masks is not in 1..{MAX_MASKS}; 500 to 5000 is usual")
        if self.chunk < 1:
            raise InputError(f"a chunk of {self.chunk} masks holds none; use 1 or more")
        if not 0 <= self.fill <= 255:
            raise InputError(f"fill {self.fill} is not a grey level in 0..255")
        # The rest is the masks' own to check, and now rather than after the first network run.
        self.source((1, 1))

    def source(self, shape: tuple[int, int]) -> MaskSource:
        """The masks of ``(rows, columns)``."""
        return MaskSource(shape, self.grid, self.keep, self.seed)


@dataclass(frozen=True)
class MaskSums:
    """What trials add up to; the sums of disjoint trials add up too.

    Attributes:
        weighted: Σ wᵢ Mᵢ per target, shape (N, rows, columns), float64.
        masks: Σ Mᵢ, shape (rows, columns), float64.
    """

    weighted: Floats
    masks: Floats

    def __add__(self, other: MaskSums) -> MaskSums:
        return MaskSums(self.weighted + other.weighted, self.masks + other.masks)

    @property
    def maps(self) -> Array:
        """Saliency Σ wᵢ Mᵢ / Σ Mᵢ, shape (N, rows, columns), float32.

        The mean weight of the masks that show a place: a detector that ignores its input has a
        flat map. A place that no mask showed has 0.
        """
        shown = np.where(self.masks > 0, self.masks, 1.0)
        return np.asarray(self.weighted / shown, np.float32)


def saliency_on_image(
    detector: Detector,
    image: Image,
    detections: Detections,
    config: SaliencyConfig,
    progress: Progress | None = None,
) -> Array:
    """D-RISE on the image: masks darken the picture, the whole detector runs on what is left.

    Args:
        detector: Both halves.
        image: Shape (H, W, 3), uint8, RGB.
        detections: The N targets, boxes in image pixels.
        config: Masks and their number.
        progress: Called after each mask.

    Returns:
        Saliency in [0, 1], shape (N, H, W), float32; see ``MaskSums.maps``.

    Raises:
        InputError: The image cannot be used, or all maps together are too large.
        ModelError: The detector fails, or lacks a half.
    """
    trials = range(config.masks)
    return sums_on_image(detector, image, detections, config, trials, progress).maps


def saliency_on_features(
    detector: Detector,
    pyramid: Pyramid,
    detections: Detections,
    config: SaliencyConfig,
    progress: Progress | None = None,
) -> Array:
    """D-RISE on the pyramid: a mask scales the features of every level, the head alone runs.

    One mask a trial, drawn on the middle level's grid and resized bilinearly to every other level;
    all channels share it. A two-stage detector's RPN and RoI heads both see masked features.

    Args:
        detector: The server's half suffices.
        pyramid: Every level; derived ones are computed where they are absent, then masked.
        detections: The N targets, boxes in image pixels.
        config: Masks and their number; ``fill`` has no say: masked features are zero.
        progress: Called after each mask.

    Returns:
        Saliency in [0, 1], shape (N, H, W) of the original image, float32.

    Raises:
        InputError: A level is missing, or all maps together are too large.
        ModelError: The detector fails, or lacks the server's half.
    """
    _require_room(len(detections), pyramid.geometry.image_size)
    trials = range(config.masks)
    sums = sums_on_features(detector, pyramid, detections, config, trials, progress)
    return feature_maps_in_image(sums, pyramid)


def sums_on_image(
    detector: Detector,
    image: Image,
    detections: Detections,
    config: SaliencyConfig,
    trials: range,
    progress: Progress | None = None,
) -> MaskSums:
    """``saliency_on_image`` for some of the trials, before the division; see there."""
    height, width = image.shape[:2]
    _require_room(len(detections), (width, height))

    def detect(mask: Array) -> Detections:
        light = mask[..., None]
        shown = image * light + config.fill * (1 - light)
        return detector.detect(detector.extract(np.rint(shown).astype(np.uint8)))

    return _sums(detect, config.source((height, width)), detections, config, trials, progress)


def sums_on_features(
    detector: Detector,
    pyramid: Pyramid,
    detections: Detections,
    config: SaliencyConfig,
    trials: range,
    progress: Progress | None = None,
) -> MaskSums:
    """``saliency_on_features`` for some of the trials, on the middle level's grid; see there."""
    full = derive(pyramid)
    if full.missing:
        raise InputError(
            f"level {', '.join(full.missing)} is missing; masks need every level: extract or "
            "reconstruct them first"
        )
    middle = middle_level(full)
    rows, columns = full.levels[middle].shape[1:]
    footprints = {name: _footprint(full, middle, name) for name in full.spec.names}

    def detect(mask: Array) -> Detections:
        levels = {
            name: values * (footprints[name][0] @ mask @ footprints[name][1].T)
            for name, values in full.levels.items()
        }
        return detector.detect(Pyramid(full.spec, levels, full.geometry))

    # A grid finer than the level would toss coins that no cell ever shows.
    source = MaskSource((rows, columns), min(rows, config.grid), config.keep, config.seed)
    return _sums(detect, source, detections, config, trials, progress)


def feature_maps_in_image(sums: MaskSums, pyramid: Pyramid) -> Array:
    """Maps on the middle level's grid, brought to the image: shape (N, H, W), float32."""
    width, height = pyramid.geometry.image_size
    stride = pyramid.spec[middle_level(pyramid)].stride
    maps = np.empty((len(sums.weighted), height, width), np.float32)
    for here, found in zip(maps, sums.maps, strict=True):
        here[...] = to_image(found, pyramid.geometry, stride)
    return maps


def middle_level(pyramid: Pyramid) -> str:
    """The level whose grid carries the masks: of an even number the coarser middle one."""
    names = pyramid.spec.names
    return names[len(names) // 2]


def mask_weights(
    targets: Detections,
    found: Detections,
    target_classes: npt.NDArray[np.floating[Any]] | None = None,
    found_classes: npt.NDArray[np.floating[Any]] | None = None,
) -> Floats:
    """How well each target is still found: max over j of IoU(t, j) · cos(Pₜ, Pⱼ) · scoreⱼ.

    Args:
        targets: The N detections that are explained.
        found: What the detector found behind a mask, M boxes.
        target_classes: Class scores Pₜ, shape (N, K). None for both where only labels are known:
            the cosine is then 1 for equal labels and 0 for others.
        found_classes: Class scores Pⱼ, shape (M, K).

    Returns:
        Shape (N,), float64, in [0, 1].

    Raises:
        InputError: Class scores are given for one side alone, or do not fit the boxes.
    """
    if target_classes is None and found_classes is None:
        alike = (targets.labels[:, None] == found.labels[None]).astype(np.float64)
    elif target_classes is None or found_classes is None:
        raise InputError("class scores are given for one side alone; give both or neither")
    else:
        alike = _cosines(target_classes, found_classes)
    if alike.shape != (len(targets), len(found)):
        raise InputError(
            f"class scores for {alike.shape[0]} and {alike.shape[1]} boxes, not for the "
            f"{len(targets)} targets and {len(found)} detections; give one row a box"
        )
    overlap = iou_matrix(to_xywh(targets.boxes), to_xywh(found.boxes))
    products = overlap * alike * found.scores.astype(np.float64)[None]
    return np.asarray(products.max(axis=1, initial=0.0), np.float64)


def _cosines(a: npt.NDArray[np.floating[Any]], b: npt.NDArray[np.floating[Any]]) -> Floats:
    """Cosines between rows, shape (N, M); 0 where a row is zero."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"class scores {a.shape} and {b.shape} are not (N, K) and (M, K)")
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    products = a.astype(np.float64) @ b.astype(np.float64).T
    return np.asarray(products / np.where(lengths > 0, lengths, 1.0), np.float64)


def _sums(
    detect: Callable[[Array], Detections],
    source: MaskSource,
    targets: Detections,
    config: SaliencyConfig,
    trials: range,
    progress: Progress | None,
) -> MaskSums:
    """Run the trials and add them up."""
    sums = MaskSums(np.zeros((len(targets), *source.shape)), np.zeros(source.shape))
    if not len(targets):
        return sums
    done = 0
    for indices in _chunks(trials, config.chunk, source.shape):
        masks = source.draw(indices)
        weights = np.empty((len(targets), len(masks)), np.float64)
        for i, mask in enumerate(masks):
            weights[:, i] = mask_weights(targets, detect(mask))
            done += 1
            if progress is not None:
                progress(done, len(trials))
        precise = masks.astype(np.float64)
        # In place: the sums may be hundreds of megabytes.
        sums.masks[...] += precise.sum(axis=0)
        for here, weight in zip(sums.weighted, weights, strict=True):
            here += np.tensordot(weight, precise, axes=1)
    return sums


def _chunks(trials: range, chunk: int, shape: tuple[int, int]) -> Iterator[range]:
    """The trials in portions that fit into memory."""
    room = MAX_CHUNK_BYTES // (12 * shape[0] * shape[1])
    step = max(1, min(chunk, room))
    return (trials[start : start + step] for start in range(0, len(trials), step))


def _footprint(pyramid: Pyramid, source: str, target: str) -> tuple[Array, Array]:
    """Matrices that resize a map of one level to another's rows and columns, pixel for pixel."""
    ratio = pyramid.spec[target].stride / pyramid.spec[source].stride
    rows, columns = (
        interpolation((np.arange(there) + 0.5) * ratio - 0.5, here)
        for there, here in zip(
            pyramid.levels[target].shape[1:], pyramid.levels[source].shape[1:], strict=True
        )
    )
    return rows, columns


def _require_room(count: int, image_size: tuple[int, int]) -> None:
    width, height = image_size
    if count * width * height > MAX_MAP_VALUES:
        raise InputError(
            f"saliency of {count} detections on {width}x{height} pixels exceeds {MAX_MAP_VALUES} "
            "values; explain fewer at once or a smaller image"
        )
