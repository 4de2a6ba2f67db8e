"""What the training loss is worth to objects of each scale, at equal steps, seed and bytes.

    python benchmarks/training_losses.py --images ../shared/data/coco/train \\
        --annotations ../shared/data/coco/train_person.json --work runs/training_losses \\
        --out benchmarks/results/training_losses/rows.json --detector \\
        "onnx:../shared/models/yolox_nano.onnx?p3=input.471&p4=input.531&p5=input.591&decode=yolox"

Plain mean squared error of the features; FRS's, weighted by the head's response S; and both of
FRS's, through the frozen head. All start from one closed form, which is measured beside them. Some
annotated images are kept out of calibration and training: on these AP is measured, frames decoded
from their bytes. ``summary.json`` beside the rows has the AP lost by scale at equal bytes, with
paired bootstrap intervals. Called again, a killed run goes on in its ``--work`` folder.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.calibration import calibrate
from fpcodec.cli.output import progress_callback
from fpcodec.cli.training_progress import LineWatcher
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.detectors.factory import ExportableDetector, open_detector
from fpcodec.errors import InputError, ModelError
from fpcodec.evaluation.bootstrap import Interval, average_precision, draw_weights, weighted_ap
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.matching import SCALE_AREAS, match_detections
from fpcodec.evaluation.results import write_rows
from fpcodec.evaluation.runner import UNSPLIT, Evaluation, evaluate_ways
from fpcodec.evaluation.scoring import Bootstrap, write_draws
from fpcodec.evaluation.traces import Trace
from fpcodec.evaluation.ways import FeaturesWay, OpenProfile, Workplace
from fpcodec.files import replacing
from fpcodec.image_folder import choose_images
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST
from fpcodec.training.settings import LOSSES, RunConfig, TrainingConfig
from fpcodec.training.train import train

CLOSED_FORM = "closed form"
QUALITIES = (0.15, 0.35, 0.55, 0.8)
BYTES = (1000.0, 2000.0)
SCALES: Mapping[str, tuple[float, float]] = {**SCALE_AREAS, "all": (0.0, float("inf"))}

_CALIBRATION_IMAGES = 400
_THREADS = 1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScaleCurve:
    """AP lost on objects of one scale by what a loss trained, at several qualities.

    Attributes:
        mean_bytes: Of a frame, per quality.
        drops: Points of AP, per quality.
        draws: The same in each bootstrap draw, shape (qualities, draws).
    """

    mean_bytes: Floats
    drops: Floats
    draws: Floats

    def at(self, frame_bytes: float) -> tuple[float, Floats] | None:
        """Drop, and drop per draw, linear in the logarithm of bytes; None beyond the curve."""
        order = np.argsort(self.mean_bytes)
        size, place = self.mean_bytes[order], np.log(frame_bytes)
        if not size[0] <= frame_bytes <= size[-1]:
            return None
        high = int(np.clip(np.searchsorted(size, frame_bytes), 1, len(size) - 1))
        left, right = np.log(size[high - 1]), np.log(size[high])
        share = (place - left) / max(right - left, 1e-12)
        low_at, high_at = order[high - 1], order[high]
        drop = (1 - share) * self.drops[low_at] + share * self.drops[high_at]
        return float(drop), (1 - share) * self.draws[low_at] + share * self.draws[high_at]


def split(
    dataset: CocoDataset, folder: Path, held_out: int, limit: int, seed: int
) -> tuple[CocoDataset, list[Path]]:
    """The annotated images that are judged on, and others to train on.

    Raises:
        InputError: Too few images are left for training.
    """
    order = np.random.default_rng(seed).permutation(len(dataset))
    kept = tuple(dataset.images[i] for i in sorted(order[:held_out]))
    ids = {image.id for image in kept}
    judged = replace(dataset, images=kept, boxes=tuple(b for b in dataset.boxes
                                                       if b.image_id in ids))  # fmt: skip
    judged_files = {path.resolve() for path in judged.paths()}
    others = [x for x in choose_images(folder, None, seed) if x.resolve() not in judged_files]
    if len(kept) < held_out or not others:
        raise InputError(
            f"{len(dataset)} annotated images and {len(others)} to train on are too few for "
            f"{held_out} held out; lower --held-out"
        )
    chosen = np.random.default_rng(seed + 1).permutation(len(others))[:limit]
    return judged, [others[i] for i in sorted(chosen)]


def train_all(
    detector: ExportableDetector, images: Sequence[Path], work: Path, config: TrainingConfig
) -> dict[str, Profile]:
    """The closed form, and what each loss makes of it; what lies in ``work`` is not made again."""
    start = _load(work / "start")
    if start is None:
        with progress_callback("Calibrating") as progress:
            start = calibrate(detector, images[:_CALIBRATION_IMAGES], work / "start",
                              key_level_seconds=0, progress=progress)  # fmt: skip
    profiles = {CLOSED_FORM: start}
    for loss in LOSSES:
        out = work / loss
        found = _load(out)
        if found is None:
            print(f"training with {loss}", file=sys.stderr)
            run = RunConfig(work / f"{loss}.training", work / "features", measure_steps=0,
                            checkpoint_minutes=1.0, device="cpu")  # fmt: skip
            trained = train(detector, images, out, replace(config, loss=loss), run, start=start,
                            watcher=LineWatcher())  # fmt: skip
            if trained is None:
                raise ModelError("this benchmark is one process; call it without torchrun")
            found = trained.profile
        profiles[loss] = found
    return profiles


def _load(folder: Path) -> Profile | None:
    return Profile.load(folder) if (folder / MANIFEST).is_file() else None


def ways(qualities: Sequence[float]) -> list[FeaturesWay]:
    """Every profile at every quality."""
    return [FeaturesWay(q, profile=name) for name in (CLOSED_FORM, *LOSSES) for q in qualities]


def curves(
    dataset: CocoDataset,
    labels: Sequence[str],
    traces: Mapping[str, Trace],
    measured: Sequence[FeaturesWay],
    bootstrap: Bootstrap,
) -> dict[tuple[str, str], ScaleCurve]:
    """Profile and scale to AP lost, all on the same draws; scales without boxes are left out."""
    weights = draw_weights(len(dataset), bootstrap.draws, bootstrap.seed)

    def score(name: str, areas: tuple[float, float]) -> tuple[float, Floats]:
        matches = match_detections(dataset, traces[name].detections, labels, areas)
        return average_precision(matches), weighted_ap(matches, weights)

    found = {}
    for scale, areas in SCALES.items():
        whole, whole_draws = score(UNSPLIT, areas)
        if np.isnan(whole):
            continue
        for profile in dict.fromkeys(way.profile for way in measured):
            names = [way.name for way in measured if way.profile == profile]
            scores = [score(name, areas) for name in names]
            found[profile, scale] = ScaleCurve(
                np.array([np.mean(traces[name].sent_bytes) for name in names]),
                np.array([whole - value for value, _ in scores]),
                np.array([whole_draws - draws for _, draws in scores]),
            )
    return found


def summarise(
    found: Mapping[tuple[str, str], ScaleCurve], budgets: Sequence[float]
) -> list[dict[str, Any]]:
    """Per loss, scale and bytes: AP lost, and AP won over plain squared error, with intervals."""
    summary = []
    for (profile, scale), curve in found.items():
        for budget in budgets:
            here, plain = curve.at(budget), found[LOSSES[0], scale].at(budget)
            gain = None
            if here is not None and plain is not None and profile != LOSSES[0]:
                gain = asdict(Interval.of(plain[0] - here[0], plain[1] - here[1]))
            summary.append({
                "loss": profile, "scale": scale, "bytes": budget,
                "drop": None if here is None else asdict(Interval.of(*here)),
                "gain_over_mse": gain,
            })  # fmt: skip
    return summary


def print_summary(summary: Sequence[Mapping[str, Any]]) -> None:
    """A line per loss, scale and bytes."""
    for entry in summary:
        cells = [
            "-" if x is None else f"{x['value']:.2f} [{x['low']:.2f}, {x['high']:.2f}]"
            for x in (entry["drop"], entry["gain_over_mse"])
        ]
        print(f"{entry['loss']:14}{entry['scale']:8}{entry['bytes']:8,.0f} bytes  "
              f"lost {cells[0]:22}won over mse {cells[1]}")  # fmt: skip


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detector", metavar="SPEC", required=True)
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--annotations", type=Path, metavar="JSON", required=True)
    parser.add_argument("--held-out", type=int, default=300, metavar="N", help="judged on")
    parser.add_argument("--limit", type=int, default=800, metavar="N", help="trained on")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--frozen-steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", type=float, action="append")
    parser.add_argument("--bytes", type=float, action="append")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--work", type=Path, metavar="DIR", required=True)
    parser.add_argument("--out", type=Path, metavar="JSON", required=True)
    return parser.parse_args()


def main() -> None:
    import torch

    options = parse_options()
    torch.set_num_threads(_THREADS)
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=_THREADS)
    dataset = load_coco(options.annotations, options.images)
    judged, images = split(dataset, options.images, options.held_out, options.limit, options.seed)
    config = TrainingConfig(
        steps=options.steps, batch=options.batch, seed=options.seed, held_out=0,
        frozen_steps=options.frozen_steps,
    )  # fmt: skip
    detector = open_detector(options.detector, threads=_THREADS)
    options.work.mkdir(parents=True, exist_ok=True)
    profiles = train_all(detector, images, options.work, config)
    opened = {name: OpenProfile.locally(x, _THREADS) for name, x in profiles.items()}
    measured = ways(options.quality or QUALITIES)
    bootstrap = Bootstrap(options.draws)
    with progress_callback("Evaluating") as progress:
        evaluation: Evaluation = evaluate_ways(
            Workplace(detector, opened), judged, measured,
            environment=environment, bootstrap=bootstrap, progress=progress,
        )  # fmt: skip
    found = curves(judged, tuple(detector.labels), evaluation.traces, measured, bootstrap)
    summary = summarise(found, options.bytes or BYTES)
    print_summary(summary)
    facts = {
        "data": judged.name, "images": len(judged), "boxes": len(judged.boxes),
        "categories": [x.name for x in judged.categories], "trained_on": len(images),
        "steps": config.steps, "batch": config.batch, "seed": config.seed,
        "bootstrap": asdict(bootstrap), "environment": asdict(environment),
    }  # fmt: skip
    write(options.out, evaluation, {**facts, "at_bytes": summary})


def write(out: Path, evaluation: Evaluation, summary: Mapping[str, Any]) -> None:
    """Rows, their draws beside them, and the summary."""
    write_rows(out, evaluation.rows)
    write_draws(out.with_name("draws.npz"), evaluation.draws)
    with replacing(out.with_name("summary.json")) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
