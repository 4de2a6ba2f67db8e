"""What each ingredient of ``pca`` is worth, in real bytes on the same photographs.

    python benchmarks/ablation.py --calibration ../shared/data/coco/train \\
        --images ../shared/data/coco/val --annotations ../shared/data/coco/val.json --limit 500 \\
        --out benchmarks/results/ablation/rows.json --detector \\
        "onnx:../shared/models/yolox_nano.onnx?p3=input.471&p4=input.531&p5=input.591&decode=yolox"

Every variant keeps the full codec's basis and has its tables counted again on the calibration
images. Beside the rows a ``summary.json`` compares bytes at one point of AP drop, and over an
interval of drops.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from comparisons import by_profile, compared, curves_of
from pca_variants import VARIANTS, Variant

from fpcodec.calibration import calibrate
from fpcodec.cli.output import progress_callback
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detectors.base import Detector
from fpcodec.detectors.factory import open_detector
from fpcodec.evaluation.bd_rate import (
    FittedCurve,
    bd_rate,
    bytes_ratio_at_drop,
)
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import bytes_at_drop, write_rows
from fpcodec.evaluation.runner import Evaluation, evaluate_ways
from fpcodec.evaluation.scoring import Bootstrap, write_draws
from fpcodec.evaluation.ways import FeaturesWay, OpenProfile, Workplace
from fpcodec.files import replacing
from fpcodec.image_folder import choose_images
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid

QUALITIES = (0.15, 0.3, 0.4, 0.5, 0.6, 0.75)
DROP = 1.0
"""Points of AP at which bytes are compared."""

DROPS = (0.5, 2.5)
"""Points of AP over which the BD-rate is averaged."""

_THREADS = 1


def fit_variants(
    full: Profile, detector: Detector, images: Sequence[Path], variants: Sequence[Variant]
) -> dict[str, Profile]:
    """Variants of a profile by name; every image is extracted once for all of them."""
    pyramids: list[Pyramid] = []
    with progress_callback("Extracting") as progress:
        for index, path in enumerate(images):
            pyramids.append(detector.extract(load_image(path)))
            progress(index + 1, len(images))
    fitted = {}
    for variant in variants:
        with progress_callback(f"Counting: {variant.name}") as progress:
            fitted[variant.name] = variant.fit(full, detector, pyramids, progress)
    return fitted


def measure(
    profiles: Mapping[str, Profile],
    dataset: CocoDataset,
    qualities: Sequence[float],
    bootstrap: Bootstrap,
    environment: Environment,
) -> Evaluation:
    """Send every image at every quality through every variant, all bytes decoded again."""
    detector = next(iter(profiles.values())).open_detector("both", threads=_THREADS)
    opened = {name: OpenProfile.locally(x, _THREADS) for name, x in profiles.items()}
    ways = [FeaturesWay(quality, profile=name) for name in profiles for quality in qualities]
    with progress_callback("Evaluating") as progress:
        return evaluate_ways(
            Workplace(detector, opened), dataset, ways,
            environment=environment, bootstrap=bootstrap, progress=progress,
        )  # fmt: skip


def summarise(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Per variant: bytes at ``DROP`` and BD-rate over ``DROPS``, both beside the full codec."""
    families = by_profile(evaluation.rows)
    curves = curves_of(families, evaluation.draws)
    full = curves[VARIANTS[0].name]
    changes = {variant.name: variant.change for variant in VARIANTS}
    anchor = FittedCurve(full)
    summary = []
    for name, curve in curves.items():
        row = families[name][0]
        summary.append({
            "variant": name,
            "change": changes[name],
            "data": row.data,
            "images": row.images,
            "seed": row.seed,
            "bytes_at_drop": {"drop": DROP, "bytes": bytes_at_drop(families[name], DROP)},
            "ratio_at_drop": compared(partial(bytes_ratio_at_drop, full, curve, DROP)),
            "bd_rate": compared(partial(bd_rate, anchor, FittedCurve(curve), DROPS)),
            "environment": asdict(row.environment),
        })  # fmt: skip
    return summary


def print_summary(summary: Sequence[Mapping[str, Any]]) -> None:
    """A line per variant."""
    print(f"{'variant':18}{'bytes at 1.0':>14}  {'of full':24}BD-rate")
    for entry in summary:
        size, ratio, rate = (entry[x] for x in ("bytes_at_drop", "ratio_at_drop", "bd_rate"))
        at_drop = "-" if size["bytes"] is None else f"{size['bytes']:,.0f}"
        cells = [
            "unknown" if "unknown" in x else f"{x[key]:.{digits}f}{unit} {_interval(x, digits)}"
            for x, key, digits, unit in ((ratio, "ratio", 2, ""), (rate, "percent", 1, " %"))
        ]
        print(f"{entry['variant']:18}{at_drop:>14}  {cells[0]:24}{cells[1]}")


def _interval(found: Mapping[str, Any], digits: int) -> str:
    if found["low"] is None:
        return ""
    return f"[{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", metavar="SPEC", required=True)
    parser.add_argument("--calibration", type=Path, metavar="DIR", required=True)
    parser.add_argument("--calibration-limit", type=int, default=400, metavar="N")
    parser.add_argument("--profile", type=Path, help="made from these calibration images already")
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--annotations", type=Path, metavar="JSON", required=True)
    parser.add_argument("--limit", type=int, metavar="N")
    parser.add_argument("--quality", type=float, action="append")
    parser.add_argument("--variant", action="append", choices=[x.name for x in VARIANTS])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    dataset = load_coco(options.annotations, options.images, limit=options.limit)
    bootstrap = Bootstrap(options.draws)
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=_THREADS)
    detector = open_detector(options.detector, threads=_THREADS)
    images = choose_images(options.calibration, options.calibration_limit, seed=0)
    wanted = {VARIANTS[0].name, *(options.variant or [x.name for x in VARIANTS])}
    chosen = [x for x in VARIANTS if x.name in wanted]
    with tempfile.TemporaryDirectory() as folder:
        if options.profile:
            full = Profile.load(options.profile)
        else:
            with progress_callback("Calibrating") as progress:
                full = calibrate(detector, images, Path(folder) / "full", key_level_seconds=0,
                                 progress=progress)  # fmt: skip
        profiles = fit_variants(full, detector, images, chosen)
        qualities = options.quality or QUALITIES
        evaluation = measure(profiles, dataset, qualities, bootstrap, environment)
    summary = summarise(evaluation)
    print_summary(summary)
    write_rows(options.out, evaluation.rows)
    write_draws(options.out.with_name("draws.npz"), evaluation.draws)
    with replacing(options.out.with_name("summary.json")) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
