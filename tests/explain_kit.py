"""A detector without a network, whose evidence lies where a test puts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fpcodec.detections import Detections
from fpcodec.detectors.base import HeadOutput
from fpcodec.pyramid import Array, ImageGeometry, LevelSpec, Pyramid, PyramidSpec

SPEC = PyramidSpec((LevelSpec("p3", 4, 2), LevelSpec("p4", 8, 3), LevelSpec("p5", 16, 4)), 16)


@dataclass(frozen=True)
class FakeDetector:
    """Levels are the picture's brightness; two classes, each scored in the cells given.

    Attributes:
        labels: Class names.
        cells: ``(level, class)`` to the ``(row, column)`` that the head scores.
    """

    labels: Sequence[str] = ("a", "b")
    cells: Mapping[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    spec: PyramidSpec = SPEC
    server_macs: int | None = None

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        """The image is the network's input as it is."""
        return ImageGeometry(image_size, image_size, image_size)

    def extract(self, image: np.ndarray, levels: Sequence[str] | None = None) -> Pyramid:
        """Mean brightness of each cell, in [0, 1], on all channels."""
        height, width = image.shape[:2]
        bright = image.mean(axis=2, dtype=np.float32) / 255
        found: dict[str, Array] = {}
        for level in self.spec.levels:
            s = level.stride
            cells = bright.reshape(height // s, s, width // s, s).mean(axis=(1, 3))
            found[level.name] = np.repeat(cells[None], level.channels, 0).astype(np.float32)
        return Pyramid(self.spec, found, self.geometry((width, height)))

    def head(self, pyramid: Pyramid) -> HeadOutput:
        """Scores of two classes: 0.7 in the cells given, 0 elsewhere."""
        scores = {n: np.zeros((2, *x.shape[1:]), np.float32) for n, x in pyramid.levels.items()}
        for (name, label), (row, column) in self.cells.items():
            scores[name][label, row, column] = 0.7
        return HeadOutput(scores, {})

    def response(self, pyramid: Pyramid) -> Mapping[str, Array]:
        """The highest score of a cell."""
        return {name: values.max(axis=0) for name, values in self.head(pyramid).scores.items()}

    def detect(self, pyramid: Pyramid) -> Detections:
        """What a test's own detector finds."""
        raise NotImplementedError

    def macs(self, levels: Sequence[str] | None = None) -> int | None:
        """Not counted."""
        return None


def one_box(box: Sequence[float], score: float, label: int = 0) -> Detections:
    """A single detection."""
    return Detections(
        np.array([box], np.float32), np.array([score], np.float32), np.array([label], np.int64)
    )
