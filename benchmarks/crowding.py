"""Odam-NMS beside NMS and soft-NMS: AP and recall on the same candidates, with paired intervals.

    python scripts/draw_scenes.py --crowded --first-seed 20000 --count 450 --out runs/crowds
    python benchmarks/crowding.py --images runs/crowds/images \\
        --annotations runs/crowds/annotations.json --detector tiny --choose 150 \\
        --work runs/crowding/tiny --out benchmarks/results/crowding/tiny.json

Every way's thresholds are those of the highest AP on the first ``--choose`` pictures; measured is
on the others. ``small:FOLDER`` is an FCOS that ``scripts/train_student.py`` wrote. Candidates and
the likeness of their maps are kept in ``--work``: killed, it goes on there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from soft_nms import batched_soft_nms
from suppression_candidates import Found, Source, collect

from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detections import Detections
from fpcodec.detectors.decoding import batched_nms
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval, average_precision, draw_weights, weighted_ap
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.matching import IOU_THRESHOLDS, Floats, Matches, match_detections
from fpcodec.explain.odam_nms import OdamRule, odam_nms
from fpcodec.files import replacing

METRICS = ("ap", "ap50", "ar100", "recall50")
IOUS = (0.4, 0.5, 0.6, 0.7, 0.8)
SIGMAS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
LOWS = (float("-inf"), 0.1, 0.2, 0.3, 0.5)
HIGHS = (0.7, 0.8, 0.9, 0.95, float("inf"))


@dataclass(frozen=True)
class Way:
    """One suppression with its thresholds.

    Attributes:
        name: Of the kind.
        settings: Its thresholds.
        select: From a picture's candidates to what is left of them.
    """

    name: str
    settings: dict[str, float]
    select: Callable[[Found], Detections]


def nms(iou: float, most: int, name: str = "NMS") -> Way:
    """Plain suppression."""

    def select(found: Found) -> Detections:
        kept = batched_nms(found.boxes, found.scores, found.labels, iou, most)
        return Detections(found.in_image(kept), found.scores[kept], found.labels[kept])

    return Way(name, {"iou": iou}, select)


def soft(sigma: float, most: int) -> Way:
    """Gaussian soft-NMS."""

    def select(found: Found) -> Detections:
        kept, scores = batched_soft_nms(found.boxes, found.scores, found.labels, sigma, most)
        return Detections(found.in_image(kept), scores, found.labels[kept])

    return Way("soft-NMS", {"sigma": sigma}, select)


def odam(iou: float, low: float, high: float, most: int, name: str = "Odam-NMS") -> Way:
    """By overlap and likeness of maps."""
    rule = OdamRule(low, high)

    def select(found: Found) -> Detections:
        kept = odam_nms(found.boxes, found.scores, found.labels, found.alike, iou, rule, most)
        return Detections(found.in_image(kept), found.scores[kept], found.labels[kept])

    return Way(name, {"iou": iou, "low": low, "high": high}, select)


def families(source: Source) -> list[list[Way]]:
    """Kinds of suppression, each with the thresholds to choose from; one where none are chosen."""
    most = source.most
    thresholds = [
        (iou, low, high) for iou, low, high in product(IOUS, LOWS, HIGHS)
        if np.isfinite(low) or np.isfinite(high)
    ]  # fmt: skip
    return [
        [nms(iou, most) for iou in IOUS],
        [nms(source.iou, most, "NMS, as shipped")],
        [soft(sigma, most) for sigma in SIGMAS],
        [odam(*x, most) for x in thresholds],
        [odam(0.5, 0.2, 0.8, most, "Odam-NMS, as published")],
    ]


def choose(
    ways: Sequence[Way], dataset: CocoDataset, found: Sequence[Found], labels: Sequence[str]
) -> Way:
    """The way of the highest AP; the first of several."""
    if len(ways) == 1:
        return ways[0]
    scores = [
        average_precision(match_detections(dataset, [way.select(x) for x in found], labels))
        for way in ways
    ]
    return ways[int(np.nanargmax(scores))]


def measures(matches: Matches, weights: Any) -> dict[str, Floats]:
    """Every one of METRICS in each draw, in points."""
    loose = replace(
        matches,
        categories=tuple(
            replace(x, hits=x.hits[:1], ignored=x.ignored[:1]) for x in matches.categories
        ),
    )
    return {
        "ap": weighted_ap(matches, weights),
        # It averages over ten thresholds, of which one is left.
        "ap50": len(IOU_THRESHOLDS) * weighted_ap(loose, weights),
        "ar100": recall(matches, weights),
        "recall50": recall(loose, weights),
    }


def recall(matches: Matches, weights: Any) -> Floats:
    """Recall averaged over the matches' IoU thresholds and then over categories, in points."""
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for category in matches.categories:
        truths = weights @ category.truths
        images = [category.images[hits] for hits in category.hits]
        hits = [weights @ np.bincount(x, minlength=matches.image_count) for x in images]
        total += np.where(truths > 0, np.mean(hits, axis=0) / np.maximum(truths, 1), 0)
        counted += truths > 0
    return np.asarray(100 * total / np.maximum(counted, 1))


def measure(args: argparse.Namespace, environment: Environment) -> list[dict[str, Any]]:
    """A row per kind of suppression."""
    rule = OdamRule(candidates=args.candidates, stride=args.stride)
    dataset = load_coco(args.annotations, args.images)
    dataset = dataset if args.limit is None else dataset.limit(args.limit)
    if not 0 < args.choose < len(dataset):
        raise InputError(f"--choose {args.choose} leaves none of {len(dataset)} pictures; use less")
    source = Source(args.detector)
    found = collect(source, dataset, rule, args.work)
    first, rest = split(dataset, args.choose)
    chosen = [choose(ways, first, found[: args.choose], source.labels) for ways in families(source)]
    weights = draw_weights(len(rest), 1000, args.seed)
    once = np.ones((1, len(rest)), np.int32)
    facts = {
        "detector": args.detector, "data": dataset.name, "images": len(rest),
        "chosen_on": args.choose, "candidates": rule.candidates, "stride": rule.stride,
        "seed": args.seed,
        "maps_by_plain": float(np.median([x.maps_s / x.plain_s for x in found])),
        "environment": vars(environment),
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    base: dict[str, Floats] = {}
    for way in chosen:
        matches = match_detections(
            rest, [way.select(x) for x in found[args.choose :]], source.labels
        )
        own, draws = measures(matches, once), measures(matches, weights)
        base = base or {x: np.append(own[x], draws[x]) for x in METRICS}
        row: dict[str, Any] = {"way": way.name, "settings": _finite(way.settings)}
        for metric in METRICS:
            value = float(own[metric][0])
            minus = Interval.of(value - base[metric][0], draws[metric] - base[metric][1:])
            row[metric] = vars(Interval.of(value, draws[metric])) | {"minus_nms": vars(minus)}
        rows.append(row | facts)
        print(way.name, row["settings"], {x: round(row[x]["value"], 1) for x in METRICS})
    return rows


def split(dataset: CocoDataset, count: int) -> tuple[CocoDataset, CocoDataset]:
    """The first pictures, and the others."""
    parts = []
    for images in (dataset.images[:count], dataset.images[count:]):
        names = {image.id for image in images}
        boxes = tuple(box for box in dataset.boxes if box.image_id in names)
        parts.append(replace(dataset, images=images, boxes=boxes))
    return parts[0], parts[1]


def _finite(settings: dict[str, float]) -> dict[str, float | None]:
    """Infinity is no number of JSON: None says that the rule is off."""
    return {name: value if np.isfinite(value) else None for name, value in settings.items()}


def main(argv: list[str] | None = None) -> None:
    """Read the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", required=True, metavar="SPEC")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--choose", type=int, default=150, help="pictures that choose thresholds")
    parser.add_argument("--limit", type=int, help="so many pictures in all")
    parser.add_argument("--candidates", type=int, default=100, help="boxes that have maps")
    parser.add_argument("--stride", type=int, default=OdamRule.stride, help="of the maps' grid")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--work", type=Path, required=True, help="folder of what is done")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    command = shlex.join(["python", "benchmarks/crowding.py", *(argv or sys.argv[1:])])
    rows = measure(args, Environment.capture(command, 1))
    with replacing(args.out) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
