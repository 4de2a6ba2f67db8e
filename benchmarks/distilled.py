"""AP of taught detectors beside their teacher, on the same pictures, with paired intervals.

    python benchmarks/distilled.py --images cells/images --annotations cells/annotations.json \\
        --detector teacher=tiny:bccd --detector alone=small:runs/frs_bccd_none \\
        --detector mse=small:runs/frs_bccd_mse --detector frs=small:runs/frs_bccd_frs \\
        --base alone --out benchmarks/results/frs_bccd/rows.json

The first detector is the teacher, from which drops are counted; gains are counted from ``--base``.
``small:FOLDER`` is what ``scripts/train_student.py`` wrote; ``shrunk:192:SPEC`` is a detector that
sees pictures of 192 pixels; anything else is opened as everywhere.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from fpcodec.cli.output import progress_callback
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.small_family import load_small
from fpcodec.distill.fitting import torch_macs
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.scoring import Bootstrap, Score, score_detections
from fpcodec.files import replacing
from fpcodec.images import load_image

_THREADS = 1

Detect = Callable[[Image], Detections]


class Opened:
    """A detector by its description: what it finds, what its edge half costs."""

    def __init__(self, description: str) -> None:
        kind, _, folder = description.partition(":")
        self.facts: dict[str, Any] = {"detector": description}
        self.detect: Detect
        self.labels: Sequence[str]
        if kind == "small":
            self._open_small(Path(folder))
            return
        side, _, rest = folder.partition(":")
        shrunk = kind == "shrunk"
        found = open_detector(rest if shrunk else description, threads=_THREADS)
        self.labels = found.labels
        self.detect = lambda image: found.detect(found.extract(image))
        if shrunk:
            self.detect = partial(_detect_shrunk, self.detect, found, int(side))
            return
        self.facts["edge_macs"] = found.macs()

    def _open_small(self, folder: Path) -> None:
        model, config = load_small(folder)
        self.labels = config.classes

        @torch.no_grad()
        def detect(image: Image) -> Detections:
            if image.shape[:2] != config.size[::-1]:
                raise InputError(f"{folder} takes pictures of {config.size}; resize them first")
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()
            found = model([pixels])[0]
            # One-stage kinds score a class 0 too, which no box was ever asked for.
            real = found["labels"] > 0
            boxes, scores, labels = (found[x][real].numpy() for x in ("boxes", "scores", "labels"))
            return Detections(boxes, scores, labels - 1)

        self.detect = detect
        self.facts["edge_macs"] = torch_macs(model.backbone, config.size)  # type: ignore[arg-type]
        self.facts["training"] = json.loads((folder / "training.json").read_text())


def _detect_shrunk(detect: Detect, detector: Detector, side: int, image: Image) -> Detections:
    """What a detector finds in a picture that is ``side`` pixels long, on a grey canvas."""
    width, height = detector.geometry((image.shape[1], image.shape[0])).network_size
    ratio = side / max(image.shape[:2])
    size = [max(1, round(x * ratio)) for x in (image.shape[1], image.shape[0])]
    canvas = PillowImage.new("RGB", (width, height), (114, 114, 114))
    picture = PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR)
    canvas.paste(picture)
    found = detect(np.asarray(canvas))
    return Detections(found.boxes / np.float32(ratio), found.scores, found.labels)


def score(name: str, opened: Opened, dataset: CocoDataset, bootstrap: Bootstrap) -> Score:
    """Detect on every picture and score."""
    found = []
    with progress_callback(name) as progress:
        for index, path in enumerate(dataset.paths()):
            found.append(opened.detect(load_image(path)))
            progress(index + 1, len(dataset))
    return score_detections(dataset, found, tuple(opened.labels), bootstrap)


def gain(score: Score, base: Score) -> Interval:
    """AP above a base, paired."""
    draws = score.draws - base.draws
    return Interval.of(score.own - base.own, draws)


def main(argv: list[str] | None = None) -> None:
    """Read the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", action="append", required=True, metavar="NAME=SPEC")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--base", help="gains are counted from this one")
    parser.add_argument("--limit", type=int, help="so many pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    torch.set_num_threads(_THREADS)
    named = dict(text.split("=", 1) for text in args.detector)
    if args.base is not None and args.base not in named:
        raise InputError(f"--base {args.base} is none of {', '.join(named)}")
    dataset = load_coco(args.annotations, args.images)
    dataset = dataset if args.limit is None else dataset.limit(args.limit)
    command = shlex.join(["python", "benchmarks/distilled.py", *(argv or sys.argv[1:])])
    environment = Environment.capture(command, _THREADS)
    opened = {name: Opened(text) for name, text in named.items()}
    bootstrap = Bootstrap(seed=args.seed)
    scores = {name: score(name, x, dataset, bootstrap) for name, x in opened.items()}
    teacher = next(iter(scores.values()))
    rows = []
    for name, found in scores.items():
        row: dict[str, Any] = {
            "name": name, **opened[name].facts, "data": dataset.name, "images": len(dataset),
            "seed": args.seed, "ap": dict(found.ap),
            "drop": vars(found.drop_from(teacher)[0]),
        }  # fmt: skip
        if args.base is not None:
            row["gain"] = vars(gain(found, scores[args.base]))
        rows.append({**row, "environment": vars(environment)})
        drop = row["drop"]
        print(f"{name}: AP {found.ap['ap']:.1f}, {drop['value']:.1f} below the teacher "
              f"[{drop['low']:.1f}, {drop['high']:.1f}], {row.get('gain')}")  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as temporary:
        temporary.write_text(json.dumps(rows, indent=1, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)


if __name__ == "__main__":
    main()
