"""The contract that every detector adapter keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fpcodec.detections import Detections
from fpcodec.pyramid import Array, ImageGeometry, Pyramid, PyramidSpec

Image = npt.NDArray[np.uint8]
"""An image, shape (H, W, 3), uint8, RGB."""


@dataclass(frozen=True)
class HeadOutput:
    """What a detector's head says before boxes are selected.

    Attributes:
        scores: Level name to class scores in [0, 1], shape (K, H, W); K counts classes for a
            one-stage head and anchors for an RPN's objectness.
        boxes: Level name to box values as the head gives them, shape (4 or 4·anchors, H, W).
        of_classes: Whether K counts classes.
    """

    scores: Mapping[str, Any]
    boxes: Mapping[str, Any]
    of_classes: bool = True


class Detector(Protocol):
    """A detector cut at its feature pyramid: the edge extracts, the server detects."""

    @property
    def spec(self) -> PyramidSpec:
        """The pyramid at the cut."""

    @property
    def labels(self) -> Sequence[str]:
        """Class names; ``Detections.labels`` indexes them. May be empty where unknown."""

    def extract(self, image: Image, levels: Sequence[str] | None = None) -> Pyramid:
        """Run backbone and pyramid on one image.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
            levels: Level names to compute; None for all coded (not derived) levels. Work that
                only other levels need is skipped.

        Raises:
            InputError: The image is empty, too large or of another type; a level is unknown.
        """

    def head(self, pyramid: Pyramid) -> HeadOutput:
        """Run the head on a pyramid with every level present."""

    def response(self, pyramid: Pyramid) -> Mapping[str, Array]:
        """Response S: per level the head's highest class score, shape (H, W), float32.

        RPN objectness for two-stage detectors; this is FRS's mask (Du et al., NeurIPS 2021).
        """

    def detect(self, pyramid: Pyramid) -> Detections:
        """Run the head and select boxes. Derived levels that are absent are computed."""

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        """How an image of ``(width, height)`` pixels lies in the network's input.

        Args:
            image_size: ``(width, height)`` of the original image.
            network_size: The input size that was used, where it is known (a frame carries it);
                None to work it out.
        """

    def macs(self, levels: Sequence[str] | None = None) -> int | None:
        """Multiply-accumulates ``extract`` spends on these levels; None where unknown.

        Counted for the fixed input size, or for the last image where sizes vary.
        """

    @property
    def server_macs(self) -> int | None:
        """Multiply-accumulates of the head; None where unknown.

        Counted for the fixed input size, or for the last pyramid where sizes vary.
        """
