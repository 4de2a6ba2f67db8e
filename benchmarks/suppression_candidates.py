"""Candidates of a data set, with the likeness of their maps: kept on disk, a file per picture."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fpcodec.cli.output import progress_callback
from fpcodec.data.coco import CocoDataset
from fpcodec.detectors.base import Detector, Image
from fpcodec.detectors.decoding import batched_nms
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.small_torch import SmallTorchDetector
from fpcodec.explain.odam_detector import open_candidates, score_maps
from fpcodec.explain.odam_nms import OdamRule, likeness
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.pyramid import Array


@dataclass(frozen=True)
class Found:
    """One picture's candidates.

    Attributes:
        boxes: Shape (N, 4), float32, in network pixels.
        scores: Shape (N,), float32.
        labels: Shape (N,), int64.
        alike: Likeness of the best M, (M, M), float32.
        scale: Network pixels per picture pixel, ``(x, y)``.
        offset: Of the picture in the network's input, ``(x, y)``.
        size: ``(width, height)`` of the picture.
        plain_s: CPU seconds of the head and plain suppression.
        maps_s: CPU seconds of the maps and their likeness.
    """

    boxes: Array
    scores: Array
    labels: npt.NDArray[np.int64]
    alike: Array
    scale: Array
    offset: Array
    size: Array
    plain_s: float
    maps_s: float

    def in_image(self, kept: npt.NDArray[np.int64]) -> Array:
        """Boxes in pixels of the picture, clipped to it."""
        shift, scale = np.tile(self.offset, 2), np.tile(self.scale, 2)
        boxes = (self.boxes[kept] - shift) / scale
        return np.asarray(np.clip(boxes, 0, np.tile(self.size, 2)), np.float32)


class Source:
    """What gives candidates: a detector as it is opened everywhere, or ``small:FOLDER``."""

    def __init__(self, description: str) -> None:
        kind, _, folder = description.partition(":")
        detector: Detector = (
            SmallTorchDetector.from_folder(Path(folder), threads=1) if kind == "small"
            else open_detector(description, threads=1)
        )  # fmt: skip
        source = open_candidates(detector)
        self.labels, self.iou, self.most = detector.labels, source.iou, source.most
        self._detector, self._candidates = detector, source.candidates

    def find(self, image: Image, rule: OdamRule) -> Found:
        """One picture's candidates and their likeness."""
        pyramid = self._detector.extract(image)
        geometry, start = pyramid.geometry, time.process_time()
        found = self._candidates(pyramid)
        batched_nms(found.boxes, found.scores, found.labels, self.iou, self.most)
        middle = time.process_time()
        alike = likeness(score_maps(found, pyramid, rule))
        end = time.process_time()
        return Found(
            found.boxes, found.scores, found.labels, alike,
            np.asarray(geometry.scale, np.float32), np.asarray(geometry.offset, np.float32),
            np.asarray(geometry.image_size, np.float32), middle - start, end - middle,
        )  # fmt: skip


def collect(source: Source, dataset: CocoDataset, rule: OdamRule, folder: Path) -> list[Found]:
    """Every picture's candidates; those on disk are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    with progress_callback("candidates") as progress:
        for index, (entry, path) in enumerate(zip(dataset.images, dataset.paths(), strict=True)):
            kept = folder / f"{entry.id}.npz"
            if not kept.is_file():
                found = source.find(load_image(path), rule)
                with replacing(kept) as temporary, temporary.open("wb") as file:
                    np.savez(file, allow_pickle=False, **vars(found))
            with np.load(kept) as data:
                result.append(Found(**{name: data[name] for name in data.files}))
            progress(index + 1, len(dataset))
    return result
