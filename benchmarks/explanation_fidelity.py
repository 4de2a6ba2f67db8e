"""How far explanations move through the codec, against bytes, beside pictures.

    python benchmarks/explanation_fidelity.py --profile runs/learned_nano --objects 250 \\
        --images ../shared/data/coco/val --annotations ../shared/data/coco/val.json \\
        --levels p4+p5 --levels p4 --work runs/explanation_fidelity \\
        --out benchmarks/results/explanation_fidelity/yolox_nano.json

Explained by ODAM are the detections that ``explanations.py`` explains, right beyond doubt on the
pyramid as it is. Each is looked for again on the decoded pyramid: same class, IoU above 0.5, score
above 0.1. Of those found, the map over the original image is compared with the one before: its
correlation, and how much more of it lies on other objects (ODI). ``another object`` compares each
map with that of the next object of the same image: what a correlation by chance would be. Intervals
are bootstrapped over images. Killed, it goes on in its ``--work`` folder.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kept_work import check_settings
from sure_objects import choose, collect, truths_of

from fpcodec.cli.output import progress_callback
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detectors.base import Detector
from fpcodec.detectors.factory import open_detector
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval, draw_weights
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.rivals.pictures import PictureFormat, content_picture, decode_picture
from fpcodec.explain.fidelity import MIN_IOU, MIN_SCORE, compare_maps, find_again
from fpcodec.explain.metrics import box_mask, object_discrimination_index
from fpcodec.explain.odam import ATTRIBUTES, explain
from fpcodec.explain.predictions import Predictions, Predictor, open_predictor
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.pyramid import Array, Pyramid, derive

QUALITIES = (0.1, 0.3, 0.5, 0.7, 1.0)
LEVELS_QUALITY = 0.5
PICTURES = ("webp:10", "webp:40", "webp:80")
MOVED = 0.5
"""A map that correlates less with the one before is counted as another one."""

ANOTHER = "another object"
"""Not a way: the map of another object of the same image."""

Floats = npt.NDArray[np.float64]
Seen = tuple[Pyramid, int]
"""What the server sees of a picture, and the bytes that were sent."""


@dataclass(frozen=True)
class Condition:
    """One way of getting a pyramid to the server.

    Attributes:
        name: Such as ``learned q0.5 p4+p5`` or ``webp q40``.
        seen: From the picture and its pyramid to what the server sees.
    """

    name: str
    seen: Callable[[npt.NDArray[np.uint8], Pyramid], Seen]


def conditions(
    profile: Profile,
    detector: Detector,
    qualities: Sequence[float],
    levels: Sequence[tuple[str, ...]],
    pictures: Sequence[str],
) -> list[Condition]:
    """All that is measured: qualities with all levels, some levels at one quality, pictures."""
    codec = profile.codec

    def coded(quality: float, some: tuple[str, ...] | None) -> Condition:
        def seen(image: npt.NDArray[np.uint8], pyramid: Pyramid) -> Seen:
            frame = codec.encode(pyramid, quality, some)
            decoded = codec.reconstruct([codec.decode(frame)], [pyramid.geometry])[0]
            return decoded, len(frame)

        return Condition(f"learned q{quality:g} {'+'.join(some or ('all',))}", seen)

    def picture(text: str) -> Condition:
        chosen = PictureFormat.parse(text)

        def seen(image: npt.NDArray[np.uint8], pyramid: Pyramid) -> Seen:
            data = chosen.encode(content_picture(image, pyramid.geometry))
            found = detector.extract(decode_picture(data))
            now, before = found.geometry, pyramid.geometry
            if (now.network_size, now.content_size, now.offset) != (
                before.network_size, before.content_size, before.offset
            ):  # fmt: skip
                raise InputError(f"{chosen.name}: the detector lays the picture as sent otherwise")
            return Pyramid(found.spec, found.levels, before), len(data)

        return Condition(chosen.name, seen)

    return [
        *(coded(quality, None) for quality in qualities),
        *(coded(LEVELS_QUALITY, some) for some in levels),
        *(picture(text) for text in pictures),
    ]


def measure_image(
    dataset: CocoDataset,
    position: int,
    truths: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
    detector: Detector,
    predictor: Predictor,
    measured: Sequence[Condition],
) -> list[dict[str, Any]]:
    """A row per object of an image that can be explained."""
    entry = dataset.images[position]
    image = load_image(dataset.path(entry))
    pyramid = detector.extract(image)
    predictions = predictor(derive(pyramid))
    found = predictions.detections
    objects = choose(found, *truths)
    if not len(objects.indices):
        return []
    size = image.shape[1], image.shape[0]
    masks = [box_mask(box, size) for box in objects.boxes]
    before = [_map(predictions, int(index)) for index in objects.indices]
    rows: list[dict[str, Any]] = []
    for place, (index, truth) in enumerate(zip(objects.indices, objects.truths, strict=True)):
        odi = object_discrimination_index(before[place], int(truth), masks)
        row: dict[str, Any] = {
            "image": entry.id, "label": int(found.labels[index]), "objects": len(masks),
            "score": float(found.scores[index]), "odi": _known(odi), "ways": {},
        }  # fmt: skip
        if len(before) > 1:
            other = compare_maps(
                before[place], before[(place + 1) % len(before)], int(truth), masks
            )
            row["ways"][ANOTHER] = {
                "bytes": 0, "found": True, "correlation": _known(other.correlation),
                "odi_shift": None,
            }  # fmt: skip
        rows.append(row)
    for condition in measured:
        seen, sent_bytes = condition.seen(image, pyramid)
        after = predictor(derive(seen))
        detections = after.detections
        for place, (index, truth) in enumerate(zip(objects.indices, objects.truths, strict=True)):
            again = find_again(detections, found.boxes[index].tolist(), int(found.labels[index]))
            values: dict[str, Any] = {
                "bytes": sent_bytes, "found": again is not None, "correlation": None,
                "odi_shift": None,
            }  # fmt: skip
            if again is not None:
                same = compare_maps(before[place], _map(after, again), int(truth), masks)
                values["correlation"] = _known(same.correlation)
                values["odi_shift"] = _known(same.odi_shift) if len(masks) > 1 else None
            rows[place]["ways"][condition.name] = values
    return rows


def _map(predictions: Predictions, index: int) -> Array:
    return explain(predictions, index, ATTRIBUTES).on_image()


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def summarise(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], draws: int
) -> list[dict[str, Any]]:
    """Per way bytes, share of objects lost, correlation and ODI shift, with intervals."""
    images = {image: i for i, image in enumerate(dict.fromkeys(row["image"] for row in rows))}
    weights = draw_weights(len(images), draws, 0)
    summary = []
    for name in names:
        mine = [(images[row["image"]], row["ways"][name]) for row in rows if name in row["ways"]]
        sizes = {place: way["bytes"] for place, way in mine}
        lost = [(place, float(not way["found"])) for place, way in mine]
        # ODI of an object that is alone in its image is 0 on both sides and says nothing.
        parts: dict[str, list[tuple[int, float]]] = {
            "lost": lost,
            **{
                key: [(place, way[key]) for place, way in mine if way[key] is not None]
                for key in ("correlation", "odi_shift")
            },
        }
        parts["odi_moved"] = [(place, abs(value)) for place, value in parts["odi_shift"]]
        parts["moved"] = [(place, float(value < MOVED)) for place, value in parts["correlation"]]
        summary.append({
            "way": name,
            "mean_bytes": float(np.mean(list(sizes.values()))) if sizes else None,
            **{key: _interval(values, weights) for key, values in parts.items()},
            "median_correlation": float(np.median([x for _, x in parts["correlation"]]))
            if parts["correlation"] else None,
        })  # fmt: skip
    return summary


def _interval(
    values: Sequence[tuple[int, float]], weights: npt.NDArray[np.int32]
) -> dict[str, Any] | None:
    """Mean over objects, each with its image's place, and its interval over draws of images."""
    if not values:
        return None
    sums, counts = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for place, value in values:
        sums[place] += value
        counts[place] += 1
    drawn = weights @ counts
    means = np.divide(weights @ sums, drawn, out=np.full(len(drawn), np.nan), where=drawn > 0)
    mean = float(sums.sum() / counts.sum())
    return {**asdict(Interval.of(mean, means)), "objects": len(values)}


def print_summary(summary: Sequence[Mapping[str, Any]]) -> None:
    """A line per way."""
    for entry in summary:
        cells = "".join(
            f"{key} {x['value']:.3f} [{x['low']:.3f}, {x['high']:.3f}]  "
            for key in ("lost", "correlation", "odi_shift", "odi_moved")
            if (x := entry[key]) is not None
        )
        print(f"{entry['way']:22}{entry['mean_bytes'] or 0:9,.0f}  {cells}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--detector", metavar="SPEC",
                        help="the profile's in torch, if its graphs have no gradients")  # fmt: skip
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--annotations", type=Path, metavar="JSON", required=True)
    parser.add_argument("--objects", type=int, default=250, metavar="N", help="at least so many")
    parser.add_argument("--quality", type=float, action="append")
    parser.add_argument("--levels", action="append", metavar="P4+P5", default=[],
                        help=f"also sent alone, at quality {LEVELS_QUALITY}")  # fmt: skip
    parser.add_argument("--picture", action="append", help=f"such as {PICTURES[0]}")
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
    profile = Profile.load(options.profile)
    if options.detector:
        detector: Detector = open_detector(options.detector, threads=options.threads)
        if detector.spec != profile.spec:
            raise InputError(f"{options.detector} is not the detector of {profile.name}")
    else:
        detector = profile.open_detector("both", threads=options.threads)
    measured = conditions(
        profile, detector, options.quality or QUALITIES,
        [tuple(text.split("+")) for text in options.levels], options.picture or PICTURES,
    )  # fmt: skip
    settings = {
        "stream_id": profile.stream_id.hex(), "data": dataset.name, "images": len(dataset),
        "ways": [x.name for x in measured], "threads": options.threads,
    }  # fmt: skip
    check_settings(options.work, settings)
    predictor, truths = open_predictor(detector), list(truths_of(dataset, detector.labels))

    def measure(position: int) -> list[dict[str, Any]]:
        return measure_image(dataset, position, truths[position], detector, predictor, measured)

    with progress_callback("Explaining") as progress:
        rows = collect(dataset, measure, options.objects, options.work, progress)
    names = [*(x.name for x in measured), ANOTHER]
    summary = summarise(rows, names, options.draws)
    print_summary(summary)
    facts = {
        "objects": len(rows), "images_with_objects": len({row["image"] for row in rows}),
        **settings, "min_score": MIN_SCORE, "min_iou": MIN_IOU, "attributes": ATTRIBUTES,
        "odi_before": float(np.mean([row["odi"] for row in rows
                                     if row["odi"] is not None and row["objects"] > 1])),
        "environment": asdict(environment), "summary": summary,
    }  # fmt: skip
    with replacing(options.out) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
