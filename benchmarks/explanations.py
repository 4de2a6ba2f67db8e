"""What explanations of single detections are worth: ODAM beside Grad-CAM, HiResCAM and D-RISE.

    python benchmarks/explanations.py --images ../shared/data/coco/val \\
        --annotations ../shared/data/coco/val.json --objects 300 \\
        --work runs/explanations --out benchmarks/results/explanations/rows.json --detector \\
        "onnx:../shared/models/yolox_nano.onnx?p3=input.471&p4=input.531&p5=input.591&decode=yolox"

Explained are detections that are right beyond doubt, as in ODAM (Zhao and Chan, ICLR 2023): score
above 0.1, right class, IoU above 0.9 with an annotated box, one to one. Every method explains the
same detections; maps are stretched to [0, 1] over the original image. Intervals are bootstrapped
over objects, and paired for differences from ODAM. Killed, it goes on in its ``--work`` folder.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kept_work import check_settings
from PIL import Image as PillowImage
from sure_objects import MIN_IOU, MIN_SCORE, NMS_IOU, Objects, choose, collect, truths_of

from fpcodec.cli.output import progress_callback
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detections import SCALES, Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.detectors.factory import open_detector
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval, draw_weights
from fpcodec.evaluation.environment import Environment
from fpcodec.explain.drise import SaliencyConfig, saliency_on_features, saliency_on_image
from fpcodec.explain.heatmaps import normalised
from fpcodec.explain.metrics import (
    box_mask,
    compactness,
    energy_in_box,
    has_one_peak,
    object_discrimination_index,
    pointing_game_box,
)
from fpcodec.explain.odam import ATTRIBUTES, explain, grad_cam_map
from fpcodec.explain.perturbation import Target, deletion, insertion
from fpcodec.explain.predictions import Predictor, open_predictor
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.pyramid import Array, Pyramid

METHODS = ("odam", "hirescam", "grad-cam", "drise", "drise-features")
METRICS = ("pointing_game", "energy", "compactness", "odi", "deletion", "insertion", "seconds")
"""Higher is better for the pointing game, energy and insertion; lower for the others."""


@dataclass(frozen=True)
class Bench:
    """What measures.

    Attributes:
        detector: Both halves.
        predictor: The same with gradients.
        methods: Some of METHODS.
        saliency: D-RISE's settings.
        budget: Of deletion and insertion: ``object`` or ``image``.
        seed: Of deletion's colours.
    """

    detector: Detector
    predictor: Predictor
    methods: Sequence[str]
    saliency: SaliencyConfig
    budget: str
    seed: int

    def detect(self, image: Image) -> Detections:
        """The whole detector."""
        return self.detector.detect(self.detector.extract(image))


def maps_of(method: str, bench: Bench, image: Image, pyramid: Pyramid, found: Detections,
            objects: Objects) -> tuple[Array, float]:  # fmt: skip
    """A map in [0, 1] per object, (N, H, W), and the seconds one object took.

    What a method does once for an image is shared among its objects.
    """
    start = time.perf_counter()
    if method in ("drise", "drise-features"):
        at = objects.indices
        targets = Detections(found.boxes[at], found.scores[at], found.labels[at])
        if method == "drise":
            raw = saliency_on_image(bench.detector, image, targets, bench.saliency)
        else:
            raw = saliency_on_features(bench.detector, pyramid, targets, bench.saliency)
        maps = [normalised(x) for x in raw]
    else:
        predictions = bench.predictor(pyramid)
        attributes = ATTRIBUTES if method == "odam" else ("score",)
        rule = grad_cam_map if method == "grad-cam" else None
        maps = [
            explain(predictions, int(i), attributes, rule=rule).on_image() for i in objects.indices
        ]
    seconds = (time.perf_counter() - start) / len(objects.indices)
    return np.stack(maps), seconds


def measure(heatmap: Array, place: int, objects: Objects, label: int, bench: Bench,
            small: Image, scale: tuple[float, float]) -> dict[str, Any]:  # fmt: skip
    """All measures of one object's map.

    Args:
        heatmap: Over the original image, in [0, 1].
        place: Which of the image's explained objects.
        objects: All of them.
        label: Of this one.
        bench: Holds the detector.
        small: The image at the network's size.
        scale: Its pixels per image pixel.
    """
    truth = int(objects.truths[place])
    box = objects.boxes[truth]
    size = heatmap.shape[1], heatmap.shape[0]
    masks = [box_mask(x, size) for x in objects.boxes]
    target = Target(tuple(float(x) for x in box * np.asarray(scale * 2)), label)  # type: ignore[arg-type]
    values: dict[str, float | bool | None] = {
        "pointing_game": float(pointing_game_box(heatmap, box)),
        "energy": energy_in_box(heatmap, box),
        "compactness": compactness(heatmap, box),
        "odi": object_discrimination_index(heatmap, truth, masks),
        "one_peak": has_one_peak(heatmap),
    }
    try:
        lost = deletion(bench.detect, small, heatmap, target, budget=bench.budget, seed=bench.seed)
        won = insertion(bench.detect, small, heatmap, target, budget=bench.budget)
        values |= {"deletion": lost.area, "insertion": won.area}
    except InputError:
        # Resizing before the network, instead of in it, cost the detection itself.
        values |= {"deletion": None, "insertion": None}
    return {k: None if v is not None and np.isnan(v) else v for k, v in values.items()}


def measure_image(bench: Bench, dataset: CocoDataset, position: int,
                  truths: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
                  ) -> list[dict[str, Any]]:  # fmt: skip
    """A row per object of an image that can be explained."""
    entry = dataset.images[position]
    image = load_image(dataset.path(entry))
    pyramid = bench.detector.extract(image)
    found = bench.detector.detect(pyramid)
    objects = choose(found, *truths)
    if not len(objects.indices):
        return []
    geometry = pyramid.geometry
    picture = PillowImage.fromarray(image)
    small = np.asarray(picture.resize(geometry.content_size, PillowImage.Resampling.BILINEAR))
    rows: list[dict[str, Any]] = [
        {"object": int(t), "label": int(found.labels[i]), "score": float(found.scores[i]),
         "scale": SCALES[int(found.scale_indices[i])], "others": len(objects.boxes) - 1,
         "methods": {}}
        for i, t in zip(objects.indices, objects.truths, strict=True)
    ]  # fmt: skip
    for method in bench.methods:
        maps, seconds = maps_of(method, bench, image, pyramid, found, objects)
        for place, row in enumerate(rows):
            values = measure(maps[place], place, objects, row["label"], bench, small,
                             geometry.scale)  # fmt: skip
            row["methods"][method] = {**values, "seconds": seconds}
    return rows


def run(bench: Bench, dataset: CocoDataset, wanted: int, work: Path,
        progress: Callable[[int, int], None]) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of at least so many objects, whole images at a time; those already in ``work`` first."""
    truths = list(truths_of(dataset, bench.detector.labels))
    return collect(
        dataset, lambda i: measure_image(bench, dataset, i, truths[i]), wanted, work, progress
    )


def summarise(rows: Sequence[Mapping[str, Any]], methods: Sequence[str], draws: int
              ) -> list[dict[str, Any]]:  # fmt: skip
    """Per method every measure's mean with its interval, and its difference from the first's."""
    summary = []
    for method in methods:
        entry: dict[str, Any] = {"method": method, "objects": len(rows)}
        peaks = [row["methods"][method]["one_peak"] for row in rows]
        entry["one_peak"] = float(np.mean(peaks))
        for metric in METRICS:
            here, first = (
                np.asarray([row["methods"][m][metric] for row in rows], np.float64)
                for m in (method, methods[0])
            )
            entry[metric] = _interval(here, draws)
            if method != methods[0]:
                entry[metric][f"minus_{methods[0]}"] = _interval(here - first, draws)
        summary.append(entry)
    return summary


def _interval(values: npt.NDArray[np.float64], draws: int) -> dict[str, Any]:
    """Mean over the objects that have a value, and its bootstrap interval."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {"value": None, "low": None, "high": None, "draws": 0, "objects": 0}
    means = draw_weights(len(values), draws, 0) @ values / len(values)
    return {**asdict(Interval.of(float(values.mean()), means)), "objects": len(values)}


def print_summary(summary: Sequence[Mapping[str, Any]]) -> None:
    """A line per method."""
    print(f"{'':15}" + "".join(f"{metric:>24}" for metric in METRICS))
    for entry in summary:
        cells = []
        for metric in METRICS:
            x = entry[metric]
            text = "-" if x["value"] is None else (
                f"{x['value']:.3f} [{x['low']:.3f}, {x['high']:.3f}]")  # fmt: skip
            cells.append(f"{text:>24}")
        print(f"{entry['method']:15}" + "".join(cells))


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", metavar="SPEC", required=True)
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--annotations", type=Path, metavar="JSON", required=True)
    parser.add_argument("--objects", type=int, default=300, metavar="N", help="at least so many")
    parser.add_argument("--method", action="append", choices=METHODS, help="all without it")
    parser.add_argument("--masks", type=int, default=1000, help="of D-RISE")
    parser.add_argument("--budget", choices=("object", "image"), default="object")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, metavar="DIR", required=True)
    parser.add_argument("--out", type=Path, metavar="JSON", required=True)
    return parser.parse_args()


def main() -> None:
    import torch

    options = parse_options()
    torch.set_num_threads(options.threads)
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=options.threads)
    dataset = load_coco(options.annotations, options.images)
    methods = tuple(x for x in METHODS if x in (options.method or METHODS))
    settings = {
        "detector": options.detector, "data": dataset.name, "images": len(dataset),
        "methods": methods, "masks": options.masks, "budget": options.budget,
        "seed": options.seed, "threads": options.threads,
    }  # fmt: skip
    check_settings(options.work, settings)
    detector = open_detector(options.detector, threads=options.threads)
    saliency = SaliencyConfig(masks=options.masks, seed=options.seed)
    bench = Bench(
        detector, open_predictor(detector), methods, saliency, options.budget, options.seed
    )
    with progress_callback("Explaining") as progress:
        rows = run(bench, dataset, options.objects, options.work, progress)
    summary = summarise(rows, methods, options.draws)
    print_summary(summary)
    shared = {
        **settings, "min_score": MIN_SCORE, "min_iou": MIN_IOU, "nms_iou": NMS_IOU,
        "saliency": asdict(saliency), "environment": asdict(environment),
        "scales": {x: sum(row["scale"] == x for row in rows) for x in SCALES},
    }  # fmt: skip
    with replacing(options.out) as temporary:
        text = json.dumps([{**entry, **shared} for entry in summary], indent=1, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
