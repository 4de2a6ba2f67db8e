"""The cheap probe: what a dense head says of one class, place by place, after a single run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fpcodec.detectors.base import Detector
from fpcodec.errors import ModelError
from fpcodec.explain.heatmaps import to_image
from fpcodec.pyramid import Array, Pyramid


def class_slice(detector: Detector, pyramid: Pyramid, labels: Sequence[int]) -> Array:
    """Where the head scores a class: its raw scores of all levels, brought to the image.

    The highest over the levels at each pixel. It shows a class, not an object: others of the class
    are in it too.

    Args:
        detector: One whose head scores every label, as one-stage detectors do.
        pyramid: Every level; derived ones may be absent.
        labels: N label indices, as ``Detections.labels``.

    Returns:
        Shape (N, H, W) of the original image, float32, each map's highest value 1; zeros where
        the head scores nothing.

    Raises:
        ModelError: The head scores no classes (a two-stage detector's is objectness), or has no
            such label.
        InputError: A level is missing.
    """
    head = detector.head(pyramid)
    scores = head.scores
    channels = {len(values) for values in scores.values()}
    count = len(detector.labels)
    # As many anchors as there are labels are no classes yet.
    if not head.of_classes or len(channels) != 1 or (count and channels != {count}):
        raise ModelError(
            f"the head has {', '.join(map(str, sorted(channels)))} score channels a level for "
            f"{count} labels: it scores objectness, not classes; use a one-stage detector"
        )
    geometry = pyramid.geometry
    width, height = geometry.image_size
    strides = {level.name: level.stride for level in pyramid.spec.levels}
    maps = np.zeros((len(labels), height, width), np.float32)
    for here, label in zip(maps, labels, strict=True):
        if not 0 <= label < min(channels):
            raise ModelError(f"label {label} is not in 0..{min(channels) - 1}, the head's classes")
        for name, values in scores.items():
            # A level that the head adds itself is taken to cover the network's input.
            found = to_image(np.asarray(values[label]), geometry, strides.get(name))
            np.maximum(here, found, out=here)
        here /= max(float(here.max()), np.finfo(np.float32).tiny)
    return maps
