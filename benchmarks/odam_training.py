"""Object discrimination of detectors trained without and with Odam-Train, on the same objects.

    python benchmarks/odam_training.py --images runs/crowds/images \\
        --annotations runs/crowds/annotations.json --detector without=runs/crowd_plain \\
        --detector with=runs/crowd_odam --out benchmarks/results/crowding/odam_train.json

Detectors are FCOS that ``scripts/train_student.py`` wrote. Measured are the annotated objects that
every detector finds (score above 0.3, right class, IoU above 0.5) in pictures with several objects.
Maps are of the whole score, by the whole gradient, and not those that training compares. Intervals
are bootstrapped over pictures; differences are from the first detector, paired.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sure_objects import truths_of

from fpcodec.cli.output import progress_callback
from fpcodec.data.coco import load_coco
from fpcodec.detectors.base import Image
from fpcodec.detectors.decoding import batched_nms
from fpcodec.detectors.small_family import load_small
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval, draw_weights
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.explain.heatmaps import normalised, resize
from fpcodec.explain.metrics import box_mask, energy_in_box, object_discrimination_index
from fpcodec.explain.odam import odam_map
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.pyramid import Array

MIN_SCORE, MIN_IOU, NMS_IOU = 0.3, 0.5, 0.5
MEASURES = ("odi", "energy")
"""Lower is better for the object discrimination index, higher for the energy in the own box."""


class Explained:
    """An FCOS, and ODAM maps of what it finds."""

    def __init__(self, folder: Path) -> None:
        found, self.config = load_small(folder)
        self.model: Any = found.requires_grad_(False)
        self.training: Mapping[str, Any] = json.loads((folder / "training.json").read_text())

    def maps(self, image: Image, boxes: Array, labels: npt.NDArray[np.int64]) -> dict[int, Array]:
        """Annotated box to the map, over the image, of the detection that finds it."""
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
        batch, _ = self.model.transform([pixels])
        leaves = {x: v.requires_grad_() for x, v in self.model.backbone(batch.tensors).items()}
        levels = list(leaves.values())
        outputs = self.model.head(levels)
        anchors = self.model.anchor_generator(batch, levels)[0]
        own = outputs["cls_logits"][0].sigmoid() * outputs["bbox_ctrness"][0].sigmoid()
        # Class 0 is what torchvision leaves to a background that FCOS does not have.
        scores, best = own[:, 1:].sqrt().max(dim=1)
        decoded = self.model.box_coder.decode(outputs["bbox_regression"][0], anchors)
        found = decoded.detach().numpy().astype(np.float32)
        values, kinds = scores.detach().numpy(), best.numpy()
        sure = np.flatnonzero(values > MIN_SCORE)
        kept = sure[batched_nms(found[sure], values[sure], kinds[sure], NMS_IOU)]
        ious = iou_matrix(to_xywh(found[kept]), to_xywh(boxes))
        ious[kinds[kept][:, None] != labels[None]] = 0
        result: dict[int, Array] = {}
        for row, place in enumerate(kept):
            truth = int(ious[row].argmax()) if ious.size else 0
            if not ious.size or ious[row, truth] <= MIN_IOU:
                continue
            ious[:, truth] = 0
            gradients = torch.autograd.grad(
                scores[place], levels, retain_graph=True, allow_unused=True
            )
            total = np.zeros(image.shape[:2], np.float32)
            for level, gradient in zip(levels, gradients, strict=True):
                if gradient is not None and bool(gradient.any()):
                    heat = odam_map(gradient[0].numpy(), level[0].detach().numpy())
                    total += resize(heat, (image.shape[1], image.shape[0]))
            result[truth] = normalised(total)
        return result


def objects_of(
    image: Image, boxes: Array, labels: npt.NDArray[np.int64], detectors: Sequence[Explained]
) -> list[list[dict[str, float]]]:
    """Per object that all detectors find the measures of each."""
    maps = [detector.maps(image, boxes, labels) for detector in detectors]
    masks = [box_mask(box, (image.shape[1], image.shape[0])) for box in boxes]
    rows = []
    for truth in sorted(set.intersection(*(set(found) for found in maps))):
        row = [
            {
                "odi": object_discrimination_index(found[truth], truth, masks),
                "energy": energy_in_box(found[truth], boxes[truth]),
            }
            for found in maps
        ]
        if not any(np.isnan(x["odi"]) for x in row):
            rows.append(row)
    return rows


def interval(
    values: npt.NDArray[np.float64], images: npt.NDArray[np.int64], weights: Any
) -> dict[str, float]:
    """Mean over objects, pictures drawn with replacement."""
    per_object = weights[:, images].astype(np.float64)
    draws = per_object @ values / np.maximum(per_object.sum(axis=1), 1)
    return vars(Interval.of(float(values.mean()), draws))


def measure(args: argparse.Namespace, environment: Environment) -> list[dict[str, Any]]:
    """A row per detector."""
    dataset = load_coco(args.annotations, args.images)
    dataset = dataset if args.limit is None else dataset.limit(args.limit)
    named = {name: Explained(Path(x)) for name, x in (y.split("=", 1) for y in args.detector)}
    objects: list[list[dict[str, float]]] = []
    images: list[int] = []
    labels = next(iter(named.values())).config.classes
    truths = truths_of(dataset, labels)
    with progress_callback("objects") as progress:
        for index, (path, (boxes, classes)) in enumerate(zip(dataset.paths(), truths, strict=True)):
            if len(boxes) > 1:
                found = objects_of(load_image(path), boxes, classes, list(named.values()))
                objects += found
                images += [index] * len(found)
            progress(index + 1, len(dataset))
    if not objects:
        raise InputError("no object is found by every detector; train longer or give more pictures")
    weights = draw_weights(len(dataset), 1000, args.seed)
    where = np.asarray(images)
    rows = []
    for i, (name, detector) in enumerate(named.items()):
        row: dict[str, Any] = {
            "name": name, "training": detector.training, "data": dataset.name,
            "images": len(dataset), "objects": len(objects), "seed": args.seed,
        }  # fmt: skip
        for key in MEASURES:
            values = np.array([x[i][key] for x in objects])
            base = np.array([x[0][key] for x in objects])
            row[key] = interval(values, where, weights)
            row[key]["minus_first"] = interval(values - base, where, weights)
        rows.append({**row, "environment": vars(environment)})
        print(name, {key: row[key] for key in MEASURES})
    return rows


def main(argv: list[str] | None = None) -> None:
    """Read the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="so many pictures")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    command = shlex.join(["python", "benchmarks/odam_training.py", *(argv or sys.argv[1:])])
    rows = measure(args, Environment.capture(command, 1))
    with replacing(args.out) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
