"""Which importance a codec should follow: uniform, FRS's S, ODAM, or a linear probe of S.

    python benchmarks/importance.py --part quantisation --profile runs/nano --limit 300 \\
        --calibration ../shared/data/coco/train --images ../shared/data/coco/val \\
        --annotations ../shared/data/coco/val.json --work runs/importance \\
        --out benchmarks/results/importance/quantisation --detector \\
        "onnx:../shared/models/yolox_nano.onnx?p3=input.471&p4=input.531&p5=input.591&decode=yolox"

``--part quantisation``: one ``pca`` profile, whose step map follows each in turn; its basis and its
steps stay, thresholds give each the same share of fine positions, tables are counted again. The map
travels in the frame and is in its bytes. S and ODAM ask the head, which an edge does not have: they
are bounds. ``--part training``: the feature loss of short trainings of ``learned`` from that one
profile, of the same steps, seed and images, weighted by each; without and with the head's losses.
Called again, a killed training goes on in its ``--work`` folder. The folder ``--out`` gets
``rows.json``, ``draws.npz`` and ``summary.json``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from comparisons import by_profile, compared, curves_of
from importance_maps import (
    Mapped,
    MapsOf,
    Probed,
    Remembered,
    Uniform,
    matched_thresholds,
    odam_kinds,
    odam_of,
)
from pca_variants import SEED, SINGLE_STEPS, FollowsMaps, WithoutStepMap, response_of
from training_losses import ScaleCurve

from fpcodec.calibration.counting import fit_tables
from fpcodec.cli.output import progress_callback
from fpcodec.cli.training_progress import LineWatcher
from fpcodec.codecs.pca import PcaCodec
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detectors.factory import ExportableDetector, open_detector
from fpcodec.errors import InputError, ModelError
from fpcodec.evaluation.bd_rate import (
    FittedCurve,
    bd_rate,
    bytes_ratio_at_drop,
)
from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.curves import Curve
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import ResultRow, bytes_at_drop, read_rows, write_rows
from fpcodec.evaluation.runner import Evaluation, evaluate_ways
from fpcodec.evaluation.scoring import Bootstrap, read_draws, write_draws
from fpcodec.evaluation.ways import FeaturesWay, OpenProfile, Workplace
from fpcodec.explain.predictions import open_predictor
from fpcodec.files import replacing
from fpcodec.image_folder import choose_images
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST
from fpcodec.pyramid import Pyramid
from fpcodec.training.objective import Importance
from fpcodec.training.settings import RunConfig, TrainingConfig
from fpcodec.training.train import train

QUALITIES = (0.15, 0.3, 0.5, 0.7)
DROP = {"quantisation": 1.0, "training": 3.0}
"""Points of AP at which bytes are compared: short trainings do not come within one."""

DROPS = {"quantisation": (0.5, 2.5), "training": (2.5, 5.5)}
"""Points of AP over which BD-rates are averaged."""

BYTES = (1200.0, 2000.0, 3000.0)
"""At which AP is compared."""

ANCHORS = ("uniform", "S")
"""Weights that the others are compared with."""

_THREADS = 1

TRAININGS = (
    ("uniform", "frs-features"), ("S", "frs-features"), ("odam", "frs-features"),
    ("S", "frs"), ("odam", "frs"), ("uniform", "frs"), ("probe", "frs-features"),
)  # fmt: skip
"""Weight of the feature loss, and whether the head's losses stand beside it."""


def training_name(weight: str, loss: str) -> str:
    """Such as ``odam + head``."""
    return f"{weight} + head" if loss == "frs" else weight


def quantisers(
    full: Profile,
    detector: ExportableDetector,
    images: Sequence[Path],
    progress: Callable[[int, int], None],
) -> dict[str, Profile]:
    """A profile per weight, alike but for where it is fine.

    Raises:
        InputError: The profile has another codec than ``pca``.
    """
    like = pca_of(full)
    pyramids: list[Pyramid] = [detector.extract(load_image(path)) for path in images]
    follow: dict[str, MapsOf] = {"S": response_of(detector)}
    follow |= odam_kinds(open_predictor(detector))
    builds: dict[str, tuple[Callable[..., PcaCodec], dict[str, Any]]] = {
        "uniform": (
            partial(WithoutStepMap, recoverer=like.recoverer),
            {"steps": np.geomspace(*SINGLE_STEPS, 256, dtype=np.float32)[:, None],
             "thresholds": np.zeros((256, 0), np.float32)},
        ),
        "probe": (partial(PcaCodec, recoverer=like.recoverer), {}),
    }  # fmt: skip
    for name, maps in follow.items():
        remembered = Remembered(maps)
        builds[name] = (
            partial(_following, remembered, like),
            {"thresholds": matched_thresholds(remembered, pyramids)},
        )
        progress(len(builds) - 2, 2 * len(follow) + 2)
    profiles = {}
    for name, (build, changed) in builds.items():
        tensors = {**like.tensors, **changed}
        tables = fit_tables(
            build(like.spec, tensors), pyramids, np.random.default_rng(SEED), pool_contexts=False
        )
        codec = build(like.spec, {**tensors, **tables.tensors})
        profiles[name] = replace(full, name=name, codec=codec)
        progress(len(follow) + len(profiles), 2 * len(follow) + 2)
    return profiles


def _following(maps: MapsOf, like: PcaCodec, spec: object, tensors: Any) -> PcaCodec:
    return FollowsMaps(maps, tensors, like)


def pca_of(profile: Profile) -> PcaCodec:
    """The profile's codec.

    Raises:
        InputError: It is not ``pca``.
    """
    if not isinstance(profile.codec, PcaCodec):
        raise InputError(f"profile {profile.name} is not one of pca; calibrate one")
    return profile.codec


def trainings(
    start: Profile,
    detector: ExportableDetector,
    images: Sequence[Path],
    work: Path,
    config: TrainingConfig,
    wanted: Sequence[tuple[str, str]],
) -> dict[str, Profile]:
    """A trained profile per weight; what lies in ``work`` is not made again."""
    codec = pca_of(start)
    odam = Remembered(odam_of(open_predictor(detector)))
    weights: dict[str, Importance | None] = {
        "uniform": Uniform(), "S": None, "odam": Mapped(odam, codec, "odam"),
        "probe": Probed(codec),
    }  # fmt: skip
    profiles = {}
    for weight, loss in wanted:
        name = training_name(weight, loss)
        out = work / name.replace(" ", "")
        if not (out / MANIFEST).is_file():
            print(f"training with {name}", file=sys.stderr)
            run = RunConfig(out.with_suffix(".training"), work / "features", measure_steps=0,
                            checkpoint_minutes=1.0, key_level_seconds=0, device="cpu")  # fmt: skip
            trained = train(detector, images, out, replace(config, loss=loss), run, start=start,
                            importance=weights[weight], watcher=LineWatcher())  # fmt: skip
            if trained is None:
                raise ModelError("this benchmark is one process; call it without torchrun")
        profiles[name] = Profile.load(out)
    return profiles


def measure(
    detector: ExportableDetector,
    profiles: Mapping[str, Profile],
    dataset: CocoDataset,
    qualities: Sequence[float],
    bootstrap: Bootstrap,
    environment: Environment,
) -> Evaluation:
    """Every image at every quality through every profile, all bytes decoded again."""
    opened = {name: OpenProfile.locally(x, _THREADS) for name, x in profiles.items()}
    ways = [FeaturesWay(quality, profile=name) for name in profiles for quality in qualities]
    with progress_callback("Evaluating") as progress:
        return evaluate_ways(
            Workplace(detector, opened), dataset, ways,
            environment=environment, bootstrap=bootstrap, progress=progress,
        )  # fmt: skip


def summarise(
    rows: Sequence[ResultRow], draws: Mapping[str, Any], part: str
) -> list[dict[str, Any]]:
    """Per weight: bytes at ``DROP`` and AP lost at ``BYTES``, beside each anchor's; BD-rates."""
    families = by_profile(rows)
    curves = curves_of(families, draws)
    fits = {name: FittedCurve(curve) for name, curve in curves.items()}
    lost = {
        name: [_lost(curve).at(size) if curve.draws is not None else None for size in BYTES]
        for name, curve in curves.items()
    }
    summary = []
    for name, curve in curves.items():
        beside = {
            anchor: {
                "ratio_at_drop": compared(
                    partial(bytes_ratio_at_drop, curves[anchor], curve, DROP[part])
                ),
                "bd_rate": compared(partial(bd_rate, fits[anchor], fits[name], DROPS[part])),
                "won_at_bytes": [
                    None
                    if here is None or there is None
                    else asdict(Interval.of(there[0] - here[0], there[1] - here[1]))
                    for here, there in zip(lost[name], lost[anchor], strict=True)
                ],
            }
            for anchor in ANCHORS
            if anchor in curves
        }
        size = bytes_at_drop(families[name], DROP[part])
        summary.append({
            "weight": name, "bytes_at_drop": {"drop": DROP[part], "bytes": size},
            "bytes": BYTES, "beside": beside,
        })  # fmt: skip
    return summary


def _lost(curve: Curve) -> ScaleCurve:
    """AP lost against bytes, to be read between qualities."""
    size, drops = np.asarray(curve.points).T
    return ScaleCurve(size, drops, np.asarray(curve.draws))


def print_summary(summary: Sequence[Mapping[str, Any]]) -> None:
    """A line per weight and anchor."""
    for entry in summary:
        size = entry["bytes_at_drop"]["bytes"]
        at_drop = "-" if size is None else f"{size:,.0f}"
        for anchor, found in entry["beside"].items():
            cells = [
                "unknown" if "unknown" in x
                else f"{x[key]:.2f} [{x['low'] or 0:.2f}, {x['high'] or 0:.2f}]"
                for x, key in ((found["ratio_at_drop"], "ratio"), (found["bd_rate"], "percent"))
            ]  # fmt: skip
            print(f"{entry['weight']:18}{at_drop:>10}  {anchor:10}{cells[0]:24}{cells[1]}")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=tuple(DROPS), required=True)
    parser.add_argument("--detector", metavar="SPEC", required=True)
    parser.add_argument("--profile", type=Path, required=True, help="of pca, for this detector")
    parser.add_argument("--calibration", type=Path, metavar="DIR", required=True,
                        help="images for thresholds and tables, or for training")  # fmt: skip
    parser.add_argument("--calibration-limit", type=int, default=200, metavar="N")
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--annotations", type=Path, metavar="JSON", required=True)
    parser.add_argument("--limit", type=int, metavar="N", help="judged on")
    parser.add_argument("--quality", type=float, action="append")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--frozen-steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", metavar="WEIGHT", help="all without it")
    parser.add_argument("--train-only", action="store_true", help="measure in a later call")
    parser.add_argument("--sum-up", action="store_true",
                        help="measure nothing: compare anew what --out holds")  # fmt: skip
    parser.add_argument("--work", type=Path, metavar="DIR", required=True)
    parser.add_argument("--out", type=Path, metavar="DIR", required=True)
    return parser.parse_args()


def main() -> None:
    import torch

    options = parse_options()
    if options.sum_up:
        sum_up(options.out)
        return
    torch.set_num_threads(_THREADS)
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=_THREADS)
    dataset = load_coco(options.annotations, options.images, limit=options.limit)
    detector = open_detector(options.detector, threads=_THREADS)
    images = choose_images(options.calibration, options.calibration_limit, seed=0)
    start = Profile.load(options.profile)
    facts: dict[str, Any] = {
        "part": options.part, "data": dataset.name, "images": len(dataset),
        "boxes": len(dataset.boxes), "calibration_images": len(images),
        "seed": options.seed, "environment": asdict(environment),
    }  # fmt: skip
    if options.part == "quantisation":
        with progress_callback("Counting") as progress:
            profiles = quantisers(start, detector, images, progress)
    else:
        config = TrainingConfig(steps=options.steps, seed=options.seed, held_out=0,
                                frozen_steps=options.frozen_steps)  # fmt: skip
        wanted = [x for x in TRAININGS if training_name(*x) in (options.only or map_names())]
        options.work.mkdir(parents=True, exist_ok=True)
        profiles = trainings(start, detector, images, options.work, config, wanted)
        if options.train_only:
            return
        facts |= {"steps": config.steps, "batch": config.batch}
    evaluation = measure(detector, profiles, dataset, options.quality or QUALITIES,
                         Bootstrap(options.draws), environment)  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    write_rows(options.out / "rows.json", evaluation.rows)
    write_draws(options.out / "draws.npz", evaluation.draws)
    write_summary(options.out, facts, evaluation.rows, evaluation.draws)


def write_summary(
    out: Path, facts: Mapping[str, Any], rows: Sequence[ResultRow], draws: Mapping[str, Any]
) -> None:
    """Compare, print, and write ``summary.json``."""
    summary = summarise(rows, draws, facts["part"])
    print_summary(summary)
    with replacing(out / "summary.json") as temporary:
        text = json.dumps({**facts, "weights": summary}, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def sum_up(out: Path) -> None:
    """Compare anew what a folder holds."""
    facts = json.loads((out / "summary.json").read_text("utf-8"))
    write_summary(out, facts, read_rows(out), read_draws(out / "draws.npz"))


def map_names() -> list[str]:
    """All of the trainings' names."""
    return [training_name(*x) for x in TRAININGS]


if __name__ == "__main__":
    main()
