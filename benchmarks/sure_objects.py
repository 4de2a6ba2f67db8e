"""Detections that are right beyond doubt, and measurements of them that a killed run goes on from.

They are those of ODAM's evaluation (Zhao and Chan, ICLR 2023): score above 0.1, right class, IoU
above 0.9 with an annotated box, one to one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kept_work import read_lines

from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.detectors.decoding import batched_nms
from fpcodec.errors import InputError
from fpcodec.evaluation.matching import iou_matrix, to_xywh

MIN_SCORE, MIN_IOU, NMS_IOU, MOST_BOXES = 0.1, 0.9, 0.5, 100

_DONE = "objects.jsonl"


@dataclass(frozen=True)
class Objects:
    """What is explained in one image.

    Attributes:
        indices: Shape (N,): positions among the detector's detections.
        truths: Shape (N,): positions among the image's annotated boxes.
        boxes: Shape (M, 4): all annotated boxes but crowds, ``x1 y1 x2 y2`` in image pixels.
    """

    indices: npt.NDArray[np.int64]
    truths: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]


def choose(found: Detections, boxes: npt.NDArray[np.float32],
           labels: npt.NDArray[np.int64]) -> Objects:  # fmt: skip
    """The detections that are right beyond doubt, and the box of each.

    Args:
        found: All detections of an image, best first.
        boxes: Shape (M, 4): annotated boxes.
        labels: Shape (M,): their labels as the detector counts; -1 for none of its own.
    """
    kept = batched_nms(found.boxes, found.scores, found.labels, NMS_IOU, MOST_BOXES)
    kept = kept[found.scores[kept] > MIN_SCORE]
    ious = iou_matrix(to_xywh(found.boxes[kept]), to_xywh(boxes))
    ious[found.labels[kept][:, None] != labels[None]] = 0
    indices: list[int] = []
    truths: list[int] = []
    for row, index in enumerate(kept):
        # Best score first, each to the best box that nobody has yet.
        free = np.where(np.isin(np.arange(len(boxes)), truths), 0, ious[row])
        if len(free) and free.max() > MIN_IOU:
            indices.append(int(index))
            truths.append(int(free.argmax()))
    return Objects(np.asarray(indices, np.int64), np.asarray(truths, np.int64), boxes)


def truths_of(dataset: CocoDataset, labels: Sequence[str]
              ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:  # fmt: skip
    """Per image the annotated boxes, crowds left out, and their labels as the detector counts."""
    label_of = {c: i for i, c in enumerate(dataset.category_ids(labels)) if c is not None}
    boxes: dict[int, list[list[float]]] = {image.id: [] for image in dataset.images}
    names: dict[int, list[int]] = {image.id: [] for image in dataset.images}
    for box in dataset.boxes:
        if not box.crowd and min(box.bbox[2:]) > 0:
            x, y, width, height = box.bbox
            boxes[box.image_id].append([x, y, x + width, y + height])
            names[box.image_id].append(label_of.get(box.category_id, -1))
    for image in dataset.images:
        yield (np.asarray(boxes[image.id], np.float32).reshape(-1, 4),
               np.asarray(names[image.id], np.int64))  # fmt: skip


def collect(dataset: CocoDataset, measured: Callable[[int], list[dict[str, Any]]], wanted: int,
            work: Path, progress: Callable[[int, int], None]) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of images in their order until there are so many, those already in ``work`` first.

    Args:
        dataset: The images.
        measured: From an image's position to its rows, one per object.
        wanted: Objects, at least.
        work: Keeps what is done.
        progress: Called with objects done and objects wanted.

    Raises:
        InputError: No image has a row.
    """
    done = {int(x["image"]): x for x in read_lines(work / _DONE)}
    rows = [row for entry in done.values() for row in entry["rows"]]
    with (work / _DONE).open("a", encoding="utf-8") as file:
        for position, image in enumerate(dataset.images):
            progress(min(len(rows), wanted), wanted)
            if len(rows) >= wanted:
                break
            if image.id in done:
                continue
            found = measured(position)
            file.write(json.dumps({"image": image.id, "rows": found}, allow_nan=False) + "\n")
            file.flush()
            rows.extend(found)
    if not rows:
        raise InputError(f"{dataset.name}: no detection is right beyond doubt; give more images")
    return rows
