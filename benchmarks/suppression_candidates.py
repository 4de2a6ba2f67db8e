"""Candidates of a data set, with the likeness of their maps: kept on disk, a file per picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fpcodec.cli.output import progress_callback
from fpcodec.data.coco import CocoDataset
from fpcodec.detectors.base import Image
from fpcodec.detectors.decoding import batched_nms
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.small_family import load_small
from fpcodec.errors import InputError
from fpcodec.explain.candidates import Candidates, fcos_candidates
from fpcodec.explain.odam_detector import open_candidates
from fpcodec.explain.odam_nms import OdamRule, best_first, likeness
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.pyramid import Array, ImageGeometry


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
        self.labels: Sequence[str]
        self.iou: float
        self.most: int
        self._of: Callable[[Image], tuple[Callable[[], Candidates], ImageGeometry]]
        if kind == "small":
            self._open_small(Path(folder))
            return
        detector = open_detector(description, threads=1)
        source = open_candidates(detector)
        self.labels, self.iou, self.most = detector.labels, source.iou, source.most

        def of(image: Image) -> tuple[Callable[[], Candidates], ImageGeometry]:
            pyramid = detector.extract(image)
            return lambda: source.candidates(pyramid), pyramid.geometry

        self._of = of

    def _open_small(self, folder: Path) -> None:
        found, config = load_small(folder)
        model: Any = found.requires_grad_(False)
        self.labels, self.iou, self.most = config.classes, model.nms_thresh, 100

        def of(image: Image) -> tuple[Callable[[], Candidates], ImageGeometry]:
            size = (image.shape[1], image.shape[0])
            if size != config.size:
                raise InputError(f"{folder} takes pictures of {config.size}; resize them first")
            with torch.no_grad():
                pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
                batch, _ = model.transform([pixels])
                levels = list(model.backbone(batch.tensors).values())
            height, width = batch.tensors.shape[-2:]
            network = (int(width), int(height))
            geometry = ImageGeometry(size, network, size)
            return lambda: fcos_candidates(model, levels, size, network, True), geometry

        self._of = of

    def find(self, image: Image, rule: OdamRule) -> Found:
        """One picture's candidates and their likeness."""
        candidates, geometry = self._of(image)
        start = time.process_time()
        found = candidates()
        batched_nms(found.boxes, found.scores, found.labels, self.iou, self.most)
        middle = time.process_time()
        width, height = geometry.network_size
        grid = (-(-width // rule.stride), -(-height // rule.stride))
        alike = likeness(found.maps(best_first(found.scores, rule.candidates), grid))
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
