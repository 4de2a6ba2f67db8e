"""COCO's AP of a set of detections, by faster-coco-eval."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.errors import MissingDependency
from fpcodec.evaluation.matching import MAX_DETECTIONS, checked_category_ids, to_xywh


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's box AP in points, 0 to 100; None where the data has no box of that kind.

    Attributes:
        ap: Over IoU 0.50:0.95.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        ap_small: Over IoU, objects below 32² pixels.
        ap_medium: Objects of 32² to 96² pixels.
        ap_large: Objects above 96² pixels.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None

    def to_dict(self) -> dict[str, float | None]:
        """JSON-able form, attribute name to points."""
        return asdict(self)


def evaluate_ap(
    dataset: CocoDataset, detections: Sequence[Detections], labels: Sequence[str] = ()
) -> AveragePrecision:
    """Score detections against a data set's boxes.

    Args:
        dataset: The annotated boxes.
        detections: One per image, in the data set's order; boxes in original image pixels.
        labels: The detector's label names; empty to take categories by order.

    Raises:
        InputError: The counts disagree, or a label index has no category.
        MissingDependency: faster-coco-eval is not installed.
    """
    category_ids = checked_category_ids(dataset, detections, labels)
    require_coco_eval()
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(_annotations(dataset), print_function=_silence)
    found = COCO(_results(dataset, detections, category_ids), print_function=_silence)
    evaluator = COCOeval_faster(truth, found, "bbox", print_function=_silence)
    evaluator.params.maxDets = [1, 10, MAX_DETECTIONS]
    evaluator.run()
    return AveragePrecision(
        *(None if value < 0 else 100 * float(value) for value in evaluator.stats[:6])
    )


def require_coco_eval() -> None:
    """Find out before a long run whether AP can be computed after it.

    Raises:
        MissingDependency: faster-coco-eval is not installed.
    """
    if importlib.util.find_spec("faster_coco_eval") is None:
        raise MissingDependency(
            'AP needs faster-coco-eval; install it with pip install "fpcodec[bench]"'
        )


def _silence(*_: Any) -> None:
    """Takes what faster-coco-eval would print."""


def _header(dataset: CocoDataset) -> dict[str, Any]:
    return {
        "images": [{"id": x.id, "width": x.width, "height": x.height} for x in dataset.images],
        "categories": [{"id": x.id, "name": x.name} for x in dataset.categories],
    }


def _annotations(dataset: CocoDataset) -> dict[str, Any]:
    """The data set in the form that faster-coco-eval reads."""
    rows = [
        {"id": i, "image_id": box.image_id, "category_id": box.category_id,
         "bbox": list(box.bbox), "area": box.area, "iscrowd": int(box.crowd)}
        for i, box in enumerate(dataset.boxes, 1)
    ]  # fmt: skip
    return {**_header(dataset), "annotations": rows}


def _results(
    dataset: CocoDataset, detections: Sequence[Detections], ids: Sequence[int | None]
) -> dict[str, Any]:
    """Detections in the form that faster-coco-eval reads: what has no category is left out."""
    rows: list[dict[str, Any]] = []
    for image, found in zip(dataset.images, detections, strict=True):
        boxes = to_xywh(found.boxes)
        areas = np.prod(boxes[:, 2:], axis=1)
        for box, area, score, label in zip(boxes, areas, found.scores, found.labels, strict=True):
            if ids[label] is None:
                continue
            rows.append({
                "id": len(rows) + 1, "image_id": image.id, "category_id": ids[label],
                "bbox": box.tolist(), "area": float(area), "score": float(score), "iscrowd": 0,
            })  # fmt: skip
    return {**_header(dataset), "annotations": rows}
