"""Measures feature drift over a data set, image by image, and goes on where a run was killed.

OUT/images/<id>.json    one image's objects; written under a temporary name and renamed
OUT/rows.json           all objects, means with intervals, environment
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.data.coco import CocoDataset, CocoImage
from fpcodec.detectors.base import Detector
from fpcodec.errors import InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.levels.detector_source import DetectorSource
from fpcodec.explain.drift import CORE, MARGIN, ObjectDrift, measure_drift
from fpcodec.explain.drift_summary import summarise
from fpcodec.explain.drise import SaliencyConfig
from fpcodec.explain.targets import Targets, right_detections
from fpcodec.files import replacing
from fpcodec.images import load_image

FORMAT = 1
RESULT = "rows.json"
IMAGES = "images"

Progress = Callable[[str, int, int], None]
"""Called with the stage, steps done and steps in all."""


@dataclass(frozen=True)
class DriftStudy:
    """A study to run.

    Attributes:
        source: The detector.
        dataset: Images and boxes, taken in their order until there are enough objects.
        folder: Where results go.
        objects: How many objects to measure.
        per_image: Most objects of one image, the best-scored ones.
        saliency: Masks.
        environment: Kept in the result.
        min_score: Only detections above it are measured.
        min_iou: And only those that overlap an annotated box of their class by more.
    """

    source: DetectorSource
    dataset: CocoDataset
    folder: Path
    objects: int
    per_image: int
    saliency: SaliencyConfig
    environment: Environment
    min_score: float = 0.5
    min_iou: float = 0.5

    def __post_init__(self) -> None:
        if self.objects < 1 or self.per_image < 1:
            raise InputError(
                f"{self.objects} objects, {self.per_image} per image: use 1 or more of both"
            )

    def settings(self) -> dict[str, Any]:
        """JSON-able: what an object's numbers depend on, besides detector and data."""
        saliency = {k: v for k, v in asdict(self.saliency).items() if k != "chunk"}
        return {
            **saliency, "per_image": self.per_image, "min_score": self.min_score,
            "min_iou": self.min_iou, "core": CORE, "margin": MARGIN,
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Hex sha256 of what all images of a folder have in common; not the number of objects."""
        dataset = asdict(self.dataset)
        facts = [FORMAT, self.source.identity(), self.settings(), dataset["images"],
                 dataset["boxes"], dataset["categories"]]  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def run_drift(
    study: DriftStudy, progress: Progress = lambda stage, done, total: None
) -> dict[str, Any]:
    """Measure the images that the folder does not hold yet, and sum up.

    Args:
        study: What to measure.
        progress: Called with ``objects`` after each image, with ``masks`` during one.

    Returns:
        What ``OUT/rows.json`` holds: ``rows``, one object each with its image's ``file``;
        ``summary`` by scale and measure with ``n``, ``mean``, ``low``, ``high``; ``settings``.

    Raises:
        InputError: The folder holds another study, an image cannot be used, or no detection is
            right.
        ModelError: The detector fails.
    """
    detector, fingerprint = study.source.open(), study.fingerprint()
    truths = _Truths.of(study.dataset, detector.labels)
    measured: list[tuple[str, ObjectDrift]] = []
    seen = 0
    progress("objects", 0, study.objects)
    for image in study.dataset.images:
        if len(measured) >= study.objects:
            break
        file = study.folder / IMAGES / f"{image.id}.json"
        objects = _read(file, fingerprint)
        if objects is None:
            objects = _measure(study, detector, image, truths, progress)
            _write(file, {"fingerprint": fingerprint, "file": image.file_name,
                          "objects": [x.to_dict() for x in objects]})  # fmt: skip
        measured += [(image.file_name, x) for x in objects]
        seen += 1
        progress("objects", min(len(measured), study.objects), study.objects)
    # The last image may have brought more than were asked for.
    result = _result(study, measured[: study.objects], seen, fingerprint)
    _write(study.folder / RESULT, result)
    return result


@dataclass(frozen=True)
class _Truths:
    """Annotated boxes by image id, crowds and classes that the detector lacks left out."""

    boxes: Mapping[int, Sequence[tuple[float, float, float, float]]]
    labels: Mapping[int, Sequence[int]]

    @classmethod
    def of(cls, dataset: CocoDataset, labels: Sequence[str]) -> _Truths:
        label_of = {
            category: label
            for label, category in enumerate(dataset.category_ids(tuple(labels)))
            if category is not None
        }
        boxes: dict[int, list[tuple[float, float, float, float]]] = {}
        indices: dict[int, list[int]] = {}
        for box in dataset.boxes:
            if not box.crowd and box.category_id in label_of:
                boxes.setdefault(box.image_id, []).append(box.bbox)
                indices.setdefault(box.image_id, []).append(label_of[box.category_id])
        return cls(boxes, indices)


def _measure(
    study: DriftStudy, detector: Detector, image: CocoImage, truths: _Truths, progress: Progress
) -> list[ObjectDrift]:
    pixels = load_image(study.dataset.path(image))
    targets: Targets = right_detections(
        detector.detect(detector.extract(pixels)),
        np.array(truths.boxes.get(image.id, []), np.float64).reshape(-1, 4),
        np.array(truths.labels.get(image.id, []), np.int64),
        limit=study.per_image, min_score=study.min_score, min_iou=study.min_iou,
    )  # fmt: skip
    return measure_drift(
        detector, pixels, targets, study.saliency, lambda *steps: progress("masks", *steps)
    )


def _result(
    study: DriftStudy, measured: Sequence[tuple[str, ObjectDrift]], seen: int, fingerprint: str
) -> dict[str, Any]:
    if not measured:
        raise InputError(
            f"{study.dataset.name}: in {seen} images no detection scores above {study.min_score} "
            f"and overlaps a box of its class by {study.min_iou}; check labels and annotations"
        )
    return {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "detector": study.source.identity(),
        "data": study.dataset.name,
        "images": seen,
        "objects": len(measured),
        "settings": study.settings(),
        "environment": asdict(study.environment),
        "summary": {
            group: {measure: asdict(interval) for measure, interval in found.items()}
            for group, found in summarise([x for _, x in measured]).items()
        },
        "rows": [{"file": name, **x.to_dict()} for name, x in measured],
    }


def _read(file: Path, fingerprint: str) -> list[ObjectDrift] | None:
    """An image's objects as an earlier run found them; None where it did not come so far."""
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_text("utf-8"))
        same, objects = data["fingerprint"] == fingerprint, list(data["objects"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and run again") from error
    if not same:
        raise InputError(
            f"{file} is of another detector, data set or setting; choose another --out"
        )
    return [ObjectDrift.from_dict(x) for x in objects]


def _write(file: Path, value: Mapping[str, Any]) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", "utf-8")
