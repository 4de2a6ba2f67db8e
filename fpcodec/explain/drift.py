"""Feature drift: how far evidence moves between the image and the pyramid, object by object.

In some detectors the features that a box is read from lie at the object's centre, wherever in the
image the object's telling parts are (E. Tsykunov's feature-drift study, 2023, by eye). Measured
here: the displacement between D-RISE on the image and D-RISE on the features. Where it is large, a
map made in the image's space does not say which features matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fpcodec.detections import SCALES
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import InputError, ModelError
from fpcodec.explain.class_slice import class_slice
from fpcodec.explain.drise import (
    Progress,
    SaliencyConfig,
    feature_maps_in_image,
    sums_on_features,
    sums_on_image,
)
from fpcodec.explain.heatmaps import centroid, normalised
from fpcodec.explain.targets import Targets
from fpcodec.pyramid import Array, Pyramid

CORE = 0.5
"""Share of a map's range below which it has no say in the centre of its evidence. A map of few
masks is noisy everywhere: the plain centroid of all of it lies near the image's middle."""

MARGIN = 0.5
"""Sides of the box that are looked at beyond it, all around."""

Point = tuple[float, float]
"""``(x, y)`` in image pixels."""


@dataclass(frozen=True)
class ObjectDrift:
    """One object's evidence, in the image and in the features.

    Distances are in diagonals of the box; centres of evidence as ``evidence_centre`` finds them.

    Attributes:
        label: The detection's label index.
        score: Its score.
        iou: Its overlap with the annotated box.
        scale: Its box's COCO scale.
        box: ``x1 y1 x2 y2`` in image pixels.
        image: Centre of evidence of the saliency on the image.
        features: Centre of evidence of the saliency on the features.
        probe: Centre of evidence of the class slice; None where the head scores no classes.
        drift: From ``image`` to ``features``.
        centre_bias: How much nearer to the box's centre ``features`` is than ``image``.
        noise: The drift to be expected of the masks' luck alone, from both maps' two halves.
        squared_drift: ``drift`` squared, in squared diagonals, without what the masks' luck adds:
            the product of both halves' drifts. Below 0 for some objects; its mean over objects is
            the true mean, where ``drift`` and ``centre_bias`` grow with noise.
        squared_bias: ``image``'s squared distance to the box's centre less ``features``', in
            squared diagonals, without that luck as well.
        plain_drift: Between the centroids of the two whole maps, stretched to [0, 1].
        probe_to_features: From ``probe`` to ``features``; None without a probe.
        probe_to_image: From ``probe`` to ``image``; None without a probe.
    """

    label: int
    score: float
    iou: float
    scale: str
    box: tuple[float, float, float, float]
    image: Point
    features: Point
    probe: Point | None
    drift: float
    centre_bias: float
    noise: float
    squared_drift: float
    squared_bias: float
    plain_drift: float
    probe_to_features: float | None
    probe_to_image: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ObjectDrift:
        """Read the form that ``to_dict`` writes.

        Raises:
            InputError: A key is missing or unknown, or a point is none.
        """
        try:
            points = {key: tuple(data[key]) for key in ("box", "image", "features")}
            probe = None if data["probe"] is None else tuple(data["probe"])
            return cls(**{**data, **points, "probe": probe})
        except (KeyError, TypeError) as error:
            raise InputError(f"an object's drift cannot be read: {error}; measure anew") from error


def measure_drift(
    detector: Detector,
    image: Image,
    targets: Targets,
    config: SaliencyConfig,
    progress: Progress | None = None,
) -> list[ObjectDrift]:
    """Measure every target of one image; all share the same masks.

    Args:
        detector: Both halves.
        image: Shape (H, W, 3), uint8, RGB.
        targets: What to explain.
        config: At least 2 masks: their two halves tell the noise.
        progress: Called with masks done and masks in all, of image and features together.

    Raises:
        InputError: There are too few masks, or the image cannot be used.
        ModelError: The detector fails.
    """
    if config.masks < 2:
        raise InputError(f"{config.masks} mask has no two halves to compare; use 2 or more")
    found = targets.detections
    if not len(found):
        return []
    pyramid = detector.extract(image)
    halves = (range(config.masks // 2), range(config.masks // 2, config.masks))
    steps = _Steps(progress, 2 * config.masks)
    on_image = [sums_on_image(detector, image, found, config, half, steps.count) for half in halves]
    on_features = [
        sums_on_features(detector, pyramid, found, config, half, steps.count) for half in halves
    ]
    image_maps = [sums.maps for sums in (*on_image, on_image[0] + on_image[1])]
    feature_maps = [
        feature_maps_in_image(sums, pyramid)
        for sums in (*on_features, on_features[0] + on_features[1])
    ]
    probes = _probes(detector, pyramid, found.labels.tolist())
    return [
        _measured(
            targets, i, [x[i] for x in image_maps], [x[i] for x in feature_maps],
            None if probes is None else probes[i],
        )
        for i in range(len(found))
    ]  # fmt: skip


def evidence_centre(heatmap: Array, box: Sequence[float]) -> Point:
    """Where a map's evidence for a box lies: centroid of what is above half its range nearby.

    Args:
        heatmap: Shape (H, W) of the image.
        box: ``x1 y1 x2 y2`` in image pixels. Twice its width and height around it is looked at:
            the range is the range there.

    Raises:
        InputError: The box lies outside the map, or the map is no map.
    """
    height, width = heatmap.shape
    x1, y1, x2, y2 = box
    dx, dy = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
    left, top = max(0, int(np.floor(x1 - dx))), max(0, int(np.floor(y1 - dy)))
    right, bottom = min(width, int(np.ceil(x2 + dx))), min(height, int(np.ceil(y2 + dy)))
    if left >= right or top >= bottom:
        raise InputError(f"box {x1:g},{y1:g},{x2:g},{y2:g} lies outside {width}x{height} pixels")
    near = normalised(heatmap[top:bottom, left:right])
    x, y = centroid(np.maximum(near - CORE, 0))
    return left + x, top + y


class _Steps:
    """Counts masks over several runs of them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def count(self, done: int, total: int) -> None:
        """One more mask, whatever the run's own count."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _probes(detector: Detector, pyramid: Pyramid, labels: Sequence[int]) -> Array | None:
    try:
        return class_slice(detector, pyramid, labels)
    except ModelError:
        # The head scores objectness alone; the drift itself needs no probe.
        return None


def _measured(
    targets: Targets,
    index: int,
    image_maps: Sequence[Array],
    feature_maps: Sequence[Array],
    probe_map: Array | None,
) -> ObjectDrift:
    """One target, from its maps of the first half, the second half and all masks."""
    found = targets.detections
    x1, y1, x2, y2 = box = found.boxes[index].astype(np.float64).tolist()
    diagonal = math.hypot(x2 - x1, y2 - y1)
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)

    def apart(a: Point, b: Point) -> float:
        return math.hypot(a[0] - b[0], a[1] - b[1]) / diagonal

    def product(a: Sequence[Point], b: Sequence[Point]) -> float:
        """Of what separates a from b in the first half and in the second: luck averages out."""
        apart_x, apart_y = ([p[k] - q[k] for p, q in zip(a, b, strict=True)] for k in (0, 1))
        return (apart_x[0] * apart_x[1] + apart_y[0] * apart_y[1]) / diagonal**2

    on_image = [evidence_centre(x, box) for x in image_maps]
    on_features = [evidence_centre(x, box) for x in feature_maps]
    probe = None if probe_map is None else evidence_centre(probe_map, box)
    # Two halves differ by twice what the whole, of twice the masks, differs from the truth.
    luck = [apart(x[0], x[1]) / 2 for x in (on_image, on_features)]
    plain = [centroid(normalised(x[2])) for x in (image_maps, feature_maps)]
    return ObjectDrift(
        int(found.labels[index]), float(found.scores[index]), float(targets.ious[index]),
        SCALES[int(found.scale_indices[index])], (*map(float, box),),  # type: ignore[arg-type]
        on_image[2], on_features[2], probe,
        drift=apart(on_image[2], on_features[2]),
        centre_bias=apart(on_image[2], middle) - apart(on_features[2], middle),
        noise=math.hypot(*luck),
        squared_drift=product(on_image, on_features),
        squared_bias=product(on_image, [middle] * 3) - product(on_features, [middle] * 3),
        plain_drift=apart(plain[0], plain[1]),
        probe_to_features=None if probe is None else apart(probe, on_features[2]),
        probe_to_image=None if probe is None else apart(probe, on_image[2]),
    )  # fmt: skip
